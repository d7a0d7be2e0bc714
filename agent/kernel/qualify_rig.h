/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The splice programs on sockets of one cgroup, for trials: loaded a second time, with maps of
 * their own, pinned nowhere. Used by qualify_sandbox.c at start-up and by the tests of the hazards.
 * All of it goes with the process, however that ends.
 */
#ifndef AGENT_KERNEL_QUALIFY_RIG_H
#define AGENT_KERNEL_QUALIFY_RIG_H

#include "agent/kernel/trials.h"

#include <mesh/splice.h>

struct rig;

#define RIG_ERROR_MAX 160

/* Loads and attaches to the cgroup directory cgroup_fd (the caller's). 0, or -errno with one line
 * in error[]. The maps are small: for at most 200 connections at a time. */
int rig_open(int cgroup_fd, struct rig **out, char error[RIG_ERROR_MAX]);
/* Detaches and frees; sets *r to NULL. NULL inside is harmless. */
void rig_close(struct rig **r);

/* New connections are enrolled in `mode`, with some covers left out (enum mesh_splice_covers).
 * Between REDIRECT and VERDICT the way is forward only: what is once on the map stays. */
int rig_mode(struct rig *r, enum mesh_splice_mode mode, uint32_t left_out);
/* For trial_env.steer, with the rig as its arg. */
int rig_steer(void *rig, bool redirect);

/* Descriptor of one of the maps of bpf/splice.bpf.h; it stays the rig's. -ENOENT. */
int rig_map(const struct rig *r, const char *name);

#endif
