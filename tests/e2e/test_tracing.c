/* SPDX-License-Identifier: Apache-2.0 */
/* The demo's four services: one request is one trace of four spans, found at once and under every
 * name; errors and slow requests are kept though nobody sampled them. */
#include "tests/e2e/harness.h"

#define WITHIN_MS 500 /* the contract's: from the answer to the trace */
#define TRACE	  "4bf92f3577b34da6a3ce929d0e0e4736"
#define OTHER	  "5bf92f3577b34da6a3ce929d0e0e4736"
#define CALLER	  "00f067aa0ba902b7"

static struct instance *database, *cache, *backend, *frontend;

static struct instance *start_demo(const char *name, const char *env, const char *flags)
{
	char cmd[512];

	snprintf(cmd, sizeof(cmd), "env %s \"$BUILD\"/demo/%s %s", env, name, flags);
	return instance_ready(instance_start(name, name, "--netns", cmd));
}

static void start_with(const char *database_flags, const char *cache_flags)
{
	char env[256];

	database = start_demo("database", "", database_flags);
	cache = start_demo("cache", "", cache_flags);
	snprintf(env, sizeof(env), "DATABASE_URL=http://%s CACHE_URL=http://%s", database->address,
		 cache->address);
	backend = start_demo("backend", env, "");
	snprintf(env, sizeof(env), "BACKEND_URL=http://%s", backend->address);
	frontend = start_demo("frontend", env, "");
}

static void start_all(void)
{
	start_with("--delay 30", "--delay 20");
}

/* The trace as meshd shows it, NULL: it has none. */
static const cJSON *spans_of(const char *id)
{
	char path[160];
	cJSON *v;

	snprintf(path, sizeof(path), "/api/traces/%s", id);
	v = api("GET", path, NULL);
	return api_status == 200 ? cJSON_GetObjectItem(v, "spans") : NULL;
}

static bool has_spans(const char *id, int n)
{
	return cJSON_GetArraySize(spans_of(id)) == n;
}

static const cJSON *span(const cJSON *spans, const char *service)
{
	const cJSON *s;

	cJSON_ArrayForEach (s, spans)
		if (!strcmp(json_str(s, "service", ""), service))
			return s;
	fail_msg("no span of %s", service);
	return NULL;
}

static bool is_null(const cJSON *v, const char *key)
{
	return cJSON_IsNull(cJSON_GetObjectItem(v, key));
}

static void assert_child(const cJSON *spans, const char *service, const char *parent)
{
	const cJSON *s = span(spans, service), *p = span(spans, parent);

	assert_string_equal(json_str(s, "parentId", ""), json_str(p, "id", "-"));
	assert_string_equal(json_str(s, "source", ""), parent);
	assert_true(json_num(s, "duration", -1) <= json_num(p, "duration", -1));
}

/* Four spans, in a tree: frontend, backend, and under that database and cache. */
static void assert_tree(const char *id)
{
	const cJSON *spans;

	eventually(WITHIN_MS, has_spans(id, 4));
	spans = spans_of(id);
	assert_true(is_null(span(spans, "frontend"), "parentId"));
	assert_string_equal(json_str(span(spans, "frontend"), "source", ""), "gateway");
	assert_ptr_equal(spans->child, span(spans, "frontend"));
	assert_child(spans, "backend", "frontend");
	assert_child(spans, "database", "backend");
	assert_child(spans, "cache", "backend");
}

static void one_request_is_four_spans(void **state)
{
	struct client *c = gateway();
	char first[64];
	const cJSON *spans;
	double root, rest;

	start_with("--delay 300", "--delay 200"); /* a fifth of it is not what a scheduler takes */
	assert_int_equal(get(c, "/frontend/"), 200);
	snprintf(first, sizeof(first), "%s", header(c, "x-trace-id"));
	assert_int_equal(strlen(first), 32);
	assert_tree(first);
	spans = spans_of(first);
	root = json_num(span(spans, "frontend"), "duration", 0);
	rest = root - json_num(span(spans, "backend"), "duration", 0);
	printf("%.1f of %.1f ms not spent in backend\n", rest, root);
	assert_true(rest >= 0 && rest < 0.2 * root);
	assert_int_equal(json_num(span(spans, "frontend"), "statusCode", 0), 200);
	assert_int_equal(json_num(span(spans, "cache"), "tries", 0), 1);
	/* the next one is another trace, and nothing more came to the first */
	assert_int_equal(get(c, "/frontend/"), 200);
	assert_string_not_equal(header(c, "x-trace-id"), first);
	assert_tree(header(c, "x-trace-id"));
	assert_true(has_spans(first, 4));
}

static void found_by_what_its_caller_called_it(void **state)
{
	static const struct {
		const char *headers, *name, *digits;
	} forms[] = {
		{"traceparent: 00-" TRACE "-" CALLER "-01", TRACE, TRACE},
		{"b3: a"
		 "0af7651916cd43dd8448eb211c80319-" CALLER "-1",
		 "a0af7651916cd43dd8448eb211c80319", "a0af7651916cd43dd8448eb211c80319"},
		{"X-B3-TraceId: 463ac35c9f6413ad\r\nX-B3-SpanId: " CALLER "\r\nX-B3-Sampled: 1",
		 "463ac35c9f6413ad", "0000000000000000463ac35c9f6413ad"},
		{"x-trace-id: order-17\r\nx-span-id: " CALLER, "order-17", NULL},
	};
	struct client *c = gateway();
	const cJSON *v, *root;
	char digits[64];

	start_all();
	for (size_t i = 0; i < sizeof(forms) / sizeof(*forms); i++) {
		say(c, "GET /frontend/ HTTP/1.1\r\nHost: g\r\n%s\r\n\r\n", forms[i].headers);
		assert_int_equal(answer(c, "GET"), 200);
		assert_tree(forms[i].name);
		root = span(spans_of(forms[i].name), "frontend");
		assert_string_equal(json_str(root, "remoteParentId", ""), CALLER);
		snprintf(digits, sizeof(digits), "/api/traces/%s", forms[i].name);
		v = cJSON_GetObjectItem(api("GET", digits, NULL), "aliases");
		snprintf(digits, sizeof(digits), "%s",
			 forms[i].digits ? forms[i].digits : v->child->valuestring);
		assert_int_equal(strlen(digits), 32);
		assert_true(has_spans(digits, 4));
	}
}

/* Forms that disagree: traceparent decides, and the trace is found by the other's name, too. */
static void an_alias_finds_it_too(void **state)
{
	struct client *c = gateway();

	start_all();
	say(c, "GET /frontend/ HTTP/1.1\r\nHost: g\r\ntraceparent: 00-" OTHER "-" CALLER
	       "-01\r\nx-trace-id: order-18\r\n\r\n");
	assert_int_equal(answer(c, "GET"), 200);
	assert_tree(OTHER);
	assert_tree("order-18");
}

static void an_application_adds_its_own_spans(void **state)
{
	struct client *c = gateway();
	char body[512];
	const cJSON *spans;

	start_all();
	say(c, "GET /frontend/ HTTP/1.1\r\nHost: g\r\nx-trace-id: order-19\r\n\r\n");
	assert_int_equal(answer(c, "GET"), 200);
	assert_tree("order-19");
	snprintf(body, sizeof(body),
		 "{\"spanId\":\"render\",\"parentSpanId\":\"%s\",\"traceId\":\"order-19\","
		 "\"service\":\"frontend\",\"operation\":\"render\",\"startTime\":%llu,"
		 "\"duration\":1}",
		 json_str(span(spans_of("order-19"), "frontend"), "id", ""),
		 (unsigned long long)clock_wall_ms());
	api("POST", "/api/spans", body);
	assert_int_equal(api_status, 200);
	spans = spans_of("order-19");
	assert_int_equal(cJSON_GetArraySize(spans), 5);
	assert_string_equal(json_str(cJSON_GetArrayItem(spans, 4), "parentId", ""),
			    json_str(spans->child, "id", "-"));
}

/* At 0 % nothing is sampled. What fails is there as a whole: with the call that went well, which
 * the agent had kept in case. */
static void errors_are_kept_whatever_is_sampled(void **state)
{
	struct client *c = gateway();
	char good[64], bad[64];
	const cJSON *spans;

	start_with("--delay 30", "--fail 100");
	configure("frontend", "{\"tracing\":{\"sampling\":0},\"retry\":{\"attempts\":0}}");
	configure("backend", "{\"retry\":{\"attempts\":0}}");
	configure("database", "{\"tracing\":{\"sampling\":0}}");
	assert_int_equal(get(c, "/database/"), 200);
	snprintf(good, sizeof(good), "%s", header(c, "x-trace-id"));
	assert_int_equal(get(c, "/frontend/"), 502);
	snprintf(bad, sizeof(bad), "%s", header(c, "x-trace-id"));
	eventually(5000, has_spans(bad, 4));
	spans = spans_of(bad);
	assert_true(json_bool(span(spans, "frontend"), "error", 0));
	assert_true(json_bool(span(spans, "cache"), "error", 0));
	assert_int_equal(json_num(span(spans, "database"), "statusCode", 0), 200);
	assert_child(spans, "database", "backend");
	assert_null(spans_of(good));
}

/* What the mesh answers itself is a trace too, also where nobody was meant. */
static void answers_of_the_mesh_are_traces(void **state)
{
	struct client *c = gateway();
	const cJSON *s;

	assert_int_equal(get(c, "/nobody-has-that-name"), 404);
	eventually(WITHIN_MS, has_spans(header(c, "x-trace-id"), 1));
	s = spans_of(header(c, "x-trace-id"))->child;
	assert_string_equal(json_str(s, "source", ""), "gateway");
	assert_string_equal(json_str(s, "cause", ""), "no-route");
	assert_int_equal(json_num(s, "statusCode", 0), 404);
}

static void slow_requests_are_kept_whatever_is_sampled(void **state)
{
	struct client *c = gateway();

	start_demo("database", "", "--delay 1100");
	configure("database", "{\"tracing\":{\"sampling\":0}}");
	assert_int_equal(get(c, "/database/"), 200);
	eventually(WITHIN_MS, has_spans(header(c, "x-trace-id"), 1));
}

static void what_is_stored_is_there_after_a_kill(void **state)
{
	struct client *c = gateway();
	char id[64];

	start_all();
	assert_int_equal(get(c, "/frontend/"), 200);
	snprintf(id, sizeof(id), "%s", header(c, "x-trace-id"));
	assert_tree(id);
	meshd_stop(SIGKILL);
	meshd_start();
	assert_true(has_spans(id, 4));
}

static void it_is_also_a_log_and_a_waterfall(void **state)
{
	struct client *c = gateway();
	char id[64], path[128];
	struct output *o;

	start_all();
	assert_int_equal(get(c, "/frontend/"), 200);
	snprintf(id, sizeof(id), "%s", header(c, "x-trace-id"));
	assert_tree(id);
	snprintf(path, sizeof(path), "/api/logs?trace=%s", id);
	assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(api("GET", path, NULL), "logs")),
			 4);
	o = sh("meshctl trace show %s", id);
	assert_int_equal(o->status, 0);
	assert_non_null(strstr(o->out, "database"));
	o = sh("meshctl log --trace %s", id);
	assert_int_equal(o->status, 0);
	assert_non_null(strstr(o->out, "cache"));
	o = sh("meshctl trace list --service backend");
	assert_int_equal(o->status, 0);
	assert_non_null(strstr(o->out, id));
}

int main(void)
{
	const struct CMUnitTest stories[] = {
		STORY(one_request_is_four_spans),
		STORY(found_by_what_its_caller_called_it),
		STORY(an_alias_finds_it_too),
		STORY(an_application_adds_its_own_spans),
		STORY(errors_are_kept_whatever_is_sampled),
		STORY(answers_of_the_mesh_are_traces),
		STORY(slow_requests_are_kept_whatever_is_sampled),
		STORY(what_is_stored_is_there_after_a_kill),
		STORY(it_is_also_a_log_and_a_waterfall),
	};

	return RUN(stories);
}
