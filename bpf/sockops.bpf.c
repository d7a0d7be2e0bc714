/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The life of sockets: the original destination of a captured connection published before its SYN
 * leaves and taken back at its end; listeners that come and go; a record for each captured
 * connection that closed. The sockops program runs for every TCP socket under the attached cgroup,
 * the tracepoint for every one of the machine: both leave at the first comparison that says it is
 * none of ours.
 *
 * The end of a listener comes from the tracepoint alone, for those older than the agent too (they
 * have no STATE_CB flag); `listeners` says which are ours.
 */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "bpf/maps.bpf.h"

#define EVENTS_WAKE                                                                                \
	(MESH_EVENTS_BYTES / 8) /* bytes waiting that wake the reader of close events up */

char LICENSE[] SEC("license") = "Dual BSD/GPL";

static __always_inline struct mesh_event *event_new(__u32 kind)
{
	struct mesh_event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e) {
		count(MESH_C_EVENTS_LOST);
		return NULL;
	}
	__builtin_memset(e, 0, sizeof(*e));
	e->kind = kind;
	e->time_ns = bpf_ktime_get_ns();
	return e;
}

static __always_inline void send_listener(__u32 kind, __u64 cookie, const struct mesh_listener *l)
{
	struct mesh_event *e = event_new(kind);

	if (!e)
		return;
	e->upstream = MESH_NONE;
	e->workload = MESH_NONE;
	e->cookie = cookie;
	e->cgroup = l->cgroup;
	e->netns = l->netns;
	__builtin_memcpy(e->ip, l->ip, sizeof(e->ip));
	e->port = l->port;
	e->v6only = l->v6only;
	bpf_ringbuf_submit(e, 0);
}

static __always_inline void on_listen(struct bpf_sock_ops *ctx)
{
	struct mesh_listener l = {};
	__u32 *ip = (__u32 *)l.ip;
	struct sock *sk;
	__u64 cookie;

	if (!ctx->sk)
		return;
	sk = (struct sock *)bpf_skc_to_tcp_sock(ctx->sk);
	if (!sk)
		return;
	l.cgroup = BPF_CORE_READ(sk, sk_cgrp_data.cgroup, kn, id);
	l.netns = bpf_get_netns_cookie(ctx);
	l.port = bpf_htons(ctx->local_port);
	if (ctx->family == AF_INET) {
		ip_from_v4(l.ip, ctx->local_ip4);
	} else {
		ip[0] = ctx->local_ip6[0];
		ip[1] = ctx->local_ip6[1];
		ip[2] = ctx->local_ip6[2];
		ip[3] = ctx->local_ip6[3];
		l.v6only = BPF_CORE_READ_BITFIELD_PROBED(sk, __sk_common.skc_ipv6only);
	}
	cookie = bpf_get_socket_cookie(ctx);
	if (bpf_map_update_elem(&listeners, &cookie, &l, BPF_ANY))
		count(MESH_C_LISTENERS_FULL);
	send_listener(MESH_EV_LISTEN, cookie, &l);
}

/* The client's side of the tuple, as the worker will see it in accept(). */
static __always_inline void client_key(struct bpf_sock_ops *ctx, const struct mesh_socket *s,
				       struct mesh_origdst_key *key)
{
	__u32 *ip = (__u32 *)key->ip;

	key->netns = s->orig.netns;
	key->port = bpf_htons(ctx->local_port);
	if (s->v4) {
		ip_from_v4(key->ip, ctx->local_ip4);
	} else {
		ip[0] = ctx->local_ip6[0];
		ip[1] = ctx->local_ip6[1];
		ip[2] = ctx->local_ip6[2];
		ip[3] = ctx->local_ip6[3];
	}
}

/* The source port is known and the SYN is not sent: whoever accepts finds the entry. The update of
 * an LRU map fails only when its free list is taken by others at this very moment, so a second try
 * settles it; if not, the worker finds nothing and closes, and the counter says why. */
static __always_inline void on_connect(struct bpf_sock_ops *ctx)
{
	struct mesh_origdst_key key = {};
	struct mesh_socket *s;

	if (!ctx->sk)
		return;
	s = bpf_sk_storage_get(&sockets, ctx->sk, 0, 0);
	if (!s)
		return;
	client_key(ctx, s, &key);
	if (bpf_map_update_elem(&origdst, &key, &s->orig, BPF_ANY) &&
	    bpf_map_update_elem(&origdst, &key, &s->orig, BPF_ANY))
		count(MESH_C_ORIGDST_LOST);
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
}

static __always_inline void send_close(struct bpf_sock_ops *ctx, const struct mesh_socket *s)
{
	struct mesh_event *e = event_new(MESH_EV_CLOSE);
	struct tcp_sock *tp;
	struct sock *sk;

	if (!e)
		return;
	e->upstream = s->orig.upstream;
	e->workload = s->orig.workload;
	e->cookie = bpf_get_socket_cookie(ctx);
	e->netns = s->orig.netns;
	e->duration_ns = e->time_ns - s->orig.time_ns;
	if (s->established_ns)
		e->connect_ns = s->established_ns - s->orig.time_ns;
	__builtin_memcpy(e->ip, s->orig.ip, sizeof(e->ip));
	e->port = s->orig.port;
	tp = ctx->sk ? bpf_skc_to_tcp_sock(ctx->sk) : NULL;
	if (tp) {
		sk = (struct sock *)tp;
		e->error = BPF_CORE_READ(sk, sk_err);
		e->bytes_sent = BPF_CORE_READ(tp, bytes_sent) - BPF_CORE_READ(tp, bytes_retrans);
		e->bytes_received = BPF_CORE_READ(tp, bytes_received);
		if (BPF_CORE_READ(sk, __sk_common.skc_flags) & 1UL << SOCK_DONE)
			e->bytes_received--; /* the peer's FIN is counted as one */
	}
	bpf_ringbuf_submit(e, bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) > EVENTS_WAKE
				      ? BPF_RB_FORCE_WAKEUP
				      : BPF_RB_NO_WAKEUP);
}

static __always_inline void on_state(struct bpf_sock_ops *ctx)
{
	struct mesh_origdst_key key = {};
	struct mesh_socket *s;

	if (!ctx->sk)
		return;
	s = bpf_sk_storage_get(&sockets, ctx->sk, 0, 0);
	if (!s)
		return;
	if (ctx->args[1] == BPF_TCP_ESTABLISHED) {
		s->established_ns = bpf_ktime_get_ns();
	} else if (ctx->args[1] == BPF_TCP_CLOSE) {
		count(MESH_C_CLOSED);
		send_close(ctx, s);
		if (!s->established_ns) { /* nobody will ever accept it */
			client_key(ctx, s, &key);
			bpf_map_delete_elem(&origdst, &key);
		}
	}
}

SEC("sockops")
int mesh_sockops(struct bpf_sock_ops *ctx)
{
	switch (ctx->op) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		on_connect(ctx);
		break;
	case BPF_SOCK_OPS_STATE_CB:
		on_state(ctx);
		break;
	case BPF_SOCK_OPS_TCP_LISTEN_CB:
		on_listen(ctx);
		break;
	}
	return 1;
}

static __always_inline void on_unlisten(const struct sock *sk)
{
	__u64 cookie = sk->__sk_common.skc_cookie.counter;
	struct mesh_listener *l;

	if (!cookie)
		return;
	l = bpf_map_lookup_elem(&listeners, &cookie);
	if (!l)
		return;
	send_listener(MESH_EV_UNLISTEN, cookie, l);
	bpf_map_delete_elem(&listeners, &cookie);
}

/* The worker's side of a captured connection is gone, accepted or not. skc_num is 0 by now. */
static __always_inline void on_server_end(const struct sock *sk)
{
	const struct sock_common *c = &sk->__sk_common;
	struct mesh_origdst_key key = {};
	__u32 *ip = (__u32 *)key.ip;
	struct mesh_netns *n;

	if (c->skc_family == AF_INET) {
		if (c->skc_rcv_saddr != bpf_htonl(0x7f000001))
			return;
		ip_from_v4(key.ip, c->skc_daddr);
	} else {
		if (c->skc_v6_rcv_saddr.in6_u.u6_addr32[3] != bpf_htonl(1) ||
		    c->skc_v6_rcv_saddr.in6_u.u6_addr32[0])
			return;
		ip[0] = c->skc_v6_daddr.in6_u.u6_addr32[0];
		ip[1] = c->skc_v6_daddr.in6_u.u6_addr32[1];
		ip[2] = c->skc_v6_daddr.in6_u.u6_addr32[2];
		ip[3] = c->skc_v6_daddr.in6_u.u6_addr32[3];
	}
	key.netns = c->skc_net.net->net_cookie;
	n = bpf_map_lookup_elem(&netns, &key.netns);
	if (!n || n->port != BPF_CORE_READ((const struct inet_sock *)sk, inet_sport))
		return;
	key.port = c->skc_dport;
	bpf_map_delete_elem(&origdst, &key);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(mesh_set_state, const struct sock *sk, int oldstate, int newstate)
{
	if (newstate != BPF_TCP_CLOSE)
		return 0;
	if (oldstate == BPF_TCP_LISTEN)
		on_unlisten(sk);
	else
		on_server_end(sk);
	return 0;
}
