/* SPDX-License-Identifier: Apache-2.0 */
/* See balance.h. */
#include "agent/proxy/balance.h"
#include "agent/proxy/sticky.h"

#include <mesh/ewma.h>
#include <mesh/pick.h>

#define FAILED_MOST 1000

/* Requests under way. Whoever fails at once has few of them, and would look idle: failures in a row
 * count as if they were still under way. */
static uint32_t queue(const struct proxy *p, uint32_t ep)
{
	uint64_t failed = __atomic_load_n(&p->shared.ep_stats[ep].consecutive, __ATOMIC_RELAXED);

	return shared_inflight(&p->shared, ep) +
	       (uint32_t)(failed < FAILED_MOST ? failed : FAILED_MOST);
}

uint64_t balance_cost(const struct proxy *p, uint8_t policy, uint32_t ep)
{
	uint32_t inflight = queue(p, ep);
	uint64_t word;

	if (policy == MESH_LB_LEAST_REQUEST)
		return mesh_pick_load(inflight, __atomic_load_n(&p->shared.endpoints[ep].weight,
								__ATOMIC_RELAXED));
	word = __atomic_load_n(&p->shared.ep_stats[ep].ewma, __ATOMIC_RELAXED);
	return mesh_pick_cost(mesh_ewma_read(word, p->loop.now_ns), inflight);
}

static uint32_t slot(const struct mesh_slots *t, uint32_t i)
{
	return __atomic_load_n(&t->ep[i & (MESH_SLOTS - 1)], __ATOMIC_RELAXED) &
	       (MESH_MAX_ENDPOINTS - 1);
}

static uint32_t draw(struct proxy *p, const struct balance_want *want, const struct mesh_slots *t,
		     uint32_t n, uint32_t rnd)
{
	uint32_t a = slot(t, mesh_pick_slot_a(rnd)), b;
	uint8_t policy = want->up->policy;
	uint64_t turn;

	if (want->session) {
		b = sticky_pick(p, want, t, *want->session);
		if (b != MESH_NONE)
			return b;
	}
	switch (policy) {
	case MESH_LB_RANDOM:
		return a;
	case MESH_LB_ROUND_ROBIN:
		turn = __atomic_fetch_add(&p->shared.up_stats[want->id].cursor, !want->looks,
					  __ATOMIC_RELAXED);
		return slot(t, (uint32_t)(turn % n));
	default:
		b = slot(t, mesh_pick_slot_b(rnd));
		return a == b ? a
			      : mesh_pick_p2c(a, balance_cost(p, policy, a), b,
					      balance_cost(p, policy, b));
	}
}

/* What listens on loopback only is meant for its own namespace, and stays so. What somebody
 * registered by hand is meant for all. */
bool balance_reaches(const struct mesh_endpoint *e, const struct balance_want *want)
{
	if (!(e->flags & MESH_EP_ALIVE) || e->flags & MESH_EP_DRAINING ||
	    e->service != want->up->service)
		return false;
	return !(e->flags & MESH_EP_LOOPBACK) || e->flags & MESH_EP_EXTERNAL ||
	       e->netns == want->netns;
}

/* What makes one endpoint worse than another. */
enum { ILL = 1, AVOIDED = 2, EJECTED = 4, NEVER = 8 };

bool balance_panics(const struct mesh_slots *t)
{
	return __atomic_load_n(&t->panic, __ATOMIC_RELAXED);
}

static uint32_t rank(struct proxy *p, const struct balance_want *want, const struct mesh_slots *t,
		     uint32_t ep, struct mesh_endpoint *out)
{
	uint32_t r = 0;

	if (!shared_endpoint(&p->shared, ep, out) || !balance_reaches(out, want) ||
	    breaker_is_barred(p, ep))
		return NEVER;
	if (balance_avoids(want, ep))
		r |= AVOIDED;
	if (!balance_panics(t)) {
		if (!breaker_may_try(p, want->up->service, ep, want->pass))
			r |= EJECTED;
		if (out->flags & MESH_EP_UNHEALTHY)
			r |= ILL;
	}
	if (want->idle && (r || !(p->nidle[0][ep] + p->nidle[1][ep])))
		return NEVER;
	return r;
}

/* The best endpoint of the table, the first of them from a random place on; *best_rank is how good
 * that is. */
static uint32_t scan(struct proxy *p, const struct balance_want *want, const struct mesh_slots *t,
		     uint32_t from, uint32_t *best_rank, struct mesh_endpoint *out)
{
	uint32_t seen = MESH_NONE, best = MESH_NONE;

	*best_rank = NEVER;
	for (uint32_t i = 0; i < MESH_SLOTS && *best_rank; i++) {
		uint32_t ep = slot(t, from + i), r;

		if (ep == seen)
			continue;
		seen = ep;
		r = rank(p, want, t, ep, out);
		if (r < *best_rank) {
			*best_rank = r;
			best = ep;
		}
	}
	return best == MESH_NONE || rank(p, want, t, best, out) < NEVER ? best : MESH_NONE;
}

/* false: somebody else took the last probe just now. */
static bool take(struct proxy *p, const struct balance_want *want, const struct mesh_slots *t,
		 uint32_t ep, uint32_t r)
{
	if (!want->pass)
		return true;
	if (!(r & EJECTED) && !balance_panics(t))
		return breaker_admit_try(p, want->up->service, ep, want->pass);
	*want->pass = (struct breaker_pass){.counts = true};
	return true;
}

uint32_t balance_pick(struct proxy *p, const struct balance_want *want, struct mesh_endpoint *out)
{
	uint32_t rnd = proxy_random(p), ep, n, r;
	const struct mesh_slots *t;

	if (want->subset >= MESH_MAX_SUBSETS)
		return MESH_NONE;
	t = shared_slots(&p->shared, want->subset);
	n = __atomic_load_n(&t->n, __ATOMIC_RELAXED);
	if (!n)
		return MESH_NONE;
	ep = draw(p, want, t, n, rnd);
	if (!rank(p, want, t, ep, out) && take(p, want, t, ep, 0))
		return ep;
	do
		ep = scan(p, want, t, rnd >> 16, &r, out);
	while (ep != MESH_NONE && !take(p, want, t, ep, r));
	return ep;
}

bool balance_same(const struct proxy *p, uint32_t endpoint, uint32_t gen)
{
	return __atomic_load_n(&p->shared.endpoints[endpoint].gen, __ATOMIC_RELAXED) == gen;
}

void balance_begin(struct proxy *p, uint32_t endpoint)
{
	__atomic_fetch_add(&p->shared.ep_inflight[endpoint].worker[p->id], 1, __ATOMIC_RELAXED);
}

/* The supervisor zeroes the gauge before it writes the new endpoint, and may do so just now. */
void balance_end(struct proxy *p, uint32_t endpoint, uint32_t gen)
{
	uint32_t *gauge = &p->shared.ep_inflight[endpoint].worker[p->id];
	uint32_t n = __atomic_load_n(gauge, __ATOMIC_RELAXED);

	while (n && balance_same(p, endpoint, gen) &&
	       !__atomic_compare_exchange_n(gauge, &n, n - 1, true, __ATOMIC_RELAXED,
					    __ATOMIC_RELAXED))
		;
}
