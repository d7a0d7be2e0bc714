/* SPDX-License-Identifier: Apache-2.0 */
/* The registry's own structures, shared by its files only. All links are indexes (MESH_NONE ends a
 * list) except those of hash chains. */
#ifndef AGENT_REGISTRY_IMPL_H
#define AGENT_REGISTRY_IMPL_H

#include "agent/registry/ids.h"
#include "agent/registry/registry.h"

#define LISTENER_BUCKETS 4096
#define DEST_BUCKETS	 8192

struct dest_hold { /* what one owner wants for one address */
	struct mesh_dest_key key;
	uint32_t upstream;
};

struct dest_set { /* sorted by key, no key twice */
	struct dest_hold *v;
	uint32_t n, cap;
};

struct holder {
	uint32_t owner; /* endpoint of a registered one | HOLDER_EXTERNAL, service that claims it |
			   HOLDER_VIRTUAL, or workload */
	uint32_t upstream;
};
#define HOLDER_EXTERNAL 0x80000000u
#define HOLDER_VIRTUAL	0x40000000u

struct dest_entry {
	struct dest_entry *next; /* hash chain */
	struct dest_entry *next_dirty;
	struct mesh_dest_key key;
	struct holder *holders; /* the first one decides */
	uint32_t n, cap;
	bool dirty, written;
};

struct listener {
	struct listener *next;	  /* hash chain */
	struct listener *sibling; /* of the same workload */
	struct listen_info info;
	uint32_t workload;
	uint32_t endpoint, told, told_gen; /* that stands on it; as the sink was told */
	bool missed;			   /* by the last scan */
};

struct workload {
	bool used, dirty; /* dirty: the map entry is to be written */
	bool adopted;	  /* its id is kept for that cgroup */
	uint32_t service;
	uint32_t next;	    /* of the same service */
	uint32_t endpoints; /* list */
	struct listener *listeners;
	uint32_t nlisteners;
	struct dest_set dests;
	struct workload_info info;
};

struct endpoint {
	bool used, marked, dirty, fresh, gone, primary;
	bool adopted;	   /* not used yet: its id is kept for who the image says */
	int rank;	   /* of the address that was chosen, while it is being chosen */
	uint32_t next;	   /* of the same workload, or of the same service when external */
	uint32_t port;	   /* host order */
	uint32_t sockets;  /* that it stands on */
	uint32_t status;   /* enum endpoint_status */
	uint64_t since_ns; /* it appeared, or came back */
	struct mesh_endpoint image;
	struct dest_set dests; /* of an external one */
};

struct subset {
	char version[MESH_NAME_MAX];
	uint32_t upstream;
	uint32_t n, cap;
	uint16_t *ep;
	uint64_t *latency; /* as of the last build; same length */
	bool used, dirty;
	bool warming; /* at the last build somebody's weight was still growing */
};

struct upstream {
	bool used, dirty, fresh;
	uint16_t port; /* 0: the primary one */
	uint32_t next; /* of the same service */
	struct mesh_upstream image;
	uint32_t nsubsets, subsets[MESH_VERSIONS];
};

struct version {
	char name[MESH_NAME_MAX];
	bool named;	     /* by the configuration in force */
	uint64_t dropped_ns; /* when it was not any more */
};

struct service {
	char name[MESH_NAME_MAX];
	bool used; /* the name means something, even when idle */
	bool idle; /* nobody holds it: the id is in the free list, and may be revived */
	bool dirty, configured, wanted;
	struct service_config config;
	uint8_t numbers[CONFIG_VERSIONS]; /* of config.versions[]; 0: none was free */
	uint32_t nversions;		  /* numbers 1 to this are given; [0] is number 1 */
	struct version *versions;
	uint8_t protocol;
	uint32_t workloads, externals, upstreams; /* lists */
	uint32_t primary;			  /* upstream */
	uint32_t nprimary;
	struct dest_set dests; /* of its configured addresses */
	uint32_t contested;    /* of those, how many are others' */
};

#define NETNS_KNOWN (MESH_MAX_NETNS + 1) /* ours is known without a workload there too */

struct netns_address {
	uint8_t ip[16];
	bool ours; /* our own namespace has it too: it leads there and nowhere else */
};

struct netns_addresses {
	uint64_t cookie;
	uint32_t n;
	struct netns_address *v;
};

struct members { /* endpoints of the upstream that is being worked on */
	uint16_t ep[MESH_MAX_ENDPOINTS];
	uint32_t n;
};

struct registry {
	struct registry_sink sink;
	uint64_t own_netns, full;
	uint64_t renamed; /* counts up: see registry_renamed() */
	bool services_dirty, dirty;
	struct ids service_ids, upstream_ids, endpoint_ids, subset_ids, workload_ids;
	struct service services[MESH_MAX_SERVICES];
	struct upstream upstreams[MESH_MAX_UPSTREAMS];
	struct endpoint endpoints[MESH_MAX_ENDPOINTS];
	struct subset subsets[MESH_MAX_SUBSETS];
	struct workload workloads[MESH_MAX_WORKLOADS];
	struct listener *listeners[LISTENER_BUCKETS];
	uint32_t nlisteners;
	struct dest_entry *dests[DEST_BUCKETS];
	struct dest_entry *dirty_dests;
	uint32_t ndests;
	/* workload map entries to be removed by the next flush */
	uint64_t *gone_cgroups;
	uint32_t ngone, gone_cap;
	uint32_t nnetns;
	struct netns_addresses netns[NETNS_KNOWN];
	struct members members;
	uint32_t nsubsets_named; /* subsets that are not of everybody */
	bool adopting;
	struct fault_info *faults;
	size_t nfaults;
};

/* dests.c */
int dest_set_add(struct dest_set *s, const uint8_t ip[16], uint16_t port, uint64_t netns,
		 uint32_t upstream);
/* Sorts `want`, makes it the owner's set and adjusts the table; *have and *want swap memory. */
int dests_replace(struct registry *r, uint32_t owner, struct dest_set *have, struct dest_set *want);
void dests_write(struct registry *r, bool removals, int *error);
void dests_done(struct registry *r);
/* Does that owner decide where the address leads? */
bool dest_is_held(struct registry *r, const struct mesh_dest_key *key, uint32_t owner);
/* The entry of that address, new if need be; -ENOSPC, -ENOMEM. */
int dest_entry_get(struct registry *r, const struct mesh_dest_key *key, struct dest_entry **out);

/* endpoints.c */
int workload_endpoints(struct registry *r, uint32_t workload, uint64_t now_ns);
int workload_dests(struct registry *r, uint32_t workload);
int external_new(struct registry *r, uint32_t service, const struct external_info *x,
		 uint64_t now_ns);
int external_dests(struct registry *r, const struct service *s, uint32_t id);
/* Drops those that are not marked; true if there were any. */
bool externals_sweep(struct registry *r, uint32_t service, uint64_t now_ns);
void endpoint_drop(struct registry *r, uint32_t id, uint64_t now_ns);
/* As in workload_info: takes effect at the next flush. */
void endpoint_weigh(struct registry *r, uint32_t id, uint32_t weight);
const struct netns_addresses *netns_find(const struct registry *r, uint64_t cookie);
/* a may be NULL. */
const struct netns_address *address_find(const struct netns_addresses *a, const uint8_t ip[16]);
/* The first address of a namespace that leads others there, of IPv4 or of IPv6; NULL: none. */
const uint8_t *netns_global(const struct registry *r, uint64_t cookie, bool v4);

/* adopt.c: the id that was kept, or MESH_NONE. x: as registered; NULL: discovered, in that
 * namespace. */
uint32_t endpoint_recall(struct registry *r, uint32_t service, uint32_t port, const char *id,
			 uint64_t netns, const struct external_info *x);
uint32_t workload_recall(struct registry *r, uint64_t cgroup);
/* registry.c: its map entry goes, and its id. */
void workload_forget(struct registry *r, uint32_t id, uint64_t now_ns);
/* Its map entry goes with the next flush. 0 or -ENOMEM. */
int cgroup_gone(struct registry *r, uint64_t cgroup);

/* versions.c: numbers for what the configuration names. -ENOSPC when some have to wait until those
 * of others are forgotten, -ENOMEM; those are 0 then. */
int service_number(struct registry *r, struct service *s, uint64_t now_ns);
/* May somebody still go by that number? */
bool version_remembered(const struct version *v, uint64_t now_ns);

/* service.c: all that follows from a change of a service; the end of one whose id is needed. */
int service_recompute(struct registry *r, uint32_t id, uint64_t now_ns);
void service_forget(struct registry *r, uint32_t id, uint64_t now_ns);

/* slots.c */
void subset_build(struct registry *r, uint32_t id, uint64_t now_ns);
/* Those that the endpoint is in are to be built again. */
void subsets_touch(struct registry *r, uint32_t endpoint);

#endif
