/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * A rolling window of requests and failures: MESH_WINDOW words, each a bucket of a fifth of the
 * window, each changed by compare-and-swap. Pure functions, the same text in the kernel, the
 * workers and the tests.
 *
 * Word: high 24 bits number of the bucket's turn (time / bucket length), then 20 bits failures,
 * then 20 bits requests. A bucket of an earlier turn is taken over by the first who adds to it, so
 * nobody has to clear anything; the window is exact to one bucket: it covers the last 80 to 100 %
 * of its length. A full bucket is halved: what matters is the ratio. Another length of the window
 * means other turns: what was counted before is forgotten.
 *
 * Readings of the clock differ: a reader whose reading is behind counts what the others have
 * counted in the meantime, and an addition that comes a whole window late is left out instead of
 * taking over a newer bucket.
 */
#ifndef MESH_WINDOW_H
#define MESH_WINDOW_H

#include <mesh/abi.h>

#define MESH_WINDOW_FULL 0xfffffU
/* Turns are counted modulo this (a multiple of MESH_WINDOW, so that the wrap loses no bucket): 388
 * days of buckets of 2 s. What has been idle for exactly that long counts once more. */
#define MESH_WINDOW_TURNS 0xffffffU
_Static_assert(MESH_WINDOW_TURNS % MESH_WINDOW == 0, "turns");

struct mesh_tally {
	__u32 total, failed;
};

/* Length of a bucket; never 0. */
static inline __u32 mesh_window_bucket_ms(__u32 window_ms)
{
	return window_ms < MESH_WINDOW ? 1 : window_ms / MESH_WINDOW;
}

/* The turn that now belongs to. */
static inline __u32 mesh_window_turn(__u32 window_ms, __u64 now_ms)
{
	return (__u32)(now_ms / mesh_window_bucket_ms(window_ms) % MESH_WINDOW_TURNS);
}

/* Which of the words a turn belongs to. The verifier knows nothing of remainders, and a check that
 * the compiler can prove to be needless would not reach it. */
static inline __u32 mesh_window_index(__u32 turn)
{
	__u32 i = turn % MESH_WINDOW;

	__asm__("" : "+r"(i));
	return i < MESH_WINDOW ? i : 0;
}

/* How many turns later `to` is. */
static inline __u32 mesh_window_turns(__u32 from, __u32 to)
{
	return to >= from ? to - from : to + MESH_WINDOW_TURNS - from;
}

/* The word (of index mesh_window_index(turn)) after one more request. */
static inline __u64 mesh_window_add(__u64 word, __u32 turn, __u32 failed)
{
	__u64 total = word & MESH_WINDOW_FULL, bad = word >> 20 & MESH_WINDOW_FULL;
	__u32 of = (__u32)(word >> 40);

	if (of != turn) {
		if (total && mesh_window_turns(turn, of) <= MESH_WINDOW)
			return word;
		total = bad = 0;
	}
	if (total == MESH_WINDOW_FULL || bad == MESH_WINDOW_FULL) {
		total /= 2;
		bad /= 2;
	}
	return (__u64)turn << 40 | (bad + (failed ? 1 : 0)) << 20 | (total + 1);
}

/* The word after one that was counted as good, in this bucket or an earlier one, has failed in the
 * end: the failure is of now, and the request is not counted twice. */
static inline __u64 mesh_window_amend(__u64 word, __u32 turn)
{
	if ((__u32)(word >> 40) == turn &&
	    (word & MESH_WINDOW_FULL) > (word >> 20 & MESH_WINDOW_FULL))
		return word + (1ULL << 20);
	return mesh_window_add(word, turn, 1);
}

/* What one word says as of turn `now` of the last `turns` turns, this one included. */
MESH_INLINE struct mesh_tally mesh_window_read(__u64 word, __u32 now, __u32 turns)
{
	struct mesh_tally t = {0, 0};
	__u32 of = (__u32)(word >> 40);

	if (mesh_window_turns(of, now) >= turns &&
	    (!turns || mesh_window_turns(now, of) >= MESH_WINDOW))
		return t;
	t.total = (__u32)word & MESH_WINDOW_FULL;
	t.failed = (__u32)(word >> 20) & MESH_WINDOW_FULL;
	return t;
}

/* The last `turns` turns as of turn `now`; MESH_WINDOW: all. w is a copy of the words. */
MESH_INLINE struct mesh_tally mesh_window_sum(const __u64 w[MESH_WINDOW], __u32 now, __u32 turns)
{
	struct mesh_tally sum = {0, 0}, t;
	__u32 i;

	for (i = 0; i < MESH_WINDOW; i++) {
		t = mesh_window_read(w[i], now, turns);
		sum.total += t.total;
		sum.failed += t.failed;
	}
	return sum;
}

#endif
