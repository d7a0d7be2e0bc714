/* SPDX-License-Identifier: Apache-2.0 */
/* See trace.h: ids, and whether a trace is sampled. */
#include "agent/proxy/trace.h"
#include "agent/proxy/downstream.h"
#include "agent/proxy/exchange.h"
#include "agent/proxy/proxy.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#define SECOND_NS 1000000000ULL
#define BURST_NS  (2 * SECOND_NS) /* what was not used may be made up for */

int trace_source_init(struct trace_source *s)
{
	uint64_t seed[2];

	*s = (struct trace_source){0};
	if (getrandom(seed, sizeof(seed), 0) != sizeof(seed))
		return -errno;
	s->state = seed[0];
	s->step = seed[1] | 1;
	return 0;
}

void trace_limit(struct trace_source *s, uint32_t limit, uint32_t workers)
{
	s->interval_ns = limit ? SECOND_NS * workers / limit : 0;
}

/* A bijection (David Stafford's variant 13 of MurmurHash3's finalizer, as in SplitMix64). */
static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
	return x ^ x >> 31;
}

/* Of 2^64 numbers each comes once before any comes again; 0 is left out. */
static uint64_t next(struct trace_source *s)
{
	uint64_t id;

	do
		id = mix(s->state += s->step);
	while (!id);
	return id;
}

void trace_begin(struct trace *t, struct trace_source *s)
{
	uint64_t id[2] = {next(s), next(s)}, span = id[1];

	if (!t->named) {
		span = next(s);
		memcpy(t->id, &id[0], 8); /* each as it comes, which is sooner there to be read */
		memcpy(t->id + 8, &id[1], 8);
		trace_hex(t->hex, t->id, sizeof(t->id));
		t->random = true;
	}
	memcpy(t->span, &span, sizeof(t->span));
	trace_hex(t->span_hex, t->span, sizeof(t->span));
	t->begun = true;
}

void trace_shadow(struct trace *t, struct trace_source *s)
{
	uint64_t span = next(s);

	if (!t->begun)
		return;
	memcpy(t->span, &span, sizeof(t->span));
	trace_hex(t->span_hex, t->span, sizeof(t->span));
	t->sampled = t->debug = false;
}

/* The last eight bytes, mixed: ids of others may differ in a few bits only. */
static bool is_drawn(const struct trace *t, uint32_t share)
{
	uint64_t low = 0;

	if (!share || share >= SNAP_ALL)
		return share;
	for (int i = 8; i < 16; i++)
		low = low << 8 | t->id[i];
	return (mix(low) >> 32) * SNAP_ALL >> 32 < share;
}

/* The half of a burst that is left for others stays as it is with requests that are set aside. */
static bool is_within(struct trace_source *s, bool aside, uint64_t now_ns)
{
	uint64_t burst = s->interval_ns > BURST_NS ? s->interval_ns : BURST_NS,
		 left = aside ? burst / 2 : 0;

	if (!s->interval_ns)
		return true;
	if (now_ns > burst && s->spent_ns < now_ns - burst)
		s->spent_ns = now_ns - burst;
	if (s->spent_ns + s->interval_ns + left > now_ns)
		return false;
	s->spent_ns += s->interval_ns;
	return true;
}

bool trace_draw(const struct trace *t, struct trace_source *s, uint32_t share, uint64_t now_ns,
		bool *within)
{
	*within = true;
	if (t->decision != TRACE_UNDECIDED)
		return t->decision == TRACE_YES;
	if (!is_drawn(t, share))
		return false;
	*within = is_within(s, t->aside, now_ns);
	return *within;
}

/* --- exchanges -----------------------------------------------------------------------------------
 */

void trace_request(struct exchange *ex, const char *head)
{
	if (ex->proxy->unobserved)
		return;
	trace_read(&ex->trace, &ex->request, head);
	trace_begin(&ex->trace, &ex->proxy->traces);
	ex->flags |= RECORD_TRACED | (ex->trace.named ? 0 : RECORD_ROOT);
}

void trace_decide(struct exchange *ex)
{
	struct proxy *p = ex->proxy;
	const struct snap_service *s =
		p->snapshot ? snapshot_service(p->snapshot, ex->service) : NULL;
	bool within;

	if (!ex->trace.begun)
		return;
	/* anybody can send very many of these, and they must not use up the others' limit */
	ex->trace.aside = ex->service == MESH_NONE;
	ex->trace.sampled = trace_draw(&ex->trace, &p->traces, s ? s->sampling : SNAP_ALL,
				       p->loop.now_ns, &within);
	if (ex->trace.sampled)
		ex->flags |= RECORD_SAMPLED;
	if (!within)
		__atomic_fetch_add(&p->ring->unsampled, 1, __ATOMIC_RELAXED);
}
