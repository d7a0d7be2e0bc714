/* SPDX-License-Identifier: Apache-2.0 */
/* An endpoint that is asked and does not answer. */
#include "agent/health/silence.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define MS 1000000ull

static void it_grows_while_nothing_comes(void **state)
{
	struct silence s = {0};

	assert_int_equal(silence_look(&s, true, 7, 100 * MS), 0);
	assert_int_equal(silence_look(&s, true, 7, 200 * MS), 100 * MS);
	assert_int_equal(silence_look(&s, true, 7, 900 * MS), 800 * MS);
}

static void an_answer_ends_it(void **state)
{
	struct silence s = {0};

	silence_look(&s, true, 7, 100 * MS);
	assert_int_equal(silence_look(&s, true, 8, 500 * MS), 0);
	assert_int_equal(silence_look(&s, true, 8, 600 * MS), 100 * MS);
}

static void who_has_nothing_to_do_is_not_silent(void **state)
{
	struct silence s = {0};

	silence_look(&s, true, 7, 100 * MS);
	assert_int_equal(silence_look(&s, false, 7, 500 * MS), 0);
	assert_int_equal(silence_look(&s, true, 7, 5000 * MS), 0); /* it has just begun */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_grows_while_nothing_comes),
		cmocka_unit_test(an_answer_ends_it),
		cmocka_unit_test(who_has_nothing_to_do_is_not_silent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
