/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Does a service gain by skipping TCP? Judged by the pattern of its enrolled connections, once for
 * so much evidence. Pure: plain values in and out, no clock of its own, whoever calls.
 *
 * Rule, from what redirect costs and saves on one host (docs/performance.md): a message that its
 * reader waits for gains, whatever its size, and so do large ones. Nothing gain
 *   - small messages that follow each other one way: TCP merges them, redirect does not;
 *   - streams that redirect cannot hold (a sender faster than its reader): they go by TCP, and more
 *     slowly than without;
 *   - those that are slower than the control group, whatever the reason, when the caller can prove
 * it. Who gains nothing is not enrolled any more, but for a few connections, by which it is
 * measured on; when these are too rare to tell, all new ones are enrolled for a moment, ever less
 * often. A state ends when three judgements in a row contradict it, and it takes a clearer pattern
 * to come back than to stay.
 *
 * Of a stream of larger messages the pattern says too little: whether it gains is a matter of its
 * congestion control, of the CPUs and of its reader. So there is a contest: half of its new
 * connections are held back until the two halves are told apart, or so many have closed that the
 * faster one on average is right often enough. Its result holds for a while. Connections that do
 * not close decide nothing; then what part of the bytes went by TCP has to do.
 *
 * Whether connections are too brief is not judged here: the kernel has that word (mesh/brief.h) and
 * holds back by itself. Here it is said, once for each change that lasts.
 */
#ifndef MESH_GAIN_H
#define MESH_GAIN_H

#include <mesh/abi.h>

enum mesh_gain_state {
	MESH_GAIN_YES,	   /* or not known yet */
	MESH_GAIN_ONE_WAY, /* small messages one way */
	MESH_GAIN_NEW,	  /* mostly new connections, says mesh/brief.h; never in struct mesh_gain */
	MESH_GAIN_BY_TCP, /* streams that mostly went by TCP all the same */
	MESH_GAIN_SLOWER, /* than the control group */
	MESH_GAIN_STATES,
};

/* Evidence for one judgement: any of them. */
#define MESH_GAIN_MESSAGES   4096
#define MESH_GAIN_CLOSED     64
#define MESH_GAIN_BYTES	     (256u << 20)

#define MESH_GAIN_JUDGEMENTS 3	    /* in a row that end a state */
#define MESH_GAIN_STALE_MS   600000 /* incomplete evidence older than this is forgotten */
#define MESH_GAIN_BRIEF_MS   15000  /* after which what was brief is said to be no more */
/* Before the first trial, and at most; doubled by each that fails: it costs a stream its speed for
 * as long as its connection lives. */
#define MESH_GAIN_WAIT_MS      30000
#define MESH_GAIN_WAIT_MOST_MS 600000
#define MESH_GAIN_TRIAL_MS     5000 /* how long a trial may last */
#define MESH_GAIN_TRIAL	       16   /* connections enrolled in a trial, after which no more are */

#define MESH_GAIN_LARGE	       2048 /* bytes of a message from which a row is a stream */
#define MESH_GAIN_CONTEST_MOST 64   /* judgements in a contest, then it is given up */

/* hold_back of mesh_splice_steer, in thousandths of new connections. */
#define MESH_GAIN_HALF	   500 /* in a contest */
#define MESH_GAIN_CONTROL  10  /* while it gains: the control group */
#define MESH_GAIN_MEASURED 990 /* while it does not: the others are measured */

enum mesh_gain_contest {
	MESH_GAIN_NO_CONTEST,
	MESH_GAIN_CONTEST, /* it runs */
	MESH_GAIN_WON,	   /* by those that are enrolled */
	MESH_GAIN_LOST,
	MESH_GAIN_GIVEN_UP,
};

/* What enrolled connections of an upstream did since the last step. */
struct mesh_gain_sample {
	__u64 opened, closed; /* connections */
	__u64 messages, turns, bytes;
	__u64 redirected; /* of the bytes */
	__u64 held_back;  /* connections that were opened and not enrolled, though they could be */
	__u32 slower;	  /* 1: it is proven that they are slower than the control group */
	__u32 contest;	  /* MESH_GAIN_WON or _LOST: what the running contest has come to; else 0 */
	__u32 brief;	  /* 1: the kernel holds back since they are brief */
	__u32 pad;
};

/* All zero: nothing known. */
struct mesh_gain {
	__u64 closed, messages, turns, bytes, redirected; /* evidence */
	__u64 evidence_ms;				  /* when the first of it came */
	__u64 retry_ms;					  /* next trial, while it does not gain */
	__u64 trial_ms;					  /* since when one runs; 0: none does */
	__u64 since_ms;					  /* of the state */
	__u64 brief_ms;	  /* when the kernel last held back; 0: not lately */
	__u32 state;	  /* enum mesh_gain_state */
	__u32 against;	  /* judgements in a row that contradict it */
	__u32 wait_ms;	  /* between trials */
	__u32 trials;	  /* connections of the running one */
	__u32 judged;	  /* judgements in all; wraps */
	__u32 slower;	  /* as of the last sample */
	__u32 contest;	  /* enum mesh_gain_contest */
	__u32 rounds;	  /* judgements in the running contest */
	__u32 contests;	  /* begun in all; wraps */
	__u64 contest_ms; /* when the last one began or ended */
};

static inline __u32 mesh_gain_is_row(const struct mesh_gain *g)
{
	return g->messages >= MESH_GAIN_CLOSED &&
	       g->messages >= (g->state == MESH_GAIN_YES ? 8 : 5) * g->turns;
}

/* Messages one way that TCP has little to merge of. */
static inline __u32 mesh_gain_is_stream(const struct mesh_gain *g)
{
	__u64 large = g->state == MESH_GAIN_YES ? MESH_GAIN_LARGE : MESH_GAIN_LARGE * 3 / 2;

	return mesh_gain_is_row(g) && g->bytes >= large * g->messages;
}

static inline __u32 mesh_gain_judge_stream(const struct mesh_gain *g)
{
	if (g->contest == MESH_GAIN_LOST)
		return MESH_GAIN_SLOWER;
	if (g->contest == MESH_GAIN_CONTEST || g->contest == MESH_GAIN_WON)
		return MESH_GAIN_YES;
	return g->redirected < g->bytes / (g->state == MESH_GAIN_YES ? 4 : 2) ? MESH_GAIN_BY_TCP
									      : MESH_GAIN_YES;
}

/* What this evidence says. Coming back to YES takes half as much again as staying there. */
static inline __u32 mesh_gain_judge(const struct mesh_gain *g)
{
	__u32 said = MESH_GAIN_YES;

	if (mesh_gain_is_stream(g))
		said = mesh_gain_judge_stream(g);
	else if (mesh_gain_is_row(g))
		return MESH_GAIN_ONE_WAY;
	return said == MESH_GAIN_YES && g->slower ? MESH_GAIN_SLOWER : said;
}

static inline void mesh_gain_wait(struct mesh_gain *g, __u64 wait_ms, __u64 now_ms)
{
	g->wait_ms = (__u32)(wait_ms < MESH_GAIN_WAIT_MS	? MESH_GAIN_WAIT_MS
			     : wait_ms > MESH_GAIN_WAIT_MOST_MS ? MESH_GAIN_WAIT_MOST_MS
								: wait_ms);
	g->retry_ms = now_ms + g->wait_ms;
}

static inline void mesh_gain_enter(struct mesh_gain *g, __u32 state, __u64 now_ms)
{
	__u32 settled = now_ms - g->since_ms > MESH_GAIN_STALE_MS;

	g->state = state;
	g->since_ms = now_ms;
	/* who comes and goes is tried less and less often, until it has stayed for a while */
	mesh_gain_wait(g, state != MESH_GAIN_YES && settled ? 0 : g->wait_ms, now_ms);
}

static inline void mesh_gain_contest_begin(struct mesh_gain *g, __u64 now_ms)
{
	g->contest = MESH_GAIN_CONTEST;
	g->contest_ms = now_ms;
	g->contests++;
	g->rounds = 0;
}

static inline void mesh_gain_contest_end(struct mesh_gain *g, __u32 contest, __u64 now_ms)
{
	__u32 won = contest == MESH_GAIN_WON;

	g->contest = contest;
	g->contest_ms = now_ms;
	g->against = 0;
	if (contest == MESH_GAIN_GIVEN_UP && g->state == MESH_GAIN_YES)
		return;
	if (won != (g->state == MESH_GAIN_YES))
		mesh_gain_enter(g, won ? MESH_GAIN_YES : MESH_GAIN_SLOWER, now_ms);
	else if (!won)
		mesh_gain_wait(g, 2ULL * g->wait_ms, now_ms);
}

/* One more judgement's worth of traffic in a contest; or a stream of which no result holds. */
static inline void mesh_gain_contest_round(struct mesh_gain *g, __u64 now_ms)
{
	__u32 holds = g->contest && now_ms - g->contest_ms < MESH_GAIN_STALE_MS;

	if (g->contest == MESH_GAIN_CONTEST && ++g->rounds > MESH_GAIN_CONTEST_MOST)
		mesh_gain_contest_end(g, MESH_GAIN_GIVEN_UP, now_ms);
	else if (g->contest != MESH_GAIN_CONTEST && !holds && g->state == MESH_GAIN_YES &&
		 mesh_gain_is_stream(g))
		mesh_gain_contest_begin(g, now_ms);
}

/* A judgement that does not contradict the state. */
static inline void mesh_gain_agree(struct mesh_gain *g, __u32 said, __u64 now_ms)
{
	g->against = 0;
	if (said == MESH_GAIN_YES)
		return;
	g->state = said;	      /* whichever: not enrolled it is */
	if (said != MESH_GAIN_SLOWER) /* else who is measured says nothing new */
		mesh_gain_wait(g, 2ULL * g->wait_ms, now_ms);
}

static inline void mesh_gain_contradict(struct mesh_gain *g, __u32 said, __u64 now_ms)
{
	g->against++;
	g->retry_ms = now_ms + 1; /* the next judgement is to come soon */
	if (g->against < MESH_GAIN_JUDGEMENTS)
		return;
	g->against = 0;
	if (g->contest == MESH_GAIN_CONTEST || said == MESH_GAIN_SLOWER)
		g->contest = MESH_GAIN_NO_CONTEST;
	mesh_gain_enter(g, said, now_ms);
}

static inline void mesh_gain_conclude(struct mesh_gain *g, __u64 now_ms)
{
	__u32 said, row = mesh_gain_is_row(g);

	mesh_gain_contest_round(g, now_ms);
	said = mesh_gain_judge(g);
	g->closed = g->messages = g->turns = g->bytes = g->redirected = 0;
	g->trial_ms = 0;
	g->judged++;
	if (row && g->contest == MESH_GAIN_CONTEST && g->state != MESH_GAIN_YES)
		return; /* which is about to be decided by better evidence */
	if ((said == MESH_GAIN_YES) == (g->state == MESH_GAIN_YES))
		mesh_gain_agree(g, said, now_ms);
	else
		mesh_gain_contradict(g, said, now_ms);
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
		if (!g->against && (g->state == MESH_GAIN_SLOWER || g->state == MESH_GAIN_BY_TCP)) {
			mesh_gain_contest_begin(g, now_ms);
			return;
		}
		g->trial_ms = now_ms ? now_ms : 1;
		g->trials = 0;
	}
}

/* What is said of it. The supervisor's own state comes first. */
static inline __u32 mesh_gain_said(const struct mesh_gain *g)
{
	return g->state == MESH_GAIN_YES && g->brief_ms ? MESH_GAIN_NEW : g->state;
}

static inline void mesh_gain_add(struct mesh_gain *g, const struct mesh_gain_sample *s,
				 __u64 now_ms)
{
	if (!g->messages && !g->closed)
		g->evidence_ms = now_ms;
	g->closed += s->closed;
	g->messages += s->messages;
	g->turns += s->turns;
	g->bytes += s->bytes;
	g->redirected += s->redirected;
	if (s->brief)
		g->brief_ms = now_ms ? now_ms : 1;
	else if (now_ms - g->brief_ms > MESH_GAIN_BRIEF_MS)
		g->brief_ms = 0;
	g->slower = s->slower;
}

/* One step, some times a second while there is traffic. Returns hold_back: how many thousandths of
 * the new connections are not to be enrolled from now on. */
static inline __u32 mesh_gain_step(struct mesh_gain *g, const struct mesh_gain_sample *s,
				   __u64 now_ms)
{
	mesh_gain_add(g, s, now_ms);
	if (g->contest == MESH_GAIN_CONTEST && s->contest)
		mesh_gain_contest_end(g, s->contest, now_ms);
	else if (g->contest == MESH_GAIN_CONTEST && now_ms - g->contest_ms > MESH_GAIN_STALE_MS)
		mesh_gain_contest_end(g, MESH_GAIN_GIVEN_UP, now_ms);
	if (g->messages >= MESH_GAIN_MESSAGES || g->closed >= MESH_GAIN_CLOSED ||
	    g->bytes >= MESH_GAIN_BYTES)
		mesh_gain_conclude(g, now_ms);
	else if (now_ms - g->evidence_ms > MESH_GAIN_STALE_MS)
		g->closed = g->messages = g->turns = g->bytes = g->redirected = 0;
	if (g->contest != MESH_GAIN_CONTEST && g->state != MESH_GAIN_YES)
		mesh_gain_try(g, s, now_ms);
	if (g->contest == MESH_GAIN_CONTEST)
		return MESH_GAIN_HALF;
	if (g->state == MESH_GAIN_YES)
		return MESH_GAIN_CONTROL;
	return g->trial_ms ? 0 : MESH_GAIN_MEASURED;
}

#endif
