/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Does a service gain by skipping TCP? Judged by the pattern of its enrolled connections, once for
 * so much evidence. Pure: plain values in and out, no clock of its own, whoever calls.
 *
 * Rule, from what redirect costs and saves on one host (docs/performance.md): a message that its
 * reader waits for gains, whatever its size, and so do large ones. Nothing gain
 *   - small messages that follow each other one way: TCP merges them, redirect does not;
 *   - connections that carry a few messages only: to enrol both ends costs more than these save.
 * Who gains nothing is not enrolled any more, but for a few connections, by which it is measured
 * on; when these are too rare to tell, all new ones are enrolled for a moment, ever less often. A
 * state ends when two judgements in a row contradict it, and it takes a clearer pattern to come
 * back than to stay.
 */
#ifndef MESH_GAIN_H
#define MESH_GAIN_H

#include <mesh/abi.h>

enum mesh_gain_state {
	MESH_GAIN_YES,	   /* or not known yet */
	MESH_GAIN_ONE_WAY, /* small messages one way */
	MESH_GAIN_NEW,	   /* mostly new connections */
};

/* Evidence for one judgement: either of them. */
#define MESH_GAIN_MESSAGES     4096
#define MESH_GAIN_CLOSED       64

#define MESH_GAIN_JUDGEMENTS   2      /* in a row that end a state */
#define MESH_GAIN_STALE_MS     600000 /* incomplete evidence older than this is forgotten */
#define MESH_GAIN_WAIT_MS      30000  /* before the first trial; doubled by each that fails */
#define MESH_GAIN_WAIT_MOST_MS (20 * MESH_GAIN_WAIT_MS)
#define MESH_GAIN_TRIAL_MS     5000 /* how long a trial may last */
#define MESH_GAIN_TRIAL	       16   /* connections enrolled in a trial, after which no more are */

/* hold_back of mesh_splice_steer, in thousandths of new connections. */
#define MESH_GAIN_CONTROL  10  /* while it gains: the control group */
#define MESH_GAIN_MEASURED 990 /* while it does not: the others are measured */

/* What enrolled connections of an upstream did since the last step. */
struct mesh_gain_sample {
	__u64 opened, closed; /* connections */
	__u64 messages, turns, bytes;
	__u64 held_back; /* connections that were opened and not enrolled, though they could be */
};

/* All zero: nothing known. */
struct mesh_gain {
	__u64 closed, messages, turns, bytes; /* evidence */
	__u64 evidence_ms;		      /* when the first of it came */
	__u64 retry_ms;			      /* next trial, while it does not gain */
	__u64 trial_ms;			      /* since when one runs; 0: none does */
	__u64 since_ms;			      /* of the state */
	__u32 state;			      /* enum mesh_gain_state */
	__u32 against;			      /* judgements in a row that contradict it */
	__u32 wait_ms;			      /* between trials */
	__u32 trials;			      /* connections of the running one */
	__u32 judged;			      /* judgements in all; wraps */
	__u32 pad;
};

/* What this evidence says. Coming back to YES takes half as much again as staying there. */
static inline __u32 mesh_gain_judge(const struct mesh_gain *g)
{
	__u64 run = g->state == MESH_GAIN_YES ? 8 : 5;
	__u64 small = g->state == MESH_GAIN_YES ? 8192 : 12288;
	__u64 few = g->state == MESH_GAIN_YES ? 6 : 9;

	if (g->closed >= MESH_GAIN_CLOSED / 2 && g->messages < few * g->closed)
		return MESH_GAIN_NEW;
	if (g->messages >= MESH_GAIN_CLOSED && g->messages >= run * g->turns &&
	    g->bytes < small * g->messages)
		return MESH_GAIN_ONE_WAY;
	return MESH_GAIN_YES;
}

static inline void mesh_gain_enter(struct mesh_gain *g, __u32 state, __u64 now_ms)
{
	__u32 settled = now_ms - g->since_ms > MESH_GAIN_STALE_MS;

	/* who comes and goes is tried less and less often, until it has stayed for a while */
	if (!g->wait_ms || (state != MESH_GAIN_YES && settled))
		g->wait_ms = MESH_GAIN_WAIT_MS;
	g->state = state;
	g->since_ms = now_ms;
	g->retry_ms = now_ms + g->wait_ms;
}

static inline void mesh_gain_conclude(struct mesh_gain *g, __u64 now_ms)
{
	__u32 said = mesh_gain_judge(g);

	g->closed = g->messages = g->turns = g->bytes = 0;
	g->trial_ms = 0;
	g->judged++;
	if ((said == MESH_GAIN_YES) == (g->state == MESH_GAIN_YES)) {
		g->against = 0;
		if (said != MESH_GAIN_YES) {
			g->state = said; /* one of them or the other: not enrolled it is */
			g->wait_ms = g->wait_ms > MESH_GAIN_WAIT_MOST_MS / 2
					     ? MESH_GAIN_WAIT_MOST_MS
					     : g->wait_ms * 2;
			g->retry_ms = now_ms + g->wait_ms;
		}
		return;
	}
	g->against++;
	g->retry_ms = now_ms + 1; /* the second judgement is to come soon */
	if (g->against < MESH_GAIN_JUDGEMENTS)
		return;
	g->against = 0;
	mesh_gain_enter(g, said, now_ms);
}

static inline void mesh_gain_try(struct mesh_gain *g, const struct mesh_gain_sample *s,
				 __u64 now_ms)
{
	if (g->trial_ms) {
		g->trials += s->opened;
		if (g->trials < MESH_GAIN_TRIAL && now_ms - g->trial_ms < MESH_GAIN_TRIAL_MS)
			return;
		g->trial_ms = 0;
		g->retry_ms = now_ms + g->wait_ms;
	} else if (now_ms >= g->retry_ms && s->held_back) {
		g->trial_ms = now_ms ? now_ms : 1;
		g->trials = 0;
	}
}

/* One step, about once a second. Returns hold_back: how many thousandths of the new connections are
 * not to be enrolled from now on. */
static inline __u32 mesh_gain_step(struct mesh_gain *g, const struct mesh_gain_sample *s,
				   __u64 now_ms)
{
	if (!g->messages && !g->closed)
		g->evidence_ms = now_ms;
	g->closed += s->closed;
	g->messages += s->messages;
	g->turns += s->turns;
	g->bytes += s->bytes;
	if (g->messages >= MESH_GAIN_MESSAGES || g->closed >= MESH_GAIN_CLOSED)
		mesh_gain_conclude(g, now_ms);
	else if (now_ms - g->evidence_ms > MESH_GAIN_STALE_MS)
		g->closed = g->messages = g->turns = g->bytes = 0;
	if (g->state == MESH_GAIN_YES)
		return MESH_GAIN_CONTROL;
	mesh_gain_try(g, s, now_ms);
	return g->trial_ms ? 0 : MESH_GAIN_MEASURED;
}

#endif
