/* SPDX-License-Identifier: Apache-2.0 */
/* See balance.h. */
#include "agent/proxy/balance.h"

#include <mesh/ewma.h>
#include <mesh/pick.h>

static uint64_t cost(struct proxy *p, uint8_t policy, uint32_t ep)
{
	uint32_t inflight = shared_inflight(&p->shared, ep, p->workers);
	uint64_t word;

	if (policy == MESH_LB_LEAST_REQUEST)
		return inflight;
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

	switch (policy) {
	case MESH_LB_RANDOM:
		return a;
	case MESH_LB_ROUND_ROBIN:
		turn = __atomic_fetch_add(&p->shared.up_stats[want->id].cursor, want->pass != NULL,
					  __ATOMIC_RELAXED);
		return slot(t, (uint32_t)(turn % n));
	default:
		b = slot(t, mesh_pick_slot_b(rnd));
		return a == b ? a : mesh_pick_p2c(a, cost(p, policy, a), b, cost(p, policy, b));
	}
}

/* What listens on loopback only is meant for its own namespace, and stays so. What somebody
 * registered by hand is meant for all. */
static bool usable(const struct mesh_endpoint *e, const struct balance_want *want)
{
	if ((e->flags & (MESH_EP_ALIVE | MESH_EP_DRAINING)) != MESH_EP_ALIVE ||
	    e->service != want->up->service)
		return false;
	return !(e->flags & MESH_EP_LOOPBACK) || e->flags & MESH_EP_EXTERNAL ||
	       e->netns == want->netns;
}

/* What an endpoint must be. */
enum { UNTRIED = 1, ADMITTED = 2 };

static bool is_avoided(const struct balance_want *want, uint32_t ep)
{
	for (uint32_t i = 0; i < want->navoid; i++)
		if (want->avoid[i] == ep)
			return true;
	return false;
}

static bool is_admitted(struct proxy *p, const struct balance_want *want, uint32_t ep,
			unsigned must)
{
	if (!(must & ADMITTED)) {
		if (want->pass)
			*want->pass = (struct breaker_pass){.counts = true};
		return !breaker_is_barred(p, ep);
	}
	if (!want->pass)
		return !breaker_is_ejected(p, ep);
	return breaker_admit_try(p, want->up->service, ep, want->pass);
}

/* Last of all the breaker: it may hand out a probe. */
static bool suits(struct proxy *p, const struct balance_want *want, uint32_t ep, unsigned must,
		  struct mesh_endpoint *out)
{
	return !(must & UNTRIED && is_avoided(want, ep)) && shared_endpoint(&p->shared, ep, out) &&
	       usable(out, want) && is_admitted(p, want, ep, must);
}

/* The first that suits, from a random place of the table on. */
static uint32_t scan(struct proxy *p, const struct balance_want *want, const struct mesh_slots *t,
		     uint32_t from, unsigned must, struct mesh_endpoint *out)
{
	uint32_t seen = MESH_NONE;

	for (uint32_t i = 0; i < MESH_SLOTS; i++) {
		uint32_t ep = slot(t, from + i);

		if (ep == seen)
			continue;
		seen = ep;
		if (suits(p, want, ep, must, out))
			return ep;
	}
	return MESH_NONE;
}

uint32_t balance_pick(struct proxy *p, const struct balance_want *want, struct mesh_endpoint *out)
{
	static const unsigned ways[] = {UNTRIED | ADMITTED, ADMITTED, UNTRIED, 0};
	const struct mesh_upstream *up = want->up;
	uint32_t rnd = proxy_random(p), ep, n;
	const struct mesh_slots *t;

	if (!up->nsplit || up->nsplit > MESH_SPLITS)
		return MESH_NONE;
	t = shared_slots(&p->shared, up->split[mesh_pick_split(up, rnd)].subset % MESH_MAX_SUBSETS);
	n = __atomic_load_n(&t->n, __ATOMIC_RELAXED);
	if (!n)
		return MESH_NONE;
	ep = draw(p, want, t, n, rnd);
	if (suits(p, want, ep, UNTRIED | ADMITTED, out))
		return ep;
	ep = MESH_NONE;
	for (unsigned i = 0; ep == MESH_NONE && i < sizeof(ways) / sizeof(*ways); i++)
		ep = scan(p, want, t, rnd >> 16, ways[i], out);
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
