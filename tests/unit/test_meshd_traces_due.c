/* SPDX-License-Identifier: Apache-2.0 */
/* Spans that come as records, between their coming and their being listed. */
#include "ctl/meshd/traces/impl.h"
#include "tests/unit/traces_records_rig.h"

#include <sqlite3.h>

static int record_one(uint64_t now_ms, struct rec one)
{
	one.start_us = now_us();
	return record_at(now_ms, &one, 1);
}

static int record_many(uint64_t now_ms, unsigned from, unsigned n)
{
	static char names[1000][16];
	static struct rec all[1000];

	for (unsigned i = 0; i < n; i++) {
		snprintf(names[i], sizeof(names[i]), "m%u", from + i);
		all[i] = (struct rec){.trace = names[i], .id = from + i + 1, .start_us = now_us()};
	}
	return record_at(now_ms, all, n);
}

static void what_comes_is_listed_later_and_found_at_once(void **state)
{
	assert_int_equal(record_one(1000, (struct rec){.trace = "a", .id = 1}), 0);
	assert_int_equal(record_one(1000, (struct rec){.trace = "b", .id = 2, .status = 503}), 0);
	assert_int_equal(record_one(1000, (struct rec){.trace = "c", .id = 3}), 0);
	assert_int_equal(counts().listed, 0);
	assert_int_equal(spans_of("b"), 1);
	assert_int_equal(LISTED(.limit = 2), 2);
	assert_int_equal(counts().listed, 2);
	assert_false(traces_list_due(store, 2000));
	assert_int_equal(counts().listed, 3);
	assert_int_equal(counts().stored, 3);
	assert_int_equal(counts().duplicates, 0);
	assert_false(traces_list_due(store, 3000));
	assert_int_equal(counts().listed, 3);
}

/* What comes of its trace before it is listed is one with it. */
static void a_trace_that_waits_takes_its_spans_along(void **state)
{
	assert_int_equal(record_many(1000, 0, TRACES_FIRST_BURST - 1), 0);
	assert_int_equal(record_one(1000, (struct rec){.trace = "t", .id = 1}), 0);
	assert_int_equal(record_one(1001, (struct rec){.trace = "t", .id = 2, .parent = 1}), 0);
	assert_int_equal(record_one(1001, (struct rec){.trace = "t", .id = 3, .unsampled = true}),
			 0);
	assert_false(traces_list_due(store, 2000));
	assert_int_equal(counts().listed, TRACES_FIRST_BURST + 2);
	assert_int_equal(spans_of("t"), 3);
	assert_int_equal(counts().listed, TRACES_FIRST_BURST + 2);
}

/* What will be listed anyhow is not taken from what askers have. */
static void what_is_due_is_there_for_whoever_asks(void **state)
{
	static const char *const services[] = {"a", "b", "c", "d"};
	char name[16];

	for (int i = 0; i < 4; i++)
		send_many(services[i], 0, 1000, (struct rec){.service = services[i]});
	for (int i = 0; i < 40; i++)
		(void)listed((struct traces_filter){.error = -1, .service = services[i / 10]},
			     NULL);
	assert_int_equal(record_many(9000, 0, TRACES_FIRST_BURST), 0);
	for (int i = 0; i < TRACES_FIRST_BURST; i++) {
		snprintf(name, sizeof(name), "m%d", i);
		assert_int_equal(spans_of(name), 1);
	}
}

/* A turn has its time, and there is another until all are listed. */
static void much_is_listed_in_turns(void **state)
{
	struct traces_options o = {.dir = home.path, .turn_ms = 1};
	uint64_t listed;
	unsigned turns = 0;

	traces_free(&store);
	assert_int_equal(traces_new(&o, &store), 0);
	for (unsigned i = 0; i < TRACES_URGENT_BURST; i++)
		assert_int_equal(
			record_one(1000, (struct rec){.trace = "e", .id = i + 1, .status = 503}),
			0);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(record_many(1000, 1000 * i, 1000), 0);
	do {
		listed = counts().listed;
		turns++;
		assert_in_range(turns, 1, 100000);
	} while (traces_list_due(store, 2000));
	assert_true(counts().listed >= listed);
	assert_int_equal(counts().listed, TRACES_URGENT_BURST + TRACES_FIRST_BURST);
}

/* Before it makes room what is due is listed: it would be lost otherwise. */
static void what_would_make_room_is_listed_before(void **state)
{
	traces_free(&store);
	store_start(TRACES_SIZE_MIN, 0);
	for (unsigned i = 0; i < TRACES_FIRST_BURST; i++)
		assert_int_equal(record_many(1000, i, 1), 0);
	for (unsigned i = 1; i < 50; i++)
		assert_int_equal(record_many(1000, 1000 * i, 100), 0);
	assert_true(counts().overwritten > 0);
	assert_int_equal(counts().listed, TRACES_FIRST_BURST);
	assert_int_equal(spans_of("m0"), 1);
}

/* Who looks into the file by hand holds up nothing but the rows. */
static void it_waits_until_rows_can_be_written(void **state)
{
	char path[128];
	sqlite3 *db;

	snprintf(path, sizeof(path), "%s/traces.db", home.path);
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(record_many(1000, 0, 10), 0);
	assert_false(traces_list_due(store, 2000));
	assert_int_equal(counts().listed, 0);
	assert_int_equal(sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
	assert_false(traces_list_due(store, 3000));
	assert_int_equal(counts().listed, 10);
}

/* However long nobody lists it, what waits is bounded. */
static void what_waits_is_bounded(void **state)
{
	for (unsigned i = 0; i < DUE_MAX / TRACES_FIRST + 10; i++)
		assert_int_equal(record_many(1000 + i * 1000, i * 100, 100), 0);
	while (traces_list_due(store, 2000000))
		;
	assert_int_equal(counts().listed, DUE_MAX);
}

static void at_the_end_what_is_due_is_listed(void **state)
{
	assert_int_equal(record_many(1000, 0, 10), 0);
	restart();
	assert_int_equal(counts().traces, 10);
	assert_int_equal(spans_of("m0"), 1);
	assert_int_equal(counts().listed, 0);
}

static void with_its_file_it_is_gone(void **state)
{
	assert_int_equal(record_many(1000, 0, 10), 0);
	test_dir_write(&home, RECORDER_FILE, NULL);
	traces_sweep(store, 2000);
	assert_int_equal(record_many(2000, 1000, 1), 0);
	assert_false(traces_list_due(store, 3000));
	assert_int_equal(counts().listed, 1);
	assert_int_equal(spans_of("m1000"), 1);
}

/* What is there because somebody asked makes room before all else, and is found where it was. */
static void what_was_asked_for_goes_first(void **state)
{
	static const char *const services[] = {"a", "b", "c", "d"};
	unsigned n = 0;
	char name[16];

	traces_free(&store);
	store_start(8 << 20, 0);
	for (; counts().bytes < 6 << 20; n++) {
		assert_int_equal(record_many(1000 + n * 4000, n * 100, 100), 0);
		(void)traces_list_due(store, 1000 + n * 4000);
	}
	assert_int_equal(counts().listed, n * 100);
	assert_int_equal(counts().pruned_traces, 0);
	for (int i = 0; i < 4; i++) {
		send_many(services[i], 0, 800, (struct rec){.service = services[i]});
		store->demand.tokens_ms = store->demand.most * 1000ull;
		(void)LISTED(.service = services[i]);
	}
	assert_in_range(counts().pruned_traces, 100, 1200);
	assert_int_equal(spans_of("m0"), 1);
	assert_int_equal(spans_of("m4000"), 1);
	for (int i = 0; i < 800; i++) {
		snprintf(name, sizeof(name), "a%d", i);
		store->demand.tokens_ms = store->demand.most * 1000ull;
		assert_int_equal(spans_of(name), 1);
	}
}

/* Of 63,000 that had errors, or were gone, a look at each held the loop for 0.3 s. */
static void what_was_asked_for_and_stays_is_passed_over_in_steps(void **state)
{
	struct asked *a = &store->asked;
	unsigned before, steps = 0;

	assert_int_equal(record_many(1000, 0, 50), 0);
	assert_false(traces_list_due(store, 2000));
	store->o.size = 1; /* too much is there, always */
	a->n = ASKED_MAX;
	for (uint32_t i = 0; i < ASKED_MAX; i++)
		a->id[i] = 1000000 + i;
	for (; a->n > TRACES_DEMAND_BURST; steps++) {
		before = a->n;
		traces_sweep(store, 3000 + steps);
		assert_in_range(before - a->n, 1, 512);
	}
	assert_int_equal(a->n, TRACES_DEMAND_BURST);
}

/* Which an asker brought back, and more than once. */
static void a_span_is_counted_once_however_often_it_is_listed(void **state)
{
	struct asked *a = &store->asked;
	uint64_t size = store->o.size;

	store->first = store->quiet = store->more = (struct bucket){0}; /* nothing is due */
	assert_int_equal(record_one(1, (struct rec){.trace = "t", .id = 1}), 0);
	assert_int_equal(record_one(1, (struct rec){.trace = "t", .id = 2, .unsampled = true}), 0);
	for (unsigned round = 1; round <= 3; round++) {
		a->n = 0;
		assert_int_equal(spans_of("t"), 2);
		assert_int_equal(counts().listed, 2 * round);
		assert_int_equal(counts().stored, 2);
		for (uint32_t i = 0; i < TRACES_DEMAND_BURST; i++)
			a->id[(a->first + a->n++) % ASKED_MAX] = 1000000 + i;
		store->o.size = 1; /* too much is there */
		traces_sweep(store, 1000 * round);
		store->o.size = size;
		assert_int_equal(counts().pruned_traces, round);
	}
	assert_int_equal(counts().undecided, 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup_store, teardown_dir)
	const struct CMUnitTest tests[] = {
		T(what_comes_is_listed_later_and_found_at_once),
		T(a_trace_that_waits_takes_its_spans_along),
		T(what_is_due_is_there_for_whoever_asks),
		T(much_is_listed_in_turns),
		T(what_would_make_room_is_listed_before),
		T(it_waits_until_rows_can_be_written),
		T(what_waits_is_bounded),
		T(at_the_end_what_is_due_is_listed),
		T(with_its_file_it_is_gone),
		T(what_was_asked_for_goes_first),
		T(what_was_asked_for_and_stays_is_passed_over_in_steps),
		T(a_span_is_counted_once_however_often_it_is_listed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
