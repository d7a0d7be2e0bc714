/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Is it worth looking for a moment before going to sleep? Waking a sleeper on an idle CPU costs the
 * waker an interrupt and both of them some microseconds, on a virtual machine many; when the next
 * event is due within a few microseconds, looking is cheaper for both. When it is not, looking
 * wastes SPIN_NS of a CPU that somebody else may want: so each miss quadruples the number of
 * sleeps until the next attempt, and each hit halves it: with more than a third of misses it soon
 * gives up. An idle or a lonely thread thus looks once in SPIN_REST_MAX sleeps, a busy one on a CPU
 * of its own nearly always.
 *
 * Decisions only: lib/loop.c does the looking.
 */
#ifndef LIB_SPIN_H
#define LIB_SPIN_H

#include <stdbool.h>
#include <stdint.h>

#define SPIN_NS	      20000
#define SPIN_REST_MIN 4
#define SPIN_REST_MAX 4096

/* All zero at the beginning. */
struct spin {
	uint32_t rest;	  /* sleeps until the next attempt */
	uint32_t penalty; /* what the next miss costs, in sleeps */
};

/* Asked before each sleep. */
static inline bool spin_wanted(struct spin *s)
{
	if (!s->rest)
		return true;
	s->rest--;
	return false;
}

static inline void spin_hit(struct spin *s)
{
	s->penalty /= 2;
}

static inline void spin_missed(struct spin *s)
{
	if (s->penalty < SPIN_REST_MIN)
		s->penalty = SPIN_REST_MIN;
	s->rest = s->penalty;
	s->penalty = s->penalty > SPIN_REST_MAX / 4 ? SPIN_REST_MAX : s->penalty * 4;
}

#endif
