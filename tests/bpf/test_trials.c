/* SPDX-License-Identifier: Apache-2.0 */
/* The trials themselves: on plain TCP, in namespaces of their own, each must pass. What a trial
 * says about anything else is worth only as much as that. */
#include "agent/kernel/qualify_netns.h"
#include "agent/kernel/trials.h"
#include "lib/clock.h"
#include "tests/bpf/kernel_has.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
/* after the types that it needs */
#include <cmocka.h>

static struct trial_env env;

static void every_trial_passes_on_plain_tcp(void **state)
{
	char why[TRIAL_WHY_MAX];

	for (size_t i = 0; i < trials_count; i++) {
		uint64_t start = clock_mono_ns();
		enum trial_outcome o = trial_run(&trials[i], &env, why);

		printf("%-16s %6.2f ms\n", trials[i].name, (double)(clock_mono_ns() - start) / 1e6);
		if (o == TRIAL_SKIPPED && !env.veth && !strcmp(trials[i].name, "across"))
			print_message("across is skipped: %s\n", why);
		else if (o != TRIAL_PASSED)
			fail_msg("%s: %s", trials[i].name, why);
	}
}

static void plain_tcp_stops_a_sender(void **state)
{
	assert_in_range(env.plain_queue, 16384, 64 << 20);
}

static void names_are_words_and_unique(void **state)
{
	for (size_t i = 0; i < trials_count; i++) {
		assert_ptr_equal(trial_find(trials[i].name), &trials[i]);
		assert_int_equal(strspn(trials[i].name, "abcdefghijklmnopqrstuvwxyz-"),
				 strlen(trials[i].name));
	}
	assert_null(trial_find("no-such-trial"));
}

/* Without a second namespace a trial is skipped and says so; it never fails for that. */
static void what_cannot_be_tried_is_skipped(void **state)
{
	struct trial_env poor = {.netns = {-1, -1}};
	char why[TRIAL_WHY_MAX];

	assert_int_equal(trial_run(trial_find("across"), &poor, why), TRIAL_SKIPPED);
	assert_string_not_equal(why, "");
	assert_int_equal(trial_run(trial_find("twins-loopback"), &poor, why), TRIAL_SKIPPED);
	assert_int_equal(trial_run(trial_find("fionread"), &poor, why), TRIAL_PASSED);
}

static int setup(void **state)
{
	int err = qualify_netns(&env);

	if (err || env.netns[1] < 0) {
		fprintf(stderr, "no namespaces: %s\n", strerror(-err));
		return -1;
	}
	env.plain_queue = trial_plain_queue();
	return 0;
}

static int teardown(void **state)
{
	close(env.netns[0]);
	close(env.netns[1]);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_trial_passes_on_plain_tcp),
		cmocka_unit_test(plain_tcp_stops_a_sender),
		cmocka_unit_test(names_are_words_and_unique),
		cmocka_unit_test(what_cannot_be_tried_is_skipped),
	};

	trial_patience = 5 * (unsigned)kernel_patience(); /* other programs want the CPUs, too */
	return cmocka_run_group_tests_name("trials", tests, setup, teardown);
}
