/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Captured connections of one workload that are not established yet. Each has its entry in
 * `origdst` from the SYN on, whether the worker comes to accept or not: without a bound, one
 * workload with enough sockets fills the map, and the entries of others go, whose connections are
 * then reset. What is established and not accepted needs no count: no more than two listeners'
 * queues can be full of it.
 */
#ifndef BPF_WAITING_H
#define BPF_WAITING_H

#include "bpf/coverage.bpf.h"
#include "bpf/words.bpf.h"

/* Those that ask at the same moment may overstep it, by less than the number of CPUs. */
static __always_inline bool waiting_is_crowded(__u64 cgroup)
{
	struct mesh_coverage *c = bpf_map_lookup_elem(&coverage, &cgroup);

	if (!c || *(volatile __u32 *)&c->waiting < MESH_MAX_WAITING)
		return false;
	count(MESH_C_PASSED_CROWDED);
	return true;
}

/* The SYN is about to leave. */
static __always_inline void waiting_begins(struct mesh_socket *s)
{
	__u64 cgroup = s->cgroup;
	struct mesh_coverage *c;

	if (__sync_fetch_and_or(&s->held, MESH_HELD_WAITING) & MESH_HELD_WAITING)
		return;
	c = bpf_map_lookup_elem(&coverage, &cgroup);
	if (c)
		__sync_fetch_and_add(&c->waiting, 1);
}

/* Established, or never to be; the first of its ends counts. */
static __always_inline void waiting_ends(struct mesh_socket *s)
{
	__u64 cgroup = s->cgroup;
	struct mesh_coverage *c;

	if (!(__sync_fetch_and_and(&s->held, ~MESH_HELD_WAITING) & MESH_HELD_WAITING))
		return;
	c = bpf_map_lookup_elem(&coverage, &cgroup);
	if (c)
		gauge_down(&c->waiting);
}

#endif
