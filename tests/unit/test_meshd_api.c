/* SPDX-License-Identifier: Apache-2.0 */
/* The API of meshd: what each call answers, whom it refuses and what it leaves unchanged. */
#include "tests/unit/meshd_rig.h"

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
		{"PUT", "/api/agents/n1", "{'workersAnswering':-1,'endpoints':[]}",
		 "'field':'workersAnswering'"},
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
	assert_int_equal(call("GET", "/api/telemetry", NULL), 405);
	assert_int_equal(call("POST", "/api/config/web", "{}"), 405);
	assert_int_equal(call("DELETE", "/health", NULL), 405);
	assert_int_equal(call("GET", "/", NULL), 200);
	assert_body("<title>sockmesh</title>");
	assert_int_equal(call("GET", "/ui/main.js", NULL), 200);
	assert_int_equal(call("GET", "/ui/vendor/uPlot.min.css", NULL), 200);
	assert_int_equal(call("GET", "/ui/uPlot.min.css", NULL), 404);
	assert_int_equal(call("GET", "/ui/vendor/main.js", NULL), 404);
}

static void services_come_and_go(void **state)
{
	assert_int_equal(call("GET", "/api/services", NULL), 200);
	assert_string_equal(answer.body, "{\"services\":[]}");
	assert_int_equal(call("PUT", "/api/agents/n1",
			      "{'epoch':'e','workers':2,'workersAnswering':1,'endpoints':[{'"
			      "service':'web','id':'web-1','address':'"
			      "10.0.0.1','port':80,'weight':250,"
			      "'ports':[80,81],'protocol':'http','cgroup':'/mesh/web/"
			      "web-1','status':'unhealthy'}]}"),
			 200);
	assert_int_equal(call("GET", "/api/services/web", NULL), 200);
	assert_string_equal(answer.body,
			    "{\"name\":\"web\",\"status\":\"unhealthy\",\"protocol\":"
			    "\"http\",\"endpoints\":[{\"id\":"
			    "\"web-1\",\"address\":\"10.0.0.1\",\"port\":80,"
			    "\"version\":\"v1\",\"weight\":250,\"status\":\"unhealthy\","
			    "\"node\":\"n1\",\"ports\":[80,81],\"cgroup\":\"/mesh/web/"
			    "web-1\",\"source\":\"discovered\"}]}");
	assert_int_equal(call("POST", "/api/register",
			      "{'name':'web','port':9,'metadata':{'version':'v2'}}"),
			 200);
	assert_body("'success':true,'service':'web','instance':'web-9'");
	assert_int_equal(call("GET", "/api/services", NULL), 200);
	assert_body("'name':'web','status':'healthy'"); /* one of the two is */
	assert_body("'id':'web-9','address':'127.0.0.1','port':9,'version':'v2','weight':100,'"
		    "status':'healthy',"
		    "'node':'','ports':[9],"
		    "'cgroup':'','source':'registered'");
	assert_int_equal(call("GET", "/metrics", NULL), 200);
	assert_body("mesh_endpoints{service='web',version='v1',status='unhealthy'} 1\n");
	assert_body("mesh_endpoints{service='web',version='v2',status='healthy'} 1\n");
	assert_body("mesh_agents{status='live'} 1\n");
	assert_int_equal(call("GET", "/api/agents", NULL), 200);
	assert_body("'workers':2,'workersAnswering':1,");
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

static int tcp_connect(void)
{
	struct sockaddr_in in = {.sin_family = AF_INET,
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
				 .sin_port = htons((uint16_t)port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct timeval limit = {.tv_sec = 5};

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof(in)), 0);
	return fd;
}

static void tcp_send(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* All that comes until the end; closes fd. */
static const char *tcp_answer(int fd)
{
	static char line[4096];
	ssize_t n;

	shutdown(fd, SHUT_WR);
	n = recv(fd, line, sizeof(line) - 1, MSG_WAITALL);
	close(fd);
	line[n > 0 ? n : 0] = '\0';
	return line;
}

/* What the TCP listener answers. */
static const char *raw(const char *request)
{
	int fd = tcp_connect();

	tcp_send(fd, request);
	return tcp_answer(fd);
}

/* A body may take its time; meanwhile another request is told what its address takes. */
static void two_requests_are_refused_each_in_its_own_words(void **state)
{
	struct http_call interim = {.method = "POST",
				    .base = tcp,
				    .path = "/api/config/web/history",
				    .timeout_ms = 5000};
	const char *text;
	char token[TOKEN_MAX + 1], file[128];
	int slow = tcp_connect();

	snprintf(file, sizeof(file), "%s/token", dir.path);
	assert_int_equal(token_read(file, token), 0);
	interim.token = token;
	interim.body = "{}";
	interim.body_len = 2;
	tcp_send(slow, "POST /api/config/web HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
		       "Authorization: Bearer ");
	tcp_send(slow, token);
	tcp_send(slow, "\r\nContent-Length: 2\r\n\r\n{");
	assert_int_equal(call("GET", "/health", NULL), 200); /* the head was read before this */
	assert_int_equal(call_full(&interim), 405);
	assert_body("'this address takes GET, HEAD'");
	tcp_send(slow, "}");
	text = tcp_answer(slow);
	assert_non_null(strstr(text, " 405 "));
	assert_non_null(strstr(text, "Allow: GET, HEAD, PUT, PATCH, DELETE\r\n"));
	assert_non_null(strstr(text, "takes GET, HEAD, PUT, PATCH, DELETE\""));
}

static void a_request_names_one_host(void **state)
{
	const char *text = raw("GET /health HTTP/1.1\r\nHost: localhost\r\nhost: evil.example\r\n"
			       "Connection: close\r\n\r\n");

	assert_non_null(strstr(text, " 400 "));
	assert_non_null(strstr(text, "more than one Host"));
	text = raw("GET /health HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n"
		   "Connection: close\r\n\r\n");
	assert_non_null(strstr(text, " 400 "));
}

static void tcp_needs_the_token_and_a_host_of_ours(void **state)
{
	char token[TOKEN_MAX + 2], file[128];
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
	assert_non_null(
		strstr(raw("GET /api/tap HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
			   "Sec-Fetch-Site: cross-site\r\n\r\n"),
		       " 403 "));
	assert_non_null(strstr(raw("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
				   "Sec-Fetch-Site: cross-site\r\n\r\n"),
			       " 200 "));
	assert_non_null(strstr(raw("GET /health HTTP/1.1\r\n\r\n"), " 400 "));
	raw("GARBAGE\r\n\r\n");
	raw("\r\n\r\n\r\n");
	raw("PUT /api/config/web HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{}");
	assert_int_equal(call("GET", "/health", NULL), 200);
}

static unsigned connections(void)
{
	const char *n;

	assert_int_equal(call("GET", "/metrics", NULL), 200);
	n = strstr(answer.body, "\nmesh_api_connections ");
	assert_non_null(n);
	return (unsigned)atoi(n + 22);
}

/* However much of a request came before the end: the places are for others. */
static void who_goes_in_the_middle_of_a_request_leaves_nothing(void **state)
{
	static const char request[] = "POST /api/register HTTP/1.1\r\nHost: localhost\r\n"
				      "Content-Length: 10\r\n\r\n{";
	uint64_t end = clock_mono_ns() + 10000000000ull;

	for (size_t n = 0; n < sizeof(request); n++) {
		struct sockaddr_in in = {.sin_family = AF_INET,
					 .sin_port = htons((uint16_t)port),
					 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

		assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof(in)), 0);
		assert_int_equal(write(fd, request, n), n);
		close(fd);
	}
	while (connections() > 1)
		if (clock_mono_ns() > end)
			fail_msg("%u connections are left", connections());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_configuration_lives),
		TEST(a_bad_configuration_changes_nothing),
		TEST(nobody_overwrites_what_they_have_not_seen),
		TEST(addresses_and_methods_are_known),
		TEST(services_come_and_go),
		TEST(bodies_have_a_limit),
		TEST(two_requests_are_refused_each_in_its_own_words),
		TEST(a_request_names_one_host),
		TEST(who_goes_in_the_middle_of_a_request_leaves_nothing),
		TEST(tcp_needs_the_token_and_a_host_of_ours),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
