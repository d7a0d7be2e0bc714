/* SPDX-License-Identifier: Apache-2.0 */
/* See walltime.h. */
#include "agent/telemetry/walltime.h"

#include "lib/clock.h"

/* We may be put aside between two readings: the closest pair of three counts. */
static void read_both(uint64_t *mono_ns, uint64_t *real_ns)
{
	uint64_t best = UINT64_MAX;
	struct timespec t;

	for (int i = 0; i < 3; i++) {
		uint64_t before = clock_mono_ns(), after;

		clock_gettime(CLOCK_REALTIME, &t);
		after = clock_mono_ns();
		if (after - before >= best)
			continue;
		best = after - before;
		*mono_ns = before + best / 2;
		*real_ns = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
	}
}

void walltime_look(struct walltime *w, uint64_t mono_ns, uint64_t real_ns)
{
	int64_t off;

	if (!mono_ns)
		read_both(&mono_ns, &real_ns);
	off = (int64_t)(real_ns - mono_ns) - w->offset_ns;
	if (off >= WALLTIME_JUMP_NS || off <= -WALLTIME_JUMP_NS)
		w->offset_ns += off;
	else
		w->offset_ns += off > WALLTIME_STEP_NS	  ? WALLTIME_STEP_NS
				: off < -WALLTIME_STEP_NS ? -WALLTIME_STEP_NS
							  : off;
}
