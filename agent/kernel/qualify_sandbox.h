/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The trials of this kernel, in a process, a cgroup and network namespaces of their own, beside
 * whatever the caller does. Nothing outside of that cgroup meets the programs. The process dies
 * with its parent, and takes programs, maps and namespaces with it; the cgroup's directory is
 * removed by the parent, or by the next one that starts.
 */
#ifndef AGENT_KERNEL_QUALIFY_SANDBOX_H
#define AGENT_KERNEL_QUALIFY_SANDBOX_H

#include "agent/kernel/qualify_choose.h"

struct sandbox;

/* Starts them. cgroup: the directory below which theirs is made. budget_ms: for the trials; loading
 * comes on top. 0 or -errno. Removes what a dead predecessor left in `cgroup`. */
int sandbox_start(const char *cgroup, unsigned budget_ms, struct sandbox **out);

/* Becomes readable when there is something to be taken. Stays the sandbox's. */
int sandbox_fd(const struct sandbox *s);

/* 1: *q is the result (one with q->error if the process died); 0: not yet; never blocks. */
int sandbox_take(struct sandbox *s, struct qualify_result *q);

/* Ends what still runs, waits for that, removes the cgroup; sets *s to NULL. NULL is harmless. */
void sandbox_free(struct sandbox **s);

#endif
