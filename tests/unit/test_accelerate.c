/* SPDX-License-Identifier: Apache-2.0 */
/* The books of acceleration: differences of the kernel's counters, judgements, and comparisons that
 * say no more than the samples do. */
#include "agent/accelerate/accelerate.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* after the types that it needs */
#include <cmocka.h>

#define SECOND 1000000000ULL

static struct accelerate books;
static struct mesh_accel now;
static uint64_t ms;

static int fresh(void **state)
{
	memset(&books, 0, sizeof(books));
	memset(&now, 0, sizeof(now));
	ms = 1000;
	return 0;
}

static int over(void **state)
{
	accelerate_done(&books);
	return 0;
}

static struct accelerate_row *beat(bool *changed)
{
	bool ignored;

	ms += 1000;
	return accelerate_beat(&books, 5, &now, ms, changed ? changed : &ignored);
}

/* Messages of 200 bytes on enrolled connections. */
static void send_messages(uint64_t n, uint64_t in_a_row)
{
	struct mesh_accel_group *g = &now.group[MESH_ACCEL_ENROLLED];

	g->messages += n;
	g->turns += n / in_a_row;
	g->redirected += n * 150;
	g->tcp += n * 50;
}

static void what_was_counted_before_is_not_judged(void **state)
{
	struct accelerate_row *row;

	send_messages(1000000, 1000);
	row = beat(NULL);
	assert_int_equal(row->gain.judged, 0);
	assert_int_equal(row->sum.group[MESH_ACCEL_ENROLLED].messages, 0);
	assert_int_equal(row->hold_back, MESH_GAIN_CONTROL);
}

static void a_change_is_told_once(void **state)
{
	struct accelerate_row *row = beat(NULL);
	int changes = 0;
	bool changed;

	for (int i = 0; i < 20; i++) {
		send_messages(5000, 100);
		row = beat(&changed);
		changes += changed;
	}
	assert_int_equal(changes, 1);
	assert_int_equal(row->changes, 1);
	assert_int_equal(row->hold_back, MESH_GAIN_MEASURED);
	assert_string_equal(accelerate_state_name(row->gain.state), "one-way");
	/* what people are told is what was judged */
	assert_int_equal(row->evidence.messages, 5000);
	assert_int_equal(row->evidence.turns, 50);
	assert_int_equal(row->evidence.bytes, 5000 * 200);
}

/* Streams of both halves, of which the enrolled ones are so much faster. */
static void stream_both(double gain)
{
	struct mesh_accel_group *on = &now.group[MESH_ACCEL_ENROLLED],
				*off = &now.group[MESH_ACCEL_CONTROL];
	uint64_t bytes = (uint64_t)(gain * (300u << 20));

	on->messages += bytes >> 16;
	on->turns++;
	on->redirected += bytes;
	on->closed_bytes += bytes;
	off->closed_bytes += 300u << 20;
	on->opened++, off->opened++;
	on->closed++, off->closed++;
	on->duration_ns += SECOND;
	off->duration_ns += SECOND;
}

static void a_contest_forgets_the_one_before(void **state)
{
	struct accelerate_row *row = beat(NULL);
	int beats = 0;

	while (row->gain.contest != MESH_GAIN_LOST && beats++ < 50) {
		stream_both(0.8);
		row = beat(NULL);
	}
	assert_int_equal(row->gain.state, MESH_GAIN_SLOWER);
	assert_string_equal(accelerate_contest_name(row->gain.contest), "lost");
	for (beats = 0; row->gain.contest != MESH_GAIN_WON && beats < 500; beats++) {
		stream_both(1.5);
		row = beat(NULL);
	}
	assert_int_equal(row->gain.contests, 2);
	assert_int_equal(row->gain.state, MESH_GAIN_YES);
}

/* Connections last for 20 beats here; who closes in the first ones was opened before. */
static void a_contest_begins_with_those_that_it_has_parted(void **state)
{
	struct accelerate_row *row = beat(NULL);
	uint64_t connections = 0;
	int beats = 0;

	now.group[MESH_ACCEL_ENROLLED].closed = 10;
	now.group[MESH_ACCEL_ENROLLED].duration_ns = 200 * SECOND;
	while (row->gain.contest != MESH_GAIN_CONTEST && beats++ < 50) {
		send_messages(5000, 5000);
		now.group[MESH_ACCEL_ENROLLED].redirected += 5000ULL << 16;
		row = beat(NULL);
	}
	assert_int_equal(row->gain.contest, MESH_GAIN_CONTEST);
	for (beats = 0; connections == 0 && beats < 500; beats++) {
		now.group[MESH_ACCEL_ENROLLED].closed++;
		now.group[MESH_ACCEL_ENROLLED].duration_ns += 20 * SECOND;
		row = beat(NULL);
		connections = (uint64_t)row->contest[0].connections;
	}
	assert_int_equal(connections, 1);
	assert_in_range(beats, 19, 21);
}

static void ping_pong_stays(void **state)
{
	bool changed;

	beat(NULL);
	for (int i = 0; i < 20; i++) {
		send_messages(5000, 1);
		assert_int_equal(beat(&changed)->hold_back, MESH_GAIN_CONTROL);
		assert_false(changed);
	}
	assert_true(books.row[5]->evidence.messages >= 5000);
}

static void another_upstream_in_that_place_begins_anew(void **state)
{
	struct accelerate_row *row;

	beat(NULL);
	for (int i = 0; i < 5; i++) {
		send_messages(5000, 100);
		beat(NULL);
	}
	accelerate_forget(&books, 5);
	accelerate_forget(&books, 6);
	row = beat(NULL);
	assert_int_equal(row->gain.state, MESH_GAIN_YES);
	assert_int_equal(row->told, 0);
	assert_int_equal(row->sum.group[MESH_ACCEL_ENROLLED].messages, 0);
}

static void counters_that_begin_anew_are_not_taken_for_endless(void **state)
{
	struct accelerate_row *row;

	send_messages(1000, 1);
	beat(NULL);
	now.group[MESH_ACCEL_ENROLLED].messages = 7;
	row = beat(NULL);
	assert_int_equal(row->sum.group[MESH_ACCEL_ENROLLED].messages, 7);
}

/* --- comparing --- */

static double uniform(void)
{
	return (double)rand() / RAND_MAX;
}

/* Batches of connections that carry about `rate` bytes a second, off by up to `noise` of it. */
static struct compare_group group(int batches, int connections, double rate, double noise)
{
	struct compare_group g = {0};

	for (int i = 0; i < batches; i++) {
		double seconds = connections * (0.5 + uniform()),
		       r = rate * (1 + noise * (2 * uniform() - 1));

		compare_add(&g, (uint64_t)connections, (uint64_t)(r * seconds),
			    (uint64_t)(seconds * 1e9));
	}
	return g;
}

static void too_few_samples_say_nothing(void **state)
{
	struct compare_group many = group(100, 10, 1e6, 0.1), few = group(9, 100, 1e6, 0.1),
			     rare = group(29, 1, 1e6, 0.1), none = {0};
	struct compare_ratio r;

	assert_true(compare_groups(&many, &many, &r));
	assert_false(compare_groups(&many, &few, &r));
	assert_false(compare_groups(&few, &many, &r));
	assert_false(compare_groups(&many, &rare, &r));
	assert_false(compare_groups(&none, &none, &r));
}

static void connections_without_a_byte_say_nothing(void **state)
{
	struct compare_group idle = group(100, 10, 0, 0), busy = group(100, 10, 1e6, 0.1);
	struct compare_ratio r;

	assert_false(compare_groups(&busy, &idle, &r));
	assert_false(compare_groups(&idle, &busy, &r));
}

static void a_gain_is_found(void **state)
{
	struct compare_group a = group(200, 20, 2e6, 0.3), b = group(50, 2, 1e6, 0.3);
	struct compare_ratio r;

	assert_true(compare_groups(&a, &b, &r));
	assert_true(r.ratio > 1.8 && r.ratio < 2.2);
	assert_true(r.low > 1.5 && r.low < r.ratio && r.ratio < r.high && r.high < 2.6);
}

/* The interval holds the true value about as often as it says. */
static void the_interval_is_honest(void **state)
{
	int holds = 0, rounds = 2000;

	for (int i = 0; i < rounds; i++) {
		struct compare_group a = group(60, 10, 1.3e6, 0.6), b = group(30, 2, 1e6, 0.6);
		struct compare_ratio r;

		assert_true(compare_groups(&a, &b, &r));
		holds += r.low <= 1.3 && 1.3 <= r.high;
	}
	assert_true(holds > rounds * 90 / 100 && holds < rounds * 99 / 100);
}

/* Only a clear difference counts, and equals never do, however often they are asked about. */
static void slower_is_said_when_it_is_proven(void **state)
{
	struct compare_group slow = group(200, 20, 0.6e6, 0.3), fast = group(100, 2, 1e6, 0.3),
			     same = {0}, other = {0}, none = {0};

	assert_true(compare_slower(&slow, &fast));
	assert_false(compare_slower(&fast, &slow));
	assert_false(compare_slower(&slow, &none));
	for (int i = 0; i < 20000; i++) {
		compare_add(&same, 10, (uint64_t)(1e6 * (0.5 + uniform())), SECOND);
		compare_add(&other, 2, (uint64_t)(1e6 * (0.5 + uniform())), SECOND);
		assert_false(compare_slower(&same, &other));
	}
}

/* Connections of both halves, beat by beat, until it is decided; how many of each it took. */
static int contest(double gain, double noise, int *connections)
{
	struct compare_group on = {0}, off = {0};
	int said = 0;

	for (*connections = 0; !said; (*connections)++) {
		compare_add(&on, 1, (uint64_t)(gain * (1 + noise * (2 * uniform() - 1)) * 1e6),
			    SECOND);
		compare_add(&off, 1, (uint64_t)((1 + noise * (2 * uniform() - 1)) * 1e6), SECOND);
		said = compare_contest(&on, &off);
	}
	return said;
}

static void a_contest_finds_who_is_faster(void **state)
{
	int lost = 0, won = 0, soon = 0, n;

	for (int i = 0; i < 1000; i++) {
		won += contest(1.3, 0.3, &n) > 0;
		assert_true(n <= COMPARE_CONTEST_MOST);
		lost += contest(0.85, 0.3, &n) < 0;
		soon += contest(3, 0.3, &n) > 0 && n <= 2 * COMPARE_CONTEST;
	}
	assert_true(won > 990 && lost > 990 && soon > 990);
}

/* What neither gains nor loses is left to TCP, which is always right. */
static void who_gains_nothing_loses_more_often(void **state)
{
	int lost = 0, n;

	for (int i = 0; i < 1000; i++)
		lost += contest(1, 0.1, &n) < 0;
	assert_true(lost > 900);
}

static void a_contest_of_one_half_is_open(void **state)
{
	struct compare_group many = group(100, 10, 1e6, 0.1), none = {0}, brief = {0};

	assert_int_equal(compare_contest(&many, &none), 0);
	assert_int_equal(compare_contest(&none, &many), 0);
	/* a connection among many that lasted a moment is still one */
	compare_add(&brief, 1, 1000000, SECOND);
	for (int i = 0; i < 100; i++)
		compare_add(&brief, 1, 10, SECOND / 1000);
	assert_int_equal(compare_contest(&brief, &many), 0);
}

/* What is old counts less and less: a change is seen in the end. */
static void what_is_old_fades(void **state)
{
	struct compare_group a = group(1000, 5, 1e6, 0.1), b = a;
	struct compare_ratio r;

	for (int i = 0; i < 10 * COMPARE_MEMORY; i++)
		compare_add(&a, 5, 15000000, 5 * SECOND);
	assert_true(compare_groups(&a, &b, &r));
	assert_true(r.ratio > 2.9 && r.ratio < 3.1);
	assert_true(a.batches <= COMPARE_MEMORY + 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, fresh, over)
		TEST(what_was_counted_before_is_not_judged),
		TEST(a_change_is_told_once),
		TEST(ping_pong_stays),
		TEST(another_upstream_in_that_place_begins_anew),
		TEST(counters_that_begin_anew_are_not_taken_for_endless),
		TEST(too_few_samples_say_nothing),
		TEST(connections_without_a_byte_say_nothing),
		TEST(a_gain_is_found),
		TEST(the_interval_is_honest),
		TEST(slower_is_said_when_it_is_proven),
		TEST(a_contest_finds_who_is_faster),
		TEST(who_gains_nothing_loses_more_often),
		TEST(a_contest_of_one_half_is_open),
		TEST(a_contest_forgets_the_one_before),
		TEST(a_contest_begins_with_those_that_it_has_parted),
		TEST(what_is_old_fades),
	};

	srand(1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
