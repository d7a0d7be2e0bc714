/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What became of connect(), counted for each workload: for connect.bpf.c, by one line wherever it
 * decides. It counts and changes nothing about the connection. A socket that escapes is marked with
 * the reason, so that the supervisor, which looks at the sockets that exist, can tell it from one
 * that no hook has ever seen.
 */
#ifndef BPF_COVERAGE_H
#define BPF_COVERAGE_H

#include "bpf/maps.bpf.h"
#include <mesh/coverage.h>

/* Writers: the supervisor, which makes and removes an entry with that of `workloads`; connect adds.
 * Reader: supervisor. Full: never before `workloads` is; what finds no entry is counted as
 * MESH_C_COVERAGE_LOST. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MESH_MAX_WORKLOADS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, struct mesh_coverage);
} coverage MESH_MAP;

/* Writer: connect. Reader: supervisor. Entry: from the first connect() of a cgroup that is no
 * workload to what a workload offers. Full: the least recently used one goes, and what it had
 * counted. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MESH_MAX_STRANGERS);
	__type(key, __u64);
	__type(value, struct mesh_stranger);
} strangers MESH_MAP;

/* A socket of a workload that escapes: enum mesh_coverage_way. Writer: connect. Reader: the
 * supervisor, by sock_diag. Entry: until the next connect() of that socket or its end. Full: it
 * looks like one that was never seen. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u32);
} escapes MESH_MAP;

/* One connect() of the workload with this cgroup went that way. */
static __always_inline void cover(struct bpf_sock_addr *ctx, __u64 cgroup, __u32 way)
{
	struct mesh_coverage *c = bpf_map_lookup_elem(&coverage, &cgroup);

	if (c)
		__sync_fetch_and_add(&c->n[way], 1);
	else
		count(MESH_C_COVERAGE_LOST);
	if (way >= MESH_COV_ESCAPES)
		bpf_sk_storage_get(&escapes, sock_of(ctx), &way, BPF_SK_STORAGE_GET_F_CREATE);
}

/* This socket connects anew. */
static __always_inline void cover_again(struct bpf_sock_addr *ctx)
{
	bpf_sk_storage_delete(&escapes, sock_of(ctx));
}

/* Nobody's connect(), which goes its plain way: does it go to what a workload offers? Key: as for
 * dests. The agent's own processes do that by profession. */
static __always_inline void cover_stranger(const struct mesh_dest_key *key)
{
	__u64 cgroup = bpf_get_current_cgroup_id();
	struct mesh_stranger *s, fresh = {};
	struct mesh_dest *d;
	struct mesh_ctl *c;
	__u32 zero = 0;

	d = bpf_map_lookup_elem(&dests, key);
	if (!d)
		return;
	c = bpf_map_lookup_elem(&ctl, &zero);
	if (!c || c->agent_cgroup == cgroup)
		return;
	count(MESH_C_STRANGER);
	s = bpf_map_lookup_elem(&strangers, &cgroup);
	if (!s) {
		bpf_map_update_elem(&strangers, &cgroup, &fresh, BPF_NOEXIST);
		s = bpf_map_lookup_elem(&strangers, &cgroup);
	}
	if (!s)
		return;
	__sync_fetch_and_add(&s->n, 1);
	s->last_ns = bpf_ktime_get_ns();
	s->upstream = d->upstream;
}

#endif
