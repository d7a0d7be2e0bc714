/* SPDX-License-Identifier: Apache-2.0 */
/* From one try of a request to the next: what is sent again, when, and what is waited for before
 * that. Called by exchange.c and timeout.c; each of these may end with an answer of our own. */
#ifndef PROXY_TRIES_H
#define PROXY_TRIES_H

#include "agent/proxy/exchange.h"

/* Begins a try, or waits for a connection (EX_QUEUE). ex->up may be there already, from the
 * detection of the protocol. */
void tries_begin(struct exchange *ex);
/* Another one, after a wait. cause: what the last one failed of, CAUSE_NONE: of its answer. No try
 * is under way, and the budget has paid. */
void tries_again(struct exchange *ex, enum mesh_cause cause, uint32_t wait_ms);

/* The timer of an exchange in EX_BACKOFF or EX_QUEUE has fired. */
void tries_due(struct exchange *ex);
/* In EX_QUEUE: there may be a connection by now. */
void tries_turn(struct exchange *ex);
/* Leaves EX_QUEUE for whatever reason; harmless elsewhere. */
void tries_stop_waiting(struct exchange *ex);

#endif
