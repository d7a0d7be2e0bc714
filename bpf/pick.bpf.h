/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Which endpoint of a TCP service gets a connection: version by split, two draws from its slots,
 * the lower cost wins, as rank.bpf.h has it; who may not be called, or cannot be reached by the
 * caller's socket, is passed by. For balance.bpf.h. The same rules as agent/proxy/balance.c and
 * split.c over the same arrays, so that both see each other's load. Decides nothing about whether
 * the service may be called.
 */
#ifndef BPF_PICK_H
#define BPF_PICK_H

#include <mesh/pick.h>
#include "bpf/rank.bpf.h"

#define BALANCE_LOOKS 3 /* scans, while others take the last probe of what was found */

/* Of the whole table, from `from` on, the best; the callback of bpf_loop. */
static long balance_look(__u32 i, void *arg)
{
	struct balance *b = arg;
	struct mesh_slots *t = array_at(&slots, b->subset);
	__u32 ep, rank;

	if (!t)
		return 1;
	ep = balance_next(b, t, i);
	if (ep == MESH_NONE)
		return 0;
	rank = balance_rank(b, ep);
	if (rank == BALANCE_ELSEWHERE)
		b->elsewhere = 1;
	if (rank < b->rank) {
		b->rank = rank;
		b->best = ep;
	}
	return !b->rank;
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
