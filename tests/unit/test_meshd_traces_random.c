/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies that are nearly right: bytes and values of good ones are changed at random, and whatever
 * comes of it is taken, shown and listed. Nothing breaks (ASan, UBSan), and what is stored is valid
 * JSON. */
#include "ctl/meshd/traces/post.h"
#include "tests/unit/random.h"
#include "tests/unit/traces_rig.h"

#define ROUNDS 20000

static const char *const bodies[] = {
	"[{\"id\":\"a\",\"parentId\":\"b\",\"traceId\":\"order-17\",\"aliases\":[\"x\",\"y\"],"
	"\"service\":\"backend\",\"source\":\"frontend\",\"operation\":\"GET /\",\"startTime\":"
	"1763868000123.456,\"duration\":12.3,\"statusCode\":200,\"error\":false,\"tries\":1,"
	"\"events\":[{\"name\":\"try\",\"time\":0.1}],\"attributes\":{\"a\":[1,{\"b\":null}]}},"
	"{\"spanId\":\"b\",\"parentSpanId\":\"a\",\"traceId\":\"order-17\",\"service\":\"s\","
	"\"operation\":\"\",\"startTime\":\"2026-11-22T15:20:32.123+01:00\",\"duration\":1e3}]",
	"{\"resourceSpans\":[{\"resource\":{\"attributes\":[{\"key\":\"service.name\",\"value\":{"
	"\"stringValue\":\"my.service\"}}]},\"scopeSpans\":[{\"spans\":[{\"traceId\":"
	"\"5b8efff798038103d269b633813fc60c\",\"spanId\":\"eee19b7ec3c1b174\",\"parentSpanId\":"
	"\"eee19b7ec3c1b173\",\"name\":\"n\",\"startTimeUnixNano\":\"1544712660000000000\","
	"\"end_time_unix_nano\":1544712661000000000,\"kind\":2,\"attributes\":[{\"key\":\"k\","
	"\"value\":{\"intValue\":\"5\"}},{\"key\":\"l\",\"value\":{\"arrayValue\":{\"values\":[]}}}"
	"],\"events\":[{\"timeUnixNano\":\"15\",\"name\":\"e\"}],\"status\":{\"code\":2}}]}]}]}",
};

/* Another byte, one too many or too few, or one of JSON's own. */
static size_t change_bytes(char *text, size_t len)
{
	static const char own[] = "{}[]\",:0123456789.-e \\utrfns";
	size_t at = below((unsigned)len);

	switch (below(4)) {
	case 0:
		text[at] = (char)below(256);
		return len;
	case 1:
		memmove(text + at, text + at + 1, len - at - 1);
		return len - 1;
	case 2:
		memmove(text + at + 1, text + at, len - at);
		text[at] = own[below(sizeof(own) - 1)];
		return len + 1;
	default:
		text[at] = own[below(sizeof(own) - 1)];
		return len;
	}
}

static cJSON *any_value(void)
{
	static const double numbers[] = {0, -1, 0.5, 1e15, 1e300, -1e300, 1763868000123.0};
	static const char *const texts[] = {"",
					    "a",
					    "order-17",
					    "\n\x01",
					    "\xc3\xa9",
					    "5b8efff798038103d269b633813fc60c",
					    "18446744073709551616"};

	switch (below(6)) {
	case 0:
		return cJSON_CreateNumber(numbers[below(7)]);
	case 1:
		return cJSON_CreateString(texts[below(7)]);
	case 2:
		return cJSON_CreateNull();
	case 3:
		return cJSON_CreateObject();
	case 4:
		return cJSON_CreateArray();
	default:
		return cJSON_CreateBool(below(2));
	}
}

/* Puts something else into a member somewhere below v. */
static void change_values(cJSON *v)
{
	int n = cJSON_GetArraySize(v);
	cJSON *child = n ? cJSON_GetArrayItem(v, (int)below((unsigned)n)) : NULL;

	if (!child)
		return;
	if (below(3) && cJSON_GetArraySize(child))
		change_values(child);
	else if (child->string)
		cJSON_ReplaceItemInObjectCaseSensitive(v, child->string, any_value());
	else
		cJSON_ReplaceItemViaPointer(v, child, any_value());
}

static void take(cJSON *list)
{
	if (list)
		assert_in_range(traces_take(store, list, below(2) ? "n" : NULL, 1000), 0,
				cJSON_GetArraySize(list));
	cJSON_Delete(list);
}

static void feed(const char *text, size_t len, bool otlp, bool values)
{
	struct schema_error e;
	cJSON *v = strict_parse(text, len, 0, &e), *list;
	unsigned rejected;
	char why[64];

	if (v && values)
		change_values(v);
	if (v && !below(4)) { /* as an agent's, which no form is asked of */
		take(v);
	} else if (v && otlp) {
		list = otlp_read(v, &rejected, why, sizeof(why), &e);
		cJSON_Delete(v);
		take(list);
	} else if (v) {
		take(post_read(v, &e));
	}
}

static void look_at_all(void)
{
	struct traces_filter f = {.error = -1, .until_ms = INT64_MAX, .limit = TRACES_LIST_MAX};
	struct buf b;
	cJSON *all, *t;

	assert_int_equal(traces_list(store, &f, &b), 0);
	all = json_parse(b.data, b.len, NULL);
	buf_done(&b);
	assert_non_null(all);
	assert_true(cJSON_GetArraySize(cJSON_GetObjectItem(all, "traces")) > 0);
	cJSON_ArrayForEach (t, cJSON_GetObjectItem(all, "traces"))
		assert_true(spans_of(json_str(t, "traceId", "")) > 0);
	cJSON_Delete(all);
	assert_int_equal(traces_logs(store, &f, &b), 0);
	all = json_parse(b.data, b.len, NULL);
	buf_done(&b);
	assert_non_null(all);
	cJSON_Delete(all);
}

static void nothing_breaks(void **state)
{
	char text[2048];

	store_start(0, 0);
	for (int i = 0; i < ROUNDS; i++) {
		bool otlp = below(2), values = below(2);
		size_t len = strlen(bodies[otlp]);

		memcpy(text, bodies[otlp], len);
		for (unsigned k = below(4); k && !values; k--)
			len = change_bytes(text, len);
		feed(text, len, otlp, values);
	}
	assert_null(traces_error(store));
	assert_true(counts().stored > 50 && counts().duplicates > 500);
	look_at_all();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(nothing_breaks, setup_dir, teardown_dir),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
