/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Breakers as the supervisor sees them: looks at all endpoints every beat, ejects by the rules of
 * outlier.h, tells the registry who may be called, follows commands given by hand. Words are
 * changed by compare-and-swap, as workers change them too; a lost race is taken up by the next
 * beat. Knows no kernel and no clock: arrays and times are given to it.
 */
#ifndef AGENT_HEALTH_EJECT_H
#define AGENT_HEALTH_EJECT_H

#include "agent/registry/registry.h"

#include <mesh/breaker.h>

struct eject_endpoint {
	uint32_t gen;	 /* of the endpoint that the rest is about */
	uint32_t opened; /* how often it was ejected */
	uint64_t word;	 /* as of the last look */
	uint32_t status; /* bits of OUTLIER_STATUS */
};

struct eject_service {
	char name[MESH_NAME_MAX]; /* whose words these are; "": nobody's yet */
	struct mesh_breaker_policy policy;
	uint32_t state; /* of its breaker, as of the last look */
};

struct eject {
	/* Optional: the breaker of an endpoint, of a service went from one state to another. */
	void (*moved)(void *arg, uint32_t endpoint, uint32_t from, uint32_t to);
	void (*service_moved)(void *arg, uint32_t service, uint32_t from, uint32_t to);
	void *arg;
	struct registry *registry;
	struct mesh_ep_stat *endpoints; /* [MESH_MAX_ENDPOINTS], shared */
	struct mesh_svc_stat *services; /* [MESH_MAX_SERVICES], shared */
	struct eject_endpoint seen[MESH_MAX_ENDPOINTS];
	struct eject_service known[MESH_MAX_SERVICES];
};

/* The arrays stay the caller's. moved, service_moved and arg may be set after this. */
void eject_init(struct eject *e, struct registry *r, struct mesh_ep_stat *endpoints,
		struct mesh_svc_stat *services);

/* About ten times a second. True when something is different for those who watch. */
bool eject_beat(struct eject *e, uint64_t now_ns);

/* By hand, enum mesh_breaker_hand. endpoint NULL: the service's own breaker; otherwise all
 * endpoints of that id. 0, or -ENOENT when there is none. */
int eject_hand(struct eject *e, const char *service, const char *endpoint, uint32_t hand,
	       uint64_t now_ns);
/* The same for one endpoint; takes effect with the next beat. */
void eject_hand_endpoint(struct eject *e, uint32_t id, uint32_t hand, uint64_t now_ns);

/* For showing. */
struct breaker_view {
	uint64_t word;
	uint32_t state, level; /* enum mesh_breaker_state */
	bool held;
	uint64_t since_ms; /* how long it has been so; 0 also when it never was different */
	uint64_t for_ms;   /* left of the wait, 0: none */
	struct mesh_tally tally;
	uint64_t consecutive;
	uint64_t opened; /* how often it opened */
};
/* False when there is no such service or endpoint. */
bool eject_service_view(const struct eject *e, uint32_t service, uint64_t now_ns,
			struct breaker_view *v);
bool eject_endpoint_view(const struct eject *e, uint32_t endpoint, uint64_t now_ns,
			 struct breaker_view *v);
/* The same of another word: what it says itself, the rest stays. */
void breaker_view_word(struct breaker_view *v, uint64_t word, const struct mesh_breaker_policy *p,
		       uint64_t now_ms);
/* "closed", "half-open", "open". */
const char *breaker_state_name(uint32_t state);

#endif
