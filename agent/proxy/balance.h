/* SPDX-License-Identifier: Apache-2.0 */
/* Which endpoint a try goes to: the slot tables and the arithmetic of include/mesh/pick.h over the
 * shared arrays. */
#ifndef PROXY_BALANCE_H
#define PROXY_BALANCE_H

#include "agent/proxy/proxy.h"

struct balance_want {
	const struct mesh_upstream *up; /* a copy of upstream `id` */
	uint32_t id;
	uint32_t avoid; /* not this endpoint, if there is another; MESH_NONE: none to avoid */
	uint64_t netns; /* the caller's: endpoints on another namespace's loopback are not for it */
};

/* Picks an endpoint. Fills *ep with a copy and returns its index, or MESH_NONE: there is nobody to
 * call. */
uint32_t balance_pick(struct proxy *p, const struct balance_want *want, struct mesh_endpoint *ep);

/* One request more or less at an endpoint, in this worker's gauge. */
void balance_begin(struct proxy *p, uint32_t endpoint);
void balance_end(struct proxy *p, uint32_t endpoint);

#endif
