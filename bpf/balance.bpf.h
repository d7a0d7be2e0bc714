/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * TCP services: which endpoint a connect() goes to (pick.bpf.h), and whether it may go at all.
 * Called by connect.bpf.c for destinations of protocol tcp; outcome.bpf.h takes back what is handed
 * out here.
 *
 * Needs neither heartbeat nor workers. What the caller's socket cannot reach by itself (another
 * address family, what somebody registered on the agent's loopback, a network that is kept apart)
 * is left to a worker.
 */
#ifndef BPF_BALANCE_H
#define BPF_BALANCE_H

#include <bpf/bpf_core_read.h>
#include "bpf/pick.bpf.h"

enum balance_verdict {
	BALANCE_WORKER, /* none of ours */
	BALANCE_SENT,	/* to the address that was filled in */
	BALANCE_NOBODY, /* nobody to go to: as it was asked for */
	BALANCE_NO_STORAGE,
	BALANCE_REFUSED,
};

/* --- may it go at all? --- */

MESH_FN __u32 balance_refuse(__u32 workload, __u32 upstream, __u32 reason)
{
	struct mesh_refusal_key key = {
		.workload = workload, .upstream = upstream, .reason = reason};
	__u64 one = 1, *n = bpf_map_lookup_elem(&refusals, &key);

	count(MESH_C_REFUSED);
	if (!n && bpf_map_update_elem(&refusals, &key, &one, BPF_NOEXIST))
		n = bpf_map_lookup_elem(&refusals, &key);
	else if (!n)
		return BALANCE_REFUSED;
	if (n)
		__sync_fetch_and_add(n, 1);
	else
		count(MESH_C_REFUSED_LOST);
	return BALANCE_REFUSED;
}

/* Two callers that ask at the same moment may both see the last place: it is overstepped by less
 * than the number of CPUs. */
MESH_FN __u32 balance_has_room(__u32 service, __u32 most)
{
	struct mesh_bulkhead_policy p = {.connections = most};
	struct mesh_svc_inflight *g = bpf_map_lookup_elem(&svc_inflight, &service);
	struct mesh_bulkhead_use use = {};

	for (int i = 0; g && i < MESH_MAX_WORKERS; i++)
		use.connections += *(volatile __u32 *)&g->worker[i].connections;
	return mesh_bulkhead_connect(&p, &use) == MESH_BULKHEAD_NONE;
}

static __always_inline bool admit(struct mesh_svc_stat *st, const struct mesh_service *svc,
				  __u64 now_ns, struct word_pass *pass)
{
	pass->lease = 0;
	pass->verdict = MESH_PASS;
	if (mesh_breaker_state(word_load(&st->breaker)) != MESH_CLOSED)
		went(st, word_admit(&st->breaker, &svc->breaker, now_ns / 1000000, pass));
	return pass->verdict != MESH_REFUSE;
}

/* --- the caller's socket --- */

static __always_inline void look_at_socket(struct bpf_sock_addr *ctx, struct balance *b)
{
	struct bpf_sock *sk = sock_of(ctx);
	struct tcp_sock *tp;
	__u8 ip[16];
	__u32 *w = (__u32 *)ip;

	if (ctx->family == AF_INET) {
		b->can4 = 1;
		ip_from_v4(ip, sk->src_ip4);
		b->bound_to_loop = ip_is_loopback(ip);
		return;
	}
	w[0] = sk->src_ip6[0];
	w[1] = sk->src_ip6[1];
	w[2] = sk->src_ip6[2];
	w[3] = sk->src_ip6[3];
	if (w[0] || w[1] || w[2] || w[3]) {
		b->can4 = ip_is_v4(ip);
		b->can6 = !b->can4;
		b->bound_to_loop = ip_is_loopback(ip);
		return;
	}
	tp = bpf_skc_to_tcp_sock(sk);
	b->can6 = 1;
	b->can4 = tp && !BPF_CORE_READ_BITFIELD_PROBED((struct sock *)tp, __sk_common.skc_ipv6only);
}

/* --- all of it --- */

/* What is to be known at its end; false: no memory. */
static __always_inline bool note(struct bpf_sock_addr *ctx, const struct balance *b, __u32 ep,
				 const struct mesh_endpoint *e, const struct word_pass *pass,
				 struct mesh_socket **out)
{
	struct mesh_socket *s;

	s = bpf_sk_storage_get(&sockets, sock_of(ctx), 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!s)
		return false;
	s->orig.netns = b->here;
	s->orig.time_ns = b->now_ns;
	s->established_ns = 0;
	s->endpoint = ep;
	s->gen = e->gen;
	s->service = b->service;
	s->held = (pass->verdict == MESH_PROBE ? MESH_HELD_SVC : 0) |
		  (b->pass.verdict == MESH_PROBE ? MESH_HELD_EP : 0);
	s->svc_lease = pass->lease;
	s->ep_lease = b->pass.lease;
	s->abroad = is_abroad(b, e) ? e->netns : 0;
	s->consecutive = 0;
	*out = s;
	return true;
}

static __always_inline void target(const struct balance *b, const struct mesh_endpoint *e,
				   struct mesh_dest_key *to)
{
	__u32 *w = (__u32 *)to->ip;

	__builtin_memcpy(to->ip, e->ip, sizeof(to->ip));
	to->port = e->port;
	if (!keeps_to_loopback(b, e))
		return;
	w[3] = bpf_htonl(ip_is_v4(e->ip) ? 0x7f000001 : 1);
	if (!ip_is_v4(e->ip))
		w[0] = w[1] = w[2] = 0;
}

static __always_inline __u64 *probe_of(__u32 ep)
{
	struct mesh_ep_stat *st = bpf_map_lookup_elem(&ep_stats, &ep);

	return st ? &st->breaker : NULL;
}

/*
 * key: what was asked for; here: the cookie of the caller's namespace. BALANCE_SENT: *to is where
 * it goes, and the socket's storage says so.
 */
static __always_inline __u32 balance(struct bpf_sock_addr *ctx, const struct mesh_dest_key *key,
				     const struct mesh_workload *caller, __u32 id, __u64 here,
				     struct mesh_dest_key *to)
{
	struct balance b = {.here = here, .upstream = id, .loopback = ip_is_loopback(key->ip)};
	struct word_pass pass;
	struct mesh_upstream *up = bpf_map_lookup_elem(&upstreams, &id);
	struct mesh_socket *s = NULL;
	struct mesh_svc_stat *st;
	struct mesh_endpoint *e;
	struct mesh_service *svc;
	__u32 ep, all;

	if (!up || up->protocol != MESH_PROTO_TCP)
		return BALANCE_WORKER;
	b.service = up->service;
	svc = bpf_map_lookup_elem(&services, &b.service);
	st = bpf_map_lookup_elem(&svc_stats, &b.service);
	if (!svc || !st || !(svc->flags & MESH_SVC_USED))
		return BALANCE_WORKER;
	b.now_ns = bpf_ktime_get_ns();
	if (!balance_has_room(b.service, svc->max_connections))
		return balance_refuse(caller->id, id, MESH_REFUSED_BULKHEAD);
	if (!admit(st, svc, b.now_ns, &pass))
		return balance_refuse(caller->id, id, MESH_REFUSED_BREAKER);
	look_at_socket(ctx, &b);
	b.subset = balance_subset(id, svc->flags);
	all = up->version[0];
	ep = balance_pick(&b);
	if (ep == MESH_NONE && b.subset != all && !(svc->flags & MESH_SVC_NO_FALLBACK)) {
		b.subset = all;
		ep = balance_pick(&b);
	}
	e = bpf_map_lookup_elem(&endpoints, &ep);
	if (e && note(ctx, &b, ep, e, &pass, &s)) {
		__builtin_memcpy(s->orig.ip, key->ip, sizeof(s->orig.ip));
		s->orig.port = key->port;
		s->orig.upstream = id;
		s->orig.workload = caller->id;
		s->orig.service = caller->service;
		__builtin_memcpy(s->orig.caller_ip, caller->ip, sizeof(s->orig.caller_ip));
		target(&b, e, to);
		s->v4 = ip_is_v4(to->ip);
		if (s->abroad)
			reach_try(here, s->abroad, b.now_ns);
		count(MESH_C_KERNEL);
		return BALANCE_SENT;
	}
	if (pass.verdict == MESH_PROBE)
		word_dropped(&st->breaker, pass.lease);
	if (e) {
		if (b.pass.verdict == MESH_PROBE)
			word_dropped(probe_of(ep), b.pass.lease);
		return BALANCE_NO_STORAGE;
	}
	if (b.elsewhere)
		return BALANCE_WORKER;
	if (svc->flags & MESH_SVC_FAIL_CLOSED)
		return balance_refuse(caller->id, id, MESH_REFUSED_NO_ENDPOINT);
	return BALANCE_NOBODY;
}

#endif
