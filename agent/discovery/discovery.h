/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds workloads and what they listen on, and tells the registry: cgroups by inotify, who they are
 * by path and environment, sockets by the kernel's events and by looking at the sockets that exist.
 * Owned by the supervisor, which flushes the registry after each round of the loop
 * (discovery_settle first, discovery_mark after).
 */
#ifndef AGENT_DISCOVERY_DISCOVERY_H
#define AGENT_DISCOVERY_DISCOVERY_H

#include "agent/discovery/cgroups.h"
#include "agent/discovery/netns.h"
#include "agent/registry/registry.h"

#include <mesh/event.h>

/* Attribute of a cgroup that is under care; its value is our pid. */
#define DISCOVERY_MARK "user.sockmesh"

struct discovery_ops {
	void *arg;
	/* kernel/sockdiag.h */
	int (*scan)(int netns_fd,
		    void (*fn)(uint64_t cookie, const struct mesh_listener *l, void *arg),
		    void *arg);
	/* The end of this socket is to be reported. */
	void (*listener_found)(void *arg, uint64_t cookie, const struct mesh_listener *l);
	/* As in netns_table. */
	int (*inherited)(void *arg, uint64_t netns, int family);
	void (*listening)(void *arg, struct netns *ns, bool up);
};

struct discovery {
	struct loop *loop;
	struct registry *registry;
	struct discovery_ops ops;
	struct cgroups tree;
	struct netns_table netns;
	struct timer retry; /* for cgroups whose process is about to say who it is */
	struct netns *next_scan;
	uint32_t unmarked;
	bool any_scan, said_full, ending;
};

/* Finds what is there already. root: the directory of the attached cgroup. 0 or -errno. */
int discovery_init(struct discovery *d, struct loop *loop, struct registry *registry,
		   const struct discovery_ops *ops, const char *root, uint16_t listener_port);
/* Removes the marks. */
void discovery_done(struct discovery *d);

/* LISTEN and UNLISTEN. */
void discovery_event(struct discovery *d, const struct mesh_event *e);
/* Does the scans that became due; before each flush. */
void discovery_settle(struct discovery *d);
/* Has everything that there is been seen? Not while a list of sockets has to be read again, or a
 * process is about to say who it is. */
bool discovery_is_complete(const struct discovery *d);
/* Marks the cgroups whose workloads are in the maps; after a flush, while workers are ready. */
void discovery_mark(struct discovery *d);
/* The workload that a cgroup belongs to, MESH_NONE: none. */
uint32_t discovery_workload(struct discovery *d, uint64_t cgroup);
/* The path of a cgroup, from the root that is watched; NULL when it is not below it. */
const char *discovery_path(struct discovery *d, uint64_t cgroup);
/* Once a second: compares with what exists. */
void discovery_reconcile(struct discovery *d);

#endif
