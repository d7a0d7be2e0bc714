/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Building a subset's slot table: each endpoint gets slots in proportion to weight / latency, with
 * a floor, largest remainder first. The supervisor does this about ten times a second; pure, no
 * allocation.
 */
#ifndef MESH_SLOTS_H
#define MESH_SLOTS_H

#include <mesh/abi.h>

#define MESH_SLOTS_FLOOR 13 /* about 5 % of MESH_SLOTS; less when there are many endpoints */

struct mesh_slot_input {
	__u16 ep;
	__u16 weight;	  /* 1 to 1000; 0 gets no slot at all */
	__u32 least;	  /* 1: a few slots, to be tried, and no share of the rest */
	__u64 latency_ns; /* 0: never measured, taken as the lowest that is known */
};

/* Whoever is marked `least` gets its floor; when all are, they share as if none was.
 *
 * Fills out[MESH_SLOTS] (grouped by endpoint: draws are random, so order does not matter). Returns
 * how many endpoints got slots; 0 leaves out alone. n above MESH_SLOTS: the first MESH_SLOTS count.
 */
__u32 mesh_slots_build(const struct mesh_slot_input *in, __u32 n, __u16 *out);

/*
 * For round robin an order, not shares: smooth weighted round robin (every turn each endpoint gains
 * its weight, whoever has most goes and pays the sum of all), so that nobody comes in a bunch.
 * Fills out[MESH_SLOTS]. *turn: how many slots make whole rounds, at most MESH_SLOTS; counting
 * modulo that is exact. Returns and limits as above; latencies are not looked at. All who are
 * marked `least` together weigh a twentieth of the rest.
 */
__u32 mesh_slots_rotate(const struct mesh_slot_input *in, __u32 n, __u16 *out, __u32 *turn);

#endif
