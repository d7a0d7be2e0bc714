/* SPDX-License-Identifier: Apache-2.0 */
/* lib/json: exactly one value, merge patch by the table of RFC 7386, one text for equal values. */
#include "lib/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static cJSON *parse(const char *text)
{
	cJSON *v = json_parse(text, strlen(text), NULL);

	assert_non_null(v);
	return v;
}

static void merge_patch_follows_the_rfc(void **state)
{
	/* RFC 7386, appendix A */
	static const char *const cases[][3] = {
		{"{\"a\":\"b\"}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
		{"{\"a\":\"b\"}", "{\"b\":\"c\"}", "{\"a\":\"b\",\"b\":\"c\"}"},
		{"{\"a\":\"b\"}", "{\"a\":null}", "{}"},
		{"{\"a\":\"b\",\"b\":\"c\"}", "{\"a\":null}", "{\"b\":\"c\"}"},
		{"{\"a\":[\"b\"]}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
		{"{\"a\":\"c\"}", "{\"a\":[\"b\"]}", "{\"a\":[\"b\"]}"},
		{"{\"a\":{\"b\":\"c\"}}", "{\"a\":{\"b\":\"d\",\"c\":null}}",
		 "{\"a\":{\"b\":\"d\"}}"},
		{"{\"a\":[{\"b\":\"c\"}]}", "{\"a\":[1]}", "{\"a\":[1]}"},
		{"[\"a\",\"b\"]", "[\"c\",\"d\"]", "[\"c\",\"d\"]"},
		{"{\"a\":\"b\"}", "[\"c\"]", "[\"c\"]"},
		{"{\"a\":\"foo\"}", "null", "null"},
		{"{\"a\":\"foo\"}", "\"bar\"", "\"bar\""},
		{"{\"e\":null}", "{\"a\":1}", "{\"a\":1,\"e\":null}"},
		{"[1,2]", "{\"a\":\"b\",\"c\":null}", "{\"a\":\"b\"}"},
		{"{}", "{\"a\":{\"bb\":{\"ccc\":null}}}", "{\"a\":{\"bb\":{}}}"},
		{"{\"A\":1}", "{\"a\":2}", "{\"A\":1,\"a\":2}"},
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		cJSON *target = parse(cases[i][0]), *patch = parse(cases[i][1]);
		cJSON *out = json_merge_patch(target, patch);
		char *text = json_canonical(out), *before = json_canonical(target);
		cJSON *original = parse(cases[i][0]);

		assert_string_equal(text, cases[i][2]);
		assert_true(cJSON_Compare(target, original, 1));
		free(text);
		free(before);
		cJSON_Delete(original);
		cJSON_Delete(out);
		cJSON_Delete(patch);
		cJSON_Delete(target);
	}
}

static void merge_patch_without_a_target_makes_one(void **state)
{
	cJSON *patch = parse("{\"a\":1,\"b\":null}"), *out = json_merge_patch(NULL, patch);
	char *text = json_canonical(out);

	assert_string_equal(text, "{\"a\":1}");
	free(text);
	cJSON_Delete(out);
	cJSON_Delete(patch);
}

static void exactly_one_value_is_parsed(void **state)
{
	static const struct {
		const char *text;
		size_t where;
	} bad[] = {
		{"", 0},    {"{} x", 3}, {"{}{}", 2}, {"{\"a\":}", 5}, {"{\"a\":\"x\\u0000y\"}", 7},
		{"[1,", 3}, {"nul", 0},
	};
	size_t where;
	cJSON *v;

	for (size_t i = 0; i < COUNT(bad); i++) {
		where = 99;
		assert_null(json_parse(bad[i].text, strlen(bad[i].text), &where));
		assert_in_range(where, bad[i].where ? bad[i].where - 1 : 0, bad[i].where);
	}
	v = json_parse(" {\"a\":1} \r\n\t", 12, NULL);
	assert_non_null(v);
	cJSON_Delete(v);
	v = json_parse("[1]garbage", 3, NULL); /* the length counts, not a NUL */
	assert_non_null(v);
	cJSON_Delete(v);
	assert_null(json_parse("{}\0", 3, NULL));
	v = parse("\"a\\\\u0000\""); /* a backslash, and then u0000 */
	assert_string_equal(v->valuestring, "a\\u0000");
	cJSON_Delete(v);
}

static void deep_nesting_is_refused_not_followed(void **state)
{
	char *text = malloc(200000);

	assert_non_null(text);
	memset(text, '[', 200000);
	assert_null(json_parse(text, 200000, NULL));
	free(text);
}

static void members_of_another_type_give_the_fallback(void **state)
{
	cJSON *v = parse("{\"s\":\"x\",\"n\":2.5,\"b\":true}");

	assert_string_equal(json_str(v, "s", "-"), "x");
	assert_string_equal(json_str(v, "n", "-"), "-");
	assert_string_equal(json_str(v, "S", "-"), "-");
	assert_true(json_num(v, "n", 1) == 2.5);
	assert_true(json_num(v, "s", 1) == 1);
	assert_int_equal(json_bool(v, "b", 0), 1);
	assert_int_equal(json_bool(v, "n", 7), 7);
	assert_string_equal(json_str(NULL, "s", "-"), "-");
	cJSON_Delete(v);
}

static void equal_values_have_one_canonical_text(void **state)
{
	static const char *const cases[][2] = {
		{" { \"b\" : [ 1 , 2.5 , true , null ] , \"a\" : { } } ",
		 "{\"a\":{},\"b\":[1,2.5,true,null]}"},
		{"{\"n\":1e3,\"m\":-0.0,\"k\":1e20}", "{\"k\":1e+20,\"m\":0,\"n\":1000}"},
		{"{\"t\":1764000000123,\"s\":\"\\u00e9\\n\"}",
		 "{\"s\":\"\xc3\xa9\\n\",\"t\":1764000000123}"},
		{"[]", "[]"},
		{"0.1", "0.10000000000000001"},
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		cJSON *v = parse(cases[i][0]), *back;
		char *text = json_canonical(v);

		assert_string_equal(text, cases[i][1]);
		back = parse(text);
		assert_true(cJSON_Compare(v, back, 1));
		free(text);
		cJSON_Delete(back);
		cJSON_Delete(v);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(merge_patch_follows_the_rfc),
		cmocka_unit_test(merge_patch_without_a_target_makes_one),
		cmocka_unit_test(exactly_one_value_is_parsed),
		cmocka_unit_test(deep_nesting_is_refused_not_followed),
		cmocka_unit_test(members_of_another_type_give_the_fallback),
		cmocka_unit_test(equal_values_have_one_canonical_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
