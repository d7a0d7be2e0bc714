/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * One endpoint in the eyes of one connection: may it be called, can the caller's socket reach it,
 * what would it cost? For pick.bpf.h, which compares them, and failopen.bpf.h, which takes anybody
 * who is alive. Chooses nothing.
 */
#ifndef BPF_RANK_H
#define BPF_RANK_H

#include <mesh/pick.h>
#include "bpf/reach.bpf.h"
#include "bpf/words.bpf.h"

/* What makes one endpoint worse than another. ELSEWHERE: it could be called, but not from here. */
enum balance_rank { BALANCE_ILL = 1, BALANCE_EJECTED = 4, BALANCE_NEVER = 8, BALANCE_ELSEWHERE };

/* FAILED_MOST of balance.c: failures in a row count as connections that are open. */
#define BALANCE_FAILED_MOST 1000

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

/* Can the caller's socket have such a peer? */
static __always_inline bool suits_socket(const struct balance *b, const struct mesh_endpoint *e)
{
	if (ip_is_v4(e->ip) ? !b->can4 : !b->can6)
		return false;
	if (ip_is_loopback(e->ip))
		return e->netns == b->here;
	return !b->bound_to_loop || keeps_to_loopback(b, e);
}

/* Is there a way, as far as anybody has seen? */
static __always_inline bool leads_there(const struct balance *b, const struct mesh_endpoint *e)
{
	return !is_abroad(b, e) || reach_leads(b->here, e->netns, b->now_ns);
}

/* It is the service's, alive, and nobody drains it. */
static __always_inline bool takes_calls(const struct mesh_endpoint *e, __u32 service)
{
	const __u32 lives = MESH_EP_USED | MESH_EP_ALIVE;
	__u32 flags = *(const volatile __u32 *)&e->flags;

	return (flags & (lives | MESH_EP_DRAINING)) == lives && e->service == service;
}

MESH_FN __u32 balance_rank(const struct balance *b, __u32 ep)
{
	struct mesh_service *svc;
	struct mesh_ep_stat *st;
	struct mesh_endpoint *e;
	__u32 rank = 0;
	__u64 word;

	if (!b)
		return BALANCE_NEVER;
	e = bpf_map_lookup_elem(&endpoints, &ep);
	st = bpf_map_lookup_elem(&ep_stats, &ep);
	svc = array_at(&services, b->service);
	if (!e || !st || !svc)
		return BALANCE_NEVER;
	if (!takes_calls(e, b->service))
		return BALANCE_NEVER;
	word = word_load(&st->breaker);
	if (mesh_breaker_state(word) != MESH_CLOSED && word & MESH_BREAKER_HELD)
		return BALANCE_NEVER;
	if (!suits_socket(b, e) || !leads_there(b, e))
		return BALANCE_ELSEWHERE;
	if (b->panic)
		return 0;
	if (mesh_breaker_admit(word, &svc->breaker, b->now_ns / 1000000).verdict == MESH_REFUSE)
		rank |= BALANCE_EJECTED;
	if (*(volatile __u32 *)&e->flags & MESH_EP_UNHEALTHY)
		rank |= BALANCE_ILL;
	return rank;
}

static __always_inline __u32 slot_of(const struct mesh_slots *t, __u32 i)
{
	return *(const volatile __u16 *)&t->ep[i & (MESH_SLOTS - 1)] & (MESH_MAX_ENDPOINTS - 1);
}

/* Slot i of a scan, from `from` on; MESH_NONE: the same endpoint as before. */
static __always_inline __u32 balance_next(struct balance *b, const struct mesh_slots *t, __u32 i)
{
	__u32 ep = slot_of(t, b->from + i);

	if (ep == b->seen)
		return MESH_NONE;
	b->seen = ep;
	return ep;
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

#endif
