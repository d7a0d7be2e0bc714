/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The caller's side: one accepted connection. Finds out what it speaks, reads heads, hands each
 * request to an exchange, one at a time; pipelined bytes stay in the buffer or the socket until
 * their turn.
 */
#ifndef PROXY_DOWNSTREAM_H
#define PROXY_DOWNSTREAM_H

#include "agent/proxy/conn.h"
#include "agent/proxy/exchange.h"
#include "lib/addr.h"

/* An idle kept-alive connection of a caller is closed after this: longer than the pools of common
 * clients keep theirs, so that they are the ones to close. */
#define DOWN_IDLE_MS 300000
#define DOWN_HEAD_MS 15000 /* from the first byte of a head to its last */
#define DOWN_LINGER_MS                                                                             \
	2000 /* after our FIN: how long what still comes is read, so that no reset overtakes the   \
		answer */

struct downstream {
	struct conn conn; /* first: the loop's watch is its first member */
	struct exchange *ex;
	struct downstream *next, **prev; /* all of this worker */
	struct downstream *next_hungry;
	struct downstream *next_again;
	struct timer timer;
	uint64_t since_ms;	 /* of what the timer is for */
	uint32_t upstream;	 /* MESH_NONE: the gateway decides by request */
	uint32_t caller;	 /* workload id or MESH_NONE */
	uint32_t caller_service; /* MESH_NONE: a pure caller, or the gateway's */
	uint64_t netns;		 /* the caller's, the gateway's is our own */
	bool via_loopback;	 /* it connected to a loopback address */
	uint32_t requests;
	uint8_t fate;	     /* of the exchange that ended last */
	bool http;	     /* known or found to speak HTTP */
	bool learned;	     /* http is what other connections to this port have spoken */
	bool asked_to_close; /* with its last request, which was read whole */
	bool lingering;
	bool hungry;
	bool queued;		  /* on the proxy's `again` list */
	char peer[ADDR_TEXT_MAX]; /* the caller's address, as text */
};

/* A connection that listener.c accepted: `meant` is NULL for the gateway's. Takes fd over. */
void downstream_new(struct proxy *p, int fd, const uint8_t peer[16],
		    const struct mesh_origdst *meant);
/* Does what can be done, or as much of it as is fair; may free it. */
void downstream_run(struct downstream *d);
/* It could go on at once, but others want a turn: runs it after this batch of events. */
void downstream_again(struct downstream *d);
/* Runs all of those; the loop calls it after each batch. */
void downstream_run_again(struct loop *l);
/* At the limit of clients: closes an old one that is idle, so that those who merely hold
 * connections keep nobody out. false: none was found. */
bool downstream_make_room(struct proxy *p);
/* Has its caller sent another request behind the one that is being answered? */
bool downstream_has_more(const struct downstream *d);
/* p->draining has been set: what is idle for p->quiet_ms, or becomes so, closes. A caller that is
 * just asking would meet the close half-way: the longer, the less likely. */
void downstream_drain(struct proxy *p);

#endif
