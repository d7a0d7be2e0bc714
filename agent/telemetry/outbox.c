/* SPDX-License-Identifier: Apache-2.0 */
/* See outbox.h. */
#include "agent/telemetry/outbox.h"

#include "lib/buf.h"
#include "lib/json.h"
#include "lib/record_batch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define JSON_MAX   (4u << 20) /* with the records below meshd's limit of a body */
#define PIECES_MAX 64	      /* record batches in a batch */

struct item {
	struct item *next;
	uint64_t time_ms;
	uint32_t n;    /* elements */
	uint32_t at;   /* of records: those before it were made JSON */
	size_t len;    /* bytes of memory that it takes */
	void *records; /* a batch of them, instead of a text */
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
	[OUTBOX_SPANS] = {"spans", OUTBOX_RECORDS_MAX, 1u << 20, OUTBOX_BATCH_SPANS}, /* JSON */
	[OUTBOX_TAPPED] = {"tapped", 1u << 20, 512u << 10, 1000},
	[OUTBOX_WHYS] = {"whys", 2u << 20, 512u << 10, 1000},
};

struct outbox {
	char *node, *epoch;
	struct list lists[OUTBOX_KINDS];
	struct record_batch *writer; /* the records that came last */
	int64_t wall_ns;	     /* theirs */
	bool takes_records;	     /* meshd does */
	uint64_t seq;		     /* of the last batch that was made */
	/* It, until it is answered for; no pieces: there is none. The first one is JSON. */
	struct iovec pieces[1 + PIECES_MAX];
	size_t npieces;
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
	if (!o->node || !o->epoch || record_batch_new(node, &o->writer)) {
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

static void put(struct list *l, struct item *i)
{
	i->next = NULL;
	*l->last = i;
	l->last = &i->next;
	l->bytes += i->len;
	l->n += i->n;
}

static void item_free(struct outbox *o, struct item *i)
{
	record_batch_reuse(o->writer, i->records);
	free(i);
}

static void drop_first(struct outbox *o, enum outbox_kind kind)
{
	struct item *i = take(&o->lists[kind]);

	o->counts.dropped[kind] += i->n;
	item_free(o, i);
}

static void make_room(struct outbox *o, enum outbox_kind kind, size_t len)
{
	while (o->lists[kind].first && o->lists[kind].bytes + len > kinds[kind].max)
		drop_first(o, kind);
}

static void records_free(struct outbox *o)
{
	while (o->npieces > 1)
		record_batch_reuse(o->writer, o->pieces[--o->npieces].iov_base);
}

static void batch_free(struct outbox *o)
{
	records_free(o);
	if (o->npieces)
		free(o->pieces[0].iov_base);
	o->npieces = 0;
}

void outbox_free(struct outbox **op)
{
	struct outbox *o = *op;

	if (!o)
		return;
	for (int k = 0; k < OUTBOX_KINDS; k++)
		while (o->lists[k].first)
			drop_first(o, k);
	batch_free(o);
	record_batch_free(&o->writer);
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

bool outbox_full(const struct outbox *o, enum outbox_kind kind)
{
	return kind == OUTBOX_WHYS && o->lists[kind].n >= OUTBOX_WHYS_MAX;
}

void outbox_add(struct outbox *o, enum outbox_kind kind, uint64_t time_ms, const char *text,
		size_t len, uint32_t n)
{
	struct item *i = NULL;

	if (!outbox_full(o, kind) && len <= kinds[kind].max)
		i = malloc(sizeof(*i) + len);
	if (!i) {
		outbox_lose(o, kind, n);
		return;
	}
	make_room(o, kind, len);
	*i = (struct item){.time_ms = time_ms, .n = n, .len = len};
	memcpy(i->text, text, len);
	put(&o->lists[kind], i);
}

/* The records that came last are a batch now, and wait. */
static void seal(struct outbox *o)
{
	uint32_t n = record_batch_count(o->writer);
	struct item *i = n ? calloc(1, sizeof(*i)) : NULL;
	void *records = NULL;
	size_t len;

	if (!n)
		return;
	if (record_batch_take(o->writer, o->wall_ns, &records, &len) || !i) {
		outbox_lose(o, OUTBOX_SPANS, n);
		free(records);
		free(i);
		return;
	}
	*i = (struct item){
		.n = n, .len = sizeof(*i) + record_batch_memory(len), .records = records};
	make_room(o, OUTBOX_SPANS, i->len);
	put(&o->lists[OUTBOX_SPANS], i);
}

void outbox_record(struct outbox *o, const struct record *rec, const struct span_names *names)
{
	int err = record_batch_add(o->writer, rec, names);

	if (err == -ENOSPC) {
		seal(o);
		err = record_batch_add(o->writer, rec, names);
	}
	if (err)
		outbox_lose(o, OUTBOX_SPANS, 1);
}

void outbox_seal(struct outbox *o, int64_t wall_ns)
{
	seal(o);
	o->wall_ns = wall_ns;
	record_batch_rest(o->writer);
}

void outbox_meshd_takes(struct outbox *o, bool records)
{
	o->takes_records = records;
}

/* One that lies in the future, because the clock was set back, waits for its time to come. */
void outbox_age(struct outbox *o, uint64_t now_ms)
{
	struct list *l = &o->lists[OUTBOX_SERIES];

	while (l->first && l->first->time_ms + OUTBOX_SERIES_KEEP_MS < now_ms)
		drop_first(o, OUTBOX_SERIES);
}

static uint32_t unsealed(const struct outbox *o, enum outbox_kind kind)
{
	return kind == OUTBOX_SPANS ? record_batch_count(o->writer) : 0;
}

bool outbox_has(const struct outbox *o, enum outbox_kind kind)
{
	return (o->npieces && o->holds[kind]) || o->lists[kind].first || unsealed(o, kind);
}

uint64_t outbox_count(const struct outbox *o, enum outbox_kind kind)
{
	return o->lists[kind].n + (o->npieces ? o->holds[kind] : 0) + unsealed(o, kind);
}

bool outbox_waiting(const struct outbox *o)
{
	for (int k = 0; k < OUTBOX_KINDS; k++)
		if (outbox_has(o, k))
			return true;
	return o->npieces;
}

bool outbox_behind(const struct outbox *o)
{
	const struct item *second = o->lists[OUTBOX_SERIES].first;
	const struct list *spans = &o->lists[OUTBOX_SPANS];

	if (o->takes_records ? spans->bytes > OUTBOX_BATCH_RECORDS : spans->n > OUTBOX_BATCH_SPANS)
		return true;
	for (int k = OUTBOX_TAPPED; k < OUTBOX_KINDS; k++)
		if (o->lists[k].bytes > kinds[k].batch || o->lists[k].n > kinds[k].most)
			return true;
	return second && (o->npieces || second->next);
}

/* --- what goes out --- */

/* The elements of a kind that fit into a batch. Series: one item, of one second; the time of the
 * batch is theirs. */
static void put_kind(struct outbox *o, struct buf *b, enum outbox_kind kind, uint64_t *time_ms)
{
	struct list *l = &o->lists[kind];
	size_t begin = b->len;

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

/* Of its records, as they are sent. */
static size_t size_of(const struct item *i)
{
	return ((const struct record_batch_head *)i->records)->size;
}

/* Records of an item as JSON, up to the bounds of a batch. */
static void put_spans(struct outbox *o, struct buf *b, struct item *i, size_t begin)
{
	struct record_batch_view v;
	const struct record *rec;
	struct span_names names;
	uint32_t was = i->n;

	if (record_batch_check(i->records, size_of(i), &v)) { /* never: it is ours */
		outbox_lose(o, OUTBOX_SPANS, i->n);
		i->n = 0;
	}
	while (i->n && o->holds[OUTBOX_SPANS] < kinds[OUTBOX_SPANS].most &&
	       b->len - begin < kinds[OUTBOX_SPANS].batch &&
	       (rec = record_batch_next(&v, &i->at))) {
		if (b->len != begin)
			buf_char(b, ',');
		record_batch_span(&v, rec, &names);
		span_json(rec, &names, record_batch_wall(&v, rec->start_ns), b);
		o->holds[OUTBOX_SPANS]++;
		i->n--;
	}
	o->lists[OUTBOX_SPANS].n -= was - i->n;
}

/* For a meshd that takes no records. What was begun as JSON is ended as that. */
static void put_json_spans(struct outbox *o, struct buf *b)
{
	struct list *l = &o->lists[OUTBOX_SPANS];
	size_t begin = b->len;
	struct item *i;

	while ((i = l->first) && (!o->takes_records || i->at)) {
		put_spans(o, b, i, begin);
		if (i->n)
			break;
		item_free(o, take(l));
	}
}

/* Record batches as they are: pieces of the body. */
static void put_records(struct outbox *o)
{
	struct list *l = &o->lists[OUTBOX_SPANS];
	size_t bytes = 0;

	while (l->first && o->npieces <= PIECES_MAX &&
	       bytes + size_of(l->first) <= OUTBOX_BATCH_RECORDS) {
		struct item *i = take(l);

		o->pieces[o->npieces++] = (struct iovec){i->records, size_of(i)};
		o->holds[OUTBOX_SPANS] += i->n;
		bytes += size_of(i);
		free(i);
	}
}

static void put_lost(const struct outbox *o, struct buf *b, uint64_t ring_lost)
{
	const uint64_t *d = o->counts.dropped;

	buf_printf(b,
		   ",\"lost\":{\"ring\":%llu,\"series\":%llu,\"spans\":%llu,\"tapped\":%llu,"
		   "\"whys\":%llu}",
		   (unsigned long long)(ring_lost < JSON_WHOLE_MAX ? ring_lost : JSON_WHOLE_MAX),
		   (unsigned long long)d[OUTBOX_SERIES], (unsigned long long)d[OUTBOX_SPANS],
		   (unsigned long long)d[OUTBOX_TAPPED], (unsigned long long)d[OUTBOX_WHYS]);
}

static void lose_batch(struct outbox *o)
{
	for (int k = 0; k < OUTBOX_KINDS; k++)
		o->counts.dropped[k] += o->holds[k];
}

static void put_all(struct outbox *o, struct buf *b, uint64_t now_ms, uint64_t ring_lost)
{
	uint64_t time_ms = now_ms;

	buf_char(b, '{');
	buf_member(b, "node", o->node);
	buf_char(b, ',');
	buf_member(b, "epoch", o->epoch);
	buf_printf(b, ",\"seq\":%llu", (unsigned long long)o->seq + 1);
	for (int k = 0; k < OUTBOX_KINDS; k++) {
		o->holds[k] = 0;
		buf_printf(b, ",\"%s\":[", kinds[k].name);
		if (k != OUTBOX_SPANS)
			put_kind(o, b, k, &time_ms);
		else
			put_json_spans(o, b);
		buf_char(b, ']');
	}
	buf_printf(b, ",\"time\":%llu", (unsigned long long)time_ms);
	put_lost(o, b, ring_lost);
	buf_char(b, '}');
	o->npieces = 1;
	if (o->takes_records && !o->holds[OUTBOX_SPANS])
		put_records(o);
	if (o->npieces > 1) /* they begin at a multiple of 8, after one NUL at least */
		buf_add(b, "\0\0\0\0\0\0\0", 8 - b->len % 8);
}

/* Without memory its content is lost, and its number is not used. */
static void make(struct outbox *o, uint64_t now_ms, uint64_t ring_lost)
{
	struct buf b;

	seal(o);
	buf_init(&b, JSON_MAX);
	put_all(o, &b, now_ms, ring_lost);
	o->pieces[0].iov_len = b.len;
	o->pieces[0].iov_base = buf_take(&b);
	if (o->pieces[0].iov_base) {
		o->seq++;
		return;
	}
	lose_batch(o);
	batch_free(o);
}

size_t outbox_batch(struct outbox *o, uint64_t now_ms, uint64_t ring_lost,
		    const struct iovec **body)
{
	if (!o->npieces)
		make(o, now_ms, ring_lost);
	*body = o->pieces;
	return o->npieces;
}

uint64_t outbox_seq(const struct outbox *o)
{
	return o->seq;
}

bool outbox_has_records(const struct outbox *o)
{
	return o->npieces > 1;
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

/* Who takes no records of ours may take all the rest. */
static void drop_records(struct outbox *o)
{
	records_free(o);
	o->pieces[0].iov_len = strlen(o->pieces[0].iov_base); /* without the NULs before them */
	o->counts.dropped[OUTBOX_SPANS] += o->holds[OUTBOX_SPANS];
	o->holds[OUTBOX_SPANS] = 0;
}

void outbox_answered(struct outbox *o, uint64_t seq, enum outbox_verdict v)
{
	if (!o->npieces || seq != o->seq)
		return;
	if (v == OUTBOX_AGAIN) {
		o->counts.again++;
		return;
	}
	if (v == OUTBOX_REFUSED) {
		o->counts.refused++;
		o->takes_records = false;
		if (o->npieces > 1) {
			drop_records(o);
			return;
		}
		lose_batch(o);
	} else {
		o->counts.batches++;
		for (int k = 0; k < OUTBOX_KINDS; k++)
			o->counts.sent[k] += o->holds[k];
	}
	batch_free(o);
}

const struct outbox_counts *outbox_counts(const struct outbox *o)
{
	return &o->counts;
}
