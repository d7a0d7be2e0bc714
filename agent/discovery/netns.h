/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network namespaces of managed workloads: their cookies, addresses, and the capture listeners
 * inside. One entry per namespace, counted; with the last reference every descriptor goes, or the
 * namespace would live for ever. The supervisor enters a namespace for the few calls that make
 * sockets, and aborts if it cannot come back.
 *
 * Anybody may make a user namespace and, inside, a network namespace with whatever addresses he
 * likes. So only those that belong to our own user namespace are looked at.
 */
#ifndef AGENT_DISCOVERY_NETNS_H
#define AGENT_DISCOVERY_NETNS_H

#include <mesh/abi.h>
#include "lib/loop.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define NETNS_ADDRESSES	    256	 /* of one namespace that are looked at */
#define NETNS_OWN_ADDRESSES 4096 /* of our own */

struct netns_table;

struct netns {
	struct netns *next;
	struct netns_table *table;
	uint64_t cookie;
	dev_t dev;
	ino_t ino;
	uint32_t refs;
	int fd;		    /* of the namespace */
	int route;	    /* rtnetlink: address changes and dumps */
	struct watch watch; /* on route */
	struct {
		int fd; /* -1: not there */
		uint64_t cookie;
		uint32_t id; /* for IPC_LISTENER */
		bool told;   /* the owner of the table knows it */
	} listener[2];	     /* 127.0.0.1, ::1 */
	bool port_taken, said_so, scan;
	char owner[32]; /* for the log: whose it is; the taker's to fill in */
};

struct netns_table {
	struct loop *loop;
	struct netns *list;
	uint32_t count, next_listener;
	uint16_t port; /* of the capture listeners, host order */
	int own_fd;    /* our own namespace: the way back */
	uint64_t own_cookie;
	int own_route; /* as in struct netns: our addresses matter without a workload there too */
	struct watch own_watch;
	dev_t user_dev; /* our user namespace; user_ino 0: this kernel has none */
	ino_t user_ino;
	void *arg;
	/* Addresses changed (never called from within netns_get); NULL: those of our own namespace.
	 */
	void (*addresses)(void *arg, struct netns *ns);
	/* Optional: a listener of an agent before us, on port in that namespace (it is ours then),
	 * or -1. */
	int (*inherited)(void *arg, uint64_t cookie, int family);
	/* Capture listeners have come up, or are about to be closed. */
	void (*listening)(void *arg, struct netns *ns, bool up);
};

/* loop, port, arg and the functions are to be set before. 0 or -errno. */
int netns_init(struct netns_table *t);
void netns_done(struct netns_table *t);

/* The namespace that a process is in, with one more reference. 0; -EPERM when it belongs to another
 * user namespace; -ENOSPC beyond MESH_MAX_NETNS; -errno. */
int netns_get(struct netns_table *t, int pid, struct netns **out);
void netns_put(struct netns *ns);
/* Is the process (still) in this namespace? */
bool netns_is(const struct netns *ns, int pid);
struct netns *netns_by_cookie(struct netns_table *t, uint64_t cookie);

/* Opens the capture listeners that are missing and reports them. Cheap when none is. */
void netns_listen(struct netns *ns);
/* Fills out[max] with the addresses of a namespace (NULL: ours), those of the loopback device last;
 * link-local IPv6 left out, and outside of our own namespace what a loopback device has beyond
 * loopback addresses: nobody else gets there. Returns how many or -errno. */
int netns_addresses(struct netns_table *t, struct netns *ns, uint8_t (*out)[16], int max);
/* An unconnected non-blocking TCP socket inside. A descriptor (the caller's) or -errno. */
int netns_socket(struct netns *ns, int family);
/* The cookie of our own namespace; for who has no table. */
int netns_own_cookie(uint64_t *cookie);

#endif
