/* SPDX-License-Identifier: Apache-2.0 */
/* Which spans are kept, and what agents are asked for: the tail decision of meshd. */
#include "ctl/meshd/otlp/otlp.h"
#include "ctl/meshd/traces/span.h"
#include "tests/unit/traces_rig.h"

#include <math.h>
#include <signal.h>
#include <sys/resource.h>

static int setup_store(void **state)
{
	setup_dir(state);
	store_start(0, 0);
	return 0;
}

/* How many ids the node is told; of them the last. */
static int wanted(const char *node, char last[64])
{
	cJSON *list = cJSON_CreateArray();
	int n;

	traces_want(store, node, list);
	n = cJSON_GetArraySize(list);
	if (n && last)
		snprintf(last, 64, "%s", cJSON_GetArrayItem(list, n - 1)->valuestring);
	cJSON_Delete(list);
	return n;
}

#define HEX "4bf92f3577b34da6a3ce929d0e0e4736"

static void a_sampled_span_is_kept_and_nothing_is_asked_for(void **state)
{
	assert_int_equal(TAKE(.trace = HEX, .id = "1"), 0);
	assert_int_equal(spans_of(HEX), 1);
	assert_int_equal(wanted("n", NULL), 0);
}

static void what_nobody_sampled_goes_and_is_counted(void **state)
{
	assert_int_equal(TAKE(.trace = HEX, .id = "1", .unsampled = true), 0);
	assert_int_equal(spans_of(HEX), -1);
	assert_int_equal(counts().held, 1);
	assert_int_equal(counts().undecided, 0);
	traces_sweep(store, 60000);
	assert_int_equal(counts().held, 0);
	assert_int_equal(counts().undecided, 1);
	assert_int_equal(counts().stored, 0);
}

static void an_error_keeps_the_whole_trace(void **state)
{
	char last[64];

	assert_int_equal(TAKE(.trace = HEX, .id = "1", .unsampled = true), 0);
	assert_int_equal(TAKE(.trace = "another", .id = "1", .unsampled = true), 0);
	assert_int_equal(
		TAKE(.trace = HEX, .id = "2", .parent = "1", .unsampled = true, .status = 503), 0);
	assert_int_equal(spans_of(HEX), 2);
	assert_int_equal(wanted("n", last), 1);
	assert_string_equal(last, HEX);
	/* what the agents send now */
	assert_int_equal(TAKE(.trace = HEX, .id = "3", .parent = "1", .unsampled = true), 0);
	assert_int_equal(spans_of(HEX), 3);
	assert_int_equal(spans_of("another"), -1);
}

static void a_slow_span_keeps_the_whole_trace(void **state)
{
	char last[64];

	assert_int_equal(TAKE(.trace = "order-17", .id = "1", .unsampled = true, .duration = 999),
			 0);
	assert_int_equal(spans_of("order-17"), -1);
	assert_int_equal(TAKE(.trace = "order-17", .id = "2", .unsampled = true, .duration = 1000),
			 0);
	assert_int_equal(spans_of("order-17"), 2);
	assert_int_equal(wanted("n", last), 1);
	assert_int_equal(strlen(last), 32); /* agents are asked by the digits */
}

/* Status 200, and yet it did not come to its end. Not when the caller did not want the rest. */
static void an_answer_that_was_cut_off_keeps_its_trace(void **state)
{
	for (int gone = 0; gone < 2; gone++) {
		cJSON *list = cJSON_CreateArray();
		cJSON *v = span_made(&(struct made){
			.trace = gone ? "left" : "cut", .id = "1", .unsampled = true});

		cJSON_AddStringToObject(v, "cause", "upstream-reset");
		cJSON_AddBoolToObject(v, "clientGone", gone);
		cJSON_AddItemToArray(list, v);
		assert_int_equal(traces_take(store, list, "n", 1000), 0);
		cJSON_Delete(list);
	}
	assert_int_equal(spans_of("cut"), 1);
	assert_int_equal(spans_of("left"), -1);
}

/* An agent's flag says what is slow for it. */
static void what_an_agent_calls_slow_is_slow(void **state)
{
	cJSON *list = cJSON_CreateArray();
	cJSON *v = span_made(&(struct made){.trace = HEX, .id = "1", .unsampled = true});

	cJSON_AddBoolToObject(v, "slow", true);
	cJSON_AddItemToArray(list, v);
	assert_int_equal(traces_take(store, list, "n", 1000), 0);
	cJSON_Delete(list);
	assert_int_equal(spans_of(HEX), 1);
	assert_int_equal(wanted("n", NULL), 1);
}

static void every_node_is_told_once_and_again_a_second_later(void **state)
{
	assert_int_equal(TAKE(.trace = HEX, .id = "1", .unsampled = true, .status = 500), 0);
	assert_int_equal(wanted("a", NULL), 1);
	assert_int_equal(wanted("a", NULL), 0);
	assert_int_equal(wanted("b", NULL), 1);
	traces_sweep(store, 1000 + 999);
	assert_int_equal(wanted("a", NULL), 0);
	traces_sweep(store, 1000 + 1000);
	assert_int_equal(wanted("a", NULL), 1);
	/* nobody has the spans any more */
	traces_sweep(store, 1000 + TRACES_WANT_MS);
	assert_int_equal(wanted("c", NULL), 0);
}

/* Failed ones, in one call: as many calls would outrun a slow disk. */
static void take_failed(int n)
{
	cJSON *list = cJSON_CreateArray();
	char trace[32];

	for (int i = 0; i < n; i++) {
		snprintf(trace, sizeof(trace), "t%d", i);
		cJSON_AddItemToArray(
			list,
			span_made(&(struct made){
				.trace = trace, .id = "1", .unsampled = true, .status = 500}));
	}
	assert_int_equal(traces_take(store, list, "n", 1000), 0);
	cJSON_Delete(list);
}

static void what_is_asked_for_has_a_limit(void **state)
{
	take_failed(TRACES_WANT_MAX + 100);
	assert_int_equal(counts().unwanted, 100);
	assert_int_equal(counts().stored, TRACES_WANT_MAX + 100);
	assert_int_equal(wanted("n", NULL), TRACES_WANT_MAX);
	traces_sweep(store, 1000 + TRACES_WANT_MS);
	assert_int_equal(TAKE(.trace = "later", .id = "1", .unsampled = true, .status = 500), 0);
	assert_int_equal(wanted("n", NULL), 1);
}

static void what_waits_has_a_limit(void **state)
{
	char trace[32], pad[2000];
	struct traces_counts c;

	memset(pad, 'x', sizeof(pad) - 1);
	pad[sizeof(pad) - 1] = '\0';
	for (int i = 0; i < 10000; i++) {
		snprintf(trace, sizeof(trace), "t%d", i);
		assert_int_equal(TAKE(.trace = trace, .id = "1", .unsampled = true, .pad = pad), 0);
	}
	c = counts();
	assert_true(c.held > 1000 && c.held <= 4096);
	assert_int_equal(c.held + c.undecided, 10000);
	/* the newest still wait */
	assert_int_equal(TAKE(.trace = "t9999", .id = "2", .unsampled = true, .status = 500), 0);
	assert_int_equal(spans_of("t9999"), 2);
	assert_int_equal(TAKE(.trace = "t0", .id = "2", .unsampled = true, .status = 500), 0);
	assert_int_equal(spans_of("t0"), 1);
}

static void what_makes_no_sense_is_counted(void **state)
{
	static const char *const bad[] = {
		"1",
		"null",
		"{}",
		"{\"traceId\":1,\"id\":\"a\"}",
		"{\"traceId\":\"t\",\"id\":\"a\",\"service\":\"s\",\"startTime\":-1,\"duration\":"
		"0}",
		"{\"traceId\":\"t\",\"id\":\"a\",\"service\":\"s\",\"startTime\":1e300,"
		"\"duration\":0}",
		"{\"traceId\":\"t\",\"id\":\"a\",\"service\":\"a\\nb\",\"startTime\":1,"
		"\"duration\":0}",
		"{\"traceId\":\"t\\u0001\",\"id\":\"a\",\"service\":\"s\",\"startTime\":1,"
		"\"duration\":0}",
		"{\"traceId\":\"t\",\"id\":\"\",\"service\":\"s\",\"startTime\":1,\"duration\":0}",
		"{\"traceId\":\"t\",\"id\":\"a\",\"service\":\"s\",\"startTime\":\"1\","
		"\"duration\":0}",
	};
	cJSON *list = cJSON_CreateArray();

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		cJSON *v = cJSON_Parse(bad[i]);

		assert_non_null(v);
		cJSON_AddItemToArray(list, v);
	}
	cJSON_AddItemToArray(list, span_made(&(struct made){.trace = "good", .id = "1"}));
	assert_int_equal(traces_take(store, list, "n", 1000), sizeof(bad) / sizeof(*bad));
	assert_int_equal(traces_take(store, NULL, "n", 1000), 0);
	cJSON_Delete(list);
	assert_int_equal(counts().invalid, sizeof(bad) / sizeof(*bad));
	assert_int_equal(spans_of("good"), 1);
}

static void numbers_read_back_as_they_were(void **state)
{
	static const struct {
		double v;
		const char *text;
	} cases[] = {
		{0, "0"},	    {1, "1"},
		{-1, "-1"},	    {0.5, "0.5"},
		{-0.001, "-0.001"}, {0.01, "0.01"},
		{10, "10"},	    {1200, "1200"},
		{12.34, "12.34"},   {1763868000123.456, "1763868000123.456"},
		{0.0001, "0.0001"}, {1.0 / 3, "0.3333333333333333"},
		{1e15, "1e+15"},    {9007199254740991.0, "9007199254740991"},
		{1e300, "1e+300"},
	};
	char text[32];
	double v;

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		assert_string_equal(span_number(cases[i].v, text), cases[i].text);
	for (uint64_t x = 1; x < 200000; x++) { /* numbers of all sizes, and their thousandths */
		v = ldexp((double)(int64_t)(x * 0x9e3779b97f4a7c15u), -(int)(x % 70));
		assert_true(strtod(span_number(v, text), NULL) == v);
		v = (double)llround(v / 1000) / 1000;
		assert_true(strtod(span_number(v, text), NULL) == v);
	}
}

/* Once each, also those that waited, and also when the disk does not take them. */
static void what_is_kept_is_exported(void **state)
{
	struct otlp_config c = {.endpoint = "http://127.0.0.1:1", .batch_ms = 3600 * 1000};
	struct traces_options o = {.dir = home.path};
	struct otlp_stats n;
	char why[128];

	traces_free(&store);
	assert_int_equal(otlp_new(&c, &o.otlp, why, sizeof(why)), 0);
	assert_int_equal(traces_new(&o, &store), 0);
	for (int i = 0; i < 2; i++) { /* the agent sends a batch again */
		assert_int_equal(TAKE(.trace = HEX, .id = "00f067aa0ba902b7"), 0);
		assert_int_equal(TAKE(.trace = "t", .id = "00f067aa0ba902b8", .unsampled = true),
				 0);
	}
	otlp_count(o.otlp, &n);
	assert_int_equal(n.queued + n.dropped, 1);
	assert_int_equal(
		TAKE(.trace = "t", .id = "00f067aa0ba902b9", .unsampled = true, .status = 500), 0);
	otlp_count(o.otlp, &n);
	assert_int_equal(n.queued + n.dropped, 3);
	traces_free(&store);
	o.dir = NULL;
	assert_int_equal(traces_new(&o, &store), 0);
	assert_int_equal(TAKE(.trace = HEX, .id = "00f067aa0ba902c0"), -EIO);
	assert_int_equal(TAKE(.trace = HEX, .id = "00f067aa0ba902c1", .unsampled = true), -EIO);
	otlp_count(o.otlp, &n);
	assert_int_equal(n.queued, 4);
	assert_int_equal(n.dropped, 0);
	traces_free(&store);
	otlp_free(&o.otlp);
}

static unsigned waiting(struct otlp *o)
{
	struct otlp_stats n;

	otlp_count(o, &n);
	return n.queued;
}

static int take_of_application(const char *trace, const char *id)
{
	cJSON *list = cJSON_CreateArray();
	int r;

	cJSON_AddItemToArray(list, span_made(&(struct made){.trace = trace, .id = id}));
	r = traces_take(store, list, NULL, 1000);
	cJSON_Delete(list);
	return r;
}

/* Who is told that nothing was stored sends it again: an application, not an agent. */
static void what_comes_again_is_exported_once(void **state)
{
	struct otlp_config c = {.endpoint = "http://127.0.0.1:1", .batch_ms = 3600 * 1000};
	struct traces_options o = {.dir = home.path};
	struct rlimit before, small;
	char why[128];

	traces_free(&store);
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(otlp_new(&c, &o.otlp, why, sizeof(why)), 0);
	assert_int_equal(traces_new(&o, &store), 0);
	assert_int_equal(TAKE(.trace = "t", .id = "1", .unsampled = true), 0);
	assert_int_equal(TAKE(.trace = "held", .id = "1", .unsampled = true), 0);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	small = before;
	small.rlim_cur = (rlim_t)file_size("traces.db-wal"); /* that is: the disk is full */
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	assert_int_equal(take_of_application("t", "2"), -EIO);
	assert_int_equal(waiting(o.otlp), 0);
	assert_int_equal(counts().failed, 2); /* and the one that had waited for it */
	assert_int_equal(counts().held, 1);
	assert_int_equal(TAKE(.trace = "agent", .id = "1"), -EIO);
	assert_int_equal(waiting(o.otlp), 1);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	assert_int_equal(take_of_application("t", "2"), 0);
	assert_int_equal(take_of_application("t", "2"), 0);
	assert_int_equal(waiting(o.otlp), 2);
	traces_free(&store);
	o.dir = NULL;
	assert_int_equal(traces_new(&o, &store), 0);
	assert_int_equal(take_of_application("t", "3"), -EIO);
	assert_int_equal(waiting(o.otlp), 2);
	traces_free(&store);
	otlp_free(&o.otlp);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup_store, teardown_dir)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_sampled_span_is_kept_and_nothing_is_asked_for),
		T(what_nobody_sampled_goes_and_is_counted),
		T(an_error_keeps_the_whole_trace),
		T(a_slow_span_keeps_the_whole_trace),
		T(what_an_agent_calls_slow_is_slow),
		T(an_answer_that_was_cut_off_keeps_its_trace),
		T(every_node_is_told_once_and_again_a_second_later),
		T(what_is_asked_for_has_a_limit),
		T(what_waits_has_a_limit),
		T(what_makes_no_sense_is_counted),
		T(what_is_kept_is_exported),
		T(what_comes_again_is_exported_once),
		T(numbers_read_back_as_they_were),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
