/* SPDX-License-Identifier: Apache-2.0 */
/* See ring.h. */
#include "ctl/meshd/red/ring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define RECORDS_MAX (64u << 20)
#define WRONG_S	    3600 /* a clock that was later by more than that was wrong */

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
	/* a floor of before the clock was put right says nothing */
	return inside(at_s, now_s) && (at_s >= g->floor_s || g->floor_s > now_s + WRONG_S);
}

/* Something of that second is not there, or not any more: that must be known, also should the clock
 * be put back. */
static void missing(struct red_ring *g, uint64_t at_s)
{
	if (at_s >= g->floor_s)
		g->floor_s = at_s + 1;
}

static void drop(struct red_ring *g, struct red_second *s)
{
	missing(g, s->at_s);
	empty(g, s);
}

static void drop_oldest(struct red_ring *g)
{
	struct red_second *oldest = NULL;

	for (int i = 0; i < RED_RING_S; i++) {
		struct red_second *s = &g->second[i];

		if (s->len && (!oldest || s->at_s < oldest->at_s))
			oldest = s;
	}
	if (oldest)
		drop(g, oldest);
}

/* n cells of one second. Without memory that second is not whole, nor is what was before it. */
static void pack(struct red_ring *g, const struct red_cell *cell, uint32_t n)
{
	struct red_second *s = &g->second[cell->start_s % RED_RING_S];
	uint8_t *records = NULL;
	struct buf b;

	if (s->len && s->at_s != cell->start_s)
		drop(g, s);
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
		missing(g, cell->start_s);
	}
	buf_done(&b);
	while (g->bytes > RED_RING_BYTES)
		drop_oldest(g);
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
			pack(g, &g->open.cell[from], to - from);
		else
			missing(g, at_s);
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
	if (g->open.bytes > RED_OPEN_BYTES)
		pack_until(g, UINT64_MAX, now_s);
	else if (any_before(&g->open, now_s - RED_OPEN_S + 1))
		pack_until(g, now_s - RED_OPEN_S + 1, now_s);
}

int red_ring_add(struct red_ring *g, uint64_t at_s, struct red_series *s, const struct red_sum *sum,
		 uint64_t now_s)
{
	bool held = inside(at_s, now_s);
	int r = held ? red_cells_add(&g->open, at_s, s, sum) : 0;

	if (!held || r)
		missing(g, at_s);
	if (g->open.bytes > RED_OPEN_BYTES)
		pack_until(g, UINT64_MAX, now_s);
	return r;
}

size_t red_ring_memory(const struct red_ring *g)
{
	return sizeof(*g) + g->bytes + g->open.bytes;
}
