/* SPDX-License-Identifier: Apache-2.0 */
/* Batches of records: what goes in comes out, names and all; limits; and whatever else comes over
 * the network is refused or harmless. */
#include "lib/record_batch.h"
#include "lib/buf.h"

#include <errno.h>
#include <mesh/abi.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* after the types that it needs */
#include <cmocka.h>

#define WALL 1763868000000000000LL

struct whole {
	struct record r;
	struct record_try tries[RECORD_TRIES];
	char text[RECORD_TEXT_MAX];
};

static uint64_t seed = 1;

static uint64_t draw(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

/* Names as a registry has them: in places of their own. */
static char instances[8][RECORD_NAME_SIZE], services[4][RECORD_NAME_SIZE];
static unsigned asked; /* for endpoints of tries */

static const char *endpoint_name(void *arg, uint32_t endpoint, uint32_t gen)
{
	asked++;
	return instances[endpoint % 8];
}

static int setup(void **state)
{
	for (int i = 0; i < 8; i++)
		snprintf(instances[i], sizeof(*instances), "backend-%d", i);
	for (int i = 0; i < 4; i++)
		snprintf(services[i], sizeof(*services), "service-%d", i);
	seed = 1;
	asked = 0;
	return 0;
}

/* A request with `ntries` tries and a path of so many bytes. */
static const struct record *make(struct whole *w, uint64_t number, uint8_t ntries, uint16_t path)
{
	char *text = (char *)(w->tries + ntries); /* follows the last try */

	memset(w, 0, sizeof(*w));
	w->r = (struct record){.kind = RECORD_REQUEST,
			       .tries = ntries,
			       .ntries = ntries,
			       .flags = RECORD_TRACED | RECORD_SAMPLED,
			       .start_ns = number,
			       .duration_ns = 5000000,
			       .head_ns = 4000000,
			       .upstream_ns = 3000000,
			       .caller = number % 3,
			       .service = number % 4,
			       .upstream = 77,
			       .endpoint = number % 8,
			       .endpoint_gen = 1,
			       .status = 200,
			       .method_len = 3,
			       .path_len = path};
	memcpy(w->r.span_id, &number, sizeof(number));
	for (uint32_t i = 0; i < ntries; i++)
		w->tries[i] = (struct record_try){.endpoint = (uint32_t)((number + i + 1) % 8),
						  .gen = 1,
						  .start_us = 10 * i,
						  .duration_us = 9,
						  .status = 503};
	if (ntries)
		w->tries[ntries - 1] = (struct record_try){.endpoint = w->r.endpoint,
							   .gen = 1,
							   .start_us = 10u * ntries,
							   .duration_us = 9,
							   .status = 200};
	memcpy(text, "GET", 3);
	memset(text + 3, 'p', path);
	w->r.size = (uint32_t)(text + 3 + path - (char *)w + 7) & ~7u;
	return &w->r;
}

static struct span_names names_of(const struct record *r)
{
	return (struct span_names){.source = services[r->caller % 4],
				   .service = services[r->service % 4],
				   .instance = instances[r->endpoint % 8],
				   .version = r->endpoint % 2 ? "v1" : "v2",
				   .node = "host1",
				   .slow = r->start_ns % 5 == 0,
				   .endpoint = endpoint_name};
}

static int add(struct record_batch *b, const struct record *r)
{
	struct span_names n = names_of(r);

	return record_batch_add(b, r, &n);
}

static struct record_batch *writer(void)
{
	struct record_batch *b;

	assert_int_equal(record_batch_new("host1", &b), 0);
	return b;
}

/* As it would be sent: in a piece of memory of just that size, for the sanitizer. */
static void *taken(struct record_batch *b, size_t *len)
{
	void *out, *exact;

	assert_int_equal(record_batch_take(b, WALL, &out, len), 0);
	exact = malloc(*len);
	assert_non_null(exact);
	memcpy(exact, out, *len);
	free(out);
	return exact;
}

static void span_of(const struct record *r, const struct span_names *n, uint64_t ns, struct buf *b)
{
	buf_init(b, SPAN_MAX);
	span_json(r, n, ns, b);
	assert_false(b->failed);
}

/* Every record of a batch makes the span that it made before. Returns how many there are. */
static uint32_t same_spans(const struct record_batch_view *v, uint64_t first)
{
	const struct record *r;
	uint32_t at = 0, n = 0;
	struct whole w;

	while ((r = record_batch_next(v, &at))) {
		const struct record *was =
			make(&w, first + n, (uint8_t)(n % (RECORD_TRIES + 1)), (uint16_t)(n % 700));
		struct span_names before = names_of(was), after;
		struct buf a, b;

		record_batch_span(v, r, &after);
		span_of(was, &before, was->start_ns + WALL, &a);
		span_of(r, &after, record_batch_wall(v, r->start_ns), &b);
		assert_string_equal(a.data, b.data);
		buf_done(&a);
		buf_done(&b);
		n++;
	}
	return n;
}

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

/* Whatever is accepted can be read to its end without a look beyond it. */
static void read_all(const void *data, size_t len)
{
	struct record_batch_view v;
	const struct record *r;
	uint32_t at = 0, n = 0;
	struct buf b;

	if (record_batch_check(data, len, &v))
		return;
	assert_true(v.head->size <= len);
	buf_init(&b, 4u << 20);
	while ((r = record_batch_next(&v, &at))) {
		struct span_names names;

		record_batch_span(&v, r, &names);
		span_json(r, &names, record_batch_wall(&v, r->start_ns), &b);
		n++;
	}
	assert_int_equal(n, v.head->records);
	buf_done(&b);
}

static void *sample(size_t *len)
{
	struct record_batch *b = writer();
	struct whole w;
	void *data;

	for (uint32_t i = 0; i < 5; i++)
		add(b, make(&w, i, (uint8_t)(i % 3), (uint16_t)(7 * i)));
	data = taken(b, len);
	record_batch_free(&b);
	return data;
}

static void a_batch_that_was_cut_off_is_refused(void **state)
{
	struct record_batch_view v;
	size_t whole;
	char *data = sample(&whole);

	for (size_t len = 0; len < whole; len++) {
		char *cut = malloc(len ? len : 1);

		assert_non_null(cut);
		memcpy(cut, data, len);
		assert_int_equal(record_batch_check(cut, len, &v), -EINVAL);
		free(cut);
	}
	free(data);
}

static void one_at_an_odd_address_is_refused(void **state)
{
	struct record_batch_view v;
	size_t len;
	char *data = sample(&len), *moved = malloc(len + 8);

	assert_non_null(moved);
	for (size_t by = 1; by < 8; by++) {
		memcpy(moved + by, data, len);
		assert_int_equal(record_batch_check(moved + by, len, &v), -EINVAL);
	}
	free(moved);
	free(data);
}

static void every_garbled_byte_is_refused_or_harmless(void **state)
{
	static const uint8_t masks[] = {0x01, 0x80, 0xff, 0x7f, 0x08};
	size_t len;
	char *data = sample(&len);

	for (size_t at = 0; at < len; at++)
		for (size_t m = 0; m < sizeof(masks); m++) {
			data[at] ^= (char)masks[m];
			read_all(data, len);
			data[at] ^= (char)masks[m];
		}
	free(data);
}

static void noise_is_refused_or_harmless(void **state)
{
	size_t len;
	char *data = sample(&len), *copy = malloc(len);

	assert_non_null(copy);
	for (int turn = 0; turn < 200000; turn++) {
		memcpy(copy, data, len);
		for (uint64_t n = draw() % 4 + 1; n; n--) {
			uint64_t at = draw() % len, v = draw();
			size_t width = (size_t)1 << draw() % 4;

			if (draw() % 2)
				v = (uint64_t)0 - v % 3; /* 0, or as large as it can be */
			memcpy(copy + at, &v, width < len - at ? width : len - at);
		}
		read_all(copy, len);
	}
	free(copy);
	free(data);
}

static struct record_batch_head *head_of(void *data)
{
	return data;
}

static struct record *first_of(void *data)
{
	return (struct record *)(head_of(data) + 1);
}

/* Each makes one lie of a good batch. */
static void lie_magic(void *d)
{
	head_of(d)->magic++;
}
static void lie_layout(void *d)
{
	head_of(d)->layout++;
}
static void lie_records(void *d)
{
	head_of(d)->records++;
}
static void lie_no_names(void *d)
{
	head_of(d)->names = 0;
}
static void lie_wall(void *d)
{
	head_of(d)->wall_ns = INT64_MIN;
}
static void lie_unended(void *d)
{
	((char *)d)[head_of(d)->size - 1] = 'x';
}
static void lie_where(void *d)
{
	*(uint16_t *)((char *)d + head_of(d)->at_names) = 60000;
}
static void lie_kind(void *d)
{
	first_of(d)->kind = RECORD_WHY;
}
static void lie_caller(void *d)
{
	first_of(d)->caller = head_of(d)->names;
}
static void lie_version(void *d)
{
	first_of(d)->endpoint_gen = head_of(d)->names;
}
static void lie_try(void *d)
{
	struct record *second = (void *)((char *)first_of(d) + first_of(d)->size);

	((struct record_try *)(second + 1))->endpoint = 500;
}
static void lie_text(void *d)
{
	first_of(d)->host_len = 60000;
}
static void lie_nul(void *d)
{
	*(char *)record_text(first_of(d)) = 0;
}
static void lie_head(void *d)
{
	first_of(d)->head_ns = first_of(d)->duration_ns + 1;
}
static void lie_size(void *d)
{
	first_of(d)->size += 8;
}

static void every_lie_is_refused(void **state)
{
	static void (*const lies[])(void *) = {lie_magic,  lie_layout,	lie_records, lie_no_names,
					       lie_wall,   lie_where,	lie_unended, lie_kind,
					       lie_caller, lie_version, lie_try,     lie_text,
					       lie_nul,	   lie_head,	lie_size};

	for (size_t i = 0; i < sizeof(lies) / sizeof(*lies); i++) {
		struct record_batch_view v;
		size_t len;
		void *data = sample(&len);

		assert_int_equal(record_batch_check(data, len, &v), 0);
		lies[i](data);
		if (record_batch_check(data, len, &v) != -EINVAL)
			fail_msg("lie %zu was believed", i);
		free(data);
	}
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
		cmocka_unit_test_setup(a_batch_that_was_cut_off_is_refused, setup),
		cmocka_unit_test_setup(one_at_an_odd_address_is_refused, setup),
		cmocka_unit_test_setup(every_garbled_byte_is_refused_or_harmless, setup),
		cmocka_unit_test_setup(noise_is_refused_or_harmless, setup),
		cmocka_unit_test_setup(every_lie_is_refused, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
