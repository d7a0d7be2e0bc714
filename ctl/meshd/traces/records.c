/* SPDX-License-Identifier: Apache-2.0 */
/* See traces.h: what comes as records. All of it is recorded; what is listed soon (due.c) is
 * decided by the few words that the recorder has of each, so that the others cost next to nothing.
 */
#include "ctl/meshd/otlp/otlp.h"
#include "ctl/meshd/strip.h"
#include "ctl/meshd/traces/impl.h"
#include "lib/clock.h"
#include "lib/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define FORGET_BYTES (1u << 20) /* at once: half a millisecond */

/* --- the recorder ---------------------------------------------------------------------- */

/* err: what opening it, or the last write, came to. */
static void say(struct traces *t, int err)
{
	if (err && !t->recorder_error[0])
		log_error("%s/" RECORDER_FILE " cannot be used: %s", t->o.dir, strerror(-err));
	t->recorder_error[0] = '\0';
	if (err)
		snprintf(t->recorder_error, sizeof(t->recorder_error),
			 RECORDER_FILE ": %s: under load spans are lost", strerror(-err));
}

void recorder_start(struct traces *t, bool make)
{
	int err;

	if (!t->o.dir || t->recorder)
		return;
	t->recorder_retry_ms = t->now_ms + RETRY_MS;
	err = recorder_open(t->o.dir, t->recorder_size, make, &t->recorder);
	say(t, err == -ENOENT && !make ? 0 : err);
}

/* What it has counted is ours from now on, or counters would go back; what was not listed is gone.
 */
static void recorder_end(struct traces *t)
{
	struct recorder_counts n;

	t->due.n = 0;
	recorder_drop(t->recorder);
	recorder_count(t->recorder, &n);
	t->counts.overwritten += n.kept_lost;
	t->counts.undecided += n.other_lost;
	recorder_close(&t->recorder);
}

void recorder_look(struct traces *t)
{
	uint64_t now = clock_wall_ms();

	if (t->recorder && recorder_moved(t->recorder)) {
		log_warn(RECORDER_FILE " was removed, moved or cut: it begins anew");
		recorder_end(t);
		recorder_start(t, true);
	} else if (t->recorder && now > t->o.age_ms) {
		recorder_forget(t->recorder, now - t->o.age_ms, FORGET_BYTES);
	} else if (!t->recorder && t->recorder_error[0] && t->now_ms >= t->recorder_retry_ms) {
		recorder_start(t, true);
	}
}

bool record_too_old(struct traces *t, uint32_t number)
{
	const struct recorder_batch *b =
		recorder_batch(t->recorder, recorder_batch_of(t->recorder, number));

	return b->came_ms + t->o.age_ms < clock_wall_ms();
}

/* --- listing --------------------------------------------------------------------------- */

/* As of a span (traces.c). */
static void count_instead(struct traces *t, uint32_t number, uint64_t *count)
{
	*count += !(recorder_at(t->recorder, number)->flags & (RECORDED_KEPT | RECORDED_ONCE));
}

/* -EINVAL: it makes no sense, or is not in the file as it was. */
static int read_span(struct traces *t, uint32_t number, struct record_batch_view *v,
		     struct span_room *room, struct span *s)
{
	const struct record *rec = recorder_read(t->recorder, number, v);
	uint32_t batch;

	if (rec && t->o.strip_queries) /* it may be older than that; it is a copy */
		strip_record((struct record *)rec);
	if (!rec || span_of_record(v, rec, room, s)) {
		count_instead(t, number, &t->counts.invalid);
		recorder_set_listed(t->recorder, number);
		return -EINVAL;
	}
	batch = recorder_batch_of(t->recorder, number);
	s->came_ms = recorder_batch(t->recorder, batch)->came_ms;
	s->again = recorder_at(t->recorder, number)->flags & RECORDED_ONCE;
	return 0;
}

int record_list(struct traces *t, uint32_t number)
{
	const struct recorded *e = recorder_at(t->recorder, number);
	struct record_batch_view v;
	struct trace_row *row;
	struct span_room room;
	struct span s;
	int r;

	if (!e || read_span(t, number, &v, &room, &s))
		return 0;
	r = row_of(t, s.key, &row);
	if (r || (!row && !(e->flags & RECORDED_KEPT)))
		return r;			  /* it waits for what becomes of its trace */
	recorder_set_listed(t->recorder, number); /* before others of its trace join it */
	r = row_span(t, &s, row);
	return r < 0 ? r : 0;
}

static int join_one(struct traces *t, struct trace_row *row, uint32_t number)
{
	struct record_batch_view v;
	struct span_room room;
	struct span s;

	if (read_span(t, number, &v, &room, &s))
		return 0;
	if (memcmp(s.key, row->key, sizeof(s.key)))
		return 0; /* another trace with the same mark */
	recorder_set_listed(t->recorder, number);
	return row_has_room(t, row, &s) ? row_add(t, row, &s) : 0;
}

/* Another trace may have the same mark: its records are rows already when they are listed again. */
void records_unlist(struct traces *t, const uint8_t key[16])
{
	uint32_t mark = t->recorder ? recorder_mark(t->recorder, key) : 0, n;
	bool more = t->recorder && recorder_newest(t->recorder, mark, &n);

	for (unsigned i = 0; more && i < TRACES_SPANS_MAX; i++) {
		recorder_set_unlisted(t->recorder, n);
		more = recorder_next(t->recorder, mark, &n);
	}
}

int records_join(struct traces *t, struct trace_row *row)
{
	uint32_t mark = t->recorder ? recorder_mark(t->recorder, row->key) : 0, n;
	bool more = t->recorder && recorder_newest(t->recorder, mark, &n);
	unsigned steps = 0;
	int r = 0;

	for (; more && r >= 0; more = recorder_next(t->recorder, mark, &n)) {
		if (++steps % 1024 == 0)
			t->late = t->late || clock_mono_ns() > t->join_until_ns;
		if (t->late)
			break;
		if (recorder_at(t->recorder, n)->flags & RECORDED_LISTED)
			continue;
		if (row->spans >= TRACES_SPANS_MAX) { /* nothing of it has to be read */
			recorder_set_listed(t->recorder, n);
			count_instead(t, n, &t->counts.too_many);
			row->lost++;
			continue;
		}
		t->late = t->late || clock_mono_ns() > t->join_until_ns;
		if (t->late)
			break;
		if (!record_too_old(t, n)) /* younger ones may be behind it: clocks are set */
			r = join_one(t, row, n);
	}
	return r;
}

/* --- a call ---------------------------------------------------------------------------- */

/* What is done for each, whether it is listed or not. */
static void note(struct traces *t, const struct record_batch_view *v, const struct record *rec,
		 uint16_t flags)
{
	cJSON *json;

	if (!(flags & RECORDED_KEPT))
		return;
	if (!(flags & RECORDED_SAMPLED) && !tail_ask(t->tail, rec->trace_id, t->now_ms))
		t->counts.unwanted++;
	if (!otlp_has_room(t->o.otlp))
		return;
	if (clock_mono_ns() > t->turn_until_ns) {
		otlp_drop(t->o.otlp);
		return;
	}
	json = span_of_record_json(v, rec);
	if (json)
		otlp_offer(t->o.otlp, json);
	cJSON_Delete(json);
}

static void note_batch(struct traces *t, const struct record_batch_view *v, uint32_t first)
{
	uint64_t kept = 0, invalid = 0;

	for (uint32_t n = 0; n < v->head->records; n++) {
		const struct recorded *e = recorder_at(t->recorder, first + n);

		if (e->flags & RECORDED_LISTED) {
			invalid++;
			continue;
		}
		kept += !!(e->flags & RECORDED_KEPT);
		due_add(t, first + n);
		if (!(e->flags & RECORDED_SAMPLED) || t->o.otlp) /* else nothing is */
			note(t, v, (const void *)((const char *)v->head + e->at * 8u), e->flags);
	}
	t->counts.recorded += kept;
	t->counts.stored += kept;
	t->counts.invalid += invalid;
}

/* Without a recorder: into rows, as many as may be. */
static int list_directly(struct traces *t, const struct record_batch_view *v)
{
	const struct record *rec;
	struct trace_row *row;
	struct span_room room;
	struct span s;
	uint32_t at = 0;
	int r = 0;

	while (r >= 0 && (rec = record_batch_next(v, &at))) {
		if (span_of_record(v, rec, &room, &s)) {
			t->counts.invalid++;
			continue;
		}
		r = row_of(t, s.key, &row);
		if (!r && !row && !span_keeps_trace(&s))
			t->counts.undecided++;
		else if (!r &&
			 (clock_mono_ns() > t->turn_until_ns || !spend(&t->direct, t->now_ms)))
			t->counts.failed++;
		else if (!r)
			r = row_span(t, &s, row);
	}
	return r;
}

static int take_directly(struct traces *t, const struct record_batch_view *v)
{
	uint64_t undecided = t->counts.undecided;
	const struct record *rec;
	uint32_t at = 0;
	int r;

	while ((rec = record_batch_next(v, &at)))
		if (rec->flags & RECORD_TRACED)
			note(t, v, rec, recorded_flags(rec));
	r = rows_begin(t);
	if (!r)
		r = rows_end(t, list_directly(t, v));
	if (r < 0) {
		t->counts.undecided = undecided;
		t->counts.failed += v->head->records;
	}
	return r < 0 ? r : 0;
}

/* Puts a batch into the recorder. */
static int record_batch_put(struct traces *t, const struct record_batch_view *v, uint64_t came_ms,
			    uint32_t *first)
{
	int err = t->recorder ? recorder_add(t->recorder, v, came_ms, first) : -EIO;

	if (t->recorder && (err || t->recorder_error[0]))
		say(t, err);
	return err;
}

int traces_take_records(struct traces *t, const struct record_batch_view *batches, size_t n,
			uint64_t now_ms)
{
	uint64_t came_ms = clock_wall_ms();
	uint32_t first;
	int r = 0;

	t->now_ms = now_ms;
	if (!t->recorder && (!t->recorder_error[0] || now_ms >= t->recorder_retry_ms))
		recorder_start(t, true); /* once, and that may take a while */
	t->turn_until_ns = clock_mono_ns() + t->o.turn_ms * 1000000;
	for (size_t i = 0; i < n; i++) {
		if (!record_batch_put(t, &batches[i], came_ms, &first)) {
			note_batch(t, &batches[i], first);
		} else if (take_directly(t, &batches[i])) {
			r = -EIO;
		}
	}
	if (t->recorder)
		due_hurry(t);
	return r;
}
