/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Which endpoint of a TCP service gets a connection: version by split, two draws from its slots,
 * the lower cost wins; who may not be called, or cannot be reached by the caller's socket, is
 * passed by. For balance.bpf.h, and the parts that can be reused for failopen.bpf.h. The same rules
 * as agent/proxy/balance.c and split.c over the same arrays, so that both see each other's load.
 * Decides nothing about whether the service may be called.
 */
#ifndef BPF_PICK_H
#define BPF_PICK_H

#include <mesh/pick.h>
#include "bpf/reach.bpf.h"
#include "bpf/words.bpf.h"

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

#endif
