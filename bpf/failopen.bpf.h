/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Is there anybody to send a connection to? A worker must listen in the caller's namespace, and one
 * of them must have come round lately: used by connect.bpf.c alone. Whoever is in doubt says no,
 * since then the connection goes where its caller meant it to: as it was asked for, since a table
 * that nobody looks after may name another service's address by now. Only what is nobody's address,
 * a service's virtual one, is resolved here, over endpoints of which the kernel itself knows that
 * they are alive.
 */
#ifndef BPF_FAILOPEN_H
#define BPF_FAILOPEN_H

#include "bpf/balance.bpf.h"

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

/* The callback of bpf_loop: the first from b->from on that is alive and suits the socket; better
 * one to which a way is known. */
static long failopen_look(__u32 i, void *arg)
{
	struct balance *b = arg;
	struct mesh_slots *t = array_at(&slots, b->subset);
	struct mesh_endpoint *e;
	__u32 ep;

	if (!t)
		return 1;
	ep = balance_next(b, t, i);
	e = bpf_map_lookup_elem(&endpoints, &ep);
	if (!e || !takes_calls(e, b->service) || !suits_socket(b, e))
		return 0;
	if (leads_there(b, e)) {
		b->best = ep;
		return 1;
	}
	if (b->best == MESH_NONE)
		b->best = ep;
	return 0;
}

static __always_inline bool failopen_resolve(struct bpf_sock_addr *ctx, __u32 upstream, __u64 here,
					     struct mesh_dest_key *to)
{
	struct mesh_upstream *up = bpf_map_lookup_elem(&upstreams, &upstream);
	struct balance b = {.here = here, .best = MESH_NONE, .seen = MESH_NONE};
	struct mesh_endpoint *e;
	struct mesh_slots *t;

	if (!up)
		return false;
	b.service = up->service;
	b.subset = up->version[0];
	t = bpf_map_lookup_elem(&slots, &b.subset);
	if (!t || !t->n)
		return false;
	look_at_socket(ctx, &b);
	b.now_ns = bpf_ktime_get_ns();
	b.from = bpf_get_prandom_u32() >> 16;
	bpf_loop(MESH_SLOTS, failopen_look, &b, 0);
	e = bpf_map_lookup_elem(&endpoints, &b.best);
	if (!e)
		return false;
	target(&b, e, to);
	return true;
}

enum failopen { FAILOPEN_LEAVE, FAILOPEN_GO, FAILOPEN_REFUSE };

/* There is no worker. FAILOPEN_GO: *to is where the connection goes. */
static __always_inline int failopen(struct bpf_sock_addr *ctx, const struct mesh_workload *caller,
				    __u32 upstream, bool is_virtual, __u64 here,
				    struct mesh_dest_key *to)
{
	struct mesh_upstream *up = bpf_map_lookup_elem(&upstreams, &upstream);
	struct mesh_service *svc;
	__u32 service;

	if (!up)
		return FAILOPEN_LEAVE;
	service = up->service;
	svc = bpf_map_lookup_elem(&services, &service);
	if (!(svc && svc->flags & MESH_SVC_FAIL_CLOSED)) {
		if (!is_virtual)
			return FAILOPEN_LEAVE;
		if (failopen_resolve(ctx, upstream, here, to)) {
			count(MESH_C_RESOLVED);
			return FAILOPEN_GO;
		}
	}
	balance_refuse(caller->id, upstream, MESH_REFUSED_NO_ENDPOINT);
	return FAILOPEN_REFUSE;
}

#endif
