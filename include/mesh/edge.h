/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Finding the entry of a caller and a callee in `edges`, and letting go of those that nobody uses.
 * Pure functions; the protocol is here, its steps are their users'.
 *
 * Worker, for a request: look at all MESH_EDGE_PROBES places of the key. If none has it, claim the
 * first that is 0 by compare-and-swap (lost: look again). None free: that caller is not limited.
 * Then add 1 to your gauge, and only then read the key once more: is it another, take the 1 back
 * and begin again. The sum of the gauges is what the caller has in flight. Remember the place, and
 * take the 1 back there when the request ends.
 *
 * Supervisor: a key whose gauges have been 0 for MESH_EDGE_IDLE_NS is swapped for 0. Are the gauges
 * not 0 any more after that, somebody came in between: the key is put back, unless the place has
 * been claimed again already.
 *
 * So the worker's addition comes before its reading and the supervisor's swap before its own: at
 * least one of them sees the other. What is left is a request that counts for another caller's edge
 * for as long as it runs, and two entries of one key when two workers claim at the same time;
 * both only make a limit softer, and both end by themselves. All steps are sequentially consistent.
 */
#ifndef MESH_EDGE_H
#define MESH_EDGE_H

#include <mesh/abi.h>

#define MESH_EDGE_PROBES  16
#define MESH_EDGE_IDLE_NS 10000000000ULL

static inline __u64 mesh_edge_key(__u32 caller, __u32 service)
{
	return (__u64)(caller + 1) << 32 | service;
}

/* The i-th place to look at, i < MESH_EDGE_PROBES. */
static inline __u32 mesh_edge_place(__u64 key, __u32 i)
{
	return (__u32)((key * 0x9e3779b97f4a7c15ULL >> 32) + i) & (MESH_MAX_EDGES - 1);
}
_Static_assert((MESH_MAX_EDGES & (MESH_MAX_EDGES - 1)) == 0, "edges");

#endif
