/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether a request that has failed is tried once more, where, and after which wait. Called by
 * exchange.c after each failure and for each answer before the caller is told of it; what is done
 * about it is exchange.c's business. The budget is shared by all workers.
 */
#ifndef PROXY_RETRY_H
#define PROXY_RETRY_H

#include "agent/proxy/exchange.h"

/* One more request: it earns its service a share of a retry. */
void retry_earn(struct exchange *ex);

/* The endpoint of the try that is ending has failed: the others are better. */
void retry_avoid(struct exchange *ex);

/*
 * Another try, after this failure, or for CAUSE_NONE after this answer (ex->status)? true: the
 * budget has paid for it; the back-off in *wait_ms. Not when the service's breaker is open by now,
 * nor for its probe: who recovers is asked once; and not when the time that is left is shorter than
 * what the endpoint that would be asked usually takes.
 */
bool retry_granted(struct exchange *ex, enum mesh_cause cause, uint32_t *wait_ms);

#endif
