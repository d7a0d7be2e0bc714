/* SPDX-License-Identifier: Apache-2.0 */
/* Spans of requests arrive at a receiver of OTLP, in the exact form; a bad receiver is nobody's
 * trouble but its own. */
#include "tests/e2e/harness.h"
#include "tests/unit/otlp_receiver.h"

static char service[32];
static unsigned services;
static struct instance *a, *b;
static struct client *c;

static void export_to(const struct scripted *script, unsigned n)
{
	char url[64];

	receiver_bind();
	receiver_listen(script, n);
	snprintf(url, sizeof(url), "http://127.0.0.1:%d", receiver.port);
	meshd_stop(SIGTERM);
	assert_int_equal(setenv("MESH_OTLP_ENDPOINT", url, 1), 0);
	meshd_start();
	snprintf(service, sizeof(service), "export%u", services++);
	c = two_origins(service, &a, &b);
}

static void export_ends(void)
{
	meshd_stop(SIGTERM);
	unsetenv("MESH_OTLP_ENDPOINT");
	meshd_start();
	receiver_end();
}

/* The span of that id among all that were received; NULL: it has not come. */
static const cJSON *exported(const char *span_id)
{
	const cJSON *resource, *scope, *span;

	for (unsigned i = 0, n = receiver_count(); i < n; i++)
		cJSON_ArrayForEach (resource,
				    cJSON_GetObjectItem(receiver.got[i].body, "resourceSpans"))
			cJSON_ArrayForEach (scope, cJSON_GetObjectItem(resource, "scopeSpans"))
				cJSON_ArrayForEach (span, cJSON_GetObjectItem(scope, "spans"))
					if (!strcmp(json_str(span, "spanId", ""), span_id))
						return span;
	return NULL;
}

static const cJSON *kept(const char *trace)
{
	char path[128];
	const cJSON *spans;

	snprintf(path, sizeof(path), "/api/traces/%s", trace);
	spans = cJSON_GetObjectItem(api("GET", path, NULL), "spans");
	return cJSON_GetArrayItem(spans, 0);
}

static double nanoseconds(const cJSON *v, const char *key)
{
	return strtod(json_str(v, key, "0"), NULL);
}

static void assert_same(const cJSON *span, const cJSON *out, int code)
{
	double took = nanoseconds(out, "endTimeUnixNano") - nanoseconds(out, "startTimeUnixNano");

	assert_true(took / 1e6 - json_num(span, "duration", -1) < 0.002);
	assert_true(json_num(span, "duration", -1) - took / 1e6 < 0.002);
	assert_string_equal(json_str(out, "name", ""), "GET");
	assert_int_equal(json_num(out, "kind", 0), 2);
	assert_int_equal(json_num(cJSON_GetObjectItem(out, "status"), "code", 0), code);
	assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(out, "events")),
			 json_num(span, "tries", -1));
}

static void assert_exported(const char *query, int status, int code)
{
	char target[128], trace[64], extra[96], id[20];
	const cJSON *span, *out;

	snprintf(trace, sizeof(trace), "%s-%d", service, status);
	snprintf(extra, sizeof(extra), "x-trace-id: %s", trace);
	snprintf(target, sizeof(target), "/%s/%s", service, query);
	assert_int_equal(get_with(c, extra, target), status);
	eventually(5000, (span = kept(trace)) != NULL);
	snprintf(id, sizeof(id), "%s", json_str(span, "id", ""));
	eventually(6000, (out = exported(id)) != NULL);
	assert_same(span, out, code);
}

static void spans_arrive_in_the_exact_form(void **state)
{
	static const struct scripted takes[] = {{ANSWER}};
	struct client *metrics;
	const char *n;

	export_to(takes, 1);
	metrics = call_directly(MESHD_ADDRESS);
	assert_exported("?delay=20", 200, 0);
	assert_exported("?status=404", 404, 0);
	assert_exported("?status=500", 500, 2);
	assert_exported("?abort=1", 502, 2);
	assert_true(receiver.n >= 1);
	for (unsigned i = 0; i < receiver.n; i++)
		assert_string_equal(receiver.got[i].wrong, "");
	assert_int_equal(get(metrics, "/metrics"), 200);
	n = strstr(metrics->body, "\nmesh_spans_exported_total{result=\"success\"} ");
	assert_non_null(n);
	assert_true(strtod(strchr(n, ' '), NULL) >= 4);
	export_ends();
}

/* What is under way when meshd ends is sent before it does. */
static void the_last_ones_are_sent_at_the_end(void **state)
{
	static const struct scripted takes[] = {{ANSWER}};
	char target[64], id[20];
	const cJSON *span;

	export_to(takes, 1);
	snprintf(target, sizeof(target), "/%s/", service);
	assert_int_equal(get_with(c, "x-trace-id: the-last", target), 200);
	eventually(5000, (span = kept("the-last")) != NULL);
	snprintf(id, sizeof(id), "%s", json_str(span, "id", ""));
	meshd_stop(SIGTERM);
	assert_non_null(exported(id));
	meshd_start();
	export_ends();
}

/* 2 s for what waits and 2 s for requests under way are the contract. */
static void a_receiver_that_hangs_holds_nobody_up(void **state)
{
	static const struct scripted hangs[] = {{HANG}};
	struct load *l;
	uint64_t from;

	export_to(hangs, 1);
	l = load_start(NULL, "--to %s --path /%s/ --rate 1000", GATEWAY_ADDRESS, service);
	eventually(10000, receiver_count() > 0);
	for (int i = 0; i < 50; i++) {
		from = mono_ms();
		(void)api("GET", "/health", NULL);
		assert_int_equal(api_status, 200);
		assert_true(mono_ms() - from < 2000);
	}
	load_end(l);
	assert_int_equal(load_ok(l, 0, UINT64_MAX), l->n);
	from = mono_ms();
	meshd_stop(SIGTERM);
	assert_true(mono_ms() - from < 6000);
	meshd_start();
	export_ends();
}

int main(void)
{
	const struct CMUnitTest stories[] = {
		STORY(spans_arrive_in_the_exact_form),
		STORY(the_last_ones_are_sent_at_the_end),
		STORY(a_receiver_that_hangs_holds_nobody_up),
	};

	return RUN(stories);
}
