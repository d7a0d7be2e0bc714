/* SPDX-License-Identifier: Apache-2.0 */
/* The telemetry ring: wrapping, running full, and a writer that went mad. */
#include "agent/telemetry/ring.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct ring *ring;

static int make(void **state)
{
	ring = aligned_alloc(64, RING_DATA + RING_SIZE);
	if (!ring)
		return -1;
	memset(ring, 0, RING_DATA + RING_SIZE);
	ring_init(ring);
	return 0;
}

static int drop(void **state)
{
	free(ring);
	return 0;
}

static uint32_t size_for(uint32_t text)
{
	return (uint32_t)((sizeof(struct record) + text + 7) & ~7u);
}

static bool put(uint64_t number, uint32_t text)
{
	uint32_t size = size_for(text);
	struct record *r = ring_reserve(ring, size);

	if (!r)
		return false;
	memset(r, 0, size);
	r->size = size;
	r->kind = RECORD_REQUEST;
	r->start_ns = number;
	r->path_len = (uint16_t)text;
	memset(r + 1, (int)('a' + number % 26), text);
	ring_commit(ring, size);
	return true;
}

struct seen {
	uint64_t n, next;
};

static void check(const struct record *r, void *arg)
{
	struct seen *s = arg;

	assert_int_equal(r->start_ns, s->next);
	for (uint32_t i = 0; i < r->path_len; i++)
		assert_int_equal(((const char *)(r + 1))[i], 'a' + s->next % 26);
	s->next++;
	s->n++;
}

static void count(const struct record *r, void *arg)
{
	++*(uint64_t *)arg;
}

static void records_of_all_lengths_come_out_as_they_went_in_around_the_end(void **state)
{
	struct seen s = {0};
	uint64_t n = 0, corrupt = 0;

	for (int round = 0; round < 2000; round++) {
		for (int i = 0; i < 7; i++, n++)
			assert_true(put(n, (uint32_t)(n * 37 % (RECORD_TEXT_MAX + 1))));
		ring_drain(ring, UINT32_MAX, check, &s, &corrupt);
	}
	assert_true(ring->head > 2 * RING_SIZE); /* it did wrap */
	assert_int_equal(s.n, n);
	assert_int_equal(corrupt, 0);
	assert_int_equal(ring->lost, 0);
}

static void a_full_ring_counts_what_it_loses_and_keeps_what_it_has(void **state)
{
	struct seen s = {0};
	uint64_t n = 0, corrupt = 0;

	while (put(n, 100))
		n++;
	assert_false(put(n, 100));
	assert_int_equal(ring->lost, 2);
	assert_true(n > RING_SIZE / size_for(100) - 2);
	assert_int_equal(ring_drain(ring, UINT32_MAX, check, &s, &corrupt), n);
	assert_int_equal(corrupt, 0);
	assert_true(put(n, 100));
	ring_drain(ring, UINT32_MAX, check, &s, &corrupt);
	assert_int_equal(s.n, n + 1);
}

static void the_reader_takes_no_more_than_it_wants(void **state)
{
	struct seen s = {0};
	uint64_t corrupt = 0;

	for (uint64_t i = 0; i < 10; i++)
		put(i, 8);
	assert_int_equal(ring_drain(ring, 4, check, &s, &corrupt), 4);
	assert_int_equal(ring_drain(ring, 4, check, &s, &corrupt), 4);
	assert_int_equal(ring_drain(ring, 4, check, &s, &corrupt), 2);
	assert_int_equal(ring_drain(ring, 4, check, &s, &corrupt), 0);
}

/* Each spoils one good record; the reader must notice, lose the ring's content, and go on. */
static void spoil_size_zero(struct record *r)
{
	r->size = 0;
}
static void spoil_size_odd(struct record *r)
{
	r->size += 1;
}
static void spoil_size_huge(struct record *r)
{
	r->size = 0x7ffffff8;
}
static void spoil_size_beyond_head(struct record *r)
{
	r->size += 8;
}
static void spoil_kind(struct record *r)
{
	r->kind = 77;
}
static void spoil_text(struct record *r)
{
	r->host_len = 60000;
}
static void spoil_head_far(struct record *r)
{
	ring->head += 10ull * RING_SIZE;
}
static void spoil_head_back(struct record *r)
{
	ring->head = 0;
	ring->tail = 64;
}
static void spoil_tail_odd(struct record *r)
{
	ring->tail += 4;
}

static void keep(const struct record *rec, void *arg)
{
	*(struct record *)arg = *rec;
}

static void numbers_that_no_request_has_are_cut(void **state)
{
	uint64_t corrupt = 0;
	struct record *r, got;

	put(0, 16);
	r = (struct record *)((char *)ring + RING_DATA);
	r->status = 60000;
	r->start_ns = r->duration_ns = r->head_ns = r->bytes_in = r->bytes_out = UINT64_MAX;
	r->upstream_ns = 5;
	assert_int_equal(ring_drain(ring, 1, keep, &got, &corrupt), 1);
	assert_int_equal(corrupt, 0);
	assert_int_equal(got.status, 0);
	assert_true(got.start_ns <= 1ULL << 60 && got.duration_ns <= 1ULL << 60);
	assert_int_equal(got.head_ns, got.duration_ns);
	assert_int_equal(got.upstream_ns, 5);
	assert_true(got.bytes_in < 1ULL << 53 && got.bytes_out < 1ULL << 53);
}

static void nonsense_is_noticed_and_survived(void **state)
{
	static void (*const spoil[])(struct record *) = {
		spoil_size_zero,	spoil_size_odd,	 spoil_size_huge,
		spoil_size_beyond_head, spoil_kind,	 spoil_text,
		spoil_head_far,		spoil_head_back, spoil_tail_odd};

	for (size_t i = 0; i < sizeof(spoil) / sizeof(*spoil); i++) {
		uint64_t n = 0, corrupt = 0;

		memset(ring, 0, RING_DATA + RING_SIZE);
		ring_init(ring);
		put(0, 16);
		spoil[i]((struct record *)((char *)ring + RING_DATA));
		assert_int_equal(ring_drain(ring, UINT32_MAX, count, &n, &corrupt), 0);
		assert_int_equal(corrupt, 1);
		assert_int_equal(ring->head, ring->tail);
	}
}

static struct record_why *put_why(uint16_t candidates, uint16_t text)
{
	uint32_t size = (uint32_t)(sizeof(struct record_why) +
				   candidates * sizeof(struct why_candidate) + text + 7) &
			~7u;
	struct record_why *w = ring_reserve(ring, size);

	assert_non_null(w);
	memset(w, 0, size);
	w->size = size;
	w->kind = RECORD_WHY;
	w->ncandidates = candidates;
	w->route_len = text;
	ring_commit(ring, size);
	return w;
}

static void see_why(const struct record *r, void *arg)
{
	const struct record_why *w = (const struct record_why *)r;

	assert_int_equal(r->kind, RECORD_WHY);
	assert_int_equal(why_text(w)[w->route_len - 1], 'z');
	++*(uint64_t *)arg;
}

static void explanations_come_with_all_their_candidates_or_not_at_all(void **state)
{
	uint64_t n = 0, corrupt = 0;
	struct record_why *w;

	for (uint16_t i = 0; i <= WHY_CANDIDATES; i++) {
		w = put_why(i, RECORD_TEXT_MAX);
		((char *)why_text(w))[RECORD_TEXT_MAX - 1] = 'z';
	}
	ring_drain(ring, UINT32_MAX, see_why, &n, &corrupt);
	assert_int_equal(n, WHY_CANDIDATES + 1);
	assert_int_equal(corrupt, 0);
	for (int i = 0; i < 4; i++) {
		n = corrupt = 0;
		w = put_why(3, 40);
		if (i == 0)
			w->ncandidates = WHY_CANDIDATES + 1;
		else if (i == 1)
			w->ncandidates++;
		else if (i == 2)
			w->request_id_len = 60000;
		else
			w->size += 8192;
		ring_drain(ring, UINT32_MAX, count, &n, &corrupt);
		assert_int_equal(n, 0);
		assert_int_equal(corrupt, 1);
	}
}

static void random_bytes_never_hurt(void **state)
{
	uint64_t n = 0, corrupt = 0;
	unsigned seed = 7;

	for (int round = 0; round < 3000; round++) {
		uint32_t *data = (uint32_t *)((char *)ring + RING_DATA);

		for (int i = 0; i < 64; i++)
			data[i] = (uint32_t)rand_r(&seed) & (i % 3 ? 0xffffffff : 0x1ff);
		ring->tail = 0;
		ring->head = (uint64_t)(rand_r(&seed) % 256);
		ring_drain(ring, 100, count, &n, &corrupt);
	}
	assert_true(corrupt > 0);
}

static void every_cause_has_a_name_and_no_other_number_has(void **state)
{
	assert_string_equal(cause_name(CAUSE_NONE), "");
	for (uint32_t i = 1; i < CAUSE_MAX; i++)
		assert_true(*cause_name(i));
	assert_string_equal(cause_name(CAUSE_MAX), "");
	assert_string_equal(cause_name(UINT32_MAX), "");
	assert_string_equal(cause_name(CAUSE_BREAKER_OPEN), "breaker-open");
	assert_string_equal(cause_name(CAUSE_DENIED), "denied");
}

#define story(fn) cmocka_unit_test_setup_teardown(fn, make, drop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		story(records_of_all_lengths_come_out_as_they_went_in_around_the_end),
		story(a_full_ring_counts_what_it_loses_and_keeps_what_it_has),
		story(the_reader_takes_no_more_than_it_wants),
		story(numbers_that_no_request_has_are_cut),
		story(nonsense_is_noticed_and_survived),
		story(explanations_come_with_all_their_candidates_or_not_at_all),
		story(random_bytes_never_hurt),
		cmocka_unit_test(every_cause_has_a_name_and_no_other_number_has),
	};

	return cmocka_run_group_tests_name("ring", tests, NULL, NULL);
}
