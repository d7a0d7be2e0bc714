/* SPDX-License-Identifier: Apache-2.0 */
/* The circuit breaker: what must hold over random sequences, and when several change the word at
 * once. */
#include "tests/unit/breaker_words.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* after the types that it needs */
#include <cmocka.h>

#include "tests/unit/threads.h"

/* Leases that a random sequence has taken and not given back; some never come back. */
struct leases {
	__u64 out[64];
	int n;
};

static unsigned seed = 1;

static __u32 upto(__u32 n)
{
	return (__u32)rand_r(&seed) % (n + 1);
}

/* What a step may do to a word, whoever did it. */
static void check_step(__u64 before, __u64 after, const struct mesh_breaker_policy *p, __u64 now)
{
	__u32 from = mesh_breaker_state(before), to = mesh_breaker_state(after);

	assert_true(to <= MESH_OPEN && mesh_breaker_level(after) <= MESH_BREAKER_LEVELS);
	if (to == MESH_HALF_OPEN)
		assert_true(mesh_breaker_leases(after) + mesh_breaker_wins(after) <= p->half_open);
	else
		assert_int_equal(mesh_breaker_leases(after) + mesh_breaker_wins(after), 0);
	if (from == MESH_CLOSED)
		assert_int_not_equal(to, MESH_HALF_OPEN);
	if (from == MESH_OPEN) {
		assert_int_not_equal(to, MESH_CLOSED);
		if (to == MESH_HALF_OPEN)
			assert_true(mesh_breaker_age(before, now) >=
				    mesh_breaker_wait_ms(p, mesh_breaker_level(before)));
	}
	assert_true(mesh_breaker_since(after) >= mesh_breaker_since(before));
}

static __u64 random_return(__u64 word, const struct mesh_breaker_policy *p, struct leases *l,
			   __u64 now)
{
	int i = (int)upto((__u32)l->n - 1);
	__u64 lease = l->out[i];

	l->out[i] = l->out[--l->n];
	return upto(5) ? mesh_breaker_probed(word, p, lease, !upto(3), now)
		       : mesh_breaker_dropped(word, lease);
}

/* Leases of the round that is on are exactly those that are out; and never two rounds' worth. */
static void check_leases(__u64 word, const struct leases *l)
{
	__u32 current = 0;

	for (int i = 0; i < l->n; i++)
		current += l->out[i] == mesh_breaker_since(word);
	if (mesh_breaker_state(word) == MESH_HALF_OPEN)
		assert_true(current <= mesh_breaker_leases(word));
}

static void random_sequences_keep_the_rules(void **state)
{
	__u32 seen[3] = {0}, highest = 0;

	for (unsigned round = 1; round <= 300; round++) {
		struct mesh_breaker_policy p = {.error_pm = 1 + upto(9999),
						.min_requests = upto(20),
						.window_ms = 5 + upto(300),
						.open_ms = 1 + upto(100),
						.half_open = 1 + upto(5),
						.consecutive = upto(5),
						.probe_ms = 1 + upto(100)};
		__u64 word = 0, time = T0, went[MESH_WINDOW] = {0};
		__u32 in_a_row = 0, failing = upto(100);
		struct leases l = {.n = 0};

		for (int i = 0; i < 2000; i++) {
			__u64 now = (time += upto(10)) - upto(5), before = word;
			__u32 turn = mesh_window_turn(p.window_ms, now), failed;
			struct mesh_breaker_step s = mesh_breaker_admit(word, &p, now);
			struct mesh_tally t;

			check_step(before, s.word, &p, now);
			before = word = s.word;
			if (s.verdict == MESH_PROBE && upto(9) && l.n < 64)
				l.out[l.n++] = s.lease;
			check_leases(word, &l);
			if (l.n && upto(1)) {
				word = random_return(word, &p, &l, now);
				check_step(before, word, &p, now);
				before = word;
			}
			failed = upto(100) < failing;
			in_a_row = failed ? in_a_row + 1 : 0;
			went[mesh_window_index(turn)] =
				mesh_window_add(went[mesh_window_index(turn)], turn, failed);
			t = mesh_breaker_tally(word, &p, went, now);
			word = mesh_breaker_trip(word, &p, t, in_a_row, now);
			check_step(before, word, &p, now);
			if (word != before) /* only after the rule */
				assert_true((p.consecutive && in_a_row >= p.consecutive) ||
					    (t.total >= p.min_requests && t.failed &&
					     t.failed * 10000ULL >= p.error_pm * (__u64)t.total));
			seen[mesh_breaker_state(word)]++;
			if (mesh_breaker_level(word) > highest)
				highest = mesh_breaker_level(word);
			if (!upto(200))
				failing = upto(100);
		}
	}
	for (int i = 0; i < 3; i++)
		assert_true(seen[i] > 1000);
	assert_int_equal(highest, MESH_BREAKER_LEVELS);
}

/* Whatever was lost or damaged, and whatever the policy was before: it closes once all is well. */
static void always_closes_once_all_is_well(void **state)
{
	for (unsigned round = 1; round <= 2000; round++) {
		struct mesh_breaker_policy p = {.open_ms = 1 + upto(1000),
						.half_open = 1 + upto(254),
						.probe_ms = 1 + upto(1000)};
		__u64 word = (__u64)rand_r(&seed) << 33 ^ (__u64)rand_r(&seed) << 11, now = T0;

		word &= ~HELD;
		if (round % 2)
			word = (word & ~MESH_BREAKER_TIME) | (T0 - 500 + upto(1000));
		for (int i = 0; mesh_breaker_state(word) != MESH_CLOSED; i++) {
			struct mesh_breaker_step s = mesh_breaker_admit(word, &p, now);

			word = s.word;
			if (s.verdict == MESH_PROBE)
				word = mesh_breaker_probed(word, &p, s.lease, 0, now);
			else
				now += p.open_ms;
			assert_true(i < 2000);
		}
	}
}

#define TRIES 1000

struct contest {
	struct mesh_breaker_policy p;
	__u64 word, now;
	__u32 granted, opened, closed;
};

static void try_to_probe(void *arg, int number)
{
	struct contest *c = arg;
	struct mesh_breaker_step s;
	__u64 old;

	for (int i = 0; i < TRIES; i++) {
		change(&c->word, old, (s = mesh_breaker_admit(old, &c->p, c->now)).word);
		if (s.verdict == MESH_PROBE)
			__atomic_fetch_add(&c->granted, 1, __ATOMIC_RELAXED);
		if (mesh_breaker_state(old) == MESH_OPEN && s.word != old)
			__atomic_fetch_add(&c->opened, 1, __ATOMIC_RELAXED);
	}
}

static void four_at_once_get_no_more_probes(void **state)
{
	for (__u32 n = 1; n <= 255; n += n < 8 ? 1 : 19) {
		struct contest c = {.p = P, .word = open_at(0, T0), .now = T0 + 30000};

		c.p.half_open = n;
		in_threads(try_to_probe, &c);
		assert_int_equal(c.granted, n);
		assert_int_equal(c.opened, 1);
		assert_int_equal(c.word, half(0, n, 0, T0 + 30000));
	}
}

/* Takes probes and brings them back good: one of all closes it. */
static void probe_well(void *arg, int number)
{
	struct contest *c = arg;
	struct mesh_breaker_step s;
	__u64 old, next;

	for (int i = 0; i < TRIES; i++) {
		change(&c->word, old, (s = mesh_breaker_admit(old, &c->p, c->now)).word);
		if (s.verdict != MESH_PROBE)
			continue;
		__atomic_fetch_add(&c->granted, 1, __ATOMIC_RELAXED);
		change(&c->word, old, (next = mesh_breaker_probed(old, &c->p, s.lease, 0, c->now)));
		if (next != old && mesh_breaker_state(next) == MESH_CLOSED)
			__atomic_fetch_add(&c->closed, 1, __ATOMIC_RELAXED);
	}
}

static void four_at_once_close_it_once(void **state)
{
	for (__u32 n = 1; n <= 255; n += n < 8 ? 1 : 19) {
		struct contest c = {.p = P, .word = open_at(2, T0), .now = T0 + 120000};

		c.p.half_open = n;
		in_threads(probe_well, &c);
		assert_int_equal(c.granted, n);
		assert_int_equal(c.closed, 1);
		assert_int_equal(c.word, closed(2, T0 + 120000));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_sequences_keep_the_rules),
		cmocka_unit_test(always_closes_once_all_is_well),
		cmocka_unit_test(four_at_once_get_no_more_probes),
		cmocka_unit_test(four_at_once_close_it_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
