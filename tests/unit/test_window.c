/* SPDX-License-Identifier: Apache-2.0 */
/* The rolling window: what a word says after one more request, in tables of cases, and what the
 * whole says over random sequences, compared with a list of all that happened. */
#include <mesh/window.h>

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
#define FULL	 MESH_WINDOW_FULL
#define LAST	 (MESH_WINDOW_TURNS - 1)

struct bucket {
	__u64 turn, failed, total;
};

static __u64 word_of(struct bucket b)
{
	return b.turn << 40 | b.failed << 20 | b.total;
}

static void length_of_a_bucket(void **state)
{
	static const struct {
		__u32 window, want;
	} cases[] = {{10000, 2000}, {1000, 200}, {9, 1}, {5, 1}, {4, 1}, {0, 1}, {~0U, 858993459}};

	for (size_t i = 0; i < COUNT(cases); i++)
		assert_int_equal(mesh_window_bucket_ms(cases[i].window), cases[i].want);
}

static void turn_of_a_time(void **state)
{
	static const struct {
		__u64 now;
		__u32 turn, index;
	} cases[] = {
		{0, 0, 0},
		{1999, 0, 0},
		{2000, 1, 1},
		{10000, 5, 0},
		{2000ULL * LAST, LAST, 4},
		{2000ULL * LAST + 1999, LAST, 4},
		{2000ULL * MESH_WINDOW_TURNS, 0, 0}, /* the next word, though the number wraps */
		{2000ULL * MESH_WINDOW_TURNS + 2000, 1, 1},
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		__u32 turn = mesh_window_turn(10000, cases[i].now);

		assert_int_equal(turn, cases[i].turn);
		assert_int_equal(mesh_window_index(turn), cases[i].index);
	}
	assert_int_equal(mesh_window_turns(LAST, 0), 1);
	assert_int_equal(mesh_window_turns(0, LAST), LAST);
	assert_int_equal(mesh_window_turns(7, 7), 0);
}

static void word_after_one_more(void **state)
{
	static const struct {
		const char *what;
		struct bucket before;
		__u32 turn, failed;
		struct bucket after;
	} cases[] = {
		{"the first", {0, 0, 0}, 100, 0, {100, 0, 1}},
		{"the first, failed", {0, 0, 0}, 100, 1, {100, 1, 1}},
		{"turn 0 is a turn", {0, 0, 0}, 0, 1, {0, 1, 1}},
		{"one more", {100, 3, 7}, 100, 0, {100, 3, 8}},
		{"one more, failed", {100, 3, 7}, 100, 1, {100, 4, 8}},
		{"any number means failed", {100, 3, 7}, 100, 0x80000000, {100, 4, 8}},
		{"an earlier turn is over", {95, 3, 7}, 100, 1, {100, 1, 1}},
		{"an earlier turn, before the wrap", {LAST - 4, 3, 7}, 0, 0, {0, 0, 1}},
		{"a window late", {105, 3, 7}, 100, 1, {105, 3, 7}},
		{"a window late, after the wrap", {0, 3, 7}, LAST - 4, 1, {0, 3, 7}},
		{"far ahead is very old", {110, 3, 7}, 100, 1, {100, 1, 1}},
		{"almost full", {100, 0, FULL - 1}, 100, 0, {100, 0, FULL}},
		{"full", {100, 1000, FULL}, 100, 0, {100, 500, FULL / 2 + 1}},
		{"full of failures", {100, FULL, FULL}, 100, 1, {100, FULL / 2 + 1, FULL / 2 + 1}},
		{"full, of an earlier turn", {95, FULL, FULL}, 100, 0, {100, 0, 1}},
		{"more failures than requests", {100, FULL, 0}, 100, 1, {100, FULL / 2 + 1, 1}},
		{"never used is not ahead", {0, 0, 0}, LAST - 4, 1, {LAST - 4, 1, 1}},
		{"no turn has that number", {MESH_WINDOW_TURNS, 3, 7}, 100, 0, {100, 0, 1}},
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		__u64 got =
			mesh_window_add(word_of(cases[i].before), cases[i].turn, cases[i].failed);

		if (got != word_of(cases[i].after))
			fail_msg("%s: %llx", cases[i].what, (unsigned long long)got);
	}
}

static void what_still_counts(void **state)
{
	static const struct {
		const char *what;
		__u32 of, now, turns, counts;
	} cases[] = {
		{"this turn", 100, 100, 5, 1},
		{"the oldest of the window", 96, 100, 5, 1},
		{"one turn too old", 95, 100, 5, 0},
		{"the oldest, before the wrap", LAST - 3, 0, 5, 1},
		{"one too old, before the wrap", LAST - 4, 0, 5, 0},
		{"counted by who is a turn ahead", 101, 100, 5, 1},
		{"ahead, after the wrap", 0, LAST, 5, 1},
		{"four turns ahead", 104, 100, 5, 1},
		{"so far ahead is very old", 105, 100, 5, 0},
		{"only the last two turns: in", 99, 100, 2, 1},
		{"only the last two turns: out", 98, 100, 2, 0},
		{"only this turn", 99, 100, 1, 0},
		{"ahead counts as this turn", 101, 100, 1, 1},
		{"no turn at all", 100, 100, 0, 0},
		{"no turn at all, ahead", 101, 100, 0, 0},
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct mesh_tally t = mesh_window_read(word_of((struct bucket){cases[i].of, 3, 7}),
						       cases[i].now, cases[i].turns);

		if (t.total != 7 * cases[i].counts || t.failed != 3 * cases[i].counts)
			fail_msg("%s: %u of %u", cases[i].what, t.failed, t.total);
	}
}

struct happened {
	__u64 at_ms;
	__u32 failed;
};

#define EVENTS 1000

static unsigned seed = 1;

/* A list of what happened in the last `turns` turns before now. */
static struct mesh_tally listed(const struct happened *all, int n, __u32 bucket, __u64 now,
				__u64 turns)
{
	struct mesh_tally t = {0, 0};

	for (int i = n; i-- > 0;) {
		__u64 age = now / bucket - all[i].at_ms / bucket;

		if (all[i].at_ms / bucket > now / bucket)
			age = 0;
		if (age >= turns)
			continue;
		t.total++;
		t.failed += all[i].failed;
	}
	return t;
}

/* One clock: exactly what happened in the last turns, over the wrap of their numbers. */
static void counts_exactly_what_was_added(void **state)
{
	static struct happened all[EVENTS];

	for (unsigned round = 1; round <= 40; round++) {
		__u32 window = 5 + (__u32)rand_r(&seed) % 2000,
		      bucket = mesh_window_bucket_ms(window);
		__u64 w[MESH_WINDOW] = {0},
		      now = (__u64)bucket * MESH_WINDOW_TURNS - (__u64)bucket * 20;

		for (int i = 0; i < EVENTS; i++) {
			__u32 turn, turns = (__u32)rand_r(&seed) % (MESH_WINDOW + 1);
			struct mesh_tally want, got;

			now += (__u64)rand_r(&seed) % 20 ? (__u64)rand_r(&seed) % (bucket / 4 + 1)
							 : (__u64)rand_r(&seed) % (2 * window);
			turn = mesh_window_turn(window, now);
			all[i] = (struct happened){now, rand_r(&seed) % 3 == 0};
			w[mesh_window_index(turn)] =
				mesh_window_add(w[mesh_window_index(turn)], turn, all[i].failed);
			want = listed(all, i + 1, bucket, now, turns);
			got = mesh_window_sum(w, turn, turns);
			if (got.total != want.total || got.failed != want.failed)
				fail_msg("%u of %u, not %u of %u", got.failed, got.total,
					 want.failed, want.total);
		}
	}
}

/* Clocks that differ by up to two windows: never more than was added, nor more failures than
 * requests. */
static void never_counts_more_than_was_added(void **state)
{
	static struct happened all[EVENTS];

	for (unsigned round = 1; round <= 40; round++) {
		__u32 window = 5 + (__u32)rand_r(&seed) % 500,
		      bucket = mesh_window_bucket_ms(window);
		__u64 w[MESH_WINDOW] = {0}, now = 1000000;

		for (int i = 0; i < EVENTS; i++) {
			__u64 reading = now - (__u64)rand_r(&seed) % (2 * window);
			__u32 turn = mesh_window_turn(window, reading);
			struct mesh_tally want, got;

			all[i] = (struct happened){reading, rand_r(&seed) % 2};
			w[mesh_window_index(turn)] =
				mesh_window_add(w[mesh_window_index(turn)], turn, all[i].failed);
			got = mesh_window_sum(w, turn, MESH_WINDOW);
			want = listed(all, i + 1, bucket, reading, MESH_WINDOW);
			assert_true(got.total <= want.total && got.failed <= want.failed);
			assert_true(got.failed <= got.total);
			now += (__u64)rand_r(&seed) % (bucket + 1);
		}
	}
}

static void full_keeps_the_ratio(void **state)
{
	__u64 w[MESH_WINDOW] = {0};
	struct mesh_tally t;

	for (__u32 i = 0; i < 5 * FULL; i++)
		w[0] = mesh_window_add(w[0], 0, i % 4 == 0);
	t = mesh_window_sum(w, 0, MESH_WINDOW);
	assert_in_range(t.total, FULL / 2, FULL);
	assert_in_range(t.failed * 1000ULL / t.total, 249, 251);
}

#define EACH 100000

static void add_many(void *word, int number)
{
	__u64 old;

	for (int i = 0; i < EACH; i++)
		change((__u64 *)word, old, mesh_window_add(old, 42, number == 0));
}

static void four_at_once_lose_nothing(void **state)
{
	__u64 w[MESH_WINDOW] = {0};
	struct mesh_tally t;

	in_threads(add_many, &w[mesh_window_index(42)]);
	t = mesh_window_sum(w, 42, MESH_WINDOW);
	assert_int_equal(t.total, THREADS * EACH);
	assert_int_equal(t.failed, EACH);
}

/* While one turn after the other begins under their hands. */
static void add_over_turns(void *words, int number)
{
	__u64 *w = words, old;

	for (__u32 i = 0; i < EACH; i++)
		change(&w[mesh_window_index(i / 1000)], old, mesh_window_add(old, i / 1000, 0));
}

static void four_at_once_take_turns(void **state)
{
	__u64 w[MESH_WINDOW] = {0};
	struct mesh_tally t;

	in_threads(add_over_turns, w);
	t = mesh_window_sum(w, EACH / 1000 - 1, MESH_WINDOW);
	assert_in_range(t.total, 1000, THREADS * MESH_WINDOW * 1000);
}

static void good_that_failed_in_the_end_is_counted_once(void **state)
{
	const struct {
		__u32 of, total, failed; /* the bucket */
		__u32 turn;		 /* now */
		__u32 after_total, after_failed;
	} cases[] = {
		{7, 1, 0, 7, 1, 1},  {7, 5, 2, 7, 5, 3},
		{7, 5, 5, 7, 6, 6},  /* the good one was in an earlier bucket */
		{7, 5, 0, 12, 1, 1}, /* the bucket is an old one */
		{7, 0, 0, 7, 1, 1},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		__u64 w = (__u64)cases[i].of << 40 | (__u64)cases[i].failed << 20 | cases[i].total;
		struct mesh_tally t;

		w = mesh_window_amend(w, cases[i].turn);
		t = mesh_window_read(w, cases[i].turn, MESH_WINDOW);
		assert_int_equal(w >> 40, cases[i].turn);
		assert_int_equal(t.total, cases[i].after_total);
		assert_int_equal(t.failed, cases[i].after_failed);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(length_of_a_bucket),
		cmocka_unit_test(turn_of_a_time),
		cmocka_unit_test(word_after_one_more),
		cmocka_unit_test(what_still_counts),
		cmocka_unit_test(counts_exactly_what_was_added),
		cmocka_unit_test(never_counts_more_than_was_added),
		cmocka_unit_test(full_keeps_the_ratio),
		cmocka_unit_test(good_that_failed_in_the_end_is_counted_once),
		cmocka_unit_test(four_at_once_lose_nothing),
		cmocka_unit_test(four_at_once_take_turns),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
