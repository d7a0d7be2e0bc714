/* SPDX-License-Identifier: Apache-2.0 */
/* The whole daemon in a child process, asked over its unix socket and over TCP as meshctl and
 * agents do. */
#include "ctl/meshd/meshd.h"
#include "ctl/meshd/startup.h"
#include "lib/clock.h"
#include "lib/http.h"
#include "lib/json.h"
#include "tests/unit/meshd_dir.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/wait.h>
/* after the types that it needs */
#include <cmocka.h>

static struct test_dir dir, files;
static char local[128], tcp[64];
static int port, lifeline = -1; /* closing it ends the daemon */
static pid_t daemon_pid;
static struct http_answer answer; /* the last one */

struct lifeline {
	struct watch watch; /* the first member */
	bool ready;
};

static void on_lifeline(struct watch *w, uint32_t events)
{
	((struct lifeline *)w)->ready = true;
}

/* As main.c does, but for flags and signals: a byte on the line is SIGHUP, its end is SIGTERM. */
static void daemon_run(int line, int tcp_fd)
{
	struct identity nobody_else = {0};
	struct meshd_options o = {.config_dir = files.path, .tcp_fd = tcp_fd};
	struct lifeline life = {0};
	char why[256], byte;
	struct loop loop;
	struct meshd *m;

	if (auth_token_load(&o.auth, dir.path, (gid_t)-1, why, sizeof(why)) || loop_init(&loop) ||
	    store_open(dir.path, &o.store, why, sizeof(why)) ||
	    (o.unix_fd = startup_unix(local + 5, &nobody_else, why, sizeof(why))) < 0 ||
	    meshd_new(&loop, &o, &m, why, sizeof(why)) ||
	    loop_add(&loop, &life.watch, line, EPOLLIN, on_lifeline))
		_exit(1);
	for (;;) {
		if (loop_once(&loop, -1))
			_exit(1);
		if (!life.ready)
			continue;
		life.ready = false;
		if (read(line, &byte, 1) != 1)
			break;
		meshd_reload(m);
	}
	loop_del(&loop, &life.watch);
	meshd_free(&m);
	loop_done(&loop);
	close(line);
	exit(0); /* with the leak check */
}

static int listen_anywhere(void)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(in);

	assert_int_equal(bind(fd, (struct sockaddr *)&in, len), 0);
	assert_int_equal(listen(fd, 64), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &len), 0);
	port = ntohs(in.sin_port);
	return fd;
}

static int call_full(const struct http_call *c)
{
	http_answer_done(&answer);
	http_call(c, &answer);
	return answer.error ? answer.error : answer.status;
}

/* The status of a call over the unix socket. Single quotes in the body stand for double ones. */
static int call(const char *method, const char *path, const char *body)
{
	char text[4096] = "";
	struct http_call c = {.method = method, .base = local, .path = path, .timeout_ms = 5000};

	if (body) {
		snprintf(text, sizeof(text), "%s", body);
		for (char *p = text; *p; p++)
			if (*p == '\'')
				*p = '"';
		c.body = text;
		c.body_len = strlen(text);
	}
	return call_full(&c);
}

static void daemon_start(void)
{
	int ends[2], tcp_fd = listen_anywhere();
	uint64_t deadline = clock_mono_ns() + 10000000000ULL;

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	daemon_pid = fork();
	if (!daemon_pid) {
		close(ends[1]);
		daemon_run(ends[0], tcp_fd);
	}
	close(ends[0]);
	close(tcp_fd);
	lifeline = ends[1];
	snprintf(tcp, sizeof(tcp), "http://127.0.0.1:%d", port);
	while (call("GET", "/health", NULL) != 200)
		if (clock_mono_ns() > deadline)
			fail_msg("the daemon does not start");
}

static void daemon_stop(void)
{
	int status;

	close(lifeline);
	assert_int_equal(waitpid(daemon_pid, &status, 0), daemon_pid);
	assert_int_equal(status, 0);
}

static int setup(void **state)
{
	test_dir_make(&dir);
	test_dir_make(&files);
	snprintf(local, sizeof(local), "unix:%s/sock", dir.path);
	daemon_start();
	return 0;
}

static int teardown(void **state)
{
	daemon_stop();
	http_answer_done(&answer);
	test_dir_remove(&files);
	test_dir_remove(&dir);
	return 0;
}

static void assert_body(const char *part)
{
	char text[1024];

	snprintf(text, sizeof(text), "%s", part);
	for (char *p = text; *p; p++)
		if (*p == '\'')
			*p = '"';
	if (!strstr(answer.body ? answer.body : "", text))
		fail_msg("'%s' is not in '%s'", text, answer.body ? answer.body : "");
}

static uint64_t revision(void)
{
	uint64_t n;
	cJSON *v;

	assert_int_equal(call("GET", "/health", NULL), 200);
	v = json_parse(answer.body, answer.len, NULL);
	n = (uint64_t)json_num(v, "revision", 0);
	cJSON_Delete(v);
	return n;
}

static void a_configuration_lives(void **state)
{
	char path[128];
	uint64_t first;

	assert_int_equal(call("GET", "/api/config/web", NULL), 404);
	assert_int_equal(call("PUT", "/api/config/web?dryRun=true", "{'split':{'v1':100}}"), 200);
	assert_body("'dryRun':true,'config':{'service':'web','split':{'v1':100}}");
	assert_int_equal(call("GET", "/api/config/web", NULL), 404);

	assert_int_equal(call("PUT", "/api/config/web", "{'split':{'v1':100}}"), 200);
	first = revision();
	assert_int_equal(
		call("PATCH", "/api/config/web", "{'split':{'v1':90,'v2':10},'accelerate':'on'}"),
		200);
	assert_int_equal(call("PATCH", "/api/config/web", "{'accelerate':null}"), 200);
	assert_int_equal(call("GET", "/api/config/web", NULL), 200);
	assert_string_equal(answer.body, "{\"service\":\"web\",\"split\":{\"v1\":90,\"v2\":10}}");
	assert_int_equal(call("GET", "/api/config/web?effective=true", NULL), 200);
	assert_body("'accelerate':'auto'");

	assert_int_equal(call("GET", "/api/config/web/history", NULL), 200);
	assert_body("'action':'patch','config':{'service':'web','split':{'v1':90,'v2':10},'"
		    "accelerate':'on'}}");
	snprintf(path, sizeof(path), "/api/config/web/rollback?revision=%llu",
		 (unsigned long long)first);
	assert_int_equal(call("POST", path, NULL), 200);
	assert_int_equal(call("GET", "/api/config", NULL), 200);
	assert_body("'config':{'service':'web','split':{'v1':100}}}]");
	assert_int_equal(call("DELETE", "/api/config/web", NULL), 200);
	assert_int_equal(call("DELETE", "/api/config/web", NULL), 404);
	assert_int_equal(call("POST", path, NULL), 200); /* back from the dead */
	assert_int_equal(call("GET", "/api/config/web", NULL), 200);
}

static void a_bad_configuration_changes_nothing(void **state)
{
	static const struct {
		const char *method, *path, *body, *field;
	} cases[] = {
		{"PUT", "/api/config/web", "{'routes':[{'retry':{'attempts':99}}]}",
		 "'field':'routes[0].retry.attempts'"},
		{"PUT", "/api/config/web", "{'service':'other'}", "'field':'service'"},
		{"PUT", "/api/config/web", "{'splt':{}}", "'field':'splt'"},
		{"PUT", "/api/config/web", "{'split':", "malformed JSON at byte"},
		{"PUT", "/api/config/web", "", "malformed JSON at byte 0"},
		{"PUT", "/api/config/web", "[]", "must be an object"},
		{"PATCH", "/api/config/web", "{'split':{'v1':1}}", "'field':'split'"},
		{"PATCH", "/api/config/web", "{'service':null,'split':1}", "'field':'split'"},
		{"PATCH", "/api/config/web", "7", "must be an object"},
		{"PUT", "/api/config/web?dryRun=1", "{}", "'field':'dryRun'"},
		{"PUT", "/api/config/web?dryrun=true", "{}", "'field':'dryrun'"},
		{"POST", "/api/config/web/rollback", NULL, "'field':'revision'"},
		{"POST", "/api/config/web/rollback?revision=x", NULL, "'field':'revision'"},
		{"POST", "/api/register", "{'name':'x'}", "'field':'port'"},
		{"PUT", "/api/agents/n1", "{}", "'field':'endpoints'"},
		{"GET", "/api/watch?revision=-1", NULL, "'field':'revision'"},
		{"GET", "/api/watch?node=a%20b", NULL, "'field':'node'"},
	};
	uint64_t before;

	assert_int_equal(call("PUT", "/api/config/web", "{'split':{'v1':100}}"), 200);
	before = revision();
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		int status = call(cases[i].method, cases[i].path, cases[i].body);

		if (status != 400)
			fail_msg("case %zu: %d", i, status);
		assert_body(cases[i].field);
	}
	assert_int_equal(revision(), before);
	assert_int_equal(call("GET", "/api/config/web", NULL), 200);
	assert_body("'split':{'v1':100}");
}

static void nobody_overwrites_what_they_have_not_seen(void **state)
{
	struct http_call c = {.method = "PUT",
			      .base = local,
			      .path = "/api/config/web",
			      .body = "{}",
			      .body_len = 2};
	char seen[64];

	c.if_match = "*";
	assert_int_equal(call_full(&c), 412);
	c.if_match = NULL;
	assert_int_equal(call_full(&c), 200);
	strcpy(seen, answer.etag);
	assert_int_equal(call("PUT", "/api/config/web", "{'failClosed':true}"), 200);
	c.if_match = seen;
	assert_int_equal(call_full(&c), 412);
	assert_int_equal(call("GET", "/api/config/web", NULL), 200);
	assert_body("'failClosed':true");
	strcpy(seen, answer.etag);
	assert_int_equal(call_full(&c), 200);
	c.if_match = "W/\"1\"";
	assert_int_equal(call_full(&c), 412);
}

static void addresses_and_methods_are_known(void **state)
{
	assert_int_equal(call("GET", "/nope", NULL), 404);
	assert_int_equal(call("GET", "/api/config/web/", NULL), 404);
	assert_int_equal(call("GET", "/api/config/a%2Fb", NULL), 404);
	assert_int_equal(call("PUT", "/api/config/a%00b", "{}"), 404);
	assert_int_equal(call("GET", "/api/telemetry", NULL), 404);
	assert_int_equal(call("POST", "/api/config/web", "{}"), 405);
	assert_int_equal(call("DELETE", "/health", NULL), 405);
	assert_int_equal(call("GET", "/", NULL), 200);
	assert_body("<title>sockmesh</title>");
	assert_int_equal(call("GET", "/page.js", NULL), 200);
	assert_int_equal(call("GET", "/page.css", NULL), 200);
}

static void services_come_and_go(void **state)
{
	assert_int_equal(call("GET", "/api/services", NULL), 200);
	assert_string_equal(answer.body, "{\"services\":[]}");
	assert_int_equal(call("PUT", "/api/agents/n1",
			      "{'epoch':'e','endpoints':[{'service':'web','id':'web-1','address':'"
			      "10.0.0.1','port':80,"
			      "'ports':[80,81],'protocol':'http','cgroup':'/mesh/web/"
			      "web-1','status':'unhealthy'}]}"),
			 200);
	assert_int_equal(call("GET", "/api/services/web", NULL), 200);
	assert_string_equal(answer.body, "{\"name\":\"web\",\"status\":\"unhealthy\",\"protocol\":"
					 "\"http\",\"endpoints\":[{\"id\":"
					 "\"web-1\",\"address\":\"10.0.0.1\",\"port\":80,"
					 "\"version\":\"v1\",\"status\":\"unhealthy\","
					 "\"node\":\"n1\",\"ports\":[80,81],\"cgroup\":\"/mesh/web/"
					 "web-1\",\"source\":\"discovered\"}]}");
	assert_int_equal(call("POST", "/api/register",
			      "{'name':'web','port':9,'metadata':{'version':'v2'}}"),
			 200);
	assert_body("'success':true,'service':'web','instance':'web-9'");
	assert_int_equal(call("GET", "/api/services", NULL), 200);
	assert_body("'name':'web','status':'healthy'"); /* one of the two is */
	assert_body("'id':'web-9','address':'127.0.0.1','port':9,'version':'v2','status':'healthy',"
		    "'node':'','ports':[9],"
		    "'cgroup':'','source':'registered'");
	assert_int_equal(call("GET", "/metrics", NULL), 200);
	assert_body("mesh_endpoints{service='web',version='v1',status='unhealthy'} 1\n");
	assert_body("mesh_endpoints{service='web',version='v2',status='healthy'} 1\n");
	assert_body("mesh_agents{status='live'} 1\n");
	assert_int_equal(call("GET", "/api/agents", NULL), 200);
	assert_body("'node':'n1'");
	assert_body("'status':'live'}]}");
	assert_int_equal(call("DELETE", "/api/agents/n1?epoch=other", NULL), 409);
	assert_int_equal(call("DELETE", "/api/agents/n1?epoch=e", NULL), 200);
	assert_int_equal(call("DELETE", "/api/register/web/web-9", NULL), 200);
	assert_int_equal(call("DELETE", "/api/register/web/web-9", NULL), 404);
	assert_int_equal(call("GET", "/api/services/web", NULL), 404);
	/* what is configured is no service until it listens */
	assert_int_equal(call("PUT", "/api/config/web", "{}"), 200);
	assert_int_equal(call("GET", "/api/services/web", NULL), 404);
}

struct waiting {
	int answered, status;
	char body[4096];
};

static void on_watch(const struct http_answer *a, void *arg)
{
	struct waiting *w = arg;

	w->answered++;
	w->status = a->error ? a->error : a->status;
	snprintf(w->body, sizeof(w->body), "%s", a->body ? a->body : "");
}

static void run_until(struct loop *l, const struct waiting *w, int answered, uint64_t ms)
{
	uint64_t end = clock_mono_ns() + ms * 1000000;

	while (w->answered < answered && clock_mono_ns() < end)
		assert_int_equal(loop_once(l, 10), 0);
}

static void watch_start(struct http_client *hc, uint64_t rev, struct waiting *w)
{
	char path[128];
	struct http_call c = {.method = "GET", .base = local, .path = path, .timeout_ms = 40000};

	snprintf(path, sizeof(path), "/api/watch?revision=%llu&node=n1", (unsigned long long)rev);
	assert_int_equal(http_client_start(hc, &c, on_watch, w), 0);
}

/* Until the daemon says that so many wait. */
static void await_watchers(struct loop *l, int n)
{
	uint64_t end = clock_mono_ns() + 5000000000ULL;
	char want[32];

	snprintf(want, sizeof(want), "mesh_watchers %d\n", n);
	do {
		assert_int_equal(loop_once(l, 1), 0);
		assert_int_equal(call("GET", "/metrics", NULL), 200);
		if (clock_mono_ns() > end)
			fail_msg("%d do not wait", n);
	} while (!strstr(answer.body, want));
}

static void who_waits_is_told_of_every_change(void **state)
{
	struct waiting w = {0};
	struct http_client *hc;
	struct loop l;

	assert_int_equal(loop_init(&l), 0);
	assert_int_equal(http_client_new(&l, &hc), 0);
	for (int i = 0; i < 8; i++)
		watch_start(hc, revision(), &w);
	await_watchers(&l, 8);
	assert_int_equal(w.answered, 0);
	assert_int_equal(call("PUT", "/api/config/web", "{'failClosed':true}"), 200);
	run_until(&l, &w, 8, 5000);
	assert_int_equal(w.answered, 8);
	assert_int_equal(w.status, 200);
	assert_non_null(strstr(
		w.body,
		"\"services\":[{\"service\":\"web\",\"failClosed\":true}],\"endpoints\":[]"));

	/* behind: at once */
	w.answered = 0;
	assert_int_equal(call("POST", "/api/register", "{'name':'db','port':1}"), 200);
	watch_start(hc, revision() - 1, &w);
	run_until(&l, &w, 1, 5000);
	assert_int_equal(w.answered, 1);
	assert_non_null(strstr(
		w.body,
		"\"endpoints\":[{\"service\":\"db\",\"id\":\"db-1\",\"address\":\"127.0.0.1\","
		"\"port\":1,\"version\":\"v1\"}]"));
	assert_int_equal(call("GET", "/api/watch?revision=999999", NULL),
			 200); /* ahead: another store's */
	http_client_free(&hc);
	loop_done(&l);
}

static void who_waits_at_the_end_is_answered(void **state)
{
	struct waiting w = {0};
	struct http_client *hc;
	struct loop l;

	assert_int_equal(loop_init(&l), 0);
	assert_int_equal(http_client_new(&l, &hc), 0);
	watch_start(hc, revision(), &w);
	await_watchers(&l, 1);
	daemon_stop();
	run_until(&l, &w, 1, 5000);
	assert_int_equal(w.status, 200);
	http_client_free(&hc);
	loop_done(&l);
	daemon_start();
}

static void what_was_stored_is_there_after_a_restart(void **state)
{
	char epoch[64];
	uint64_t before;

	assert_int_equal(call("PUT", "/api/config/web", "{'failClosed':true}"), 200);
	assert_int_equal(call("POST", "/api/register", "{'name':'db','port':1}"), 200);
	before = revision();
	snprintf(epoch, sizeof(epoch), "%.40s", strstr(answer.body, "\"epoch\""));
	daemon_stop();
	daemon_start();
	assert_int_equal(revision(), before);
	assert_non_null(strstr(answer.body, epoch));
	assert_int_equal(call("GET", "/api/services/db", NULL), 200);
	assert_int_equal(call("GET", "/api/config/web", NULL), 200);
	assert_body("'failClosed':true");
}

static void bodies_have_a_limit(void **state)
{
	size_t len = SERVER_BODY_MAX + 1;
	char *text = malloc(len);
	struct http_call c = {.method = "PUT",
			      .base = local,
			      .path = "/api/config/web",
			      .body = text,
			      .body_len = len};

	memset(text, ' ', len);
	memcpy(text, "{}", 2);
	assert_int_equal(call_full(&c), 413);
	c.body_len = SERVER_BODY_MAX;
	assert_int_equal(call_full(&c), 200);
	c.path = "/api/agents/n1"; /* takes more */
	c.body_len = len;
	assert_int_equal(call_full(&c), 400);
	free(text);
}

/* The first line of what the TCP listener answers. */
static const char *raw(const char *request)
{
	struct sockaddr_in in = {.sin_family = AF_INET,
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
				 .sin_port = htons((uint16_t)port)};
	static char line[4096];
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct timeval limit = {.tv_sec = 5};
	ssize_t n;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof(in)), 0);
	assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), strlen(request));
	shutdown(fd, SHUT_WR);
	n = recv(fd, line, sizeof(line) - 1, MSG_WAITALL);
	close(fd);
	line[n > 0 ? n : 0] = '\0';
	return line;
}

static void tcp_needs_the_token_and_a_host_of_ours(void **state)
{
	char token[AUTH_TOKEN_MAX + 2], file[128];
	struct http_call c = {.method = "PUT",
			      .base = tcp,
			      .path = "/api/config/web",
			      .body = "{}",
			      .body_len = 2};
	FILE *f;

	assert_int_equal(call_full(&c), 401);
	c.token = "0000";
	assert_int_equal(call_full(&c), 401);
	snprintf(file, sizeof(file), "%s/token", dir.path);
	f = fopen(file, "re");
	assert_non_null(f);
	assert_non_null(fgets(token, sizeof(token), f));
	fclose(f);
	token[strcspn(token, "\n")] = '\0';
	c.token = token;
	assert_int_equal(call_full(&c), 200);

	assert_non_null(
		strstr(raw("GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
		       " 200 "));
	assert_non_null(strstr(
		raw("GET /health HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"),
		" 403 "));
	assert_non_null(strstr(raw("GET /health HTTP/1.0\r\n\r\n"), " 200 "));
	assert_non_null(strstr(raw("DELETE /api/config/web HTTP/1.1\r\nHost: "
				   "localhost\r\nConnection: close\r\n\r\n"),
			       "WWW-Authenticate: Bearer"));
	assert_non_null(
		strstr(raw("POST /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
			   "Origin: http://evil.example\r\nContent-Length: 0\r\n\r\n"),
		       " 403 "));
	assert_non_null(strstr(raw("GET /health HTTP/1.1\r\n\r\n"), " 400 "));
	raw("GARBAGE\r\n\r\n");
	raw("\r\n\r\n\r\n");
	raw("PUT /api/config/web HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{}");
	assert_int_equal(call("GET", "/health", NULL), 200);
}

static void reload(void)
{
	uint64_t end = clock_mono_ns() + 5000000000ULL;
	uint64_t before = revision();

	assert_int_equal(write(lifeline, "h", 1), 1);
	while (revision() == before && !strstr(answer.body, "\"configError\":\""))
		if (clock_mono_ns() > end)
			fail_msg("the reload changes nothing");
}

static void files_are_applied_whole_or_not_at_all(void **state)
{
	test_dir_write(&files, "a.json", "{\"service\":\"a\",\"failClosed\":true}");
	test_dir_write(&files, "bc.json", "[{\"service\":\"b\"},{\"service\":\"c\"}]");
	test_dir_write(&files, ".hidden.json", "{");
	test_dir_write(&files, "notes.txt", "{");
	reload();
	assert_int_equal(call("GET", "/api/config/c", NULL), 200);
	assert_int_equal(call("GET", "/api/config/a/history", NULL), 200);
	assert_body("'author':'file a.json','action':'file'");

	/* one bad file: nothing happens, not even for the good one */
	test_dir_write(&files, "a.json", "{\"service\":\"a\",\"failClosed\":false}");
	test_dir_write(&files, "bc.json",
		       "[{\"service\":\"b\"},{\"service\":\"c\",\"retry\":{\"attempts\":99}}]");
	reload();
	assert_body("'configError':'bc.json: [1].retry.attempts: must be between 0 and 10'");
	assert_int_equal(call("GET", "/api/config/a", NULL), 200);
	assert_body("'failClosed':true");
	assert_int_equal(call("GET", "/metrics", NULL), 200);
	assert_body("mesh_config_last_reload_successful 0\n");

	test_dir_write(&files, "bc.json", "[{\"service\":\"b\"},{\"service\":\"a\"}]");
	reload();
	assert_body("'configError':'bc.json: [1].service: \\'a\\' is also in a.json'");

	/* c is gone, a is changed */
	test_dir_write(&files, "bc.json", "{\"service\":\"b\"}");
	reload();
	assert_body("'configError':null");
	assert_int_equal(call("GET", "/api/config/a", NULL), 200);
	assert_body("'failClosed':false");
	assert_int_equal(call("GET", "/api/config/c", NULL), 404);
}

static void a_file_wins_only_when_it_has_changed(void **state)
{
	test_dir_write(&files, "a.json", "{\"service\":\"a\",\"failClosed\":true}");
	reload();
	assert_int_equal(call("PATCH", "/api/config/a", "{'failClosed':false}"), 200);
	test_dir_write(&files, "b.json", "{\"service\":\"b\"}");
	reload();
	assert_int_equal(call("GET", "/api/config/a", NULL), 200);
	assert_body("'failClosed':false");
	test_dir_write(&files, "a.json",
		       "{\"service\":\"a\",\"failClosed\":true,\"accelerate\":\"off\"}");
	reload();
	assert_int_equal(call("GET", "/api/config/a", NULL), 200);
	assert_body("'failClosed':true,'accelerate':'off'");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_configuration_lives),
		TEST(a_bad_configuration_changes_nothing),
		TEST(nobody_overwrites_what_they_have_not_seen),
		TEST(addresses_and_methods_are_known),
		TEST(services_come_and_go),
		TEST(who_waits_is_told_of_every_change),
		TEST(who_waits_at_the_end_is_answered),
		TEST(what_was_stored_is_there_after_a_restart),
		TEST(bodies_have_a_limit),
		TEST(tcp_needs_the_token_and_a_host_of_ours),
		TEST(files_are_applied_whole_or_not_at_all),
		TEST(a_file_wins_only_when_it_has_changed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
