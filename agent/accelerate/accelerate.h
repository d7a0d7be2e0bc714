/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether skipping TCP pays for each upstream: counters in, who is to be enrolled and what was
 * gained out. Books only; the supervisor (supervisor_gain.c) reads the counters some times a
 * second and writes the steering words. Knows no kernel and no clock.
 */
#ifndef AGENT_ACCELERATE_ACCELERATE_H
#define AGENT_ACCELERATE_ACCELERATE_H

#include "agent/accelerate/compare.h"

#include <mesh/gain.h>
#include <mesh/splice.h>

#include <stdbool.h>
#include <stdint.h>

struct accelerate_row { /* one upstream */
	struct mesh_accel last,
		sum;		   /* the kernel's counters at the last beat; since the first one */
	struct mesh_accel batched; /* `sum` when the last batch was compared */
	uint64_t batch_ms;
	struct mesh_gain gain;
	struct mesh_gain evidence; /* of the last judgement, for people */
	struct compare_group enrolled, control;
	struct compare_group contest[2]; /* of the running one: enrolled, held back */
	uint64_t changes;		 /* of the state */
	uint32_t hold_back;
	uint16_t told; /* hold_back as the kernel has it + 1; 0: it has not been told */
	bool known;    /* `last` is filled in */
	bool busy;     /* something was counted since the beat before */
};

struct accelerate {
	struct accelerate_row *row[MESH_MAX_UPSTREAMS]; /* NULL: nothing known yet */
};

void accelerate_done(struct accelerate *a);
/* The place is going to be another's, or nobody's. */
void accelerate_forget(struct accelerate *a, uint32_t upstream);

/*
 * One beat of an upstream: what the kernel has counted by now. Enters who is to be enrolled into
 * row->hold_back. Returns the row, NULL without memory: the next beat tries again. *changed: the
 * state is another than before.
 */
struct accelerate_row *accelerate_beat(struct accelerate *a, uint32_t upstream,
				       const struct mesh_accel *now, uint64_t now_ms,
				       bool *changed);

/* "enrolled", "one-way", "new-connections", "by-tcp", "slower". */
const char *accelerate_state_name(uint32_t state);
/* "none", "running", "won", "lost", "given-up". */
const char *accelerate_contest_name(uint32_t contest);

#endif
