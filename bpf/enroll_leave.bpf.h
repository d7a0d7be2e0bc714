/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Enrolment 4: what is seen of a connection while it lives, and what is counted when it ends. */
#ifndef BPF_ENROLL_LEAVE_H
#define BPF_ENROLL_LEAVE_H

#include "bpf/splice.bpf.h"

/* The first bytes that this side sent are acknowledged: by now its program has made the socket what
 * it is to be. */
static __always_inline void enroll_rtt(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *bsk = ctx->sk;
	struct mesh_splice_end *end = bsk ? bpf_sk_storage_get(&splice_ends, bsk, 0, 0) : NULL;
	const struct sock *sk;
	__u32 style;

	if (!end)
		return;
	sk = (const struct sock *)bpf_skc_to_tcp_sock(bsk);
	style = sk ? splice_style_seen(sk) : 0;
	if (!style)
		return; /* not accepted yet */
	splice_style_note(end->workload, end->side, style);
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags & ~BPF_SOCK_OPS_RTT_CB_FLAG);
}

/* The end of a connection that was held back: TCP knows what it did. */
static __always_inline void enroll_count_tcp(struct bpf_sock_ops *ctx, struct mesh_accel_group *g)
{
	__u64 sent = ctx->bytes_acked, received = ctx->bytes_received, bytes;

	bytes = sent + received;
	barrier_var(bytes); /* fields of ctx are read where they are named, and nowhere else */
	__sync_fetch_and_add(&g->messages, (__u64)ctx->data_segs_out + ctx->data_segs_in);
	__sync_fetch_and_add(&g->tcp, bytes);
	__sync_fetch_and_add(&g->closed_bytes, bytes);
}

/* Messages that an enrolled connection has not told of yet, and that many when it told before. */
static __always_inline __u64 enroll_untold(const struct mesh_splice_pair *p)
{
	return p->half[MESH_ACTIVE].messages + p->half[MESH_PASSIVE].messages +
	       (p->told[MESH_ACTIVE] + p->told[MESH_PASSIVE] ? MESH_SPLICE_TELL : 0);
}

/* The active side is closed, and with it the connection. */
static __always_inline void enroll_count(struct bpf_sock_ops *ctx,
					 const struct mesh_splice_end *end,
					 struct mesh_splice_pair *p)
{
	struct mesh_accel_group *g = splice_group(end->upstream, end->group);
	__u64 *brief = splice_brief(end->upstream, end->hop);
	__u32 sent = ctx->data_segs_out, received = ctx->data_segs_in;
	__u64 out = ctx->bytes_acked, in = ctx->bytes_received;

	if (!g)
		return;
	__sync_fetch_and_add(&g->closed, 1);
	__sync_fetch_and_add(&g->duration_ns, bpf_ktime_get_ns() - end->start_ns);
	if (end->group != MESH_ACCEL_ENROLLED) {
		if (end->group == MESH_ACCEL_CONTROL)
			splice_brief_note(brief, mesh_brief_by_tcp(sent, received, out + in));
		enroll_count_tcp(ctx, g);
	} else if (p) {
		splice_brief_note(brief, enroll_untold(p));
		splice_tell(g, &p->half[MESH_ACTIVE], &p->told[MESH_ACTIVE]);
		splice_tell(g, &p->half[MESH_PASSIVE], &p->told[MESH_PASSIVE]);
		__sync_fetch_and_add(&g->closed_bytes,
				     p->told[MESH_ACTIVE] + p->told[MESH_PASSIVE]);
	}
}

/* True: the other side is closed too, or never came, so that nobody looks at the pair any more. */
static __always_inline bool enroll_is_last(struct mesh_splice_pair *p, __u32 side)
{
	__u32 bit = 1u << (side & 1);

	if (!p->half[MESH_PASSIVE].cookie)
		return true;
	return (__sync_fetch_and_or(&p->left, bit) | bit) == 3;
}

static __always_inline void enroll_closed(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *bsk = ctx->sk;
	struct mesh_splice_end *end = bsk ? bpf_sk_storage_get(&splice_ends, bsk, 0, 0) : NULL;
	struct mesh_splice_pair *p;
	__u64 id;

	if (!end)
		return;
	id = end->id;
	p = bpf_map_lookup_elem(&splice_pairs, &id);
	if (end->side == MESH_ACTIVE)
		enroll_count(ctx, end, p);
	if (p && enroll_is_last(p, end->side))
		bpf_map_delete_elem(&splice_pairs, &id);
}

/* This socket connects anew, or listens, after connect(AF_UNSPEC): what an earlier connection has
 * left unread must not be read on this one, and it may be enrolled again. */
static __always_inline void enroll_again(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *bsk = ctx->sk;
	__u64 cookie;

	if (!bsk || !bpf_sk_storage_get(&splice_ends, bsk, 0, 0))
		return;
	cookie = bpf_get_socket_cookie(ctx);
	bpf_map_delete_elem(&splice_socks, &cookie);
	bpf_sk_storage_delete(&splice_ends, bsk);
}

#endif
