/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why the mesh answered itself: what was known at that moment, as one record in the worker's ring
 * (struct record_why). Called where that is decided, and by nobody on the way of a request that is
 * answered by its endpoint.
 */
#ifndef PROXY_WHY_H
#define PROXY_WHY_H

#include "agent/proxy/exchange.h"

/* The try under way has come to nothing, by that cause, or for CAUSE_NONE by its answer
 * (ex->status): remembered, in case that there is no better one. */
void why_tried(struct exchange *ex, enum mesh_cause cause);

/* Our own answer is settled (cause, status). Written only while at least half of the ring is free:
 * the rest is for the records of requests. */
void why_record(const struct exchange *ex);

#endif
