/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The end of sockets that have no callback flag of ours: listeners, those older than the agent too,
 * and the worker's side of captured connections. A tracepoint knows no cgroup and runs at every
 * change of state on the machine: `listeners` and `netns` say which sockets are ours, and only what
 * closes is looked at.
 */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "bpf/events.bpf.h"
#include <mesh/alive.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Nobody of ours needs to run for that: who picks an endpoint looks at this word. */
static __always_inline void one_less(const struct mesh_listener *l)
{
	__u32 index = l->endpoint - 1, old;
	struct mesh_endpoint *e;

	if (!l->endpoint)
		return;
	e = bpf_map_lookup_elem(&endpoints, &index);
	if (!e || e->gen != l->gen)
		return;
	for (int i = 0; i < MESH_ALIVE_TRIES; i++) {
		old = *(volatile __u32 *)&e->flags;
		if (__sync_val_compare_and_swap(&e->flags, old, mesh_alive_less(old)) == old)
			break;
	}
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
	one_less(l);
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
