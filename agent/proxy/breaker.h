/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Circuit breakers as a worker sees them: who is let in, and what became of it, in words that all
 * workers and the kernel share (include/mesh/breaker.h has the rules). Called by exchange.c and
 * tunnel.c for the service, by balance.c and try.c for the endpoint.
 *
 * A service's breaker is tripped here. An endpoint's is not: how many of the others are out is the
 * supervisor's to know; what is counted here is what it decides by.
 */
#ifndef PROXY_BREAKER_H
#define PROXY_BREAKER_H

#include <mesh/abi.h>
#include <stdbool.h>
#include <stdint.h>

struct proxy;

/* A request or a try that was let in. All zero: nothing was. */
struct breaker_pass {
	uint64_t lease; /* of a probe */
	bool counts;	/* what becomes of it is not told yet */
	bool probe;
};

enum breaker_result {
	BREAKER_GOOD,
	BREAKER_FAILED,
	BREAKER_NOTHING, /* it says nothing of the callee, or the callee never had it */
};

/* May a request go to the service? Then *pass is to be given back by breaker_result, once. */
bool breaker_admit(struct proxy *p, uint32_t service, struct breaker_pass *pass);
/* Books the result and empties *pass. Harmless for an empty one. */
void breaker_result(struct proxy *p, uint32_t service, struct breaker_pass *pass,
		    enum breaker_result r);
/* Neither open nor half-open. */
bool breaker_is_closed(const struct proxy *p, uint32_t service);

/* The same for a try and its endpoint, which is of that service. An index that is another
 * endpoint's by now is the caller's to notice. */
bool breaker_admit_try(struct proxy *p, uint32_t service, uint32_t endpoint,
		       struct breaker_pass *pass);
void breaker_try_result(struct proxy *p, uint32_t service, uint32_t endpoint,
			struct breaker_pass *pass, enum breaker_result r);
/* Would it be let in now? Takes no probe; without a pass it is for none. */
bool breaker_may_try(const struct proxy *p, uint32_t service, uint32_t endpoint,
		     const struct breaker_pass *pass);
/* By hand: not even when there is nobody else. */
bool breaker_is_barred(const struct proxy *p, uint32_t endpoint);

#endif
