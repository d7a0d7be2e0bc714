/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The maps of splice, for enrolment (enroll.bpf.h) and for the programs on the sockets
 * (splice.bpf.c). Layouts and the meaning of fields: include/mesh/splice.h. */
#ifndef BPF_SPLICE_H
#define BPF_SPLICE_H

#include "bpf/maps.bpf.h"
#include <mesh/splice.h>

/* Sockets that may skip TCP, by cookie. Writer: sockops, at ESTABLISHED. Reader: the kernel, at a
 * redirect. Entry: until the socket closes, which removes it, or connects anew; nobody else
 * does, since that would lose what is unread. Full: MESH_C_SPLICE_FULL, the connection stays with
 * TCP. */
struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 2 * MESH_MAX_PAIRS);
	__type(key, __u64);
	__type(value, __u64);
} splice_socks MESH_MAP;

/* Writers: sockops and the sockets' programs. Entry: made by the active side, removed by the one
 * that closes last. Full: as above. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MESH_MAX_PAIRS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, struct mesh_splice_pair);
} splice_pairs MESH_MAP;

/* Writer: sockops. Reader: the socket's program. Entry: as long as the socket. Full: as above. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct mesh_splice_end);
} splice_ends MESH_MAP;

/* Fixed size, by index; by system call only: the supervisor has no need of them mapped. */
MESH_ARRAY_OF(splice_ctl, 1, struct mesh_splice_ctl, 0);
MESH_ARRAY_OF(splice_steer, MESH_MAX_UPSTREAMS, struct mesh_splice_steer, 0);
MESH_ARRAY_OF(splice_tasks, MESH_MAX_WORKLOADS, __u32, 0);
MESH_ARRAY_OF(splice_style, MESH_MAX_WORKLOADS, __u32, 0);
MESH_ARRAY_OF(accel, MESH_MAX_UPSTREAMS, struct mesh_accel, 0);

static __always_inline struct mesh_splice_ctl *splice_control(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&splice_ctl, &zero);
}

static __always_inline bool splice_forbidden(__u32 workload)
{
	__u32 *task = workload < MESH_MAX_WORKLOADS ? bpf_map_lookup_elem(&splice_tasks, &workload)
						    : NULL;

	return task && *task & MESH_SPLICE_TASK_OFF;
}

static __always_inline __u32 splice_style_of(__u32 workload)
{
	__u32 *style = workload < MESH_MAX_WORKLOADS ? bpf_map_lookup_elem(&splice_style, &workload)
						     : NULL;

	return style ? *style : 0;
}

/* 0: nobody has accepted it yet, or it is closed. */
static __always_inline __u32 splice_style_seen(const struct sock *sk)
{
	const struct file *file = BPF_CORE_READ(sk, sk_socket, file);

	if (!file)
		return 0;
	return BPF_CORE_READ(file, f_flags) & O_NONBLOCK ? MESH_STYLE_NONBLOCK
							 : MESH_STYLE_BLOCKING;
}

static __always_inline void splice_style_note(__u32 workload, __u32 side, __u32 style)
{
	__u32 bit = side == MESH_PASSIVE ? style << MESH_STYLE_CALLEE : style;
	__u32 *word = workload < MESH_MAX_WORKLOADS ? bpf_map_lookup_elem(&splice_style, &workload)
						    : NULL;

	if (word && !(*word & bit))
		__sync_fetch_and_or(word, bit);
}

/* which: enum mesh_accel_which */
static __always_inline struct mesh_accel_group *splice_group(__u32 upstream, __u32 which)
{
	struct mesh_accel *a = bpf_map_lookup_elem(&accel, &upstream);

	if (!a || which >= MESH_ACCEL_GROUPS)
		return NULL;
	barrier_var(which); /* Linux 6.1 forgets the bound of a word that the compiler put aside */
	return &a->group[which & 3];
}

/* Callees are workloads; ours are not. */
static __always_inline __u32 splice_hop(__u32 callee)
{
	return callee == MESH_NONE ? MESH_TO_WORKER : MESH_TO_ENDPOINT;
}

static __always_inline __u64 *splice_brief(__u32 upstream, __u32 hop)
{
	struct mesh_accel *a = bpf_map_lookup_elem(&accel, &upstream);

	if (!a)
		return NULL;
	return hop == MESH_TO_WORKER ? &a->brief[MESH_TO_WORKER] : &a->brief[MESH_TO_ENDPOINT];
}

/* The clock of mesh/brief.h. */
static __always_inline __u64 splice_seconds(void)
{
	return bpf_ktime_get_ns() / 1000000000;
}

/* A race lost is a connection not counted. */
static __always_inline void splice_brief_note(__u64 *word, __u64 messages)
{
	__u64 old, next;

	if (!word)
		return;
	old = *(const volatile __u64 *)word;
	next = mesh_brief_add(old, messages, splice_seconds());
	if (next != old)
		__sync_val_compare_and_swap(word, old, next);
}

/* What one side did since it last told. Its owner may be at work on another CPU when its connection
 * ends: a message may then be counted twice. */
static __always_inline void splice_tell(struct mesh_accel_group *g, struct mesh_splice_half *h,
					__u64 *told)
{
	*told += h->redirected + h->tcp;
	__sync_fetch_and_add(&g->messages, h->messages);
	__sync_fetch_and_add(&g->turns, h->turns);
	__sync_fetch_and_add(&g->redirected, h->redirected);
	__sync_fetch_and_add(&g->tcp, h->tcp);
	h->messages = h->turns = h->redirected = h->tcp = 0;
}

#endif
