/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who is there: the states that agents send (kept in memory; agents send them again), and
 * registrations made by hand (kept in the store). Only this module decides what is live. Called by
 * the API and once a second by main; time is always the caller's: now_ms is monotonic, wall_ms for
 * people.
 */
#ifndef MESHD_REGISTRY_H
#define MESHD_REGISTRY_H

#include "ctl/meshd/schema.h"
#include "ctl/meshd/store.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>

#define REGISTRY_AGENTS_MAX 256
#define REGISTRY_STALE_MS   15000   /* without word: its endpoints are not shown */
#define REGISTRY_FORGET_MS  3600000 /* without word: the agent itself is forgotten */

struct registry;

/* Reads the registrations of the store, which stays the caller's. A time to live starts anew. 0 or
 * -errno. */
int registry_new(struct store *s, uint64_t now_ms, struct registry **out);
void registry_free(struct registry **r);

/* Takes over *state (also on error) as the whole state of an agent. 0; -EINVAL with *e; -ENOSPC:
 * too many agents; -ENOMEM. */
int registry_agent_put(struct registry *r, const char *node, cJSON *state, uint64_t now_ms,
		       uint64_t wall_ms, struct schema_error *e);
/* Is that node's agent known as another process (epoch) than the one of this state? */
bool registry_agent_is_another(struct registry *r, const char *node, const cJSON *state);
/* epoch NULL: whichever process it is. -ENOENT; -ESTALE: another process of that node has taken
 * over. */
int registry_agent_delete(struct registry *r, const char *node, const char *epoch);
/* {"agents":[...]}; NULL without memory. */
cJSON *registry_agents(struct registry *r, uint64_t now_ms);

/* Registers or renews. body is the caller's. service and instance (64 bytes each) say who it was.
 * *changed: others have to hear of it. 0; -EINVAL with *e; else as in store.h. */
int registry_register(struct registry *r, const cJSON *body, uint64_t now_ms, char *service,
		      char *instance, bool *changed, struct schema_error *e);
int registry_deregister(struct registry *r, const char *service, const char *instance);
/* [{"service","id","address","port","version","weight"}], all registrations, for agents. NULL
 * without memory. */
cJSON *registry_registered(struct registry *r);

/* Removes what has expired. The number of registrations that went, or -errno. */
int registry_sweep(struct registry *r, uint64_t now_ms);

/* One endpoint as it is seen from outside. Strings belong to the registry, until it changes. */
struct endpoint {
	const char *service, *id, *address, *version, *status, *node, *cgroup, *protocol;
	const cJSON *ports; /* list, or NULL */
	int port, weight;
	bool discovered; /* else registered */
	bool remark;	 /* registry.c only: what an agent says of a registered one */
};

/* All live endpoints by (service, id, node), a registered one hidden behind a discovered one of the
 * same service and id; its status is the worst that a live agent sees. *out is one block, the
 * caller's to free. The number, or -ENOMEM. */
int registry_endpoints(struct registry *r, uint64_t now_ms, struct endpoint **out);
/* The same with those of agents that have not been heard of, as long as these are remembered. */
int registry_endpoints_last(struct registry *r, struct endpoint **out);

/* Is there such an endpoint in what one of these gave? */
bool endpoints_have(const struct endpoint *all, int n, const char *service, const char *id);

/* [{"service","endpoint","node","state",...}] as the live agents say it, the times moved on to now;
 * service NULL: of all. NULL without memory. */
cJSON *registry_breakers(struct registry *r, const char *service, uint64_t now_ms);

struct registry_counts {
	unsigned agents_live, agents_stale, registrations;
};
void registry_count(const struct registry *r, uint64_t now_ms, struct registry_counts *c);

#endif
