/* SPDX-License-Identifier: Apache-2.0 */
/* Counts per caller, callee, version and outcome: everything that was added is taken once, whatever
 * ids stand for by now and however many names there are. */
#include "agent/telemetry/series.h"
#include "lib/histogram.h"
#include "lib/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* after the types that it needs */
#include <cmocka.h>

static struct series *t;
static cJSON *taken; /* the last take_all() */

static int setup(void **state)
{
	return series_new(&t);
}

static int teardown(void **state)
{
	cJSON_Delete(taken);
	taken = NULL;
	series_free(&t);
	series_free(&t);
	return 0;
}

#define tale(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

static void add_at(struct series_place *place, const char *source, const char *destination,
		   uint8_t outcome, uint64_t us)
{
	series_add(t,
		   &(struct series_key){.source = source,
					.destination = destination,
					.version = "v1",
					.outcome = outcome},
		   place,
		   &(struct series_sample){
			   .n = 1, .duration_ns = us * 1000, .bytes_in = 1, .bytes_out = 2});
}

static void add(const char *source, const char *destination, uint8_t outcome, uint64_t us)
{
	add_at(NULL, source, destination, outcome, us);
}

/* In parts of so many bytes. How many parts. */
static int take_all(size_t enough)
{
	int parts = 0;
	struct buf b;

	cJSON_Delete(taken);
	taken = cJSON_CreateArray();
	for (;; parts++) {
		cJSON *list, *v;
		uint32_t n;

		buf_init(&b, 1 << 20);
		buf_char(&b, '[');
		n = series_take(t, enough, &b);
		buf_char(&b, ']');
		assert_false(b.failed);
		list = json_parse(b.data, b.len, NULL);
		assert_non_null(list);
		assert_int_equal(cJSON_GetArraySize(list), n);
		while ((v = cJSON_DetachItemFromArray(list, 0)))
			cJSON_AddItemToArray(taken, v);
		cJSON_Delete(list);
		buf_done(&b);
		if (!n)
			return parts;
	}
}

static const cJSON *find(const char *source, const char *destination, const char *outcome)
{
	const cJSON *v;

	cJSON_ArrayForEach (v, taken)
		if (!strcmp(json_str(v, "source", ""), source) &&
		    !strcmp(json_str(v, "destination", ""), destination) &&
		    !strcmp(json_str(v, "outcome", ""), outcome))
			return v;
	return NULL;
}

static uint64_t requests(void)
{
	uint64_t n = 0;
	const cJSON *v;

	cJSON_ArrayForEach (v, taken)
		n += (uint64_t)json_num(v, "requests", 0);
	return n;
}

static void a_series_says_what_was_added(void **state)
{
	struct histogram_sparse h = {0};
	const cJSON *v;

	add("a", "b", SERIES_OK, 100);
	add("a", "b", SERIES_OK, 300);
	add("a", "b", SERIES_ERROR, 5000);
	add("a", "b", SERIES_NONE, 1);
	add("a", "b", SERIES_CLIENT_ERROR, 1);
	assert_int_equal(take_all(1 << 20), 1);
	assert_int_equal(cJSON_GetArraySize(taken), 4);
	v = find("a", "b", "ok");
	assert_true(json_num(v, "requests", 0) == 2 && json_num(v, "errors", 9) == 0);
	assert_true(json_num(v, "sumUs", 0) == 400);
	assert_true(json_num(v, "bytesIn", 0) == 2 && json_num(v, "bytesOut", 0) == 4);
	assert_string_equal(json_str(v, "version", ""), "v1");
	assert_string_equal(json_str(v, "protocol", ""), "http");
	assert_int_equal(histogram_sparse_parse(&h, cJSON_GetObjectItem(v, "histogram")), 0);
	assert_int_equal(histogram_sparse_total(&h), 2);
	assert_int_equal(h.pairs[0].bucket, histogram_bucket(100000));
	assert_int_equal(h.pairs[1].bucket, histogram_bucket(300000));
	histogram_sparse_done(&h);
	assert_true(json_num(find("a", "b", "error"), "errors", 0) == 1);
	assert_true(json_num(find("a", "b", "none"), "errors", 0) == 1);
	assert_true(json_num(find("a", "b", "client-error"), "errors", 9) == 0);
}

static void what_was_taken_is_not_taken_again(void **state)
{
	add("a", "b", SERIES_OK, 1);
	assert_true(series_waiting(t));
	take_all(1 << 20);
	assert_false(series_waiting(t));
	assert_int_equal(take_all(1 << 20), 0);
	add("a", "b", SERIES_OK, 7);
	take_all(1 << 20);
	assert_true(json_num(find("a", "b", "ok"), "requests", 0) == 1);
	assert_true(json_num(find("a", "b", "ok"), "sumUs", 0) == 7);
}

/* A place that was found is good until what it knows is gone. */
static void a_place_is_good_as_long_as_its_series_is_there(void **state)
{
	struct series_place place = {0};

	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 5; i++)
			add_at(&place, "a", "b", SERIES_OK, 1);
		add("a", "b", SERIES_OK, 1);
		take_all(1 << 20);
		assert_int_equal(cJSON_GetArraySize(taken), 1);
		assert_true(json_num(find("a", "b", "ok"), "requests", 0) == 6);
		for (int i = 0; i < round; i++)
			series_age(t); /* the second time it is dropped, and another is there */
		add("c", "d", SERIES_OK, 1);
		take_all(1 << 20);
	}
}

static void what_is_counted_under_other_is_no_place_to_keep(void **state)
{
	struct series_place place = {0};
	char name[32];

	for (int i = 0; i < SERIES_MAX; i++) {
		snprintf(name, sizeof(name), "caller-%d", i);
		add(name, "b", SERIES_OK, 1);
	}
	add_at(&place, "a", "b", SERIES_OK, 1);
	add_at(&place, "a", "b", SERIES_OK, 1);
	assert_int_equal(series_overflow(t), 2);
	take_all(1 << 20);
	assert_true(json_num(find("other", "other", "ok"), "requests", 0) == 2);
	series_age(t);
	series_age(t);
	add_at(&place, "a", "b", SERIES_OK, 1);
	take_all(1 << 20);
	assert_non_null(find("a", "b", "ok"));
}

static void names_are_escaped(void **state)
{
	add("a\"b\n", "c\\", SERIES_OK, 1);
	take_all(1 << 20);
	assert_non_null(find("a\"b\n", "c\\", "ok"));
}

static void a_crowd_of_names_is_counted_under_other(void **state)
{
	char name[32];

	for (int i = 0; i < SERIES_MAX + 500; i++) {
		snprintf(name, sizeof(name), "caller-%d", i);
		add(name, "b", SERIES_OK, 1);
	}
	assert_int_equal(series_overflow(t), 500);
	assert_true(take_all(64 << 10) > 5);
	assert_int_equal(requests(), SERIES_MAX + 500);
	assert_true(json_num(find("other", "other", "ok"), "requests", 0) == 500);
	/* those make room for others, once they are taken */
	for (int i = 0; i < SERIES_MAX; i++) {
		snprintf(name, sizeof(name), "later-%d", i);
		add(name, "b", SERIES_OK, 1);
	}
	assert_int_equal(series_overflow(t), 500);
	take_all(1 << 16);
	assert_int_equal(requests(), SERIES_MAX);
}

static void names_that_are_not_used_are_forgotten(void **state)
{
	add("a", "b", SERIES_OK, 1);
	series_age(t);
	take_all(1 << 20);
	assert_non_null(find("a", "b", "ok")); /* not before it was taken */
	series_age(t);
	series_age(t);
	add("a", "b", SERIES_OK, 1);
	take_all(1 << 20);
	assert_true(json_num(find("a", "b", "ok"), "requests", 0) == 1);
}

static void many_of_one_kind_count_as_many(void **state)
{
	series_add(t,
		   &(struct series_key){.source = "a",
					.destination = "b",
					.version = "",
					.protocol = SERIES_TCP,
					.outcome = SERIES_ERROR},
		   NULL, &(struct series_sample){.n = 1000});
	take_all(1 << 20);
	assert_int_equal(requests(), 1000);
	assert_string_equal(json_str(find("a", "b", "error"), "protocol", ""), "tcp");
}

static void assert_same(const cJSON *list, const struct histogram_sparse *expected)
{
	struct histogram_sparse h = {0};

	assert_int_equal(histogram_sparse_parse(&h, list), 0);
	assert_int_equal(h.n, expected->n);
	assert_memory_equal(h.pairs, expected->pairs, h.n * sizeof(*h.pairs));
	histogram_sparse_done(&h);
}

/* More series than are counted in the fast form, each with more latencies than in the slow one; and
 * again, since memory serves again. */
static void latencies_are_the_same_however_many_there_are(void **state)
{
	char name[32];

	srand(3);
	for (int round = 0; round < 3; round++) {
		struct histogram_sparse expected[100] = {0};

		for (int i = 0; i < 20000; i++) {
			uint32_t k = (uint32_t)rand() % 100;
			uint64_t us = (uint64_t)(rand() % 1000) * (k + 1);

			snprintf(name, sizeof(name), "s%u", k);
			add(name, "d", SERIES_OK, us);
			assert_int_equal(
				histogram_sparse_add(&expected[k], histogram_bucket(us * 1000), 1),
				0);
		}
		take_all(1 << 16);
		for (int k = 0; k < 100; k++) {
			snprintf(name, sizeof(name), "s%d", k);
			assert_same(cJSON_GetObjectItem(find(name, "d", "ok"), "histogram"),
				    &expected[k]);
			histogram_sparse_done(&expected[k]);
		}
		series_age(t);
	}
	add("s0", "d", SERIES_OK, 1); /* and one that ends with the table */
	for (uint64_t us = 1; us < 1000; us *= 2)
		add("s1", "d", SERIES_OK, us);
}

static void random_additions_lose_nothing(void **state)
{
	static struct series_place places[80][80][4];
	uint64_t added = 0, seen = 0;
	char a[16], b[16];

	srand(7);
	for (int i = 0; i < 20000; i++) {
		int from = rand() % 80, to = rand() % 80, outcome = rand() % 4;

		snprintf(a, sizeof(a), "s%d", from);
		snprintf(b, sizeof(b), "d%d", to);
		add_at(rand() % 2 ? &places[from][to][outcome] : NULL, a, b, (uint8_t)outcome,
		       (uint64_t)rand() % 100000);
		added++;
		if (rand() % 3000 == 0) {
			take_all((size_t)rand() % 10000);
			seen += requests();
		}
		if (rand() % 3000 == 0)
			series_age(t);
	}
	take_all(1 << 20);
	assert_int_equal(seen + requests(), added);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		tale(a_series_says_what_was_added),
		tale(what_was_taken_is_not_taken_again),
		tale(a_place_is_good_as_long_as_its_series_is_there),
		tale(what_is_counted_under_other_is_no_place_to_keep),
		tale(names_are_escaped),
		tale(a_crowd_of_names_is_counted_under_other),
		tale(names_that_are_not_used_are_forgotten),
		tale(many_of_one_kind_count_as_many),
		tale(latencies_are_the_same_however_many_there_are),
		tale(random_additions_lose_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
