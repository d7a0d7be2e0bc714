/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What passes is measured once: the same request has the same numbers in its span, in the access
 * log, in the windows, on the map and in the agent's metrics, also when meshd is killed meanwhile.
 */
#include "tests/e2e/harness.h"

#include <math.h>

#define LOG    SCRATCH "/access.log"
#define ERRORS 0.05 /* of a quantile, as lib/histogram.h promises */

static char service[32];
static unsigned services;
static struct instance *a, *b;
static struct client *c;

/* Without a request: each is counted. */
static void start_both(void)
{
	snprintf(service, sizeof(service), "ledger%u", services++);
	a = instance_start(service, "a", "--netns", "origin --port 8000");
	b = instance_start(service, "b", "--netns", "origin --port 8000");
	instance_ready(a);
	instance_ready(b);
	c = gateway();
}

static long arrived(void)
{
	return origin_stat(a, "requests") + origin_stat(b, "requests");
}

/* --- one look at each side ------------------------------------------------------------ */

/* Of the last hour; NULL: not known yet. */
static const cJSON *window(void)
{
	char path[128];

	snprintf(path, sizeof(path), "/api/metrics/%s?window=1h&granularity=1h", service);
	return api("GET", path, NULL);
}

static double counted(void)
{
	return json_num(window(), "requests", 0);
}

static const cJSON *edge(const char *source)
{
	const cJSON *e;

	cJSON_ArrayForEach (e,
			    cJSON_GetObjectItem(api("GET", "/api/graph?window=1h", NULL), "edges"))
		if (!strcmp(json_str(e, "destination", ""), service) &&
		    !strcmp(json_str(e, "source", ""), source))
			return e;
	return NULL;
}

static const cJSON *span_of(const char *trace)
{
	char path[128];
	const cJSON *spans;

	snprintf(path, sizeof(path), "/api/traces/%s", trace);
	spans = cJSON_GetObjectItem(api("GET", path, NULL), "spans");
	return cJSON_GetArraySize(spans) == 1 ? cJSON_GetArrayItem(spans, 0) : NULL;
}

static cJSON *log_line(const char *trace)
{
	const char *line = sh("grep -F '\"traceId\":\"%s\"' " LOG, trace)->out;

	return json_parse(line, strlen(line), NULL);
}

static double agent_sum(const char *name)
{
	char destination[64];
	double v;

	snprintf(destination, sizeof(destination), "destination=\"%s\"", service);
	v = metric(name, "source=\"gateway\"", destination, NULL);
	return v < 0 ? 0 : v;
}

/* --- the same numbers ----------------------------------------------------------------- */

static const struct {
	const char *query;
	int status;
} requests[] = {{"?len=1000", 200},
		{"?delay=20", 200},
		{"?delay=60&len=7", 200},
		{"?status=404", 404},
		{"?status=500&delay=10", 500},
		{"?status=201&len=0", 201},
		{"?delay=250&len=50000", 200},
		{"?status=503", 503},
		{"", 200},
		{"?abort=1", 502}};
#define REQUESTS (sizeof(requests) / sizeof(*requests))

static void trace_id(char out[40], size_t i)
{
	snprintf(out, 40, "%s-entry-%zu", service, i);
}

static void send_all(void)
{
	char target[128], extra[128], trace[40];

	for (size_t i = 0; i < REQUESTS; i++) {
		trace_id(trace, i);
		snprintf(target, sizeof(target), "/%s/items%s", service, requests[i].query);
		snprintf(extra, sizeof(extra), "x-trace-id: %s", trace);
		assert_int_equal(get_with(c, extra, target), requests[i].status);
	}
}

static void assert_same_number(const cJSON *x, const cJSON *y, const char *key, const char *of_y)
{
	double m = json_num(x, key, -1), n = json_num(y, of_y, -2);

	if (fabs(m - n) > 0.0011) /* each is rounded to a microsecond */
		fail_msg("%s: %.17g is not %.17g", key, m, n);
}

static void assert_same_text(const cJSON *x, const cJSON *y, const char *key, const char *of_y)
{
	assert_string_equal(json_str(x, key, "?"), json_str(y, of_y, "-"));
}

static void assert_span_is_line(const cJSON *span, const cJSON *line)
{
	static const char *const numbers[][2] = {{"statusCode", "status"}, {"duration", "duration"},
						 {"head", "head"},	   {"upstream", "upstream"},
						 {"bytesIn", "bytesIn"},   {"bytesOut", "bytesOut"},
						 {"tries", "tries"}};
	static const char *const texts[][2] = {
		{"id", "spanId"},	   {"service", "callee"},  {"source", "caller"},
		{"path", "path"},	   {"method", "method"},   {"host", "host"},
		{"cause", "cause"},	   {"version", "version"}, {"instance", "endpoint"},
		{"requestId", "requestId"}};

	for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++)
		assert_same_number(span, line, numbers[i][0], numbers[i][1]);
	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++)
		assert_same_text(span, line, texts[i][0], texts[i][1]);
}

static int by_value(const void *x, const void *y)
{
	double m = *(const double *)x, n = *(const double *)y;

	return (m > n) - (m < n);
}

/* The value that so many of them do not exceed, as a histogram says it: of a rank, not between two.
 */
static void assert_quantile(double got, double *durations, size_t n, double q)
{
	size_t rank = (size_t)ceil(q * (double)n);
	double want = durations[(rank ? rank : 1) - 1];

	if (fabs(got - want) > ERRORS * want)
		fail_msg("the quantile %g is %g, not %g", q, got, want);
}

static void assert_windows(const cJSON *w, const cJSON *e, double *durations, unsigned errors)
{
	double n = (double)REQUESTS;

	assert_true(json_num(w, "requests", -1) == n);
	assert_true(json_num(w, "errors", -1) == errors);
	assert_true(fabs(json_num(w, "errorRate", -1) - errors / n) < 1e-5);
	qsort(durations, REQUESTS, sizeof(*durations), by_value);
	assert_quantile(json_num(w, "p50Latency", -1), durations, REQUESTS, 0.50);
	assert_quantile(json_num(w, "p95Latency", -1), durations, REQUESTS, 0.95);
	assert_quantile(json_num(w, "p99Latency", -1), durations, REQUESTS, 0.99);
	assert_non_null(e);
	assert_same_number(e, w, "requests", "requests");
	assert_same_number(e, w, "errorRate", "errorRate");
	assert_same_number(e, w, "p50", "p50Latency");
	assert_same_number(e, w, "p99", "p99Latency");
}

static void restart_with_log(void)
{
	agent_stop(SIGTERM);
	agent_start("--access-log " LOG);
}

static void every_side_says_the_same(void **state)
{
	double durations[REQUESTS], sum = 0, in = 0, out = 0;
	char trace[40];
	unsigned errors = 0;

	restart_with_log();
	start_both();
	send_all();
	eventually(5000, counted() >= REQUESTS);
	for (size_t i = 0; i < REQUESTS; i++) {
		const cJSON *span;
		cJSON *line = NULL;

		trace_id(trace, i);
		eventually(2000, (span = span_of(trace)) != NULL);
		eventually(2000, (line = log_line(trace)) != NULL);
		assert_true(json_num(span, "statusCode", -1) == requests[i].status);
		assert_int_equal(json_bool(span, "error", -1), requests[i].status >= 400);
		assert_span_is_line(span, line);
		durations[i] = json_num(span, "duration", -1);
		sum += durations[i];
		in += json_num(span, "bytesIn", 0);
		out += json_num(span, "bytesOut", 0);
		errors += requests[i].status >= 500;
		cJSON_Delete(line);
	}
	assert_windows(window(), edge("gateway"), durations, errors);
	assert_true(json_num(window(), "bytesIn", -1) == in);
	assert_true(json_num(window(), "bytesOut", -1) == out);
	assert_true(agent_sum("mesh_requests_total") == REQUESTS);
	assert_true(agent_sum("mesh_request_duration_seconds_count") == REQUESTS);
	assert_true(fabs(agent_sum("mesh_request_duration_seconds_sum") * 1000 - sum) < 0.02);
}

/* --- answers that no endpoint gave --------------------------------------------------------- */

static double agent_count(const char *code, const char *cause)
{
	char destination[64], c1[32], c2[64];
	double v;

	snprintf(destination, sizeof(destination), "destination=\"%s\"", service);
	snprintf(c1, sizeof(c1), "code=\"%s\"", code);
	snprintf(c2, sizeof(c2), "cause=\"%s\"", cause);
	v = metric("mesh_requests_total", "source=\"shopper\"", destination, c1, c2, NULL);
	return v < 0 ? 0 : v;
}

/* Span and line of one that has ended so. */
static void assert_ended(const char *trace, int status, const char *cause)
{
	const cJSON *span;
	cJSON *line = NULL;

	eventually(2000, (span = span_of(trace)) != NULL);
	eventually(2000, (line = log_line(trace)) != NULL);
	if (json_num(span, "statusCode", -1) != status)
		fail_msg("not %d: %s", status, cJSON_Print(span));
	assert_string_equal(json_str(span, "cause", "?"), cause);
	assert_string_equal(json_str(span, "source", "?"), "shopper");
	assert_true(json_bool(span, "error", 0));
	assert_span_is_line(span, line);
	cJSON_Delete(line);
}

/* A caller that is a workload; its requests are tried in vain, and refused. */
static void failures_are_the_same_everywhere(void **state)
{
	struct caller *shopper;
	const cJSON *e;

	restart_with_log();
	start_both();
	shopper = caller_start("shopper", "--netns");
	configure(service, "{\"timeouts\":{\"try\":\"200ms\"},\"retry\":{\"attempts\":1,\"on\":["
			   "\"try-timeout\"],\"backoff\":\"1ms\"}}");
	c = call(shopper, a->address);
	assert_int_equal(get_with(c, "x-trace-id: in-vain", "/?hang=1"), 504);
	assert_int_equal(sh("meshctl drain %s a && meshctl drain %s b", service, service)->status,
			 0);
	eventually(2000, !strcmp(endpoint_status(service, "a"), "draining") &&
				 !strcmp(endpoint_status(service, "b"), "draining"));
	settled();
	c = call(shopper, a->address);
	assert_int_equal(get_with(c, "x-trace-id: refused", "/"), 503);

	assert_ended("in-vain", 504, "try-timeout");
	assert_ended("refused", 503, "no-healthy-endpoint");
	eventually(2000, counted() == 2);
	assert_true(json_num(window(), "errors", -1) == 2);
	e = edge("shopper");
	assert_non_null(e);
	assert_true(json_num(e, "requests", -1) == 2);
	assert_true(json_num(e, "errorRate", -1) == 1);
	assert_true(agent_count("504", "try-timeout") == 1);
	assert_true(agent_count("503", "no-healthy-endpoint") == 1);
}

/* --- the row "RED" of the contract ---------------------------------------------------- */

#define FAST	100
#define SLOW	50
#define FAILING 20
#define ALL	(FAST + SLOW + FAILING)

static int by_number(const void *x, const void *y)
{
	const double *m = x, *n = y;

	return (*m > *n) - (*m < *n);
}

/* The bound for the median is 50 ms, or what the caller itself has seen where the machine was busy:
 * each request took the caller at least as long as the mesh. */
static void rate_errors_and_duration(void **state)
{
	static struct client *all[ALL];
	static double took[ALL];
	const cJSON *w;
	char path[128];

	start_both();
	for (size_t i = 0; i < ALL; i++)
		all[i] = gateway();
	for (size_t i = 0; i < ALL; i++) {
		/* Those that fail are answered first, and open the breaker: the others are past it.
		 */
		if (i == FAST + SLOW)
			eventually(5000, arrived() >= FAST + SLOW);
		took[i] = -(double)now_us() / 1000;
		say(all[i], "GET /%s/?%s HTTP/1.1\r\nHost: g\r\n\r\n", service,
		    i < FAST	      ? "delay=10"
		    : i < FAST + SLOW ? "delay=500"
				      : "status=500");
	}
	for (size_t i = 0; i < ALL; i++) {
		int status = answer(all[i], "GET");

		if (i < FAST + SLOW ? status != 200 : status != 500 && status != 503)
			fail_msg("request %zu: %d", i, status);
		took[i] += (double)now_us() / 1000;
	}
	qsort(took, ALL, sizeof(*took), by_number);
	eventually(2000, counted() == ALL);
	snprintf(path, sizeof(path), "/api/metrics/%s?window=1m", service);
	w = api("GET", path, NULL);
	assert_true(fabs(json_num(w, "errorRate", -1) - 0.118) <= 0.005);
	assert_true(json_num(w, "rate", -1) > 2);
	printf("median: %.1f ms, %.1f for the caller\n", json_num(w, "p50Latency", -1),
	       took[(ALL) / 2]);
	assert_true(json_num(w, "p50Latency", -1) < fmax(50, took[(ALL) / 2] * (1 + ERRORS)));
	assert_true(json_num(w, "p99Latency", -1) > 400);
}

/* --- meshd dies under load ------------------------------------------------------------ */

#define RATE 1000

/* Killed at moments of which none is better than another: with a batch in its hands or without. */
static void kill_meshd(int times)
{
	for (int i = 0; i < times; i++) {
		long before = arrived();

		eventually(10000, arrived() > before + RATE / 3 + i * 37);
		meshd_stop(SIGKILL);
		before = arrived();
		eventually(10000, arrived() > before + RATE / 5);
		meshd_start();
	}
}

/* Until it is the same twice, a second apart: what comes twice would come then. */
static double at_rest(void)
{
	double before = -1, now = counted();

	while (now != before) {
		uint64_t until = mono_ms() + 1000;

		before = now;
		eventually(3000, mono_ms() > until);
		now = counted();
	}
	return now;
}

static void killing_meshd_loses_nothing_and_counts_nothing_twice(void **state)
{
	char trace[40], extra[64], target[64];
	struct load *l;

	start_both();
	trace_id(trace, 0);
	snprintf(extra, sizeof(extra), "x-trace-id: %s", trace);
	snprintf(target, sizeof(target), "/%s/", service);
	assert_int_equal(get_with(c, extra, target), 200);
	eventually(2000, span_of(trace) != NULL);
	l = load_start(NULL, "--to %s --path /%s/ --rate %d", GATEWAY_ADDRESS, service, RATE);
	kill_meshd(3);
	load_end(l);
	assert_true(l->n > RATE);
	assert_int_equal(load_ok(l, 0, UINT64_MAX), l->n);
	eventually(10000, counted() >= (double)l->n + 1);
	assert_true(at_rest() == (double)l->n + 1);
	assert_true(agent_sum("mesh_requests_total") == (double)l->n + 1);
	assert_true(json_num(edge("gateway"), "requests", -1) == (double)l->n + 1);
	assert_non_null(span_of(trace));
}

int main(void)
{
	const struct CMUnitTest stories[] = {
		STORY(every_side_says_the_same),
		STORY(failures_are_the_same_everywhere),
		STORY(rate_errors_and_duration),
		STORY(killing_meshd_loses_nothing_and_counts_nothing_twice),
	};

	return RUN(stories);
}
