/* SPDX-License-Identifier: Apache-2.0 */
/* See series.h. */
#include "agent/telemetry/series.h"

#include "lib/hash.h"
#include "lib/histogram.h"
#include "lib/series_limits.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS 1024
#define OTHER	"other"

/* Who has so many kinds of latency gets a count for each, which takes no search; so many do. */
#define DENSE_FROM 8
#define DENSE_MAX  64

struct dense {
	struct dense *next;		   /* that is free */
	uint32_t count[HISTOGRAM_BUCKETS]; /* zero while it is free */
};

struct series_entry {
	struct series_entry *next;	/* in its bucket */
	struct series_entry *next_full; /* of those that have something */
	bool used;			/* since series_age() */
	uint8_t protocol, outcome;
	uint16_t destination, version; /* where they begin in names */
	uint64_t requests, sum_ns, bytes_in, bytes_out;
	struct histogram_sparse histogram;
	struct dense *dense; /* instead, or NULL */
	char names[];	     /* source, destination, version, each with its NUL */
};

struct series {
	struct series_entry *buckets[BUCKETS];
	struct series_entry *first_full, **last_full;
	struct dense *dense; /* those that are free */
	uint32_t n, ndense;
	uint64_t sweeps; /* that dropped any: what a place knows from before may be gone */
	bool crowded;	 /* nothing could make room since the last take */
	uint64_t overflow;
};

int series_new(struct series **out)
{
	struct series *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	t->last_full = &t->first_full;
	*out = t;
	return 0;
}

/* Has nothing, so that it has none of the dense either; or all of it ends. */
static void entry_free(struct series_entry *e)
{
	histogram_sparse_done(&e->histogram);
	free(e->dense);
	free(e);
}

void series_free(struct series **tp)
{
	struct series *t = *tp;

	for (uint32_t i = 0; t && i < BUCKETS; i++)
		for (struct series_entry *e = t->buckets[i], *next; e; e = next) {
			next = e->next;
			entry_free(e);
		}
	for (struct dense *d = t ? t->dense : NULL, *next; d; d = next) {
		next = d->next;
		free(d);
	}
	free(t);
	*tp = NULL;
}

/* --- finding --- */

static bool is(const struct series_entry *e, const struct series_key *k)
{
	return e->protocol == k->protocol && e->outcome == k->outcome &&
	       !strcmp(e->names, k->source) && !strcmp(e->names + e->destination, k->destination) &&
	       !strcmp(e->names + e->version, k->version);
}

static uint32_t hash(const struct series_key *k)
{
	uint64_t h = hash64(k->source, strlen(k->source));

	h = h * 31 + hash64(k->destination, strlen(k->destination));
	h = h * 31 + hash64(k->version, strlen(k->version));
	h += (uint64_t)k->protocol << 8 | k->outcome;
	return (uint32_t)(mesh_sticky_mix(h) % BUCKETS);
}

/* Drops those that hold nothing and, with `unused`, were not used either. */
static void sweep(struct series *t, bool unused)
{
	uint32_t before = t->n;

	for (uint32_t i = 0; i < BUCKETS; i++)
		for (struct series_entry **at = &t->buckets[i], *e; (e = *at);) {
			if (e->requests || (unused && e->used)) {
				e->used = false;
				at = &e->next;
				continue;
			}
			*at = e->next;
			entry_free(e);
			t->n--;
		}
	t->sweeps += t->n != before;
}

void series_age(struct series *t)
{
	sweep(t, true);
}

/* At most once between two takes: a crowd of names must not cost a sweep for each. */
static bool room(struct series *t)
{
	if (t->n >= SERIES_MAX && !t->crowded) {
		sweep(t, false);
		t->crowded = t->n >= SERIES_MAX;
	}
	return t->n < SERIES_MAX;
}

static struct series_entry *entry_new(struct series *t, const struct series_key *k, uint32_t bucket)
{
	size_t a = strlen(k->source) + 1, b = strlen(k->destination) + 1,
	       c = strlen(k->version) + 1;
	struct series_entry *e = a + b + c < UINT16_MAX ? calloc(1, sizeof(*e) + a + b + c) : NULL;

	if (!e)
		return NULL;
	e->protocol = k->protocol;
	e->outcome = k->outcome;
	e->destination = (uint16_t)a;
	e->version = (uint16_t)(a + b);
	memcpy(e->names, k->source, a);
	memcpy(e->names + a, k->destination, b);
	memcpy(e->names + a + b, k->version, c);
	e->next = t->buckets[bucket];
	t->buckets[bucket] = e;
	t->n++;
	return e;
}

/* Those for what does not fit are few, and beyond the limit. */
static struct series_entry *find_named(struct series *t, const struct series_key *k, bool other)
{
	uint32_t bucket = hash(k);
	struct series_entry *e = t->buckets[bucket];

	while (e && !is(e, k))
		e = e->next;
	return e || !(other || room(t)) ? e : entry_new(t, k, bucket);
}

static struct series_entry *find(struct series *t, const struct series_key *k,
				 struct series_place *place, uint64_t n)
{
	struct series_entry *e = find_named(t, k, false);
	struct series_key other = *k;

	if (e) {
		if (place)
			*place = (struct series_place){e, t->sweeps};
		return e;
	}
	t->overflow += n;
	other.source = other.destination = OTHER;
	other.version = "";
	return find_named(t, &other, true);
}

static bool is_known(const struct series *t, const struct series_place *place)
{
	return place && place->entry && place->sweeps == t->sweeps;
}

/* It has something that is to be taken. */
static void fills(struct series *t, struct series_entry *e)
{
	e->next_full = NULL;
	*t->last_full = e;
	t->last_full = &e->next_full;
	e->used = true;
}

/* --- latencies --- */

static struct dense *dense_new(struct series *t)
{
	struct dense *d = t->dense;

	if (d)
		t->dense = d->next;
	else if (t->ndense < DENSE_MAX && (d = calloc(1, sizeof(*d))))
		t->ndense++;
	return d;
}

/* It stays sparse when there is none left. */
static void become_dense(struct series *t, struct series_entry *e)
{
	e->dense = dense_new(t);
	if (!e->dense)
		return;
	for (uint32_t i = 0; i < e->histogram.n; i++)
		e->dense->count[e->histogram.pairs[i].bucket] = e->histogram.pairs[i].count;
	histogram_sparse_reset(&e->histogram);
}

static void latencies_forget(struct series *t, struct series_entry *e)
{
	histogram_sparse_reset(&e->histogram);
	if (!e->dense)
		return;
	memset(e->dense->count, 0, sizeof(e->dense->count));
	e->dense->next = t->dense;
	t->dense = e->dense;
	e->dense = NULL;
}

static int latencies_add(struct series *t, struct series_entry *e, uint64_t ns, uint64_t n)
{
	uint32_t bucket = histogram_bucket(ns), *count,
		 by = n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;

	if (!e->dense && e->histogram.n >= DENSE_FROM)
		become_dense(t, e);
	if (!e->dense)
		return histogram_sparse_add(&e->histogram, bucket, by);
	count = &e->dense->count[bucket];
	*count = by > UINT32_MAX - *count ? UINT32_MAX : *count + by;
	return 0;
}

void series_add(struct series *t, const struct series_key *k, struct series_place *place,
		const struct series_sample *v)
{
	struct series_entry *e;

	if (!v->n)
		return;
	e = is_known(t, place) ? place->entry : find(t, k, place, v->n);
	if (!e || latencies_add(t, e, v->duration_ns, v->n)) {
		t->overflow += e ? v->n : 0;
		return;
	}
	if (!e->requests)
		fills(t, e);
	e->requests += v->n;
	e->sum_ns += v->duration_ns * v->n;
	e->bytes_in += v->bytes_in;
	e->bytes_out += v->bytes_out;
}

/* --- taking --- */

/* Only a worker that lies has more than meshd takes: what the others counted goes with it. */
static void number(struct buf *out, const char *key, uint64_t n, uint64_t most)
{
	buf_char(out, ',');
	buf_key(out, key);
	buf_u64(out, n < most ? n : most);
}

/* Without printf(): rings are read in the same loop, and there may be thousands of these. */
static void write_entry(const struct series_entry *e, struct buf *out)
{
	static const char *const outcomes[] = {"ok", "client-error", "error", "none"};

	buf_char(out, '{');
	buf_member(out, "source", e->names);
	buf_char(out, ',');
	buf_member(out, "destination", e->names + e->destination);
	buf_char(out, ',');
	buf_member(out, "protocol", e->protocol == SERIES_TCP ? "tcp" : "http");
	buf_char(out, ',');
	buf_member(out, "version", e->names + e->version);
	buf_char(out, ',');
	buf_member(out, "outcome", outcomes[e->outcome % 4]);
	number(out, "requests", e->requests, SERIES_COUNT_MAX);
	number(out, "errors", e->outcome >= SERIES_ERROR ? e->requests : 0, SERIES_COUNT_MAX);
	number(out, "sumUs", e->sum_ns / 1000, SERIES_AMOUNT_MAX);
	number(out, "bytesIn", e->bytes_in, SERIES_AMOUNT_MAX);
	number(out, "bytesOut", e->bytes_out, SERIES_AMOUNT_MAX);
	buf_char(out, ',');
	buf_key(out, "histogram");
	if (e->dense)
		histogram_counts_json(e->dense->count, out);
	else
		histogram_sparse_json(&e->histogram, out);
	buf_char(out, '}');
}

bool series_waiting(const struct series *t)
{
	return t->first_full;
}

uint32_t series_take(struct series *t, size_t enough, struct buf *out)
{
	uint32_t n = 0;

	for (struct series_entry *e; (e = t->first_full) && out->len <= enough; n++) {
		if (n)
			buf_char(out, ',');
		write_entry(e, out);
		t->first_full = e->next_full;
		e->requests = e->sum_ns = e->bytes_in = e->bytes_out = 0;
		latencies_forget(t, e);
	}
	if (!t->first_full) {
		t->last_full = &t->first_full;
		t->crowded = false;
	}
	return n;
}

uint64_t series_overflow(const struct series *t)
{
	return t->overflow;
}
