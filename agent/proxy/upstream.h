/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections to endpoints: pooled by endpoint, the youngest taken first. A connection belongs to
 * one exchange at a time, or is idle in the pool, or waits for the supervisor to make its socket in
 * another network namespace.
 *
 * Those that lead to an endpoint which is gone, or whose health checks fail, are closed within half
 * a second, and not used before that.
 *
 * What we lack ourselves (descriptors, memory, room in the supervisor's queue) is waited for, as
 * long as the exchange waits for the connection; the endpoint has no part in it.
 */
#ifndef PROXY_UPSTREAM_H
#define PROXY_UPSTREAM_H

#include "agent/proxy/conn.h"

#include <mesh/abi.h>

/* Servers close idle connections too, node after 5 s; being first leaves no race to lose. A server
 * that says `Keep-Alive: timeout=N` is believed. */
#define UPCONN_IDLE_MS		 4000
#define UPCONN_IDLE_PER_ENDPOINT 256

struct upconn;

/* Who has a connection: what is to be done when it has news. */
struct upconn_user {
	void (*run)(struct upconn *u);	 /* now; may close it */
	void (*later)(struct upconn *u); /* the same, but not now: other work is under way */
};

struct upconn {
	struct conn conn;		/* first: the loop's watch is its first member */
	const struct upconn_user *user; /* NULL while it is idle */
	void *of;			/* the user's own */
	uint32_t endpoint, gen, service;
	bool local;    /* made by way of loopback */
	uint32_t used; /* exchanges it has served */
	uint64_t idle_until_ms;
	uint64_t netns;			 /* where its socket is to be made; 0: here */
	uint64_t wanted;		 /* names our request for a socket */
	uint64_t begun_ns;		 /* connect() was called */
	struct timer again;		 /* there was no socket to be had: looks again */
	struct upconn *next, **prev;	 /* same endpoint, or awaiting */
	struct upconn *younger, **older; /* all idle ones by age */
	uint8_t ip[16];
	uint16_t port;	      /* network order */
	char id[MESH_ID_MAX]; /* the instance */
};

/* A connection to that endpoint: pooled unless `fresh`, else a new one, on its way. It may
 * already be broken (conn.error). NULL without memory. */
struct upconn *upconn_get(struct proxy *p, uint32_t index, const struct mesh_endpoint *ep,
			  bool fresh, const struct upconn_user *user, void *of);
/* Would that be a pooled one? */
bool upconn_is_idle(const struct proxy *p, uint32_t index, const struct mesh_endpoint *ep);
/* At the limit of connections to a service: closes one that is idle. false: none is. */
bool upconn_spare(struct proxy *p, uint32_t service);
/* Has the endpoint a part in what became of this connection? Not while we lack a socket, nor when
 * there is no port left to call it from. */
bool upconn_tried(const struct upconn *u);
/* Part of an answer came, and more is to come: says to its kernel at once that it did. */
void upconn_acknowledge(struct upconn *u);
/* Done, and good for another exchange within max_idle_ms. */
void upconn_put(struct upconn *u, uint32_t max_idle_ms);
/* Done for ever. */
void upconn_close(struct upconn *u, bool rst);

/* Out of descriptors: closes the connection that has been idle for longest. false: none is. */
bool upconn_make_room(struct proxy *p);

/* The configuration has changed: looks whether others wait for what is idle here, and goes on
 * looking while there are idle connections to services that are near their limit. */
void upconn_look(struct proxy *p);

/* The supervisor's answer to proxy_want_socket: fd, or -errno. Takes the fd over. */
void upconn_socket(struct proxy *p, uint64_t wanted, int fd);
/* Nobody is left to answer: who waits asks again, for as long as proxy_want_socket() lets him. */
void upconn_unanswered(struct proxy *p);

/* Starts retiring what is idle for too long. */
void upconn_start_sweep(struct proxy *p);

#endif
