/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The life of sockets: the original destination of a captured connection published before its SYN
 * leaves, listeners that begin, a record for each captured connection that closed. Runs for every
 * TCP socket under the attached cgroup, at every callback: it leaves at the first comparison that
 * says it is none of ours.
 */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include "bpf/enroll.bpf.h"
#include "bpf/events.bpf.h"
#include "bpf/outcome.bpf.h"
#include "bpf/waiting.bpf.h"

/* So many bytes of close events waiting wake the reader up; else it comes by itself. */
#define EVENTS_WAKE (MESH_EVENTS_BYTES / 8)

char LICENSE[] SEC("license") = "Dual BSD/GPL";

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

static __always_inline long publish(struct bpf_sock_ops *ctx, const struct mesh_socket *s)
{
	struct mesh_origdst_key key = {};

	client_key(ctx, s, &key);
	return bpf_map_update_elem(&origdst, &key, &s->orig, BPF_ANY);
}

static __always_inline struct mesh_socket *captured(struct bpf_sock_ops *ctx)
{
	return ctx->sk ? bpf_sk_storage_get(&sockets, ctx->sk, 0, 0) : NULL;
}

/* The source port is known and the SYN is not sent: whoever accepts finds the entry. A failure is
 * made good when the SYN-ACK comes. */
static __always_inline void on_connect(struct bpf_sock_ops *ctx)
{
	struct mesh_socket *s = captured(ctx);

	if (!s)
		return;
	if (s->endpoint == MESH_NONE) {
		waiting_begins(s);
		publish(ctx, s);
	} else {
		outcome_begins(s);
	}
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
}

/* The worker cannot accept before the ACK that follows: the last moment to see that the entry is
 * there. It may be missing because the LRU list had no node at hand, or because a worker's socket
 * of an earlier connection from the same port ended just now. If this fails too, the worker
 * resets the connection, and the counter says why. */
static __always_inline void on_established(struct bpf_sock_ops *ctx, struct mesh_socket *s)
{
	struct mesh_origdst_key key = {};

	s->established_ns = bpf_ktime_get_ns();
	client_key(ctx, s, &key);
	if (!bpf_map_lookup_elem(&origdst, &key) && publish(ctx, s))
		count(MESH_C_ORIGDST_LOST);
}

/* Comes without a flag, which another program on this cgroup may have taken from the socket: who
 * waits for nobody is not counted as waiting for good. */
static __always_inline void on_arrived(struct bpf_sock_ops *ctx)
{
	struct mesh_socket *s = captured(ctx);

	if (s)
		waiting_ends(s);
}

static __always_inline void send_close(struct bpf_sock_ops *ctx, const struct mesh_socket *s,
				       __u32 late)
{
	struct mesh_event *e = event_new(MESH_EV_CLOSE);
	struct tcp_sock *tp;
	struct sock *sk;

	if (!e)
		return;
	e->upstream = s->orig.upstream;
	e->workload = s->orig.workload;
	e->netns = s->orig.netns;
	e->endpoint = s->endpoint;
	e->endpoint_gen = s->gen;
	e->duration_ns = e->time_ns - s->orig.time_ns;
	if (s->established_ns)
		e->connect_ns = s->established_ns - s->orig.time_ns;
	__builtin_memcpy(e->ip, s->orig.ip, sizeof(e->ip));
	e->port = s->orig.port;
	tp = ctx->sk ? bpf_skc_to_tcp_sock(ctx->sk) : NULL;
	if (tp) {
		sk = (struct sock *)tp;
		e->cookie = sk->__sk_common.skc_cookie.counter;
		e->error = late ? late : sk->sk_err;
		e->bytes_sent = tp->bytes_sent - tp->bytes_retrans;
		e->bytes_received = tp->bytes_received;
		if (sk->__sk_common.skc_flags & 1UL << SOCK_DONE)
			e->bytes_received--; /* the peer's FIN is counted as one */
	}
	bpf_ringbuf_submit(e, bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) > EVENTS_WAKE
				      ? BPF_RB_FORCE_WAKEUP
				      : BPF_RB_NO_WAKEUP);
}

static __always_inline void on_closed(struct bpf_sock_ops *ctx, struct mesh_socket *s)
{
	struct mesh_origdst_key key = {};

	count(MESH_C_CLOSED);
	send_close(ctx, s, 0);
	waiting_ends(s);
	if (s->established_ns)
		return; /* the end of the worker's side removes it */
	client_key(ctx, s, &key);
	bpf_map_delete_elem(&origdst, &key);
}

/* The kernel's own choice: what became of it is its own to count. */
static __always_inline void on_balanced(struct bpf_sock_ops *ctx, struct mesh_socket *s,
					__u32 state)
{
	__u64 now = bpf_ktime_get_ns();
	struct bpf_sock *sk = ctx->sk;
	struct mesh_splice_end *end;
	struct tcp_sock *tp;
	__u32 error;
	bool heard;

	if (state == BPF_TCP_ESTABLISHED) {
		s->established_ns = now;
		outcome_established(s, now);
		return;
	}
	if (!outcome_leave(s))
		return;
	if (!sk)
		return;
	end = bpf_sk_storage_get(&splice_ends, sk, 0, 0);
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return;
	/* redirected bytes are not among those of TCP */
	heard = tp->bytes_received || (end && end->group == MESH_ACCEL_ENROLLED);
	error = outcome_ended(s, ((struct sock *)tp)->sk_err, heard, now);
	count(MESH_C_CLOSED);
	send_close(ctx, s, error);
}

static __always_inline void on_state(struct bpf_sock_ops *ctx)
{
	__u32 state = ctx->args[1];
	struct mesh_socket *s;

	if (state != BPF_TCP_ESTABLISHED && state != BPF_TCP_CLOSE)
		return;
	if (state == BPF_TCP_CLOSE)
		enroll_closed(ctx);
	s = captured(ctx);
	if (!s)
		return;
	if (s->endpoint != MESH_NONE)
		on_balanced(ctx, s, state);
	else if (state == BPF_TCP_ESTABLISHED)
		on_established(ctx, s);
	else
		on_closed(ctx, s);
}

SEC("sockops")
int mesh_sockops(struct bpf_sock_ops *ctx)
{
	switch (ctx->op) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		enroll_again(ctx);
		on_connect(ctx);
		break;
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		on_arrived(ctx);
		enroll_active(ctx);
		break;
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		enroll_passive(ctx);
		break;
	case BPF_SOCK_OPS_RTT_CB:
		enroll_rtt(ctx);
		break;
	case BPF_SOCK_OPS_STATE_CB:
		on_state(ctx);
		break;
	case BPF_SOCK_OPS_TCP_LISTEN_CB:
		enroll_again(ctx);
		on_listen(ctx);
		break;
	}
	return 1;
}
