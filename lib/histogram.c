/* SPDX-License-Identifier: Apache-2.0 */
/* See histogram.h. */
#include "lib/histogram.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* --- quantiles --- */

/* By nearest rank: the time of the rank-th of n, counted from 1. */
static uint64_t rank_of(double q, uint64_t n)
{
	double r = q * (double)n;
	uint64_t rank = r > 0 ? (uint64_t)r : 0;

	rank += (double)rank < r ? 1 : 0;
	return rank < 1 ? 1 : rank > n ? n : rank;
}

/* The nth of the `count` times in a bucket, counted from 1, as if those lay evenly in its middle
 * half. */
static double inside(uint32_t bucket, uint64_t nth, uint64_t count)
{
	double low = (double)histogram_low_ns(bucket),
	       width = (double)histogram_low_ns(bucket + 1) - low;
	double at = ((double)nth - 0.5) / (double)count;

	return low + width * (0.25 + at / 2);
}

double histogram_quantile_ns(const struct histogram *h, double q)
{
	uint64_t rank = rank_of(q, h->total), before = 0;

	for (uint32_t b = 0; b < HISTOGRAM_BUCKETS && h->total; b++) {
		if (rank <= before + h->count[b])
			return inside(b, rank - before, h->count[b]);
		before += h->count[b];
	}
	return 0;
}

double histogram_sparse_quantile_ns(const struct histogram_sparse *s, double q)
{
	uint64_t rank = rank_of(q, histogram_sparse_total(s)), before = 0;

	for (uint32_t i = 0; i < s->n; i++) {
		const struct histogram_pair *p = &s->pairs[i];

		if (rank <= before + p->count)
			return inside(p->bucket, rank - before, p->count);
		before += p->count;
	}
	return 0;
}

/* --- adding --- */

void histogram_merge(struct histogram *into, const struct histogram *from)
{
	into->total += from->total;
	for (uint32_t b = 0; b < HISTOGRAM_BUCKETS; b++)
		into->count[b] += from->count[b];
}

void histogram_add_sparse(struct histogram *into, const struct histogram_sparse *from)
{
	for (uint32_t i = 0; i < from->n; i++) {
		into->total += from->pairs[i].count;
		into->count[from->pairs[i].bucket] += from->pairs[i].count;
	}
}

void histogram_sparse_done(struct histogram_sparse *s)
{
	free(s->pairs);
	*s = (struct histogram_sparse){0};
}

void histogram_sparse_reset(struct histogram_sparse *s)
{
	s->n = 0;
}

uint64_t histogram_sparse_total(const struct histogram_sparse *s)
{
	uint64_t total = 0;

	for (uint32_t i = 0; i < s->n; i++)
		total += s->pairs[i].count;
	return total;
}

static int reserve(struct histogram_sparse *s, uint32_t n)
{
	uint32_t cap = s->cap ? s->cap : 4;
	struct histogram_pair *pairs;

	if (n <= s->cap)
		return 0;
	while (cap < n)
		cap *= 2;
	cap = cap > HISTOGRAM_BUCKETS ? HISTOGRAM_BUCKETS : cap;
	pairs = realloc(s->pairs, cap * sizeof(*pairs));
	if (!pairs)
		return -ENOMEM;
	s->pairs = pairs;
	s->cap = (uint16_t)cap;
	return 0;
}

/* Where the bucket is, or belongs. */
static uint32_t place_of(const struct histogram_sparse *s, uint32_t bucket)
{
	uint32_t lo = 0, hi = s->n;

	while (lo < hi) {
		uint32_t mid = (lo + hi) / 2;

		if (s->pairs[mid].bucket < bucket)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static void raise_by(uint32_t *count, uint32_t by)
{
	*count = by > UINT32_MAX - *count ? UINT32_MAX : *count + by;
}

int histogram_sparse_add(struct histogram_sparse *s, uint32_t bucket, uint32_t count)
{
	uint32_t i;
	int err;

	if (bucket >= HISTOGRAM_BUCKETS)
		return -EINVAL;
	if (!count)
		return 0;
	i = place_of(s, bucket);
	if (i < s->n && s->pairs[i].bucket == bucket) {
		raise_by(&s->pairs[i].count, count);
		return 0;
	}
	err = reserve(s, s->n + 1U);
	if (err)
		return err;
	memmove(&s->pairs[i + 1], &s->pairs[i], (s->n - i) * sizeof(*s->pairs));
	s->pairs[i] = (struct histogram_pair){bucket, count};
	s->n++;
	return 0;
}

/* How many buckets two have together. */
static uint32_t united(const struct histogram_sparse *a, const struct histogram_sparse *b)
{
	uint32_t n = 0;

	for (uint32_t i = 0, j = 0; i < a->n || j < b->n; n++) {
		uint32_t x = i < a->n ? a->pairs[i].bucket : UINT32_MAX,
			 y = j < b->n ? b->pairs[j].bucket : UINT32_MAX;

		i += x <= y;
		j += y <= x;
	}
	return n;
}

/* From behind, in place. */
int histogram_sparse_merge(struct histogram_sparse *into, const struct histogram_sparse *from)
{
	uint32_t n = united(into, from), i = into->n, j = from->n;
	int err = reserve(into, n);

	if (err)
		return err;
	into->n = (uint16_t)n;
	while (j) {
		const struct histogram_pair *p = &from->pairs[j - 1];

		if (i && into->pairs[i - 1].bucket > p->bucket) {
			into->pairs[--n] = into->pairs[--i];
			continue;
		}
		if (i && into->pairs[i - 1].bucket == p->bucket) {
			into->pairs[--n] = into->pairs[--i];
			raise_by(&into->pairs[n].count, p->count);
		} else {
			into->pairs[--n] = *p;
		}
		j--;
	}
	return 0;
}

/* What was read is added as a whole or not at all; *read is emptied. */
static int take(struct histogram_sparse *s, struct histogram_sparse *read, int err)
{
	if (!err)
		err = histogram_sparse_merge(s, read);
	histogram_sparse_done(read);
	return err;
}

/* --- wire --- */

static void pair_json(bool first, uint32_t bucket, uint32_t count, struct buf *out)
{
	if (!first)
		buf_char(out, ',');
	buf_u64(out, bucket);
	buf_char(out, ',');
	buf_u64(out, count);
}

void histogram_sparse_json(const struct histogram_sparse *s, struct buf *out)
{
	buf_char(out, '[');
	for (uint32_t i = 0; i < s->n; i++)
		pair_json(!i, s->pairs[i].bucket, s->pairs[i].count, out);
	buf_char(out, ']');
}

void histogram_counts_json(const uint32_t count[HISTOGRAM_BUCKETS], struct buf *out)
{
	bool first = true;

	buf_char(out, '[');
	for (uint32_t b = 0; b < HISTOGRAM_BUCKETS; b++)
		if (count[b]) {
			pair_json(first, b, count[b], out);
			first = false;
		}
	buf_char(out, ']');
}

static bool whole(const cJSON *v, double most, uint32_t *out)
{
	double d = cJSON_IsNumber(v) ? v->valuedouble : -1;

	if (!(d >= 0 && d <= most))
		return false;
	*out = (uint32_t)d;
	return (double)*out == d;
}

int histogram_sparse_parse(struct histogram_sparse *s, const cJSON *list)
{
	const cJSON *v = cJSON_IsArray(list) ? list->child : NULL;
	struct histogram_sparse read = {0};
	int err = cJSON_IsArray(list) ? 0 : -EINVAL;
	uint32_t bucket, count;

	for (; v && !err; v = v->next->next) {
		if (!whole(v, HISTOGRAM_BUCKETS - 1, &bucket) ||
		    !whole(v->next, UINT32_MAX, &count) || !count ||
		    (read.n && read.pairs[read.n - 1].bucket >= bucket)) {
			err = -EINVAL;
			break;
		}
		err = histogram_sparse_add(&read, bucket, count);
	}
	return take(s, &read, err);
}

/* --- storage --- */

static size_t put(uint8_t *out, uint32_t v)
{
	size_t n = 0;

	for (; v >= 0x80; v >>= 7)
		out[n++] = (uint8_t)(v | 0x80);
	out[n++] = (uint8_t)v;
	return n;
}

/* How many bytes it took; 0: that is no number of 32 bits. */
static size_t get(const uint8_t *in, size_t len, uint32_t *out)
{
	uint64_t v = 0;

	for (size_t i = 0; i < len && i < 5; i++) {
		v |= (uint64_t)(in[i] & 0x7f) << 7 * i;
		if (in[i] & 0x80)
			continue;
		*out = (uint32_t)v;
		return v <= UINT32_MAX ? i + 1 : 0;
	}
	return 0;
}

size_t histogram_sparse_pack(const struct histogram_sparse *s, uint8_t *out)
{
	uint32_t last = 0;
	size_t n = 0;

	for (uint32_t i = 0; i < s->n; i++) {
		n += put(out + n, s->pairs[i].bucket - last);
		n += put(out + n, s->pairs[i].count);
		last = s->pairs[i].bucket;
	}
	return n;
}

int histogram_sparse_unpack(struct histogram_sparse *s, const uint8_t *in, size_t len)
{
	struct histogram_sparse read = {0};
	uint32_t step, count;
	uint64_t bucket = 0;
	int err = 0;

	for (size_t at = 0, a, b; at < len && !err; at += a + b) {
		a = get(in + at, len - at, &step);
		b = a ? get(in + at + a, len - at - a, &count) : 0;
		bucket += a ? step : 0;
		if (!b || !count || bucket >= HISTOGRAM_BUCKETS || (read.n && !step))
			err = -EINVAL;
		else
			err = histogram_sparse_add(&read, (uint32_t)bucket, count);
	}
	return take(s, &read, err);
}
