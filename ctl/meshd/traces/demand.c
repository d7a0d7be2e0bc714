/* SPDX-License-Identifier: Apache-2.0 */
/* See traces.h: what is in the recorder and not listed is listed when somebody looks for it. */
#include "ctl/meshd/traces/impl.h"
#include "lib/clock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define SLACK_MS   60000
#define LOOK_STEPS 512 /* between two looks at the clock; a power of two */

/* --- by name --------------------------------------------------------------------------- */

struct chain {
	uint32_t number; /* of an unlisted record */
	bool any;	 /* there is one */
	bool kept;	 /* there is one with which the trace is kept */
	bool due;	 /* there is one that would have been listed unasked */
	bool late;	 /* there was no time for all of it */
};

static bool is_late(uint64_t end_ns, unsigned *steps)
{
	return ++*steps % LOOK_STEPS == 0 && clock_mono_ns() > end_ns;
}

static struct chain look_at(struct traces *t, uint32_t mark)
{
	uint64_t end_ns = clock_mono_ns() + TRACES_DEMAND_MS * 1000000ull;
	struct chain c = {0};
	unsigned steps = 0;
	uint32_t n;

	for (bool more = t->recorder && recorder_newest(t->recorder, mark, &n); more && !c.late;
	     more = recorder_next(t->recorder, mark, &n)) {
		const struct recorded *e = recorder_at(t->recorder, n);

		c.late = is_late(end_ns, &steps);
		if (e->flags & RECORDED_LISTED)
			continue;
		if (record_too_old(t, n))
			continue; /* younger ones may be behind it: clocks are set */
		if (!c.kept)
			c.number = n;
		c.any = true;
		c.kept = c.kept || e->flags & RECORDED_KEPT;
		c.due = c.due || e->flags & RECORDED_DUE;
	}
	return c;
}

/* All of that trace, if there is a reason to keep it; in a transaction. */
static int list_trace(struct traces *t, const uint8_t key[16], const struct chain *c)
{
	struct trace_row *row;
	int r = row_of(t, key, &row);

	t->asking = !c->due;
	if (r)
		return r;
	if (row)
		return records_join(t, row);
	return c->kept ? record_list(t, c->number) : 0; /* the others join it */
}

/* Who only asks must not drive everything else out of the file. */
static bool may_list(struct traces *t, const struct chain *c)
{
	return c->due || spend(&t->demand, clock_mono_ns() / 1000000);
}

/* What cannot be written is missing in the answer. */
static bool demand_key(struct traces *t, const uint8_t key[16])
{
	struct chain c = {0};

	if (t->recorder)
		c = look_at(t, recorder_mark(t->recorder, key));
	if (!c.any)
		return !c.late;
	return may_list(t, &c) && !rows_begin(t) && rows_end(t, list_trace(t, key, &c)) >= 0 &&
	       !t->late && !c.late;
}

static bool has_alias(struct traces *t, uint32_t n, const char *id, const uint8_t bytes[16],
		      uint8_t key[16])
{
	struct record_batch_view v;
	const struct record *rec = recorder_read(t->recorder, n, &v);

	if (!rec || !span_has_trace(rec, id, bytes))
		return false;
	memcpy(key, rec->trace_id, 16);
	return true;
}

/* The key of the newest trace that has this name besides its own. -ENOENT; -EAGAIN: there was no
 * time for all of them. */
static int find_alias(struct traces *t, const char *id, const uint8_t bytes[16], uint8_t key[16])
{
	uint64_t end_ns = clock_mono_ns() + TRACES_DEMAND_MS * 1000000ull;
	uint32_t bits = recorder_alias(t->recorder, id, strlen(id)), first, n;
	unsigned steps = 0;

	recorder_range(t->recorder, &first, &n);
	while (n-- != first) {
		const struct recorded *e = recorder_at(t->recorder, n);

		if (is_late(end_ns, &steps))
			return -EAGAIN;
		if ((e->aliases & bits) != bits || e->flags & RECORDED_LISTED)
			continue;
		if (has_alias(t, n, id, bytes, key))
			return 0;
		steps |= LOOK_STEPS - 1; /* that took longer */
	}
	return -ENOENT;
}

/* r: of looking for it. */
static int find_row(struct traces *t, const char *id, const uint8_t bytes[16], int r,
		    struct trace_row *row, bool *complete)
{
	uint8_t other[16];

	if (!r && memcmp(row->key, bytes, 16))
		memcpy(other, row->key, sizeof(other)); /* an alias of it */
	else if (r == -ENOENT && t->recorder)
		r = find_alias(t, id, bytes, other);
	else
		return r;
	if (r)
		return r;
	*complete = demand_key(t, other) && *complete;
	return db_trace_by_name(&t->db, id, row);
}

int demand_trace(struct traces *t, const char *id, struct trace_row *row, bool *complete)
{
	size_t len = strlen(id);
	uint8_t key[16];
	int r;

	*complete = true;
	if (!t->db.sqlite)
		return -EIO;
	if (!trace_id_usable(id, len))
		return -ENOENT;
	trace_id_bytes(id, len, key);
	*complete = demand_key(t, key);
	r = find_row(t, id, key, db_trace_by_name(&t->db, id, row), row, complete);
	return r == -ENOENT && !*complete ? -EAGAIN : r; /* it is there, and not listed yet */
}

/* --- by what they were ----------------------------------------------------------------- */

struct search {
	struct traces *t;
	const struct traces_filter *f;
	const struct recorder_batch *b; /* the one that is looked through */
	uint16_t service, source;	/* tags */
	uint32_t min_us;
	uint64_t end_ns, now_ms;
	unsigned looked; /* since the clock was */
	bool began, late;
	/* where in the list those stand that the answer will have, as far as is known: newest
	 * first; when there are as many as are asked for, what is older than all is left alone */
	int64_t when[TRACES_LIST_MAX];
	unsigned n;
	bool left;
};

static bool in_window(const struct search *s, int64_t when_ms)
{
	return when_ms >= s->f->since_ms && when_ms <= s->f->until_ms;
}

/* The answer has room for one that stands there. */
static bool is_wanted(struct search *s, int64_t when_ms)
{
	if (s->n < s->f->limit || when_ms > s->when[s->n - 1])
		return true;
	s->left = true;
	return false;
}

static void note_when(struct search *s, int64_t when_ms)
{
	unsigned i = s->n < s->f->limit ? s->n++ : s->n - 1;

	for (; i && s->when[i - 1] < when_ms; i--)
		s->when[i] = s->when[i - 1];
	s->when[i] = when_ms;
}

static const struct recorder_batch *batch_of(const struct search *s, uint32_t n)
{
	if (n - s->b->first < s->b->n)
		return s->b;
	return recorder_batch(s->t->recorder, recorder_batch_of(s->t->recorder, n));
}

static bool is_old(const struct search *s, const struct recorder_batch *b)
{
	return b->came_ms + s->t->o.age_ms < s->now_ms;
}

/* Where it stands when it is a root: as it began, or as it came in when that is earlier, for clocks
 * may be wrong. Of what began weeks before, no later than that. */
static int64_t when_of(const struct recorded *e, const struct recorder_batch *b)
{
	return (int64_t)b->came_ms - e->ago_ms;
}

static bool root_fits(const struct search *s, const struct recorded *e,
		      const struct recorder_batch *b)
{
	return e->took_us >= s->min_us && (e->ago_ms == UINT32_MAX || in_window(s, when_of(e, b)));
}

static bool is_edge(const struct search *s, const struct recorded *e)
{
	return (!s->f->source || e->caller == s->source) &&
	       (!s->f->service || e->service == s->service);
}

static bool by_root(const struct search *s)
{
	return s->f->error <= 0 && (s->min_us || (!s->f->source && !s->f->service));
}

/* Has it what, of a trace that is looked for, is rarest? Where one is found its trace is looked at;
 * most records are none. */
static bool may_begin(struct search *s, const struct recorded *e)
{
	if (e->looked == s->t->search || e->flags & RECORDED_NONE)
		return false;
	if (s->f->error > 0 && !(e->flags & RECORDED_ERROR))
		return false;
	if (by_root(s) && !root_fits(s, e, s->b))
		return false;
	return (by_root(s) || s->f->error > 0 || is_edge(s, e)) && is_wanted(s, when_of(e, s->b));
}

/* What is known of a trace by its records. */
struct seen {
	struct chain c;
	bool service, edge, error, kept;
	bool has_root, root; /* one without a parent; of those that may be its root one is in the
				part of the list and took long enough */
};

static void see(struct search *s, struct seen *seen, const struct recorded *e, uint32_t n)
{
	const struct recorder_batch *b = batch_of(s, n);
	bool parentless = e->flags & RECORDED_ROOT;

	seen->service = seen->service || e->service == s->service;
	seen->edge = seen->edge || is_edge(s, e);
	seen->error = seen->error || e->flags & RECORDED_ERROR;
	seen->kept = seen->kept || e->flags & (RECORDED_LISTED | RECORDED_KEPT);
	if (parentless && !seen->has_root)
		seen->root = false;
	seen->has_root = seen->has_root || parentless;
	if (parentless == seen->has_root && root_fits(s, e, b))
		seen->root = true;
	if (e->flags & RECORDED_LISTED || is_old(s, b))
		return;
	if (!seen->c.kept)
		seen->c.number = n;
	seen->c.any = true;
	seen->c.kept = seen->c.kept || e->flags & RECORDED_KEPT;
	seen->c.due = seen->c.due || e->flags & RECORDED_DUE;
}

static bool search_late(struct search *s)
{
	s->late = s->late || is_late(s->end_ns, &s->looked);
	return s->late;
}

/* Could this trace be one that is looked for, and is something of it to be listed? What the
 * recorder does not know exactly the database will. Marks all of it as looked at. */
static bool fits(struct search *s, uint32_t mark, struct chain *c)
{
	struct seen seen = {.service = !s->f->service, .edge = !s->f->source};
	struct recorder *r = s->t->recorder;
	uint32_t n;

	for (bool more = recorder_newest(r, mark, &n); more && !search_late(s);
	     more = recorder_next(r, mark, &n)) {
		struct recorded *e = recorder_at(r, n);

		e->looked = s->t->search;
		see(s, &seen, e, n);
	}
	*c = seen.c;
	return c->any && seen.kept && seen.service && seen.edge && seen.root &&
	       (s->f->error < 0 || s->f->error == seen.error);
}

/* Will the answer have it? As DB_FOUND says it. */
static bool passes(const struct search *s, const struct trace_row *row)
{
	const struct traces_filter *f = s->f;
	char lines[sizeof(row->edges) + 1], edge[160];

	trace_edge(f, edge);
	snprintf(lines, sizeof(lines), "\n%s", row->edges);
	return in_window(s, row->when_ms) && row->duration_us >= f->min_us &&
	       (f->error < 0 || f->error == !!row->errors) &&
	       (!f->service || lines_have(row->services, f->service)) && strstr(lines, edge);
}

static int list_known(struct search *s, const uint8_t key[16], const struct chain *c)
{
	struct trace_row *row;
	int r = row_of(s->t, key, &row);
	bool was = !r && row && passes(s, row);

	if (!r)
		r = list_trace(s->t, key, c);
	if (!r && !was)
		r = row_of(s->t, key, &row);
	if (!r && !was && row && passes(s, row))
		note_when(s, row->when_ms);
	s->late = s->late || s->t->late;
	return r;
}

static int list_one(struct search *s, const struct chain *c)
{
	struct record_batch_view v;
	const struct record *rec;
	uint8_t key[16];
	int r;

	s->late = !may_list(s->t, c);
	r = s->began || s->late ? 0 : rows_begin(s->t);
	if (r || s->late)
		return r;
	s->began = true;
	rec = recorder_read(s->t->recorder, c->number, &v);
	if (!rec) /* not in the file as it was */
		return record_list(s->t, c->number);
	memcpy(key, rec->trace_id, sizeof(key));
	r = list_known(s, key, c);
	s->late = s->late || clock_mono_ns() > s->end_ns;
	return r;
}

static int search_batch(struct search *s)
{
	struct chain c;
	int r = 0;

	for (uint32_t i = s->b->n; i-- && r >= 0 && !search_late(s);) {
		uint32_t n = s->b->first + i;
		const struct recorded *e = recorder_at(s->t->recorder, n);

		if (may_begin(s, e) && fits(s, e->mark, &c) && !s->late)
			r = list_one(s, &c);
	}
	return r;
}

/* Could a trace of it stand in that part of a list, and is there room for it? As it began, or as it
 * came in when that is earlier; its root may be in another batch, somewhat before or after. */
static bool has_any(struct search *s, const struct recorder_batch *b)
{
	int64_t came = (int64_t)b->came_ms, first = b->first_us / 1000, last = b->last_us / 1000;
	int64_t slack = by_root(s) ? 0 : SLACK_MS;

	first = first < came ? first : came;
	last = last < came ? last : came;
	return !is_old(s, b) && s->f->since_ms <= last + slack &&
	       (s->f->until_ms >= INT64_MAX - slack || first <= s->f->until_ms + slack) &&
	       is_wanted(s, last);
}

/* All of them: they stand by their coming, which is nearly as they began. */
static int search_all(struct search *s)
{
	struct recorder_counts n;
	int err = 0;

	recorder_count(s->t->recorder, &n);
	for (uint32_t i = n.batches; i-- && err >= 0 && !search_late(s);) {
		s->b = recorder_batch(s->t->recorder, i);
		if (has_any(s, s->b))
			err = search_batch(s);
	}
	return err;
}

static bool note_row(void *arg, const struct trace_row *row)
{
	note_when(arg, row->when_ms);
	return false;
}

void demand_list(struct traces *t, const struct traces_filter *f, struct demand *d)
{
	struct search s = {.t = t,
			   .f = f,
			   .min_us = f->min_us > UINT32_MAX ? UINT32_MAX : (uint32_t)f->min_us,
			   .now_ms = clock_wall_ms()};
	int r;

	*d = (struct demand){.complete = true};
	if (!t->recorder || rows_each(t, f, note_row, &s))
		return; /* what is wrong is found again by who asks for the rows */
	if (!++t->search)
		t->search = 1;
	s.end_ns = clock_mono_ns() + TRACES_DEMAND_MS * 1000000ull;
	s.service = f->service ? recorder_tag(t->recorder, f->service) : 0;
	s.source = f->source ? recorder_tag(t->recorder, f->source) : 0;
	r = search_all(&s);
	if (s.began)
		r = rows_end(t, r);
	*d = (struct demand){.complete = r >= 0 && !s.late, .left = s.left};
}
