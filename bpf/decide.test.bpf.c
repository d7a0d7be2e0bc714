/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The decision code of include/mesh/ under BPF_PROG_TEST_RUN: works out every case, or follows
 * every step, of an array in place. Loaded by tests/bpf/test_decide.c only; never attached to
 * anything, not part of the agent.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include "bpf/decide.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, DECIDE_BATCH);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct decide_case);
} cases SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, DECIDE_BATCH);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct decide_move);
} moves SEC(".maps");

/* Written by the program alone; begins with zeroes, as everything that counts does. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, DECIDE_LANES);
	__type(key, __u32);
	__type(value, struct decide_lane);
} lanes SEC(".maps");

static long decide_one(__u32 i, void *unused)
{
	struct decide_case *c = bpf_map_lookup_elem(&cases, &i);

	if (c)
		decide(&c->in, &c->out);
	return 0;
}

SEC("syscall")
int decide_all(void *ctx)
{
	return bpf_loop(DECIDE_BATCH, decide_one, NULL, 0);
}

static long follow_one(__u32 i, void *unused)
{
	struct decide_move *m = bpf_map_lookup_elem(&moves, &i);
	struct decide_lane *l;

	if (!m)
		return 0;
	l = bpf_map_lookup_elem(&lanes, &m->in.lane);
	if (l)
		decide_follow(&m->in, l, &m->out);
	return 0;
}

SEC("syscall")
int follow_all(void *ctx)
{
	return bpf_loop(DECIDE_BATCH, follow_one, NULL, 0);
}
