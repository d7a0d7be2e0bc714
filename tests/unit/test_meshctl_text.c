/* SPDX-License-Identifier: Apache-2.0 */
/* Suggestions, ages and numbers of meshctl. */
#include "ctl/meshctl/text.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void a_typing_error_finds_the_word_that_was_meant(void **state)
{
	static const char *const words[] = {"run", "status",   "check",
					    "get", "describe", "completion"};
	static const struct {
		const char *typed, *meant;
	} rows[] = {{"rnu", "run"},
		    {"statsu", "status"},
		    {"chekc", "check"},
		    {"gte", "get"},
		    {"descrbe", "describe"},
		    {"xyz", NULL},
		    {"compltion", "completion"},
		    {"", NULL},
		    {"status", "status"},
		    {"a-word-that-is-far-longer-than-any-command", NULL}};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const char *found = text_nearest(rows[i].typed, words, 6);

		if (rows[i].meant)
			assert_string_equal(found, rows[i].meant);
		else
			assert_null(found);
	}
}

static void ages_are_told_in_their_largest_unit(void **state)
{
	char out[AGE_MAX];

	assert_string_equal(text_age(0, out), "0ms");
	assert_string_equal(text_age(999, out), "999ms");
	assert_string_equal(text_age(1000, out), "1s");
	assert_string_equal(text_age(59999, out), "59s");
	assert_string_equal(text_age(3600000, out), "1h");
	assert_string_equal(text_age(8 * 86400000ull, out), "8d");
	assert_string_equal(text_age(UINT64_MAX, out), "213503982334d");
}

static void times_are_read_with_and_without_a_fraction(void **state)
{
	uint64_t ms;

	assert_int_equal(text_iso_ms("1970-01-01T00:00:01Z", &ms), 0);
	assert_int_equal(ms, 1000);
	assert_int_equal(text_iso_ms("2026-11-22T15:20:32.123Z", &ms), 0);
	assert_int_equal(ms, 1795360832123);
	assert_int_equal(text_iso_ms("2026-11-22T15:20:32", &ms), -EINVAL);
	assert_int_equal(text_iso_ms("yesterday", &ms), -EINVAL);
	assert_int_equal(text_iso_ms("", &ms), -EINVAL);
}

static void numbers_are_whole_and_within_bounds(void **state)
{
	uint64_t v;

	assert_int_equal(text_number("65535", 1, 65535, &v), 0);
	assert_int_equal(v, 65535);
	assert_int_equal(text_number("0", 1, 65535, &v), -EINVAL);
	assert_int_equal(text_number("65536", 1, 65535, &v), -EINVAL);
	assert_int_equal(text_number("80x", 1, 65535, &v), -EINVAL);
	assert_int_equal(text_number("-1", 0, 65535, &v), -EINVAL);
	assert_int_equal(text_number(" 1", 0, 65535, &v), -EINVAL);
	assert_int_equal(text_number("", 0, 65535, &v), -EINVAL);
	assert_int_equal(text_number("99999999999999999999", 0, UINT64_MAX, &v), -EINVAL);
}

static void control_characters_cannot_reach_the_terminal(void **state)
{
	char text[] = "a\033[31mb\r\nc\x7f";

	char c1[] = "\xc2\x9b"
		    "31m \x9b"
		    "2J \xc3\xbc\xe2\x9c\x93 \xc3";

	assert_string_equal(text_mask(text), "a?[31mb??c?");
	assert_string_equal(text_mask(c1), "??31m ?2J \xc3\xbc\xe2\x9c\x93 ?");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_typing_error_finds_the_word_that_was_meant),
		cmocka_unit_test(ages_are_told_in_their_largest_unit),
		cmocka_unit_test(times_are_read_with_and_without_a_fraction),
		cmocka_unit_test(numbers_are_whole_and_within_bounds),
		cmocka_unit_test(control_characters_cannot_reach_the_terminal),
	};

	return cmocka_run_group_tests_name("meshctl text", tests, NULL, NULL);
}
