/* SPDX-License-Identifier: Apache-2.0 */
/* The telemetry ring: wrapping, running full, what is counted then, and a writer that went mad. */
#include "agent/telemetry/ring.h"

#include <mesh/abi.h>
#include <pthread.h>
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
		/* never all of them, or it begins anew */
		ring_drain(ring, round ? 7 : 6, check, &s, &corrupt);
	}
	assert_true(ring->head > 2 * RING_SIZE); /* it did wrap */
	assert_int_equal(s.n, n - 1);
	assert_int_equal(corrupt, 0);
	assert_int_equal(ring->lost, 0);
}

/* The worker's cache is not walked through for nothing. */
static void a_ring_that_is_read_in_time_begins_anew(void **state)
{
	const char *first = (const char *)ring + RING_DATA, *furthest = first;
	struct seen s = {0};
	uint64_t n = 0, corrupt = 0;

	for (int round = 0; round < 500; round++) {
		for (int i = 0; i < 50; i++, n++) {
			assert_true(put(n, 100));
			if ((const char *)ring_reserve(ring, 8) > furthest)
				furthest = ring_reserve(ring, 8);
		}
		assert_int_equal(ring_drain(ring, UINT32_MAX, check, &s, &corrupt), 50);
	}
	assert_in_range(furthest - first, 64 << 10, (64 << 10) + 50 * size_for(100));
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

/* --- what found no room ---------------------------------------------------------------------- */

#define CALLERS	 40 /* with SERVICES and STATUSES more than the table has entries */
#define STATUSES 5

static const uint16_t statuses[STATUSES] = {0, 200, 204, 404, 503};

struct sums {
	uint64_t n, of_status[STATUSES], of_class[6], of_caller[CALLERS], others;
	uint64_t bytes_in, bytes_out, retries, ns;
	uint32_t seed;
	bool over;
};

static struct tally_sum any(uint32_t *seed)
{
	uint32_t r = (uint32_t)rand_r((unsigned *)seed);

	return (struct tally_sum){.caller = r % CALLERS,
				  .service = 3,
				  .status = statuses[r / CALLERS % STATUSES],
				  .duration_ns = 1ULL << r % 36,
				  .bytes_in = r % 7,
				  .bytes_out = r % 1000,
				  .retries = r % 3};
}

static void count_sum(struct sums *s, const struct tally_sum *t, uint64_t n)
{
	s->n += n;
	s->of_class[t->status / 100] += n;
	s->bytes_in += t->bytes_in;
	s->bytes_out += t->bytes_out;
	s->retries += t->retries;
	s->ns += t->duration_ns * n;
	if (t->other)
		s->others += n;
	else
		s->of_caller[t->caller % CALLERS] += n;
}

static void see_sum(const struct tally_sum *t, void *arg)
{
	struct sums *s = arg;

	assert_true(t->n > 0);
	assert_true(t->other || (t->service == 3 && t->caller < CALLERS && !t->tunnel));
	count_sum(s, t, t->n);
}

static void assert_same(const struct sums *put, const struct sums *got)
{
	assert_int_equal(got->n, put->n);
	for (int i = 0; i < 6; i++)
		assert_int_equal(got->of_class[i], put->of_class[i]);
	assert_int_equal(got->bytes_in, put->bytes_in);
	assert_int_equal(got->bytes_out, put->bytes_out);
	assert_int_equal(got->retries, put->retries);
	for (int i = 0; i < CALLERS; i++) {
		assert_true(got->of_caller[i] <= put->of_caller[i]);
		assert_true(got->of_caller[i] + got->others >= put->of_caller[i]);
	}
	assert_in_range(got->ns, put->ns - put->ns / 100, put->ns + put->ns / 100);
}

static void *writes(void *arg)
{
	struct sums *s = arg;

	for (int i = 0; i < 300000; i++) {
		struct tally_sum one = any(&s->seed);

		tally_add(ring_tally(ring), &one);
		count_sum(s, &one, 1);
	}
	__atomic_store_n(&s->over, true, __ATOMIC_RELEASE);
	return NULL;
}

static void what_is_counted_is_taken_once_whoever_runs_when(void **state)
{
	for (uint32_t round = 0; round < 3; round++) {
		struct sums put = {.seed = round + 1}, got = {0};
		pthread_t writer;
		bool over;

		assert_int_equal(pthread_create(&writer, NULL, writes, &put), 0);
		do {
			over = __atomic_load_n(&put.over, __ATOMIC_ACQUIRE);
			tally_take(ring_tally(ring), see_sum, &got);
		} while (!over);
		assert_int_equal(pthread_join(writer, NULL), 0);
		tally_take(ring_tally(ring), see_sum, &got);
		assert_same(&put, &got);
		assert_int_equal(tally_take(ring_tally(ring), see_sum, &got), 0);
	}
}

static void keep_sum(const struct tally_sum *t, void *arg)
{
	*(struct tally_sum *)arg = *t;
}

static void all_that_is_counted_of_a_request_comes_out(void **state)
{
	const struct tally_sum one = {.caller = MESH_NONE,
				      .service = MESH_MAX_SERVICES - 1,
				      .status = 503,
				      .flags = RECORD_GATEWAY | RECORD_NO_BUDGET | RECORD_SAMPLED,
				      .cause = CAUSE_MAX - 1,
				      .bulkhead = 4,
				      .duration_ns = 3000000,
				      .bytes_in = 5,
				      .bytes_out = 6,
				      .retries = 2};
	struct tally_sum got;

	for (int i = 0; i < 10; i++)
		tally_add(ring_tally(ring), &one);
	assert_int_equal(tally_take(ring_tally(ring), keep_sum, &got), 1);
	assert_int_equal(got.n, 10);
	assert_int_equal(got.caller, MESH_NONE);
	assert_int_equal(got.service, MESH_MAX_SERVICES - 1);
	assert_int_equal(got.status, 503);
	assert_int_equal(got.flags, RECORD_GATEWAY | RECORD_NO_BUDGET);
	assert_int_equal(got.cause, CAUSE_MAX - 1);
	assert_int_equal(got.bulkhead, 4);
	assert_false(got.tunnel || got.other);
	assert_in_range(got.duration_ns, 2990000, 3010000);
	assert_int_equal(got.bytes_in, 50);
	assert_int_equal(got.bytes_out, 60);
	assert_int_equal(got.retries, 20);
}

static void latencies_stay_nearly_what_they_were(void **state)
{
	for (uint64_t ns = 0; ns < 100000000000ULL; ns = ns * 21 / 20 + 1) {
		struct tally_sum one = {.status = 200, .duration_ns = ns}, got = {0};

		tally_add(ring_tally(ring), &one);
		assert_int_equal(tally_take(ring_tally(ring), keep_sum, &got), 1);
		/* one alone: to 1/256 of its bucket, of the first of a microsecond */
		assert_true(got.duration_ns + ns / 250 + 4 >= ns);
		assert_true(got.duration_ns <= ns + ns / 250 + 4);
	}
}

static void an_entry_that_is_not_used_any_more_is_another_s(void **state)
{
	struct sums got = {0};

	for (uint32_t i = 0; i < 100 * TALLY_ENTRIES; i++) {
		tally_add(ring_tally(ring), &(struct tally_sum){.caller = i % CALLERS,
								.service = 3,
								.status = (uint16_t)(i % 600)});
		tally_take(ring_tally(ring), see_sum, &got);
	}
	assert_int_equal(got.n, 100 * TALLY_ENTRIES);
	assert_int_equal(got.others, 0);
}

/* It had seen that there is news, or was giving entries back. */
static void a_reader_that_dies_leaves_what_it_had_not_taken(void **state)
{
	struct tally *t = ring_tally(ring);
	struct sums got = {0};

	tally_add(t, &(struct tally_sum){.caller = 1, .service = 3, .status = 200});
	t->news = 0;
	assert_int_equal(tally_take(t, see_sum, &got), 0);
	tally_inherited(t);
	assert_int_equal(tally_take(t, see_sum, &got), 1);
	assert_int_equal(got.n, 1);
	for (int i = 0; i < TALLY_ENTRIES; i++)
		t->entry[i].key = 1;
	tally_inherited(t);
	tally_take(t, see_sum, &got);
	tally_add(t, &(struct tally_sum){.caller = 1, .service = 3, .status = 200});
	assert_int_equal(tally_take(t, see_sum, &got), 1);
	assert_int_equal(got.n, 2);
	assert_int_equal(got.others, 0);
}

static void check_sane(const struct tally_sum *t, void *arg)
{
	assert_in_range(t->n, 1, TALLY_MOST);
	assert_true(t->caller < MESH_MAX_WORKLOADS || t->caller == MESH_NONE);
	assert_true(t->service < MESH_MAX_SERVICES || t->service == MESH_NONE);
	assert_true(t->cause < CAUSE_MAX && t->status <= 999);
	assert_in_range(t->duration_ns, 0, 1ULL << 37);
	assert_in_range(t->bytes_in, 0, 1ULL << 50);
	++*(uint64_t *)arg;
}

static void random_words_in_the_table_are_cut_to_what_can_be(void **state)
{
	uint64_t n = 0;

	for (int round = 0; round < 50; round++) {
		uint64_t *word = (uint64_t *)ring_tally(ring);

		for (size_t i = 0; i < sizeof(struct tally) / sizeof(*word); i++)
			word[i] =
				(uint64_t)rand() << 33 ^ (uint64_t)rand() << 11 ^ (uint64_t)rand();
		tally_take(ring_tally(ring), check_sane, &n);
	}
	assert_true(n > 1000);
	tally_orphaned(ring_tally(ring));
	tally_add(ring_tally(ring), &(struct tally_sum){.status = 200});
	assert_true(tally_take(ring_tally(ring), check_sane, &n) > 0); /* and it goes on */
}

#define story(fn) cmocka_unit_test_setup_teardown(fn, make, drop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		story(records_of_all_lengths_come_out_as_they_went_in_around_the_end),
		story(a_ring_that_is_read_in_time_begins_anew),
		story(a_full_ring_counts_what_it_loses_and_keeps_what_it_has),
		story(the_reader_takes_no_more_than_it_wants),
		story(numbers_that_no_request_has_are_cut),
		story(nonsense_is_noticed_and_survived),
		story(explanations_come_with_all_their_candidates_or_not_at_all),
		story(random_bytes_never_hurt),
		story(what_is_counted_is_taken_once_whoever_runs_when),
		story(all_that_is_counted_of_a_request_comes_out),
		story(latencies_stay_nearly_what_they_were),
		story(an_entry_that_is_not_used_any_more_is_another_s),
		story(a_reader_that_dies_leaves_what_it_had_not_taken),
		story(random_words_in_the_table_are_cut_to_what_can_be),
		cmocka_unit_test(every_cause_has_a_name_and_no_other_number_has),
	};

	return cmocka_run_group_tests_name("ring", tests, NULL, NULL);
}
