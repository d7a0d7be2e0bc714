/* SPDX-License-Identifier: Apache-2.0 */
/* See queue.h. */
#include "agent/proxy/queue.h"
#include "agent/proxy/bulkhead.h"
#include "agent/proxy/downstream.h"
#include "agent/proxy/proxy.h"

static void look(struct timer *t);

bool queue_waits(const struct proxy *p, uint32_t service)
{
	return p->queues[service].first;
}

static void insert(struct exchange *ex, struct exchange **at)
{
	struct queue *q = &ex->proxy->queues[ex->service];

	ex->next_queued = *at;
	ex->prev_queued = at;
	if (ex->next_queued)
		ex->next_queued->prev_queued = &ex->next_queued;
	else
		q->last = &ex->next_queued;
	*at = ex;
}

void queue_join(struct exchange *ex)
{
	struct proxy *p = ex->proxy;
	struct queue *q = &p->queues[ex->service];

	insert(ex, ex->woken || !q->first ? &q->first : q->last);
	ex->woken = false;
	bulkhead_waits(p, ex->service);
	if (!p->nqueued++)
		timer_arm(&p->loop, &p->queue_look, QUEUE_LOOK_MS, look);
}

void queue_leave(struct exchange *ex)
{
	struct proxy *p = ex->proxy;

	if (!ex->prev_queued)
		return;
	*ex->prev_queued = ex->next_queued;
	if (ex->next_queued)
		ex->next_queued->prev_queued = ex->prev_queued;
	else
		p->queues[ex->service].last = ex->prev_queued;
	ex->prev_queued = NULL;
	bulkhead_waited(p, ex->service);
	if (!--p->nqueued)
		timer_cancel(&p->loop, &p->queue_look);
}

void queue_wake(struct proxy *p, uint32_t service)
{
	struct exchange *ex = p->queues[service].first;

	if (!ex || p->gives_up)
		return;
	ex->woken = true;
	downstream_again(ex->down);
}

static void look(struct timer *t)
{
	struct proxy *p = (struct proxy *)((char *)t - offsetof(struct proxy, queue_look));

	for (uint32_t i = 0; i < MESH_MAX_SERVICES; i++)
		queue_wake(p, i);
	timer_arm(&p->loop, t, QUEUE_LOOK_MS, look);
}

/* While ours wait too, one for each look of the others is enough. */
bool queue_gives_up(struct proxy *p, uint32_t service)
{
	uint64_t now_ms = p->loop.now_ns / 1000000;
	bool ours = queue_waits(p, service);

	if (p->workers < 2 || (ours && now_ms - p->gave_up_ms < QUEUE_LOOK_MS) ||
	    !bulkhead_is_owed(p, service, ours))
		return false;
	if (ours)
		p->gave_up_ms = now_ms;
	return true;
}
