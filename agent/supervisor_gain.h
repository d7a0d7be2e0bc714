/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The supervisor's part in measuring acceleration: some times a second it reads what splice has
 * counted for each upstream, writes who is to be enrolled, and says so when that has changed.
 * Called by supervisor.c, supervisor_publish.c and supervisor_state.c.
 */
#ifndef AGENT_SUPERVISOR_GAIN_H
#define AGENT_SUPERVISOR_GAIN_H

#include "agent/accelerate/accelerate.h"
#include "lib/buf.h"

struct supervisor;

struct gain_watch {
	struct accelerate books;
	uint64_t looked_ns;
	uint32_t looks;
	bool said_error;
};

void gain_stop(struct supervisor *s);
/* An upstream gets its place: nothing of another's is true of it. */
void gain_fresh(struct supervisor *s, uint32_t upstream);
/* Every 100 ms. */
void gain_beat(struct supervisor *s);

/* The value of "gains" in our state: a list of those that were ever enrolled. */
void gain_json(struct supervisor *s, struct buf *b);
void gain_metrics(struct supervisor *s, struct buf *out);

#endif
