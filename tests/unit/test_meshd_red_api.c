/* SPDX-License-Identifier: Apache-2.0 */
/* What agents count, posted to /api/telemetry and asked for again at /api/metrics and /api/graph.
 */
#include "tests/unit/meshd_rig.h"
#include "ctl/meshd/red/cells.h"
#include "ctl/meshd/red/disk.h"
#include "lib/histogram.h"

#include <math.h>
#include <signal.h>

#define MS 1000000ull

/* A batch of one series: `fast` requests of 10 ms, `slow` ones of 500 ms, `bad` ones of 20 ms that
 * fail, a second ago. */
static int post(unsigned seq, const char *source, const char *version, unsigned fast, unsigned slow,
		unsigned bad)
{
	struct histogram_sparse ok = {0}, error = {0};
	struct buf b;
	int status;

	assert_int_equal(histogram_sparse_add(&ok, histogram_bucket(10 * MS), fast), 0);
	assert_int_equal(histogram_sparse_add(&ok, histogram_bucket(500 * MS), slow), 0);
	assert_int_equal(histogram_sparse_add(&error, histogram_bucket(20 * MS), bad), 0);
	buf_init(&b, 4000);
	buf_printf(&b,
		   "{'node':'n1','epoch':'e1','seq':%u,'time':%llu,'lost':{'ring':2},'series':["
		   "{'source':'%s','destination':'backend','protocol':'http','version':'%s',"
		   "'outcome':'ok','requests':%u,'errors':0,'sumUs':5,'bytesIn':1,'bytesOut':2,"
		   "'histogram':",
		   seq, (unsigned long long)clock_wall_ms(), source, version, fast + slow);
	histogram_sparse_json(&ok, &b);
	buf_printf(&b,
		   "},{'source':'%s','destination':'backend','protocol':'http','version':'%s',"
		   "'outcome':'error','requests':%u,'errors':%u,'histogram':",
		   source, version, bad, bad);
	histogram_sparse_json(&error, &b);
	buf_str(&b, "}]}");
	status = call("POST", "/api/telemetry", b.data);
	histogram_sparse_done(&ok);
	histogram_sparse_done(&error);
	buf_done(&b);
	return status;
}

static cJSON *get(const char *path)
{
	cJSON *v;

	assert_int_equal(call("GET", path, NULL), 200);
	v = json_parse(answer.body, answer.len, NULL);
	assert_non_null(v);
	return v;
}

static double sum_of(const cJSON *list, const char *key)
{
	const cJSON *v;
	double sum = 0;

	cJSON_ArrayForEach (v, list)
		sum += json_num(v, key, NAN);
	return sum;
}

static void rate_errors_and_duration_of_a_service(void **state)
{
	cJSON *v;

	assert_int_equal(post(1, "frontend", "v1", 100, 50, 20), 200);
	assert_body("'seq':1,'duplicate':false");
	v = get("/api/metrics/backend?window=1m&granularity=10s");
	assert_string_equal(json_str(v, "service", ""), "backend");
	assert_string_equal(json_str(v, "window", ""), "1m");
	assert_string_equal(json_str(v, "granularity", ""), "10s");
	assert_true(json_num(v, "requests", 0) == 170 && json_num(v, "errors", 0) == 20);
	assert_true(fabs(json_num(v, "errorRate", 0) - 20.0 / 170) < 1e-4);
	assert_true(json_num(v, "rate", 0) > 2);
	assert_true(fabs(json_num(v, "p50Latency", 0) - 10) < 0.5);
	assert_true(fabs(json_num(v, "p99Latency", 0) - 500) < 25);
	assert_true(sum_of(cJSON_GetObjectItem(v, "series"), "requests") == 170);
	assert_true(sum_of(cJSON_GetObjectItem(v, "series"), "errors") == 20);
	cJSON_Delete(v);
}

static void what_comes_again_is_not_counted_again(void **state)
{
	cJSON *v;

	assert_int_equal(post(1, "frontend", "v1", 3, 0, 0), 200);
	assert_int_equal(post(1, "frontend", "v1", 3, 0, 0), 200);
	assert_body("'seq':1,'duplicate':true");
	assert_int_equal(post(2, "frontend", "v1", 4, 0, 0), 200);
	assert_body("'seq':2,'duplicate':false");
	v = get("/api/metrics/backend");
	assert_true(json_num(v, "requests", 0) == 7);
	cJSON_Delete(v);
}

static void kill_daemon(void)
{
	int status;

	assert_int_equal(kill(daemon_pid, SIGKILL), 0);
	assert_int_equal(waitpid(daemon_pid, &status, 0), daemon_pid);
	close(lifeline);
	daemon_start();
}

static void a_killed_daemon_has_all_that_it_answered(void **state)
{
	cJSON *v;

	assert_int_equal(post(1, "frontend", "v1", 3, 1, 2), 200);
	kill_daemon();
	assert_int_equal(post(1, "frontend", "v1", 3, 1, 2), 200);
	assert_body("'duplicate':true");
	v = get("/api/metrics/backend");
	assert_true(json_num(v, "requests", 0) == 6 && json_num(v, "errors", 0) == 2);
	cJSON_Delete(v);
}

/* A counter that is 0 for a while would show all of it as lost once more. */
static void what_an_agent_lost_is_not_lost_again_with_meshd(void **state)
{
	static const char line[] = "mesh_telemetry_lost_total{node=\"n1\",what=\"ring\"} ";

	assert_int_equal(post(1, "frontend", "v1", 3, 1, 2), 200);
	assert_int_equal(call("GET", "/metrics", NULL), 200);
	assert_non_null(strstr(answer.body, line));
	kill_daemon();
	assert_int_equal(call("GET", "/metrics", NULL), 200);
	assert_null(strstr(answer.body, line)); /* it has not said it yet */
	assert_int_equal(post(2, "frontend", "v1", 3, 1, 2), 200);
	assert_int_equal(call("GET", "/metrics", NULL), 200);
	assert_body("\nmesh_telemetry_lost_total{node='n1',what='ring'} 2\n");
}

static void one_source_or_version_can_be_asked_for(void **state)
{
	cJSON *v;

	assert_int_equal(post(1, "frontend", "v1", 3, 0, 0), 200);
	assert_int_equal(post(2, "frontend", "v2", 4, 0, 0), 200);
	assert_int_equal(post(3, "gateway", "v2", 5, 0, 1), 200);
	v = get("/api/metrics/backend?source=frontend");
	assert_true(json_num(v, "requests", 0) == 7);
	cJSON_Delete(v);
	v = get("/api/metrics/backend?version=v2&granularity=1s");
	assert_true(json_num(v, "requests", 0) == 10);
	cJSON_Delete(v);
	v = get("/api/metrics/backend?source=gateway&version=v1");
	assert_true(json_num(v, "requests", 1) == 0 && json_num(v, "rate", 1) == 0);
	cJSON_Delete(v);
}

static void nobody_knows_a_service_that_never_was(void **state)
{
	cJSON *v;

	assert_int_equal(call("GET", "/api/metrics/backend", NULL), 404);
	assert_int_equal(call("POST", "/api/register", "{'name':'backend','port':3000}"), 200);
	v = get("/api/metrics/backend?window=5m");
	assert_true(json_num(v, "requests", 1) == 0 && json_num(v, "p99Latency", 1) == 0);
	cJSON_Delete(v);
}

static void a_window_that_makes_no_sense_is_refused(void **state)
{
	static const struct {
		const char *query, *field;
	} bad[] = {
		{"window=0s", "window"},
		{"window=bogus", "window"},
		{"window=15", "window"},
		{"window=337h", "window"},
		{"window=", "window"},
		{"granularity=-1s", "granularity"},
		{"source=%20", "source"},
		{"version=a/b", "version"},
		{"window=3h&granularity=1s", NULL},
	};
	char path[128], want[64];

	assert_int_equal(post(1, "frontend", "v1", 1, 0, 0), 200);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		snprintf(path, sizeof(path), "/api/metrics/backend?%s", bad[i].query);
		snprintf(want, sizeof(want), "'field':'%s'", bad[i].field ? bad[i].field : "");
		/* the last one is answered as finely as it is known */
		assert_int_equal(call("GET", path, NULL), bad[i].field ? 400 : 200);
		if (bad[i].field)
			assert_body(want);
	}
	assert_int_equal(call("GET", "/api/metrics/backend?bogus=1", NULL), 400);
	assert_int_equal(call("GET", "/api/graph?window=x", NULL), 400);
}

static void a_batch_that_makes_no_sense_is_refused(void **state)
{
#define SERIES(rest)                                                                               \
	"{'node':'n','epoch':'e','seq':1,'time':1,'series':[{'source':'a','destination':'b',"      \
	"'protocol':'http','outcome':'ok'," rest "}]}"
	static const struct {
		const char *body, *field;
	} bad[] = {
		{"{'epoch':'e'}", "node"},
		{"{'node':'a b','seq':1}", "node"},
		{"{'node':'n','seq':1,'time':1}", "epoch"},
		{"{'node':'n','epoch':'e','seq':1}", "time"},
		{"{'node':'n','epoch':'e','seq':0,'time':1}", "seq"},
		{"{'node':'n','epoch':'e','seq':1.5,'time':1}", "seq"},
		{"{'node':'n','epoch':'e','time':1,'series':[{}]}", "series[0].source"},
		{"{'node':'n','epoch':'e','seq':1,'time':1,'lost':{'ring':-1}}", "lost.ring"},
		{"{'node':'n','epoch':'e','seq':1,'time':1,'spans':[1]}", "spans[0]"},
		{SERIES("'requests':-1"), "series[0].requests"},
		{SERIES("'requests':1,'errors':2"), "series[0].errors"},
		{SERIES("'requests':4294967296"), "series[0].requests"},
		{SERIES("'requests':1,'bytesIn':1e15"), "series[0].bytesIn"},
		{SERIES("'requests':1,'version':'a b'"), "series[0].version"},
		{SERIES("'requests':1,'histogram':[413,1]"), "series[0].histogram"},
		{SERIES("'requests':1,'histogram':[1]"), "series[0].histogram"},
		{SERIES("'requests':1,'histogram':[2,1,1,1]"), "series[0].histogram"},
		{SERIES("'requests':1,'histogram':[1,0]"), "series[0].histogram"},
		{SERIES("'requests':1,'histogram':[1,-1]"), "series[0].histogram[1]"},
	};
	char want[64];

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		assert_int_equal(call("POST", "/api/telemetry", bad[i].body), 400);
		snprintf(want, sizeof(want), "'field':'%s'", bad[i].field);
		assert_body(want);
	}
	assert_int_equal(call("GET", "/api/metrics/b", NULL), 404);
}

static void large_numbers_are_whole(void **state)
{
	char body[512];

	snprintf(body, sizeof(body),
		 "{'node':'n','epoch':'e','seq':1,'time':%llu,'series':[{'source':'a',"
		 "'destination':'b','protocol':'tcp','outcome':'ok','requests':4294967295,"
		 "'bytesIn':281474976710656,'bytesOut':999999999999}]}",
		 (unsigned long long)clock_wall_ms());
	assert_int_equal(call("POST", "/api/telemetry", body), 200);
	assert_int_equal(call("GET", "/api/metrics/b", NULL), 200);
	assert_body("'requests':4294967295,'errors':0,");
	assert_body("'bytesIn':281474976710656,'bytesOut':999999999999,");
}

static const cJSON *named(const cJSON *list, const char *key, const char *name)
{
	const cJSON *v;

	cJSON_ArrayForEach (v, list)
		if (!strcmp(json_str(v, key, ""), name))
			return v;
	fail_msg("no %s %s", key, name);
	return NULL;
}

static void the_map_shows_calls_services_and_splits(void **state)
{
	const cJSON *nodes, *edges, *e, *n;
	cJSON *v;

	assert_int_equal(call("POST", "/api/register", "{'name':'backend','port':3000}"), 200);
	assert_int_equal(call("POST", "/api/register", "{'name':'lonely','port':3001}"), 200);
	assert_int_equal(call("PUT", "/api/config/backend?force=true",
			      "{'service':'backend','split':{'v1':90,'v2':10}}"),
			 200);
	assert_int_equal(post(1, "frontend", "v1", 8, 0, 1), 200);
	assert_int_equal(post(2, "frontend", "v2", 1, 0, 0), 200);
	assert_int_equal(post(3, "gateway", "v1", 2, 0, 0), 200);
	v = get("/api/graph");
	nodes = cJSON_GetObjectItem(v, "nodes");
	edges = cJSON_GetObjectItem(v, "edges");
	assert_int_equal(cJSON_GetArraySize(nodes), 4);
	assert_int_equal(cJSON_GetArraySize(edges), 2);
	n = named(nodes, "name", "backend");
	assert_string_equal(json_str(n, "kind", ""), "service");
	assert_true(json_num(n, "requests", 0) == 12 && json_num(n, "endpoints", 0) == 1);
	assert_string_equal(json_str(named(nodes, "name", "gateway"), "kind", ""), "gateway");
	assert_string_equal(json_str(named(nodes, "name", "frontend"), "kind", ""), "caller");
	assert_true(json_num(named(nodes, "name", "lonely"), "requests", 1) == 0);
	e = named(edges, "source", "frontend");
	assert_string_equal(json_str(e, "destination", ""), "backend");
	assert_true(json_num(e, "requests", 0) == 10 && json_num(e, "errors", 0) == 1);
	assert_true(fabs(json_num(e, "p50", 0) - 10) < 0.5);
	assert_string_equal(json_str(e, "breaker", ""), "closed");
	assert_true(json_num(cJSON_GetObjectItem(e, "split"), "v1", 0) == 90);
	e = named(cJSON_GetObjectItem(e, "versions"), "version", "v2");
	assert_true(fabs(json_num(e, "share", 0) - 0.1) < 1e-6);
	cJSON_Delete(v);
}

static void agent_says(const char *node, const char *endpoint, const char *status,
		       const char *breaker)
{
	char path[64], body[512];

	snprintf(path, sizeof(path), "/api/agents/%s", node);
	snprintf(body, sizeof(body),
		 "{'endpoints':[{'service':'backend','id':'%s','address':'10.0.0.1','port':1,"
		 "'status':'%s'}],'breakers':[{'service':'backend','endpoint':null,'state':'%s'},"
		 "{'service':'backend','endpoint':'%s','state':'open'}]}",
		 endpoint, status, breaker, endpoint);
	assert_int_equal(call("PUT", path, body), 200);
}

static void assert_map(const char *status, const char *breaker)
{
	cJSON *v = get("/api/graph");
	const cJSON *nodes = cJSON_GetObjectItem(v, "nodes"), *n = named(nodes, "name", "backend"),
		    *e = named(cJSON_GetObjectItem(v, "edges"), "source", "frontend");

	assert_string_equal(json_str(n, "status", ""), status);
	assert_string_equal(json_str(n, "breaker", ""), breaker);
	assert_string_equal(json_str(e, "breaker", ""), breaker);
	/* who only calls has the figures of what it asked */
	n = named(nodes, "name", "frontend");
	assert_true(json_num(n, "requests", 0) == 10 && json_num(n, "errors", 0) == 1);
	assert_string_equal(json_str(n, "status", ""), "unknown");
	cJSON_Delete(v);
}

/* The worst that an agent has of a service's breaker; an endpoint that is out is none of it. */
static void the_map_shows_who_is_not_well(void **state)
{
	assert_int_equal(post(1, "frontend", "v1", 9, 0, 1), 200);
	agent_says("n1", "b-1", "healthy", "closed");
	agent_says("n2", "b-2", "healthy", "closed");
	assert_map("healthy", "closed");
	agent_says("n2", "b-2", "ejected", "half-open");
	assert_map("degraded", "half-open");
	agent_says("n1", "b-1", "unhealthy", "open");
	assert_map("unhealthy", "open");
	agent_says("n1", "b-1", "healthy", "half-open");
	agent_says("n2", "b-2", "healthy", "open");
	assert_map("healthy", "open");
}

/* What an older agent says of the requests of `meshctl check`. */
static void the_mesh_s_own_requests_are_in_no_map(void **state)
{
	cJSON *v;

	assert_int_equal(call("POST", "/api/register", "{'name':'mesh-check-server','port':3000}"),
			 200);
	assert_int_equal(post(1, "mesh-check-client", "v1", 8, 0, 1), 200);
	assert_int_equal(post(2, "frontend", "v1", 8, 0, 0), 200);
	v = get("/api/graph");
	assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(v, "edges")), 1);
	assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(v, "nodes")), 2);
	cJSON_Delete(v);
	v = get("/api/metrics/backend");
	assert_true(json_num(v, "requests", 0) == 8);
	cJSON_Delete(v);
	assert_int_equal(call("GET", "/api/metrics/mesh-check-client", NULL), 404);
}

/* --- long questions ------------------------------------------------------------------ */

#define BUCKETS 3900
#define RECORDS 60

/* A fortnight, as if it had been counted: an hour of it would take an hour. */
static void fill_a_fortnight(void)
{
	uint64_t now_s = clock_wall_ms() / 1000;
	struct red_sum sum = {.requests = 1};
	char name[32], why[256];
	struct red_disk *d;
	struct buf b;

	assert_int_equal(red_disk_open(dir.path, &d, why, sizeof(why)), 0);
	assert_int_equal(histogram_sparse_add(&sum.histogram, 100, 1), 0);
	buf_init(&b, 1 << 20);
	for (int i = 0; i < RECORDS; i++) {
		struct red_key k = {name, "backend", "v1", RED_HTTP, RED_OK};

		snprintf(name, sizeof(name), "caller-%d", i);
		red_record_put(&b, &k, 0, true, &sum);
	}
	assert_int_equal(red_disk_begin(d), 0);
	for (uint64_t i = 1; i <= BUCKETS; i++)
		assert_int_equal(red_disk_cell_put(d, 2, (now_s / 300 - 40 - i) * 300, "backend",
						   b.data, b.len),
				 0);
	assert_int_equal(
		red_disk_service_put(d, &(struct red_disk_service){"backend", 1, now_s, true}), 0);
	assert_int_equal(red_disk_commit(d), 0);
	red_disk_close(&d);
	red_sum_done(&sum);
	buf_done(&b);
}

/* Asks and goes away without waiting. */
static void ask_and_leave(const char *path)
{
	struct sockaddr_in in = {.sin_family = AF_INET,
				 .sin_port = htons((uint16_t)port),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char text[256];
	int len = snprintf(text, sizeof(text), "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n",
			   path, port);

	assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof(in)), 0);
	assert_int_equal(write(fd, text, (size_t)len), len);
	close(fd);
}

static void a_fortnight_is_answered_and_stops_nobody(void **state)
{
	pid_t asking;
	int status;
	cJSON *v;

	daemon_stop();
	fill_a_fortnight();
	daemon_start();
	v = get("/api/graph?window=336h");
	assert_true(sum_of(cJSON_GetObjectItem(v, "edges"), "requests") ==
		    (double)BUCKETS * RECORDS);
	cJSON_Delete(v);
	v = get("/api/metrics/backend?window=336h");
	assert_true(json_num(v, "requests", 0) == (double)BUCKETS * RECORDS);
	assert_true(sum_of(cJSON_GetObjectItem(v, "series"), "requests") ==
		    (double)BUCKETS * RECORDS);
	cJSON_Delete(v);
	/* too many at a time, and none of them waits: those that are refused are not missed */
	for (int i = 0; i < 30; i++)
		ask_and_leave("/api/graph?window=336h");
	assert_int_equal(call("GET", "/health", NULL), 200);
	/* the end comes in the middle of it */
	asking = fork();
	if (!asking) {
		int got = call("GET", "/api/graph?window=336h", NULL);

		_exit(got == 200 || got == 503 || got < 0 ? 0 : 1);
	}
	usleep(20000);
	daemon_stop();
	assert_int_equal(waitpid(asking, &status, 0), asking);
	assert_int_equal(status, 0);
	daemon_start();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(rate_errors_and_duration_of_a_service),
		TEST(what_comes_again_is_not_counted_again),
		TEST(a_killed_daemon_has_all_that_it_answered),
		TEST(what_an_agent_lost_is_not_lost_again_with_meshd),
		TEST(one_source_or_version_can_be_asked_for),
		TEST(nobody_knows_a_service_that_never_was),
		TEST(a_window_that_makes_no_sense_is_refused),
		TEST(a_batch_that_makes_no_sense_is_refused),
		TEST(large_numbers_are_whole),
		TEST(the_map_shows_calls_services_and_splits),
		TEST(the_map_shows_who_is_not_well),
		TEST(the_mesh_s_own_requests_are_in_no_map),
		TEST(a_fortnight_is_answered_and_stops_nobody),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
