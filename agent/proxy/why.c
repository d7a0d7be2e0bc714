/* SPDX-License-Identifier: Apache-2.0 */
/* See why.h. */
#include "agent/proxy/why.h"
#include "agent/proxy/balance.h"
#include "agent/proxy/downstream.h"
#include "agent/proxy/proxy.h"

#include <mesh/ewma.h>
#include <string.h>

#define LOOK_AGAIN_NS 1000000000ULL

void why_tried(struct exchange *ex, enum mesh_cause cause)
{
	struct tried *t = ex->tried;
	uint32_t i = 0;

	if (!ex->up) /* between two tries */
		return;
	while (i < ex->ntried && (t[i].endpoint != ex->endpoint || t[i].gen != ex->gen))
		i++;
	if (i == EXCHANGE_TRIED)
		return;
	if (i == ex->ntried)
		t[ex->ntried++] = (struct tried){.endpoint = ex->endpoint, .gen = ex->gen};
	t[i].times++;
	t[i].cause = (uint8_t)cause;
	t[i].status = cause == CAUSE_NONE ? ex->status : 0;
}

/* --- endpoints -----------------------------------------------------------------------------------
 */

struct list {
	const struct exchange *ex;
	uint16_t n;
	struct why_candidate of[WHY_CANDIDATES];
};

static const struct tried *find_tried(const struct exchange *ex, uint32_t endpoint, uint32_t gen)
{
	for (uint32_t i = 0; i < ex->ntried; i++)
		if (ex->tried[i].endpoint == endpoint && ex->tried[i].gen == gen)
			return &ex->tried[i];
	return NULL;
}

/* compared: it could have been drawn. */
static void add(struct list *l, uint32_t id, bool compared)
{
	const struct exchange *ex = l->ex;
	struct proxy *p = ex->proxy;
	const struct mesh_ep_stat *st = &p->shared.ep_stats[id];
	struct why_candidate *c = &l->of[l->n];
	const struct tried *t;
	struct mesh_endpoint e;

	for (uint16_t i = 0; i < l->n; i++)
		if (l->of[i].endpoint == id)
			return;
	if (l->n == WHY_CANDIDATES || !shared_endpoint(&p->shared, id, &e) ||
	    e.service != ex->service)
		return;
	if (!compared && e.port != ex->target.port && !(e.flags & MESH_EP_EXTERNAL))
		return; /* another port's */
	*c = (struct why_candidate){.endpoint = id,
				    .gen = e.gen,
				    .breaker = __atomic_load_n(&st->breaker, __ATOMIC_RELAXED),
				    .in_flight = shared_inflight(&p->shared, id),
				    .flags = e.flags};
	c->latency_ns =
		mesh_ewma_read(__atomic_load_n(&st->ewma, __ATOMIC_RELAXED), p->loop.now_ns);
	if (compared && ex->target.policy == MESH_LB_P2C)
		c->cost = balance_cost(p, MESH_LB_P2C, id);
	t = find_tried(ex, id, e.gen);
	if (t) {
		c->tried = t->times;
		c->status = t->status;
		c->cause = t->cause;
	}
	l->n++;
}

static void add_table(struct list *l)
{
	const struct exchange *ex = l->ex;
	const struct mesh_slots *t;
	uint32_t last = MESH_NONE;

	if (ex->subset >= MESH_MAX_SUBSETS)
		return;
	t = shared_slots(&ex->proxy->shared, ex->subset);
	if (!__atomic_load_n(&t->n, __ATOMIC_RELAXED))
		return;
	for (uint32_t i = 0; i < MESH_SLOTS; i++) {
		uint32_t id =
			__atomic_load_n(&t->ep[i], __ATOMIC_RELAXED) & (MESH_MAX_ENDPOINTS - 1);

		if (id != last)
			add(l, id, true);
		last = id;
	}
}

static bool in_use(const struct proxy *p, uint32_t id)
{
	return __atomic_load_n(&p->shared.endpoints[id].flags, __ATOMIC_RELAXED) & MESH_EP_USED;
}

/* How many indices there are to look at: they are given out from the lowest on, so that what is new
 * since the last look comes next. */
static uint32_t endpoints_in_use(struct proxy *p)
{
	uint32_t n = MESH_MAX_ENDPOINTS;

	if (p->endpoints_seen_ns && p->loop.now_ns - p->endpoints_seen_ns < LOOK_AGAIN_NS) {
		while (p->endpoints_seen < n && in_use(p, p->endpoints_seen))
			p->endpoints_seen++;
		return p->endpoints_seen;
	}
	while (n && !in_use(p, n - 1))
		n--;
	p->endpoints_seen_ns = p->loop.now_ns;
	p->endpoints_seen = n;
	return n;
}

/* Who has no slots: ejected, unhealthy, draining, or of another version. */
static void add_others(struct list *l)
{
	const struct exchange *ex = l->ex;
	struct proxy *p = ex->proxy;
	uint32_t n = ex->service == MESH_NONE ? 0 : endpoints_in_use(p);

	for (uint32_t i = 0; i < n && l->n < WHY_CANDIDATES; i++)
		if (__atomic_load_n(&p->shared.endpoints[i].service, __ATOMIC_RELAXED) ==
		    ex->service)
			add(l, i, false);
}

static void collect(struct list *l, const struct exchange *ex)
{
	l->ex = ex;
	l->n = 0;
	for (uint32_t i = 0; i < ex->ntried; i++)
		add(l, ex->tried[i].endpoint, true);
	add_table(l);
	add_others(l);
}

/* --- the record ----------------------------------------------------------------------------------
 */

static void fill_gauges(struct record_why *w, const struct exchange *ex)
{
	const struct proxy *p = ex->proxy;
	const struct mesh_svc_stat *st = &p->shared.svc_stats[ex->service];
	const struct mesh_svc_inflight *g = &p->shared.svc_inflight[ex->service];

	w->breaker = __atomic_load_n(&st->breaker, __ATOMIC_RELAXED);
	w->budget = __atomic_load_n(&st->budget, __ATOMIC_RELAXED);
	for (uint32_t i = 0; i < MESH_MAX_WORKERS; i++) {
		w->requests += __atomic_load_n(&g->worker[i].requests, __ATOMIC_RELAXED);
		w->connections += __atomic_load_n(&g->worker[i].connections, __ATOMIC_RELAXED);
		w->pending += __atomic_load_n(&g->worker[i].pending, __ATOMIC_RELAXED);
	}
	w->from_source = bulkhead_from_source(p, ex->service, ex->down);
}

static void fill(struct record_why *w, const struct exchange *ex, const struct list *l)
{
	const char *trace;
	uint32_t trace_len;
	char *text;

	trace = trace_name(&ex->trace, &trace_len);
	w->kind = RECORD_WHY;
	w->flags = (uint8_t)(ex->flags | RECORD_LOCAL |
			     (ex->down->upstream == MESH_NONE ? RECORD_GATEWAY : 0));
	w->cause = ex->cause;
	w->tries = ex->tries;
	w->start_ns = ex->start_ns;
	w->duration_ns = ex->proxy->loop.now_ns - ex->start_ns;
	w->caller = ex->down->caller;
	w->service = ex->service;
	w->status = ex->status;
	w->ncandidates = l->n;
	w->request_id_len = ex->request_id_len;
	w->trace_id_len = (uint16_t)trace_len;
	w->route_len = (uint16_t)ex->routed.name_len;
	if (ex->service < MESH_MAX_SERVICES)
		fill_gauges(w, ex);
	memcpy(w + 1, l->of, l->n * sizeof(*l->of));
	text = (char *)(w + 1) + l->n * sizeof(*l->of);
	memcpy(text, ex->request_id, ex->request_id_len);
	text += ex->request_id_len;
	memcpy(text, trace, trace_len);
	memcpy(text + trace_len, ex->route, ex->routed.name_len);
}

void why_record(const struct exchange *ex)
{
	struct ring *ring = ex->proxy->ring;
	uint32_t text, size;
	struct record_why *w;
	struct list l;

	if (!ex->request_id_len)
		return;
	if (ring_used(ring) > RING_SIZE / 2) {
		__atomic_fetch_add(&ring->whys_skipped, 1, __ATOMIC_RELAXED);
		return;
	}
	collect(&l, ex);
	trace_name(&ex->trace, &text);
	text += ex->request_id_len + ex->routed.name_len;
	size = (uint32_t)(sizeof(*w) + l.n * sizeof(*l.of) + text + 7) & ~7u;
	w = ring_reserve(ring, size);
	if (!w)
		return;
	*w = (struct record_why){.size = size};
	fill(w, ex, &l);
	ring_commit(ring, size);
}
