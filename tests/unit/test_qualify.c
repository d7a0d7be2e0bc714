/* SPDX-License-Identifier: Apache-2.0 */
/* From outcomes of trials to a mode: the whole rule, and the sentence that goes with it. */
#include "agent/kernel/qualify_choose.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
/* after the types that it needs */
#include <cmocka.h>

#define ALL_NOTICED (TRIAL_FOR_SPLICERS | TRIAL_FOR_BLOCKERS)

static struct qualify_result q;
static char why[QUALIFY_WHY_MAX];

static size_t index_of(const char *name)
{
	const struct trial *t = trial_find(name);

	assert_non_null(t);
	return (size_t)(t - trials);
}

static void set(enum mesh_splice_mode mode, const char *name, enum trial_outcome o)
{
	size_t i = index_of(name);

	q.outcome[mode][i] = (uint8_t)o;
	snprintf(q.why[mode][i], TRIAL_WHY_MAX, "%s", o == TRIAL_FAILED ? "seen" : "");
}

static int all_passed(void **state)
{
	memset(&q, 0, sizeof(q));
	q.done = true;
	q.ms = 70;
	for (int m = MESH_SPLICE_REDIRECT; m <= MESH_SPLICE_VERDICT; m++)
		memset(q.outcome[m], TRIAL_PASSED, trials_count);
	return 0;
}

static void redirect_alone_is_preferred(void **state)
{
	assert_int_equal(qualify_choose(&q, ALL_NOTICED, why), MESH_SPLICE_REDIRECT);
	assert_string_equal(why, "");
}

static void the_verdict_helps_where_redirect_alone_fails(void **state)
{
	set(MESH_SPLICE_REDIRECT, "fionread", TRIAL_FAILED);
	assert_int_equal(qualify_choose(&q, ALL_NOTICED, why), MESH_SPLICE_VERDICT);
	assert_non_null(strstr(why, "fionread: seen"));
	assert_non_null(strstr(why, "nginx"));
}

static void what_fails_in_both_switches_off(void **state)
{
	static const char *const names[] = {"redirects", "fionread", "short-read", "epoll-edge",
					    "order",	 "pressure", "fin",	   "half-close"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		all_passed(NULL);
		set(MESH_SPLICE_REDIRECT, names[i], TRIAL_FAILED);
		set(MESH_SPLICE_VERDICT, names[i], TRIAL_FAILED);
		assert_int_equal(qualify_choose(&q, ALL_NOTICED, why), MESH_SPLICE_OFF);
		assert_non_null(strstr(why, names[i]));
		assert_non_null(strstr(why, "with verdict"));
	}
}

/* Every single trial that fails, in one mode or in both, against what may come of it. */
static void each_trial_counts(void **state)
{
	for (size_t i = 0; i < trials_count; i++)
		for (unsigned noticed = 0; noticed <= ALL_NOTICED; noticed++) {
			bool excused = trials[i].whom & noticed;

			all_passed(NULL);
			q.outcome[MESH_SPLICE_REDIRECT][i] = TRIAL_FAILED;
			assert_int_equal(qualify_choose(&q, noticed, why),
					 excused ? MESH_SPLICE_REDIRECT : MESH_SPLICE_VERDICT);
			q.outcome[MESH_SPLICE_VERDICT][i] = TRIAL_FAILED;
			assert_int_equal(qualify_choose(&q, noticed, why),
					 excused ? MESH_SPLICE_REDIRECT : MESH_SPLICE_OFF);
			assert_true(excused || strstr(why, trials[i].name));
		}
}

static void a_trial_that_cannot_be_tried_says_nothing(void **state)
{
	set(MESH_SPLICE_REDIRECT, "across", TRIAL_SKIPPED);
	assert_int_equal(qualify_choose(&q, 0, why), MESH_SPLICE_REDIRECT);
}

static void a_trial_that_did_not_run_counts_against(void **state)
{
	set(MESH_SPLICE_REDIRECT, "fionread", TRIAL_FAILED);
	set(MESH_SPLICE_VERDICT, "pressure", TRIAL_NOT_RUN);
	assert_int_equal(qualify_choose(&q, ALL_NOTICED, why), MESH_SPLICE_OFF);
	assert_string_equal(why, "the trials of verdict came no further than pressure in 70 ms");
	/* nor is one that stands for noticed programs taken for passed */
	all_passed(NULL);
	set(MESH_SPLICE_REDIRECT, "splice-out", TRIAL_NOT_RUN);
	assert_int_equal(qualify_choose(&q, ALL_NOTICED, why), MESH_SPLICE_VERDICT);
}

static void an_error_switches_off_and_is_the_reason(void **state)
{
	snprintf(q.error, sizeof(q.error), "no network namespace");
	assert_int_equal(qualify_choose(&q, ALL_NOTICED, why), MESH_SPLICE_OFF);
	assert_string_equal(why, "no network namespace");
}

static void names_go_there_and_back(void **state)
{
	for (int m = 0; m < QUALIFY_MODES; m++)
		assert_int_equal(qualify_mode_parse(qualify_mode_name((unsigned)m)), m);
	assert_int_equal(qualify_mode_parse("auto"), -1);
	assert_string_equal(qualify_mode_name(QUALIFY_MODES), "?");
	assert_string_equal(qualify_outcome_name(TRIAL_FAILED), "failed");
	assert_string_equal(qualify_outcome_name(99), "?");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(redirect_alone_is_preferred, all_passed),
		cmocka_unit_test_setup(the_verdict_helps_where_redirect_alone_fails, all_passed),
		cmocka_unit_test_setup(what_fails_in_both_switches_off, all_passed),
		cmocka_unit_test_setup(each_trial_counts, all_passed),
		cmocka_unit_test_setup(a_trial_that_cannot_be_tried_says_nothing, all_passed),
		cmocka_unit_test_setup(a_trial_that_did_not_run_counts_against, all_passed),
		cmocka_unit_test_setup(an_error_switches_off_and_is_the_reason, all_passed),
		cmocka_unit_test_setup(names_go_there_and_back, all_passed),
	};

	return cmocka_run_group_tests_name("qualification", tests, NULL, NULL);
}
