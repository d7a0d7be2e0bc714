/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Who connects, and with what: what connect.bpf.c asks first. Looks only. */
#ifndef BPF_CALLER_H
#define BPF_CALLER_H

#include "bpf/maps.bpf.h"

#define CGROUP_DEPTH 32 /* levels looked at; what is deeper is found by its own id only */

/* The caller's own cgroup if it is managed, else its deepest managed ancestor; its id. By id:
 * inside a cgroup namespace the levels that user space knows are not those of the kernel. */
static __always_inline struct mesh_workload *find_caller(__u64 *cgroup)
{
	struct mesh_workload *w, *found = NULL;
	__u64 id = bpf_get_current_cgroup_id();

	*cgroup = id;
	w = bpf_map_lookup_elem(&workloads, &id);
	if (w)
		return w;
	for (int level = 1; level < CGROUP_DEPTH; level++) {
		id = bpf_get_current_ancestor_cgroup_id(level);
		if (!id)
			break;
		w = bpf_map_lookup_elem(&workloads, &id);
		if (w) {
			found = w;
			*cgroup = id;
		}
	}
	return found;
}

/* An MPTCP socket has another protocol number, but its first subflow comes here as plain TCP. */
static __always_inline bool is_mptcp(struct bpf_sock_addr *ctx)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sock_of(ctx));

	return tp && bpf_core_field_exists(tp->is_mptcp) && BPF_CORE_READ(tp, is_mptcp);
}

#endif
