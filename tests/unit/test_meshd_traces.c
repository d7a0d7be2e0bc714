/* SPDX-License-Identifier: Apache-2.0 */
/* Spans in meshd over its REST API: what is taken, what is kept, and how it is found again. */
#include "tests/unit/meshd_rig.h"

#include <math.h>

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

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown_all)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_posted_trace_is_shown_parents_first),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
