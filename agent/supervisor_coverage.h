/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The supervisor's part in coverage: has the kernel's counters read and the connections that exist
 * looked at, a little with each beat, and tells meshd, /metrics and the log whose traffic goes past
 * the mesh. Called by supervisor.c and supervisor_state.c only.
 */
#ifndef AGENT_SUPERVISOR_COVERAGE_H
#define AGENT_SUPERVISOR_COVERAGE_H

#include "agent/coverage/coverage.h"
#include "agent/kernel/connections.h"
#include "lib/buf.h"

struct supervisor;

struct coverage_watch {
	struct coverage books;
	struct kernel_dump *dump; /* of the namespace that is being looked at */
	uint64_t looked_ns, began_ns;
	uint64_t after;	 /* cookie of the last namespace of this round; the next one is higher */
	bool running;	 /* a round does */
	int error;	 /* why the last round could not see everything, -errno */
	uint32_t failed; /* namespaces of this round that could not be looked at */
	uint32_t escaping, said_error;
	uint64_t own_cgroup; /* the agent's; 0: not known */
};

void coverage_start(struct supervisor *s);
void coverage_stop(struct supervisor *s);
/* Every 100 ms. Takes some ms at most. */
void coverage_beat(struct supervisor *s);

/* The value of "coverage" in our state, and of "connects" of a workload (an empty object when
 * nothing is known of it). */
void coverage_json(struct supervisor *s, struct buf *b);
void coverage_connects_json(struct supervisor *s, uint32_t workload, struct buf *b);
void coverage_metrics(struct supervisor *s, struct buf *out);

#endif
