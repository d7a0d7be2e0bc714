/* SPDX-License-Identifier: Apache-2.0 */
/* The file of records: what is put into it is there, in its order, until it has made room; after
 * any end of the process, and with anything in the file that is not ours. Compared with a plain
 * list. */
#include "tests/unit/recorder_rig.h"

#include <sys/stat.h>

/* --- one by one ------------------------------------------------------------------------ */

static void a_record_is_read_as_it_came(void **state)
{
	struct rec all[] = {{.trace = "order-17",
			     .id = 1,
			     .service = "backend",
			     .source = "frontend",
			     .start_us = REC_WALL_US + 5000,
			     .took_us = 300,
			     .ntries = 2},
			    {.trace = "order-17", .id = 2, .service = "cache", .status = 503},
			    {.trace = "x", .id = 3, .unsampled = true, .alias = "y"},
			    {.trace = "x", .id = 4, .untraced = true}};
	uint32_t first = add(all, 4, 77);
	const struct recorded *e = recorder_at(ring, first);
	struct record_batch_view v;
	const struct record *rec = recorder_read(ring, first, &v);
	struct span_names n;

	assert_int_equal(rec->duration_ns, 300000);
	record_batch_span(&v, rec, &n);
	assert_string_equal(n.service, "backend");
	assert_string_equal(n.source, "frontend");
	assert_string_equal(n.node, "n");
	assert_string_equal(n.endpoint(n.arg, record_tries(rec)[0].endpoint, 0), "backend-0");
	assert_int_equal(e->mark, mark_of("order-17"));
	assert_int_equal(e->took_us, 300);
	assert_int_equal(e->flags, RECORDED_KEPT | RECORDED_SAMPLED | RECORDED_ROOT);
	assert_int_equal(e->ago_ms, 0); /* it began later than it came */
	assert_int_equal(e->service, recorder_tag(ring, "backend"));
	assert_int_equal(e->caller, recorder_tag(ring, "frontend"));
	assert_int_equal(recorder_at(ring, first + 1)->flags,
			 RECORDED_KEPT | RECORDED_SAMPLED | RECORDED_URGENT | RECORDED_ERROR |
				 RECORDED_ROOT);
	assert_int_equal(recorder_at(ring, first + 2)->flags, RECORDED_ALIAS | RECORDED_ROOT);
	assert_int_equal(recorder_at(ring, first + 3)->flags & RECORDED_LISTED, RECORDED_LISTED);
	assert_int_equal(recorder_batch(ring, 0)->came_ms, 77);
	assert_int_equal(recorder_batch(ring, 0)->first_us, REC_WALL_US);
	assert_int_equal(recorder_batch(ring, 0)->last_us, REC_WALL_US + 5000);
	assert_null(recorder_at(ring, first + 4));
	assert_null(recorder_read(ring, first + 4, &v));
	assert_null(recorder_batch(ring, 1));
}

static void records_of_a_trace_are_a_chain(void **state)
{
	struct rec all[] = {
		{.trace = "a", .id = 1}, {.trace = "b", .id = 2}, {.trace = "a", .id = 3}};
	uint32_t first = add(all, 3, 1), n;

	add_one(4, 2);
	add(all, 1, 3);
	assert_true(recorder_newest(ring, mark_of("a"), &n));
	assert_int_equal(n, first + 4);
	assert_true(recorder_next(ring, mark_of("a"), &n));
	assert_int_equal(n, first + 2);
	assert_true(recorder_next(ring, mark_of("a"), &n));
	assert_int_equal(n, first);
	assert_false(recorder_next(ring, mark_of("a"), &n));
	assert_false(recorder_newest(ring, mark_of("c"), &n));
}

static void what_is_listed_is_known_after_a_restart_once_it_is_saved(void **state)
{
	uint32_t first = add_one(1, 1), again;

	add_one(2, 2);
	recorder_set_listed(ring, first);
	recorder_restore(ring);
	assert_false(recorder_at(ring, first)->flags & RECORDED_LISTED);
	recorder_set_listed(ring, first);
	recorder_save(ring);
	recorder_set_listed(ring, first + 1); /* and then it is killed */
	restart();
	recorder_range(ring, &first, &again);
	assert_int_equal(again - first, 2);
	assert_true(recorder_at(ring, first)->flags & RECORDED_LISTED);
	assert_false(recorder_at(ring, first + 1)->flags & RECORDED_LISTED);
	recorder_unlist(ring);
	restart();
	recorder_range(ring, &first, &again);
	assert_false(recorder_at(ring, first)->flags & RECORDED_LISTED);
}

static void the_oldest_makes_room_and_is_counted(void **state)
{
	struct recorder_counts n;
	uint32_t first = add_one(1, 1), last = first, end;
	struct stat st;

	recorder_set_listed(ring, first);
	for (uint64_t i = 2; i <= 3000; i++)
		last = add_one(i, i);
	recorder_count(ring, &n);
	assert_in_range(n.records, 100, 2998);
	assert_int_equal(n.kept_lost, 2999 - n.records);
	assert_null(recorder_at(ring, first));
	assert_int_equal(id_at(last), 3000);
	recorder_range(ring, &first, &end);
	assert_int_equal(end, last + 1);
	assert_int_equal(id_at(first), 3001 - n.records);
	assert_int_equal(stat(file(), &st), 0);
	assert_int_equal(st.st_size, SIZE);
}

/* Many agents that send little: it is the size that bounds what is there. */
static void batches_of_one_record_fill_it(void **state)
{
	uint32_t first, last = 0, n;

	recorder_close(&ring);
	assert_int_equal(recorder_open(home.path, 8 << 20, true, &ring), 0);
	for (uint64_t i = 1; i <= 30000; i++)
		last = add_one(i, i);
	n = records();
	assert_in_range(n, (8 << 20) / 600, 29999);
	first = last - n + 1;
	assert_int_equal(id_at(first), 30001 - n);
	recorder_set_listed(ring, first);
	recorder_set_listed(ring, last);
	recorder_save(ring);
	recorder_close(&ring);
	assert_int_equal(recorder_open(home.path, 8 << 20, true, &ring), 0);
	assert_int_equal(records(), n);
	recorder_range(ring, &first, &last);
	assert_true(recorder_at(ring, first)->flags & RECORDED_LISTED);
	assert_false(recorder_at(ring, first + 1)->flags & RECORDED_LISTED);
	assert_true(recorder_at(ring, last - 1)->flags & RECORDED_LISTED);
}

/* What makes room before it is saved is forgotten, however often. */
static void changes_that_are_never_saved_are_bounded(void **state)
{
	for (uint64_t i = 1; i <= 10000; i++)
		recorder_set_listed(ring, add_one(i, i));
	recorder_save(ring);
	restart();
	recorder_unlist(ring);
	assert_true(records() > 100);
}

static void the_largest_batch_finds_room(void **state)
{
	struct rec one = {.trace = "t", .id = 1};
	struct record_batch *b;
	struct record_batch_view v;
	uint32_t first;
	size_t len;
	void *data;

	assert_int_equal(record_batch_new("n", &b), 0);
	while (!rec_add(b, &one))
		one.id++;
	assert_int_equal(record_batch_take(b, 0, &data, &len), 0);
	record_batch_free(&b);
	assert_true(len > RECORD_BATCH_SIZE - 2000);
	assert_int_equal(record_batch_check(data, len, &v), 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(recorder_add(ring, &v, 1, &first), 0);
		assert_int_equal(records(), v.head->records);
		assert_int_equal(id_at(first + v.head->records - 1), v.head->records);
	}
	free(data);
	restart();
	assert_true(records() > 0);
}

/* --- at random ------------------------------------------------------------------------- */

#define BATCHES 3000
#define TRACES	5

struct model {
	uint32_t n;	   /* records */
	uint64_t first_id; /* of them, counted up */
	uint8_t trace[40]; /* of each */
	bool listed[40];   /* ... and saved */
	bool torn;
};
static struct model model[BATCHES];
static unsigned nmodel;
static uint64_t ids;
static const char *const names[TRACES] = {"a", "b", "c", "order-17", "x.y"};

static void add_some(void)
{
	struct model *m = &model[nmodel++];
	struct rec all[40];

	*m = (struct model){.n = 1 + below(below(8) ? 4 : 40), .first_id = ids + 1};
	for (uint32_t i = 0; i < m->n; i++) {
		m->trace[i] = (uint8_t)below(TRACES);
		all[i] = (struct rec){.trace = names[m->trace[i]], .id = ++ids};
	}
	add(all, m->n, nmodel);
}

static struct model *model_of(const struct recorder_batch *b)
{
	return &model[b->came_ms - 1];
}

static void list_some(void)
{
	bool save = below(3);

	for (unsigned k = below(20); k && records(); k--) {
		uint32_t first, end, n;
		struct recorder_batch *b;

		recorder_range(ring, &first, &end);
		n = first + below(end - first);
		b = recorder_batch(ring, recorder_batch_of(ring, n));
		recorder_set_listed(ring, n);
		if (save)
			model_of(b)->listed[n - b->first] = true;
	}
	if (save)
		recorder_save(ring);
	else
		recorder_restore(ring);
}

/* A batch that is still there is spoilt somewhere, and is gone after the restart. */
static void tear_one(void)
{
	struct recorder_counts n;
	struct recorder_batch *b;
	uint8_t byte = (uint8_t)(1 + below(255)), was;
	off_t at;
	int fd;

	recorder_count(ring, &n);
	if (!n.batches)
		return;
	b = recorder_batch(ring, below(n.batches));
	at = (off_t)(4096 + b->at % (SIZE - 4096) + 48 + (b->n + 63) / 64 * 8 + below(b->size));
	fd = open(file(), O_RDWR | O_CLOEXEC);
	assert_int_equal(pread(fd, &was, 1, at), 1);
	was ^= byte;
	assert_int_equal(pwrite(fd, &was, 1, at), 1);
	close(fd);
	model_of(b)->torn = true;
	restart();
}

static void check_batch(struct recorder_batch *b)
{
	struct model *m = model_of(b);

	assert_false(m->torn);
	assert_int_equal(b->n, m->n);
	for (uint32_t i = 0; i < b->n; i++) {
		assert_int_equal(id_at(b->first + i), m->first_id + i);
		assert_int_equal(recorder_at(ring, b->first + i)->flags & RECORDED_LISTED,
				 m->listed[i] ? RECORDED_LISTED : 0);
	}
}

/* All that were added of late are there but the torn ones, and what is before them has made room.
 */
static void check_batches(void)
{
	struct recorder_batch *b;
	uint64_t bytes = 0;
	uint32_t i = 0;

	while (recorder_batch(ring, i))
		i++;
	for (unsigned k = nmodel; k-- && bytes < SIZE * 3 / 4;) {
		b = i ? recorder_batch(ring, i - 1) : NULL;
		if (model[k].torn) {
			bytes += 64u << 10; /* at most */
			continue;
		}
		assert_non_null(b);
		assert_ptr_equal(model_of(b), &model[k]);
		bytes += b->size + 200;
		i--;
	}
}

static void check_chains(void)
{
	uint32_t first, end;

	recorder_range(ring, &first, &end);
	for (int t = 0; t < TRACES; t++) {
		uint32_t n, mark = mark_of(names[t]);
		bool more = recorder_newest(ring, mark, &n);

		for (uint32_t k = end; k-- != first;) {
			if (recorder_at(ring, k)->mark != mark)
				continue;
			assert_true(more);
			assert_int_equal(n, k);
			more = recorder_next(ring, mark, &n);
		}
		assert_false(more);
	}
}

static void it_is_as_a_plain_list(void **state)
{
	nmodel = 0;
	for (int round = 0; nmodel < BATCHES; round++) {
		unsigned what = below(100);

		if (what < 90)
			add_some();
		else if (what < 96)
			list_some();
		else if (what < 99)
			restart();
		else
			tear_one();
		if (round % 16)
			continue;
		check_batches();
		check_chains();
		for (uint32_t i = 0; recorder_batch(ring, i); i++)
			check_batch(recorder_batch(ring, i));
	}
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(a_record_is_read_as_it_came),
		T(records_of_a_trace_are_a_chain),
		T(what_is_listed_is_known_after_a_restart_once_it_is_saved),
		T(the_oldest_makes_room_and_is_counted),
		T(batches_of_one_record_fill_it),
		T(changes_that_are_never_saved_are_bounded),
		T(the_largest_batch_finds_room),
		T(it_is_as_a_plain_list),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
