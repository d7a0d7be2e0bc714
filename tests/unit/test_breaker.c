/* SPDX-License-Identifier: Apache-2.0 */
/* The circuit breaker: each rule in a table of cases, and what they amount to in stories. */
#include "tests/unit/breaker_words.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* after the types that it needs */
#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static void word_holds_its_parts(void **state)
{
	__u64 w = mesh_breaker_word(MESH_OPEN, 15, 255, 254, MESH_BREAKER_TIME) | HELD;

	assert_int_equal(w, ~0ULL - (1ULL << 62) - (1ULL << 41));
	assert_int_equal(mesh_breaker_state(w), MESH_OPEN);
	assert_int_equal(mesh_breaker_level(w), 15);
	assert_int_equal(mesh_breaker_leases(w), 255);
	assert_int_equal(mesh_breaker_wins(w), 254);
	assert_int_equal(mesh_breaker_since(w), MESH_BREAKER_TIME);
	assert_int_equal(mesh_breaker_state(0), MESH_CLOSED);
	/* nothing spills into its neighbour */
	assert_int_equal(mesh_breaker_word(0, 16, 256, 256, MESH_BREAKER_TIME + 1), 0);
}

static void age_of_a_word(void **state)
{
	static const struct {
		__u64 since, now, want;
	} cases[] = {
		{T0, T0, 0},
		{T0, T0 + 7, 7},
		{T0, T0 - 7, 0},
		{0, T0, T0},
		{MESH_BREAKER_TIME, MESH_BREAKER_TIME + 3, 3},
		{2, MESH_BREAKER_TIME, 0},
		{T0 + 59999, T0, 0},
		{T0 + 60000, T0, MESH_BREAKER_TIME + 1 - 60000}, /* no reading */
	};

	for (size_t i = 0; i < COUNT(cases); i++)
		assert_int_equal(mesh_breaker_age(closed(0, cases[i].since), cases[i].now),
				 cases[i].want);
}

static void how_long_it_waits(void **state)
{
	static const struct {
		__u32 open_ms, level;
		__u64 want;
	} cases[] = {
		{30000, 0, 30000},
		{30000, 1, 60000},
		{30000, 4, 480000},
		{30000, 5, 480000},
		{30000, 15, 480000},
		{1000000, 2, MESH_BREAKER_MAX_MS},
		{MESH_BREAKER_MAX_MS, 4, MESH_BREAKER_MAX_MS},
		{2 * MESH_BREAKER_MAX_MS, 0, 2 * MESH_BREAKER_MAX_MS},
		{2 * MESH_BREAKER_MAX_MS, 4, 2 * MESH_BREAKER_MAX_MS},
		{~0U, 4, ~0U},
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct mesh_breaker_policy p = {.open_ms = cases[i].open_ms};

		assert_int_equal(mesh_breaker_wait_ms(&p, cases[i].level), cases[i].want);
	}
}

static void when_it_trips(void **state)
{
	static const struct {
		const char *what;
		__u64 before;
		struct mesh_tally t;
		__u32 consecutive;
		__u64 after;
	} cases[] = {
		{"too few requests", 0, {9, 9}, 4, 0},
		{"just enough", 0, {10, 5}, 0, 1},
		{"not half of them", 0, {1000, 499}, 4, 0},
		{"half of them", 0, {1000, 500}, 4, 1},
		{"so many that 32 bits would not do", 0, {5 << 20, 5 << 19}, 0, 1},
		{"none failed", 0, {1000, 0}, 0, 0},
		{"five in a row", 0, {5, 5}, 5, 1},
		{"five in a row, of many", 0, {100000, 5}, 5, 1},
		{"more than five in a row", 0, {0, 0}, ~0U, 1},
		{"held closed", closed(0, 5) | HELD, {100, 100}, 100, 0},
		{"open already", open_at(0, T0), {100, 100}, 100, 0},
		{"half-open: probes decide", half(0, 1, 0, T0), {100, 100}, 100, 0},
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		__u64 got = mesh_breaker_trip(cases[i].before, &P, cases[i].t, cases[i].consecutive,
					      T0 + 1);

		if (got != (cases[i].after ? open_at(0, T0 + 1) : cases[i].before))
			fail_msg("%s: %llx", cases[i].what, (unsigned long long)got);
	}
}

static void policies_that_leave_something_out(void **state)
{
	struct mesh_breaker_policy p = P;
	const struct mesh_tally all = {100, 100}, one = {1, 1}, none = {0, 0};

	p.consecutive = 0;
	assert_int_equal(mesh_breaker_trip(0, &p, none, ~0U, T0), 0);
	p.error_pm = 10000;
	assert_int_equal(mesh_breaker_trip(0, &p, (struct mesh_tally){100, 99}, 0, T0), 0);
	assert_int_equal(mesh_breaker_trip(0, &p, all, 0, T0), open_at(0, T0));
	p.error_pm = p.min_requests = 0;
	assert_int_equal(mesh_breaker_trip(0, &p, none, 0, T0), 0);
	assert_int_equal(mesh_breaker_trip(0, &p, one, 0, T0), open_at(0, T0));
}

static void repeat_offenders_wait_longer(void **state)
{
	static const struct {
		const char *what;
		__u64 before;
		__u64 after_ms; /* closed for so long */
		__u32 level;
	} cases[] = {
		{"the first time", 0, 0, 0},
		{"again at once", closed(0, T0), 0, 1},
		{"again just before it is forgotten", closed(0, T0), 29999, 1},
		{"forgotten", closed(0, T0), 30000, 0},
		{"a third time", closed(1, T0), 59999, 2},
		{"forgotten after twice as long", closed(1, T0), 60000, 0},
		{"not above the last level", closed(4, T0), 479999, 4},
		{"forgotten even from there", closed(4, T0), 480000, 0},
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		__u64 now = T0 + cases[i].after_ms,
		      got = mesh_breaker_trip(cases[i].before, &P, (struct mesh_tally){10, 10}, 0,
					      now);

		if (got != open_at(cases[i].level, now))
			fail_msg("%s: level %u", cases[i].what, mesh_breaker_level(got));
	}
	/* a clock reading behind does not turn the word's time back */
	assert_int_equal(
		mesh_breaker_trip(closed(2, T0 + 50), &P, (struct mesh_tally){10, 10}, 0, T0),
		open_at(3, T0 + 50));
	/* closed since ever is not closed since boot, seconds ago */
	assert_int_equal(mesh_breaker_trip(0, &P, (struct mesh_tally){10, 10}, 0, 100),
			 open_at(0, 100));
}

static void who_may_pass(void **state)
{
	static const struct {
		const char *what;
		__u64 before, now;
		__u32 verdict;
		__u64 after; /* 0: as before */
	} cases[] = {
		{"closed since ever", 0, T0, MESH_PASS, 0},
		{"closed", closed(4, T0), T0, MESH_PASS, 0},
		{"held closed", closed(0, T0) | HELD, T0, MESH_PASS, 0},
		{"open", open_at(0, T0), T0 + 29999, MESH_REFUSE, 0},
		{"open, clock behind", open_at(0, T0), T0 - 5, MESH_REFUSE, 0},
		{"open and over", open_at(0, T0), T0 + 30000, MESH_PROBE,
		 half(0, 1, 0, T0 + 30000)},
		{"open at level 2", open_at(2, T0), T0 + 119999, MESH_REFUSE, 0},
		{"open at level 2 and over", open_at(2, T0), T0 + 120000, MESH_PROBE,
		 half(2, 1, 0, T0 + 120000)},
		{"held open", open_at(0, T0) | HELD, T0 + 100000000, MESH_REFUSE, 0},
		{"the second of three probes", half(1, 1, 0, T0), T0 + 9, MESH_PROBE,
		 half(1, 2, 0, T0)},
		{"all are out", half(1, 3, 0, T0), T0 + 9, MESH_REFUSE, 0},
		{"all are out or won", half(1, 1, 2, T0), T0 + 9, MESH_REFUSE, 0},
		{"the rest of a round", half(1, 1, 1, T0), T0 + 9, MESH_PROBE, half(1, 2, 1, T0)},
		{"none is out: a new round", half(1, 0, 1, T0), T0 + 9, MESH_PROBE,
		 half(1, 1, 1, T0 + 9)},
		{"a new round, clock behind", half(1, 0, 1, T0), T0 - 9, MESH_PROBE,
		 half(1, 1, 1, T0)},
		{"the last moment of a round", half(1, 3, 0, T0), T0 + 4999, MESH_REFUSE, 0},
		{"all were lost", half(1, 3, 0, T0), T0 + 5000, MESH_PROBE,
		 half(1, 1, 0, T0 + 5000)},
		{"some were lost, some had won", half(1, 1, 2, T0), T0 + 5000, MESH_PROBE,
		 half(1, 1, 2, T0 + 5000)},
		{"as many won as a former policy wanted", half(1, 0, 9, T0), T0 + 1, MESH_PROBE,
		 half(1, 1, 2, T0 + 1)},
		{"as many out as a former policy wanted", half(1, 9, 0, T0), T0 + 1, MESH_REFUSE,
		 0},
		{"no such state", 3ULL << 62 | T0, T0 + 1, MESH_PROBE, half(0, 1, 0, T0 + 1)},
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct mesh_breaker_step s = mesh_breaker_admit(cases[i].before, &P, cases[i].now);

		if (s.verdict != cases[i].verdict ||
		    s.word != (cases[i].after ? cases[i].after : cases[i].before))
			fail_msg("%s: %u %llx", cases[i].what, s.verdict,
				 (unsigned long long)s.word);
		assert_int_equal(s.lease, s.verdict == MESH_PROBE ? mesh_breaker_since(s.word) : 0);
	}
}

static void what_a_probe_says(void **state)
{
	static const struct {
		const char *what;
		__u64 before, lease;
		__u32 failed;
		__u64 after; /* 0: as before */
	} cases[] = {
		{"the first good one of three", half(1, 3, 0, T0), T0, 0, half(1, 2, 1, T0)},
		{"the last good one", half(1, 1, 2, T0), T0, 0, closed(1, T0 + 7)},
		{"more than are needed now", half(1, 1, 9, T0), T0, 0, closed(1, T0 + 7)},
		{"a bad one", half(1, 1, 2, T0), T0, 1, open_at(2, T0 + 7)},
		{"a bad one at the last level", half(4, 1, 0, T0), T0, 1, open_at(4, T0 + 7)},
		{"a good one of an earlier round", half(1, 1, 2, T0), T0 - 1, 0, 0},
		{"a bad one of an earlier round", half(1, 1, 2, T0), T0 - 1, 1, 0},
		{"none is out", half(1, 0, 2, T0), T0, 1, 0},
		{"somebody closed it meanwhile", closed(1, T0), T0, 1, 0},
		{"somebody opened it meanwhile", open_at(1, T0), T0, 0, 0},
		{"held open meanwhile", open_at(0, T0) | HELD, T0, 0, 0},
		{"held, whatever else", half(1, 1, 2, T0) | HELD, T0, 0, 0},
		{"reset meanwhile", 0, T0, 1, 0},
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		__u64 got = mesh_breaker_probed(cases[i].before, &P, cases[i].lease,
						cases[i].failed, T0 + 7);

		if (got != (cases[i].after ? cases[i].after : cases[i].before))
			fail_msg("%s: %llx", cases[i].what, (unsigned long long)got);
	}
	/* a clock reading behind does not turn the word's time back */
	assert_int_equal(mesh_breaker_probed(half(0, 1, 0, T0), &P, T0, 1, T0 - 9), open_at(1, T0));
}

static void what_a_dropped_probe_leaves(void **state)
{
	static const struct {
		__u64 before, lease, after;
	} cases[] = {
		{half(1, 3, 1, T0), T0, half(1, 2, 1, T0)},
		{half(1, 1, 0, T0), T0, half(1, 0, 0, T0)},
		{half(1, 0, 0, T0), T0, half(1, 0, 0, T0)},
		{half(1, 2, 0, T0), T0 - 1, half(1, 2, 0, T0)},
		{half(1, 2, 0, T0) | HELD, T0, half(1, 2, 0, T0) | HELD},
		{open_at(1, T0), T0, open_at(1, T0)},
		{closed(1, T0), T0, closed(1, T0)},
	};

	for (size_t i = 0; i < COUNT(cases); i++)
		assert_int_equal(mesh_breaker_dropped(cases[i].before, cases[i].lease),
				 cases[i].after);
}

static void by_hand(void **state)
{
	static const struct mesh_tally bad = {100, 100};
	__u64 w = mesh_breaker_hand(MESH_HAND_OPEN, T0);

	assert_int_equal(mesh_breaker_admit(w, &P, T0 + (1ULL << 39)).verdict, MESH_REFUSE);
	w = mesh_breaker_hand(MESH_HAND_CLOSE, T0);
	assert_int_equal(mesh_breaker_trip(w, &P, bad, 100, T0 + 1), w);
	assert_int_equal(mesh_breaker_admit(w, &P, T0).verdict, MESH_PASS);
	w = mesh_breaker_hand(MESH_HAND_RESET, T0);
	assert_int_equal(w, 0);
	assert_int_equal(mesh_breaker_trip(w, &P, bad, 0, T0), open_at(0, T0));
}

/* A worker took the only probe and was killed. */
static void lost_lease_blocks_for_one_round(void **state)
{
	struct mesh_breaker_policy p = P;
	struct mesh_breaker_step lost, next;

	p.half_open = 1;
	lost = mesh_breaker_admit(open_at(0, T0), &p, T0 + 30000);
	assert_int_equal(lost.verdict, MESH_PROBE);
	assert_int_equal(mesh_breaker_admit(lost.word, &p, T0 + 34999).verdict, MESH_REFUSE);
	next = mesh_breaker_admit(lost.word, &p, T0 + 35000);
	assert_int_equal(next.verdict, MESH_PROBE);
	/* it was not dead, only slow */
	assert_int_equal(mesh_breaker_probed(next.word, &p, lost.lease, 0, T0 + 35001), next.word);
	assert_int_equal(mesh_breaker_dropped(next.word, lost.lease), next.word);
	assert_int_equal(mesh_breaker_probed(next.word, &p, next.lease, 0, T0 + 35002),
			 closed(0, T0 + 35002));
}

/* Others that come and go do not make a lost lease live longer. */
static void lost_lease_is_not_prolonged(void **state)
{
	struct mesh_breaker_step s = mesh_breaker_admit(open_at(0, T0), &P, T0 + 30000);
	__u64 began = T0 + 30000, word;

	s = mesh_breaker_admit(s.word, &P, began + 2000);
	word = mesh_breaker_probed(s.word, &P, s.lease, 0, began + 3000);
	s = mesh_breaker_admit(word, &P, began + 4000);
	word = mesh_breaker_probed(s.word, &P, s.lease, 0, began + 4900);
	assert_int_equal(mesh_breaker_admit(word, &P, began + 4999).verdict, MESH_REFUSE);
	s = mesh_breaker_admit(word, &P, began + 5000);
	assert_int_equal(s.verdict, MESH_PROBE);
	assert_int_equal(mesh_breaker_probed(s.word, &P, s.lease, 0, began + 5001),
			 closed(0, began + 5001));
}

/* A probe of the time before it opened again is no probe of now. */
static void probe_of_an_earlier_life_says_nothing(void **state)
{
	struct mesh_breaker_step early, a, b;
	__u64 word;

	a = mesh_breaker_admit(open_at(0, T0), &P, T0 + 30000);
	early = mesh_breaker_admit(a.word, &P, T0 + 30000);
	word = mesh_breaker_probed(early.word, &P, a.lease, 1, T0 + 30000);
	assert_int_equal(word, open_at(1, T0 + 30000));
	b = mesh_breaker_admit(word, &P, T0 + 90000);
	assert_int_equal(b.verdict, MESH_PROBE);
	assert_int_equal(mesh_breaker_probed(b.word, &P, early.lease, 1, T0 + 90001), b.word);
}

/* The window is longer than the wait: what opened it must not do so again. */
static void old_failures_do_not_trip_twice(void **state)
{
	struct mesh_breaker_policy p = P;
	__u64 w[MESH_WINDOW] = {0}, word, now = T0;
	struct mesh_breaker_step s;
	__u32 turn;

	p.open_ms = 1000;
	p.half_open = 1;
	turn = mesh_window_turn(p.window_ms, now);
	for (int i = 0; i < 100; i++)
		w[mesh_window_index(turn)] = mesh_window_add(w[mesh_window_index(turn)], turn, 1);
	word = mesh_breaker_trip(0, &p, mesh_breaker_tally(0, &p, w, now), 0, now);
	assert_int_equal(word, open_at(0, T0));
	/* it may be shown while it is open */
	assert_int_equal(mesh_breaker_tally(word, &p, w, now).failed, 100);

	now += 2500;
	s = mesh_breaker_admit(word, &p, now);
	word = mesh_breaker_probed(s.word, &p, s.lease, 0, now);
	assert_int_equal(word, closed(0, now));
	assert_int_equal(mesh_breaker_tally(word, &p, w, now).total, 0);
	assert_int_equal(mesh_breaker_tally(word, &p, w, now - 100).total, 0);
	assert_int_equal(mesh_breaker_trip(word, &p, mesh_breaker_tally(word, &p, w, now), 0, now),
			 word);

	now += 2000; /* the next bucket */
	turn = mesh_window_turn(p.window_ms, now);
	for (int i = 0; i < 10; i++)
		w[mesh_window_index(turn)] = mesh_window_add(w[mesh_window_index(turn)], turn, 1);
	assert_int_equal(mesh_breaker_tally(word, &p, w, now).total, 10);
	assert_int_equal(mesh_breaker_trip(word, &p, mesh_breaker_tally(word, &p, w, now), 0, now),
			 open_at(0, now)); /* closed for longer than it was open */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(word_holds_its_parts),
		cmocka_unit_test(age_of_a_word),
		cmocka_unit_test(how_long_it_waits),
		cmocka_unit_test(when_it_trips),
		cmocka_unit_test(policies_that_leave_something_out),
		cmocka_unit_test(repeat_offenders_wait_longer),
		cmocka_unit_test(who_may_pass),
		cmocka_unit_test(what_a_probe_says),
		cmocka_unit_test(what_a_dropped_probe_leaves),
		cmocka_unit_test(by_hand),
		cmocka_unit_test(lost_lease_blocks_for_one_round),
		cmocka_unit_test(lost_lease_is_not_prolonged),
		cmocka_unit_test(probe_of_an_earlier_life_says_nothing),
		cmocka_unit_test(old_failures_do_not_trip_twice),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
