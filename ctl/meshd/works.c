/* SPDX-License-Identifier: Apache-2.0 */
/* See works.h. */
#include "ctl/meshd/works.h"
#include "ctl/meshd/server.h"

#include <stddef.h>

static void on_turn(struct timer *t);

void works_init(struct works *w, struct loop *l)
{
	*w = (struct works){.loop = l, .last = &w->first};
}

/* One at each turn: between two of them the loop does everything else that is due. */
static void resume_first(struct works *w)
{
	struct request *r = w->first;

	w->first = r->next;
	if (!w->first)
		w->last = &w->first;
	w->number--;
	request_resume(r);
}

static void on_turn(struct timer *t)
{
	struct works *w = (struct works *)((char *)t - offsetof(struct works, timer));

	if (w->first)
		resume_first(w);
	if (w->first)
		timer_arm(w->loop, &w->timer, 0, on_turn);
}

bool works_wait(struct works *w, struct request *r)
{
	if (w->ending || w->number >= WORKS_MAX) {
		reply_error(r, 503, NULL, "%s",
			    w->ending ? "meshd ends"
				      : "too many long questions at the same time: ask again");
		return false;
	}
	r->next = NULL;
	*w->last = r;
	w->last = &r->next;
	w->number++;
	request_suspend(r);
	timer_arm(w->loop, &w->timer, 0, on_turn);
	return true;
}

void works_end(struct works *w)
{
	w->ending = true;
	timer_cancel(w->loop, &w->timer);
	while (w->first)
		resume_first(w);
}
