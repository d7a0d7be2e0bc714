/* SPDX-License-Identifier: Apache-2.0 */
/* See traces.h: what is in the recorder and not listed is listed when somebody looks for it. */
#include "ctl/meshd/traces/impl.h"
#include "lib/clock.h"

#include <errno.h>
#include <string.h>

#define SLACK_MS 60000

/* --- by name --------------------------------------------------------------------------- */

struct chain {
	uint32_t number; /* of an unlisted record */
	bool any;	 /* there is one */
	bool kept;	 /* there is one with which the trace is kept */
};

static struct chain look_at(struct traces *t, uint32_t mark)
{
	struct chain c = {0};
	uint32_t n;

	for (bool more = t->recorder && recorder_newest(t->recorder, mark, &n); more;
	     more = recorder_next(t->recorder, mark, &n)) {
		const struct recorded *e = recorder_at(t->recorder, n);

		if (e->flags & RECORDED_LISTED)
			continue;
		if (record_too_old(t, n))
			break;
		if (!c.kept)
			c.number = n;
		c.any = true;
		c.kept = c.kept || e->flags & RECORDED_KEPT;
	}
	return c;
}

/* All of that trace, if there is a reason to keep it; in a transaction. */
static int list_trace(struct traces *t, const uint8_t key[16], const struct chain *c)
{
	struct trace_row *row;
	int r = row_of(t, key, &row);

	if (r)
		return r;
	if (row)
		return records_join(t, row);
	return c->kept ? record_list(t, c->number) : 0; /* the others join it */
}

/* What cannot be written is missing in the answer. */
static bool demand_key(struct traces *t, const uint8_t key[16])
{
	struct chain c = {0};

	if (t->recorder)
		c = look_at(t, recorder_mark(t->recorder, key));
	return !c.any || (!rows_begin(t) && rows_end(t, list_trace(t, key, &c)) >= 0 && !t->late);
}

/* The key of the newest trace that has this name besides its own. */
static bool find_alias(struct traces *t, const char *id, const uint8_t bytes[16], uint8_t key[16])
{
	uint64_t end_ns = clock_mono_ns() + TRACES_DEMAND_MS * 1000000ull;
	struct record_batch_view v;
	const struct record *rec;
	uint32_t first, n;

	recorder_range(t->recorder, &first, &n);
	while (n-- != first && clock_mono_ns() < end_ns) {
		const struct recorded *e = recorder_at(t->recorder, n);

		if ((e->flags & (RECORDED_ALIAS | RECORDED_LISTED)) != RECORDED_ALIAS)
			continue;
		rec = recorder_read(t->recorder, n, &v);
		if (!rec || !span_has_trace(rec, id, bytes))
			continue;
		memcpy(key, rec->trace_id, 16);
		return true;
	}
	return false;
}

int demand_trace(struct traces *t, const char *id, struct trace_row *row, bool *complete)
{
	size_t len = strlen(id);
	uint8_t key[16], other[16];
	int r;

	*complete = true;
	if (!t->db.sqlite)
		return -EIO;
	if (!trace_id_usable(id, len))
		return -ENOENT;
	trace_id_bytes(id, len, key);
	*complete = demand_key(t, key);
	r = db_trace_by_name(&t->db, id, row);
	if (!r && memcmp(row->key, key, sizeof(key)))
		memcpy(other, row->key, sizeof(other)); /* an alias of it */
	else if (r != -ENOENT || !t->recorder || !find_alias(t, id, key, other))
		return r;
	*complete = demand_key(t, other) && *complete;
	return db_trace_by_name(&t->db, id, row);
}

/* --- by what they were ----------------------------------------------------------------- */

struct search {
	struct traces *t;
	const struct traces_filter *f;
	uint16_t service, source; /* tags */
	uint32_t min_us;
	uint64_t end_ns;
	unsigned found, looked;
	bool began, late;
};

static bool is_edge(const struct search *s, const struct recorded *e)
{
	return (!s->f->source || e->caller == s->source) &&
	       (!s->f->service || e->service == s->service);
}

/* Has it what, of a trace that is looked for, is rarest? Where one is found its trace is looked at;
 * most records are none. */
static bool may_begin(const struct search *s, const struct recorded *e)
{
	if (e->looked == s->t->search || e->flags & RECORDED_NONE)
		return false;
	if (s->f->error > 0)
		return e->flags & RECORDED_ERROR;
	return s->min_us ? e->took_us >= s->min_us : is_edge(s, e);
}

/* Could this trace be one that is looked for? What the recorder does not know exactly (who is the
 * root) the database will. Marks all of it as looked at. */
static bool fits(struct search *s, uint32_t mark, struct chain *c)
{
	bool service = !s->f->service, edge = !s->f->source, slow = !s->min_us, error = false;
	struct recorder *r = s->t->recorder;
	bool kept = false;
	uint32_t n;

	*c = (struct chain){0};
	for (bool more = recorder_newest(r, mark, &n); more; more = recorder_next(r, mark, &n)) {
		struct recorded *e = recorder_at(r, n);

		e->looked = s->t->search;
		s->looked++;
		service = service || e->service == s->service;
		edge = edge || is_edge(s, e);
		slow = slow || e->took_us >= s->min_us;
		error = error || e->flags & RECORDED_ERROR;
		kept = kept || e->flags & (RECORDED_LISTED | RECORDED_KEPT);
		if (e->flags & RECORDED_LISTED)
			continue;
		if (!c->kept)
			c->number = n;
		c->any = true;
		c->kept = c->kept || e->flags & RECORDED_KEPT;
	}
	return kept && service && edge && slow && (s->f->error < 0 || s->f->error == error);
}

/* One that fits: it counts whether something of it is to be listed or not. */
static int list_one(struct search *s, const struct chain *c)
{
	struct record_batch_view v;
	const struct record *rec;
	uint8_t key[16];
	int r = s->began || !c->any ? 0 : rows_begin(s->t);

	s->found++;
	if (r || !c->any)
		return r;
	s->began = true;
	rec = recorder_read(s->t->recorder, c->number, &v);
	if (!rec) /* not in the file as it was */
		return record_list(s->t, c->number);
	memcpy(key, rec->trace_id, sizeof(key));
	return list_trace(s->t, key, c);
}

static bool is_over(struct search *s)
{
	s->late = s->late || clock_mono_ns() > s->end_ns;
	return s->late || s->found >= s->f->limit;
}

static int search_batch(struct search *s, const struct recorder_batch *b)
{
	struct chain c;
	int r = 0;

	for (uint32_t i = b->n; i-- && r >= 0;) {
		const struct recorded *e = recorder_at(s->t->recorder, b->first + i);

		if (!may_begin(s, e))
			continue;
		if (fits(s, e->mark, &c))
			r = list_one(s, &c);
		else if (++s->looked < 1024)
			continue;
		s->looked = 0;
		if (is_over(s))
			break;
	}
	return r;
}

/* Could a trace of it stand in that part of a list? As it began, or as it came in when that is
 * earlier; its root may have been in another batch, somewhat before or after. */
static bool in_time(const struct search *s, const struct recorder_batch *b)
{
	int64_t came = (int64_t)b->came_ms, first = b->first_us / 1000, last = b->last_us / 1000;

	first = first < came ? first : came;
	last = last < came ? last : came;
	return (s->f->since_ms <= last + SLACK_MS) &&
	       (s->f->until_ms >= INT64_MAX - SLACK_MS || first <= s->f->until_ms + SLACK_MS);
}

static int search_all(struct search *s)
{
	struct recorder *r = s->t->recorder;
	uint64_t now = clock_wall_ms();
	struct recorder_counts n;
	int err = 0;

	recorder_count(r, &n);
	for (uint32_t i = n.batches; i-- && err >= 0 && !is_over(s);) {
		const struct recorder_batch *b = recorder_batch(r, i);

		if (b->came_ms + s->t->o.age_ms < now)
			break;
		if (in_time(s, b))
			err = search_batch(s, b);
	}
	return err;
}

void demand_list(struct traces *t, const struct traces_filter *f, bool *complete)
{
	struct search s = {.t = t,
			   .f = f,
			   .min_us = f->min_us > UINT32_MAX ? UINT32_MAX : (uint32_t)f->min_us,
			   .end_ns = clock_mono_ns() + TRACES_DEMAND_MS * 1000000ull};
	int r;

	*complete = true;
	if (!t->recorder)
		return;
	if (!++t->search)
		t->search = 1;
	s.service = f->service ? recorder_tag(t->recorder, f->service) : 0;
	s.source = f->source ? recorder_tag(t->recorder, f->source) : 0;
	r = search_all(&s);
	if (s.began)
		r = rows_end(t, r);
	*complete = r >= 0 && !s.late;
}
