/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one worker has: its loop, its memory, its view of what is shared, its connections. Created
 * by agent/worker.c, passed to everything in this folder. Single-threaded.
 *
 * The pipeline, in the order a request meets it:
 *   listener.c     accept, original destination
 *   downstream.c   the caller's connection: detect the protocol, read heads, keep alive
 *   exchange.c     one request: route, try, answer, record (knows nothing of HTTP/1)
 *   trace*.c       the trace that it belongs to
 *   route.c        which upstream, which path; match.c which of its routes
 *   deadline.c     how long the caller waits; fault.c what was ordered to go wrong
 *   admission.c    bulkhead.c, breaker.c: whether it may go on, and what is booked of it
 *   tries.c        from one try to the next; retry.c whether; queue.c what waits for a connection
 *   split.c        which version; balance.c which endpoint; sticky.c the one of a session
 *   upstream.c     a connection to it: pooled, new, or made by the supervisor in another namespace
 *   try.c          the two together; timeout.c what bounds it in time
 *   mirror.c       a copy for another version
 *   answer.c       what we answer ourselves; why.c what was known then
 *   codec_http1.c  heads to bytes and back; http1_*.c the parser
 *   pump.c         bodies; tunnel.c what is not HTTP
 *   record.c       what is written down of it
 */
#ifndef PROXY_PROXY_H
#define PROXY_PROXY_H

#include "agent/control/snapshot.h"
#include "agent/proxy/bufpool.h"
#include "agent/proxy/shared.h"
#include "agent/proxy/trace.h"
#include "agent/telemetry/ring.h"
#include "lib/loop.h"

#include <mesh/abi.h>
#include <stdbool.h>
#include <stdint.h>

struct downstream;
struct exchange;
struct upconn;
struct listener;

struct proxy {
	struct loop loop;
	struct bufpool bufs;
	struct slab downstreams, exchanges, upconns, mirrors;
	struct shared shared;
	struct ring *ring;		 /* our records; the supervisor reads */
	const struct snapshot *snapshot; /* in force; NULL before the first */
	uint32_t id;			 /* this worker's gauge */
	uint32_t workers;
	int ipc_fd;		    /* -1: there is no supervisor */
	uint64_t netns;		    /* cookie of our own namespace */
	uint64_t random;	    /* state of proxy_random, never 0 */
	uint64_t instance;	    /* random; first half of request ids */
	uint64_t requests;	    /* counts up; second half of request ids */
	struct trace_source traces; /* new ids, and how many may be sampled */
	uint64_t wanted;	    /* counts up; names requests for sockets */
	uint64_t mirrors_left_out;  /* copies that were due and not made: too many, or too long */
	uint64_t endpoints_seen_ns; /* when why.c has looked how many indices are in use */
	uint32_t endpoints_seen;
	uint32_t nclients, max_clients;
	bool draining;
	bool unobserved;   /* nothing is recorded and nothing traced */
	uint32_t quiet_ms; /* while draining: what is idle for so long is closed */
	bool paused;	   /* listeners are not watched: at max_clients, or out of descriptors */

	struct listener *listeners, *accepting;
	struct timer resume, sweep, starve;
	struct downstream *clients, *oldest;	/* all, newest first */
	struct downstream *again, **again_last; /* could go on at once, see downstream_again */
	uint32_t nagain;
	struct downstream *hungry_first, **hungry_last; /* wait for a buffer to read a request */
	/* [1]: by way of loopback, which programs may trust more: never lent to a caller from
	 * elsewhere */
	struct upconn *idle_by_endpoint[2][MESH_MAX_ENDPOINTS];
	uint16_t nidle[2][MESH_MAX_ENDPOINTS];
	struct upconn *idle_oldest, **idle_newest;
	uint32_t nidle_of[MESH_MAX_SERVICES];
	struct { /* when a connection that could be looked at first served it, see upconn_put */
		uint64_t ns;
		uint32_t gen;
	} seen[MESH_MAX_ENDPOINTS];
	struct upconn *awaiting; /* wait for a socket from the supervisor */
	uint32_t nawaiting;
	struct queue { /* of exchanges that wait for a connection, by service */
		struct exchange *first, **last;
	} queues[MESH_MAX_SERVICES];
	uint32_t nqueued;
	struct timer queue_look, idle_look;
	uint64_t gave_up_ms; /* a connection, for another worker's sake */
	bool gives_up;	     /* what is being closed is not for ours */
};

/* Prepares a zeroed proxy whose `shared` and `ring` are mapped already. 0 or -errno. */
int proxy_init(struct proxy *p, uint32_t id, uint32_t workers, uint64_t instance);

/* Reads control messages now, so that what was sent before a connection is known when it is
 * accepted. Called in the middle of an exchange: what a message sets off must wait for its turn
 * (downstream_again). In agent/worker.c. */
void proxy_catch_up(struct proxy *p);
/* Asks the supervisor for a socket inside `netns`. The answer comes to upconn_socket(). 0 or
 * -errno. In agent/worker.c. */
int proxy_want_socket(struct proxy *p, uint64_t request, uint64_t netns, uint32_t family);

/* xorshift64*: for load balancing and ids, not for secrets. */
static inline uint32_t proxy_random(struct proxy *p)
{
	uint64_t x = p->random;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	p->random = x;
	return (uint32_t)((x * 0x2545f4914f6cdd1dULL) >> 32);
}

#endif
