/* SPDX-License-Identifier: Apache-2.0 */
/* Acceleration as the supervisor runs it: which mode, whose sockets, what it brought. */
#ifndef AGENT_SUPERVISOR_SPLICE_H
#define AGENT_SUPERVISOR_SPLICE_H

#include <mesh/splice.h>

struct supervisor;
struct buf;

/* Switches splice on in `mode`, for sockets of workloads and of our own workers. What cannot be
 * done is logged and leaves it off: plain TCP is always right. Returns the mode in force. */
enum mesh_splice_mode splice_start(struct supervisor *s, enum mesh_splice_mode mode);

/* mesh_splice_*, in Prometheus' text format. */
void splice_metrics(struct supervisor *s, struct buf *out);

#endif
