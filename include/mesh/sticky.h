/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Sticky sessions: rendezvous hashing (Thaler, Ravishankar 1998) with bounded loads (Mirrokni,
 * Thorup, Zadimoghaddam 2016). Every endpoint has a score for the key, the highest that is not full
 * gets the request. When an endpoint goes, only its keys move; when one comes, it takes its share
 * from all. Nothing is stored, so every worker, every host and every restart says the same. Pure
 * functions, the same text in the kernel, the workers and the tests.
 *
 * A key is a 64-bit hash of the header or cookie (lib/hash.h). Whoever chooses keys can aim at one
 * endpoint; the bound is what keeps that from being more than 1.25 times the average.
 */
#ifndef MESH_STICKY_H
#define MESH_STICKY_H

#include <mesh/abi.h>

/* The best so far of the endpoints that were considered. Begin with ep of MESH_NONE. */
struct mesh_sticky {
	__u64 score;
	__u32 ep;
	__u32 full; /* 1: so is everybody who was considered */
};

/* Every bit of the input changes each bit of the output with a likelihood of one half (the
 * finalizer of SplitMix64: Steele, Lea, Flood 2014). A bijection. */
static inline __u64 mesh_sticky_mix(__u64 x)
{
	x ^= x >> 30;
	x *= 0xbf58476d1ce4e5b9ULL;
	x ^= x >> 27;
	x *= 0x94d049bb133111ebULL;
	return x ^ x >> 31;
}

/* What the endpoint with that mesh_endpoint.hash has for the key. Equal only for equal hashes. */
static inline __u64 mesh_sticky_score(__u64 key, __u32 hash)
{
	return mesh_sticky_mix(key ^ mesh_sticky_mix(0x9e3779b97f4a7c15ULL + hash));
}

/* Would one more be above 1.25 times the average (rounded up) of n endpoints with `total` requests
 * in flight? Never true of all of them, when the total is their sum. */
static inline __u32 mesh_sticky_full(__u32 inflight, __u64 total, __u32 n)
{
	return ((__u64)inflight + 1) >
	       (5 * (total + 1) + 4 * (__u64)n - 1) / (4 * (__u64)(n ? n : 1));
}

/* The best after one more was considered. Who is full comes after all who are not; among equals the
 * first stays. */
MESH_INLINE struct mesh_sticky mesh_sticky_consider(struct mesh_sticky best, __u32 ep, __u64 score,
						    __u32 full)
{
	struct mesh_sticky it = {score, ep, full ? 1 : 0};

	if (best.ep == MESH_NONE || it.full < best.full ||
	    (it.full == best.full && it.score > best.score))
		return it;
	return best;
}

#endif
