/* SPDX-License-Identifier: Apache-2.0 */
/* What discovery's files share of a cgroup: whose it is (discovery.c), and what listens there
 * (listeners.c). Nobody else includes this. */
#ifndef AGENT_DISCOVERY_IMPL_H
#define AGENT_DISCOVERY_IMPL_H

#include "agent/discovery/discovery.h"

struct member {		   /* what we know of a populated cgroup; cgroup->user */
	uint32_t workload; /* MESH_NONE: none */
	struct netns *ns;
	uint64_t since_ns; /* populated */
	uint64_t asked_ns; /* for an event: it was nobody then */
	int pid;
	bool waiting, marked;
	bool refused; /* it could not be taken in: asked again until it can */
};

static inline struct member *member_of(const struct cgroup *c)
{
	return c->user;
}

static inline bool is_workload(const struct cgroup *c)
{
	return c->user && member_of(c)->workload != MESH_NONE;
}

/* c itself, or the nearest of its ancestors that is a workload; NULL: none. */
static inline const struct cgroup *nearest_workload(const struct cgroup *c)
{
	while (c && !is_workload(c))
		c = c->parent;
	return c;
}

/* Decides what a cgroup is now. `now`: without waiting for a process to say more than the path
 * does. */
void discovery_evaluate(struct discovery *d, struct cgroup *c, bool now);

#endif
