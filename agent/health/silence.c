/* SPDX-License-Identifier: Apache-2.0 */
/* See silence.h. */
#include "agent/health/silence.h"

uint64_t silence_look(struct silence *s, bool busy, uint32_t stamp, uint32_t try_ms,
		      uint64_t now_ns)
{
	uint64_t most_ns = try_ms ? (try_ms + (uint64_t)SILENCE_SLACK_MS) * 1000000 : 0, ns;

	if (!busy) {
		s->since_ns = 0;
		return 0;
	}
	if (!s->since_ns || s->stamp != stamp) {
		s->since_ns = now_ns;
		s->stamp = stamp;
	}
	ns = now_ns > s->since_ns ? now_ns - s->since_ns : 0;
	return ns <= most_ns ? ns : 0;
}
