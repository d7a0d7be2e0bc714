/* SPDX-License-Identifier: Apache-2.0 */
/* Spans in meshd over its REST API: what is taken, what is kept, and how it is found again. */
#include "lib/trace_id.h"
#include "tests/unit/meshd_rig.h"

static cJSON *parsed; /* the last answer */

static const cJSON *get(const char *path)
{
	assert_int_equal(call("GET", path, NULL), 200);
	cJSON_Delete(parsed);
	parsed = json_parse(answer.body, answer.len, NULL);
	assert_non_null(parsed);
	return parsed;
}

static const cJSON *list(const char *path, const char *key)
{
	return cJSON_GetObjectItemCaseSensitive(get(path), key);
}

static int teardown_all(void **state)
{
	cJSON_Delete(parsed);
	parsed = NULL;
	return teardown(state);
}

#define SPAN(id, parent, trace, service, start, duration, more)                                    \
	"{'id':'" id "','parentId':'" parent "','traceId':'" trace "','service':'" service         \
	"','operation':'GET /','startTime':" start ",'duration':" duration more "}"

static void a_posted_trace_is_shown_parents_first(void **state)
{
	const cJSON *s;

	assert_int_equal(
		call("POST", "/api/spans",
		     "[" SPAN("c", "b", "order-17", "database", "1700000000010.25", "5",
			      "") "," SPAN("b", "a", "order-17", "backend", "1700000000005", "20",
					   ",'statusCode':404") "]"),
		200);
	assert_body("{'success':true,'accepted':2}");
	assert_int_equal(call("POST", "/api/spans",
			      "{'spanId':'a','parentSpanId':'outside','traceId':'order-17',"
			      "'service':'frontend','operation':'GET /','startTime':"
			      "'2023-11-14T22:13:20.001Z','duration':30.5}"),
			 200);
	s = list("/api/traces/order-17", "spans");
	assert_int_equal(cJSON_GetArraySize(s), 3);
	s = s->child;
	assert_string_equal(json_str(s, "id", ""), "a");
	assert_true(cJSON_IsNull(cJSON_GetObjectItem(s, "parentId")));
	assert_string_equal(json_str(s, "remoteParentId", ""), "outside");
	assert_float_equal(json_num(s, "startTime", 0), 1700000000001.0, 0.001);
	assert_float_equal(json_num(s, "duration", 0), 30.5, 0);
	s = s->next;
	assert_string_equal(json_str(s, "parentId", ""), "a");
	assert_true(json_bool(s, "error", 0));
	assert_string_equal(json_str(s->next, "parentId", ""), "b");
	assert_float_equal(json_num(s->next, "startTime", 0), 1700000000010.25, 0.0001);
	assert_false(json_bool(s->next, "error", 1));
}

static void only_what_is_known_is_taken(void **state)
{
	static const struct {
		const char *body, *field;
	} bad[] = {
		{"{'id':'a','traceId':'t','service':'s','operation':'o','startTime':1,'duration':1,"
		 "'colour':'red'}",
		 "'field':'colour'"},
		{"[" SPAN("a", "", "t", "s", "1", "1", "") "," SPAN("b", "", "t", "s", "1", "1",
								    ",'x':1") "]",
		 "'field':'[1].x'"},
		{SPAN("a", "", "", "s", "1", "1", ""), "'field':'traceId'"},
		{SPAN("a b", "", "t", "s", "1", "1", ""), "'field':'id'"},
		{SPAN("a", "", "t/u", "s", "1", "1", ""), "'field':'traceId'"},
		{SPAN("a", "", "t", "-s", "1", "1", ""), "'field':'service'"},
		{SPAN("a", "", "t", "s", "-1", "1", ""), "'field':'startTime'"},
		{SPAN("a", "", "t", "s", "'yesterday'", "1", ""), "'field':'startTime'"},
		{SPAN("a", "", "t", "s", "1e17", "1", ""), "'field':'startTime'"},
		{SPAN("a", "", "t", "s", "1", "-1", ""), "'field':'duration'"},
		{SPAN("a", "", "t", "s", "1", "1", ",'statusCode':1000"), "'field':'statusCode'"},
		{SPAN("a", "", "t", "s", "1", "1", ",'error':'yes'"), "'field':'error'"},
		{SPAN("a", "", "t", "s", "1", "1", ",'spanId':'b'"), "both spanId and id"},
		{"{'id':'a','traceId':'t','service':'s','operation':'o','duration':1}",
		 "'field':'startTime'"},
		{"'text'", "must be an object"},
		{"[1]", "'field':'[0]'"},
		{"{'id':", "malformed JSON"},
		{"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]",
		 "nested too deeply"},
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		assert_int_equal(call("POST", "/api/spans", bad[i].body), 400);
		assert_body(bad[i].field);
	}
	assert_int_equal(call("GET", "/api/traces/t", NULL), 404);
	assert_body("sampled traces and those with an error");
	assert_int_equal(call("POST", "/api/spans", "[]"), 200);
	assert_body("'accepted':0");
}

/* Ids of the traces of a list, in its order, with a space behind each. */
static const char *ids(const char *path)
{
	static char text[512];
	const cJSON *t;

	text[0] = '\0';
	cJSON_ArrayForEach (t, list(path, "traces"))
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s ",
			 json_str(t, "traceId", "?"));
	return text;
}

static void traces_are_found_by_what_they_were(void **state)
{
	const cJSON *t;

	assert_int_equal(
		call("POST", "/api/spans",
		     "[" SPAN("1", "", "second", "frontend", "1700000002000", "50", "") "," SPAN(
			     "1", "", "first", "frontend", "1700000001000", "500",
			     "") "," SPAN("2", "1", "first", "backend", "1700000001001", "400",
					  ",'source':'frontend','statusCode':"
					  "503") "," SPAN("1", "", "third", "backend",
							  "1700000003000", "2000",
							  ",'source':'"
							  "gateway'") "]"),
		200);
	assert_string_equal(ids("/api/traces"), "third second first ");
	assert_string_equal(ids("/api/traces?limit=2"), "third second ");
	assert_string_equal(ids("/api/traces?service=backend"), "third first ");
	assert_string_equal(ids("/api/traces?service=nobody"), "");
	assert_string_equal(ids("/api/traces?source=frontend"), "first ");
	assert_string_equal(ids("/api/traces?service=backend&source=gateway"), "third ");
	assert_string_equal(ids("/api/traces?source=front"), "");
	assert_string_equal(ids("/api/traces?error=true"), "first ");
	assert_string_equal(ids("/api/traces?error=false"), "third second ");
	assert_string_equal(ids("/api/traces?error=true&service=backend"), "first ");
	assert_string_equal(ids("/api/traces?min=500ms"), "third first ");
	assert_string_equal(ids("/api/traces?min=500.5"), "third ");
	assert_string_equal(ids("/api/traces?min=1s"), "third ");
	assert_string_equal(ids("/api/traces?min=1s&service=backend"), "third ");
	assert_string_equal(ids("/api/traces?min=1s&error=true"), "");
	assert_string_equal(ids("/api/traces?min=3s"), "");
	assert_string_equal(ids("/api/traces?since=1700000002000"), "third second ");
	assert_string_equal(ids("/api/traces?since=2023-11-14T22:13:22Z"), "third second ");
	assert_string_equal(ids("/api/traces?until=1700000001000"), "first ");
	assert_string_equal(ids("/api/traces?since=10m"), "");
	t = list("/api/traces?error=true", "traces")->child;
	assert_string_equal(json_str(cJSON_GetObjectItem(t, "root"), "service", ""), "frontend");
	assert_string_equal(json_str(cJSON_GetObjectItem(t, "root"), "operation", ""), "GET /");
	assert_int_equal(json_num(t, "spans", 0), 2);
	assert_int_equal(json_num(t, "errors", 0), 1);
	assert_true(json_bool(t, "error", 0));
	assert_int_equal(json_num(t, "duration", 0), 500);
	assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(t, "services")), 2);
	assert_int_equal(call("GET", "/api/traces?limit=0", NULL), 400);
	assert_int_equal(call("GET", "/api/traces?limit=1001", NULL), 400);
	assert_int_equal(call("GET", "/api/traces?min=soon", NULL), 400);
	assert_int_equal(call("GET", "/api/traces?since=soon", NULL), 400);
	assert_int_equal(call("GET", "/api/traces?service=a/b", NULL), 400);
}

static void a_trace_is_found_under_all_its_names(void **state)
{
	char hex[33] = "", path[128];
	uint8_t bytes[16];

	trace_id_bytes("order-17", 8, bytes);
	trace_hex(hex, bytes, 16);
	snprintf(path, sizeof(path), "/api/traces/%s", hex);
	assert_int_equal(call("POST", "/api/spans",
			      SPAN("1", "", "order-17", "s", "1700000000000", "1",
				   ",'aliases':['other-name']")),
			 200);
	assert_string_equal(json_str(get(path), "traceId", ""), "order-17");
	assert_string_equal(json_str(get("/api/traces/other-name"), "traceId", ""), "order-17");
	assert_int_equal(cJSON_GetArraySize(list("/api/traces/order-17", "aliases")), 2);
	/* one alias of many traces: the newest */
	assert_int_equal(call("POST", "/api/spans",
			      SPAN("1", "", "order-18", "s", "1700000000001", "1",
				   ",'aliases':['other-name']")),
			 200);
	assert_string_equal(json_str(get("/api/traces/other-name"), "traceId", ""), "order-18");
	/* digits in either case, and B3's short form */
	assert_int_equal(call("POST", "/api/spans",
			      SPAN("1", "", "463AC35C9F6413AD", "s", "1700000000001", "1", "")),
			 200);
	get("/api/traces/0000000000000000463ac35c9f6413ad");
	get("/api/traces/463ac35c9f6413ad");
}

static void a_why_is_found_under_all_names_of_its_trace(void **state)
{
	assert_int_equal(call("POST", "/api/spans",
			      SPAN("1", "", "order-17", "s", "1700000000000", "1",
				   ",'aliases':['other-name']")),
			 200);
	assert_int_equal(call("POST", "/api/telemetry",
			      "{'node':'n','whys':[{'id':'req-1','traceId':'order-17'}]}"),
			 200);
	assert_int_equal(call("GET", "/api/why/order-17", NULL), 200);
	assert_int_equal(call("GET", "/api/why/other-name", NULL), 200);
	assert_body("'id':'req-1'");
	assert_int_equal(call("GET", "/api/why/another-name", NULL), 404);
}

static void a_span_counts_once_and_the_first_one_stays(void **state)
{
	static const char first[] = SPAN("1", "", "t", "s", "1700000000000", "7", "");
	const cJSON *spans;

	for (int i = 0; i < 3; i++)
		assert_int_equal(call("POST", "/api/spans", first), 200);
	assert_int_equal(
		call("POST", "/api/spans",
		     SPAN("1", "", "t", "another", "1600000000000", "9", ",'statusCode':500")),
		200);
	spans = list("/api/traces/t", "spans");
	assert_int_equal(cJSON_GetArraySize(spans), 1);
	assert_int_equal(json_num(spans->child, "duration", 0), 7);
	assert_string_equal(ids("/api/traces?service=another"), "");
	assert_string_equal(ids("/api/traces?error=true"), "");
	assert_int_equal(json_num(list("/api/traces", "traces")->child, "spans", 0), 1);
}

static void parents_in_a_ring_make_a_tree(void **state)
{
	const cJSON *s;
	int n = 0, roots = 0;

	assert_int_equal(
		call("POST", "/api/spans",
		     "[" SPAN("a", "c", "t", "s", "1700000000001", "1", "") "," SPAN(
			     "b", "a", "t", "s", "1700000000002", "1",
			     "") "," SPAN("c", "b", "t", "s", "1700000000003", "1",
					  "") "," SPAN("d", "b", "t", "s", "1700000000000", "1",
						       "") "," SPAN("e", "e", "t", "s",
								    "1700000000004", "1", "") "]"),
		200);
	cJSON_ArrayForEach (s, list("/api/traces/t", "spans")) {
		roots += cJSON_IsNull(cJSON_GetObjectItem(s, "parentId"));
		n++;
	}
	assert_int_equal(n, 5);
	assert_int_equal(roots, 2);
	/* whoever walks up from a span gets to an end */
	cJSON_ArrayForEach (s, list("/api/traces/t", "spans")) {
		const cJSON *at = s, *up;
		int steps = 0;

		while (at && json_str(at, "parentId", NULL)) {
			assert_true(++steps < 5);
			cJSON_ArrayForEach (up, cJSON_GetObjectItem(parsed, "spans"))
				if (!strcmp(json_str(up, "id", ""), json_str(at, "parentId", "")))
					break;
			at = up;
		}
		assert_non_null(at);
	}
}

/* A clock that is wrong must not put a trace in front of all others for years. */
static void spans_of_the_future_stand_where_they_came_in(void **state)
{
	char body[512], now[32];

	assert_int_equal(call("POST", "/api/spans",
			      SPAN("1", "", "future", "s", "'2199-01-01T00:00:00+01:00'", "5", "")),
			 200);
	snprintf(now, sizeof(now), "%llu", (unsigned long long)clock_wall_ms() + 1000);
	snprintf(body, sizeof(body), SPAN("1", "", "now", "s", "%s", "5", ""), now);
	/* its time in the list is that of its coming: later than the one before */
	while (clock_wall_ms() < strtoull(now, NULL, 10) - 990)
		;
	assert_int_equal(call("POST", "/api/spans", body), 200);
	assert_string_equal(ids("/api/traces"), "now future ");
	assert_float_equal(json_num(list("/api/traces/future", "spans")->child, "startTime", 0),
			   7226578800000.0, 0);
	assert_int_equal(call("POST", "/api/spans", SPAN("1", "", "old", "s", "0", "5", "")), 200);
	assert_string_equal(ids("/api/traces"), "now future old ");
}

/* What came first looked like the root, and was slow and elsewhere. */
static void lists_follow_the_root(void **state)
{
	assert_int_equal(
		call("POST", "/api/spans", SPAN("c", "b", "t", "s", "1700000000000", "5000", "")),
		200);
	assert_string_equal(ids("/api/traces?min=1s"), "t ");
	assert_int_equal(
		call("POST", "/api/spans", SPAN("b", "", "t", "front", "1700000009000", "10", "")),
		200);
	assert_string_equal(ids("/api/traces?min=1s"), "");
	assert_string_equal(ids("/api/traces?min=1s&service=s"), "");
	assert_string_equal(ids("/api/traces?min=10&service=s"), "t ");
	assert_string_equal(ids("/api/traces?until=1700000000000"), "");
	assert_string_equal(ids("/api/traces?since=1700000009000&service=front"), "t ");
}

/* A child's clock may be ahead of its parent's. */
static void the_root_is_the_root_though_clocks_differ(void **state)
{
	assert_int_equal(call("POST", "/api/spans",
			      "[" SPAN("c", "b", "t", "database", "1700000000000", "1",
				       "") "," SPAN("b", "a", "t", "backend", "1700000009000", "2",
						    "") "," SPAN("a", "outside", "t", "frontend",
								 "1700000005000", "3", "") "]"),
			 200);
	assert_string_equal(
		json_str(cJSON_GetObjectItem(list("/api/traces", "traces")->child, "root"),
			 "service", ""),
		"frontend");
	assert_string_equal(json_str(list("/api/traces/t", "spans")->child, "id", ""), "a");
}

static void the_same_spans_are_lines_of_a_log(void **state)
{
	const cJSON *l;

	assert_int_equal(
		call("POST", "/api/spans",
		     "[" SPAN("2", "1", "t", "backend", "1700000000002", "1",
			      ",'source':'frontend','statusCode':503,'cause':'breaker-"
			      "open',"
			      "'instance':'backend-1','tries':2,'method':'GET','path':'/"
			      "x'") "," SPAN("1", "", "t", "frontend", "1700000000001", "3",
					     "") "," SPAN("1", "", "u", "backend", "1700000000003",
							  "3", "") "]"),
		200);
	l = list("/api/logs?trace=t", "logs");
	assert_int_equal(cJSON_GetArraySize(l), 2);
	assert_string_equal(json_str(l->child, "callee", ""), "frontend");
	l = l->child->next;
	assert_string_equal(json_str(l, "time", ""), "2023-11-14T22:13:20.002Z");
	assert_string_equal(json_str(l, "caller", ""), "frontend");
	assert_string_equal(json_str(l, "endpoint", ""), "backend-1");
	assert_string_equal(json_str(l, "cause", ""), "breaker-open");
	assert_string_equal(json_str(l, "traceId", ""), "t");
	assert_string_equal(json_str(l, "spanId", ""), "2");
	assert_string_equal(json_str(l, "parentSpanId", ""), "1");
	assert_string_equal(json_str(l, "path", ""), "/x");
	assert_int_equal(json_num(l, "status", 0), 503);
	assert_int_equal(json_num(l, "tries", 0), 2);
	assert_int_equal(cJSON_GetArraySize(list("/api/logs", "logs")), 3);
	l = list("/api/logs?service=backend", "logs");
	assert_int_equal(cJSON_GetArraySize(l), 2);
	assert_string_equal(json_str(l->child->next, "traceId", ""), "u");
	assert_int_equal(cJSON_GetArraySize(list("/api/logs?service=backend&limit=1", "logs")), 1);
	assert_int_equal(cJSON_GetArraySize(list("/api/logs?error=true", "logs")), 1);
	assert_int_equal(call("GET", "/api/logs?trace=nothing", NULL), 404);
}

static void a_broken_file_is_said_and_stops_nothing(void **state)
{
	assert_int_equal(call("GET", "/health", NULL), 200);
	assert_body("'tracesError':null");
	daemon_stop();
	test_dir_write(&dir, "traces.db", "neither a database nor empty");
	daemon_start();
	assert_int_equal(call("GET", "/health", NULL), 200);
	assert_body("'status':'healthy'");
	assert_body("'tracesError':'traces.db was of no use: it is kept as traces.db.corrupt");
	assert_int_equal(call("POST", "/api/spans", SPAN("1", "", "t", "s", "1", "1", "")), 200);
	get("/api/traces/t");
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown_all)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_posted_trace_is_shown_parents_first),
		T(only_what_is_known_is_taken),
		T(traces_are_found_by_what_they_were),
		T(a_trace_is_found_under_all_its_names),
		T(a_why_is_found_under_all_names_of_its_trace),
		T(a_span_counts_once_and_the_first_one_stays),
		T(parents_in_a_ring_make_a_tree),
		T(spans_of_the_future_stand_where_they_came_in),
		T(lists_follow_the_root),
		T(the_root_is_the_root_though_clocks_differ),
		T(a_broken_file_is_said_and_stops_nothing),
		T(the_same_spans_are_lines_of_a_log),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
