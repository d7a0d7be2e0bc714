/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The bulkhead of a service (Envoy calls it "circuit breaker"): how much of it may be in use at
 * once, so that one slow callee does not fill every worker, and one noisy caller does not starve
 * the others. Pure functions of limits and gauges, the same text in the kernel, the workers and the
 * tests. Asked twice a request: when it comes, and when it needs a connection and finds none idle.
 *
 * The gauges are sums over workers that each read in their own moment. What counts its own part
 * first and looks at the sum again afterwards is exact for any number of workers: requests, and
 * seats (those that have a connection and those that wait). Connections are not counted that way:
 * workers that ask at the same time may each make one, so that limit is overstepped by less than
 * the number of workers, never by what one worker does.
 */
#ifndef MESH_BULKHEAD_H
#define MESH_BULKHEAD_H

#include <mesh/abi.h>

enum mesh_bulkhead_reason {
	MESH_BULKHEAD_NONE,	   /* go on */
	MESH_BULKHEAD_REQUESTS,	   /* refuse: as many requests as there may be */
	MESH_BULKHEAD_SOURCE,	   /* refuse: as many of this caller as there may be */
	MESH_BULKHEAD_PENDING,	   /* refuse: no connection, and the queue for one is full */
	MESH_BULKHEAD_CONNECTIONS, /* wait: as many connections as there may be */
};

/* 0: no limit, but of pending: nobody waits. */
struct mesh_bulkhead_policy {
	__u32 connections, requests, pending, per_source;
};

/* What is in use without the request that asks. */
struct mesh_bulkhead_use {
	__u32 connections, requests, pending, from_source;
};

/* How many requests may have a connection or wait for one; 0: no limit. A connection that is idle
 * in a worker which has no use for it is as good as one to be had: who waits until it is given up
 * takes no place from those that wait for the end of a request. */
static inline __u64 mesh_bulkhead_seats(const struct mesh_bulkhead_policy *p)
{
	return p->connections ? (__u64)p->connections + p->pending : 0;
}

/* May one more request come in? NONE, REQUESTS or SOURCE. */
static inline __u32 mesh_bulkhead_request(const struct mesh_bulkhead_policy *p,
					  const struct mesh_bulkhead_use *u)
{
	if (p->requests && u->requests >= p->requests)
		return MESH_BULKHEAD_REQUESTS;
	if (p->per_source && u->from_source >= p->per_source)
		return MESH_BULKHEAD_SOURCE;
	return MESH_BULKHEAD_NONE;
}

/* May one more connection be made? NONE, CONNECTIONS (wait for one) or PENDING. */
static inline __u32 mesh_bulkhead_connect(const struct mesh_bulkhead_policy *p,
					  const struct mesh_bulkhead_use *u)
{
	if (!p->connections || u->connections < p->connections)
		return MESH_BULKHEAD_NONE;
	return u->pending < p->pending ? MESH_BULKHEAD_CONNECTIONS : MESH_BULKHEAD_PENDING;
}

#endif
