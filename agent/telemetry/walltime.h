/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The wall clock for what was timed by CLOCK_MONOTONIC: by one offset for all, so that what lies
 * inside something else does so afterwards too. The offset follows a clock that is corrected by
 * small steps slowly, and one that jumps at once.
 */
#ifndef AGENT_TELEMETRY_WALLTIME_H
#define AGENT_TELEMETRY_WALLTIME_H

#include <stdint.h>

#define WALLTIME_JUMP_NS 10000000 /* a difference of so much is a jump */
#define WALLTIME_STEP_NS 20000	  /* of a smaller one, so much at each look */

struct walltime {
	int64_t offset_ns;
};

/* Both clocks, read just now; or 0 and 0: they are read here. The first look at a zeroed one is a
 * jump. Several times a second. */
void walltime_look(struct walltime *w, uint64_t mono_ns, uint64_t real_ns);

static inline uint64_t walltime_ns(const struct walltime *w, uint64_t mono_ns)
{
	return mono_ns + (uint64_t)w->offset_ns;
}

#endif
