/* SPDX-License-Identifier: Apache-2.0 */
/* Slot tables of subsets: what lib/slots.c computes from latencies, and when that is worth doing
 * again. */
#include "agent/registry/impl.h"

#include <mesh/slots.h>

/* Of every endpoint: there is no weight per endpoint in the configuration. */
#define SLOT_WEIGHT 100

uint8_t subset_policy(const struct registry *r, const struct subset *s)
{
	return r->upstreams[s->upstream].image.policy;
}

/* The other policies ask for equal shares whatever the latencies. */
static bool by_latency(const struct registry *r, const struct subset *s)
{
	return subset_policy(r, s) == MESH_LB_P2C;
}

void subset_build(struct registry *r, uint32_t id)
{
	struct subset *s = &r->subsets[id];
	struct mesh_slot_input in[MESH_SLOTS];
	uint16_t out[MESH_SLOTS];
	uint32_t n = s->n < MESH_SLOTS ? s->n : MESH_SLOTS, turn = MESH_SLOTS, used;
	bool latency = s->used && by_latency(r, s);

	for (uint32_t i = 0; i < n; i++) {
		s->latency[i] = latency ? r->sink.latency(r->sink.arg, s->ep[i]) : 0;
		in[i] = (struct mesh_slot_input){
			.ep = s->ep[i], .weight = SLOT_WEIGHT, .latency_ns = s->latency[i]};
	}
	if (s->used && subset_policy(r, s) == MESH_LB_ROUND_ROBIN)
		used = mesh_slots_rotate(in, n, out, &turn);
	else
		used = mesh_slots_build(in, n, out);
	r->sink.slots(r->sink.arg, id, used ? turn : 0, used, out);
	s->dirty = false;
}

/* More than an eighth up or down. */
static bool moved(uint64_t before, uint64_t now)
{
	uint64_t d = before > now ? before - now : now - before;

	return d > before / 8;
}

static bool worth_building(const struct registry *r, const struct subset *s)
{
	if (!s->used || s->n < 2 || !by_latency(r, s))
		return false;
	for (uint32_t i = 0; i < s->n && i < MESH_SLOTS; i++)
		if (moved(s->latency[i], r->sink.latency(r->sink.arg, s->ep[i])))
			return true;
	return false;
}

void registry_rebalance(struct registry *r)
{
	for (uint32_t i = 0; i < r->subset_ids.fresh; i++)
		if (worth_building(r, &r->subsets[i]))
			subset_build(r, i);
}
