/* SPDX-License-Identifier: Apache-2.0 */
/* The histogram of latencies: bounds of every bucket, quantiles compared with the exact ones over
 * random times of several shapes, and that adding, sending and storing lose nothing. */
#include "lib/histogram.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* after the types that it needs */
#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define LEAST	 1000ULL
#define MOST	 60000000000ULL

static uint64_t seed = 0x9e3779b97f4a7c15ULL;

static uint64_t next(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static void bucket_of_a_time(void **state)
{
	static const struct {
		uint64_t ns;
		uint32_t bucket;
	} cases[] = {
		{0, 0},	     {999, 0},	      {1000, 0},	 {1062, 0},	 {1063, 1},
		{1999, 15},  {2000, 16},      {3999, 31},	 {4000, 32},	 {MOST - 1, 412},
		{MOST, 412}, {MOST + 1, 412}, {UINT64_MAX, 412}, {1000000, 159},
	};

	for (size_t i = 0; i < COUNT(cases); i++)
		assert_int_equal(histogram_bucket(cases[i].ns), cases[i].bucket);
}

static void buckets_meet_and_are_narrow(void **state)
{
	assert_int_equal(histogram_low_ns(0), LEAST);
	assert_true(histogram_low_ns(HISTOGRAM_BUCKETS) > MOST);
	for (uint32_t b = 0; b < HISTOGRAM_BUCKETS; b++) {
		uint64_t low = histogram_low_ns(b), high = histogram_low_ns(b + 1);

		assert_true(high > low);
		assert_int_equal(histogram_bucket(low), b);
		assert_int_equal(histogram_bucket(high - 1), b);
		assert_true((double)(high - low) <= (double)low / 16 + 1);
	}
}

static int by_size(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* One of several shapes: the same again and again, even, of all magnitudes, and two heaps. */
static uint64_t some_time(uint32_t shape, uint64_t base)
{
	static const double span = 24.0; /* of 1 us to 60 s there are 25.8 octaves */

	switch (shape) {
	case 0:
		return base;
	case 1:
		return LEAST + next() % (base - LEAST + 1);
	case 2:
		return (uint64_t)(1000.0 * pow(2, (double)(next() % 1000000) / 1000000 * span));
	default:
		return next() % 10 ? base / 7 + LEAST : base;
	}
}

static void assert_close(double got, uint64_t exact)
{
	if (fabs(got - (double)exact) > 0.05 * (double)exact)
		fail_msg("%f instead of %llu", got, (unsigned long long)exact);
}

static void quantiles_are_within_5_percent(void **state)
{
	static const double quantiles[] = {0, 0.001, 0.25, 0.5, 0.9, 0.95, 0.99, 0.999, 1};
	static uint64_t times[3000];

	for (uint32_t round = 0; round < 400; round++) {
		uint32_t n = 1 + (uint32_t)(next() % COUNT(times));
		uint64_t base = LEAST + next() % (round % 2 ? MOST - LEAST : 10000000);
		struct histogram_sparse sparse = {0};
		struct histogram h = {0};

		for (uint32_t i = 0; i < n; i++) {
			times[i] = some_time(round % 4, base);
			histogram_add(&h, times[i]);
			assert_int_equal(
				histogram_sparse_add(&sparse, histogram_bucket(times[i]), 1), 0);
		}
		qsort(times, n, sizeof(*times), by_size);
		for (size_t i = 0; i < COUNT(quantiles); i++) {
			double rank = ceil(quantiles[i] * n);
			uint64_t exact = times[rank < 1 ? 0 : (uint32_t)rank - 1];
			double got = histogram_quantile_ns(&h, quantiles[i]);

			assert_close(got, exact);
			assert_true(got == histogram_sparse_quantile_ns(&sparse, quantiles[i]));
		}
		histogram_sparse_done(&sparse);
	}
}

static void quantiles_at_the_worst_places(void **state)
{
	for (uint32_t b = 0; b < HISTOGRAM_BUCKETS - 1; b++) {
		uint64_t ends[] = {histogram_low_ns(b), histogram_low_ns(b + 1) - 1};

		for (size_t e = 0; e < COUNT(ends); e++) {
			struct histogram h = {0};

			for (int i = 0; i < 1000; i++)
				histogram_add(&h, ends[e]);
			assert_close(histogram_quantile_ns(&h, 0), ends[e]);
			assert_close(histogram_quantile_ns(&h, 1), ends[e]);
		}
	}
}

static void a_quantile_never_falls(void **state)
{
	struct histogram h = {0};
	double last = 0;

	for (int i = 0; i < 5000; i++)
		histogram_add(&h, some_time(2, 0));
	for (int q = 0; q <= 1000; q++) {
		double at = histogram_quantile_ns(&h, q / 1000.0);

		assert_true(at >= last);
		last = at;
	}
}

static void nothing_counted_is_no_latency(void **state)
{
	struct histogram_sparse s = {0};
	struct histogram h = {0};
	struct buf b;

	buf_init(&b, 100);
	assert_true(histogram_quantile_ns(&h, 0.99) == 0);
	assert_true(histogram_sparse_quantile_ns(&s, 0.99) == 0);
	histogram_sparse_json(&s, &b);
	assert_string_equal(b.data, "[]");
	histogram_sparse_done(&s);
	histogram_sparse_done(&s);
	buf_done(&b);
}

static struct histogram_sparse some_sparse(struct histogram *dense)
{
	struct histogram_sparse s = {0};

	for (uint32_t i = (uint32_t)(next() % 200); i; i--) {
		uint32_t bucket = (uint32_t)(next() % HISTOGRAM_BUCKETS),
			 count = (uint32_t)(next() % 100000);

		assert_int_equal(histogram_sparse_add(&s, bucket, count), 0);
		dense->count[bucket] += count;
		dense->total += count;
	}
	return s;
}

static void assert_same(const struct histogram_sparse *s, const struct histogram *dense)
{
	struct histogram h = {0};

	for (uint32_t i = 1; i < s->n; i++)
		assert_true(s->pairs[i - 1].bucket < s->pairs[i].bucket);
	histogram_add_sparse(&h, s);
	assert_int_equal(h.total, histogram_sparse_total(s));
	assert_memory_equal(&h, dense, sizeof(h));
}

static void adding_two_is_as_counting_both(void **state)
{
	for (int round = 0; round < 500; round++) {
		struct histogram a = {0}, b = {0};
		struct histogram_sparse x = some_sparse(&a), y = some_sparse(&b);

		assert_int_equal(histogram_sparse_merge(&x, &y), 0);
		histogram_merge(&a, &b);
		assert_same(&x, &a);
		assert_same(&y, &b);
		histogram_sparse_done(&x);
		histogram_sparse_done(&y);
	}
}

static void what_is_sent_arrives(void **state)
{
	for (int round = 0; round < 200; round++) {
		struct histogram a = {0}, b = {0};
		struct histogram_sparse x = some_sparse(&a), y = some_sparse(&b);
		uint8_t packed[HISTOGRAM_PACKED_MAX];
		struct buf text;
		cJSON *list;
		size_t len = histogram_sparse_pack(&x, packed);

		buf_init(&text, 1 << 20);
		histogram_sparse_json(&x, &text);
		assert_false(text.failed);
		list = json_parse(text.data, text.len, NULL);
		assert_int_equal(histogram_sparse_parse(&y, list), 0);
		histogram_merge(&b, &a);
		assert_same(&y, &b);
		assert_int_equal(histogram_sparse_unpack(&y, packed, len), 0);
		histogram_merge(&b, &a);
		assert_same(&y, &b);
		for (size_t cut = 1; cut < len && cut < 8; cut += 2)
			histogram_sparse_unpack(&y, packed, len - cut); /* must not crash */
		cJSON_Delete(list);
		buf_done(&text);
		histogram_sparse_done(&x);
		histogram_sparse_done(&y);
	}
}

static void what_is_no_histogram_is_refused_whole(void **state)
{
	static const char *const lists[] = {
		"{}",	       "[1]",	     "[1,2,3]",	       "[413,1]",   "[-1,1]",
		"[1,0]",       "[1,1.5]",    "[1.5,1]",	       "[2,1,1,1]", "[1,1,1,1]",
		"[1,\"2\"]",   "[1,1,5,-1]", "[1,4294967296]", "[1e300,1]", "null",
		"[1,1,2,[3]]",
	};
	static const uint8_t packed[][6] = {{0x80, 0x80, 0x80, 0x80, 0x80, 1},
					    {1, 1, 0, 1, 1, 1},
					    {1, 0, 1, 1, 1, 1},
					    {0xff, 0xff, 0xff, 0xff, 0x0f, 1},
					    {1, 1, 1, 1, 1, 0x80}};
	struct histogram_sparse s = {0};

	assert_int_equal(histogram_sparse_add(&s, 7, 3), 0);
	for (size_t i = 0; i < COUNT(lists); i++) {
		cJSON *list = json_parse(lists[i], strlen(lists[i]), NULL);

		assert_int_equal(histogram_sparse_parse(&s, list), -EINVAL);
		cJSON_Delete(list);
	}
	for (size_t i = 0; i < COUNT(packed); i++)
		assert_int_equal(histogram_sparse_unpack(&s, packed[i], sizeof(packed[i])),
				 -EINVAL);
	assert_int_equal(histogram_sparse_parse(&s, NULL), -EINVAL);
	assert_int_equal(histogram_sparse_add(&s, HISTOGRAM_BUCKETS, 1), -EINVAL);
	assert_int_equal(s.n, 1);
	assert_int_equal(histogram_sparse_total(&s), 3);
	histogram_sparse_done(&s);
}

static void a_count_stays_at_its_most(void **state)
{
	struct histogram_sparse a = {0}, b = {0};

	assert_int_equal(histogram_sparse_add(&a, 5, UINT32_MAX - 1), 0);
	assert_int_equal(histogram_sparse_add(&b, 5, 7), 0);
	assert_int_equal(histogram_sparse_merge(&a, &b), 0);
	assert_int_equal(a.pairs[0].count, UINT32_MAX);
	assert_int_equal(histogram_sparse_add(&a, 5, 1), 0);
	assert_int_equal(a.pairs[0].count, UINT32_MAX);
	histogram_sparse_done(&a);
	histogram_sparse_done(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bucket_of_a_time),
		cmocka_unit_test(buckets_meet_and_are_narrow),
		cmocka_unit_test(quantiles_are_within_5_percent),
		cmocka_unit_test(quantiles_at_the_worst_places),
		cmocka_unit_test(a_quantile_never_falls),
		cmocka_unit_test(nothing_counted_is_no_latency),
		cmocka_unit_test(adding_two_is_as_counting_both),
		cmocka_unit_test(what_is_sent_arrives),
		cmocka_unit_test(what_is_no_histogram_is_refused_whole),
		cmocka_unit_test(a_count_stays_at_its_most),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
