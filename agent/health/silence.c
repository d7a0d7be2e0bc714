/* SPDX-License-Identifier: Apache-2.0 */
/* See silence.h. */
#include "agent/health/silence.h"

uint64_t silence_look(struct silence *s, bool busy, uint32_t stamp, uint64_t now_ns)
{
	if (!busy) {
		s->since_ns = 0;
		return 0;
	}
	if (!s->since_ns || s->stamp != stamp) {
		s->since_ns = now_ns;
		s->stamp = stamp;
	}
	return now_ns > s->since_ns ? now_ns - s->since_ns : 0;
}
