/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Enrolment 3: a socket that is established enters, or is watched. Nowhere else does one enter. */
#ifndef BPF_ENROLL_ENTER_H
#define BPF_ENROLL_ENTER_H

#include "bpf/enroll_may.bpf.h"

static __always_inline void enroll_opened(__u32 upstream, __u32 which)
{
	struct mesh_accel_group *g = splice_group(upstream, which);

	if (g)
		__sync_fetch_and_add(&g->opened, 1);
}

static __always_inline struct mesh_splice_end *enroll_end(struct bpf_sock *bsk,
							  const struct mesh_splice_end *end)
{
	struct mesh_splice_end *mine =
		bpf_sk_storage_get(&splice_ends, bsk, 0, BPF_SK_STORAGE_GET_F_CREATE);

	if (mine)
		*mine = *end;
	return mine;
}

/* bbr paces what it sends by a model of the network between two hosts, and takes half of the speed
 * of TCP within one. For what does not skip TCP all the same. */
static __always_inline void enroll_unpaced(struct bpf_sock_ops *ctx, const struct sock *sk)
{
	const struct inet_connection_sock *icsk = (const struct inet_connection_sock *)sk;
	const struct tcp_congestion_ops *ops = BPF_CORE_READ(icsk, icsk_ca_ops);
	char name[sizeof(ops->name)] = {}, plain[] = "reno";

	if (bpf_core_read(name, sizeof(name), &ops->name) || name[0] != 'b' || name[1] != 'b' ||
	    name[2] != 'r')
		return;
	bpf_setsockopt(ctx, IPPROTO_TCP, TCP_CONGESTION, plain, sizeof(plain));
}

/* Takes the socket in as one half of a pair. The half is complete before its cookie says so. */
static __always_inline bool enroll_half(struct bpf_sock_ops *ctx, struct bpf_sock *bsk,
					const struct sock *sk, const struct mesh_splice_end *end,
					struct mesh_splice_pair *p)
{
	struct mesh_splice_half *h = &p->half[end->side & 1];
	__u64 cookie = bpf_get_socket_cookie(ctx);

	p->next[end->side & 1] = ((const struct tcp_sock *)sk)->rcv_nxt;
	if (bpf_sock_hash_update(ctx, &splice_socks, &cookie, BPF_NOEXIST))
		return false;
	enroll_unpaced(ctx, sk);
	if (!enroll_end(bsk, end))
		return false; /* in the map all the same, and its program finds nothing to do */
	h->sk = (__u64)sk;
	__sync_lock_test_and_set(&h->cookie, cookie);
	return true;
}

static __always_inline void enroll_flags(struct bpf_sock_ops *ctx, __u32 flags)
{
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | flags);
}

/* The entry by which the passive side finds this connection, NULL: there is no room. */
static __always_inline struct mesh_splice_pair *enroll_pair(const struct mesh_splice_end *end,
							    const struct mesh_splice_ctl *c,
							    __u32 callee, bool watch)
{
	struct mesh_splice_pair fresh = {
		.last = MESH_PASSIVE,
		.watch = watch,
		.start_ns = end->start_ns,
		.upstream = end->upstream,
	};
	__u64 id = end->id;

	fresh.half[MESH_ACTIVE].workload = end->workload;
	fresh.half[MESH_PASSIVE].workload = callee;
	if (bpf_map_update_elem(&splice_pairs, &id, &fresh,
				c->left_out & MESH_COVER_PROOF ? BPF_ANY : BPF_NOEXIST))
		return NULL;
	return bpf_map_lookup_elem(&splice_pairs, &id);
}

/* Stays with TCP, and is looked at: its end, and the style of those ends that are not ours. */
static __always_inline bool enroll_watch(struct bpf_sock_ops *ctx, struct bpf_sock *bsk,
					 const struct mesh_splice_end *end,
					 const struct mesh_splice_ctl *c, __u32 callee)
{
	if (callee != MESH_NONE && !enroll_pair(end, c, callee, true))
		return false;
	enroll_flags(ctx, BPF_SOCK_OPS_STATE_CB_FLAG |
				  (end->workload != MESH_NONE ? BPF_SOCK_OPS_RTT_CB_FLAG : 0));
	return enroll_end(bsk, end);
}

static __always_inline bool enroll_first(struct bpf_sock_ops *ctx, struct bpf_sock *bsk,
					 const struct sock *sk, const struct mesh_splice_end *end,
					 const struct mesh_splice_ctl *c, __u32 callee)
{
	struct mesh_splice_pair *p = enroll_pair(end, c, callee, false);

	if (!p)
		return false;
	enroll_flags(ctx, BPF_SOCK_OPS_STATE_CB_FLAG);
	return enroll_half(ctx, bsk, sk, end, p);
}

static __always_inline __u32 enroll_group(enum enroll_verdict v)
{
	if (v == ENROLL)
		return MESH_ACCEL_ENROLLED;
	return v == ENROLL_BLOCKS || v == ENROLL_UNKNOWN ? MESH_ACCEL_UNFIT : MESH_ACCEL_CONTROL;
}

static __always_inline void enroll_active(struct bpf_sock_ops *ctx)
{
	struct mesh_splice_end end = {.side = MESH_ACTIVE};
	const struct mesh_splice_ctl *c = splice_control();
	struct bpf_sock *bsk = ctx->sk;
	const struct sock *sk;
	struct enroll_who who;
	enum enroll_verdict v;

	if (!c || c->mode == MESH_SPLICE_OFF || !bsk)
		return;
	sk = (const struct sock *)bpf_skc_to_tcp_sock(bsk);
	if (!sk || !enroll_who(ctx, bsk, sk, c, &who))
		return;
	v = enroll_steer(c, sk, &who);
	if (v == ENROLL_NOT)
		return;
	end.group = enroll_group(v);
	if (v != ENROLL_HELD_BACK && v != ENROLL_BLOCKS) {
		end.hop = splice_hop(who.callee);
		end.start_ns = bpf_ktime_get_ns();
		end.upstream = who.upstream;
		end.workload = who.caller;
		end.id = enroll_id(sk, c, true);
		if (v == ENROLL ? !enroll_first(ctx, bsk, sk, &end, c, who.callee)
				: !enroll_watch(ctx, bsk, &end, c, who.callee)) {
			count(MESH_C_SPLICE_FULL);
			bpf_map_delete_elem(&splice_pairs, &end.id);
			return;
		}
	}
	enroll_opened(who.upstream, end.group);
}

static __always_inline void enroll_passive(struct bpf_sock_ops *ctx)
{
	struct mesh_splice_end end = {.side = MESH_PASSIVE};
	const struct mesh_splice_ctl *c = splice_control();
	struct bpf_sock *bsk = ctx->sk;
	struct mesh_splice_pair *p;
	const struct sock *sk;

	if (!c || c->mode == MESH_SPLICE_OFF || !bsk)
		return;
	sk = (const struct sock *)bpf_skc_to_tcp_sock(bsk);
	if (!sk)
		return;
	end.id = enroll_id(sk, c, false);
	p = bpf_map_lookup_elem(&splice_pairs, &end.id);
	if (!p || p->half[MESH_PASSIVE].cookie)
		return;
	end.start_ns = p->start_ns;
	end.upstream = p->upstream;
	end.workload = p->half[MESH_PASSIVE].workload;
	if (p->watch) {
		if (enroll_end(bsk, &end))
			enroll_flags(ctx, BPF_SOCK_OPS_RTT_CB_FLAG);
		bpf_map_delete_elem(&splice_pairs, &end.id);
	} else {
		enroll_flags(ctx, BPF_SOCK_OPS_STATE_CB_FLAG);
		if (!enroll_half(ctx, bsk, sk, &end, p))
			count(MESH_C_SPLICE_FULL);
	}
}

#endif
