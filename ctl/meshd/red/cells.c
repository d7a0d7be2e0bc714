/* SPDX-License-Identifier: Apache-2.0 */
/* See cells.h. */
#include "ctl/meshd/red/cells.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HEAD_MAX 256 /* of a record, without the histogram */

void red_sum_done(struct red_sum *s)
{
	histogram_sparse_done(&s->histogram);
	*s = (struct red_sum){0};
}

static void add_numbers(struct red_sum *into, const struct red_sum *from)
{
	into->requests += from->requests;
	into->errors += from->errors;
	into->sum_us += from->sum_us;
	into->bytes_in += from->bytes_in;
	into->bytes_out += from->bytes_out;
}

int red_sum_add(struct red_sum *into, const struct red_sum *from)
{
	add_numbers(into, from);
	return histogram_sparse_merge(&into->histogram, &from->histogram);
}

/* --- table --------------------------------------------------------------------------- */

void red_cells_done(struct red_cells *c)
{
	red_cells_remove(c, c->n);
}

static uint32_t *slot_of(const struct red_cells *c, uint64_t start_s, const struct red_series *s)
{
	uint64_t h = (start_s * 0x9e3779b97f4a7c15u ^ s->id) * 0xbf58476d1ce4e5b9u;
	uint32_t i = (uint32_t)(h >> 32) & (c->nslots - 1);

	while (c->slot[i] &&
	       (c->cell[c->slot[i] - 1].series != s || c->cell[c->slot[i] - 1].start_s != start_s))
		i = (i + 1) & (c->nslots - 1);
	return &c->slot[i];
}

static void index_all(struct red_cells *c)
{
	memset(c->slot, 0, c->nslots * sizeof(*c->slot));
	for (uint32_t i = 0; i < c->n; i++)
		*slot_of(c, c->cell[i].start_s, c->cell[i].series) = i + 1;
}

static int grow(struct red_cells *c)
{
	uint32_t cap = c->cap ? c->cap * 2 : 64, nslots = cap * 2;
	struct red_cell *cell = realloc(c->cell, cap * sizeof(*cell));
	uint32_t *slot;

	if (!cell)
		return -ENOMEM;
	c->cell = cell;
	slot = malloc(nslots * sizeof(*slot));
	if (!slot)
		return -ENOMEM;
	free(c->slot);
	c->bytes += (cap - c->cap) * sizeof(*cell) + (nslots - c->nslots) * sizeof(*slot);
	c->slot = slot;
	c->nslots = nslots;
	c->cap = cap;
	index_all(c);
	return 0;
}

int red_cells_add(struct red_cells *c, uint64_t start_s, struct red_series *s,
		  const struct red_sum *sum)
{
	struct red_cell *cell;
	uint32_t *slot;
	size_t was;
	int r;

	if (c->n == c->cap && grow(c))
		return -ENOMEM;
	slot = slot_of(c, start_s, s);
	if (!*slot) {
		c->cell[c->n] = (struct red_cell){.start_s = start_s, .series = s};
		s->refs++;
		*slot = ++c->n;
	}
	cell = &c->cell[*slot - 1];
	was = cell->sum.histogram.cap;
	r = red_sum_add(&cell->sum, sum);
	c->bytes += (cell->sum.histogram.cap - was) * sizeof(struct histogram_pair);
	return r;
}

static int order(const void *x, const void *y)
{
	const struct red_cell *a = x, *b = y;

	if (a->start_s != b->start_s)
		return a->start_s < b->start_s ? -1 : 1;
	if (a->series->to != b->series->to)
		return a->series->to < b->series->to ? -1 : 1;
	return a->series->id < b->series->id ? -1 : a->series->id > b->series->id;
}

void red_cells_sort(struct red_cells *c)
{
	if (c->n)
		qsort(c->cell, c->n, sizeof(*c->cell), order);
}

void red_cells_remove(struct red_cells *c, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		c->bytes -= c->cell[i].sum.histogram.cap * sizeof(struct histogram_pair);
		c->cell[i].series->refs--;
		red_sum_done(&c->cell[i].sum);
	}
	c->n -= n;
	if (!c->n) { /* what a flood needed is given back */
		free(c->cell);
		free(c->slot);
		*c = (struct red_cells){0};
		return;
	}
	if (n)
		memmove(c->cell, c->cell + n, c->n * sizeof(*c->cell));
	index_all(c);
}

/* --- records ------------------------------------------------------------------------- */

static uint8_t *number_put(uint8_t *p, uint64_t v)
{
	for (; v >= 0x80; v >>= 7)
		*p++ = (uint8_t)(v | 0x80);
	*p++ = (uint8_t)v;
	return p;
}

/* NULL stays NULL: it is looked at once, at the end. */
static const uint8_t *number_get(const uint8_t *p, const uint8_t *end, uint64_t *v)
{
	*v = 0;
	for (unsigned shift = 0; p && p < end && shift < 64; shift += 7) {
		*v |= (uint64_t)(*p & 0x7f) << shift;
		if (!(*p++ & 0x80))
			return p;
	}
	return NULL;
}

static uint8_t *text_put(uint8_t *p, const char *s)
{
	size_t len = strlen(s);

	memcpy(p, s, len + 1);
	return p + len + 1;
}

static const uint8_t *text_get(const uint8_t *p, const uint8_t *end, const char **s)
{
	const uint8_t *nul = p ? memchr(p, 0, (size_t)(end - p)) : NULL;

	*s = nul ? (const char *)p : "";
	return nul && nul - p <= RED_NAME_MAX ? nul + 1 : NULL;
}

void red_record_put(struct buf *b, const struct red_key *key, uint32_t id, bool named,
		    const struct red_sum *sum)
{
	uint8_t body[HEAD_MAX + HISTOGRAM_PACKED_MAX], len[10], *p = body;

	if (named) {
		*p++ = (uint8_t)(key->protocol << 4 | key->outcome);
		p = text_put(p, key->source);
		p = text_put(p, key->destination);
		p = text_put(p, key->version);
	} else {
		memcpy(p, &id, sizeof(id));
		p += sizeof(id);
	}
	p = number_put(p, sum->requests);
	p = number_put(p, sum->errors);
	p = number_put(p, sum->sum_us);
	p = number_put(p, sum->bytes_in);
	p = number_put(p, sum->bytes_out);
	p += histogram_sparse_pack(&sum->histogram, p);
	buf_add(b, len, (size_t)(number_put(len, (uint64_t)(p - body)) - len));
	buf_add(b, body, (size_t)(p - body));
}

static const uint8_t *key_get(const uint8_t *p, const uint8_t *end, struct red_key *key)
{
	if (p >= end || *p >> 4 >= RED_PROTOCOLS || (*p & 15) >= RED_OUTCOMES)
		return NULL;
	key->protocol = *p >> 4;
	key->outcome = *p & 15;
	p = text_get(p + 1, end, &key->source);
	p = text_get(p, end, &key->destination);
	return text_get(p, end, &key->version);
}

int red_record_get(const uint8_t **at, const uint8_t *end, bool named, struct red_record *r)
{
	const uint8_t *p = *at;
	uint64_t len;

	if (p == end)
		return 0;
	*r = (struct red_record){0};
	p = number_get(p, end, &len);
	if (!p || len > (uint64_t)(end - p) || (!named && len < sizeof(r->id)))
		return -EINVAL;
	*at = end = p + len;
	if (named) {
		p = key_get(p, end, &r->key);
	} else {
		memcpy(&r->id, p, sizeof(r->id));
		p += sizeof(r->id);
	}
	p = number_get(p, end, &r->sum.requests);
	p = number_get(p, end, &r->sum.errors);
	p = number_get(p, end, &r->sum.sum_us);
	p = number_get(p, end, &r->sum.bytes_in);
	p = number_get(p, end, &r->sum.bytes_out);
	if (!p)
		return -EINVAL;
	r->packed = p;
	r->packed_len = (size_t)(end - p);
	return 1;
}

int red_record_add(struct red_sum *into, const struct red_record *r)
{
	add_numbers(into, &r->sum);
	if (r->packed)
		return histogram_sparse_unpack(&into->histogram, r->packed, r->packed_len);
	return histogram_sparse_merge(&into->histogram, &r->sum.histogram);
}

static void raise_by(uint32_t *count, uint64_t by)
{
	*count = by > UINT32_MAX - *count ? UINT32_MAX : *count + (uint32_t)by;
}

int red_record_add_dense(struct red_sum *into, uint32_t count[HISTOGRAM_BUCKETS],
			 const struct red_record *r)
{
	const struct histogram_sparse *h = &r->sum.histogram;
	const uint8_t *p = r->packed, *end = p + r->packed_len;
	uint64_t bucket = 0, step, n;

	add_numbers(into, &r->sum);
	for (uint32_t i = 0; i < h->n; i++)
		raise_by(&count[h->pairs[i].bucket], h->pairs[i].count);
	while (p && p < end) {
		p = number_get(p, end, &step);
		p = number_get(p, end, &n);
		if (!p || step >= HISTOGRAM_BUCKETS - bucket)
			return -EINVAL;
		bucket += step;
		raise_by(&count[bucket], n);
	}
	return 0;
}
