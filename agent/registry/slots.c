/* SPDX-License-Identifier: Apache-2.0 */
/* Slot tables of subsets: what lib/slots.c computes from weights and latencies, who gets any at
 * all, and when that is worth doing again. */
#include "agent/registry/impl.h"

#include <mesh/slots.h>

static uint8_t policy_of(const struct registry *r, const struct subset *s)
{
	return r->upstreams[s->upstream].image.policy;
}

/* The other policies ask for equal shares whatever the latencies. */
static bool by_latency(const struct registry *r, const struct subset *s)
{
	return policy_of(r, s) == MESH_LB_P2C;
}

static uint32_t slow_start(const struct registry *r, const struct subset *s)
{
	return r->services[r->upstreams[s->upstream].image.service].config.slow_start_ms;
}

/* From a tenth to all of its weight within the slow start. */
static uint16_t grown(const struct endpoint *e, uint32_t slow_ms, uint64_t now_ns, bool *warming)
{
	uint64_t age_ms = now_ns > e->since_ns ? (now_ns - e->since_ns) / 1000000 : 0;
	uint64_t weight = e->image.weight;

	if (age_ms < slow_ms) {
		*warming = true;
		weight = weight * (slow_ms + 9 * age_ms) / (10ULL * slow_ms);
	}
	return weight ? (uint16_t)weight : 1;
}

/* Few who are well: then all that may be called at all. */
static bool panics(const struct registry *r, const struct subset *s, uint32_t n)
{
	uint32_t callable = 0, well = 0;

	for (uint32_t i = 0; i < n; i++) {
		uint32_t status = r->endpoints[s->ep[i]].status;

		callable += !(status & (ENDPOINT_DRAINING | ENDPOINT_HELD));
		well += !status;
	}
	return well * 2 < callable;
}

/* One endpoint's part in its subset's table. */
static struct mesh_slot_input part(const struct registry *r, uint16_t id, uint32_t slow_ms,
				   bool panic, uint64_t now_ns, bool *warming)
{
	const struct endpoint *e = &r->endpoints[id];
	struct mesh_slot_input in = {.ep = id};
	bool probing = e->status == (ENDPOINT_EJECTED | ENDPOINT_PROBING);

	if (e->status & (ENDPOINT_DRAINING | ENDPOINT_HELD))
		return in;
	if (e->status && !panic && !probing)
		return in;
	in.weight = grown(e, e->status ? 0 : slow_ms, now_ns, warming);
	in.least = probing && !panic;
	return in;
}

void subset_build(struct registry *r, uint32_t id, uint64_t now_ns)
{
	struct subset *s = &r->subsets[id];
	struct mesh_slot_input in[MESH_SLOTS];
	struct mesh_slots out = {0};
	uint32_t n = s->n < MESH_SLOTS ? s->n : MESH_SLOTS, turn = MESH_SLOTS, used;
	bool latency = s->used && by_latency(r, s), panic = panics(r, s, n);
	uint32_t slow_ms = s->used ? slow_start(r, s) : 0;

	s->warming = false;
	for (uint32_t i = 0; i < n; i++) {
		s->latency[i] = latency ? r->sink.latency(r->sink.arg, s->ep[i]) : 0;
		in[i] = part(r, s->ep[i], slow_ms, panic, now_ns, &s->warming);
		in[i].latency_ns = s->latency[i];
	}
	if (s->used && policy_of(r, s) == MESH_LB_ROUND_ROBIN)
		used = mesh_slots_rotate(in, n, out.ep, &turn);
	else
		used = mesh_slots_build(in, n, out.ep);
	out.n = used ? turn : 0;
	out.nendpoints = (uint16_t)used;
	out.panic = panic;
	r->sink.slots(r->sink.arg, id, &out);
	s->dirty = false;
}

void subsets_touch(struct registry *r, uint32_t endpoint)
{
	uint32_t service = r->endpoints[endpoint].image.service;

	for (uint32_t i = 0; i < r->subset_ids.fresh; i++) {
		struct subset *s = &r->subsets[i];

		if (!s->used || r->upstreams[s->upstream].image.service != service)
			continue;
		for (uint32_t k = 0; k < s->n && !s->dirty; k++)
			s->dirty = s->ep[k] == endpoint;
	}
}

/* More than an eighth up or down. */
static bool moved(uint64_t before, uint64_t now)
{
	uint64_t d = before > now ? before - now : now - before;

	return d > before / 8;
}

static bool worth_building(const struct registry *r, const struct subset *s)
{
	if (!s->used || s->n < 2)
		return false;
	if (s->warming)
		return true;
	if (!by_latency(r, s))
		return false;
	for (uint32_t i = 0; i < s->n && i < MESH_SLOTS; i++)
		if (moved(s->latency[i], r->sink.latency(r->sink.arg, s->ep[i])))
			return true;
	return false;
}

void registry_rebalance(struct registry *r, uint64_t now_ns)
{
	for (uint32_t i = 0; i < r->subset_ids.fresh; i++)
		if (worth_building(r, &r->subsets[i]))
			subset_build(r, i, now_ns);
}
