/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ejection: which endpoints of one group (those that are called through the same upstream) fail so
 * much that they get no calls for a while. Works on copies: reads and writes nothing but its
 * arguments. eject.c brings them and takes the result.
 */
#ifndef AGENT_HEALTH_OUTLIER_H
#define AGENT_HEALTH_OUTLIER_H

#include <mesh/breaker.h>
#include <stdbool.h>
#include <stdint.h>

struct outlier {
	uint32_t id;
	bool spared;		 /* just back: what it did before is not held against it */
	uint64_t word;		 /* its breaker */
	struct mesh_tally tally; /* tries in the window */
	uint32_t consecutive;	 /* failures in a row */
	uint64_t next;		 /* out: what its breaker is to be now */
};

/*
 * Trips who deserves it (mesh_breaker_trip), worst share of failures first, as long as no more than
 * max_ejected percent of the group, rounded down, are out: so never the only one. Those that a
 * person has opened are out regardless of that, and count. Changes the order of v.
 */
void outlier_judge(struct outlier *v, uint32_t n, const struct mesh_breaker_policy *p,
		   uint64_t now_ms);

/* What a breaker's word says about the endpoint now: bits of OUTLIER_STATUS. */
uint32_t outlier_status(uint64_t word, const struct mesh_breaker_policy *p, uint64_t now_ms);
#define OUTLIER_STATUS (ENDPOINT_EJECTED | ENDPOINT_PROBING | ENDPOINT_HELD)

/* Until the first probe may go out, in ms; 0: now, or never by itself. */
uint64_t outlier_wait_ms(uint64_t word, const struct mesh_breaker_policy *p, uint64_t now_ms);

#endif
