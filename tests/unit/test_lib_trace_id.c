/* SPDX-License-Identifier: Apache-2.0 */
/* Which ids of traces callers may choose, and which bytes they stand for: the same ones for ever,
 * since hosts of different versions must agree. */
#include "lib/trace_id.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const char *bytes_of(const char *id)
{
	static char hex[33];
	uint8_t out[16];

	assert_true(trace_id_usable(id, strlen(id)));
	trace_id_bytes(id, strlen(id), out);
	trace_hex(hex, out, 16);
	return hex;
}

static void what_may_be_an_id(void **state)
{
	char longest[66];

	memset(longest, 'z', 65);
	assert_true(trace_id_usable("a", 1));
	assert_true(trace_id_usable("Order_17.b-9", 12));
	assert_true(trace_id_usable(longest, 64));
	assert_false(trace_id_usable(longest, 65));
	assert_false(trace_id_usable("", 0));
	for (int c = 0; c < 256; c++) {
		char s = (char)c;
		bool fine = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
			    (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';

		assert_int_equal(trace_id_usable(&s, 1), fine);
	}
}

static void digits_are_used_as_they_are(void **state)
{
	assert_string_equal(bytes_of("4bf92f3577b34da6a3ce929d0e0e4736"),
			    "4bf92f3577b34da6a3ce929d0e0e4736");
	assert_string_equal(bytes_of("4BF92F3577B34DA6A3CE929D0E0E4736"),
			    "4bf92f3577b34da6a3ce929d0e0e4736");
	assert_string_equal(bytes_of("463ac35c9f6413ad"), "0000000000000000463ac35c9f6413ad");
}

static void anything_else_always_becomes_the_same(void **state)
{
	assert_string_equal(bytes_of("order-17"), "4d9a939af1bb2f9f6899712c07d13319");
	assert_string_equal(bytes_of("a"), "82a2a958a9bece5b1dab5065bac3c158");
	assert_string_equal(bytes_of("00000000000000000000000000000000"),
			    "d0c65382fa5b0e374350b40bc2e4f295");
	assert_string_equal(bytes_of("0000000000000000"), "e84146be4d55dddf9e2f824c1457778b");
	assert_string_not_equal(bytes_of("4bf92f3577b34da6a3ce929d0e0e473g"),
				"4bf92f3577b34da6a3ce929d0e0e4730");
}

static void different_ids_stay_different(void **state)
{
	enum { N = 20000 };
	static uint8_t seen[N][16];
	char id[32];

	for (int i = 0; i < N; i++) {
		int n = snprintf(id, sizeof(id), "order-%d", i);

		trace_id_bytes(id, (size_t)n, seen[i]);
		for (int k = i > 50 ? i - 50 : 0; k < i; k++) {
			assert_memory_not_equal(seen[i], seen[k], 8);
			assert_memory_not_equal(seen[i] + 8, seen[k] + 8, 8);
		}
	}
}

static void hex_is_read_strictly_or_not(void **state)
{
	uint8_t out[2];
	char hex[4];

	for (int c = 0; c < 256; c++) {
		char s[4] = {'0', '1', 'a', (char)c};
		bool small = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');

		assert_int_equal(trace_unhex(out, s, 2, true), small);
		assert_int_equal(trace_unhex(out, s, 2, false), small || (c >= 'A' && c <= 'F'));
		if (small) {
			trace_hex(hex, out, 2);
			assert_memory_equal(hex, s, 4);
		}
	}
}

static void hex_of_any_length_is_two_digits_a_byte(void **state)
{
	char hex[600], one[3];
	uint8_t in[280];

	for (size_t i = 0; i < sizeof(in); i++)
		in[i] = (uint8_t)(i * 37);
	for (size_t n = 0; n <= sizeof(in); n++) {
		memset(hex, '#', sizeof(hex));
		trace_hex(hex, in, n);
		for (size_t i = 0; i < n; i++) {
			snprintf(one, sizeof(one), "%02x", in[i]);
			assert_memory_equal(hex + 2 * i, one, 2);
		}
		assert_int_equal(hex[2 * n], '#');
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_may_be_an_id),
		cmocka_unit_test(digits_are_used_as_they_are),
		cmocka_unit_test(anything_else_always_becomes_the_same),
		cmocka_unit_test(different_ids_stay_different),
		cmocka_unit_test(hex_is_read_strictly_or_not),
		cmocka_unit_test(hex_of_any_length_is_two_digits_a_byte),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
