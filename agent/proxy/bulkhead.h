/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bulkheads as a worker sees them: how much of a service is in use, by all workers, and whether
 * there is room for more (include/mesh/bulkhead.h has the rules, and says which limits are exact).
 * Each worker counts in gauges of its own. Called by admission.c for requests, by upstream.c for
 * connections, by queue.c for requests that wait for one.
 */
#ifndef PROXY_BULKHEAD_H
#define PROXY_BULKHEAD_H

#include <mesh/abi.h>
#include <mesh/bulkhead.h>
#include <stdbool.h>
#include <stdint.h>

struct proxy;
struct downstream;

/* What a request holds. All zero: nothing. */
struct bulkhead_place {
	bool held;
	bool has_edge;
	uint32_t edge; /* index into edges */
};

/* One more request of that caller. Anything but MESH_BULKHEAD_NONE: it is refused, and *place is
 * empty. tunnel: it is counted and not refused; what bounds tunnels is the connections. */
enum mesh_bulkhead_reason bulkhead_enter(struct proxy *p, uint32_t service,
					 const struct downstream *caller, bool tunnel,
					 struct bulkhead_place *place);
/* It is over. Harmless for an empty place. */
void bulkhead_leave(struct proxy *p, uint32_t service, struct bulkhead_place *place);

/* How many requests of that caller are under way; 0 while that is not limited. */
uint32_t bulkhead_from_source(const struct proxy *p, uint32_t service,
			      const struct downstream *caller);

/* A seat is what a request has that has a connection or waits for one. There are as many as
 * connections and places to wait together, over all workers and exactly: none is given out beyond,
 * and none is left empty while somebody is refused. That is more than the sum of the two gauges
 * says: a connection that is idle in another worker is nobody's, and will be given up. */
struct bulkhead_seat {
	bool held;
	uint32_t service;
};

/* Takes one, if it has none yet. false: all are taken. Without a limit of connections it is true,
 * and nothing is held. */
bool bulkhead_sit(struct proxy *p, uint32_t service, struct bulkhead_seat *seat);
/* Harmless without one. */
void bulkhead_rise(struct proxy *p, struct bulkhead_seat *seat);

/* Has the service half as many connections as it may, or more? The rest may be made at any time. */
bool bulkhead_is_near(const struct proxy *p, uint32_t service);
/* May one more connection be made? Others may ask at the same time: see mesh/bulkhead.h. */
bool bulkhead_has_room(const struct proxy *p, uint32_t service);

/* One more connection to an endpoint of the service, pooled or not; or less. */
void bulkhead_connected(struct proxy *p, uint32_t service);
void bulkhead_disconnected(struct proxy *p, uint32_t service);
/* One more request waits for one; or less. */
void bulkhead_waits(struct proxy *p, uint32_t service);
void bulkhead_waited(struct proxy *p, uint32_t service);

/* Does another worker wait for a connection that only we could give back? Not, if `ours` wait too,
 * while we have no more than our share. */
bool bulkhead_is_owed(const struct proxy *p, uint32_t service, bool ours);

#endif
