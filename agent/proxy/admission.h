/* SPDX-License-Identifier: Apache-2.0 */
/* What stands between a request that is routed and its first try, and what is booked of it when it
 * is over. Called by exchange.c and tunnel.c. */
#ifndef PROXY_ADMISSION_H
#define PROXY_ADMISSION_H

#include "agent/proxy/exchange.h"

/* May it go on? CAUSE_NONE, CAUSE_BREAKER_OPEN or CAUSE_BULKHEAD_FULL (ex->bulkhead says of what).
 * In EX_TUNNEL it is one. */
enum mesh_cause admission_begin(struct exchange *ex);

/* A tunnel: what it is admitted for is the connection, and that is there. */
void admission_settled(struct exchange *ex);

/* It is over, no try is under way: gives back what it held, and tells the service's breaker what
 * the caller saw. Our own refusals say nothing of the service, nor does a caller that left before
 * there was an answer. Harmless when it never began. */
void admission_end(struct exchange *ex);

#endif
