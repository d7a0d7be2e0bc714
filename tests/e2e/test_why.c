/* SPDX-License-Identifier: Apache-2.0 */
/* Each answer that the mesh made can be explained afterwards. */
#include "tests/e2e/harness.h"

static char service[32];
static unsigned services;
static struct instance *a, *b;
static struct client *c;

static void start_both(void)
{
	snprintf(service, sizeof(service), "puzzle%u", services++);
	c = two_origins(service, &a, &b);
}

/* The explanation of the last answer, by its request id and by its trace id. */
static const cJSON *why(const char *cause)
{
	char id[128], trace[128], path[256];
	const cJSON *w;

	assert_string_equal(header(c, "x-mesh-cause"), cause);
	snprintf(id, sizeof(id), "%s", header(c, "x-request-id"));
	snprintf(trace, sizeof(trace), "%s", header(c, "x-trace-id"));
	if (!*id && !*trace)
		fail_msg("%s: neither x-request-id nor x-trace-id", cause);
	snprintf(path, sizeof(path), "/api/why/%s", *id ? id : trace);
	eventually(2000, (api("GET", path, NULL), api_status == 200));
	w = api("GET", path, NULL);
	assert_string_equal(json_str(w, "cause", ""), cause);
	assert_string_equal(json_str(w, "service", ""), service);
	assert_true(json_num(w, "status", 0) == c->status);
	assert_non_null(strstr(sh("meshctl why %s", *id ? id : trace)->out, cause));
	if (*id && *trace)
		assert_int_equal(sh("meshctl why %s", trace)->status, 0);
	return w;
}

static const cJSON *endpoint(const cJSON *w, const char *id)
{
	const cJSON *e;

	cJSON_ArrayForEach (e, cJSON_GetObjectItem(w, "endpoints"))
		if (!strcmp(json_str(e, "id", ""), id))
			return e;
	fail_msg("%s was not considered: %s", id, cJSON_Print(w));
	return NULL;
}

static void an_open_breaker(void **state)
{
	const cJSON *w, *breaker;

	start_both();
	for (int k = 0; k < 60 && strcmp(header(c, "x-mesh-cause"), "breaker-open"); k++)
		(void)get(c, "/%s/?status=500", service);
	w = why("breaker-open");
	breaker = cJSON_GetObjectItem(w, "breaker");
	assert_string_equal(json_str(breaker, "state", ""), "open");
	assert_true(json_num(breaker, "failures", 0) >= 5);
	assert_true(json_num(breaker, "requests", 0) >= 10);
	assert_true(json_num(w, "tries", -1) == 0);
}

static void nobody_of_that_version(void **state)
{
	const cJSON *w;

	start_both();
	configure(service, "{\"split\":{\"v7\":100},\"fallback\":\"none\"}");
	assert_int_equal(get(c, "/%s/", service), 503);
	w = why("no-healthy-endpoint");
	assert_string_equal(json_str(cJSON_GetObjectItem(w, "breaker"), "state", ""), "closed");
}

static void all_are_out(void **state)
{
	const cJSON *w;

	start_both();
	assert_int_equal(sh("meshctl breaker open %s a", service)->status, 0);
	assert_int_equal(sh("meshctl drain %s b", service)->status, 0);
	eventually(2000, !strcmp(endpoint_status(service, "a"), "ejected") &&
				 !strcmp(endpoint_status(service, "b"), "draining"));
	eventually(5000, get(c, "/%s/", service) == 503);
	w = why("no-healthy-endpoint");
	assert_string_equal(json_str(endpoint(w, "a"), "status", ""), "ejected");
	assert_string_equal(json_str(endpoint(w, "b"), "status", ""), "draining");
	assert_true(json_num(endpoint(w, "a"), "ejectedMs", -1) >= 0);
	assert_int_equal(sh("meshctl breaker reset %s a", service)->status, 0);
}

static void a_full_bulkhead(void **state)
{
	struct client *r[3];
	const cJSON *w;
	long before;

	start_both();
	configure(service, "{\"bulkhead\":{\"maxRequests\":3},"
			   "\"timeouts\":{\"try\":\"60s\",\"request\":\"60s\"}}");
	before = origin_stat(a, "requests") + origin_stat(b, "requests");
	for (int k = 0; k < 3; k++) {
		r[k] = gateway();
		say(r[k], "GET /%s/?hang=1 HTTP/1.1\r\nHost: g\r\n\r\n", service);
	}
	eventually(5000, origin_stat(a, "requests") + origin_stat(b, "requests") == before + 3);
	assert_int_equal(get(c, "/%s/", service), 503);
	w = why("bulkhead-full");
	assert_in_range(json_num(cJSON_GetObjectItem(w, "bulkhead"), "requests", 0), 3, 4);
}

static void a_try_that_took_too_long(void **state)
{
	const cJSON *w, *e;
	int tried = 0;

	start_both();
	configure(service, "{\"timeouts\":{\"try\":\"200ms\"},\"retry\":{\"attempts\":1,"
			   "\"on\":[\"try-timeout\"],\"backoff\":\"1ms\"}}");
	assert_int_equal(get(c, "/%s/?hang=1", service), 504);
	w = why("try-timeout");
	assert_true(json_num(w, "tries", 0) == 2);
	assert_in_range(json_num(w, "durationMs", 0), 400, 2400);
	cJSON_ArrayForEach (e, cJSON_GetObjectItem(w, "endpoints"))
		if (json_bool(e, "tried", 0)) {
			assert_string_equal(json_str(e, "result", ""), "try-timeout");
			tried++;
		}
	assert_int_equal(tried, 2);
	assert_int_equal(sh("meshctl why nobody-knows-this")->status, 1);
}

int main(void)
{
	const struct CMUnitTest stories[] = {
		STORY(an_open_breaker), STORY(nobody_of_that_version),	 STORY(all_are_out),
		STORY(a_full_bulkhead), STORY(a_try_that_took_too_long),
	};

	return RUN(stories);
}
