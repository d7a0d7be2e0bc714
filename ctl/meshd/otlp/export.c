/* SPDX-License-Identifier: Apache-2.0 */
/* See otlp.h. The queue between the loop and the thread, and what the thread does with it. */
#include "ctl/meshd/otlp/encode.h"
#include "ctl/meshd/otlp/send.h"
#include "lib/clock.h"
#include "lib/log.h"

#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define SCOPE	    "{\"name\":\"sockmesh\",\"version\":\"" MESH_VERSION "\"}"
#define BODY_MAX    (OTLP_QUEUE_BYTES + (1u << 20))
#define BODY_KEPT   (2u << 20) /* memory that the next batch finds */
#define SAY_EACH_MS 60000      /* of what goes wrong, a line */

struct item {
	struct item *next;
	uint64_t ms; /* when it came */
	size_t bytes;
	const char *span; /* in text, behind the resource and its NUL */
	char text[];
};

struct otlp {
	struct sender *sender;
	pthread_t thread;
	uint64_t batch_ms, backoff_ms;
	struct buf resource, span; /* the loop's */
	_Atomic uint64_t stop_ms;  /* UINT64_MAX: go on */

	pthread_mutex_t lock; /* of what follows; held for a few instructions */
	struct item *first, **last;
	unsigned queued, sending;
	size_t bytes;
	struct otlp_stats stats;

	/* the thread's */
	struct item *batch[OTLP_BATCH];
	unsigned n;
	struct buf body;
	uint64_t said_ms;
	bool trouble;
};

static uint64_t now_ms(void)
{
	return clock_mono_ns() / 1000000;
}

static bool stopping(const struct otlp *o)
{
	return o->stop_ms != UINT64_MAX;
}

/* --- the loop's side ----------------------------------------------------------------- */

static struct item *item_new(struct otlp *o, const cJSON *span)
{
	struct item *i;

	buf_reset(&o->resource);
	buf_reset(&o->span);
	otlp_encode_resource(&o->resource, span);
	if (otlp_encode_span(&o->span, span) || o->resource.failed)
		return NULL;
	i = malloc(sizeof(*i) + o->resource.len + o->span.len + 2);
	if (!i)
		return NULL;
	i->next = NULL;
	i->ms = now_ms();
	i->bytes = o->resource.len + o->span.len;
	memcpy(i->text, o->resource.data, o->resource.len + 1);
	i->span = memcpy(i->text + o->resource.len + 1, o->span.data, o->span.len + 1);
	return i;
}

static bool has_room(const struct otlp *o, size_t bytes)
{
	return o->queued + o->sending < OTLP_QUEUE_MAX && o->bytes + bytes <= OTLP_QUEUE_BYTES;
}

/* While the receiver is away nothing is encoded in vain. */
static bool is_full(struct otlp *o)
{
	bool full;

	pthread_mutex_lock(&o->lock);
	full = !has_room(o, 0);
	o->stats.dropped += full;
	pthread_mutex_unlock(&o->lock);
	return full;
}

/* Is there room? Then it is the queue's, and *wake says whether the thread is to look. */
static bool enqueue(struct otlp *o, struct item *i, bool *wake)
{
	bool room;

	pthread_mutex_lock(&o->lock);
	room = has_room(o, i->bytes);
	if (room) {
		*o->last = i;
		o->last = &i->next;
		o->bytes += i->bytes;
		o->queued++;
	} else {
		o->stats.dropped++;
	}
	*wake = room && (o->queued == 1 || o->queued == OTLP_BATCH);
	pthread_mutex_unlock(&o->lock);
	return room;
}

bool otlp_has_room(struct otlp *o)
{
	return o && !is_full(o);
}

void otlp_drop(struct otlp *o)
{
	if (!o)
		return;
	pthread_mutex_lock(&o->lock);
	o->stats.dropped++;
	pthread_mutex_unlock(&o->lock);
}

void otlp_offer(struct otlp *o, const cJSON *span)
{
	struct item *i;
	bool wake = false;

	if (!o || is_full(o))
		return;
	i = item_new(o, span);
	if (!i) {
		otlp_drop(o);
		return;
	}
	if (!enqueue(o, i, &wake))
		free(i);
	if (wake)
		sender_wake(o->sender);
}

void otlp_count(struct otlp *o, struct otlp_stats *out)
{
	*out = (struct otlp_stats){0};
	if (!o)
		return;
	pthread_mutex_lock(&o->lock);
	*out = o->stats;
	out->queued = o->queued + o->sending;
	pthread_mutex_unlock(&o->lock);
}

/* --- the thread: a batch ------------------------------------------------------------- */

/* Milliseconds until there is a batch; 0: now; UINT64_MAX: there is nothing. */
static uint64_t batch_due(struct otlp *o)
{
	uint64_t due = UINT64_MAX, now = now_ms();

	pthread_mutex_lock(&o->lock);
	if (o->queued >= OTLP_BATCH || (o->first && stopping(o)))
		due = 0;
	else if (o->first)
		due = o->first->ms + o->batch_ms > now ? o->first->ms + o->batch_ms - now : 0;
	pthread_mutex_unlock(&o->lock);
	return due;
}

static void batch_take(struct otlp *o)
{
	pthread_mutex_lock(&o->lock);
	for (o->n = 0; o->first && o->n < OTLP_BATCH; o->n++) {
		o->batch[o->n] = o->first;
		o->bytes -= o->first->bytes;
		o->first = o->first->next;
	}
	if (!o->first)
		o->last = &o->first;
	o->queued -= o->n;
	o->sending = o->n;
	pthread_mutex_unlock(&o->lock);
}

static int by_resource(const void *x, const void *y)
{
	const struct item *a = *(struct item *const *)x, *b = *(struct item *const *)y;
	int r = strcmp(a->text, b->text);

	return r ? r : (a->ms > b->ms) - (a->ms < b->ms);
}

/* ExportTraceServiceRequest: the spans of a resource together. */
static void batch_write(struct otlp *o)
{
	struct buf *b = &o->body;

	qsort(o->batch, o->n, sizeof(*o->batch), by_resource);
	buf_reset(b);
	buf_str(b, "{\"resourceSpans\":[");
	for (unsigned i = 0; i < o->n; i++) {
		const struct item *it = o->batch[i];
		bool first = !i || strcmp(o->batch[i - 1]->text, it->text);
		bool last = i + 1 == o->n || strcmp(o->batch[i + 1]->text, it->text);

		if (first) {
			buf_str(b, i ? ",{\"resource\":" : "{\"resource\":");
			buf_str(b, it->text);
			buf_str(b, ",\"scopeSpans\":[{\"scope\":" SCOPE ",\"spans\":[");
		}
		buf_str(b, it->span);
		buf_str(b, last ? "]}]}" : ",");
	}
	buf_str(b, "]}");
}

/* --- the thread: sending ------------------------------------------------------------- */

static void say(struct otlp *o, const char *what, const char *why)
{
	uint64_t now = now_ms();

	if (o->trouble && now - o->said_ms < SAY_EACH_MS)
		return;
	o->trouble = true;
	o->said_ms = now;
	log_warn("OTLP export: %s (%s)", what, why);
}

static void say_good(struct otlp *o)
{
	if (o->trouble)
		log_info("OTLP export: the receiver takes spans");
	o->trouble = false;
}

/* Doubles from try to try; a random point of the upper half, so that many who were refused together
 * do not come back together. Nobody comes before the receiver has said. */
static uint64_t wait_ms(const struct otlp *o, unsigned tries, uint64_t after_ms)
{
	uint64_t ms = o->backoff_ms;
	uint32_t r;

	for (unsigned i = 1; i < tries && ms < OTLP_BACKOFF_MAX; i++)
		ms *= 2;
	ms = ms < OTLP_BACKOFF_MAX ? ms : OTLP_BACKOFF_MAX;
	if (getrandom(&r, sizeof(r), GRND_NONBLOCK) != sizeof(r))
		r = (uint32_t)clock_mono_ns();
	if (after_ms)
		return after_ms + r % (o->backoff_ms / 2 + 1);
	return ms / 2 + r % (ms / 2 + 1);
}

static void wait_until(struct otlp *o, uint64_t ms)
{
	uint64_t end = now_ms() + ms, now;

	while (!stopping(o) && (now = now_ms()) < end)
		sender_wait(o->sender, end - now);
}

/* Once at the end: no time to wait for a receiver that does not want. */
static void batch_send(struct otlp *o, struct verdict *v)
{
	*v = (struct verdict){.what = SENT_REFUSED, .why = "out of memory"};
	for (unsigned tries = 1; !o->body.failed; tries++) {
		sender_send(o->sender, &o->body, &o->stop_ms, v);
		if (v->what != SENT_AGAIN || tries == OTLP_TRIES || stopping(o))
			return;
		say(o, "trying again", v->why);
		wait_until(o, wait_ms(o, tries, v->after_ms));
		pthread_mutex_lock(&o->lock);
		o->stats.retries++;
		pthread_mutex_unlock(&o->lock);
	}
}

static void batch_done(struct otlp *o, const struct verdict *v)
{
	uint64_t rejected = v->rejected < o->n ? v->rejected : o->n;

	pthread_mutex_lock(&o->lock);
	o->sending = 0;
	if (v->what == SENT_TAKEN) {
		o->stats.exported += o->n - rejected;
		o->stats.rejected += rejected;
	} else {
		o->stats.failed += o->n;
	}
	pthread_mutex_unlock(&o->lock);
	if (v->what != SENT_TAKEN)
		say(o, "spans are lost", v->why);
	else if (*v->why)
		say(o, "the receiver is not content", v->why);
	else
		say_good(o);
	for (unsigned i = 0; i < o->n; i++)
		free(o->batch[i]);
	o->n = 0;
	if (o->body.cap > BODY_KEPT)
		buf_done(&o->body);
}

static void *run(void *arg)
{
	struct otlp *o = arg;
	struct verdict v;

	for (;;) {
		uint64_t due = batch_due(o);

		if (stopping(o) && (due == UINT64_MAX || now_ms() >= o->stop_ms))
			return NULL;
		if (due) {
			sender_wait(o->sender, due);
			continue;
		}
		batch_take(o);
		batch_write(o);
		batch_send(o, &v);
		batch_done(o, &v);
	}
}

/* --- life ---------------------------------------------------------------------------- */

/* Signals are the loop's. */
static int start(struct otlp *o)
{
	sigset_t all, before;
	int err;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	err = pthread_create(&o->thread, NULL, run, o);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -err;
}

static void discard(struct otlp *o)
{
	sender_free(&o->sender);
	buf_done(&o->resource);
	buf_done(&o->span);
	buf_done(&o->body);
	pthread_mutex_destroy(&o->lock);
	free(o);
}

int otlp_new(const struct otlp_config *c, struct otlp **out, char *why, size_t cap)
{
	struct otlp *o;
	int err;

	snprintf(why, cap, "out of memory");
	if (curl_global_init(CURL_GLOBAL_DEFAULT)) /* not safe beside other threads: before ours */
		return -ENOMEM;
	o = calloc(1, sizeof(*o));
	if (!o)
		return -ENOMEM;
	o->last = &o->first;
	o->stop_ms = UINT64_MAX;
	o->batch_ms = c->batch_ms ? c->batch_ms : OTLP_BATCH_MS;
	o->backoff_ms = c->backoff_ms ? c->backoff_ms : OTLP_BACKOFF_MS;
	pthread_mutex_init(&o->lock, NULL);
	buf_init(&o->resource, OTLP_SPAN_MAX);
	buf_init(&o->span, OTLP_SPAN_MAX);
	buf_init(&o->body, BODY_MAX);
	err = sender_new(c, &o->sender, why, cap);
	if (!err) {
		err = start(o);
		if (err)
			snprintf(why, cap, "cannot start the thread that exports spans: %s",
				 strerror(-err));
	}
	if (err)
		discard(o);
	else
		*out = o;
	return err;
}

void otlp_free(struct otlp **op)
{
	struct otlp *o = *op;
	struct otlp_stats before, s;
	struct item *next;

	if (!o)
		return;
	otlp_count(o, &before);
	o->stop_ms = now_ms() + OTLP_FLUSH_MS;
	sender_wake(o->sender);
	pthread_join(o->thread, NULL);
	otlp_count(o, &s);
	if (s.queued || s.failed > before.failed)
		log_warn("OTLP export: %llu spans could not be sent any more",
			 (unsigned long long)(s.queued + s.failed - before.failed));
	for (struct item *i = o->first; i; i = next) {
		next = i->next;
		free(i);
	}
	discard(o);
	*op = NULL;
}
