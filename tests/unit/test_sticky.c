/* SPDX-License-Identifier: Apache-2.0 */
/* Sticky sessions: shares, who moves when endpoints come and go, and the bound of the load. */
#include "lib/hash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* after the types that it needs */
#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define KEYS	 20000
#define MOST	 20 /* endpoints */

/* Hashes like those of ids that differ in their last digit. */
static __u32 id_of(__u32 ep)
{
	return 0x2f6a1c00 + ep;
}

static __u64 key_of(__u32 i)
{
	char text[24];

	return hash64(text, (size_t)snprintf(text, sizeof(text), "user-%u", i));
}

/* The endpoint of a key among the first n but one, nobody being full. */
static __u32 chosen(__u64 key, __u32 n, __u32 but)
{
	struct mesh_sticky best = {.ep = MESH_NONE};

	for (__u32 ep = 0; ep < n; ep++)
		if (ep != but)
			best = mesh_sticky_consider(best, ep, mesh_sticky_score(key, id_of(ep)), 0);
	return best.ep;
}

/* Cookies outlive us: these may never change. */
static void hashes_are_for_ever(void **state)
{
	assert_int_equal(hash64("", 0), 0xf52a15e9a9b5e89bULL);
	assert_int_equal(hash64("a", 1), 0x2c0bdbf481420f8ULL);
	assert_int_equal(mesh_sticky_mix(0), 0);
	assert_int_equal(mesh_sticky_mix(0x9e3779b97f4a7c15ULL), 0xe220a8397b1dcdafULL);
	assert_int_equal(mesh_sticky_score(0, 0), 0x48218226ff3cd4bfULL);
}

static void one_bit_changes_half_of_all(void **state)
{
	for (int bit = 0; bit < 64; bit++) {
		__u32 changed = 0;

		for (__u32 i = 0; i < 1000; i++) {
			__u64 key = key_of(i);

			changed += (__u32)__builtin_popcountll(
				mesh_sticky_score(key, 7) ^
				mesh_sticky_score(key ^ 1ULL << bit, 7));
		}
		assert_in_range(changed, 31000, 33000);
	}
}

static void shares_are_equal(void **state)
{
	for (__u32 n = 1; n <= MOST; n++) {
		__u32 got[MOST] = {0};

		for (__u32 i = 0; i < KEYS; i++)
			got[chosen(key_of(i), n, MESH_NONE)]++;
		for (__u32 ep = 0; ep < n; ep++)
			assert_in_range(got[ep] * n, KEYS * 85 / 100, KEYS * 115 / 100);
	}
}

static void only_the_keys_of_who_goes_move(void **state)
{
	const __u32 n = 7;

	for (__u32 gone = 0; gone < n; gone++) {
		__u32 moved[7] = {0}, all = 0;

		for (__u32 i = 0; i < KEYS; i++) {
			__u32 before = chosen(key_of(i), n, MESH_NONE),
			      after = chosen(key_of(i), n, gone);

			if (before != gone) {
				assert_int_equal(after, before);
				continue;
			}
			moved[after]++;
			all++;
		}
		for (__u32 ep = 0; ep < n; ep++) /* to all the others alike */
			if (ep != gone)
				assert_in_range(moved[ep] * 6, all * 80 / 100, all * 120 / 100);
	}
}

static void who_comes_takes_a_share_of_all(void **state)
{
	__u32 moved = 0;

	for (__u32 i = 0; i < KEYS; i++) {
		__u32 before = chosen(key_of(i), 4, MESH_NONE),
		      after = chosen(key_of(i), 5, MESH_NONE);

		if (after == before)
			continue;
		assert_int_equal(after, 4);
		moved++;
	}
	assert_in_range(moved * 5, KEYS * 90 / 100, KEYS * 110 / 100);
}

static void who_is_full(void **state)
{
	static const struct {
		__u32 inflight;
		__u64 total;
		__u32 n, want;
	} cases[] = {
		{0, 0, 1, 0},
		{1000, 1000, 1, 0}, /* alone: 1001 of 1252 */
		{0, 0, 3, 0},
		{1, 1, 3, 1}, /* ceil(2.5 / 3) = 1 */
		{1, 4, 5, 0},
		{2, 4, 5, 1}, /* ceil(6.25 / 5) = 2 */
		{4, 11, 3, 0},
		{5, 11, 3, 1}, /* 15 / 3 = 5 exactly */
		{12, 29, 3, 0},
		{13, 29, 3, 1}, /* ceil(37.5 / 3) = 13 */
		{0, 0, 4096, 0},
		{0, 0, 0, 0},
		{~0U, 3 * (__u64)~0U, 3, 0}, /* nothing overflows */
		{~0U, 0, 1, 1},
	};

	for (size_t i = 0; i < COUNT(cases); i++)
		if (mesh_sticky_full(cases[i].inflight, cases[i].total, cases[i].n) !=
		    cases[i].want)
			fail_msg("%u of %llu over %u", cases[i].inflight,
				 (unsigned long long)cases[i].total, cases[i].n);
}

static void who_is_better(void **state)
{
	static const struct {
		const char *what;
		struct mesh_sticky best;
		__u64 score;
		__u32 full, want;
	} cases[] = {
		{"the first of all", {0, MESH_NONE, 0}, 0, 0, 2},
		{"the first of all, full", {0, MESH_NONE, 0}, 0, 9, 2},
		{"higher", {5, 1, 0}, 6, 0, 2},
		{"lower", {5, 1, 0}, 4, 0, 1},
		{"a tie", {5, 1, 0}, 5, 0, 1},
		{"higher, but full", {5, 1, 0}, 6, 1, 1},
		{"lower, but not full", {5, 1, 1}, 4, 0, 2},
		{"higher, both full", {5, 1, 1}, 6, 1, 2},
		{"lower, both full", {5, 1, 1}, 4, 1, 1},
		{"any number means full", {5, 1, 1}, 4, 2, 1},
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct mesh_sticky got =
			mesh_sticky_consider(cases[i].best, 2, cases[i].score, cases[i].full);

		if (got.ep != cases[i].want)
			fail_msg("%s: %u", cases[i].what, got.ep);
		if (got.ep == 2)
			assert_true(got.score == cases[i].score && got.full == !!cases[i].full);
	}
}

static unsigned seed = 1;

static __u32 upto(__u32 n)
{
	return (__u32)rand_r(&seed) % (n + 1);
}

/* However keys are chosen, one key for all included: there is always room, and nobody who gets a
 * request has more than 1.25 times the average, rounded up. */
static void load_is_bounded(void **state)
{
	for (int round = 0; round < 300; round++) {
		__u32 n = 1 + upto(MOST - 1), inflight[MOST] = {0}, keys = upto(5), total = 0;

		for (int i = 0; i < 500; i++) {
			struct mesh_sticky best = {.ep = MESH_NONE};
			__u64 key = key_of(upto(keys));
			__u32 done = upto(n - 1);

			for (__u32 ep = 0; ep < n; ep++)
				best = mesh_sticky_consider(
					best, ep, mesh_sticky_score(key, id_of(ep)),
					mesh_sticky_full(inflight[ep], total, n));
			assert_true(best.ep < n && !best.full);
			inflight[best.ep]++;
			total++;
			assert_true((inflight[best.ep] - 1) * 4 * n < 5 * total);
			while (inflight[done] && upto(1)) {
				inflight[done]--;
				total--;
			}
		}
	}
}

/* A little more than the average is allowed for the sake of staying: with many keys few move. */
static void most_stay_where_they_were(void **state)
{
	__u32 inflight[4] = {0}, total = 0, home = 0;

	for (__u32 i = 0; i < 1000; i++) {
		struct mesh_sticky best = {.ep = MESH_NONE};

		for (__u32 ep = 0; ep < 4; ep++)
			best = mesh_sticky_consider(best, ep,
						    mesh_sticky_score(key_of(i), id_of(ep)),
						    mesh_sticky_full(inflight[ep], total, 4));
		inflight[best.ep]++;
		total++;
		home += best.ep == chosen(key_of(i), 4, MESH_NONE);
	}
	assert_in_range(home, 900, 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hashes_are_for_ever),
		cmocka_unit_test(one_bit_changes_half_of_all),
		cmocka_unit_test(shares_are_equal),
		cmocka_unit_test(only_the_keys_of_who_goes_move),
		cmocka_unit_test(who_comes_takes_a_share_of_all),
		cmocka_unit_test(who_is_full),
		cmocka_unit_test(who_is_better),
		cmocka_unit_test(load_is_bounded),
		cmocka_unit_test(most_stay_where_they_were),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
