/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * A rolling window of requests and failures: MESH_WINDOW words, each a bucket of a fifth of the
 * window, each changed by compare-and-swap. Pure functions, the same text in the kernel, the
 * workers and the tests.
 *
 * Word: high 24 bits number of the bucket's turn (time / bucket length), then 20 bits failures,
 * then 20 bits requests. A bucket of an earlier turn is taken over by the first who adds to it, so
 * nobody has to clear anything; the window is exact to one bucket: it covers the last 80 to 100 %
 * of its length. A full bucket is halved: what matters is the ratio.
 */
#ifndef MESH_WINDOW_H
#define MESH_WINDOW_H

#include <mesh/abi.h>

#define MESH_WINDOW_FULL 0xfffffU

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
	return (__u32)(now_ms / mesh_window_bucket_ms(window_ms)) & 0xffffff;
}

/* Which of the words a turn belongs to. */
static inline __u32 mesh_window_index(__u32 turn)
{
	return turn % MESH_WINDOW;
}

/* The word (of index mesh_window_index(turn)) after one more request. */
static inline __u64 mesh_window_add(__u64 word, __u32 turn, __u32 failed)
{
	__u64 total = word & MESH_WINDOW_FULL, bad = word >> 20 & MESH_WINDOW_FULL;

	if (word >> 40 != turn)
		total = bad = 0;
	if (total == MESH_WINDOW_FULL) {
		total /= 2;
		bad /= 2;
	}
	return (__u64)turn << 40 | (bad + (failed ? 1 : 0)) << 20 | (total + 1);
}

/* What one word says as of turn `now`: nothing, when it is older than the window. */
static inline struct mesh_tally mesh_window_read(__u64 word, __u32 now)
{
	struct mesh_tally t = {0, 0};

	if (((now - (__u32)(word >> 40)) & 0xffffff) >= MESH_WINDOW)
		return t;
	t.total = (__u32)word & MESH_WINDOW_FULL;
	t.failed = (__u32)(word >> 20) & MESH_WINDOW_FULL;
	return t;
}

/* The whole window as of turn `now`; w is a copy of its words. */
static inline struct mesh_tally mesh_window_sum(const __u64 w[MESH_WINDOW], __u32 now)
{
	struct mesh_tally sum = {0, 0}, t;
	__u32 i;

	for (i = 0; i < MESH_WINDOW; i++) {
		t = mesh_window_read(w[i], now);
		sum.total += t.total;
		sum.failed += t.failed;
	}
	return sum;
}

#endif
