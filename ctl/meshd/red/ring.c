/* SPDX-License-Identifier: Apache-2.0 */
/* See ring.h. */
#include "ctl/meshd/red/ring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define RECORDS_MAX (64u << 20)
#define SOON_S	    (RED_FUTURE_MS / 1000) /* later than that nothing is taken as being */

static void empty(struct red_ring *g, struct red_second *s)
{
	g->bytes -= s->len;
	free(s->records);
	*s = (struct red_second){0};
}

void red_ring_done(struct red_ring *g)
{
	for (int i = 0; i < RED_RING_S; i++)
		empty(g, &g->second[i]);
	red_cells_done(&g->open);
}

static bool inside(uint64_t at_s, uint64_t now_s)
{
	return at_s + RED_RING_S > now_s && at_s <= now_s + RED_FUTURE_MS / 1000;
}

bool red_ring_holds(const struct red_ring *g, uint64_t at_s, uint64_t now_s)
{
	return inside(at_s, now_s) && at_s >= g->floor_s && !(g->gap_to_s && at_s >= g->gap_from_s);
}

/* Something of that second is not there, or not any more: that must be known also when the clock
 * has been put back since. What has yet to come is no matter of now, but will be. */
static void missing(struct red_ring *g, uint64_t at_s, uint64_t now_s)
{
	if (at_s <= now_s + SOON_S) {
		g->floor_s = at_s >= g->floor_s ? at_s + 1 : g->floor_s;
		return;
	}
	g->gap_from_s = !g->gap_to_s || at_s < g->gap_from_s ? at_s : g->gap_from_s;
	g->gap_to_s = at_s >= g->gap_to_s ? at_s + 1 : g->gap_to_s;
}

/* What was to come comes to pass; a floor that is to come is of a clock that has been put back. Up
 * to then nothing is whole that the wrong clock can have touched. */
static void clock_is(struct red_ring *g, uint64_t now_s)
{
	uint64_t soon = now_s + SOON_S + 1, floor_s = g->floor_s;

	if (floor_s > soon) {
		g->floor_s = soon;
		missing(g, floor_s - 1, now_s);
		missing(g, floor_s - soon > RED_RING_S ? floor_s - RED_RING_S : soon, now_s);
	}
	if (!g->gap_to_s || g->gap_from_s >= soon)
		return;
	floor_s = g->gap_to_s < soon ? g->gap_to_s : soon;
	g->floor_s = floor_s > g->floor_s ? floor_s : g->floor_s;
	g->gap_from_s = soon;
	if (g->gap_to_s <= soon)
		g->gap_from_s = g->gap_to_s = 0;
}

static void drop(struct red_ring *g, struct red_second *s, uint64_t now_s)
{
	missing(g, s->at_s, now_s);
	empty(g, s);
}

static void drop_oldest(struct red_ring *g, uint64_t now_s)
{
	struct red_second *oldest = NULL;

	for (int i = 0; i < RED_RING_S; i++) {
		struct red_second *s = &g->second[i];

		if (s->len && (!oldest || s->at_s < oldest->at_s))
			oldest = s;
	}
	if (oldest)
		drop(g, oldest, now_s);
}

/* n cells of one second. Without memory that second is not whole, nor is what was before it. */
static void pack(struct red_ring *g, const struct red_cell *cell, uint32_t n, uint64_t now_s)
{
	struct red_second *s = &g->second[cell->start_s % RED_RING_S];
	uint8_t *records = NULL;
	struct buf b;

	if (s->len && s->at_s != cell->start_s)
		drop(g, s, now_s);
	buf_init(&b, RECORDS_MAX);
	for (uint32_t i = 0; i < n; i++)
		red_record_put(&b, &cell[i].series->key, cell[i].series->id, false, &cell[i].sum);
	if (!b.failed)
		records = realloc(s->records, s->len + b.len);
	if (records) {
		memcpy(records + s->len, b.data, b.len);
		s->at_s = cell->start_s;
		s->records = records;
		s->len += (uint32_t)b.len;
		g->bytes += b.len;
	} else {
		missing(g, cell->start_s, now_s);
	}
	buf_done(&b);
	while (g->bytes > RED_RING_BYTES)
		drop_oldest(g, now_s);
}

/* All of before a second. */
static void pack_until(struct red_ring *g, uint64_t until_s, uint64_t now_s)
{
	uint32_t from = 0, to = 0;

	red_cells_sort(&g->open);
	while (from < g->open.n && g->open.cell[from].start_s < until_s) {
		uint64_t at_s = g->open.cell[from].start_s;

		for (to = from; to < g->open.n && g->open.cell[to].start_s == at_s;)
			to++;
		if (inside(at_s, now_s))
			pack(g, &g->open.cell[from], to - from, now_s);
		else
			missing(g, at_s, now_s);
		from = to;
	}
	red_cells_remove(&g->open, from);
}

static bool any_before(const struct red_cells *c, uint64_t until_s)
{
	for (uint32_t i = 0; i < c->n; i++)
		if (c->cell[i].start_s < until_s)
			return true;
	return false;
}

void red_ring_pack(struct red_ring *g, uint64_t now_s)
{
	clock_is(g, now_s);
	if (g->open.bytes > RED_OPEN_BYTES)
		pack_until(g, UINT64_MAX, now_s);
	else if (any_before(&g->open, now_s - RED_OPEN_S + 1))
		pack_until(g, now_s - RED_OPEN_S + 1, now_s);
}

int red_ring_add(struct red_ring *g, uint64_t at_s, struct red_series *s, const struct red_sum *sum,
		 uint64_t now_s)
{
	bool held = inside(at_s, now_s);
	int r;

	clock_is(g, now_s);
	r = held ? red_cells_add(&g->open, at_s, s, sum) : 0;

	if (!held || r)
		missing(g, at_s, now_s);
	if (g->open.bytes > RED_OPEN_BYTES)
		pack_until(g, UINT64_MAX, now_s);
	return r;
}

size_t red_ring_memory(const struct red_ring *g)
{
	return sizeof(*g) + g->bytes + g->open.bytes;
}
