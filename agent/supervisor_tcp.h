/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TCP services as the supervisor sees them: what the kernel reports of the connections that it
 * balanced or refused by itself, in metrics, and in the log a line a second for each service that
 * refuses. Reads the kernel and the registry, changes neither.
 */
#ifndef AGENT_SUPERVISOR_TCP_H
#define AGENT_SUPERVISOR_TCP_H

#include "lib/buf.h"

#include <mesh/abi.h>
#include <mesh/event.h>
#include <stdint.h>

#define TCP_TOLD                                                                                   \
	16 /* services that refuse at the same time; beyond these a line is not waited with */

struct supervisor;

struct tcp_refused {
	uint32_t service; /* MESH_NONE: free */
	uint32_t caller;  /* the workload that was refused last */
	uint64_t since_ns;
	uint64_t n[MESH_REFUSALS];
};

struct tcp {
	struct tcp_refused refused[TCP_TOLD];
};

void tcp_start(struct supervisor *s);
/* A captured connection has closed. */
void tcp_closed(struct supervisor *s, const struct mesh_event *e);
/* Every beat; and before metrics are shown, so that they hold what was refused until then. */
void tcp_beat(struct supervisor *s);
void tcp_metrics(struct supervisor *s, struct buf *out);

#endif
