/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The retry budget of a service, shared by all workers: a bucket of tokens in one 64-bit word. Each
 * request earns a share of a token, each second some more, each retry costs a whole one (after
 * Finagle's RetryBudget). What is not used is kept for one second's worth only, so that a failure
 * after a quiet hour does not begin with a storm.
 *
 * Word: high 32 bits time in ms (CLOCK_MONOTONIC, wraps after 49 days, which then counts as a full
 * second), low 32 bits thousandths of a token. 0: nobody has asked yet.
 */
#ifndef MESH_BUDGET_H
#define MESH_BUDGET_H

#include <mesh/abi.h>

#define MESH_BUDGET_LEAST 10 /* tokens that can be kept at least */

struct mesh_budget_policy {
	__u32 percent_pm; /* of the requests, in hundredths of a percent */
	__u32 per_second; /* and so many always */
};

struct mesh_budget_step {
	__u64 word;
	__u32 granted;
};

static inline __u64 mesh_budget_cap(const struct mesh_budget_policy *p)
{
	__u64 tokens = p->per_second > MESH_BUDGET_LEAST ? p->per_second : MESH_BUDGET_LEAST;

	return tokens * 1000;
}

/* Thousandths of a token there are now. */
static inline __u64 mesh_budget_level(__u64 word, const struct mesh_budget_policy *p, __u64 now_ms)
{
	__u64 have = word & 0xffffffff, cap = mesh_budget_cap(p);
	__u32 dt = (__u32)now_ms - (__u32)(word >> 32);

	if (!word)
		return (__u64)p->per_second * 1000;
	if (dt > 0x7fffffff) /* another's clock reading was ahead of ours */
		dt = 0;
	if (dt > 1000)
		dt = 1000;
	have += (__u64)dt * p->per_second;
	return have < cap ? have : cap;
}

static inline __u64 mesh_budget_word(__u64 level, __u64 now_ms)
{
	__u64 word = now_ms << 32 | (level & 0xffffffff);

	return word ? word : 1;
}

/* The word after one more request. */
static inline __u64 mesh_budget_earn(__u64 word, const struct mesh_budget_policy *p, __u64 now_ms)
{
	__u64 level = mesh_budget_level(word, p, now_ms) + p->percent_pm / 10,
	      cap = mesh_budget_cap(p);

	return mesh_budget_word(level < cap ? level : cap, now_ms);
}

/* Asks for one retry. */
static inline struct mesh_budget_step
mesh_budget_take(__u64 word, const struct mesh_budget_policy *p, __u64 now_ms)
{
	__u64 level = mesh_budget_level(word, p, now_ms);
	struct mesh_budget_step s = {word, 0};

	if (level < 1000)
		return s;
	s.word = mesh_budget_word(level - 1000, now_ms);
	s.granted = 1;
	return s;
}

#endif
