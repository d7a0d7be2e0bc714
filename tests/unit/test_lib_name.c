/* SPDX-License-Identifier: Apache-2.0 */
/* The names that agent, meshd and meshctl all take, and no others. */
#include "lib/name.h"

#include <mesh/abi.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void names_are_letters_digits_and_three_marks(void **state)
{
	static const char *const good[] = {"a", "backend", "v1.2.3", "A_b-c.9", "0", "cgroup.x"};
	static const char *const bad[] = {"",	 ".",	"..",  "-x",	   "_x",    ".x", "a/b",
					  "a b", "a\n", "a:b", "\xc3\xa4", "a\x7f", "a*"};

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_true(name_valid(good[i]));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(name_valid(bad[i]));
	assert_false(name_valid_bytes("a\0b", 3));
}

static void a_name_fits_where_the_kernel_keeps_it(void **state)
{
	char longest[NAME_LEN_MAX + 2];

	assert_int_equal(NAME_LEN_MAX, MESH_NAME_MAX - 1);
	memset(longest, 'x', sizeof(longest));
	longest[NAME_LEN_MAX + 1] = '\0';
	assert_false(name_valid(longest));
	longest[NAME_LEN_MAX] = '\0';
	assert_true(name_valid(longest));
}

static void bytes_need_no_end(void **state)
{
	char *exact = malloc(3); /* its exact size, for the sanitizer */

	assert_non_null(exact);
	memcpy(exact, "abc", 3);
	assert_true(name_valid_bytes(exact, 3));
	free(exact);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_are_letters_digits_and_three_marks),
		cmocka_unit_test(a_name_fits_where_the_kernel_keeps_it),
		cmocka_unit_test(bytes_need_no_end),
	};

	return cmocka_run_group_tests_name("names", tests, NULL, NULL);
}
