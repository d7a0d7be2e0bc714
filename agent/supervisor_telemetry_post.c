/* SPDX-License-Identifier: Apache-2.0 */
/* See supervisor_telemetry.h: what goes out, and what meshd answers. */
#include "agent/supervisor.h"
#include "agent/supervisor_telemetry_impl.h"

#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"

#include <string.h>

#define PATH	      "/api/telemetry"
#define BACKOFF_LEAST 100
#define BACKOFF_MOST  1000
#define LAST_MS	      1000
#define REASON_MAX    200 /* of meshd's words in our log */

static uint64_t wall_ms(const struct supervisor *s)
{
	return walltime_ns(&s->telemetry.wall, s->loop.now_ns) / 1000000;
}

static uint64_t ring_lost(const struct supervisor *s)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < WORKERS_MAX; i++)
		n += workers_ring_lost(&s->workers, i);
	return n;
}

static void write_kinds(struct buf *out, const char *name, const char *help, const uint64_t *n)
{
	exposition_head(out, name, "counter", help);
	for (int k = 0; k < OUTBOX_KINDS; k++)
		buf_printf(out, "%s{what=\"%s\"} %llu\n", name, outbox_kind_name(k),
			   (unsigned long long)n[k]);
}

void telemetry_metrics(struct supervisor *s, struct buf *out)
{
	const struct outbox_counts *c = outbox_counts(s->telemetry.outbox);

	exposition_head(out, "mesh_spans_dropped_total", "counter",
			"Spans that meshd did not get. limit: left unsampled, as --trace-limit "
			"says; lost: they were due.");
	buf_printf(out,
		   "mesh_spans_dropped_total{reason=\"limit\"} %llu\n"
		   "mesh_spans_dropped_total{reason=\"lost\"} %llu\n",
		   (unsigned long long)workers_unsampled(&s->workers),
		   (unsigned long long)c->dropped[OUTBOX_SPANS]);
	write_kinds(out, "mesh_telemetry_sent_total", "What meshd has taken.", c->sent);
	write_kinds(out, "mesh_telemetry_dropped_total",
		    "What found no room, waited for too long, or was refused.", c->dropped);
	exposition_head(out, "mesh_telemetry_batches_total", "counter",
			"Batches sent to meshd, by its answer; again: none, or to come again.");
	buf_printf(out,
		   "mesh_telemetry_batches_total{result=\"taken\"} %llu\n"
		   "mesh_telemetry_batches_total{result=\"again\"} %llu\n"
		   "mesh_telemetry_batches_total{result=\"refused\"} %llu\n",
		   (unsigned long long)c->batches, (unsigned long long)c->again,
		   (unsigned long long)c->refused);
	exposition_single(out, "mesh_telemetry_other_total", "counter",
			  "Requests and connections counted under other: too many series.",
			  (double)series_overflow(s->telemetry.series));
}

/* --- answers --- */

/* Of a batch with records the rest goes again without them. */
static void say(struct supervisor *s, enum outbox_verdict v, int status, const cJSON *body)
{
	struct telemetry *t = &s->telemetry;
	unsigned refused = v != OUTBOX_REFUSED ? 0 : outbox_has_records(t->outbox) ? 1 : 2;

	if (refused > t->refused)
		log_warn("meshd answers %d to our telemetry, %s: %.*s", status,
			 refused == 1 ? "whose records of spans are dropped" : "which is dropped",
			 REASON_MAX, json_str(body, "error", "without a reason"));
	else if (v == OUTBOX_TAKEN && t->refused)
		log_info("meshd takes our telemetry again");
	if (v != OUTBOX_AGAIN)
		t->refused = refused;
}

static void take_answer(struct supervisor *s, const cJSON *body)
{
	const cJSON *id;

	outbox_meshd_takes(s->telemetry.outbox, json_num(body, "records", 0) == RECORD_LAYOUT);
	cJSON_ArrayForEach (id, cJSON_GetObjectItemCaseSensitive(body, "want"))
		if (cJSON_IsString(id))
			telemetry_want(s, id->valuestring);
	taps_answered(&s->telemetry.taps, body, s->loop.now_ns);
}

static void back_off(struct supervisor *s)
{
	struct telemetry *t = &s->telemetry;

	t->backoff_ms = !t->backoff_ms			   ? BACKOFF_LEAST
			: t->backoff_ms * 2 > BACKOFF_MOST ? BACKOFF_MOST
							   : t->backoff_ms * 2;
	t->retry_ns = s->loop.now_ns + t->backoff_ms * 1000000ULL;
}

/* seq: of the batch that was posted. status 0: no answer. */
static enum outbox_verdict answered(struct supervisor *s, uint64_t seq, int status,
				    const cJSON *body)
{
	enum outbox_verdict v = outbox_verdict(status);

	say(s, v, status, body);
	outbox_answered(s->telemetry.outbox, seq, v);
	return v;
}

/* --- sending --- */

static void post(struct supervisor *s);

static void posted(const struct http_answer *a, void *arg)
{
	struct supervisor *s = arg;
	struct telemetry *t = &s->telemetry;
	cJSON *body = a->error ? NULL : json_parse(a->body, a->len, NULL);
	enum outbox_verdict v = answered(s, t->posted_seq, a->error ? 0 : a->status, body);

	t->in_flight = false;
	if (v == OUTBOX_AGAIN)
		back_off(s);
	else
		t->backoff_ms = 0;
	if (v == OUTBOX_TAKEN)
		take_answer(s, body);
	cJSON_Delete(body);
	if (v != OUTBOX_AGAIN && outbox_behind(t->outbox))
		post(s);
}

static void post(struct supervisor *s)
{
	struct telemetry *t = &s->telemetry;
	struct session_body body;

	telemetry_tell_lost(s);
	body.n = outbox_batch(t->outbox, wall_ms(s), ring_lost(s), &body.pieces);
	t->posted_ns = s->loop.now_ns;
	t->posted_seq = outbox_seq(t->outbox);
	t->in_flight = body.n && !session_post(s->session, PATH, &body, posted, s);
	if (!t->in_flight)
		back_off(s);
}

/* meshd speaks only in answers: it is asked, too, while it may have something to say. */
static bool may_be_told(const struct telemetry *t)
{
	return t->taps.n || tail_in_use(t->tail);
}

static uint64_t gap_ns(const struct outbox *o)
{
	if (outbox_behind(o))
		return 0;
	return outbox_count(o, OUTBOX_SPANS) < TELEMETRY_CROWD || outbox_has(o, OUTBOX_TAPPED) ||
			       outbox_has(o, OUTBOX_WHYS)
		       ? TELEMETRY_EVERY_NS
		       : TELEMETRY_CROWD_NS;
}

void telemetry_push(struct supervisor *s)
{
	struct telemetry *t = &s->telemetry;
	uint64_t since_ns = s->loop.now_ns - t->posted_ns;

	if (!s->session || t->in_flight || (t->backoff_ms && s->loop.now_ns < t->retry_ns) ||
	    since_ns < gap_ns(t->outbox))
		return;
	if (outbox_waiting(t->outbox) || (may_be_told(t) && since_ns >= TELEMETRY_QUIET_NS))
		post(s);
}

void telemetry_beat(struct supervisor *s)
{
	struct telemetry *t = &s->telemetry;
	uint64_t half;

	walltime_look(&t->wall, 0, 0);
	outbox_seal(t->outbox, t->wall.offset_ns);
	if (s->loop.now_ns >= t->second_end_ns)
		telemetry_turn(s);
	half = wall_ms(s) / TELEMETRY_SERIES_MS;
	/* while others wait, those of the second add up */
	if (half != t->half && !outbox_has(t->outbox, OUTBOX_SERIES)) {
		telemetry_seal(s);
		t->half = half;
	}
	outbox_age(t->outbox, wall_ms(s));
	taps_beat(&t->taps, s->loop.now_ns);
	tail_beat(t->tail, s->loop.now_ns);
	telemetry_push(s);
}

static void say_lost(const struct outbox *o)
{
	unsigned long long n[OUTBOX_KINDS];

	for (int k = 0; k < OUTBOX_KINDS; k++)
		n[k] = outbox_count(o, k);
	log_warn("meshd did not take the last of our telemetry: %llu series, %llu spans, %llu "
		 "tapped, %llu whys are lost",
		 n[OUTBOX_SERIES], n[OUTBOX_SPANS], n[OUTBOX_TAPPED], n[OUTBOX_WHYS]);
}

/* The one on its way may arrive or not: it goes again, and meshd knows its number. */
void telemetry_last(struct supervisor *s)
{
	uint64_t now_ns = clock_mono_ns(), end_ns = now_ns + LAST_MS * 1000000ULL;
	struct telemetry *t = &s->telemetry;
	enum outbox_verdict v = OUTBOX_TAKEN;
	struct session_body body;

	if (!s->session || !t->outbox)
		return;
	session_post_cancel(s->session, s);
	t->in_flight = false;
	telemetry_seal(s);
	while (v != OUTBOX_AGAIN && outbox_waiting(t->outbox) && now_ns < end_ns &&
	       (body.n = outbox_batch(t->outbox, wall_ms(s), ring_lost(s), &body.pieces))) {
		struct http_answer a;

		session_post_now(s->session, PATH, &body, (uint32_t)((end_ns - now_ns) / 1000000),
				 &a);
		v = answered(s, outbox_seq(t->outbox), a.error ? 0 : a.status, NULL);
		http_answer_done(&a);
		now_ns = clock_mono_ns();
	}
	if (outbox_waiting(t->outbox))
		say_lost(t->outbox);
}
