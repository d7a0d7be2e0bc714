/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers that take longer than the loop may wait: a handler does a part of the work, puts its
 * request aside here, and is called again in the next round of the loop. What it has so far hangs
 * on the request (request.work), and is freed with it. Called by api_red.c and api_graph.c.
 */
#ifndef MESHD_WORKS_H
#define MESHD_WORKS_H

#include "lib/clock.h"
#include "lib/loop.h"

#define WORKS_MAX     64	 /* requests that wait for their turn */
#define WORKS_BEGUN   2		 /* of which so many have begun: work takes memory */
#define WORKS_PART_NS 8000000ull /* of work in one round */

struct request;

struct works {
	struct loop *loop;
	struct request *first, **last; /* in turn */
	unsigned number;
	unsigned begun; /* counted by those who begin and end */
	bool ending;
	struct timer timer;
};

void works_init(struct works *w, struct loop *l);
/* Suspends the request, which takes its turn. false: nothing was done, it has been answered (503):
 * there are too many, or meshd ends. */
bool works_wait(struct works *w, struct request *r);
/* From now on nobody waits any more: who does is called once more, and refused if it wants to. */
void works_end(struct works *w);

#endif
