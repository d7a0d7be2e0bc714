/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The supervisor's part in the health of endpoints: gives agent/health/ its beat, its sockets and
 * its orders (drains and commands by hand from meshd), and keeps the log. Called by supervisor.c
 * only; supervisor_state.c reads.
 */
#ifndef AGENT_SUPERVISOR_HEALTH_H
#define AGENT_SUPERVISOR_HEALTH_H

#include "agent/control/configuration.h"
#include "agent/health/check.h"
#include "agent/health/edges.h"
#include "agent/health/eject.h"
#include "agent/health/silence.h"

struct supervisor;

struct health {
	struct eject eject;
	struct edges edges;
	struct checks *checks;
	uint32_t nedges; /* in use */
	uint64_t edges_ns;
	struct drain_info *drains; /* sorted */
	struct hand_info *hands;   /* all that meshd remembers */
	bool *carried_out;	   /* of hands; what is for a service that is not there yet waits */
	size_t ndrains, nhands;
	uint64_t serial; /* the highest of the hands that were met */
	char epoch[64];	 /* of the store that they are from */
	struct silence silence[MESH_MAX_ENDPOINTS];
	uint32_t met[MESH_MAX_ENDPOINTS]; /* gen of the endpoints that were given their orders */
};

/* After the registry is there. 0 or -ENOMEM. */
int health_start(struct supervisor *s);
void health_stop(struct supervisor *s);
/* What meshd wants drained, opened, closed, reset. */
void health_orders(struct supervisor *s, const struct configuration *c);
/* Endpoints are different: who is checked, who is drained, who was held by hand under the same
 * name. May make the registry dirty again. */
void health_sync(struct supervisor *s);
/* An endpoint gets its place in the arrays: its words begin at 0. Orders that were carried out
 * before that, as it came with them, are given once more by the next health_sync(). */
void health_fresh(struct supervisor *s, uint32_t id);
/* Every 100 ms. */
void health_beat(struct supervisor *s);

#endif
