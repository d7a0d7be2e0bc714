/* SPDX-License-Identifier: Apache-2.0 */
/* Frees entries of `edges` that nobody has used for a while: the supervisor's half of mesh/edge.h.
 */
#ifndef AGENT_HEALTH_EDGES_H
#define AGENT_HEALTH_EDGES_H

#include <mesh/edge.h>
#include <stdint.h>

struct edges {
	struct mesh_edge *shared; /* [MESH_MAX_EDGES], the caller's */
	struct {
		uint64_t key;	   /* as of the last look */
		uint64_t since_ns; /* when its gauges were first seen to be 0; 0: they were not */
	} seen[MESH_MAX_EDGES];
};

/* About once a second. Returns how many entries are in use. */
uint32_t edges_sweep(struct edges *e, uint64_t now_ns);

#endif
