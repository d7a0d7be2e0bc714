/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An endpoint that has requests and does not answer: its latency average says nothing of that until
 * the first of them times out. So the time for which nothing came, as seen by looks a beat apart,
 * counts as its latency in the slot tables: within a beat or two it gets its floor of the draws and
 * no more. An answer, or having nothing to do, ends it. So does more time than a try may take: what
 * is in flight then is no request that waits for an answer, but a tunnel or a long body. Pure.
 */
#ifndef AGENT_HEALTH_SILENCE_H
#define AGENT_HEALTH_SILENCE_H

#include <stdbool.h>
#include <stdint.h>

struct silence {
	uint64_t since_ns; /* of the first look that found it so; 0: it is not silent */
	uint32_t stamp;	   /* of its last latency sample, then */
};

#define SILENCE_SLACK_MS 1000 /* from the end of a try to the look that finds it booked */

/* busy: it has requests in flight; stamp: low half of its ewma word (mesh/ewma.h); try_ms: how long
 * a try may take, 0: nobody says. Returns how long it has been silent, in ns. */
uint64_t silence_look(struct silence *s, bool busy, uint32_t stamp, uint32_t try_ms,
		      uint64_t now_ns);

#endif
