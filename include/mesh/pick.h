/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Choosing an endpoint: the arithmetic only, on plain values, the same text in the kernel, the
 * workers and the tests. Order: subset by split weight, then two independent draws from the
 * subset's slot table (they may be the same endpoint), the lower cost wins.
 *
 * Two draws without replacement would give the slowest of three nothing at all, and even draws
 * would give the second a third of all traffic; slots in proportion to weight / latency (slots.h)
 * with independent draws keep every endpoint in touch and most traffic on the best.
 */
#ifndef MESH_PICK_H
#define MESH_PICK_H

#include <mesh/abi.h>

/* Which entry of `upto` (cumulative weights, n of them, the last 65536) a draw falls into. */
static inline __u32 mesh_pick_split(const struct mesh_upstream *up, __u32 rnd)
{
	__u32 draw = rnd & 0xffff, i;

	for (i = 0; i + 1 < MESH_SPLITS && i + 1 < up->nsplit; i++)
		if (draw < up->split[i].upto)
			break;
	return i & (MESH_SPLITS - 1);
}

/* Weight of entry i as its bit in `serving` says. Without a branch, as what follows: the verifier
 * would go both ways at each. */
static inline __u32 mesh_pick_share(const struct mesh_upstream *up, __u32 serving, __u32 i)
{
	return (up->split[i].upto - (i ? up->split[i - 1].upto : 0)) & -(serving >> i & 1);
}

/* The same among those that have their bit in `serving` (none beyond nsplit), which share what is
 * the others'. MESH_SPLITS: there is none. */
static inline __u32 mesh_pick_split_among(const struct mesh_upstream *up, __u32 serving, __u32 rnd)
{
	__u32 i, at, total = 0, sum = 0, n = 0;

	for (i = 0; i < MESH_SPLITS; i++)
		total += mesh_pick_share(up, serving, i);
	at = (__u32)((__u64)total * (rnd & 0xffff) >> 16);
	for (i = 0; i < MESH_SPLITS; i++) {
		sum += mesh_pick_share(up, serving, i);
		n += 1 - ((at - sum) >> 31); /* not yet: at >= sum */
	}
	return n;
}

/* Two independent slot numbers from one random word. */
static inline __u32 mesh_pick_slot_a(__u32 rnd)
{
	return (rnd >> 16) & (MESH_SLOTS - 1);
}
static inline __u32 mesh_pick_slot_b(__u32 rnd)
{
	return (rnd >> 24) & (MESH_SLOTS - 1);
}

/* Cost of sending one more request: expected latency x queue. latency_ns of 0 is "never measured":
 * such an endpoint is tried at once when idle, and costs as much as one that takes a second while
 * its first requests are still out, so that a newcomer is not flooded before it has answered once.
 */
static inline __u64 mesh_pick_cost(__u64 latency_ns, __u32 inflight)
{
	if (!latency_ns)
		latency_ns = inflight ? 1000000000ULL : 0;
	if (inflight > 0xffff)
		inflight = 0xffff;
	return latency_ns * (inflight + 1);
}

/*
 * Least request: requests in flight per weight, in millionths and a bit (2^20). Not (in flight +
 * 1): the slot table gives shares by weight already, and of two idle ones the first draw must win,
 * or the lighter would get nothing while traffic is low. Weight 0 takes no traffic: never
 * preferred.
 */
static inline __u64 mesh_pick_load(__u32 inflight, __u32 weight)
{
	return weight ? ((__u64)inflight << 20) / weight : ~0ULL;
}

/* Of two costs; a tie goes to the first draw, which is random already. */
static inline __u32 mesh_pick_p2c(__u32 a, __u64 cost_a, __u32 b, __u64 cost_b)
{
	return cost_b < cost_a ? b : a;
}

#endif
