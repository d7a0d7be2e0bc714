/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The retry budget of a service, shared by all workers: a bucket of tokens in one 64-bit word. Each
 * request earns a share of a token, each second some more, each retry costs a whole one (after
 * Finagle's RetryBudget). Little is kept of what is not used, so that a failure after a quiet hour,
 * or after a busy one, does not begin with a storm: over any time there are at most as many retries
 * as that time has earned, and those that can be kept.
 *
 * Word: high 32 bits time in ms (CLOCK_MONOTONIC, wraps after 49 days), low 32 bits thousandths of
 * a token. 0: nobody has asked yet. The time never goes back: every clock reading that is behind
 * another's would earn the difference once more.
 */
#ifndef MESH_BUDGET_H
#define MESH_BUDGET_H

#include <mesh/abi.h>

#define MESH_BUDGET_LEAST   10	    /* tokens that can be kept at least */
#define MESH_BUDGET_MOST    4000000 /* and at most: the word holds no more */
#define MESH_BUDGET_SKEW_MS 60000   /* a word that is less than this ahead: a reading behind */

struct mesh_budget_policy {
	__u32 percent_pm; /* of the requests, in hundredths of a percent; whole tenths count */
	__u32 per_second; /* and so many always */
};

struct mesh_budget_step {
	__u64 word;
	__u32 granted;
};

/* Thousandths of a token that can be kept: one second's worth of per_second. */
static inline __u64 mesh_budget_cap(const struct mesh_budget_policy *p)
{
	__u64 tokens = p->per_second > MESH_BUDGET_LEAST ? p->per_second : MESH_BUDGET_LEAST;

	return (tokens < MESH_BUDGET_MOST ? tokens : MESH_BUDGET_MOST) * 1000;
}

/* ms since the word's time; 0 when another's clock reading was ahead of ours. */
static inline __u32 mesh_budget_age(__u64 word, __u64 now_ms)
{
	__u32 dt = (__u32)now_ms - (__u32)(word >> 32);

	return 0 - dt < MESH_BUDGET_SKEW_MS ? 0 : dt;
}

/* Thousandths of a token there are now. */
static inline __u64 mesh_budget_level(__u64 word, const struct mesh_budget_policy *p, __u64 now_ms)
{
	__u64 have = word & 0xffffffff, cap = mesh_budget_cap(p);
	__u32 dt = word ? mesh_budget_age(word, now_ms) : 1000;

	have += (__u64)(dt < 1000 ? dt : 1000) * p->per_second;
	return have < cap ? have : cap;
}

/* The word that follows, with so many thousandths. */
static inline __u64 mesh_budget_word(__u64 word, __u64 level, __u64 now_ms)
{
	__u64 time = now_ms & 0xffffffff;

	if (word && !mesh_budget_age(word, now_ms))
		time = word >> 32;
	word = time << 32 | (level & 0xffffffff);
	return word ? word : 1;
}

/* The word after one more request. */
static inline __u64 mesh_budget_earn(__u64 word, const struct mesh_budget_policy *p, __u64 now_ms)
{
	__u64 level = mesh_budget_level(word, p, now_ms) + p->percent_pm / 10,
	      cap = mesh_budget_cap(p);

	return mesh_budget_word(word, level < cap ? level : cap, now_ms);
}

/* Asks for one retry. */
MESH_INLINE struct mesh_budget_step mesh_budget_take(__u64 word, const struct mesh_budget_policy *p,
						     __u64 now_ms)
{
	__u64 level = mesh_budget_level(word, p, now_ms);
	struct mesh_budget_step s = {word, 0};

	if (level < 1000)
		return s;
	s.word = mesh_budget_word(word, level - 1000, now_ms);
	s.granted = 1;
	return s;
}

#endif
