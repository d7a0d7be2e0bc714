/* SPDX-License-Identifier: Apache-2.0 */
/* See outbox.h. */
#include "agent/telemetry/outbox.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BATCH_MAX (4u << 20) /* below meshd's limit of a body */

struct item {
	struct item *next;
	uint64_t time_ms;
	uint32_t n; /* elements */
	size_t len;
	char text[];
};

struct list {
	struct item *first, **last;
	size_t bytes;
	uint64_t n; /* elements */
};

static const struct {
	const char *name;
	size_t max;    /* bytes that wait */
	size_t batch;  /* ... of them in one batch; the first element in any case */
	uint64_t most; /* elements in one batch: what meshd does at once */
} kinds[OUTBOX_KINDS] = {
	[OUTBOX_SERIES] = {"series", 8u << 20, 0, 0}, /* one item: those of one second */
	[OUTBOX_SPANS] = {"spans", 4u << 20, 1u << 20, OUTBOX_BATCH_SPANS},
	[OUTBOX_TAPPED] = {"tapped", 1u << 20, 512u << 10, 1000},
	[OUTBOX_WHYS] = {"whys", 2u << 20, 512u << 10, 1000},
};

struct outbox {
	char *node, *epoch;
	struct list lists[OUTBOX_KINDS];
	uint64_t seq;		      /* of the last batch that was made */
	char *batch;		      /* it, until it is answered for */
	uint64_t holds[OUTBOX_KINDS]; /* elements in it */
	struct outbox_counts counts;
};

const char *outbox_kind_name(enum outbox_kind k)
{
	return kinds[k].name;
}

int outbox_new(const char *node, const char *epoch, struct outbox **out)
{
	struct outbox *o = calloc(1, sizeof(*o));

	if (!o)
		return -ENOMEM;
	for (int k = 0; k < OUTBOX_KINDS; k++)
		o->lists[k].last = &o->lists[k].first;
	o->node = strdup(node);
	o->epoch = strdup(epoch);
	if (!o->node || !o->epoch) {
		outbox_free(&o);
		return -ENOMEM;
	}
	*out = o;
	return 0;
}

static struct item *take(struct list *l)
{
	struct item *i = l->first;

	l->first = i->next;
	if (!l->first)
		l->last = &l->first;
	l->bytes -= i->len;
	l->n -= i->n;
	return i;
}

static void drop_first(struct outbox *o, enum outbox_kind kind)
{
	struct item *i = take(&o->lists[kind]);

	o->counts.dropped[kind] += i->n;
	free(i);
}

void outbox_free(struct outbox **op)
{
	struct outbox *o = *op;

	if (!o)
		return;
	for (int k = 0; k < OUTBOX_KINDS; k++)
		while (o->lists[k].first)
			drop_first(o, k);
	free(o->batch);
	free(o->node);
	free(o->epoch);
	free(o);
	*op = NULL;
}

/* --- what comes in --- */

void outbox_lose(struct outbox *o, enum outbox_kind kind, uint64_t n)
{
	o->counts.dropped[kind] += n;
}

void outbox_add(struct outbox *o, enum outbox_kind kind, uint64_t time_ms, const char *text,
		size_t len, uint32_t n)
{
	struct list *l = &o->lists[kind];
	struct item *i = NULL;

	if (kind == OUTBOX_WHYS ? l->n + n <= OUTBOX_WHYS_MAX : len <= kinds[kind].max)
		i = malloc(sizeof(*i) + len);
	if (!i) {
		outbox_lose(o, kind, n);
		return;
	}
	while (l->first && l->bytes + len > kinds[kind].max)
		drop_first(o, kind);
	i->next = NULL;
	i->time_ms = time_ms;
	i->n = n;
	i->len = len;
	memcpy(i->text, text, len);
	*l->last = i;
	l->last = &i->next;
	l->bytes += len;
	l->n += n;
}

/* One that lies in the future, because the clock was set back, waits for its time to come. */
void outbox_age(struct outbox *o, uint64_t now_ms)
{
	struct list *l = &o->lists[OUTBOX_SERIES];

	while (l->first && l->first->time_ms + OUTBOX_SERIES_KEEP_MS < now_ms)
		drop_first(o, OUTBOX_SERIES);
}

bool outbox_has(const struct outbox *o, enum outbox_kind kind)
{
	return (o->batch && o->holds[kind]) || o->lists[kind].first;
}

uint64_t outbox_count(const struct outbox *o, enum outbox_kind kind)
{
	return o->lists[kind].n + (o->batch ? o->holds[kind] : 0);
}

bool outbox_waiting(const struct outbox *o)
{
	for (int k = 0; k < OUTBOX_KINDS; k++)
		if (outbox_has(o, k))
			return true;
	return o->batch;
}

bool outbox_behind(const struct outbox *o)
{
	const struct item *second = o->lists[OUTBOX_SERIES].first;

	for (int k = OUTBOX_SPANS; k < OUTBOX_KINDS; k++)
		if (o->lists[k].bytes > kinds[k].batch || o->lists[k].n > kinds[k].most)
			return true;
	return second && (o->batch || second->next);
}

/* --- what goes out --- */

/* The elements of a kind that fit into a batch. Series: one item, of one second; the time of the
 * batch is theirs. */
static void put_kind(struct outbox *o, struct buf *b, enum outbox_kind kind, uint64_t *time_ms)
{
	struct list *l = &o->lists[kind];
	size_t begin = b->len;

	o->holds[kind] = 0;
	while (l->first &&
	       (b->len == begin || (b->len - begin + l->first->len < kinds[kind].batch &&
				    o->holds[kind] + l->first->n <= kinds[kind].most))) {
		struct item *i = take(l);

		if (b->len != begin)
			buf_char(b, ',');
		buf_add(b, i->text, i->len);
		o->holds[kind] += i->n;
		if (kind == OUTBOX_SERIES)
			*time_ms = i->time_ms;
		free(i);
	}
}

static void put_lost(const struct outbox *o, struct buf *b, uint64_t ring_lost)
{
	const uint64_t *d = o->counts.dropped;

	buf_printf(b,
		   ",\"lost\":{\"ring\":%llu,\"series\":%llu,\"spans\":%llu,\"tapped\":%llu,"
		   "\"whys\":%llu}",
		   (unsigned long long)(ring_lost >> 53 ? 1ULL << 53 : ring_lost),
		   (unsigned long long)d[OUTBOX_SERIES], (unsigned long long)d[OUTBOX_SPANS],
		   (unsigned long long)d[OUTBOX_TAPPED], (unsigned long long)d[OUTBOX_WHYS]);
}

static void lose_batch(struct outbox *o)
{
	for (int k = 0; k < OUTBOX_KINDS; k++)
		o->counts.dropped[k] += o->holds[k];
}

/* Without memory its content is lost, and its number is not used. */
const char *outbox_batch(struct outbox *o, uint64_t now_ms, uint64_t ring_lost)
{
	uint64_t time_ms = now_ms;
	struct buf b;

	if (o->batch)
		return o->batch;
	buf_init(&b, BATCH_MAX);
	buf_char(&b, '{');
	buf_member(&b, "node", o->node);
	buf_char(&b, ',');
	buf_member(&b, "epoch", o->epoch);
	buf_printf(&b, ",\"seq\":%llu", (unsigned long long)o->seq + 1);
	for (int k = 0; k < OUTBOX_KINDS; k++) {
		buf_printf(&b, ",\"%s\":[", kinds[k].name);
		put_kind(o, &b, k, &time_ms);
		buf_char(&b, ']');
	}
	buf_printf(&b, ",\"time\":%llu", (unsigned long long)time_ms);
	put_lost(o, &b, ring_lost);
	buf_char(&b, '}');
	o->batch = buf_take(&b);
	if (o->batch)
		o->seq++;
	else
		lose_batch(o);
	return o->batch;
}

uint64_t outbox_seq(const struct outbox *o)
{
	return o->seq;
}

/* Who sends no token, or one that is not meshd's any more, and whoever sends too much, may come
 * again; whatever else meshd finds wrong with a batch will be wrong the next time too. */
enum outbox_verdict outbox_verdict(int status)
{
	if (status / 100 == 2)
		return OUTBOX_TAKEN;
	if (status / 100 != 4 || status == 401 || status == 403 || status == 408 || status == 429)
		return OUTBOX_AGAIN;
	return OUTBOX_REFUSED;
}

void outbox_answered(struct outbox *o, uint64_t seq, enum outbox_verdict v)
{
	if (!o->batch || seq != o->seq)
		return;
	if (v == OUTBOX_AGAIN) {
		o->counts.again++;
		return;
	}
	if (v == OUTBOX_REFUSED) {
		o->counts.refused++;
		lose_batch(o);
	} else {
		o->counts.batches++;
		for (int k = 0; k < OUTBOX_KINDS; k++)
			o->counts.sent[k] += o->holds[k];
	}
	free(o->batch);
	o->batch = NULL;
}

const struct outbox_counts *outbox_counts(const struct outbox *o)
{
	return &o->counts;
}
