/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The supervisor's model of who runs what: workloads and the sockets they listen on, registered
 * endpoints and configuration go in; services, endpoints, upstreams, subsets, slot tables and
 * destinations come out, through the functions of a sink. Knows no kernel, no files and no clock,
 * so that tests can drive it.
 *
 * Changes are collected and take effect at registry_flush(), in the order that readers rely on:
 * arrays first, then names and configuration (a route may be obeyed at once, so its versions must
 * be there), then what lets connections in; removal the other way round.
 */
#ifndef AGENT_REGISTRY_REGISTRY_H
#define AGENT_REGISTRY_REGISTRY_H

#include "agent/registry/config.h"

#include <mesh/abi.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REGISTRY_CGROUP_MAX  1024
#define REGISTRY_SOCKETS_MAX 512 /* of one workload: it must not take the places of all others */

struct registry_sink {
	void *arg;
	/* Names, configuration or primary upstreams changed: workers need a new snapshot. 0 or
	 * -errno. */
	int (*services)(void *arg);
	/* Fields seq are the sink's business. NULL values remove. Flags: as for mesh_alive_write().
	 */
	void (*endpoint)(void *arg, uint32_t id, const struct mesh_endpoint *ep, bool fresh);
	void (*upstream)(void *arg, uint32_t id, const struct mesh_upstream *up, bool fresh);
	void (*slots)(void *arg, uint32_t subset, const struct mesh_slots *table);
	int (*dest)(void *arg, const struct mesh_dest_key *key, const struct mesh_dest *dest);
	int (*workload)(void *arg, uint64_t cgroup, const struct mesh_workload *w);
	/* The endpoint that stands on a socket from now on, MESH_NONE: none; after endpoint().
	 * NULL: nobody wants to know. */
	void (*stands)(void *arg, uint64_t cookie, uint32_t endpoint, uint32_t gen);
	/* A socket whose end only a sweep could tell. */
	void (*swept)(void *arg, uint64_t cookie);
	/* The endpoint's latency in ns as of now, 0: never measured. */
	uint64_t (*latency)(void *arg, uint32_t endpoint);
};

struct registry;

/* own_netns: cookie of the namespace in which registered loopback addresses are meant. 0 or
 * -ENOMEM. */
int registry_new(const struct registry_sink *sink, uint64_t own_netns, struct registry **out);
void registry_free(struct registry **r);

struct workload_info {
	uint64_t cgroup, netns;
	char service[MESH_NAME_MAX], instance[MESH_ID_MAX], version[MESH_NAME_MAX];
	uint8_t protocol; /* enum mesh_protocol, as declared */
	uint16_t port;	  /* declared primary port, 0: the lowest it listens on */
	uint32_t weight;  /* of its endpoints, 1 to 1000; 0: the usual one */
	int32_t pid;
	char path[REGISTRY_CGROUP_MAX]; /* of the cgroup, from the root that is watched */
};

/* 0 with *id, or -ENOSPC, -ENOMEM. */
int registry_workload_add(struct registry *r, const struct workload_info *info, uint64_t now_ns,
			  uint32_t *id);
/* As above for one that exists: what is different takes effect. Sockets and id stay. */
int registry_workload_update(struct registry *r, uint32_t id, const struct workload_info *info,
			     uint64_t now_ns);
/* With all its sockets. */
void registry_workload_remove(struct registry *r, uint32_t id, uint64_t now_ns);

struct listen_info {
	uint64_t cookie;
	uint8_t ip[16];
	uint16_t port; /* host order */
	bool v6only;
};
/* A socket of the workload listens. Harmless when it is known. 0, -ENOSPC (MESH_MAX_LISTENERS, or
 * REGISTRY_SOCKETS_MAX), -ENOMEM. */
int registry_listen(struct registry *r, uint32_t workload, const struct listen_info *l);
/* False when the cookie is not known. */
bool registry_unlisten(struct registry *r, uint64_t cookie);
bool registry_listens(const struct registry *r, uint64_t cookie);
/* After a scan of a namespace that found the cookies in seen[n] (sorted): sockets that two scans in
 * a row did not find are taken as gone. One is not enough: a dump of the kernel's table may miss a
 * socket when others come and go. */
void registry_sweep(struct registry *r, uint64_t netns, const uint64_t *seen, size_t n);

/* The addresses of a namespace; n == 0 forgets it. The array is copied. 0 or -errno. What our own
 * namespace has is never taken for another's, and a socket counts only on an address that its
 * namespace has. */
int registry_addresses(struct registry *r, uint64_t netns, const uint8_t (*ip)[16], uint32_t n);

struct external_info {
	char service[MESH_NAME_MAX], id[MESH_ID_MAX], version[MESH_NAME_MAX];
	uint8_t ip[16];
	uint16_t port;
	uint32_t weight; /* 1 to 1000; 0: the usual one. A change of it alone ends nothing */
};
/* The whole list of endpoints registered by hand; replaces the one before. 0, -ENOSPC, -ENOMEM
 * (what fitted stays). */
int registry_externals(struct registry *r, const struct external_info *v, size_t n,
		       uint64_t now_ns);

struct named_config {
	char service[MESH_NAME_MAX];
	struct service_config config;
};
/* All configured services; replaces the list before. Takes shares of what lies behind them. 0,
 * -ENOSPC. */
int registry_configure(struct registry *r, const struct named_config *v, size_t n, uint64_t now_ns);

/* Why an endpoint gets few calls or none. */
enum endpoint_status {
	ENDPOINT_UNHEALTHY = 1, /* by its health checks: no slots */
	ENDPOINT_DRAINING = 2,	/* asked for: no slots, whatever happens to the others */
	ENDPOINT_EJECTED = 4,	/* its breaker is not closed: no slots */
	ENDPOINT_PROBING = 8,	/* ... but its wait is over: a few */
	ENDPOINT_HELD = 16,	/* ... opened by hand: no slots, whatever happens to the others */
};
/* Sets those bits of `mask` that are in `status` and clears the others of it. Takes effect at the
 * next flush. When fewer than half of those of a subset that could get slots (neither draining nor
 * held) are well, all of those get them: a subset that is nearly all ill is more likely
 * misjudged. Harmless for an id that is not in use. */
void registry_endpoint_status(struct registry *r, uint32_t id, uint32_t mask, uint32_t status,
			      uint64_t now_ns);

struct fault_info { /* of the chaos commands */
	char service[MESH_NAME_MAX];
	struct snap_fault fault; /* until_ms: the registry's business */
	uint64_t left_ms;	 /* 0: over */
};
/* All of them; replaces the list before. The array is copied. Of several for one service the first
 * counts; who it is for need not exist. 0 or -ENOMEM. */
int registry_faults(struct registry *r, const struct fault_info *v, size_t n, uint64_t now_ms);
/* Forgets those whose end has come. To be called several times a second. */
void registry_faults_end(struct registry *r, uint64_t now_ms);

/* Brings arrays and maps in line. 0, or the first -errno of a sink or of a table that is full; what
 * failed is tried again by the next flush. */
int registry_flush(struct registry *r, uint64_t now_ns);
/* True while registry_flush has something to do. */
bool registry_dirty(const struct registry *r);
/* Follows latencies and slow starts: rebuilds the slot tables of subsets where they changed
 * noticeably. */
void registry_rebalance(struct registry *r, uint64_t now_ns);

/*
 * Taking over from a registry that ended without a word, whose arrays and maps are still in force:
 * ids, generations and numbers of versions keep their meaning for whoever goes by them. First
 * services, then upstreams and the rest, each in the order of ids; before anything else is put in.
 * Then everything that exists is put in as usual, and takes up what it had; registry_adopted()
 * drops what nobody took up, and the flush that follows writes everything. Not before: so nothing
 * that is in force is taken back for a moment. What makes no sense is left out, and overwritten or
 * removed by that flush.
 */
void registry_adopt_service(struct registry *r, uint32_t id, const struct mesh_names *n,
			    uint64_t now_ns);
void registry_adopt_upstream(struct registry *r, uint32_t id, const struct mesh_upstream *u,
			     uint64_t now_ns);
void registry_adopt_endpoint(struct registry *r, uint32_t id, const struct mesh_endpoint *e,
			     uint64_t now_ns);
void registry_adopt_workload(struct registry *r, uint64_t cgroup, const struct mesh_workload *w,
			     uint64_t now_ns);
void registry_adopt_dest(struct registry *r, const struct mesh_dest_key *key);
void registry_adopted(struct registry *r, uint64_t now_ns);
/* What the next one has to be told of a service. False when the id is not in use. */
bool registry_names(const struct registry *r, uint32_t id, struct mesh_names *n);

/* Reading. Pointers are valid until the next change. */
struct service_view {
	const char *name;
	const struct service_config *config;
	uint8_t protocol;	/* the configured one, else what its workloads declared */
	bool callable;		/* has or had endpoints, or is configured */
	uint32_t upstream;	/* primary, or MESH_NONE */
	uint32_t nendpoints;	/* primary ones */
	const uint8_t *numbers; /* of config->versions[], as in mesh_upstream.version[]; 0: it got
				   none, there are too many */
	const struct snap_fault *fault; /* in force, NULL: none */
	uint32_t contested; /* of its configured addresses: somebody else had them before */
};
/* False when the id is not in use. */
bool registry_service(const struct registry *r, uint32_t id, struct service_view *v);
const struct workload_info *registry_workload(const struct registry *r, uint32_t id,
					      uint32_t *service);
struct endpoint_view {
	uint32_t service, workload, gen;
	uint8_t ip[16];
	uint16_t port;
	uint32_t status; /* enum endpoint_status */
	uint32_t weight;
	uint64_t netns; /* where it is to be connected to from, when loopback */
	bool primary, external, loopback;
	const char *id, *version;
};
bool registry_endpoint(const struct registry *r, uint32_t id, struct endpoint_view *v);
/* Names for records about what may be gone by now: valid until the id is given to another. "" when
 * unknown. */
const char *registry_caller_name(const struct registry *r, uint32_t workload);
const char *registry_service_name(const struct registry *r, uint32_t service);
bool registry_endpoint_names(const struct registry *r, uint32_t id, uint32_t gen,
			     const char **instance, const char **version);
/* Another number when any of those, or the protocol of a service, may have become another since:
 * who keeps what they said looks again. Never 0. */
uint64_t registry_renamed(const struct registry *r);
uint32_t registry_upstream_service(const struct registry *r, uint32_t upstream);
/* Ports that a workload listens on, ascending, at most max; returns how many there are. */
uint32_t registry_ports(const struct registry *r, uint32_t workload, uint16_t *ports, uint32_t max);

struct registry_usage {
	uint32_t services, upstreams, endpoints, subsets, workloads, dests, listeners;
	uint64_t full; /* how often something did not fit */
};
void registry_usage(const struct registry *r, struct registry_usage *u);

#endif
