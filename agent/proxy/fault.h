/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Faults that were ordered: a request is held back for a while, or answered by the mesh instead of
 * its endpoint. Those of the request's route, then those of the chaos commands against its service.
 * Called by exchange.c before anything is admitted, and by timeout.c.
 */
#ifndef PROXY_FAULT_H
#define PROXY_FAULT_H

#include "agent/proxy/exchange.h"

/* Draws what happens to a request that was just routed. false: nothing does, it goes on. true: it
 * waits (EX_DELAY), or has its answer. The request timeout runs while it waits. */
bool fault_begin(struct exchange *ex);

/* The delay is over: goes on, or answers. */
void fault_due(struct exchange *ex);
/* The request timeout came before that. */
void fault_timed_out(struct exchange *ex);

#endif
