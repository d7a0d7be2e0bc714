/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * TCP services: which endpoint a connect() goes to, and whether it may go at all. Called by
 * connect.bpf.c for destinations of protocol tcp; outcome.bpf.h takes back what is handed out here.
 * The same rules as agent/proxy/balance.c over the same arrays, so that both see each other's load.
 *
 * Needs neither heartbeat nor workers. What the caller's socket cannot reach by itself (another
 * address family, what somebody registered on the agent's loopback, a network that is kept apart)
 * is left to a worker.
 */
#ifndef BPF_BALANCE_H
#define BPF_BALANCE_H

#include <bpf/bpf_core_read.h>
#include <mesh/pick.h>
#include "bpf/reach.bpf.h"
#include "bpf/words.bpf.h"

enum balance_verdict {
	BALANCE_WORKER, /* none of ours */
	BALANCE_SENT,	/* to the address that was filled in */
	BALANCE_NOBODY, /* nobody to go to: as it was asked for */
	BALANCE_NO_STORAGE,
	BALANCE_REFUSED,
};

/* What makes one endpoint worse than another. ELSEWHERE: it could be called, but not from here. */
enum balance_rank { BALANCE_ILL = 1, BALANCE_EJECTED = 4, BALANCE_NEVER = 8, BALANCE_ELSEWHERE };

/* FAILED_MOST of balance.c: failures in a row count as connections that are open. */
#define BALANCE_FAILED_MOST 1000
#define BALANCE_LOOKS	    3 /* scans, while others take the last probe of what was found */

struct balance {
	/* who asks */
	__u64 here, now_ns;
	__u32 service;
	__u8 loopback;	    /* it asked for a loopback address */
	__u8 can4, can6;    /* families that its socket can connect to */
	__u8 bound_to_loop; /* and cannot leave it */
	/* where to look */
	__u32 upstream, subset, from;
	__u32 panic;
	/* what was found */
	__u32 best, rank, seen;
	__u32 elsewhere; /* somebody whom a worker could reach */
	struct word_pass pass;
};

static __always_inline bool balance_is_loopback(const __u8 *ip)
{
	const __u32 *w = (const __u32 *)ip;

	if (ip_is_v4(ip))
		return ip[12] == 127;
	return !w[0] && !w[1] && !w[2] && w[3] == bpf_htonl(1);
}

/* Programs trust who comes by way of loopback: who connected to it reaches an endpoint of its own
 * namespace that way, if it listens there. */
static __always_inline bool keeps_to_loopback(const struct balance *b,
					      const struct mesh_endpoint *e)
{
	return b->loopback && e->flags & MESH_EP_WILDCARD && e->netns == b->here;
}

/* In another namespace of this host. */
static __always_inline bool is_abroad(const struct balance *b, const struct mesh_endpoint *e)
{
	return e->netns != b->here && e->workload != MESH_NONE;
}

static __always_inline bool can_go(const struct balance *b, const struct mesh_endpoint *e)
{
	if (ip_is_v4(e->ip) ? !b->can4 : !b->can6)
		return false;
	if (balance_is_loopback(e->ip))
		return e->netns == b->here;
	if (is_abroad(b, e) && !reach_leads(b->here, e->netns, b->now_ns))
		return false;
	return !b->bound_to_loop || keeps_to_loopback(b, e);
}

MESH_FN __u32 balance_rank(const struct balance *b, __u32 ep)
{
	const __u32 lives = MESH_EP_USED | MESH_EP_ALIVE;
	struct mesh_service *svc;
	struct mesh_ep_stat *st;
	struct mesh_endpoint *e;
	__u32 flags, rank = 0;
	__u64 word;

	if (!b)
		return BALANCE_NEVER;
	e = bpf_map_lookup_elem(&endpoints, &ep);
	st = bpf_map_lookup_elem(&ep_stats, &ep);
	svc = array_at(&services, b->service);
	if (!e || !st || !svc)
		return BALANCE_NEVER;
	flags = *(volatile __u32 *)&e->flags;
	if ((flags & (lives | MESH_EP_DRAINING)) != lives || e->service != b->service)
		return BALANCE_NEVER;
	word = word_load(&st->breaker);
	if (mesh_breaker_state(word) != MESH_CLOSED && word & MESH_BREAKER_HELD)
		return BALANCE_NEVER;
	if (!can_go(b, e))
		return BALANCE_ELSEWHERE;
	if (b->panic)
		return 0;
	if (mesh_breaker_admit(word, &svc->breaker, b->now_ns / 1000000).verdict == MESH_REFUSE)
		rank |= BALANCE_EJECTED;
	if (flags & MESH_EP_UNHEALTHY)
		rank |= BALANCE_ILL;
	return rank;
}

static __always_inline __u32 slot_of(const struct mesh_slots *t, __u32 i)
{
	return *(const volatile __u16 *)&t->ep[i & (MESH_SLOTS - 1)] & (MESH_MAX_ENDPOINTS - 1);
}

/* Of the whole table, from `from` on, the best; the callback of bpf_loop. */
static long balance_look(__u32 i, void *arg)
{
	struct balance *b = arg;
	struct mesh_slots *t = array_at(&slots, b->subset);
	__u32 ep, rank;

	if (!t)
		return 1;
	ep = slot_of(t, b->from + i);
	if (ep == b->seen)
		return 0;
	b->seen = ep;
	rank = balance_rank(b, ep);
	if (rank == BALANCE_ELSEWHERE)
		b->elsewhere = 1;
	if (rank < b->rank) {
		b->rank = rank;
		b->best = ep;
	}
	return !b->rank;
}

/* Connections that are open there, and requests of the workers'. */
static __always_inline __u32 queue_at(__u32 ep, __u64 failed)
{
	struct mesh_ep_inflight *g = bpf_map_lookup_elem(&ep_inflight, &ep);
	__u32 sum = failed < BALANCE_FAILED_MOST ? (__u32)failed : BALANCE_FAILED_MOST;

	for (int i = 0; g && i < MESH_MAX_WORKERS; i++)
		sum += *(volatile __u32 *)&g->worker[i];
	return sum;
}

MESH_FN __u64 balance_cost(__u32 policy, __u32 ep, __u64 now_ns)
{
	struct mesh_endpoint *e = bpf_map_lookup_elem(&endpoints, &ep);
	struct mesh_ep_stat *st = bpf_map_lookup_elem(&ep_stats, &ep);
	__u32 queue;

	if (!e || !st)
		return ~0ULL;
	queue = queue_at(ep, word_load(&st->consecutive));
	if (policy == MESH_LB_LEAST_REQUEST)
		return mesh_pick_load(queue, e->weight);
	return mesh_pick_cost(mesh_ewma_read(word_load(&st->ewma), now_ns), queue);
}

static __always_inline __u32 draw(const struct mesh_slots *t, const struct mesh_upstream *up,
				  __u32 id, __u32 rnd, __u64 now_ns)
{
	__u32 a = slot_of(t, mesh_pick_slot_a(rnd)), b, n = t->n;
	struct mesh_up_stat *st;

	switch (up->policy) {
	case MESH_LB_RANDOM:
		return a;
	case MESH_LB_ROUND_ROBIN:
		st = bpf_map_lookup_elem(&up_stats, &id);
		return st && n ? slot_of(t, __sync_fetch_and_add(&st->cursor, 1) % n) : a;
	}
	b = slot_of(t, mesh_pick_slot_b(rnd));
	return a == b ? a
		      : mesh_pick_p2c(a, balance_cost(up->policy, a, now_ns), b,
				      balance_cost(up->policy, b, now_ns));
}

/* Takes the endpoint's probe if it needs one. False: somebody else took the last one just now. */
static __always_inline bool take(struct balance *b, __u32 ep)
{
	struct mesh_ep_stat *st = bpf_map_lookup_elem(&ep_stats, &ep);
	struct mesh_service *svc = array_at(&services, b->service);

	b->pass.lease = 0;
	b->pass.verdict = MESH_PASS;
	if (b->panic || b->rank & BALANCE_EJECTED || !st || !svc ||
	    mesh_breaker_state(word_load(&st->breaker)) == MESH_CLOSED)
		return true;
	word_admit(&st->breaker, &svc->breaker, b->now_ns / 1000000, &b->pass);
	return b->pass.verdict != MESH_REFUSE;
}

static __always_inline void scan(struct balance *b)
{
	b->rank = BALANCE_NEVER;
	b->best = b->seen = MESH_NONE;
	bpf_loop(MESH_SLOTS, balance_look, b, 0);
}

/* An endpoint of b->subset, or MESH_NONE. Works on a copy: bpf_loop takes nothing but the stack. */
MESH_FN __u32 balance_pick(struct balance *given)
{
	struct mesh_upstream *up;
	struct mesh_slots *t;
	struct balance b;
	__u32 rnd;

	if (!given)
		return MESH_NONE;
	b = *given;
	up = bpf_map_lookup_elem(&upstreams, &b.upstream);
	t = bpf_map_lookup_elem(&slots, &b.subset);
	if (!up || !t || !t->n)
		return MESH_NONE;
	rnd = bpf_get_prandom_u32();
	b.panic = t->panic;
	b.from = rnd >> 16;
	b.best = draw(t, up, b.upstream, rnd, b.now_ns);
	b.rank = balance_rank(&b, b.best);
	if (b.rank)
		scan(&b);
	for (int i = 0; i < BALANCE_LOOKS && b.best != MESH_NONE; i++) {
		if (take(&b, b.best)) {
			*given = b;
			return b.best;
		}
		scan(&b);
	}
	given->elsewhere = b.elsewhere;
	return MESH_NONE;
}

/* Bits of the split's versions that somebody serves. */
static __always_inline __u32 serving(const struct mesh_upstream *up)
{
	struct mesh_slots *t;
	__u32 bits = 0, subset;

	for (__u32 i = 0; i < MESH_SPLITS && i < up->nsplit; i++) {
		subset = up->split[i].subset;
		t = bpf_map_lookup_elem(&slots, &subset);
		if (t && t->n)
			bits |= 1u << i;
	}
	return bits;
}

/* Which version, as agent/proxy/split.c chooses: what nobody serves gives its share to the others,
 * unless the service wants it to fail. */
MESH_FN __u32 balance_subset(__u32 id, __u32 service_flags)
{
	struct mesh_upstream *up = bpf_map_lookup_elem(&upstreams, &id);
	__u32 rnd = bpf_get_prandom_u32(), subset, i;
	struct mesh_slots *t;

	if (!up || !up->nsplit)
		return MESH_NONE;
	i = mesh_pick_split(up, rnd);
	subset = up->split[i & (MESH_SPLITS - 1)].subset;
	if (service_flags & MESH_SVC_NO_FALLBACK)
		return subset;
	t = bpf_map_lookup_elem(&slots, &subset);
	if (t && t->n)
		return subset;
	i = mesh_pick_split_among(up, serving(up), rnd >> 16);
	return i < MESH_SPLITS ? up->split[i & (MESH_SPLITS - 1)].subset : up->version[0];
}

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
		b->bound_to_loop = balance_is_loopback(ip);
		return;
	}
	w[0] = sk->src_ip6[0];
	w[1] = sk->src_ip6[1];
	w[2] = sk->src_ip6[2];
	w[3] = sk->src_ip6[3];
	if (w[0] || w[1] || w[2] || w[3]) {
		b->can4 = ip_is_v4(ip);
		b->can6 = !b->can4;
		b->bound_to_loop = balance_is_loopback(ip);
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

/*
 * key: what was asked for; here: the cookie of the caller's namespace. BALANCE_SENT: *to is where
 * it goes, and the socket's storage says so.
 */
static __always_inline __u32 balance(struct bpf_sock_addr *ctx, const struct mesh_dest_key *key,
				     const struct mesh_workload *caller, __u32 id, __u64 here,
				     struct mesh_dest_key *to)
{
	struct balance b = {.here = here, .upstream = id, .loopback = balance_is_loopback(key->ip)};
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
	if (e)
		return BALANCE_NO_STORAGE;
	if (b.elsewhere)
		return BALANCE_WORKER;
	if (svc->flags & MESH_SVC_FAIL_CLOSED)
		return balance_refuse(caller->id, id, MESH_REFUSED_NO_ENDPOINT);
	return BALANCE_NOBODY;
}

#endif
