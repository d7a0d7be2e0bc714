/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See supervisor_telemetry.h: what comes in. What goes out is in supervisor_telemetry_post.c. A
 * request that nobody sampled costs a few look-ups and, when it has a trace, a copy: no text is
 * made of it unless somebody wants it.
 */
#include "agent/supervisor.h"
#include "agent/supervisor_telemetry_impl.h"
#include "lib/span_json.h"

#include "lib/clock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define SERIES_AGE_NS  60000000000ULL
#define SERIES_PART    (512u << 10) /* bytes of series in one batch */
#define SERIES_MAX_LEN (SERIES_PART + (64u << 10))

int telemetry_start(struct supervisor *s)
{
	struct telemetry *t = &s->telemetry;
	uint64_t random;
	int err;

	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		return -EIO;
	snprintf(s->epoch, sizeof(s->epoch), "%016llx", (unsigned long long)random);
	buf_init(&t->text, SERIES_MAX_LEN);
	walltime_look(&t->wall, 0, 0);
	t->parties = calloc(PARTIES_KEPT, sizeof(*t->parties));
	err = t->parties ? series_new(&t->series) : -ENOMEM;
	if (!err)
		err = outbox_new(s->cfg->node, s->epoch, &t->outbox);
	if (!err)
		outbox_seal(t->outbox, t->wall.offset_ns);
	if (!err)
		err = tail_new(&t->tail);
	t->wanted = calloc(TELEMETRY_WANTED, sizeof(*t->wanted));
	return err ? err : t->wanted ? 0 : -ENOMEM;
}

void telemetry_stop(struct supervisor *s)
{
	struct telemetry *t = &s->telemetry;

	series_free(&t->series);
	outbox_free(&t->outbox);
	tail_free(&t->tail);
	free(t->wanted);
	t->wanted = NULL;
	free(t->parties);
	t->parties = NULL;
	buf_done(&t->text);
}

/* --- series --- */

/* What was counted so far goes; the rest of its second will follow. */
void telemetry_seal(struct supervisor *s)
{
	struct telemetry *t = &s->telemetry;
	uint32_t n;

	while (series_waiting(t->series)) {
		buf_reset(&t->text);
		n = series_take(t->series, SERIES_PART, &t->text);
		if (t->text.failed)
			outbox_lose(t->outbox, OUTBOX_SERIES, n);
		else
			outbox_add(t->outbox, OUTBOX_SERIES, t->second * 1000, t->text.data,
				   t->text.len, n);
	}
	buf_done(&t->text);
}

void telemetry_turn(struct supervisor *s)
{
	struct telemetry *t = &s->telemetry;
	uint64_t wall_ns = walltime_ns(&t->wall, s->loop.now_ns);

	telemetry_seal(s);
	t->second = wall_ns / 1000000000;
	t->second_end_ns = s->loop.now_ns + 1000000000 - wall_ns % 1000000000;
	if (s->loop.now_ns - t->aged_ns < SERIES_AGE_NS)
		return;
	t->aged_ns = s->loop.now_ns;
	series_age(t->series);
}

static void count(struct supervisor *s, struct parties *p, enum series_outcome outcome,
		  const struct series_sample *v)
{
	struct telemetry *t = &s->telemetry;

	if (s->loop.now_ns >= t->second_end_ns)
		telemetry_turn(s);
	series_add(t->series,
		   &(struct series_key){.source = p->names.caller,
					.destination = p->names.callee,
					.version = p->names.version,
					.protocol = p->key.kind == RECORD_TUNNEL ? SERIES_TCP
										 : SERIES_HTTP,
					.outcome = outcome},
		   &p->series[outcome], v);
}

static enum series_outcome tcp_outcome(bool error)
{
	return error ? SERIES_ERROR : SERIES_OK;
}

static void count_record(struct supervisor *s, const struct record *rec, struct parties *p)
{
	bool tunnel = rec->kind == RECORD_TUNNEL;

	if (tunnel && p->tcp)
		return; /* the kernel reports the end of every connection to such a service */
	count(s, p, tunnel ? tcp_outcome(rec->cause) : series_outcome(rec->status),
	      &(struct series_sample){.n = 1,
				      .duration_ns = tunnel ? rec->upstream_ns : span_took_ns(rec),
				      .bytes_in = rec->bytes_in,
				      .bytes_out = rec->bytes_out});
}

void telemetry_counted(struct supervisor *s, const struct tally_sum *sum, struct parties *p)
{
	if (sum->tunnel && p->tcp)
		return; /* as above */
	count(s, p, sum->tunnel ? tcp_outcome(sum->cause) : series_outcome(sum->status),
	      &(struct series_sample){.n = sum->n,
				      .duration_ns = sum->duration_ns,
				      .bytes_in = sum->bytes_in,
				      .bytes_out = sum->bytes_out});
}

/* The kernel tells of those to HTTP services too, whose requests are counted. */
void telemetry_connection(struct supervisor *s, const struct mesh_event *e)
{
	struct parties *p =
		parties_of(s, &(struct parties_key){.caller = e->workload,
						    .service = registry_upstream_service(
							    s->registry, e->upstream),
						    .endpoint = e->endpoint,
						    .gen = e->endpoint_gen,
						    .kind = RECORD_TUNNEL});

	if (p->tcp)
		count(s, p, tcp_outcome(e->error || !e->connect_ns),
		      &(struct series_sample){.n = 1,
					      .duration_ns = e->connect_ns,
					      .bytes_in = e->bytes_sent,
					      .bytes_out = e->bytes_received});
}

void telemetry_refused(struct supervisor *s, uint32_t workload, uint32_t service, uint64_t n)
{
	struct parties *p = parties_of(s, &(struct parties_key){.caller = workload,
								.service = service,
								.endpoint = MESH_NONE,
								.kind = RECORD_TUNNEL});

	count(s, p, SERIES_ERROR, &(struct series_sample){.n = n});
}

/* --- spans --- */

static const char *endpoint_name(void *arg, uint32_t endpoint, uint32_t gen)
{
	const char *id = "", *version = "";
	struct supervisor *s = arg;

	registry_endpoint_names(s->registry, endpoint, gen, &id, &version);
	return id;
}

static struct span_names span_names(struct supervisor *s, const struct record *rec,
				    const struct accesslog_names *n)
{
	return (struct span_names){.source = n->caller,
				   .service = n->callee,
				   .instance = n->endpoint,
				   .version = n->version,
				   .node = s->cfg->node,
				   .slow = span_took_ns(rec) > s->cfg->trace_slow_ns,
				   .endpoint = endpoint_name,
				   .arg = s};
}

static void send_span(struct supervisor *s, const struct record *rec,
		      const struct accesslog_names *n)
{
	struct span_names names = span_names(s, rec, n);
	struct telemetry *t = &s->telemetry;

	if (t->renamed != registry_renamed(s->registry)) {
		t->renamed = registry_renamed(s->registry);
		outbox_seal(t->outbox, t->wall.offset_ns);
	}
	outbox_record(t->outbox, rec, &names);
}

/* A storm of errors must not cost more than all the rest. */
static void send_unsampled(struct supervisor *s, const struct record *rec,
			   const struct accesslog_names *n)
{
	struct telemetry *t = &s->telemetry;
	uint64_t second = s->loop.now_ns / 1000000000;

	if (second != t->kept_second)
		t->kept = 0;
	t->kept_second = second;
	if (t->kept++ < TELEMETRY_KEPT_A_SECOND)
		send_span(s, rec, n);
	else
		outbox_lose(t->outbox, OUTBOX_SPANS, 1);
}

static struct telemetry_wanted *place_of(const struct telemetry *t, const uint8_t trace_id[16])
{
	uint32_t h;

	memcpy(&h, trace_id + 12, sizeof(h)); /* W3C asks for these to be random */
	return &t->wanted[(h ^ h >> 16) % TELEMETRY_WANTED];
}

static bool wanted(const struct supervisor *s, const struct record *rec)
{
	const struct telemetry *t = &s->telemetry;
	const struct telemetry_wanted *w;

	if (t->wanted_until_ns <= s->loop.now_ns)
		return false;
	w = place_of(t, rec->trace_id);
	return w->until_ns > s->loop.now_ns && !memcmp(w->trace_id, rec->trace_id, 16);
}

static void want_one(const struct record *rec, void *arg)
{
	struct supervisor *s = arg;

	send_unsampled(s, rec, &parties_of_record(s, rec)->names);
}

/* What is kept of it goes, and what comes of it in the next seconds. */
void telemetry_want(struct supervisor *s, const char *id)
{
	struct telemetry *t = &s->telemetry;
	struct telemetry_wanted *w;
	uint8_t bytes[16];

	if (!trace_id_usable(id, strlen(id)))
		return;
	trace_id_bytes(id, strlen(id), bytes);
	w = place_of(t, bytes);
	memcpy(w->trace_id, bytes, sizeof(bytes));
	w->until_ns = t->wanted_until_ns = s->loop.now_ns + TAIL_KEEP_NS;
	tail_take(t->tail, bytes, s->loop.now_ns, want_one, s);
}

bool telemetry_keeps(const struct supervisor *s, const struct record *rec)
{
	return rec->flags & RECORD_TRACED &&
	       (rec->flags & RECORD_SAMPLED || span_matters(rec, s->cfg->trace_slow_ns) ||
		wanted(s, rec));
}

static void trace(struct supervisor *s, const struct record *rec, const struct accesslog_names *n,
		  bool kept)
{
	if (!kept && rec->flags & RECORD_TRACED)
		tail_put(s->telemetry.tail, rec, s->loop.now_ns);
	else if (kept && rec->flags & RECORD_SAMPLED)
		send_span(s, rec, n);
	else if (kept)
		send_unsampled(s, rec, n);
}

/* --- taps --- */

static void send_tapped(struct supervisor *s, struct tapped_filter *f, const struct record *rec,
			const struct accesslog_names *n)
{
	struct span_names names = span_names(s, rec, n);
	struct telemetry *t = &s->telemetry;

	if (!taps_may_send(&t->taps, s->loop.now_ns)) {
		f->lost++;
		outbox_lose(t->outbox, OUTBOX_TAPPED, 1);
		return;
	}
	buf_reset(&t->text);
	buf_printf(&t->text, "{\"tap\":%llu,\"span\":", (unsigned long long)f->tap);
	span_json(rec, &names, walltime_ns(&t->wall, rec->start_ns), &t->text);
	buf_char(&t->text, '}');
	f->lost += t->text.failed;
	if (t->text.failed)
		outbox_lose(t->outbox, OUTBOX_TAPPED, 1);
	else
		outbox_add(t->outbox, OUTBOX_TAPPED, 0, t->text.data, t->text.len, 1);
}

static void tap(struct supervisor *s, const struct record *rec, const struct accesslog_names *n)
{
	struct taps *t = &s->telemetry.taps;

	for (uint32_t i = 0; i < t->n; i++)
		if (taps_fits(&t->filter[i], rec, n->callee, n->caller))
			send_tapped(s, &t->filter[i], rec, n);
}

/* Each tap is told what it misses. */
void telemetry_tell_lost(struct supervisor *s)
{
	struct telemetry *t = &s->telemetry;
	char text[80];

	for (uint32_t i = 0; i < t->taps.n; i++) {
		struct tapped_filter *f = &t->taps.filter[i];
		int n = snprintf(text, sizeof(text), "{\"tap\":%llu,\"lost\":%u}",
				 (unsigned long long)f->tap, f->lost);

		if (f->lost)
			outbox_add(t->outbox, OUTBOX_TAPPED, 0, text, (size_t)n, 0);
		f->lost = 0;
	}
}

void telemetry_taps(void *arg, const cJSON *taps, uint64_t serial)
{
	struct supervisor *s = arg;

	taps_polled(&s->telemetry.taps, taps, serial, s->loop.now_ns);
}

void telemetry_record(struct supervisor *s, const struct record *rec, struct parties *p, bool kept)
{
	count_record(s, rec, p);
	trace(s, rec, &p->names, kept);
	tap(s, rec, &p->names);
}
