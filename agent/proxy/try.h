/* SPDX-License-Identifier: Apache-2.0 */
/* One try of an exchange: an endpoint, a connection to it, and how it ended. Called by exchange.c
 * and tunnel.c. */
#ifndef PROXY_TRY_H
#define PROXY_TRY_H

#include "agent/proxy/exchange.h"

#include <stdbool.h>

/* How a try ended, for the endpoint's latency and for its connection. */
enum try_end {
	TRY_GOOD,    /* answered whole, the connection can serve again */
	TRY_SPENT,   /* answered, the connection cannot */
	TRY_FAILED,  /* the endpoint's fault, if it was called at all (upconn_tried) */
	TRY_DROPPED, /* nobody's fault: the caller left, or the pooled connection had gone stale */
};

enum try_start {
	TRY_STARTED,
	TRY_NOBODY,  /* there is nobody to call */
	TRY_NO_ROOM, /* the service has as many connections as it may, or others wait already */
};

/* Picks an endpoint (another than those that failed, if there is one) and gets a connection to it.
 * ex->up is NULL if it does not start. */
enum try_start try_connect(struct exchange *ex);
/* The endpoint that try_connect would pick now, more or less; MESH_NONE: nobody. */
uint32_t try_likely(struct exchange *ex);
/* The answer's head is whole (head_ns, status): books how long the endpoint alone was waited for.
 * An answer to a request that is still on its way from the caller says nothing of that. */
void try_answered(struct exchange *ex);
/* Has the endpoint had less time than it usually takes? Then that it has not answered is not its
 * fault: callers may set deadlines of their own. */
bool try_was_short(const struct exchange *ex);
/* The try has done what can be asked of it (a tunnel is there): its end will say nothing more. */
void try_settled(struct exchange *ex);
/* A connection was opened before the request was known, and must not be the one that serves it: as
 * if there had been no try. */
void try_give_back(struct exchange *ex);
/* Lets go of the connection and books the try. Harmless without one. */
void try_end(struct exchange *ex, enum try_end how);

#endif
