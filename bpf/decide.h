/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The decision code in two forms, compiled into decide.test.bpf.c for the kernel and into
 * tests/bpf/test_decide.c natively, whose results must be the same: single cases, inputs and
 * outputs; and sequences, whose steps each change the words that the step before has left.
 */
#ifndef BPF_DECIDE_H
#define BPF_DECIDE_H

#include <mesh/breaker.h>
#include <mesh/brief.h>
#include <mesh/budget.h>
#include <mesh/bulkhead.h>
#include <mesh/ewma.h>
#include <mesh/pick.h>
#include <mesh/sticky.h>

#define DECIDE_BATCH 1024
#define DECIDE_LANES 16 /* sequences side by side */

struct decide_in {
	__u64 word, latency_ns, now_ns;
	__u64 cost_a, cost_b;
	__u32 failed, inflight, rnd, dt;
	__u32 weight, serving;
	struct mesh_upstream up;
};

struct decide_out {
	__u64 fade, read, update, cost, load, brief;
	__u32 stamp, age, split, among, slot_a, slot_b, p2c, hold_back;
};

struct decide_case {
	struct decide_in in;
	struct decide_out out;
};

static inline void decide(const struct decide_in *in, struct decide_out *out)
{
	out->fade = mesh_ewma_fade(in->word >> 32, in->dt);
	out->read = mesh_ewma_read(in->word, in->now_ns);
	out->update = mesh_ewma_update(in->word, in->latency_ns, in->now_ns, in->failed);
	out->stamp = mesh_ewma_stamp(in->now_ns);
	out->age = mesh_ewma_age(in->word, in->now_ns);
	out->cost = mesh_pick_cost(in->latency_ns, in->inflight);
	out->load = mesh_pick_load(in->inflight, in->weight);
	out->split = mesh_pick_split(&in->up, in->rnd);
	out->among = mesh_pick_split_among(&in->up, in->serving, in->rnd >> 16);
	out->brief = mesh_brief_add(
		in->word, mesh_brief_by_tcp(in->inflight, in->rnd & 15, in->cost_a), in->now_ns);
	out->hold_back = mesh_brief_hold_back(out->brief, in->weight, in->now_ns + (in->rnd & 15));
	out->slot_a = mesh_pick_slot_a(in->rnd);
	out->slot_b = mesh_pick_slot_b(in->rnd);
	out->p2c = mesh_pick_p2c(out->slot_a, in->cost_a, out->slot_b, in->cost_b);
}

/* What a sequence carries from step to step. */
struct decide_lane {
	__u64 window[MESH_WINDOW];
	__u64 breaker, budget, ewma;
	__u64 leases[4]; /* those that are out, by turns: late ones come about by themselves */
	struct mesh_bulkhead_use use;
	struct mesh_sticky best;
	__u32 consecutive, pad;
};

enum decide_what {
	DECIDE_ADMIT,  /* and earn */
	DECIDE_RESULT, /* count, trip, average */
	DECIDE_PROBED,
	DECIDE_DROPPED,
	DECIDE_RETRY,
	DECIDE_HAND,
	DECIDE_ENTER, /* the bulkhead */
	DECIDE_CONNECT,
	DECIDE_LEAVE,
	DECIDE_AMEND,
	DECIDE_STICKY,
	DECIDE_WHATS,
};

struct decide_step {
	__u32 lane, what;
	__u64 now_ms, key;
	__u32 failed, latency_us, rnd, hand;
	struct mesh_breaker_policy breaker;
	struct mesh_budget_policy budget;
	struct mesh_bulkhead_policy bulkhead;
};

struct decide_after {
	struct decide_lane lane;
	struct mesh_tally tally;
	__u64 level;
	__u32 said, state;
};

struct decide_move {
	struct decide_step in;
	struct decide_after out;
};

static inline void decide_admit(const struct decide_step *in, struct decide_lane *l,
				struct decide_after *out)
{
	struct mesh_breaker_step s = mesh_breaker_admit(l->breaker, &in->breaker, in->now_ms);

	l->breaker = s.word;
	l->budget = mesh_budget_earn(l->budget, &in->budget, in->now_ms);
	if (s.verdict == MESH_PROBE)
		l->leases[in->rnd & 3] = s.lease;
	out->said = s.verdict;
}

static inline void decide_result(const struct decide_step *in, struct decide_lane *l,
				 struct decide_after *out)
{
	__u32 turn = mesh_window_turn(in->breaker.window_ms, in->now_ms),
	      i = mesh_window_index(turn);

	l->window[i] = mesh_window_add(l->window[i], turn, in->failed);
	l->consecutive = in->failed ? l->consecutive + 1 : 0;
	out->tally = mesh_breaker_tally(l->breaker, &in->breaker, l->window, in->now_ms);
	l->breaker =
		mesh_breaker_trip(l->breaker, &in->breaker, out->tally, l->consecutive, in->now_ms);
	l->ewma = mesh_ewma_update(l->ewma, in->latency_us * 1000ULL, in->now_ms * 1000000ULL,
				   in->failed);
}

/* One that was good has failed in the end. */
static inline void decide_amend(const struct decide_step *in, struct decide_lane *l,
				struct decide_after *out)
{
	__u32 turn = mesh_window_turn(in->breaker.window_ms, in->now_ms),
	      i = mesh_window_index(turn);

	l->window[i] = mesh_window_amend(l->window[i], turn);
	out->tally = mesh_breaker_tally(l->breaker, &in->breaker, l->window, in->now_ms);
	l->breaker = mesh_breaker_trip(l->breaker, &in->breaker, out->tally, 0, in->now_ms);
}

static inline void decide_retry(const struct decide_step *in, struct decide_lane *l,
				struct decide_after *out)
{
	struct mesh_budget_step s = mesh_budget_take(l->budget, &in->budget, in->now_ms);

	l->budget = s.word;
	out->said = s.granted;
}

static inline void decide_enter(const struct decide_step *in, struct decide_lane *l,
				struct decide_after *out)
{
	out->said = mesh_bulkhead_request(&in->bulkhead, &l->use);
	if (out->said == MESH_BULKHEAD_NONE) {
		l->use.requests++;
		l->use.from_source += in->rnd & 1;
	}
}

static inline void decide_connect(const struct decide_step *in, struct decide_lane *l,
				  struct decide_after *out)
{
	out->said = mesh_bulkhead_connect(&in->bulkhead, &l->use);
	if (out->said == MESH_BULKHEAD_NONE)
		l->use.connections++;
	if (out->said == MESH_BULKHEAD_CONNECTIONS)
		l->use.pending++;
}

static inline void decide_leave(const struct decide_step *in, struct decide_lane *l)
{
	if (l->use.from_source && l->use.from_source >= l->use.requests)
		l->use.from_source--;
	if (l->use.requests)
		l->use.requests--;
	if (l->use.pending)
		l->use.pending--;
	else if (l->use.connections && in->rnd & 2)
		l->use.connections--;
}

static inline void decide_sticky(const struct decide_step *in, struct decide_lane *l,
				 struct decide_after *out)
{
	if (!(in->rnd & 15))
		l->best.ep = MESH_NONE;
	out->said = mesh_sticky_full(l->use.requests, in->rnd >> 16 & 127, in->rnd >> 4 & 31);
	l->best = mesh_sticky_consider(l->best, in->rnd, mesh_sticky_score(in->key, in->rnd),
				       out->said);
}

/* One step of a sequence. */
static inline void decide_follow(const struct decide_step *in, struct decide_lane *l,
				 struct decide_after *out)
{
	__u64 lease = l->leases[in->rnd & 3];

	out->tally.total = out->tally.failed = out->said = 0;
	switch (in->what) {
	case DECIDE_ADMIT:
		decide_admit(in, l, out);
		break;
	case DECIDE_RESULT:
		decide_result(in, l, out);
		break;
	case DECIDE_AMEND:
		decide_amend(in, l, out);
		break;
	case DECIDE_PROBED:
		l->breaker = mesh_breaker_probed(l->breaker, &in->breaker, lease, in->failed,
						 in->now_ms);
		break;
	case DECIDE_DROPPED:
		l->breaker = mesh_breaker_dropped(l->breaker, lease);
		break;
	case DECIDE_RETRY:
		decide_retry(in, l, out);
		break;
	case DECIDE_HAND:
		l->breaker = mesh_breaker_hand(in->hand, in->now_ms);
		break;
	case DECIDE_ENTER:
		decide_enter(in, l, out);
		break;
	case DECIDE_CONNECT:
		decide_connect(in, l, out);
		break;
	case DECIDE_LEAVE:
		decide_leave(in, l);
		break;
	default:
		decide_sticky(in, l, out);
	}
	out->level = mesh_budget_level(l->budget, &in->budget, in->now_ms);
	out->state = mesh_breaker_state(l->breaker);
	out->lane = *l;
}

#endif
