/* SPDX-License-Identifier: Apache-2.0 */
/* lib/code: what is given back has to be mapped again, and then runs as before. */
#include "lib/code.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/resource.h>

#include <cmocka.h>

static long minor_faults(void)
{
	struct rusage u;

	assert_int_equal(getrusage(RUSAGE_SELF, &u), 0);
	return u.ru_minflt;
}

static int by_value(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

static void code_is_mapped_again_when_it_runs(void **state)
{
	int n[] = {3, 1, 2};
	long before;

	(void)state;
	qsort(n, 3, sizeof(n[0]), by_value);
	before = minor_faults();
	assert_true(code_release() >= 4096);
	n[0] = 9;
	qsort(n, 3, sizeof(n[0]), by_value);
	assert_true(minor_faults() > before);
	assert_int_equal(n[0], 2);
	assert_int_equal(n[1], 3);
	assert_int_equal(n[2], 9);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(code_is_mapped_again_when_it_runs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
