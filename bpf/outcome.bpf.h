/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What becomes of a connection that balance.bpf.h has sent to an endpoint, and what was handed out
 * for it given back, once: called by sockops.bpf.c from the SYN on, and by connect.bpf.c for a
 * socket that is used again. Trips the service's breaker; an endpoint's is the supervisor's to
 * trip.
 *
 *   before its SYN    nothing counts yet; probes that never got there end with their round
 *   SYN               a connection more: gauges of endpoint and service
 *   established       good: averages, windows, probes; failures in a row are over
 *   end, never was    refused, timed out, unreachable: failed. Given up by its caller: failed after
 *                     as long as timeouts.connect says, nothing before that
 *   end, never was, and it was the first between two namespaces: nothing, see reach.bpf.h
 *   end, by a reset   failed after all, for the endpoint; for the service only when not one byte
 *                     had come: one crash under a thousand connections is no thousand failures
 */
#ifndef BPF_OUTCOME_H
#define BPF_OUTCOME_H

#include "bpf/reach.bpf.h"
#include "bpf/words.bpf.h"

/* What a connect() takes at least: below that it tells more of the scheduler than of an endpoint,
 * and slots in proportion to it would be a lottery. */
#define OUTCOME_FLOOR_NS 1000000ULL

enum outcome { OUTCOME_GOOD, OUTCOME_FAILED, OUTCOME_AMENDED, OUTCOME_NOTHING };

/* A lost race costs one count. */
static __always_inline void outcome_count(__u64 window[MESH_WINDOW],
					  const struct mesh_breaker_policy *p, __u64 now_ms,
					  __u32 what)
{
	__u32 turn = mesh_window_turn(p->window_ms, now_ms);
	__u64 *word = &window[mesh_window_index(turn)], old = word_load(word), next;

	for (int i = 0; i < WORD_TRIES; i++) {
		next = what == OUTCOME_AMENDED ? mesh_window_amend(old, turn)
					       : mesh_window_add(old, turn, what == OUTCOME_FAILED);
		if (word_swap(word, &old, next))
			return;
	}
}

/* A lost race leaves it to the next failure. */
static __always_inline void outcome_trip(struct mesh_svc_stat *st,
					 const struct mesh_breaker_policy *p, __u64 now_ms)
{
	__u64 window[MESH_WINDOW], old = word_load(&st->breaker), next;

	for (int i = 0; i < MESH_WINDOW; i++)
		window[i] = word_load(&st->window[i]);
	next = mesh_breaker_trip(old, p, mesh_breaker_tally(old, p, window, now_ms), 0, now_ms);
	if (next != old && word_swap(&st->breaker, &old, next))
		went(st, MESH_OPEN);
}

MESH_FN int outcome_service(const struct mesh_socket *s, __u32 held, __u32 what, __u64 now_ms)
{
	struct mesh_service *svc;
	struct mesh_svc_stat *st;

	if (!s)
		return 0;
	svc = array_at(&services, s->service);
	st = array_at(&svc_stats, s->service);
	if (!svc || !st)
		return 0;
	if (what != OUTCOME_NOTHING)
		outcome_count(st->window, &svc->breaker, now_ms, what);
	if (held & MESH_HELD_SVC && what == OUTCOME_NOTHING)
		word_dropped(&st->breaker, s->svc_lease);
	else if (held & MESH_HELD_SVC)
		went(st, word_probed(&st->breaker, &svc->breaker, s->svc_lease,
				     what == OUTCOME_FAILED, now_ms));
	else if (what == OUTCOME_FAILED || what == OUTCOME_AMENDED)
		outcome_trip(st, &svc->breaker, now_ms);
	return 0;
}

static __always_inline void outcome_latency(struct mesh_ep_stat *st, __u64 latency_ns, __u64 now_ns,
					    __u32 failed)
{
	__u64 old = word_load(&st->ewma);

	if (latency_ns < OUTCOME_FLOOR_NS)
		latency_ns = OUTCOME_FLOOR_NS;
	for (int i = 0; i < WORD_TRIES; i++)
		if (word_swap(&st->ewma, &old, mesh_ewma_update(old, latency_ns, now_ns, failed)))
			return;
}

/* The endpoint it was sent to, if the index still means that one. */
static __always_inline bool outcome_is_of(const struct mesh_socket *s)
{
	struct mesh_endpoint *e = array_at(&endpoints, s->endpoint);

	return e && *(volatile __u32 *)&e->gen == s->gen;
}

static __always_inline void outcome_in_a_row(struct mesh_ep_stat *st, struct mesh_socket *s,
					     __u32 what)
{
	if (what == OUTCOME_GOOD) {
		s->consecutive = (__u32)word_load(&st->consecutive);
		if (s->consecutive)
			*(volatile __u64 *)&st->consecutive = 0;
	} else if (what != OUTCOME_NOTHING) {
		__sync_fetch_and_add(&st->consecutive, (__u64)s->consecutive + 1);
		s->consecutive = 0;
	}
}

MESH_FN int outcome_endpoint(struct mesh_socket *s, __u32 held, __u32 what, __u64 now_ns)
{
	__u64 now_ms = now_ns / 1000000;
	struct mesh_service *svc;
	struct mesh_ep_stat *st;

	if (!s)
		return 0;
	svc = array_at(&services, s->service);
	st = array_at(&ep_stats, s->endpoint);
	if (!svc || !st || !outcome_is_of(s))
		return 0;
	outcome_in_a_row(st, s, what);
	if (what != OUTCOME_NOTHING)
		outcome_count(st->window, &svc->breaker, now_ms, what);
	if (what == OUTCOME_GOOD || what == OUTCOME_FAILED)
		outcome_latency(st, now_ns - s->orig.time_ns, now_ns, what == OUTCOME_FAILED);
	if (held & MESH_HELD_EP && what == OUTCOME_NOTHING)
		word_dropped(&st->breaker, s->ep_lease);
	else if (held & MESH_HELD_EP)
		word_probed(&st->breaker, &svc->breaker, s->ep_lease, what == OUTCOME_FAILED,
			    now_ms);
	return 0;
}

/* What is held, and from now on nobody's. */
static __always_inline __u32 outcome_release(struct mesh_socket *s, __u32 bits)
{
	return __sync_fetch_and_and(&s->held, ~bits) & bits;
}

/* The SYN is about to leave. */
static __always_inline void outcome_begins(struct mesh_socket *s)
{
	struct mesh_ep_inflight *ep = array_at(&ep_inflight, s->endpoint);
	struct mesh_svc_inflight *svc = array_at(&svc_inflight, s->service);

	if (!ep || !svc || __sync_fetch_and_or(&s->held, MESH_HELD_GAUGES) & MESH_HELD_GAUGES)
		return;
	if (outcome_is_of(s))
		__sync_fetch_and_add(&ep->worker[MESH_KERNEL_WORKER], 1);
	__sync_fetch_and_add(&svc->worker[MESH_KERNEL_WORKER].connections, 1);
}

static __always_inline void outcome_established(struct mesh_socket *s, __u64 now_ns)
{
	__u32 held = outcome_release(s, MESH_HELD_SVC | MESH_HELD_EP);

	if (s->abroad)
		reach_found(s->orig.netns, s->abroad);
	outcome_service(s, held, OUTCOME_GOOD, now_ns / 1000000);
	outcome_endpoint(s, held, OUTCOME_GOOD, now_ns);
}

/* The gauges go down. False: they were not up, this end has been seen already. */
static __always_inline bool outcome_leave(struct mesh_socket *s)
{
	struct mesh_ep_inflight *ep = array_at(&ep_inflight, s->endpoint);
	struct mesh_svc_inflight *svc = array_at(&svc_inflight, s->service);

	if (!outcome_release(s, MESH_HELD_GAUGES))
		return false;
	if (ep && outcome_is_of(s))
		gauge_down(&ep->worker[MESH_KERNEL_WORKER]);
	if (svc)
		gauge_down(&svc->worker[MESH_KERNEL_WORKER].connections);
	return true;
}

/* A connection that never was one and that its caller gave up: long enough to say something? */
static __always_inline bool outcome_is_late(const struct mesh_socket *s, __u64 now_ns)
{
	struct mesh_service *svc = array_at(&services, s->service);

	return svc && svc->connect_ms &&
	       now_ns - s->orig.time_ns >= (__u64)svc->connect_ms * 1000000;
}

/* error: the socket's; heard: bytes came. Returns the error that it ended with, ETIMEDOUT for one
 * that was given up late. */
static __always_inline __u32 outcome_ended(struct mesh_socket *s, __u32 error, bool heard,
					   __u64 now_ns)
{
	__u32 held = outcome_release(s, MESH_HELD_SVC | MESH_HELD_EP), what = OUTCOME_FAILED;

	if (s->established_ns) {
		if (error && !heard)
			outcome_service(s, 0, OUTCOME_AMENDED, now_ns / 1000000);
		if (error)
			outcome_endpoint(s, 0, OUTCOME_AMENDED, now_ns);
		return error;
	}
	if (!error && outcome_is_late(s, now_ns))
		error = ETIMEDOUT;
	if (s->abroad && error == ECONNREFUSED)
		reach_found(s->orig.netns, s->abroad);
	if (s->abroad && !reach_known(s->orig.netns, s->abroad, error))
		what = OUTCOME_NOTHING;
	if (!error)
		what = OUTCOME_NOTHING;
	outcome_service(s, held, what, now_ns / 1000000);
	outcome_endpoint(s, held, what, now_ns);
	return error;
}

/* Its socket is used again: the SYN never left, or the end was seen. */
static __always_inline void outcome_forget(struct mesh_socket *s)
{
	struct mesh_svc_stat *svc = array_at(&svc_stats, s->service);
	struct mesh_ep_stat *ep = array_at(&ep_stats, s->endpoint);
	__u32 held = outcome_release(s, MESH_HELD_SVC | MESH_HELD_EP);

	if (svc && held & MESH_HELD_SVC)
		word_dropped(&svc->breaker, s->svc_lease);
	if (ep && held & MESH_HELD_EP && outcome_is_of(s))
		word_dropped(&ep->breaker, s->ep_lease);
}

#endif
