/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Who may skip TCP: called by sockops.bpf.c when a connection is established and when it ends. The
 * active side alone decides, since it knows who calls whom; the passive side follows when it finds
 * the pair. So a connection from or to another host, and one of a stranger, costs a look-up.
 *
 * Sockets enter here and nowhere else, and leave by closing.
 */
#ifndef BPF_ENROLL_H
#define BPF_ENROLL_H

#include "bpf/splice.bpf.h"

/* A connection as far as splice cares. Workloads: MESH_NONE for ours and for those not known. */
struct enroll_who {
	__u32 upstream;
	__u32 caller, callee;
};

/* Of sequence numbers, since addresses are not unique on a host: the two ends hold the same two
 * numbers, crosswise, until the first byte. */
static __always_inline __u64 enroll_id(const struct sock *sk, const struct mesh_splice_ctl *c,
				       bool active)
{
	const struct tcp_sock *tp = (const struct tcp_sock *)sk;
	__u32 mine = tp->snd_nxt, theirs = tp->rcv_nxt;

	if (c->left_out & MESH_COVER_PROOF) {
		mine = sk->__sk_common.skc_num;
		theirs = bpf_ntohs(sk->__sk_common.skc_dport);
	}
	return active ? (__u64)mine << 32 | theirs : (__u64)theirs << 32 | mine;
}

/* The address that a socket of ours is connected to, if somebody on this host listens there. */
static __always_inline struct mesh_dest *enroll_dest(struct bpf_sock_ops *ctx,
						     const struct sock *sk)
{
	struct mesh_dest_key key = {};
	__u32 *w = (__u32 *)key.ip;

	key.port = sk->__sk_common.skc_dport;
	if (ctx->family == AF_INET) {
		ip_from_v4(key.ip, ctx->remote_ip4);
	} else {
		w[0] = ctx->remote_ip6[0];
		w[1] = ctx->remote_ip6[1];
		w[2] = ctx->remote_ip6[2];
		w[3] = ctx->remote_ip6[3];
	}
	if (ip_is_v4(key.ip) ? (w[3] & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000)
			     : !w[0] && !w[1] && !w[2] && w[3] == bpf_htonl(1))
		key.netns = bpf_get_netns_cookie(ctx);
	return bpf_map_lookup_elem(&dests, &key);
}

static __always_inline bool enroll_is_worker(const struct sock *sk, const struct mesh_splice_ctl *c)
{
	return c->cgroup && BPF_CORE_READ(sk, sk_uid.val) == c->uid &&
	       BPF_CORE_READ(sk, sk_cgrp_data.cgroup, kn, id) == c->cgroup;
}

/* False: none of ours, or its peer is not on this host. */
static __always_inline bool enroll_who(struct bpf_sock_ops *ctx, struct bpf_sock *bsk,
				       const struct sock *sk, const struct mesh_splice_ctl *c,
				       struct enroll_who *who)
{
	const struct mesh_socket *s = bpf_sk_storage_get(&sockets, bsk, 0, 0);
	const struct mesh_endpoint *e;
	struct mesh_dest *d;

	who->caller = who->callee = MESH_NONE;
	who->upstream = 0;
	if (c->flags & MESH_SPLICE_ALL)
		return true;
	if (s) {
		who->upstream = s->orig.upstream;
		who->caller = s->orig.workload;
		if (s->endpoint == MESH_NONE)
			return c->cgroup; /* to a worker, of which nothing is seen without */
		e = bpf_map_lookup_elem(&endpoints, &s->endpoint);
		who->callee = e ? e->workload : MESH_NONE;
		return who->callee != MESH_NONE;
	}
	if (!enroll_is_worker(sk, c))
		return false;
	d = enroll_dest(ctx, sk);
	if (!d || d->workload == MESH_NONE)
		return false;
	who->upstream = d->upstream;
	who->callee = d->workload;
	return true;
}

enum enroll_verdict { ENROLL_NOT, ENROLL_HOLD_BACK, ENROLL_UNFIT, ENROLL };

/* Seen to work without blocking, and never otherwise. Ours do not block. */
static __always_inline bool enroll_is_known(__u32 workload, __u32 shift)
{
	__u32 word = splice_style_of(workload) >> shift;

	return workload == MESH_NONE ||
	       (word & MESH_STYLE_NONBLOCK && !(word & MESH_STYLE_BLOCKING));
}

/* What is not known is held back: that a socket does not block while it connects proves nothing,
 * since many libraries have it so for the connect() alone. */
static __always_inline bool enroll_style(const struct sock *sk, const struct enroll_who *who)
{
	if (who->caller != MESH_NONE && splice_style_seen(sk) != MESH_STYLE_NONBLOCK)
		return false;
	return enroll_is_known(who->caller, 0) && enroll_is_known(who->callee, MESH_STYLE_CALLEE);
}

static __always_inline enum enroll_verdict
enroll_steer(const struct mesh_splice_ctl *c, const struct sock *sk, const struct enroll_who *who)
{
	struct mesh_splice_steer *steer;
	struct mesh_upstream *u;
	struct mesh_service *svc;
	__u32 service, hold_back;

	if (c->flags & MESH_SPLICE_ALL)
		return ENROLL;
	if (splice_forbidden(who->caller) || splice_forbidden(who->callee))
		return ENROLL_NOT;
	steer = bpf_map_lookup_elem(&splice_steer, &who->upstream);
	u = bpf_map_lookup_elem(&upstreams, &who->upstream);
	if (!steer || !u)
		return ENROLL_NOT;
	service = u->service;
	hold_back = steer->hold_back;
	svc = bpf_map_lookup_elem(&services, &service);
	if (svc && svc->flags & MESH_SVC_ACCEL_OFF)
		return ENROLL_NOT;
	if (!(c->left_out & MESH_COVER_STYLE) && !enroll_style(sk, who))
		return ENROLL_UNFIT;
	if (svc && svc->flags & MESH_SVC_ACCEL_ON && hold_back > MESH_SPLICE_CONTROL)
		hold_back = MESH_SPLICE_CONTROL;
	return bpf_get_prandom_u32() % 1000 < hold_back ? ENROLL_HOLD_BACK : ENROLL;
}

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

static __always_inline void enroll_active(struct bpf_sock_ops *ctx)
{
	struct mesh_splice_end end = {.side = MESH_ACTIVE};
	struct mesh_splice_pair fresh = {.last = MESH_PASSIVE}, *p;
	const struct mesh_splice_ctl *c = splice_control();
	struct bpf_sock *bsk = ctx->sk;
	const struct sock *sk;
	struct enroll_who who;
	enum enroll_verdict v;
	bool taken;

	if (!c || c->mode == MESH_SPLICE_OFF || !bsk)
		return;
	sk = (const struct sock *)bpf_skc_to_tcp_sock(bsk);
	if (!sk || !enroll_who(ctx, bsk, sk, c, &who))
		return;
	v = enroll_steer(c, sk, &who);
	if (v == ENROLL_NOT)
		return;
	fresh.watch = v != ENROLL;
	end.group = v == ENROLL		? MESH_ACCEL_ENROLLED
		    : v == ENROLL_UNFIT ? MESH_ACCEL_UNFIT
					: MESH_ACCEL_CONTROL;
	fresh.start_ns = end.start_ns = bpf_ktime_get_ns();
	fresh.upstream = end.upstream = who.upstream;
	fresh.half[MESH_ACTIVE].workload = end.workload = who.caller;
	fresh.half[MESH_PASSIVE].workload = who.callee;
	end.id = enroll_id(sk, c, true);
	enroll_flags(ctx,
		     BPF_SOCK_OPS_STATE_CB_FLAG | (fresh.watch ? BPF_SOCK_OPS_RTT_CB_FLAG : 0));
	if (bpf_map_update_elem(&splice_pairs, &end.id, &fresh,
				c->left_out & MESH_COVER_PROOF ? BPF_ANY : BPF_NOEXIST)) {
		count(MESH_C_SPLICE_FULL);
		return;
	}
	p = bpf_map_lookup_elem(&splice_pairs, &end.id);
	if (fresh.watch)
		taken = enroll_end(bsk, &end);
	else
		taken = p && enroll_half(ctx, bsk, sk, &end, p);
	if (taken) {
		enroll_opened(who.upstream, end.group);
		return;
	}
	count(MESH_C_SPLICE_FULL);
	bpf_map_delete_elem(&splice_pairs, &end.id);
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

/* The active side is closed, and with it the connection. */
static __always_inline void enroll_count(struct bpf_sock_ops *ctx,
					 const struct mesh_splice_end *end,
					 struct mesh_splice_pair *p)
{
	struct mesh_accel_group *g = splice_group(end->upstream, end->group);

	if (!g)
		return;
	__sync_fetch_and_add(&g->closed, 1);
	__sync_fetch_and_add(&g->duration_ns, bpf_ktime_get_ns() - end->start_ns);
	if (end->group != MESH_ACCEL_ENROLLED) {
		enroll_count_tcp(ctx, g);
	} else if (p) {
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

/* This socket connects anew, after connect(AF_UNSPEC): what an earlier connection has left unread
 * must not be read on this one, and it may be enrolled again. */
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
