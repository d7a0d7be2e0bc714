/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Peak-sensitive, time-decaying latency average in one 64-bit word, so that workers and the kernel
 * can update it by compare-and-swap. Pure functions, fixed point, no signed division (BPF v3).
 *
 * Word: high 32 bits latency in units of 64 ns (0 to 274 s), low 32 bits time of the last sample in
 * units of 2^20 ns (about 1.05 ms; wraps after 52 days, which only makes one very idle endpoint
 * look fresh). The time never goes back: samples of workers whose clock readings differ would make
 * the average fade once more for every difference. 0 is "never measured".
 *
 * Rule (after the peak EWMA of Finagle's load balancer): a sample above the average replaces it at
 * once; one below moves it by 1 - exp(-dt / TAU). Reading decays too: nothing measured for TAU
 * means the value has dropped to 1/e, so a slow endpoint is tried again. A failure never lowers the
 * average.
 */
#ifndef MESH_EWMA_H
#define MESH_EWMA_H

#include <mesh/abi.h>

#define MESH_EWMA_TAU_SHIFT 13 /* TAU * ln 2 = 2^13 time units: TAU is about 12.4 s */
/* A stamp that is less than this ahead (68 s) is another's clock reading. */
#define MESH_EWMA_SKEW 65536U
/* What a failure counts when nothing else is known. */
#define MESH_EWMA_FAIL_FLOOR_NS 100000000ULL

/* v * 2^-(dt / 2^MESH_EWMA_TAU_SHIFT). The fraction is by 2^-x = 1 - x * (0.67 - x * 0.17) for x
 * in [0, 1), off by at most 0.3 %. */
static inline __u64 mesh_ewma_fade(__u64 v, __u32 dt)
{
	__u32 half = dt >> MESH_EWMA_TAU_SHIFT;
	__u64 x = ((__u64)dt << (16 - MESH_EWMA_TAU_SHIFT)) & 0xffff; /* 0.16 fixed point */

	if (half > 31)
		return 0;
	return ((v * (65536 - ((x * (43909 - ((x * 11141) >> 16))) >> 16))) >> 16) >> half;
}

static inline __u32 mesh_ewma_stamp(__u64 now_ns)
{
	return (__u32)(now_ns >> 20);
}

/* Time units since the word's sample; 0 when another worker's clock reading was a tick ahead of
 * ours. */
static inline __u32 mesh_ewma_age(__u64 word, __u64 now_ns)
{
	__u32 dt = mesh_ewma_stamp(now_ns) - (__u32)word;

	return 0 - dt < MESH_EWMA_SKEW ? 0 : dt;
}

/* Latency in ns as of now; 0 if never measured, at least 64 otherwise. */
static inline __u64 mesh_ewma_read(__u64 word, __u64 now_ns)
{
	__u64 v;

	if (!word)
		return 0;
	v = mesh_ewma_fade(word >> 32, mesh_ewma_age(word, now_ns));
	return (v ? v : 1) << 6;
}

/* The word after a sample of latency_ns. Both times are CLOCK_MONOTONIC ns. */
static inline __u64 mesh_ewma_update(__u64 word, __u64 latency_ns, __u64 now_ns, __u32 failed)
{
	__u64 old = word >> 32, v = latency_ns >> 6;
	__u32 stamp = mesh_ewma_stamp(now_ns);

	if (failed) {
		__u64 least = word ? old : MESH_EWMA_FAIL_FLOOR_NS >> 6;
		v = v > least ? v : least;
	} else if (word && v < old) {
		v += mesh_ewma_fade(old - v, mesh_ewma_age(word, now_ns));
	}
	if (v > 0xffffffff)
		v = 0xffffffff;
	if (!v)
		v = 1;
	if (word && !mesh_ewma_age(word, now_ns))
		stamp = (__u32)word;
	return v << 32 | stamp;
}

#endif
