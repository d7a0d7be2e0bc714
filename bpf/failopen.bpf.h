/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Is there anybody to send a connection to? A worker must listen in the caller's namespace, and one
 * of them must have come round lately: used by connect.bpf.c alone. Whoever is in doubt says no,
 * since then the connection goes where its caller meant it to.
 */
#ifndef BPF_FAILOPEN_H
#define BPF_FAILOPEN_H

#include "bpf/maps.bpf.h"

#define LOOPBACK4 bpf_htonl(0x7f000001)

/* Is what listens on loopback:port in the caller's namespace the socket with this cookie? */
static __always_inline bool is_listening(struct bpf_sock_addr *ctx, bool v4, __be16 port,
					 __u64 cookie)
{
	struct bpf_sock_tuple t = {};
	struct tcp_sock *tp;
	struct bpf_sock *sk;
	bool ours = false;
	__u32 len;

	if (v4) {
		t.ipv4.saddr = LOOPBACK4;
		t.ipv4.daddr = LOOPBACK4;
		t.ipv4.dport = port;
		len = sizeof(t.ipv4);
	} else {
		t.ipv6.saddr[3] = bpf_htonl(1);
		t.ipv6.daddr[3] = bpf_htonl(1);
		t.ipv6.dport = port;
		len = sizeof(t.ipv6);
	}
	sk = bpf_skc_lookup_tcp(ctx, &t, len, BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return false;
	if (sk->state == BPF_TCP_LISTEN) {
		tp = bpf_skc_to_tcp_sock(sk);
		ours = tp && ((struct sock *)tp)->__sk_common.skc_cookie.counter == cookie;
	}
	bpf_sk_release(sk);
	return ours;
}

/* Has any worker come round lately? The supervisor has no say in this: workers serve without it. */
static __always_inline bool any_beats(__u64 now)
{
	__u32 zero = 0;
	struct mesh_beats *b = bpf_map_lookup_elem(&beats, &zero);

	if (!b)
		return false;
	for (int i = 0; i < MESH_MAX_WORKERS; i++) {
		__u64 beat = *(volatile __u64 *)&b->worker[i];

		if (beat && (beat > now || now - beat <= MESH_BEAT_MAX_NS))
			return true;
	}
	return false;
}

/* n: the caller's namespace, NULL when we do not listen there. The beats come last: a worker that
 * is killed writes 0 before its listeners go (exit.bpf.c), so that the less lies between this and
 * the SYN the better. */
static __always_inline bool worker_waits(struct bpf_sock_addr *ctx, bool v4,
					 const struct mesh_netns *n, __u64 now)
{
	__u64 cookie = n ? v4 ? n->listener4 : n->listener6 : 0;

	if (!cookie || !is_listening(ctx, v4, n->port, cookie)) {
		count(MESH_C_PASSED_NO_LISTENER);
		return false;
	}
	if (!any_beats(now)) {
		count(MESH_C_PASSED_STALE);
		return false;
	}
	return true;
}

#endif
