/* SPDX-License-Identifier: Apache-2.0 */
/* An endpoint that is asked and does not answer. */
#include "agent/health/silence.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define MS     1000000ull
#define TRY_MS 3000

static void it_grows_while_nothing_comes(void **state)
{
	struct silence s = {0};

	assert_int_equal(silence_look(&s, true, 7, TRY_MS, 100 * MS), 0);
	assert_int_equal(silence_look(&s, true, 7, TRY_MS, 200 * MS), 100 * MS);
	assert_int_equal(silence_look(&s, true, 7, TRY_MS, 900 * MS), 800 * MS);
}

static void an_answer_ends_it(void **state)
{
	struct silence s = {0};

	silence_look(&s, true, 7, TRY_MS, 100 * MS);
	assert_int_equal(silence_look(&s, true, 8, TRY_MS, 500 * MS), 0);
	assert_int_equal(silence_look(&s, true, 8, TRY_MS, 600 * MS), 100 * MS);
}

static void who_has_nothing_to_do_is_not_silent(void **state)
{
	struct silence s = {0};

	silence_look(&s, true, 7, TRY_MS, 100 * MS);
	assert_int_equal(silence_look(&s, false, 7, TRY_MS, 500 * MS), 0);
	assert_int_equal(silence_look(&s, true, 7, TRY_MS, 5000 * MS), 0); /* it has just begun */
}

/* A tunnel, or an event stream: nobody waits for an answer. */
static void a_connection_that_is_open_for_long_is_none(void **state)
{
	struct silence s = {0};

	silence_look(&s, true, 0, TRY_MS, 100 * MS);
	assert_int_equal(silence_look(&s, true, 0, TRY_MS, 3100 * MS), 3000 * MS);
	assert_int_equal(silence_look(&s, true, 0, TRY_MS, 3600000 * MS), 0);
	assert_int_equal(silence_look(&s, true, 1, TRY_MS, 3600100 * MS), 0);
	assert_int_equal(silence_look(&s, true, 1, TRY_MS, 3600200 * MS), 100 * MS);
}

static void without_a_timeout_nobody_can_tell(void **state)
{
	struct silence s = {0};

	silence_look(&s, true, 0, 0, 100 * MS);
	assert_int_equal(silence_look(&s, true, 0, 0, 200 * MS), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_grows_while_nothing_comes),
		cmocka_unit_test(an_answer_ends_it),
		cmocka_unit_test(who_has_nothing_to_do_is_not_silent),
		cmocka_unit_test(a_connection_that_is_open_for_long_is_none),
		cmocka_unit_test(without_a_timeout_nobody_can_tell),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
