/* SPDX-License-Identifier: Apache-2.0 */
/* Which endpoint a try goes to: the slot tables and the arithmetic of include/mesh/pick.h over the
 * shared arrays. */
#ifndef PROXY_BALANCE_H
#define PROXY_BALANCE_H

#include "agent/proxy/proxy.h"

/*
 * Picks an endpoint of `upstream`, not `avoid` (an endpoint index, or MESH_NONE) if there is
 * another. Fills *ep with a copy and returns its index, or MESH_NONE: there is nobody to call.
 */
uint32_t balance_pick(struct proxy *p, const struct mesh_upstream *up, uint32_t upstream,
		      uint32_t avoid, struct mesh_endpoint *ep);

/* One request more or less at an endpoint, in this worker's gauge. */
void balance_begin(struct proxy *p, uint32_t endpoint);
void balance_end(struct proxy *p, uint32_t endpoint);

#endif
