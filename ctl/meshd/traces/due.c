/* SPDX-License-Identifier: Apache-2.0 */
/* See traces.h: what of the recorder becomes rows although nobody asks for it. That is decided when
 * it comes, and done before long, for many at once: a row in a transaction of its own costs five
 * times as much, and who asks in the meantime finds it in the recorder. */
#include "ctl/meshd/traces/impl.h"
#include "lib/clock.h"

/* --- which ----------------------------------------------------------------------------- */

bool spend(struct bucket *b, uint64_t now_ms)
{
	if (now_ms > b->filled_ms) {
		b->tokens_ms += (now_ms - b->filled_ms) * b->rate;
		b->filled_ms = now_ms;
		if (b->tokens_ms > b->most * 1000ull)
			b->tokens_ms = b->most * 1000ull;
	}
	if (b->tokens_ms < 1000)
		return false;
	b->tokens_ms -= 1000;
	return true;
}

/* A service of which nothing was listed for a while is not to be starved by one that has much. */
static bool spend_of(struct traces *t, struct bucket *b, const struct recorded *e)
{
	uint32_t *served = &t->served[e->service], now = (uint32_t)t->now_ms;

	if (!spend(b, t->now_ms) &&
	    (now - *served < TRACES_QUIET_MS || !spend(&t->quiet, t->now_ms)))
		return false;
	*served = now;
	return true;
}

static bool is_due(struct traces *t, const struct recorded *e)
{
	if (e->flags & RECORDED_LISTED)
		return false;
	if (t->lately[e->mark % LATELY] == e->mark || !(e->flags & RECORDED_KEPT))
		return spend(&t->more, t->now_ms);
	return spend_of(t, e->flags & RECORDED_URGENT ? &t->urgent : &t->first, e);
}

/* When too many wait, for nothing can be written, others are found on demand. */
void due_add(struct traces *t, uint32_t number)
{
	struct recorded *e = recorder_at(t->recorder, number);
	struct due *d = &t->due;

	if (d->n == DUE_MAX || !is_due(t, e))
		return;
	e->flags |= RECORDED_DUE;
	if (e->flags & RECORDED_KEPT) /* what comes of its trace from now on is more of it */
		t->lately[e->mark % LATELY] = e->mark;
	d->number[(d->first + d->n++) % DUE_MAX] = number;
}

/* --- when ------------------------------------------------------------------------------ */

static int list_one(struct traces *t, uint64_t until_ns, bool *began)
{
	uint32_t number = t->due.number[t->due.first % DUE_MAX];
	const struct recorded *e = recorder_at(t->recorder, number);
	bool wanted = e && !(e->flags & RECORDED_LISTED);
	int r = wanted && !*began ? rows_begin(t) : 0;

	if (r)
		return r; /* nothing can be written: it stays */
	t->due.first++;
	t->due.n--;
	if (!wanted)
		return 0;
	*began = true;
	t->join_until_ns = until_ns;
	return record_list(t, number);
}

void due_hurry(struct traces *t)
{
	struct due *d = &t->due;
	uint32_t number = d->number[d->first % DUE_MAX];

	if (d->n && (!recorder_at(t->recorder, number) || recorder_half_gone(t->recorder, number)))
		(void)traces_list_due(t, t->now_ms);
}

bool traces_list_due(struct traces *t, uint64_t now_ms)
{
	uint64_t until_ns = clock_mono_ns() + t->o.turn_ms * 1000000;
	bool began = false;
	int r = 0;

	t->now_ms = now_ms;
	while (!r && t->due.n && clock_mono_ns() <= until_ns)
		r = list_one(t, until_ns, &began);
	if (began)
		r = rows_end(t, r); /* what failed is found on demand */
	return !r && t->due.n;
}
