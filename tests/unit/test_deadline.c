/* SPDX-License-Identifier: Apache-2.0 */
/* How callers write down what time there is, and how it is written for callees. */
#include "agent/proxy/deadline.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define BAD -1

struct reading {
	const char *text;
	int64_t ms; /* BAD: malformed */
};

static void read_all(const struct reading *cases, size_t n,
		     bool (*parse)(const char *, size_t, uint32_t *))
{
	for (size_t i = 0; i < n; i++) {
		uint32_t ms = 0;
		bool good = parse(cases[i].text, strlen(cases[i].text), &ms);

		if (good != (cases[i].ms != BAD) || (good && ms != cases[i].ms))
			fail_msg("\"%s\": %d, %u", cases[i].text, good, ms);
	}
}

static void milliseconds(void **state)
{
	static const struct reading cases[] = {
		{"0", 0},
		{"1", 1},
		{"007", 7},
		{"15000", 15000},
		{"4294967294", 4294967294},
		{"4294967295", UINT32_MAX},
		{"4294967296", UINT32_MAX},
		{"99999999999999999999999999999999", UINT32_MAX},
		{"", BAD},
		{"-1", BAD},
		{"+1", BAD},
		{"1.5", BAD},
		{"1 ", BAD},
		{"1s", BAD},
		{"0x10", BAD},
	};

	read_all(cases, sizeof(cases) / sizeof(*cases), deadline_parse);
}

static void grpc(void **state)
{
	static const struct reading cases[] = {
		{"1H", 3600000},
		{"2M", 120000},
		{"3S", 3000},
		{"4m", 4},
		{"5000u", 5},
		{"5001u", 6},
		{"1u", 1},
		{"1n", 1},
		{"1000001n", 2},
		{"0S", 0},
		{"0n", 0},
		{"00000001S", 1000},
		{"99999999m", 99999999},
		{"99999999H", UINT32_MAX},
		{"99999999S", UINT32_MAX},
		{"999999999m", BAD},
		{"", BAD},
		{"1", BAD},
		{"S", BAD},
		{"1s", BAD},
		{"1h", BAD},
		{"-1S", BAD},
		{"1 S", BAD},
		{"1SS", BAD},
		{"1.5S", BAD},
	};

	read_all(cases, sizeof(cases) / sizeof(*cases), deadline_parse_grpc);
}

static void what_is_written_can_be_read_and_is_no_longer(void **state)
{
	static const uint32_t cases[] = {1, 15000, 99999999, 100000000, 100000999, UINT32_MAX};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		char text[DEADLINE_GRPC_MAX];
		size_t n = deadline_format_grpc(cases[i], text);
		uint32_t ms;

		assert_int_equal(n, strlen(text));
		assert_true(deadline_parse_grpc(text, n, &ms));
		assert_true(ms <= cases[i] && cases[i] - ms < 1000);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(milliseconds),
		cmocka_unit_test(grpc),
		cmocka_unit_test(what_is_written_can_be_read_and_is_no_longer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
