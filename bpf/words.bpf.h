/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The words of include/mesh/ in shared arrays, changed by compare-and-swap as the workers change
 * them: what balance.bpf.h (before a connection) and outcome.bpf.h (of it) share. The rules are
 * those of breaker.h and window.h; here is only the loop around them, which is bounded: who has
 * lost so many races gives up, as each function says.
 */
#ifndef BPF_WORDS_H
#define BPF_WORDS_H

#include <mesh/breaker.h>
#include <mesh/bulkhead.h>
#include <mesh/ewma.h>
#include "bpf/maps.bpf.h"

#define WORD_TRIES 8

/* A function that the verifier looks at once and for all, by its types, instead of once for every
 * way that leads to it: there would be too many. Pointers come to it as if they might be NULL. */
#define MESH_FN __weak __noinline

/* A probe that has not come back yet. */
struct word_pass {
	__u64 lease;
	__u32 verdict; /* enum mesh_breaker_verdict */
};

/* The entry of one of the arrays. By value: Linux 6.1 takes no key out of memory that such a
 * function was given a pointer to, only from its own stack. */
static __always_inline void *array_at(void *map, __u32 id)
{
	return bpf_map_lookup_elem(map, &id);
}

static __always_inline __u64 word_load(const __u64 *word)
{
	return *(const volatile __u64 *)word;
}

/* True when nobody was quicker; else *old is what is there now. */
static __always_inline bool word_swap(__u64 *word, __u64 *old, __u64 next)
{
	__u64 was = __sync_val_compare_and_swap(word, *old, next);
	bool done = was == *old;

	*old = was;
	return done;
}

/* May one more pass? Races lost: no, others have taken the probes. Returns the state that the word
 * went to, or -1. */
MESH_FN int word_admit(__u64 *word, const struct mesh_breaker_policy *p, __u64 now_ms,
		       struct word_pass *pass)
{
	struct mesh_breaker_step s;
	__u64 old;

	if (!word || !p || !pass)
		return -1;
	old = word_load(word);

	for (int i = 0; i < WORD_TRIES; i++) {
		s = mesh_breaker_admit(old, p, now_ms);
		pass->lease = s.lease;
		pass->verdict = s.verdict;
		if (s.verdict != MESH_PROBE)
			return -1;
		if (word_swap(word, &old, s.word))
			return mesh_breaker_state(old) == MESH_OPEN ? MESH_HALF_OPEN : -1;
	}
	pass->verdict = MESH_REFUSE;
	return -1;
}

/* A probe has come back. Races lost: its lease ends with the round. Returns as above. */
MESH_FN int word_probed(__u64 *word, const struct mesh_breaker_policy *p, __u64 lease, __u32 failed,
			__u64 now_ms)
{
	__u64 old, next;

	if (!word || !p)
		return -1;
	old = word_load(word);

	for (int i = 0; i < WORD_TRIES; i++) {
		next = mesh_breaker_probed(old, p, lease, failed, now_ms);
		if (next == old)
			return -1;
		if (word_swap(word, &old, next))
			return mesh_breaker_state(next) == MESH_HALF_OPEN
				       ? -1
				       : (int)mesh_breaker_state(next);
	}
	return -1;
}

/* ... or has come to nothing. */
MESH_FN int word_dropped(__u64 *word, __u64 lease)
{
	__u64 old, next;

	if (!word)
		return 0;
	old = word_load(word);

	for (int i = 0; i < WORD_TRIES; i++) {
		next = mesh_breaker_dropped(old, lease);
		if (next == old || word_swap(word, &old, next))
			break;
	}
	return 0;
}

/* One less, unless there is none: an id may have come to mean another in the meantime. */
MESH_FN int gauge_down(__u32 *gauge)
{
	__u32 old, was;

	if (!gauge)
		return 0;
	old = *(volatile __u32 *)gauge;
	for (int i = 0; i < WORD_TRIES && old; i++) {
		was = __sync_val_compare_and_swap(gauge, old, old - 1);
		if (was == old)
			return 0;
		old = was;
	}
	if (old)
		__sync_fetch_and_add(gauge, -1);
	return 0;
}

static __always_inline void went(struct mesh_svc_stat *st, int state)
{
	if (state >= 0 && state < 3)
		__sync_fetch_and_add(&st->went[state], 1);
}

#endif
