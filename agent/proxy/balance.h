/* SPDX-License-Identifier: Apache-2.0 */
/* Which endpoint a try goes to: the slot tables and the arithmetic of include/mesh/pick.h over the
 * shared arrays. */
#ifndef PROXY_BALANCE_H
#define PROXY_BALANCE_H

#include "agent/proxy/breaker.h"
#include "agent/proxy/proxy.h"

struct balance_want {
	const struct mesh_upstream *up; /* a copy of upstream `id` */
	uint32_t id;
	uint32_t subset;       /* of it; MESH_NONE: nobody */
	const uint32_t *avoid; /* not these endpoints, if there is another */
	uint32_t navoid;
	const uint64_t *session; /* its key: whom it is bound to goes first; NULL: none */
	uint64_t netns; /* the caller's: endpoints on another namespace's loopback are not for it */
	struct breaker_pass *pass; /* of the one that is picked; NULL: it is nobody's probe */
	bool idle;  /* only one that nothing stands against, and that has an idle connection */
	bool looks; /* nothing will be sent to it */
};

static inline bool balance_avoids(const struct balance_want *w, uint32_t endpoint)
{
	for (uint32_t i = 0; i < w->navoid; i++)
		if (w->avoid[i] == endpoint)
			return true;
	return false;
}

/* May it be called at all, by that caller? */
bool balance_reaches(const struct mesh_endpoint *e, const struct balance_want *want);

/* In panic whoever is ill or ejected is as good as the others: the few who are well must not get
 * all of the load. */
bool balance_panics(const struct mesh_slots *t);

/* Picks an endpoint. The worst of them is one whose breaker lets nothing in: it is called only
 * when all are like that. Then one of those to avoid, then one whose health checks fail. Fills *ep
 * with a copy and returns its index, or MESH_NONE: there is nobody to call. */
uint32_t balance_pick(struct proxy *p, const struct balance_want *want, struct mesh_endpoint *ep);

/* What is compared of two endpoints; the lower gets the try. */
uint64_t balance_cost(const struct proxy *p, uint8_t policy, uint32_t endpoint);

/* Is the index still that endpoint's? An exchange may live longer than the endpoint that it was
 * sent to: what it has to say then is nothing about whoever has the index now. */
bool balance_same(const struct proxy *p, uint32_t endpoint, uint32_t gen);

/* One request more at an endpoint, in this worker's gauge; or less, if it is the same still: a new
 * one begins with no requests in flight. */
void balance_begin(struct proxy *p, uint32_t endpoint);
void balance_end(struct proxy *p, uint32_t endpoint, uint32_t gen);

#endif
