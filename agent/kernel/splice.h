/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Switching splice on and off, steering it, and what it did: the user-space side of
 * include/mesh/splice.h, for the supervisor and for trials. Every function returns 0 or -errno.
 */
#ifndef AGENT_KERNEL_SPLICE_H
#define AGENT_KERNEL_SPLICE_H

#include "agent/kernel/kernel.h"

#include <mesh/splice.h>

/*
 * Puts the programs for c->mode on the map of sockets, and then *c in force. Sockets that are in
 * the map keep the programs that they have; those of mode `redirect` and `verdict` differ in the
 * latter only. Going to MESH_SPLICE_OFF never fails, and loses nothing: what is queued is read,
 * what is sent goes by TCP. On failure splice is off, and error[] says why.
 *
 * A trial makes a kernel of its own (kernel_open() with its own cgroup and pin_dir) and says
 * MESH_SPLICE_ALL in c->flags: then no map has to know its sockets.
 */
int kernel_splice_set(struct kernel *k, const struct mesh_splice_ctl *c,
		      char error[KERNEL_ERROR_MAX]);

/* Who of an upstream's new connections is enrolled. */
int kernel_splice_steer(struct kernel *k, uint32_t upstream, const struct mesh_splice_steer *s);

/* Forgets what was judged and ordered of an upstream whose id is going to be another's. What was
 * counted stays in the sum over all. */
int kernel_splice_upstream(struct kernel *k, uint32_t upstream);

/* Whether a workload's connections may be accelerated; holds at once for those that exist. */
int kernel_splice_task(struct kernel *k, uint32_t workload, bool off);

/* Forgets what was seen and ordered of a workload whose id is going to be another's. */
int kernel_splice_forget(struct kernel *k, uint32_t workload);

/* A workload has got the number `workload`: what is known of its predecessor under that number is
 * forgotten, what is known of `cgroup` holds. True in *off: it uses splice(2), and stays with TCP.
 */
int kernel_splice_workload(struct kernel *k, uint64_t cgroup, uint32_t workload, bool *off);

/* What was counted for an upstream, and for all of them together. */
int kernel_splice_accel(struct kernel *k, uint32_t upstream, struct mesh_accel *out);
int kernel_splice_total(struct kernel *k, struct mesh_accel *out);

/* Connections that are enrolled now; a few ms when there are many. */
uint32_t kernel_splice_pairs(struct kernel *k);

#endif
