/* SPDX-License-Identifier: Apache-2.0 */
/* See bulkhead.h. */
#include "agent/proxy/bulkhead.h"
#include "agent/proxy/downstream.h"
#include "agent/proxy/policy.h"
#include "agent/proxy/proxy.h"

#include <mesh/edge.h>
#include <stddef.h>

static struct mesh_svc_gauges *gauges(const struct proxy *p, uint32_t service)
{
	return &p->shared.svc_inflight[service].worker[p->id];
}

static void up(__u32 *gauge)
{
	__atomic_fetch_add(gauge, 1, __ATOMIC_SEQ_CST);
}

/* Nobody else writes it, unless the id was given to another service in the meantime. */
static void down(__u32 *gauge)
{
	if (__atomic_load_n(gauge, __ATOMIC_RELAXED))
		__atomic_fetch_sub(gauge, 1, __ATOMIC_SEQ_CST);
}

/* from_source is left to others. */
static void look(const struct proxy *p, uint32_t service, struct mesh_bulkhead_use *use)
{
	const struct mesh_svc_gauges *g = p->shared.svc_inflight[service].worker;

	*use = (struct mesh_bulkhead_use){0};
	for (uint32_t i = 0; i < MESH_MAX_WORKERS; i++) {
		use->requests += __atomic_load_n(&g[i].requests, __ATOMIC_RELAXED);
		use->connections += __atomic_load_n(&g[i].connections, __ATOMIC_RELAXED);
		use->pending += __atomic_load_n(&g[i].pending, __ATOMIC_RELAXED);
	}
}

static uint64_t sum_of(const struct proxy *p, uint32_t service, size_t gauge)
{
	const struct mesh_svc_gauges *g = p->shared.svc_inflight[service].worker;
	uint64_t sum = 0;

	for (uint32_t i = 0; i < MESH_MAX_WORKERS; i++)
		sum += __atomic_load_n((const __u32 *)((const char *)&g[i] + gauge),
				       __ATOMIC_SEQ_CST);
	return sum;
}

/* One more in a gauge of ours, unless all of them have `most` (0: no limit) together. Of workers
 * that want the last place at the same time each counts before it looks, so at most one stays. And
 * one does: who is refused does not count itself any longer when it looks, so the last of them to
 * look finds the place empty. */
static bool take(const struct proxy *p, uint32_t service, size_t gauge, uint64_t most)
{
	__u32 *own = (__u32 *)((char *)gauges(p, service) + gauge);

	while (!most || sum_of(p, service, gauge) < most) {
		up(own);
		if (!most || sum_of(p, service, gauge) <= most)
			return true;
		down(own);
	}
	return false;
}

/* --- callers -------------------------------------------------------------------------------------
 */

static bool caller_key(const struct downstream *d, uint32_t service, uint64_t *key)
{
	uint32_t caller = d->caller_service;

	if (d->upstream == MESH_NONE)
		caller = MESH_EDGE_GATEWAY;
	else if (caller == MESH_NONE && d->caller != MESH_NONE)
		caller = d->caller | MESH_EDGE_WORKLOAD;
	*key = mesh_edge_key(caller, service);
	return caller != MESH_NONE;
}

/* The entry with that key, or a new one. NULL: no place is left. */
static struct mesh_edge *edge_find(struct proxy *p, uint64_t key)
{
	for (;;) {
		struct mesh_edge *vacant = NULL;
		__u64 none = 0;

		for (uint32_t i = 0; i < MESH_EDGE_PROBES; i++) {
			struct mesh_edge *e = &p->shared.edges[mesh_edge_place(key, i)];
			uint64_t k = __atomic_load_n(&e->key, __ATOMIC_SEQ_CST);

			if (k == key)
				return e;
			if (!k && !vacant)
				vacant = e;
		}
		if (!vacant)
			return NULL;
		if (__atomic_compare_exchange_n(&vacant->key, &none, key, false, __ATOMIC_SEQ_CST,
						__ATOMIC_SEQ_CST))
			return vacant;
	}
}

/* Counts, and only then makes sure that it is that caller's still: see mesh/edge.h. */
static struct mesh_edge *edge_enter(struct proxy *p, uint64_t key)
{
	struct mesh_edge *e;

	while ((e = edge_find(p, key))) {
		up(&e->worker[p->id]);
		if (__atomic_load_n(&e->key, __ATOMIC_SEQ_CST) == key)
			return e;
		down(&e->worker[p->id]);
	}
	return NULL;
}

static uint32_t edge_sum(const struct proxy *p, const struct mesh_edge *e)
{
	uint32_t sum = 0;

	for (uint32_t i = 0; i < MESH_MAX_WORKERS; i++)
		sum += __atomic_load_n(&e->worker[i], __ATOMIC_RELAXED);
	return sum;
}

/* --- requests ------------------------------------------------------------------------------------
 */

enum mesh_bulkhead_reason bulkhead_enter(struct proxy *p, uint32_t service,
					 const struct downstream *caller, bool tunnel,
					 struct bulkhead_place *place)
{
	const struct mesh_bulkhead_policy *policy = &policy_of(p, service)->bulkhead;
	struct mesh_edge *e = NULL;
	struct mesh_bulkhead_use use;
	uint32_t reason = MESH_BULKHEAD_NONE;
	uint64_t key;

	*place = (struct bulkhead_place){0};
	look(p, service, &use);
	if (policy->per_source && caller_key(caller, service, &key))
		e = edge_enter(p, key);
	if (e)
		use.from_source = edge_sum(p, e) - 1;
	if (!tunnel)
		reason = mesh_bulkhead_request(policy, &use);
	if (reason == MESH_BULKHEAD_NONE &&
	    !take(p, service, offsetof(struct mesh_svc_gauges, requests),
		  tunnel ? 0 : policy->requests))
		reason = MESH_BULKHEAD_REQUESTS;
	if (reason != MESH_BULKHEAD_NONE) {
		if (e)
			down(&e->worker[p->id]);
		return reason;
	}
	place->held = true;
	place->has_edge = e;
	place->edge = e ? (uint32_t)(e - p->shared.edges) : 0;
	return MESH_BULKHEAD_NONE;
}

void bulkhead_leave(struct proxy *p, uint32_t service, struct bulkhead_place *place)
{
	if (!place->held)
		return;
	down(&gauges(p, service)->requests);
	if (place->has_edge)
		down(&p->shared.edges[place->edge].worker[p->id]);
	*place = (struct bulkhead_place){0};
}

uint32_t bulkhead_from_source(const struct proxy *p, uint32_t service,
			      const struct downstream *caller)
{
	uint64_t key;

	if (!caller_key(caller, service, &key))
		return 0;
	for (uint32_t i = 0; i < MESH_EDGE_PROBES; i++) {
		const struct mesh_edge *e = &p->shared.edges[mesh_edge_place(key, i)];

		if (__atomic_load_n(&e->key, __ATOMIC_RELAXED) == key)
			return edge_sum(p, e);
	}
	return 0;
}

/* --- connections ---------------------------------------------------------------------------------
 */

bool bulkhead_has_room(const struct proxy *p, uint32_t service)
{
	struct mesh_bulkhead_use use;

	look(p, service, &use);
	return mesh_bulkhead_connect(&policy_of(p, service)->bulkhead, &use) == MESH_BULKHEAD_NONE;
}

bool bulkhead_is_near(const struct proxy *p, uint32_t service)
{
	uint32_t most = policy_of(p, service)->bulkhead.connections;
	struct mesh_bulkhead_use use;

	look(p, service, &use);
	return most && use.connections >= most / 2;
}

bool bulkhead_sit(struct proxy *p, uint32_t service, struct bulkhead_seat *seat)
{
	uint64_t most = mesh_bulkhead_seats(&policy_of(p, service)->bulkhead);

	if (seat->held || !most)
		return true;
	if (!take(p, service, offsetof(struct mesh_svc_gauges, seats), most))
		return false;
	*seat = (struct bulkhead_seat){.held = true, .service = service};
	return true;
}

void bulkhead_rise(struct proxy *p, struct bulkhead_seat *seat)
{
	if (seat->held)
		down(&gauges(p, seat->service)->seats);
	seat->held = false;
}

void bulkhead_connected(struct proxy *p, uint32_t service)
{
	up(&gauges(p, service)->connections);
}

void bulkhead_disconnected(struct proxy *p, uint32_t service)
{
	down(&gauges(p, service)->connections);
}

void bulkhead_waits(struct proxy *p, uint32_t service)
{
	up(&gauges(p, service)->pending);
}

void bulkhead_waited(struct proxy *p, uint32_t service)
{
	down(&gauges(p, service)->pending);
}

bool bulkhead_is_owed(const struct proxy *p, uint32_t service, bool ours)
{
	uint32_t most = policy_of(p, service)->bulkhead.connections;
	const struct mesh_svc_gauges *own = gauges(p, service);
	struct mesh_bulkhead_use use;

	look(p, service, &use);
	if (!most || use.connections < most || use.pending <= own->pending)
		return false;
	return !ours || (uint64_t)own->connections * p->workers > most;
}
