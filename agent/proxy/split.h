/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which version of a service a request goes to: chosen once, by the split of its route or else by
 * the service's own, so that all tries stay with it. Called by try.c and mirror.c.
 */
#ifndef PROXY_SPLIT_H
#define PROXY_SPLIT_H

#include "agent/control/snapshot.h"
#include "agent/proxy/shared.h"

/* The subset of `up` for one request; rnd: 32 random bits. `split`: the route's, n of 0: that of
 * the upstream itself. A version that nobody serves gives its share to the others, or, with
 * SNAP_FALLBACK_NONE, has what falls to it fail. MESH_NONE: nobody to call. */
uint32_t split_choose(const struct shared *s, const struct mesh_upstream *up,
		      const struct snap_split *split, uint32_t fallback, uint32_t rnd);

/* Is it still one of the upstream's? They come and go with the versions. */
bool split_holds(const struct mesh_upstream *up, uint32_t subset);

/* Where to go when the chosen subset turns out to have nobody (else): that of everybody, or
 * MESH_NONE when that is not wanted. */
uint32_t split_fall_back(const struct mesh_upstream *up, uint32_t subset, uint32_t fallback);

#endif
