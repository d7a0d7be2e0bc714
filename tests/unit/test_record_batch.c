/* SPDX-License-Identifier: Apache-2.0 */
/* Batches of records: what goes in comes out, names and all, and there are limits. */
#include "lib/record_batch.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
/* after the types that it needs */
#include "tests/unit/record_batch_rig.h"

static void what_goes_in_comes_out(void **state)
{
	struct record_batch *b = writer();
	struct record_batch_view v;
	struct whole w;
	size_t len;
	void *data;

	for (uint32_t i = 0; i < 300; i++)
		assert_int_equal(
			add(b, make(&w, i, (uint8_t)(i % (RECORD_TRIES + 1)), (uint16_t)(i % 700))),
			0);
	assert_int_equal(record_batch_count(b), 300);
	data = taken(b, &len);
	assert_int_equal(record_batch_check(data, len, &v), 0);
	assert_int_equal(v.head->size, len);
	assert_int_equal(v.head->records, 300);
	assert_string_equal(record_batch_node(&v), "host1");
	assert_string_equal(record_batch_name(&v, MESH_NONE), "");
	assert_int_equal(same_spans(&v, 0), 300);
	free(data);
	record_batch_free(&b);
	assert_null(b);
	record_batch_free(&b);
}

static void names_are_in_it_once_and_not_asked_for_again(void **state)
{
	struct record_batch *b = writer();
	struct record_batch_view v;
	struct whole w;
	size_t len;
	void *data;

	for (uint32_t i = 0; i < 1000; i++)
		assert_int_equal(add(b, make(&w, i, 1, 10)), 0);
	assert_int_equal(asked, 0); /* all tries ended where their requests did */
	data = taken(b, &len);
	assert_int_equal(record_batch_check(data, len, &v), 0);
	/* the node, services that call or are called, instances, two versions of each of their
	 * generations, which is one */
	assert_int_equal(v.head->names, 1 + 4 + 8 + 2);
	free(data);
	record_batch_free(&b);
}

static void batches_follow_one_another_in_one_body(void **state)
{
	struct record_batch *b = writer();
	size_t len = 0, size, at = 0;
	char *body = NULL;
	struct record_batch_view v;
	struct whole w;

	for (uint32_t turn = 0; turn < 5; turn++) {
		void *data;

		for (uint32_t i = 0; i <= turn; i++)
			add(b, make(&w, 100 * turn + i, (uint8_t)(i % (RECORD_TRIES + 1)),
				    (uint16_t)(i % 700)));
		data = taken(b, &size);
		body = realloc(body, len + size);
		assert_non_null(body);
		memcpy(body + len, data, size);
		len += size;
		free(data);
	}
	for (uint32_t turn = 0; turn < 5; turn++) {
		assert_int_equal(record_batch_check(body + at, len - at, &v), 0);
		assert_int_equal(same_spans(&v, 100 * turn), turn + 1);
		at += v.head->size;
	}
	assert_int_equal(at, len);
	free(body);
	record_batch_free(&b);
}

static void another_generation_is_another_name(void **state)
{
	struct record_batch *b = writer();
	struct record_batch_view v;
	struct span_names n;
	const struct record *r;
	uint32_t at = 0;
	struct whole w;
	size_t len;
	void *data;

	for (uint32_t gen = 1; gen <= 2; gen++) {
		make(&w, 0, 1, 0);
		w.r.endpoint_gen = gen;
		((struct record_try *)(&w.r + 1))->gen = gen;
		n = names_of(&w.r);
		snprintf(instances[0], sizeof(*instances), "life-%u", gen);
		assert_int_equal(record_batch_add(b, &w.r, &n), 0);
	}
	data = taken(b, &len);
	assert_int_equal(record_batch_check(data, len, &v), 0);
	for (uint32_t gen = 1; gen <= 2; gen++) {
		char expected[16];

		r = record_batch_next(&v, &at);
		assert_non_null(r);
		snprintf(expected, sizeof(expected), "life-%u", gen);
		record_batch_span(&v, r, &n);
		assert_string_equal(n.instance, expected);
		assert_string_equal(n.endpoint(n.arg, record_tries(r)->endpoint, 0), expected);
	}
	assert_null(record_batch_next(&v, &at));
	free(data);
	record_batch_free(&b);
}

/* The same places with other strings: a new batch asks no old one. */
static void a_new_batch_has_new_names(void **state)
{
	struct record_batch *b = writer();
	struct whole w;
	size_t len;

	for (uint32_t turn = 0; turn < 70000; turn++) { /* more than its count of turns can hold */
		struct record_batch_view v;
		struct span_names n;
		uint32_t at = 0;
		void *data;

		if (turn % 10000 < 3 || turn > 65530)
			snprintf(instances[0], sizeof(*instances), "turn-%u", turn);
		assert_int_equal(add(b, make(&w, 0, 0, 0)), 0);
		assert_int_equal(record_batch_take(b, 0, &data, &len), 0);
		assert_int_equal(record_batch_check(data, len, &v), 0);
		record_batch_span(&v, record_batch_next(&v, &at), &n);
		assert_string_equal(n.instance, instances[0]);
		free(data);
	}
	record_batch_free(&b);
}

static void nothing_is_taken_of_an_empty_one(void **state)
{
	struct record_batch *b = writer();
	void *data;
	size_t len;

	assert_int_equal(record_batch_take(b, 0, &data, &len), -ENODATA);
	assert_int_equal(record_batch_count(b), 0);
	record_batch_free(&b);
}

static void a_batch_is_bounded(void **state)
{
	struct record_batch *b = writer();
	struct record_batch_view v;
	uint32_t big = 0, small = 0;
	struct whole w;
	size_t len;
	void *data;

	while (!add(b, make(&w, big, RECORD_TRIES, 700)))
		big++;
	assert_int_equal(add(b, &w.r), -ENOSPC);
	data = taken(b, &len);
	assert_in_range(len, RECORD_BATCH_SIZE - 4096, RECORD_BATCH_SIZE);
	assert_int_equal(record_batch_check(data, len, &v), 0);
	assert_int_equal(v.head->records, big);
	free(data);

	for (small = 0; !add(b, make(&w, small, 0, 0));)
		small++;
	assert_in_range(small, RECORD_BATCH_SIZE / sizeof(struct whole), RECORD_BATCH_MAX);
	assert_int_equal(record_batch_count(b), small);
	free(taken(b, &len));
	record_batch_free(&b);
}

static void names_are_bounded_too(void **state)
{
	static char many[2 * RECORD_BATCH_NAMES][RECORD_NAME_SIZE + 8];
	struct record_batch *b = writer();
	struct record_batch_view v;
	struct whole w;
	uint32_t n = 0;
	size_t len;
	void *data;
	int err;

	for (uint32_t i = 0; i < 2 * RECORD_BATCH_NAMES; i++)
		memset(many[i], 'a' + (int)(i % 26), RECORD_NAME_SIZE + 7); /* too long */
	do {
		struct span_names names = names_of(make(&w, 1, 0, 0));

		names.source = many[n];
		err = record_batch_add(b, &w.r, &names);
	} while (!err && ++n);
	assert_int_equal(err, -ENOSPC);
	assert_in_range(n, RECORD_BATCH_NAMES - 20, RECORD_BATCH_NAMES);
	data = taken(b, &len);
	assert_true(len <= RECORD_BATCH_SIZE);
	assert_int_equal(record_batch_check(data, len, &v), 0);
	for (uint32_t i = 0; i < v.head->names; i++)
		assert_true(strlen(record_batch_name(&v, i)) < RECORD_NAME_SIZE);
	free(data);
	record_batch_free(&b);
}

static void *full(struct record_batch *b)
{
	uint32_t n = 0;
	struct whole w;
	size_t len;
	void *data;

	while (!add(b, make(&w, n, (uint8_t)(n % (RECORD_TRIES + 1)), (uint16_t)(n % 700))))
		n++;
	assert_int_equal(record_batch_take(b, WALL, &data, &len), 0);
	return data;
}

/* Of a busy host the same memory; a quiet one has none of it after a while (the sanitizer would see
 * what is left). */
static void memory_serves_again(void **state)
{
	struct record_batch *b = writer();
	struct record_batch_view v;
	void *batches[40];

	for (int turn = 0; turn < 3; turn++) {
		for (int i = 0; i < 40; i++)
			batches[i] = full(b);
		for (int i = 0; i < 40; i++) {
			assert_int_equal(record_batch_check(batches[i], RECORD_BATCH_SIZE, &v), 0);
			same_spans(&v, 0);
			record_batch_reuse(b, batches[i]);
		}
	}
	batches[0] = full(b);
	record_batch_reuse(b, batches[0]);
	batches[1] = full(b);
	assert_ptr_equal(batches[0], batches[1]);
	record_batch_reuse(b, batches[1]);
	record_batch_reuse(b, NULL);
	for (int i = 0; i < 20; i++)
		record_batch_rest(b);
	batches[0] = full(b); /* from small to large */
	assert_int_equal(record_batch_check(batches[0], RECORD_BATCH_SIZE, &v), 0);
	same_spans(&v, 0);
	free(batches[0]);
	record_batch_free(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(what_goes_in_comes_out, setup),
		cmocka_unit_test_setup(names_are_in_it_once_and_not_asked_for_again, setup),
		cmocka_unit_test_setup(batches_follow_one_another_in_one_body, setup),
		cmocka_unit_test_setup(another_generation_is_another_name, setup),
		cmocka_unit_test_setup(a_new_batch_has_new_names, setup),
		cmocka_unit_test_setup(nothing_is_taken_of_an_empty_one, setup),
		cmocka_unit_test_setup(a_batch_is_bounded, setup),
		cmocka_unit_test_setup(names_are_bounded_too, setup),
		cmocka_unit_test_setup(memory_serves_again, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
