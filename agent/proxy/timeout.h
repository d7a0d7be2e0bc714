/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What bounds an exchange in time. One timer an exchange; when it fires, timeout.c finds out what
 * is due by the clock readings in the exchange, and sets it again for what is left. `try` and
 * `request` bound the way to the end of the answer's head, and do not run while a long body is
 * still being sent; bodies of both directions are bounded by `idle`, the time without a byte. A
 * caller that sends no more of its body is told (408), one that takes no more of the answer is cut
 * off.
 */
#ifndef PROXY_TIMEOUT_H
#define PROXY_TIMEOUT_H

#include "agent/proxy/exchange.h"

#define DETECT_WAIT_MS                                                                             \
	1000 /* no endpoint can be reached, and the caller has not spoken: how long it may */

/* A try has begun, or its request has now been sent. */
void timeout_try(struct exchange *ex);
/* A fault holds the request back: until that ends, or the request timeout does. */
void timeout_delay(struct exchange *ex);
/* The answer's body does not come, or is not taken, in one go. */
void timeout_body(struct exchange *ex);
/* Our own answer is on its way. */
void timeout_answer(struct exchange *ex);
/* A connection that is no request's, yet or at all, is to be made or was: bounds the making. */
void timeout_connect(struct exchange *ex);
/* In EX_BACKOFF: until the next try. */
void timeout_backoff(struct exchange *ex, uint32_t wait_ms);
/* In EX_QUEUE: until it is given up. */
void timeout_queue(struct exchange *ex);
/* What is left of the request timeout; UINT64_MAX: there is none. */
uint64_t timeout_left(const struct exchange *ex);
/* No endpoint can be reached, and the protocol is not known. */
void timeout_detect(struct exchange *ex);

#endif
