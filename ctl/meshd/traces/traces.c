/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See traces.h: what is kept. The spans of one call go into the file in one transaction; the rows
 * of their traces are collected in memory first, so that a trace is written once a call.
 */
#include "ctl/meshd/otlp/otlp.h"
#include "ctl/meshd/traces/impl.h"
#include "lib/clock.h"
#include "lib/log.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A new file has no row of any record. */
static void open_db(struct traces *t, bool anew)
{
	int64_t n = 0;
	char aside[PATH_MAX];

	t->retry_ms = t->now_ms + RETRY_MS;
	if (!t->o.dir)
		return;
	if (db_open(&t->db, t->o.dir, anew, aside, sizeof(aside)) && !t->said)
		log_error("traces are not kept: %s", t->db.error);
	t->said = !t->db.sqlite;
	if (aside[0])
		snprintf(t->aside, sizeof(t->aside),
			 DB_FILE " was of no use: it is kept as %.60s, traces began anew",
			 strrchr(aside, '/') + 1);
	if (t->db.sqlite && !db_count(&t->db, &n))
		t->counts.traces = (uint64_t)n;
	memset(t->lately, 0, sizeof(t->lately));
	t->asked.n = 0; /* ids may begin anew */
	if (t->db.sqlite && !n && t->recorder)
		recorder_unlist(t->recorder);
}

static struct bucket full(uint32_t rate, uint32_t most)
{
	return (struct bucket){.rate = rate, .most = most, .tokens_ms = most * 1000ull};
}

int traces_new(const struct traces_options *o, struct traces **out)
{
	struct traces *t = calloc(1, sizeof(*t));
	int r = t ? tail_new(&t->tail) : -ENOMEM;

	if (r) {
		free(t);
		return r;
	}
	t->o = *o;
	if (!t->o.size)
		t->o.size = TRACES_SIZE;
	if (t->o.size < TRACES_SIZE_MIN)
		t->o.size = TRACES_SIZE_MIN;
	if (!t->o.age_ms)
		t->o.age_ms = TRACES_AGE_MS;
	if (!t->o.turn_ms)
		t->o.turn_ms = TRACES_TURN_MS;
	t->recorder_size = t->o.size / RECORDER_PART;
	t->o.size -= recorder_bytes(t->recorder_size);
	t->first = full(TRACES_FIRST, TRACES_FIRST_BURST);
	t->direct = full(TRACES_DIRECT, TRACES_DIRECT);
	t->more = full(TRACES_MORE, TRACES_MORE_BURST);
	t->urgent = full(TRACES_URGENT, TRACES_URGENT_BURST);
	t->quiet = full(TRACES_QUIET, TRACES_QUIET_BURST);
	t->demand = full(TRACES_DEMAND, TRACES_DEMAND_BURST);
	buf_init(&t->body, 2 * SPAN_BODY_MAX);
	recorder_start(t, false);
	open_db(t, false);
	*out = t;
	return 0;
}

void traces_free(struct traces **t)
{
	if (!*t)
		return;
	while (traces_list_due(*t, (*t)->now_ms))
		;
	db_close(&(*t)->db);
	recorder_close(&(*t)->recorder);
	tail_free(&(*t)->tail);
	buf_done(&(*t)->body);
	free(*t);
	*t = NULL;
}

const char *traces_error(const struct traces *t)
{
	if (!t->o.dir)
		return "there is no directory for traces";
	if (t->db.error[0])
		return t->db.error;
	if (t->recorder_error[0])
		return t->recorder_error;
	return t->aside[0] ? t->aside : NULL;
}

void traces_count(struct traces *t, struct traces_counts *out)
{
	struct recorder_counts r = {0};
	int64_t used = 0, all = 0;

	if (t->db.sqlite && !db_used(&t->db, &used, &all))
		t->counts.bytes = (uint64_t)all;
	t->counts.held = tail_held(t->tail);
	*out = t->counts;
	if (!t->recorder)
		return;
	recorder_count(t->recorder, &r);
	out->overwritten += r.kept_lost;
	out->undecided += r.other_lost;
	out->bytes += recorder_bytes(t->recorder_size);
}

/* --- what is exported ------------------------------------------------------------------ */

/* Was it exported and counted as stored before it is a row? When it came, as a record with which
 * its trace is kept, or when it was a row before. */
static bool was_taken(const struct span *s)
{
	return s->again || (s->came_ms && span_keeps_trace(s));
}

/* Not before it is stored: an application that is told of a failure sends it again. What finds no
 * memory is not exported. */
static void offer_later(struct traces *t, const struct span *s)
{
	cJSON *json = NULL;

	if (!t->offers || s->again || (s->record && span_keeps_trace(s))) /* it was, when it came */
		return;
	if (s->record && otlp_has_room(t->o.otlp))
		json = span_of_record_json(s->batch, s->record);
	if (json && !cJSON_AddItemToArray(t->let_go, json)) {
		cJSON_Delete(json);
		json = NULL;
	}
	if (json || s->json)
		cJSON_AddItemReferenceToArray(t->offers, json ? json : (cJSON *)s->json);
}

static void offers_done(struct traces *t, bool stored)
{
	const cJSON *v;

	if (stored)
		cJSON_ArrayForEach (v, t->offers)
			otlp_offer(t->o.otlp, v);
	cJSON_Delete(t->offers);
	cJSON_Delete(t->let_go);
	t->offers = t->let_go = NULL;
}

/* Nothing can be stored: what would be is still exported, if it does not come again. */
static void offer_all(struct traces *t, const cJSON *spans, const char *node)
{
	const cJSON *v;
	struct span s;

	if (!node)
		return;
	cJSON_ArrayForEach (v, spans)
		if (!span_read(v, node, &s) && span_keeps_trace(&s))
			otlp_offer(t->o.otlp, v);
}

/* --- traces of this call --------------------------------------------------------------- */

static int write_back(struct traces *t)
{
	int r = 0;

	for (unsigned i = 0; i < t->ntouched && !r; i++)
		r = db_trace_set(&t->db, &t->touched[i].now, &t->touched[i].was);
	t->ntouched = 0;
	return r;
}

/* Records of it that come soon belong to it. */
static void note_lately(struct traces *t, const uint8_t key[16])
{
	uint32_t mark;

	if (!t->recorder)
		return;
	mark = recorder_mark(t->recorder, key);
	t->lately[mark % LATELY] = mark;
}

int row_of(struct traces *t, const uint8_t key[16], struct trace_row **row)
{
	struct touched *x;
	int r = 0;

	*row = NULL;
	for (unsigned i = t->ntouched; i--;)
		if (!memcmp(t->touched[i].now.key, key, 16)) {
			*row = &t->touched[i].now;
			return 0;
		}
	if (t->ntouched == TOUCHED_MAX)
		r = write_back(t);
	if (r)
		return r;
	x = &t->touched[t->ntouched];
	r = db_trace_by_key(&t->db, key, &x->now);
	if (r)
		return r == -ENOENT ? 0 : r;
	x->was = x->now;
	t->ntouched++;
	note_lately(t, key);
	*row = &x->now;
	return 0;
}

static void note_asked(struct traces *t, int64_t id)
{
	struct asked *a = &t->asked;

	a->id[(a->first + a->n) % ASKED_MAX] = id;
	if (a->n < ASKED_MAX)
		a->n++;
	else
		a->first++;
}

static int touch_new(struct traces *t, const struct span *s, struct trace_row **row)
{
	struct touched *x = &t->touched[t->ntouched]; /* row_of() has made room */
	int64_t now = (int64_t)(s->came_ms ? s->came_ms : clock_wall_ms());
	int r;

	memset(x, 0, sizeof(*x));
	memcpy(x->now.key, s->key, 16);
	snprintf(x->now.name, sizeof(x->now.name), "%s", s->trace);
	x->now.seen_ms = now;
	x->now.when_ms = s->start_us / 1000 < now ? s->start_us / 1000 : now;
	r = db_trace_id(&t->db, &x->now.id); /* the row itself is written at the end, once */
	if (r)
		return r;
	t->ntouched++;
	t->added++;
	if (t->asking)
		note_asked(t, x->now.id);
	note_lately(t, s->key);
	*row = &x->now;
	return 0;
}

/* --- one span -------------------------------------------------------------------------- */

/* Is it more of a root than the one so far? The parent of that, else who has no parent at all, else
 * who began first. */
static bool better_root(const struct trace_row *row, const struct span *s)
{
	if (!row->spans || !strcmp(row->root_parent, s->id))
		return true;
	if (!strcmp(s->parent, row->root))
		return false;
	if (!*s->parent != !row->root_parent[0])
		return !*s->parent;
	if (s->start_us != row->start_us)
		return s->start_us < row->start_us;
	return s->duration_us > row->duration_us;
}

static void take_root(struct trace_row *row, const struct span *s)
{
	int64_t ms = s->start_us / 1000;

	row->start_us = s->start_us;
	row->duration_us = s->duration_us;
	row->root_status = s->status;
	row->when_ms = ms < row->seen_ms ? ms : row->seen_ms;
	snprintf(row->root, sizeof(row->root), "%s", s->id);
	snprintf(row->root_parent, sizeof(row->root_parent), "%s", s->parent);
	snprintf(row->root_service, sizeof(row->root_service), "%s", s->service);
	snprintf(row->root_operation, sizeof(row->root_operation), "%s", s->operation);
}

/* What the caller chose is the trace's name, where it stands for the same 16 bytes; else it is an
 * alias. */
static int take_name(struct traces *t, struct trace_row *row, const char *name)
{
	uint8_t key[16];

	trace_id_bytes(name, strlen(name), key);
	if (!memcmp(key, row->key, 16)) {
		if (span_is_hex(row->name, row->key) && !span_is_hex(name, row->key))
			snprintf(row->name, sizeof(row->name), "%s", name);
		return 0;
	}
	if (lines_have(row->aliases, name))
		return 0;
	lines_add(row->aliases, sizeof(row->aliases), name);
	return lines_have(row->aliases, name) ? db_alias_add(&t->db, name, row->id) : 0;
}

static int take_names(struct traces *t, struct trace_row *row, const struct span *s)
{
	int r = take_name(t, row, s->trace);

	for (unsigned i = 0; i < s->naliases && !r; i++)
		r = take_name(t, row, s->aliases[i]);
	return r;
}

static void take_edge(struct trace_row *row, const struct span *s)
{
	char edge[160];

	lines_add(row->services, sizeof(row->services), s->service);
	if (!name_valid(s->source))
		return;
	snprintf(edge, sizeof(edge), "%s>%s", s->source, s->service);
	lines_add(row->edges, sizeof(row->edges), edge);
}

/* It is no row after all. What was said to be stored stays so: it is in the recorder, and each span
 * is counted once. */
static void count_instead(struct traces *t, const struct span *s, uint64_t *count)
{
	*count += !was_taken(s);
}

/* Of a trace that is kept, or (row NULL) will be with this span. false: it was counted. */
bool row_has_room(struct traces *t, struct trace_row *row, const struct span *s)
{
	if (!(row && row->spans >= TRACES_SPANS_MAX) && !span_body(s, &t->body))
		return true;
	buf_done(&t->body); /* it may have failed, which stays */
	if (row)
		row->lost++;
	count_instead(t, s, &t->counts.too_many);
	return false;
}

int row_add(struct traces *t, struct trace_row *row, const struct span *s)
{
	int r;

	r = db_span_add(&t->db, row->id, s, t->body.data, t->body.len);
	if (!r)
		count_instead(t, s, &t->counts.duplicates);
	if (r <= 0)
		return r;
	if (better_root(row, s))
		take_root(row, s);
	take_edge(row, s);
	row->spans++;
	row->errors += s->error;
	t->added_spans++;
	t->counted += was_taken(s);
	offer_later(t, s);
	return take_names(t, row, s);
}

static int release_held(struct traces *t, struct trace_row *row)
{
	char node[64], *text;
	struct span s;
	int r = 0;

	while (!r && t->let_go && (text = tail_release(t->tail, row->key, node))) {
		cJSON *v = cJSON_Parse(text);

		t->released++;
		if (v && !span_read(v, node, &s) && row_has_room(t, row, &s))
			r = row_add(t, row, &s);
		if (v && !cJSON_AddItemToArray(t->let_go, v)) /* it may be on offer */
			cJSON_Delete(v);
		cJSON_free(text);
	}
	return r;
}

int row_span(struct traces *t, const struct span *s, struct trace_row *row)
{
	int r;

	if (!row_has_room(t, row, s))
		return 1; /* and no trace without a span */
	if (row)
		return row_add(t, row, s);
	r = touch_new(t, s, &row);
	if (!r)
		r = row_add(t, row, s);
	if (!r)
		r = release_held(t, row);
	return r ? r : records_join(t, row);
}

/* Decides on it. 1: it is refused. */
static int take_span(struct traces *t, const struct span *s)
{
	bool keep = span_keeps_trace(s);
	struct trace_row *row;
	int r = row_of(t, s->key, &row);

	if (r)
		return r;
	if (!row && !keep) {
		t->counts.undecided += tail_hold(t->tail, s->key, s->json, s->node, t->now_ms);
		return 0;
	}
	if (keep && !s->sampled && !tail_ask(t->tail, s->key, t->now_ms))
		t->counts.unwanted++;
	return row_span(t, s, row);
}

/* --- a call ---------------------------------------------------------------------------- */

int rows_begin(struct traces *t)
{
	int r = !t->db.sqlite || db_log_full(&t->db) ? -EIO : db_begin(&t->db);

	t->ntouched = 0;
	t->asking = false;
	t->join_until_ns = clock_mono_ns() + TRACES_DEMAND_MS * 1000000ull;
	t->late = false;
	t->added = t->added_spans = t->counted = t->released = 0;
	t->before = t->counts;
	if (r)
		return r;
	t->offers = t->o.otlp ? cJSON_CreateArray() : NULL;
	t->let_go = cJSON_CreateArray();
	return 0;
}

/* What was counted of it will be again, as failed or when it is listed. */
static void uncount(struct traces *t)
{
	t->counts.stored = t->before.stored;
	t->counts.duplicates = t->before.duplicates;
	t->counts.invalid = t->before.invalid;
	t->counts.too_many = t->before.too_many;
	t->counts.failed = t->before.failed + t->released;
}

int rows_end(struct traces *t, int r)
{
	int err = r < 0 ? r : write_back(t);

	if (!err)
		err = db_commit(&t->db);
	else
		db_rollback(&t->db);
	offers_done(t, !err);
	if (t->recorder && !err)
		recorder_save(t->recorder);
	else if (t->recorder)
		recorder_restore(t->recorder);
	if (err) {
		uncount(t);
		return err;
	}
	t->counts.stored += t->added_spans - t->counted;
	t->counts.listed += t->added_spans;
	t->counts.traces += t->added;
	prune(t, t->added_spans);
	return r;
}

/* How many were refused, or -EIO. */
static int take_all(struct traces *t, const cJSON *spans, const char *node)
{
	int refused = 0, r;
	const cJSON *v;
	struct span s;

	cJSON_ArrayForEach (v, spans) {
		bool invalid = span_read(v, node, &s);

		t->counts.invalid += invalid;
		r = invalid ? 1 : take_span(t, &s);
		if (r < 0)
			return r;
		refused += r;
	}
	return refused;
}

int traces_take(struct traces *t, const cJSON *spans, const char *node, uint64_t now_ms)
{
	int n = cJSON_GetArraySize(spans), r;

	t->now_ms = now_ms;
	if (!n)
		return 0;
	r = rows_begin(t);
	if (!r)
		r = rows_end(t, take_all(t, spans, node));
	if (r < 0) {
		offer_all(t, spans, node);
		t->counts.failed += (uint64_t)n;
	}
	return r;
}

void traces_lose(struct traces *t, uint64_t n)
{
	t->counts.failed += n;
}

void traces_refuse(struct traces *t, uint64_t n)
{
	t->counts.invalid += n;
}

void traces_want(struct traces *t, const char *node, cJSON *array)
{
	tail_tell(t->tail, node, t->now_ms, array);
}

void traces_sweep(struct traces *t, uint64_t now_ms)
{
	t->now_ms = now_ms;
	t->counts.undecided += tail_sweep(t->tail, now_ms);
	recorder_look(t);
	if (t->db.sqlite && db_broken(&t->db)) {
		db_close(&t->db);
		open_db(t, true);
	} else if (t->db.sqlite && db_moved(&t->db)) {
		log_warn(DB_FILE " was removed: traces begin anew");
		db_close(&t->db);
		open_db(t, false);
	} else if (!t->db.sqlite && now_ms >= t->retry_ms) {
		open_db(t, false);
	}
	if (!t->db.sqlite || db_log_full(&t->db))
		return;
	prune(t, 0);
	shrink(t);
}
