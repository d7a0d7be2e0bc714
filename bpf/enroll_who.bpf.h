/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Enrolment 1: which connection this is, who calls and who is called. */
#ifndef BPF_ENROLL_WHO_H
#define BPF_ENROLL_WHO_H

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
	if (ip_is_loopback(key.ip))
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

#endif
