/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Latencies as a log-linear histogram, the same in agents, on the wire and in meshd, so that any
 * two can be added: 16 linear steps in each octave from 1 us to 60 s. With u = floor(ns / 62.5),
 * that is the time in sixteenths of a microsecond, and e = floor(log2(u)) - 4,
 *
 *     bucket = 16 * e + floor(u / 2^e) - 16,     of the times [low, low + width),
 *     width  = 2^e / 16 us,  low = (16 + bucket % 16) * width,  hence  width <= low / 16.
 *
 * What is shorter than 1 us is in the first bucket, what is longer than 60 s in the last. A
 * quantile is a point of the middle half of its bucket and thus at most 3/4 of a width, 4.7 %, away
 * from the true one (by nearest rank), whatever the times were; between 1 us and 60 s.
 *
 * Two forms: dense for one place that counts much, sparse (pairs of bucket and count) for the many
 * that count little. Times in ns. Nothing here keeps time or is thread-safe.
 */
#ifndef LIB_HISTOGRAM_H
#define LIB_HISTOGRAM_H

#include "lib/buf.h"
#include "lib/json.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HISTOGRAM_BUCKETS 413

/* Pure. */
static inline uint32_t histogram_bucket(uint64_t ns)
{
	uint64_t u;
	uint32_t e;

	if (ns < 1000)
		return 0;
	if (ns > 60000000000ULL)
		return HISTOGRAM_BUCKETS - 1;
	u = ns * 2 / 125;
	e = 59 - (uint32_t)__builtin_clzll(u);
	return 16 * e + (uint32_t)(u >> e) - 16;
}
/* The least time of a bucket; of the one behind the last: where the last one ends. Rounded up, so
 * that histogram_bucket(histogram_low_ns(b)) is b. */
static inline uint64_t histogram_low_ns(uint32_t bucket)
{
	return (((16 + (uint64_t)bucket % 16) << bucket / 16) * 125 + 1) / 2;
}

/* --- dense --- */

struct histogram {
	uint64_t total;
	uint64_t count[HISTOGRAM_BUCKETS];
};

/* Of zeroed memory. */
static inline void histogram_add(struct histogram *h, uint64_t ns)
{
	h->total++;
	h->count[histogram_bucket(ns)]++;
}
void histogram_merge(struct histogram *into, const struct histogram *from);
/* q from 0 to 1; 0 when nothing was counted. */
double histogram_quantile_ns(const struct histogram *h, double q);

/* --- sparse --- */

struct histogram_pair {
	uint32_t bucket;
	uint32_t count; /* never 0; stays at its most instead of starting again */
};

/* In the order of buckets, each at most once. */
struct histogram_sparse {
	struct histogram_pair *pairs;
	uint16_t n, cap;
};

/* Of zeroed memory. `done` empties and frees; harmless twice. */
void histogram_sparse_done(struct histogram_sparse *s);
/* Empties, keeps the memory. */
void histogram_sparse_reset(struct histogram_sparse *s);
/* 0, or -ENOMEM (nothing changed), or -EINVAL: there is no such bucket. */
int histogram_sparse_add(struct histogram_sparse *s, uint32_t bucket, uint32_t count);
/* 0 or -ENOMEM (nothing changed). */
int histogram_sparse_merge(struct histogram_sparse *into, const struct histogram_sparse *from);
uint64_t histogram_sparse_total(const struct histogram_sparse *s);
double histogram_sparse_quantile_ns(const struct histogram_sparse *s, double q);
/* Adds one to the other form. */
void histogram_add_sparse(struct histogram *into, const struct histogram_sparse *from);

/* On the wire: [bucket, count, ...], in the order of buckets. */
void histogram_sparse_json(const struct histogram_sparse *s, struct buf *out);
/* The same of a count for each bucket. */
void histogram_counts_json(const uint32_t count[HISTOGRAM_BUCKETS], struct buf *out);
/* Adds what stands in such a list. 0; -EINVAL: it is none (pairs of whole numbers, buckets in
 * order), and nothing was added; -ENOMEM likewise. */
int histogram_sparse_parse(struct histogram_sparse *s, const cJSON *list);

/* For storage: for each pair the distance from the bucket before and the count, as LEB128. */
#define HISTOGRAM_PACKED_MAX (HISTOGRAM_BUCKETS * 7)
/* out: HISTOGRAM_PACKED_MAX bytes. How many were written. */
size_t histogram_sparse_pack(const struct histogram_sparse *s, uint8_t *out);
/* Adds what was packed. 0, -EINVAL: that never was packed here, -ENOMEM; nothing was added then. */
int histogram_sparse_unpack(struct histogram_sparse *s, const uint8_t *in, size_t len);

#endif
