/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests that wait for a connection to their service, because as many as there may be are in use:
 * first come, first served within a worker. Between workers nobody calls: who waits looks every
 * QUEUE_LOOK_MS whether another worker has given one up, and who has one to spare looks as often
 * whether others wait, and gives it up (upstream.c). Neither looks while no service is near its
 * limit.
 */
#ifndef PROXY_QUEUE_H
#define PROXY_QUEUE_H

#include "agent/proxy/exchange.h"

#define QUEUE_LOOK_MS 50

/* Does anybody wait? Then newcomers wait behind. */
bool queue_waits(const struct proxy *p, uint32_t service);

/* Lets an exchange wait, at the end, or in front when it had its turn and found nothing. */
void queue_join(struct exchange *ex);
/* Harmless when it does not wait. */
void queue_leave(struct exchange *ex);

/* A connection of the service was closed or has become idle: the first who waits has its turn,
 * after what is under way. */
void queue_wake(struct proxy *p, uint32_t service);

/* A connection of the service is idle: should it be closed, for another worker's sake? */
bool queue_gives_up(struct proxy *p, uint32_t service);

#endif
