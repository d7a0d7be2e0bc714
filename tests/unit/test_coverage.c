/* SPDX-License-Identifier: Apache-2.0 */
/* The books of coverage: what is news, what is over, what is kept when there is no room. */
#include "agent/coverage/coverage.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
/* after the types that it needs */
#include <cmocka.h>

#define S 1000000000ULL

static struct coverage books;

static int fresh(void **state)
{
	memset(&books, 0, sizeof(books));
	return 0;
}

static int over(void **state)
{
	coverage_done(&books);
	return 0;
}

static struct mesh_coverage counted(uint32_t way, uint64_t n)
{
	struct mesh_coverage c = {0};

	c.n[way] = n;
	return c;
}

static void an_escape_is_news_for_a_minute(void **state)
{
	struct mesh_coverage c = counted(MESH_COV_DEVICE, 3);
	uint32_t device = MESH_COV_DEVICE - MESH_COV_ESCAPES;
	struct coverage_row *row = coverage_row(&books, 7, 100);

	coverage_counted(&books, row, "web", &c, 10 * S);
	assert_true(coverage_escapes(row, device, 10 * S));
	assert_true(coverage_escapes_any(row, 69 * S));
	coverage_counted(&books, row, "web", &c, 70 * S); /* nothing new */
	assert_false(coverage_escapes_any(row, 70 * S));
	c.n[MESH_COV_DEVICE]++;
	coverage_counted(&books, row, "web", &c, 80 * S);
	assert_true(coverage_escapes(row, device, 81 * S));
}

static void what_is_captured_is_no_escape(void **state)
{
	struct mesh_coverage c = counted(MESH_COV_WORKER, 3);
	struct coverage_row *row = coverage_row(&books, 7, 100);

	c.n[MESH_COV_KERNEL] = c.n[MESH_COV_OTHER] = c.n[MESH_COV_SELF] = c.n[MESH_COV_IDLE] = 9;
	coverage_counted(&books, row, "web", &c, 10 * S);
	assert_false(coverage_escapes_any(row, 10 * S));
	assert_int_equal(books.services[0].n[MESH_COV_WORKER], 3);
	assert_int_equal(books.services[0].n[MESH_COV_IDLE], 9);
}

static void connections_are_in_force_when_the_round_has_ended(void **state)
{
	struct coverage_row *row = coverage_row(&books, 0, 100);

	coverage_round_begin(&books);
	coverage_found(row, COVERAGE_UNSEEN, 4);
	coverage_found(row, COVERAGE_UNSEEN, 5);
	assert_false(coverage_escapes_any(row, 10 * S));
	coverage_round_end(&books, 10 * S);
	assert_int_equal(row->open[COVERAGE_UNSEEN], 2);
	assert_int_equal(row->upstream[COVERAGE_UNSEEN], 5);
	assert_true(coverage_escapes(row, COVERAGE_UNSEEN, 10 * S));
	coverage_round_begin(&books);
	assert_true(coverage_escapes(row, COVERAGE_UNSEEN, 14 * S));
	coverage_round_end(&books, 14 * S);
	assert_false(coverage_escapes(row, COVERAGE_UNSEEN, 14 * S));
}

/* Another workload in the same place has nothing of the one before, a restarted one neither. */
static void a_place_that_is_used_again_is_empty(void **state)
{
	struct mesh_coverage c = counted(MESH_COV_NOBODY, 5);
	struct coverage_row *row = coverage_row(&books, 3, 100);

	coverage_counted(&books, row, "web", &c, 10 * S);
	row = coverage_row(&books, 3, 101);
	assert_false(coverage_escapes_any(row, 10 * S));
	c = counted(MESH_COV_NOBODY, 2);
	coverage_counted(&books, row, "db", &c, 11 * S);
	assert_int_equal(books.nservices, 2);
	assert_int_equal(books.services[0].n[MESH_COV_NOBODY], 5);
	assert_int_equal(books.services[1].n[MESH_COV_NOBODY], 2);
	coverage_forget(&books, 3);
	assert_null(books.row[3]);
}

/* The kernel's entry was made again: its counts begin anew, the sums do not go back. */
static void sums_only_grow(void **state)
{
	struct coverage_row *row = coverage_row(&books, 3, 100);
	struct mesh_coverage c = counted(MESH_COV_WORKER, 50);

	coverage_counted(&books, row, "web", &c, S);
	c = counted(MESH_COV_WORKER, 4);
	coverage_counted(&books, row, "web", &c, 2 * S);
	assert_int_equal(books.services[0].n[MESH_COV_WORKER], 54);
}

static void two_workloads_of_a_service_are_one_sum(void **state)
{
	struct mesh_coverage c = counted(MESH_COV_WORKER, 2);
	struct coverage_row *a = coverage_row(&books, 1, 100), *b = coverage_row(&books, 2, 101);

	coverage_round_begin(&books);
	coverage_found(a, COVERAGE_UNSEEN, 0);
	coverage_found(b, COVERAGE_UNSEEN, 0);
	coverage_round_end(&books, S);
	for (int i = 0; i < 2; i++) {
		coverage_look(&books);
		coverage_counted(&books, a, "web", &c, S);
		coverage_counted(&books, b, "web", &c, S);
	}
	assert_int_equal(books.nservices, 1);
	assert_int_equal(books.services[0].n[MESH_COV_WORKER], 4);
	assert_int_equal(books.services[0].open[COVERAGE_UNSEEN], 2);
}

static void services_have_a_limit(void **state)
{
	struct mesh_coverage c = counted(MESH_COV_WORKER, 1);
	struct coverage_row *row = coverage_row(&books, 1, 100);
	char name[MESH_NAME_MAX];

	for (int i = 0; i < MESH_MAX_SERVICES + 5; i++) {
		snprintf(name, sizeof(name), "s%d", i);
		coverage_counted(&books, row, name, &c, S);
	}
	assert_int_equal(books.nservices, MESH_MAX_SERVICES);
	assert_int_equal(books.lost, 5);
}

static void the_latest_strangers_are_kept(void **state)
{
	coverage_look(&books);
	for (uint64_t i = 0; i < COVERAGE_STRANGERS + 10; i++) {
		struct mesh_stranger s = {.n = 1, .last_ns = (100 + i) * S};

		coverage_stranger(&books, i, &s, 150 * S);
	}
	assert_int_equal(books.nstrangers, COVERAGE_STRANGERS);
	for (uint32_t i = 0; i < books.nstrangers; i++)
		assert_true(books.strangers[i].cgroup >= 10);
	coverage_look(&books);
	assert_int_equal(books.nstrangers, 0);
}

static void a_stranger_who_is_silent_but_connected_stays(void **state)
{
	struct mesh_stranger s = {.n = 4, .last_ns = 10 * S, .upstream = 2};

	coverage_look(&books);
	coverage_stranger(&books, 77, &s, 500 * S);
	assert_int_equal(books.nstrangers, 0);
	coverage_round_begin(&books);
	coverage_found_stranger(&books, 77, 2);
	coverage_round_end(&books, 500 * S);
	coverage_look(&books);
	coverage_stranger(&books, 77, &s, 501 * S);
	assert_int_equal(books.nstrangers, 1);
	assert_int_equal(books.strangers[0].open, 1);
	assert_int_equal(books.strangers[0].n, 4);
	coverage_round_begin(&books);
	coverage_round_end(&books, 505 * S);
	coverage_look(&books);
	assert_int_equal(books.nstrangers, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, fresh, over)
		TEST(an_escape_is_news_for_a_minute),
		TEST(what_is_captured_is_no_escape),
		TEST(connections_are_in_force_when_the_round_has_ended),
		TEST(a_place_that_is_used_again_is_empty),
		TEST(sums_only_grow),
		TEST(two_workloads_of_a_service_are_one_sum),
		TEST(services_have_a_limit),
		TEST(the_latest_strangers_are_kept),
		TEST(a_stranger_who_is_silent_but_connected_stays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
