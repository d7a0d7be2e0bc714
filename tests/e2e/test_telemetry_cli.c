/* SPDX-License-Identifier: Apache-2.0 */
/* Telemetry on the command line, of the demo's four services: stat, top, edges, graph, trace, tap
 * and log say the same of the same requests, and what is wrong in one line. */
#include "tests/e2e/harness.h"

#define TRACE "4bf92f3577b34da6a3ce929d0e0e4736"
#define OTHER "0af7651916cd43dd8448eb211c80319c"
#define DEMO  "$(dirname $(command -v meshctl))/demo/"

static struct instance *backend;

/* The four of the demo; the gateway sends to /frontend/. */
static void open_shop(void)
{
	struct instance *database, *cache;
	char cmd[512];

	database = instance_ready(
		instance_start("database", "database-1", "--netns", DEMO "database"));
	cache = instance_ready(instance_start("cache", "cache-1", "--netns", DEMO "cache"));
	snprintf(cmd, sizeof(cmd), "env DATABASE_URL=http://%s CACHE_URL=http://%s " DEMO "backend",
		 database->address, cache->address);
	backend = instance_ready(instance_start("backend", "backend-1", "--netns", cmd));
	snprintf(cmd, sizeof(cmd), "env BACKEND_URL=http://%s " DEMO "frontend", backend->address);
	instance_ready(instance_start("frontend", "frontend-1", "--netns", cmd));
}

static void ask(const char *header, int status)
{
	struct client *c = gateway();

	assert_int_equal(get_with(c, header, "/frontend/"), status);
	hang_up(c);
}

static bool says(const char *command, const char *text)
{
	struct output *o = sh("%s", command);

	return !o->status && strstr(o->out, text);
}

static void expect(const char *command, const char *text)
{
	struct output *o = sh("%s", command);

	if (o->status || !strstr(o->out, text))
		fail_msg("%s: exit %d, no '%s' in: %s%s", command, o->status, text, o->out, o->err);
}

/* One line on stderr with that word, nothing on stdout. */
static void expect_failure(const char *command, int status, const char *word)
{
	struct output *o = sh("%s", command);
	const char *nl = strchr(o->err, '\n');

	if (o->status != status || *o->out || !nl || nl[1] || !strstr(o->err, word))
		fail_msg("%s: exit %d (want %d), stdout '%s', stderr '%s' (want '%s')", command,
			 o->status, status, o->out, o->err, word);
}

static void expect_json(const char *command)
{
	struct output *o = sh("%s", command);
	cJSON *v = json_parse(o->out, strlen(o->out), NULL);

	if (o->status || !v)
		fail_msg("%s: exit %d: %s%s", command, o->status, o->out, o->err);
	cJSON_Delete(v);
}

static void a_mesh_without_traffic_says_so(void **state)
{
	static const char *const commands[] = {"stat", "edges", "top", "trace list", "log"};

	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		struct output *o = sh("meshctl %s", commands[i]);

		if (o->status || *o->out || !strstr(o->err, "meshctl: no "))
			fail_msg("meshctl %s: exit %d, stdout '%s', stderr '%s'", commands[i],
				 o->status, o->out, o->err);
	}
	expect("meshctl graph", "digraph mesh {");
	expect("meshctl graph -o svg", "Calls of the last 1m: none");
}

static double requests_to(const char *service)
{
	struct output *o = sh("meshctl stat %s -o json", service);
	cJSON *v = json_parse(o->out, strlen(o->out), NULL);
	double n = json_num(v, "requests", -1);

	cJSON_Delete(v);
	return n;
}

static void rates_and_edges_are_those_of_the_requests(void **state)
{
	open_shop();
	for (int i = 0; i < 20; i++)
		ask("x-a: b", 200);
	/* those of one request end one after the other, and a batch may go in between */
	eventually(5000, requests_to("cache") == 20 && requests_to("database") == 20 &&
				 requests_to("backend") == 20 && requests_to("frontend") == 20);
	expect("meshctl edges -o name", "frontend/backend\n");
	expect("meshctl edges", "closed");
	expect("meshctl stat", "backend");
	expect("meshctl stat backend", "frontend  (all)");
	expect("meshctl stat backend", "(all)     v1");
	expect("meshctl stat backend --source frontend", "frontend  v1");
	expect("meshctl stat --source backend", "database");
	expect("meshctl stat -o name", "backend\n");
	expect("meshctl top --window 1m", "frontend");
	expect("meshctl top --once -o name", "cache\n");
	expect("TERM=dumb meshctl top", "healthy");
	assert_null(strchr(sh("meshctl top")->out, '\033'));
	configure("backend", "{\"split\":{\"v1\":90,\"v2\":10}}");
	api("POST", "/api/breakers/backend/open", NULL);
	assert_int_equal(api_status, 200);
	eventually(5000, strstr(sh("meshctl edges")->out, "open     v1 90%, v2 10%\n"));
	expect("meshctl graph", "breaker open, split v1 90%, v2 10%");
	api("POST", "/api/breakers/backend/reset", NULL);
	assert_int_equal(api_status, 200);
	eventually(5000, strstr(sh("meshctl edges")->out, "closed   v1 90%, v2 10%\n"));
}

static void programs_can_read_it_all(void **state)
{
	open_shop();
	ask("traceparent: 00-" OTHER "-00f067aa0ba902b7-01", 200);
	eventually(3000, says("meshctl trace show " OTHER " -o name", "\n"));
	expect_json("meshctl stat -o json");
	expect_json("meshctl edges -o json");
	expect_json("meshctl graph -o json");
	expect_json("meshctl top -o json");
	expect_json("meshctl trace list -o json");
	expect_json("meshctl trace show " OTHER " -o json");
	expect_json("meshctl log -n 1 -o json");
	if (have_program("python3"))
		expect("meshctl graph -o svg | python3 -c 'import sys, xml.dom.minidom as m; "
		       "print(len(m.parse(sys.stdin).getElementsByTagName(\"rect\")) >= 5)'",
		       "True");
	if (have_program("dot"))
		expect("meshctl graph | dot -Tplain", "frontend");
}

static void a_trace_is_a_waterfall(void **state)
{
	struct output *o;

	open_shop();
	ask("traceparent: 00-" TRACE "-00f067aa0ba902b7-01", 200);
	eventually(3000, says("meshctl trace show " TRACE, "4 spans of 4 services"));
	o = sh("LC_ALL=C meshctl trace show " TRACE);
	assert_non_null(strstr(o->out, "\nfrontend GET /"));
	assert_non_null(strstr(o->out, "\n`-backend GET /items"));
	assert_non_null(strstr(o->out, "\n  |-database GET /query"));
	assert_non_null(strstr(o->out, "\n  `-cache GET /get"));
	assert_null(strchr(o->out, '\033'));
	for (const char *p = o->out; *p; p++)
		assert_in_range((unsigned char)*p, '\n', '~');
	expect("LC_ALL=C.UTF-8 meshctl trace show " TRACE, "\xe2\x94\x94 backend");
	expect("meshctl trace show " TRACE " -o wide", "try 1 backend-1");
	expect("meshctl trace list -o name", TRACE "\n");
	expect("meshctl trace list --service cache --since 10m", TRACE);
	expect("meshctl trace list --source backend -n 1 -o name", TRACE "\n");
	assert_null(strstr(sh("meshctl trace list --source cache")->out, TRACE));
	assert_null(strstr(sh("meshctl trace list --min 1h")->out, TRACE));
	assert_null(strstr(sh("meshctl trace list --error")->out, TRACE));
	expect_failure("meshctl trace show order-17", 1, "order-17");
	expect_failure("meshctl trace show 'a b'", 2, "no trace id");
}

static void an_error_is_found_by_its_trace(void **state)
{
	open_shop();
	assert_int_equal(sh("meshctl breaker open backend")->status, 0);
	eventually(3000, !strcmp(breaker_state("backend"), "open"));
	ask("x-trace-id: order-18", 502);
	assert_int_equal(sh("meshctl breaker reset backend")->status, 0);
	eventually(3000, says("meshctl trace list --error -o name", "order-18\n"));
	eventually(3000, says("meshctl trace show order-18", "breaker-open"));
	expect("meshctl log --trace order-18", "frontend -> backend");
	expect("meshctl log backend --trace order-18", "breaker-open");
	expect("meshctl log --trace order-18", "trace order-18\n");
	expect_failure("meshctl log --trace order-19", 1, "order-19");
}

static bool tapped(const char *file, const char *text)
{
	struct output *o = sh("cat " SCRATCH "/%s", file);

	return strstr(o->out, text);
}

static void a_tap_shows_what_is_asked_after_it(void **state)
{
	pid_t pid;

	open_shop();
	ask("x-trace-id: before", 200);
	eventually(5000,
		   says("meshctl trace show before", "4 spans")); /* the agent is done with it */
	pid = spawn("tap", "exec meshctl tap backend -o json 2>" SCRATCH "/tap.err");
	eventually(3000, tapped("tap.err", "watching requests to backend"));
	eventually(5000,
		   (ask("x-trace-id: after", 200), tapped("tap.log", "\"traceId\":\"after\"")));
	assert_false(tapped("tap.log", "\"before\""));
	assert_false(tapped("tap.log", "\"service\":\"cache\""));
	assert_int_equal(reap(&pid, SIGINT), 0);
	assert_true(tapped("tap.err", " 0 errors in "));
}

static void a_tap_comes_back_with_meshd(void **state)
{
	pid_t tap, follower;

	open_shop();
	tap = spawn("tap2", "exec meshctl tap 2>" SCRATCH "/tap2.err");
	follower = spawn("follow", "exec meshctl log -f 2>" SCRATCH "/follow.err");
	eventually(3000, tapped("tap2.err", "watching requests"));
	eventually(3000, tapped("follow.err", "following requests"));
	meshd_stop(SIGKILL);
	eventually(3000, tapped("tap2.err", "ended the stream"));
	meshd_start();
	eventually(5000, tapped("tap2.err", "connected again"));
	eventually(5000, (ask("x-a: b", 200), tapped("tap2.log", "frontend -> backend")));
	eventually(5000, tapped("follow.log", "frontend -> backend"));
	assert_int_equal(reap(&tap, SIGINT), 0);
	assert_int_equal(reap(&follower, SIGTERM), 0);
}

static void a_tap_ends_after_so_many(void **state)
{
	pid_t pid;
	int status = -1;

	open_shop();
	pid = spawn("tap3", "exec meshctl tap -n 2 -o name 2>" SCRATCH "/tap3.err");
	eventually(3000, tapped("tap3.err", "watching requests"));
	eventually(5000, (ask("x-trace-id: two", 200), tapped("tap3.err", "2 requests")));
	status = reap(&pid, 0);
	assert_int_equal(status, 0);
	assert_string_equal(sh("cat " SCRATCH "/tap3.log")->out, "two\ntwo\n");
}

static void wrong_usage_is_exit_2(void **state)
{
	expect_failure("meshctl stat --window never", 2, "--window never");
	expect_failure("meshctl stat --window 15d", 2, "--window 15d");
	expect_failure("meshctl stat 'a b'", 2, "a b");
	expect_failure("meshctl stat nobody", 1, "nobody");
	expect_failure("meshctl edges extra", 2, "extra");
	expect_failure("meshctl graph -o table", 2, "dot");
	expect_failure("meshctl get services -o svg", 2, "svg");
	expect_failure("meshctl top --interval 1ms", 2, "--interval 1ms");
	expect_failure("meshctl trace", 2, "missing");
	expect_failure("meshctl trace lst", 2, "did you mean list");
	expect_failure("meshctl trace list -n 0", 2, "-n 0");
	expect_failure("meshctl tap --min fast", 2, "--min fast");
	expect_failure("meshctl tap -n many", 2, "-n many");
	expect_failure("meshctl log --since yesterday", 2, "--since yesterday");
}

static void a_missing_meshd_is_exit_3(void **state)
{
	static const char *const commands[] = {"stat",	     "stat x",	    "edges", "graph",
					       "top",	     "tap",	    "log",   "log -f",
					       "trace list", "trace show x"};

	meshd_stop(SIGTERM);
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		char command[64];

		snprintf(command, sizeof(command), "meshctl %s", commands[i]);
		expect_failure(command, 3, "meshd does not answer");
	}
	meshd_start();
}

int main(void)
{
	const struct CMUnitTest stories[] = {
		STORY(a_mesh_without_traffic_says_so),
		STORY(rates_and_edges_are_those_of_the_requests),
		STORY(programs_can_read_it_all),
		STORY(a_trace_is_a_waterfall),
		STORY(an_error_is_found_by_its_trace),
		STORY(a_tap_shows_what_is_asked_after_it),
		STORY(a_tap_comes_back_with_meshd),
		STORY(a_tap_ends_after_so_many),
		STORY(wrong_usage_is_exit_2),
		STORY(a_missing_meshd_is_exit_3),
	};

	return RUN(stories);
}
