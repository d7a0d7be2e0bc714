/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies of requests for another version, whose answers nobody waits for: they are read, measured
 * and dropped. A copy has a connection of its own and nothing else in common with its exchange once
 * it has begun. Called by exchange.c; must never make a caller wait.
 */
#ifndef PROXY_MIRROR_H
#define PROXY_MIRROR_H

#include "agent/proxy/exchange.h"

#define MIRROR_MAX 256 /* copies that a worker has under way; no more are begun */

void mirror_init(struct proxy *p);

/* The request was sent, head and body. When its route wants a copy, draws whether it gets one, once
 * a request; not one that is too long to be all in the caller's buffer still, nor an upgrade. */
void mirror_offer(struct exchange *ex);

#endif
