/* SPDX-License-Identifier: Apache-2.0 */
/* See scan.h. */
#include "ctl/meshd/red/scan.h"

#include <errno.h>
#include <string.h>

/* --- the ring ------------------------------------------------------------------------ */

static int visit_packed(struct red *r, const struct red_scan *q, const struct red_second *second,
			const struct red_service *service)
{
	const uint8_t *at = second->records, *end = at + second->len;
	struct red_record rec;
	int err = 0;

	while (!err && red_record_get(&at, end, false, &rec) > 0) {
		const struct red_series *s = red_table_by_id(r->table, rec.id);

		if (!s || (service && s->to != service))
			continue;
		rec.key = s->key;
		err = q->visit(q->arg, second->at_s, &rec);
	}
	return err;
}

/* Cells that are not packed or not written yet. */
static int visit_cells(const struct red_scan *q, const struct red_cells *c, uint64_t from_s,
		       uint64_t to_s, const struct red_service *service)
{
	int err = 0;

	for (uint32_t i = 0; i < c->n && !err; i++) {
		const struct red_cell *cell = &c->cell[i];
		struct red_record rec = {
			.key = cell->series->key, .id = cell->series->id, .sum = cell->sum};

		if (cell->start_s >= from_s && cell->start_s < to_s &&
		    (!service || cell->series->to == service))
			err = q->visit(q->arg, cell->start_s, &rec);
	}
	return err;
}

static int scan_ring(struct red *r, const struct red_scan *q, uint64_t from_s, uint64_t to_s)
{
	const struct red_service *service =
		q->service ? red_table_find(r->table, q->service) : NULL;
	int err = 0;

	if (q->service && !service)
		return 0;
	for (uint64_t at = from_s; at < to_s && !err; at++) {
		const struct red_second *second = &r->ring.second[at % RED_RING_S];

		if (second->at_s == at)
			err = visit_packed(r, q, second, service);
	}
	return err ? err : visit_cells(q, &r->ring.open, from_s, to_s, service);
}

/* --- the coarse tiers ---------------------------------------------------------------- */

static int visit_row(void *arg, uint64_t start_s, const void *records, size_t len)
{
	const struct red_scan *q = arg;
	const uint8_t *at = records, *end = at + len;
	struct red_record rec;
	int err = 0;

	while (!err && red_record_get(&at, end, true, &rec) > 0)
		err = q->visit(q->arg, start_s, &rec);
	return err;
}

static int scan_tier(struct red *r, const struct red_scan *q, unsigned tier, uint64_t from_s,
		     uint64_t to_s)
{
	const struct red_service *service =
		q->service ? red_table_find(r->table, q->service) : NULL;
	int err = 0;

	if (r->disk)
		err = red_disk_cells(r->disk, tier, q->service, from_s, to_s, visit_row, (void *)q);
	for (unsigned i = 0; i < RED_SHARDS && !err && (service || !q->service); i++)
		err = visit_cells(q, &r->tier[tier].cells[i], from_s, to_s, service);
	return err;
}

/* --- which tier ---------------------------------------------------------------------- */

/* slack_s: what begins earlier by that is still there. */
static bool kept(const struct red *r, unsigned tier, uint64_t at_s, uint64_t slack_s,
		 uint64_t now_s)
{
	return tier ? at_s + r->tier[tier].keep_s + slack_s >= now_s
		    : red_ring_holds(&r->ring, at_s, now_s);
}

uint64_t red_scan_resolution(const struct red *r, uint64_t at_s, uint64_t now_s)
{
	unsigned t = 0;

	while (t + 1 < RED_TIERS && !kept(r, t, at_s, 0, now_s))
		t++;
	return r->tier[t].step_s;
}

static unsigned tier_at(const struct red *r, const struct red_scan *q, uint64_t at_s)
{
	unsigned t = RED_TIERS - 1;

	for (; t > 0; t--) {
		uint64_t step = r->tier[t].step_s;

		if (at_s % step == 0 && at_s + step <= q->to_s && q->step_s % step == 0 &&
		    kept(r, t, at_s, step, q->now_s))
			return t;
	}
	while (t + 1 < RED_TIERS && !kept(r, t, at_s, r->tier[t].step_s, q->now_s))
		t++;
	return t;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Of the coarse tiers; UINT64_MAX: they have nothing; 0: it cannot be read. */
static uint64_t oldest_cell(struct red *r)
{
	uint64_t oldest = UINT64_MAX, disk_s = 0;

	for (unsigned t = 1; t < RED_TIERS; t++) {
		if (r->disk && red_disk_oldest_s(r->disk, t, &disk_s))
			return 0;
		if (disk_s)
			oldest = earlier(oldest, disk_s);
		for (unsigned i = 0; i < RED_SHARDS; i++)
			for (uint32_t c = 0; c < r->tier[t].cells[i].n; c++)
				oldest = earlier(oldest, r->tier[t].cells[i].cell[c].start_s);
	}
	return oldest;
}

/* Days of which nothing is kept need no reading: where they end, at a bucket of every tier. The
 * seconds in memory are always read, as the coarse tiers may have had to let go of theirs. */
static uint64_t begin_at(struct red *r, const struct red_scan *q)
{
	uint64_t step = r->tier[RED_TIERS - 1].step_s, ring_s, at;

	if (q->from_s + step >= q->to_s)
		return q->from_s;
	ring_s = q->now_s > RED_RING_S ? q->now_s - RED_RING_S : 0;
	at = earlier(earlier(oldest_cell(r), ring_s), q->to_s);
	at -= at % step;
	return at > q->from_s ? at : q->from_s;
}

/* Buckets that are read at once, of all services or of one. */
static const uint64_t part[RED_TIERS][2] = {{60, RED_RING_S}, {16, 360}, {2, 96}};

int red_scan(struct red *r, struct red_scan *q)
{
	uint64_t at = q->at_s > q->from_s ? q->at_s : begin_at(r, q), from, step, most;
	int err;
	unsigned t;

	if (at >= q->to_s)
		return 0;
	t = tier_at(r, q, at);
	step = r->tier[t].step_s;
	from = at - at % step;
	most = from + step * part[t][q->service != NULL];
	for (at = from + step; at < q->to_s && at < most && tier_at(r, q, at) == t;)
		at += step;
	err = t ? scan_tier(r, q, t, from, at) : scan_ring(r, q, from, at);
	q->at_s = at;
	return err ? err : at < q->to_s;
}
