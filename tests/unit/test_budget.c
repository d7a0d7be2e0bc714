/* SPDX-License-Identifier: Apache-2.0 */
/* The retry budget: what a word says in tables of cases, and that no sequence, no difference of
 * clocks and no number of workers gets more out of it than went in. */
#include <mesh/budget.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* after the types that it needs */
#include <cmocka.h>

#include "tests/unit/threads.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define T0	 1000000ULL
#define WRAP	 (1ULL << 32)

/* A word, spelled out once more. */
#define word(ms, level) (((ms)&0xffffffff) << 32 | (level))

/* The contract's defaults. */
static const struct mesh_budget_policy P = {.percent_pm = 2000, .per_second = 10};

static void what_can_be_kept(void **state)
{
	static const struct {
		__u32 per_second;
		__u64 want;
	} cases[] = {{0, 10000},
		     {10, 10000},
		     {11, 11000},
		     {4000000, 4000000000},
		     {4000001, 4000000000},
		     {~0U, 4000000000}};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct mesh_budget_policy p = {.per_second = cases[i].per_second};

		assert_int_equal(mesh_budget_cap(&p), cases[i].want);
	}
}

static void how_much_there_is(void **state)
{
	static const struct {
		const char *what;
		__u64 before;
		struct mesh_budget_policy p;
		__u64 now, want;
	} cases[] = {
		{"nobody has asked: a second's worth", 0, {2000, 10}, T0, 10000},
		{"nobody has asked: nothing a second", 0, {2000, 0}, T0, 0},
		{"nobody has asked: more than the word holds", 0, {0, ~0U}, T0, 4000000000},
		{"nobody has asked, just before the wrap", 0, {0, 10}, WRAP - 1, 10000},
		{"at the same time", word(T0, 700), {2000, 10}, T0, 700},
		{"a ms later", word(T0, 700), {2000, 10}, T0 + 1, 710},
		{"half a second later", word(T0, 700), {2000, 10}, T0 + 500, 5700},
		{"full", word(T0, 700), {2000, 10}, T0 + 1000, 10000},
		{"nothing a second", word(T0, 700), {2000, 0}, T0 + 1000, 700},
		{"one second's worth however long", word(T0, 0), {2000, 1}, T0 + 60000, 1000},
		{"weeks later", word(T0, 0), {2000, 1}, T0 + WRAP / 2 + 5, 1000},
		{"just before it looks ahead", word(T0, 0), {2000, 1}, T0 + WRAP - 60000, 1000},
		{"a clock reading behind", word(T0, 700), {2000, 10}, T0 - 1, 700},
		{"a minute behind", word(T0, 700), {2000, 10}, T0 - 59999, 700},
		{"over the wrap", word(WRAP - 50, 700), {2000, 10}, WRAP + 50, 1700},
		{"behind, over the wrap", word(WRAP + 50, 700), {2000, 10}, WRAP - 50, 700},
		{"a former policy kept more", word(T0, 500000), {2000, 10}, T0, 10000},
		{"much a second", word(T0, 0), {0, ~0U}, T0 + 1000, 4000000000},
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		__u64 got = mesh_budget_level(cases[i].before, &cases[i].p, cases[i].now);

		if (got != cases[i].want)
			fail_msg("%s: %llu", cases[i].what, (unsigned long long)got);
	}
}

static void what_a_request_earns(void **state)
{
	static const struct {
		const char *what;
		__u64 before;
		struct mesh_budget_policy p;
		__u64 now, after;
	} cases[] = {
		{"a fifth", word(T0, 700), {2000, 10}, T0, word(T0, 900)},
		{"and what the time brought", word(T0, 700), {2000, 10}, T0 + 5, word(T0 + 5, 950)},
		{"no more than can be kept", word(T0, 9900), {2000, 10}, T0, word(T0, 10000)},
		{"tenths of a percent count", word(T0, 0), {19, 0}, T0, word(T0, 1)},
		{"hundredths do not", word(T0, 0), {9, 0}, T0, word(T0, 0)},
		{"a whole one", word(T0, 0), {10000, 0}, T0, word(T0, 1000)},
		{"the time does not go back", word(T0, 0), {2000, 10}, T0 - 5, word(T0, 200)},
		{"nor over the wrap", word(WRAP + 5, 0), {2000, 10}, WRAP - 5, word(WRAP + 5, 200)},
		{"the first request", 0, {2000, 0}, T0, word(T0, 200)},
		{"never nothing at all", 0, {0, 0}, WRAP, 1},
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		__u64 got = mesh_budget_earn(cases[i].before, &cases[i].p, cases[i].now);

		if (got != cases[i].after)
			fail_msg("%s: %llx", cases[i].what, (unsigned long long)got);
	}
}

static void what_a_retry_costs(void **state)
{
	static const struct {
		const char *what;
		__u64 before;
		__u64 now;
		__u32 granted;
		__u64 after;
	} cases[] = {
		{"the first of all", 0, T0, 1, word(T0, 9000)},
		{"exactly one", word(T0, 1000), T0, 1, word(T0, 0)},
		{"not quite one", word(T0, 999), T0, 0, word(T0, 999)},
		{"one in a moment", word(T0, 999), T0 + 1, 1, word(T0 + 1, 9)},
		{"refusing takes nothing, not even time", word(T0, 0), T0 + 99, 0, word(T0, 0)},
		{"the time does not go back", word(T0, 3000), T0 - 5, 1, word(T0, 2000)},
		{"the last one at the wrap", word(WRAP, 1000), WRAP, 1, 1},
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct mesh_budget_step s = mesh_budget_take(cases[i].before, &P, cases[i].now);

		if (s.granted != cases[i].granted || s.word != cases[i].after)
			fail_msg("%s: %u %llx", cases[i].what, s.granted,
				 (unsigned long long)s.word);
	}
}

/* One is refused for as long as it takes to earn one, then granted, even if everybody asks all the
 * time. */
static void asking_does_not_delay(void **state)
{
	struct mesh_budget_policy p = {.per_second = 1};
	__u64 w = word(T0, 0), now;
	__u32 granted = 0;

	for (now = T0; now < T0 + 10000; now++) {
		struct mesh_budget_step s = mesh_budget_take(w, &p, now);

		w = s.word;
		granted += s.granted;
	}
	assert_int_equal(granted, 9);
}

/* Everything fails and is retried: 1,000 requests a second for ten seconds. */
static void storm_stays_within_the_budget(void **state)
{
	__u32 retries = 0;
	__u64 w = 0;

	for (__u64 ms = 0; ms < 10000; ms++) {
		struct mesh_budget_step s;

		w = mesh_budget_earn(w, &P, T0 + ms);
		do {
			s = mesh_budget_take(w, &P, T0 + ms);
			w = s.word;
			retries += s.granted;
		} while (s.granted);
	}
	assert_in_range(retries, 2000 + 100, 2000 + 100 + 10);
}

/* Two workers whose readings differ by 5 ms take turns: the time between counts once. */
static void clocks_that_differ_earn_nothing(void **state)
{
	struct mesh_budget_policy p = {.per_second = 10};
	__u32 granted = 0;
	__u64 w = word(T0, 0);

	for (int i = 0; i < 10000; i++) {
		struct mesh_budget_step s =
			mesh_budget_take(w, &p, T0 + (__u64)i / 10 - (i % 2 ? 5 : 0));

		w = mesh_budget_earn(s.word, &p, T0 + (__u64)i / 10 - (i % 2 ? 5 : 0));
		granted += s.granted;
	}
	assert_in_range(granted, 9, 10);
}

#define EVENTS 400
#define SKEW   20

static unsigned seed = 1;

static __u32 upto(__u32 n)
{
	return (__u32)rand_r(&seed) % (n + 1);
}

struct happened {
	__u64 at_ms;	     /* true time; readings are up to SKEW behind */
	__u64 earned, spent; /* since the beginning, in thousandths */
};

/* Over any interval no more than what could be kept and what the interval has earned. */
static void check_intervals(const struct happened *all, const struct mesh_budget_policy *p)
{
	for (int from = 0; from < EVENTS; from++)
		for (int to = from + 1; to < EVENTS; to++) {
			__u64 ms = all[to].at_ms - all[from].at_ms + SKEW;

			assert_true(all[to].spent - all[from].spent <=
				    mesh_budget_cap(p) + ms * p->per_second + all[to].earned -
					    all[from].earned);
		}
}

static void never_more_than_went_in(void **state)
{
	static struct happened all[EVENTS];
	__u64 total = 0;

	for (int round = 0; round < 60; round++) {
		struct mesh_budget_policy p = {.percent_pm = upto(10000), .per_second = upto(50)};
		__u64 w = 0, time = round % 2 ? WRAP - 1000 : T0;
		struct happened now = {0};

		for (int i = 0; i < EVENTS; i++) {
			__u64 reading = (time += upto(round)) - upto(SKEW);
			struct mesh_budget_step s = {w, 0};

			if (upto(2)) {
				s = mesh_budget_take(w, &p, reading);
				now.spent += s.granted * 1000ULL;
				w = s.word;
			} else {
				w = mesh_budget_earn(w, &p, reading);
				now.earned += p.percent_pm / 10;
			}
			now.at_ms = time;
			all[i] = now;
			assert_true(mesh_budget_level(w, &p, reading) <= mesh_budget_cap(&p));
		}
		check_intervals(all, &p);
		total += now.spent;
	}
	assert_true(total > 1000 * 1000);
}

struct purse {
	struct mesh_budget_policy p;
	__u64 word;
	__u32 granted;
};

#define EACH 100000

static void take_many(void *arg, int number)
{
	struct purse *purse = arg;
	struct mesh_budget_step s;
	__u64 old;

	for (int i = 0; i < 1000; i++) {
		change(&purse->word, old, (s = mesh_budget_take(old, &purse->p, T0)).word);
		__atomic_fetch_add(&purse->granted, s.granted, __ATOMIC_RELAXED);
	}
}

static void earn_many(void *arg, int number)
{
	struct purse *purse = arg;
	__u64 old;

	for (int i = 0; i < EACH; i++)
		change(&purse->word, old, mesh_budget_earn(old, &purse->p, T0));
}

static void four_at_once_get_no_more(void **state)
{
	for (__u32 tokens = 1; tokens < 2000; tokens += tokens < 10 ? 1 : 173) {
		struct purse purse = {.p = {0, 2000}, .word = word(T0, tokens * 1000)};

		in_threads(take_many, &purse);
		assert_int_equal(purse.granted, tokens);
		assert_int_equal(purse.word, word(T0, 0));
	}
}

static void four_at_once_lose_nothing(void **state)
{
	struct purse purse = {.p = {10, 1000}, .word = word(T0, 0)};

	in_threads(earn_many, &purse);
	assert_int_equal(purse.word, word(T0, THREADS * EACH));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_can_be_kept),
		cmocka_unit_test(how_much_there_is),
		cmocka_unit_test(what_a_request_earns),
		cmocka_unit_test(what_a_retry_costs),
		cmocka_unit_test(asking_does_not_delay),
		cmocka_unit_test(storm_stays_within_the_budget),
		cmocka_unit_test(clocks_that_differ_earn_nothing),
		cmocka_unit_test(never_more_than_went_in),
		cmocka_unit_test(four_at_once_get_no_more),
		cmocka_unit_test(four_at_once_lose_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
