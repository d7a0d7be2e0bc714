/* SPDX-License-Identifier: Apache-2.0 */
/* What is no batch of records: whatever else comes over the network is refused or harmless. */
#include "lib/record_batch.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
/* after the types that it needs */
#include "tests/unit/record_batch_rig.h"

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
		cmocka_unit_test_setup(a_batch_that_was_cut_off_is_refused, setup),
		cmocka_unit_test_setup(one_at_an_odd_address_is_refused, setup),
		cmocka_unit_test_setup(every_garbled_byte_is_refused_or_harmless, setup),
		cmocka_unit_test_setup(noise_is_refused_or_harmless, setup),
		cmocka_unit_test_setup(every_lie_is_refused, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
