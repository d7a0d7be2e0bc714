/* SPDX-License-Identifier: Apache-2.0 */
/* See tap.h. The form of the events: "data: JSON", "event: lost" with its count, comments. */
#include "ctl/meshd/tap.h"
#include "lib/json.h"
#include "lib/trace_id.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SMALL  (16u << 10) /* a buffer of more is given back once it is empty */
#define MARGIN 128	   /* bytes around an event, with one that says what is lost before it */

struct tap {
	struct tap *next;
	struct tap_hub *hub;
	uint64_t id;
	struct tap_filter filter;
	void (*ready)(void *arg);
	void *arg;
	struct buf out;
	size_t read;	  /* bytes of `out` that the reader has */
	uint64_t lost;	  /* since the last event `lost` */
	uint64_t beat_ms; /* of the last look at which nothing had come */
	bool quiet, waits, ended;
};

struct tap_hub {
	struct loop *loop;
	struct timer wake;
	struct tap *first;
	unsigned n;
	uint64_t serial;
	uint64_t events, lost;
	void (*told)(void *arg);
	void *arg;
	bool ended;
};

int tap_hub_new(struct loop *l, uint64_t serial, void (*told)(void *arg), void *arg,
		struct tap_hub **out)
{
	struct tap_hub *h = calloc(1, sizeof(*h));

	if (!h)
		return -ENOMEM;
	*h = (struct tap_hub){.loop = l, .serial = serial, .told = told, .arg = arg};
	*out = h;
	return 0;
}

void tap_hub_free(struct tap_hub **h)
{
	if (!*h)
		return;
	timer_cancel((*h)->loop, &(*h)->wake);
	free(*h);
	*h = NULL;
}

/* --- what waits for a reader --------------------------------------------------------- */

static void tell_ready(struct tap *t)
{
	if (!t->waits)
		return;
	t->waits = false;
	t->ready(t->arg);
}

/* Room for more: what was read goes first. */
static void compact(struct tap *t)
{
	if (!t->read)
		return;
	memmove(t->out.data, t->out.data + t->read, t->out.len - t->read);
	t->out.len -= t->read;
	t->read = 0;
}

/* All of it, or -ENOBUFS: half an event would spoil the next. */
static int put(struct tap *t, const char *head, const char *text, size_t len)
{
	size_t before;

	if (t->out.len - t->read + strlen(head) + len + 2 > TAP_BUFFER_MAX)
		return -ENOBUFS;
	if (t->read > t->out.len / 2)
		compact(t);
	before = t->out.len;
	buf_str(&t->out, head);
	buf_add(&t->out, text, len);
	buf_str(&t->out, "\n\n");
	if (t->out.failed) { /* no memory */
		t->out.len = before;
		t->out.failed = false;
		return -ENOBUFS;
	}
	return 0;
}

static int put_lost(struct tap *t)
{
	char text[64];
	int n = snprintf(text, sizeof(text), "{\"count\":%llu}", (unsigned long long)t->lost);

	if (!t->lost)
		return 0;
	if (put(t, "event: lost\ndata: ", text, (size_t)n))
		return -ENOBUFS;
	t->lost = 0;
	return 0;
}

static void lose(struct tap *t, uint64_t n)
{
	t->lost += n;
	t->hub->lost += n;
}

static void give(struct tap *t, const char *text, size_t len)
{
	bool room = t->out.len - t->read + len + MARGIN <= TAP_BUFFER_MAX;

	t->quiet = false;
	if (len > TAP_EVENT_MAX || !room || put_lost(t) || put(t, "data: ", text, len))
		lose(t, 1);
	else
		t->hub->events++;
	tell_ready(t);
}

long tap_read(struct tap *t, char *out, size_t cap)
{
	size_t n;

	if (t->out.len == t->read)
		put_lost(t);
	n = t->out.len - t->read;
	n = n < cap ? n : cap;
	if (n)
		memcpy(out, t->out.data + t->read, n);
	t->read += n;
	if (n && t->read == t->out.len) {
		t->read = 0;
		if (t->out.cap > SMALL)
			buf_done(&t->out);
		else
			buf_reset(&t->out);
	}
	if (!n && t->ended)
		return -1;
	t->waits = !n;
	return (long)n;
}

/* --- open and close ------------------------------------------------------------------ */

static void on_wake(struct timer *timer)
{
	struct tap_hub *h = (struct tap_hub *)((char *)timer - offsetof(struct tap_hub, wake));

	h->told(h->arg);
}

int tap_open(struct tap_hub *h, const struct tap_filter *f, void (*ready)(void *arg), void *arg,
	     struct tap **out)
{
	struct tap *t;

	if (h->ended)
		return -ESHUTDOWN;
	if (h->n >= TAP_MAX)
		return -ENOSPC;
	t = calloc(1, sizeof(*t));
	if (!t)
		return -ENOMEM;
	*t = (struct tap){.next = h->first,
			  .hub = h,
			  .id = ++h->serial,
			  .filter = *f,
			  .ready = ready,
			  .arg = arg};
	buf_init(&t->out, TAP_BUFFER_MAX * 2);
	put(t, "retry: 1000\n: ", "open", 4); /* so that the head of the answer goes out */
	h->first = t;
	h->n++;
	if (!h->wake.prev) /* who opens many at a time does not make agents run for each */
		timer_arm(h->loop, &h->wake, TAP_WAKE_MS, on_wake);
	*out = t;
	return 0;
}

/* Agents hear of it with their next batch; what they still send is passed over. */
void tap_close(struct tap **tp)
{
	struct tap *t = *tp, **at;

	if (!t)
		return;
	for (at = &t->hub->first; *at != t; at = &(*at)->next)
		;
	*at = t->next;
	t->hub->n--;
	t->hub->serial++;
	buf_done(&t->out);
	free(t);
	*tp = NULL;
}

void tap_end(struct tap_hub *h)
{
	h->ended = true;
	for (struct tap *t = h->first, *next; t; t = next) {
		next = t->next; /* it may close itself */
		t->ended = true;
		tell_ready(t);
	}
}

void tap_sweep(struct tap_hub *h, uint64_t now_ms)
{
	for (struct tap *t = h->first, *next; t; t = next) {
		next = t->next;
		if (!t->quiet || t->lost) {
			t->quiet = true;
			t->beat_ms = now_ms;
			if (t->lost)
				tell_ready(t);
		} else if (now_ms - t->beat_ms >= TAP_BEAT_MS) {
			t->beat_ms = now_ms;
			put(t, ":", "", 0); /* no room: the reader has enough to read */
			tell_ready(t);
		}
	}
}

/* --- what comes in ------------------------------------------------------------------- */

/* Do two ids stand for the same one? */
static bool same_trace(const char *a, const char *b)
{
	uint8_t x[16], y[16];

	if (!trace_id_usable(a, strlen(a)) || !trace_id_usable(b, strlen(b)))
		return false;
	trace_id_bytes(a, strlen(a), x);
	trace_id_bytes(b, strlen(b), y);
	return !memcmp(x, y, sizeof(x));
}

/* Not every hop has seen the text that a caller chose: then a span has what it stands for. */
static bool is_trace(const cJSON *span, const char *trace)
{
	const cJSON *alias;

	if (same_trace(json_str(span, "traceId", ""), trace))
		return true;
	cJSON_ArrayForEach (alias, cJSON_GetObjectItemCaseSensitive(span, "aliases"))
		if (cJSON_IsString(alias) && !strcmp(alias->valuestring, trace))
			return true;
	return false;
}

/* Agents have looked already; one that is older than a filter has not. */
static bool fits(const struct tap_filter *f, const cJSON *span)
{
	if (*f->service && strcmp(f->service, json_str(span, "service", "")))
		return false;
	if (*f->source && strcmp(f->source, json_str(span, "source", "")))
		return false;
	if (f->error && !json_bool(span, "error", 0))
		return false;
	if (f->min_ms && json_num(span, "duration", 0) < (double)f->min_ms)
		return false;
	return !*f->trace || is_trace(span, f->trace);
}

static struct tap *tap_find(const struct tap_hub *h, double id)
{
	for (struct tap *t = h->first; t; t = t->next)
		if ((double)t->id == id)
			return t;
	return NULL;
}

static void take(struct tap *t, const cJSON *item)
{
	const cJSON *span = cJSON_GetObjectItemCaseSensitive(item, "span");
	double lost = json_num(item, "lost", 0);
	char *text;

	if (lost >= 1 && lost < JSON_WHOLE_MAX)
		lose(t, (uint64_t)lost);
	if (!cJSON_IsObject(span) || !fits(&t->filter, span))
		return;
	text = cJSON_PrintUnformatted(span); /* no line feed in it: JSON escapes them */
	if (text)
		give(t, text, strlen(text));
	else
		lose(t, 1);
	cJSON_free(text);
}

void tap_take(struct tap_hub *h, const cJSON *tapped)
{
	const cJSON *item;
	struct tap *t;

	if (!h->first || !cJSON_IsArray(tapped))
		return;
	cJSON_ArrayForEach (item, tapped) {
		t = tap_find(h, json_num(item, "tap", 0));
		if (t)
			take(t, item);
	}
}

/* --- what agents and people are told ------------------------------------------------- */

void tap_list(const struct tap_hub *h, cJSON *array)
{
	for (const struct tap *t = h->first; t; t = t->next) {
		const struct tap_filter *f = &t->filter;
		cJSON *v = cJSON_CreateObject();

		cJSON_AddNumberToObject(v, "tap", (double)t->id);
		if (*f->service)
			cJSON_AddStringToObject(v, "service", f->service);
		if (*f->source)
			cJSON_AddStringToObject(v, "source", f->source);
		if (*f->trace)
			cJSON_AddStringToObject(v, "trace", f->trace);
		cJSON_AddBoolToObject(v, "error", f->error);
		cJSON_AddNumberToObject(v, "minMs", (double)f->min_ms);
		cJSON_AddItemToArray(array, v);
	}
}

uint64_t tap_serial(const struct tap_hub *h)
{
	return h->serial;
}

void tap_count(const struct tap_hub *h, struct tap_stats *out)
{
	*out = (struct tap_stats){.open = h->n, .events = h->events, .lost = h->lost};
}
