/* SPDX-License-Identifier: Apache-2.0 */
/* See split.h. */
#include "agent/proxy/split.h"

#include <mesh/pick.h>

struct choice {
	uint32_t n;
	uint64_t total;
	struct {
		uint32_t subset, weight;
	} of[MESH_SPLITS];
};

/* A table may be empty although there are endpoints: none of them takes new requests. */
static bool serves(const struct shared *s, uint32_t subset)
{
	return subset < MESH_MAX_SUBSETS &&
	       __atomic_load_n(&shared_slots(s, subset)->n, __ATOMIC_RELAXED);
}

static void offer(struct choice *c, const struct shared *s, uint32_t subset, uint32_t weight,
		  uint32_t fallback)
{
	if (!weight || (fallback == SNAP_FALLBACK_SPLIT && !serves(s, subset)))
		return;
	c->of[c->n].subset = subset;
	c->of[c->n++].weight = weight;
	c->total += weight;
}

static void offer_upstreams(struct choice *c, const struct shared *s,
			    const struct mesh_upstream *up, uint32_t fallback)
{
	uint32_t before = 0;

	for (uint32_t i = 0; i < up->nsplit && i < MESH_SPLITS; i++) {
		offer(c, s, up->split[i].subset, up->split[i].upto - before, fallback);
		before = up->split[i].upto;
	}
}

static uint32_t draw(const struct choice *c, uint32_t rnd)
{
	uint64_t at = c->total * rnd >> 32;
	uint32_t i = 0;

	while (i + 1 < c->n && at >= c->of[i].weight)
		at -= c->of[i++].weight;
	return c->of[i].subset;
}

uint32_t split_choose(const struct shared *s, const struct mesh_upstream *up,
		      const struct snap_split *split, uint32_t fallback, uint32_t rnd)
{
	struct choice c = {0};
	uint32_t subset;

	if (!up->nsplit)
		return MESH_NONE;
	if (!split->n) { /* the kernel draws the same way */
		subset = up->split[mesh_pick_split(up, rnd)].subset;
		if (fallback == SNAP_FALLBACK_NONE || serves(s, subset))
			return subset;
		offer_upstreams(&c, s, up, fallback);
	}
	for (uint32_t i = 0; i < split->n && i < MESH_SPLITS; i++)
		offer(&c, s, up->version[split->to[i].version % MESH_VERSIONS], split->to[i].weight,
		      fallback);
	return c.total ? draw(&c, rnd) : up->version[0];
}

bool split_holds(const struct mesh_upstream *up, uint32_t subset)
{
	for (uint32_t i = 0; i < MESH_VERSIONS; i++)
		if (up->version[i] == subset)
			return true;
	return false;
}

uint32_t split_fall_back(const struct mesh_upstream *up, uint32_t subset, uint32_t fallback)
{
	if (fallback == SNAP_FALLBACK_NONE || subset == up->version[0])
		return MESH_NONE;
	return up->version[0];
}
