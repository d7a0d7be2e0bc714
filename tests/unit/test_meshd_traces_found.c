/* SPDX-License-Identifier: Apache-2.0 */
/* Spans that are recorded and not listed: a question lists those that its answer will have, says
 * that it is not complete as long as there are more, and gets further when it is asked again. */
#include "ctl/meshd/traces/impl.h"
#include "tests/unit/traces_records_rig.h"

#include <sys/syscall.h>
#include <unistd.h>

static int64_t then_ms; /* hours ago: batches come now */

#define THEN_US(ms) ((uint64_t)(then_ms + (ms)) * 1000)

static int64_t wall_behind_s;

/* Instead of the C library's. */
int clock_gettime(clockid_t clock, struct timespec *t)
{
	int r = (int)syscall(SYS_clock_gettime, clock, t);

	if (clock == CLOCK_REALTIME)
		t->tv_sec -= (time_t)wall_behind_s;
	return r;
}

#define FULL (TRACES_FIRST_BURST + TRACES_QUIET_BURST)

/* Nothing more is listed as it comes. */
static int setup_full(void **state)
{
	wall_behind_s = 0;
	setup_store(state);
	then_ms = (int64_t)clock_wall_ms() - 5ll * 3600 * 1000;
	send_many("fill", 0, TRACES_FIRST_BURST, (struct rec){.service = "fill"});
	use_up_quiet();
	return 0;
}

/* One trace each millisecond since then, all in one batch. */
static void send_row(int n, struct rec like)
{
	static char names[1000][16];
	static struct rec all[1000];

	for (int i = 0; i < n; i++) {
		snprintf(names[i], sizeof(names[i]), "r%d", i);
		all[i] = like;
		all[i].trace = names[i];
		all[i].id = (uint64_t)i + 1;
		all[i].start_us = THEN_US(i);
	}
	send_all(all, (size_t)n);
}

static void a_part_of_a_batch_is_found(void **state)
{
	send_row(900, (struct rec){.service = "shop"});
	assert_int_equal(LISTED(.service = "shop", .limit = 100, .since_ms = then_ms + 100,
				.until_ms = then_ms + 199),
			 100);
	assert_int_equal(LISTED(.limit = 100, .since_ms = then_ms + 100, .until_ms = then_ms + 199),
			 100);
	assert_int_equal(counts().listed, FULL + 100);
	assert_int_equal(LISTED(.service = "shop", .limit = 10, .until_ms = then_ms + 499), 10);
	assert_int_equal(counts().listed, FULL + 110);
}

/* Before all that the recorder remembers of times. */
static void what_began_long_before_it_came_is_found(void **state)
{
	then_ms = 1650000000000;
	send_row(900, (struct rec){.service = "shop"});
	assert_int_equal(LISTED(.limit = 10, .since_ms = then_ms + 100, .until_ms = then_ms + 109),
			 10);
}

/* A trace that took long began in another batch's time. */
static void a_batch_that_spans_hours_hides_nothing(void **state)
{
	SEND(.trace = "poll", .id = 1, .service = "poll", .start_us = THEN_US(0));
	send_row(300, (struct rec){.service = "shop"});
	for (int i = 0; i < 3; i++) {
		struct rec all[] = {
			{.trace = "a", .id = 1, .service = "poll", .start_us = THEN_US(-3600000)},
			{.trace = "b", .id = 2, .service = "shop", .start_us = THEN_US(3600000)}};

		send_all(all, 2);
	}
	assert_int_equal(LISTED(.service = "shop", .limit = 10, .since_ms = then_ms + 50,
				.until_ms = then_ms + 59),
			 10);
}

/* Asked for what took long: it is the root's time that counts. */
static void a_slow_child_is_no_slow_trace(void **state)
{
	static struct rec all[500];
	static char names[250][16];

	send_row(50, (struct rec){.service = "shop", .took_us = 900000});
	for (size_t i = 0; i < 250; i++) {
		snprintf(names[i], sizeof(names[i]), "q%zu", i);
		all[2 * i] = (struct rec){
			.trace = names[i], .id = 1, .took_us = 5000, .start_us = THEN_US(2000)};
		all[2 * i + 1] = (struct rec){.trace = names[i],
					      .id = 2,
					      .parent = 1,
					      .took_us = 900000,
					      .start_us = THEN_US(2001)};
	}
	send_all(all, 500);
	assert_int_equal(LISTED(.limit = 100, .min_us = 500000), 50);
	assert_int_equal(counts().listed, FULL + 50);
}

/* Nobody recorded the root: what may be one is looked at by the database. */
static void without_a_root_all_may_be_it(void **state)
{
	struct rec all[] = {
		{.trace = "a", .id = 2, .parent = 1, .took_us = 900000, .start_us = THEN_US(0)},
		{.trace = "a", .id = 3, .parent = 1, .took_us = 5000, .start_us = THEN_US(50)},
		{.trace = "b", .id = 2, .parent = 1, .took_us = 5000, .start_us = THEN_US(0)},
		{.trace = "b", .id = 3, .parent = 1, .took_us = 900000, .start_us = THEN_US(50)}};

	send_all(all, 4);
	assert_int_equal(LISTED(.limit = 1, .min_us = 500000), 1);
	assert_int_equal(spans_of("a"), 2);
}

static void without_an_error_is_found(void **state)
{
	struct rec bad = {.trace = "r5", .id = 99, .status = 500, .start_us = THEN_US(0)};

	send_many("e", 0, TRACES_URGENT_BURST, (struct rec){.status = 500, .service = "bad"});
	send_row(20, (struct rec){.service = "shop"});
	send_all(&bad, 1);
	assert_int_equal(listed_all((struct traces_filter){.service = "shop", .limit = 100}), 19);
	assert_int_equal(WITH_ERROR(.service = "shop"), 1);
}

/* Names are known by 16 bits of a hash: another service may look the same. */
static void a_service_that_looks_the_same_hides_nothing(void **state)
{
	struct rec one = {.trace = "same", .start_us = THEN_US(1000)};
	uint16_t tag;
	char name[16];

	send_row(5, (struct rec){.service = "shop"});
	tag = recorder_tag(store->recorder, "shop");
	for (unsigned i = 0; !one.id; i++) {
		snprintf(name, sizeof(name), "s%u", i);
		one.id = recorder_tag(store->recorder, name) == tag;
	}
	one.service = name;
	send_all(&one, 1);
	assert_int_equal(LISTED(.service = "shop", .limit = 1), 1);
	assert_int_equal(LISTED(.service = "shop", .limit = 10), 5);
}

/* The wall clock was set back by eight days for one batch. */
static void a_clock_that_was_behind_hides_no_batch(void **state)
{
	send_row(5, (struct rec){.service = "shop"});
	wall_behind_s = 8 * 24 * 3600;
	SEND(.trace = "r1", .id = 50, .start_us = THEN_US(0));
	wall_behind_s = 0;
	assert_int_equal(LISTED(.service = "shop"), 5);
	assert_int_equal(spans_of("r1"), 1);
}

/* Of 20,000 others. */
static void it_is_found_by_another_name_in_one_go(void **state)
{
	static struct rec all[500];
	static char names[500][2][32];

	for (int i = 0; i < 20000; i++) {
		int at = i % 500;

		snprintf(names[at][0], 32, "t%d", i);
		snprintf(names[at][1], 32, "a%d,b%d", i, i);
		all[at] = (struct rec){.trace = names[at][0],
				       .id = 1,
				       .alias = names[at][1],
				       .start_us = now_us()};
		if (at == 499)
			send_all(all, 500);
	}
	assert_int_equal(spans_of("b3"), 1);
	assert_int_equal(spans_of("a19999"), 1);
	assert_int_equal(spans_of("a10000"), 1);
	assert_int_equal(spans_of("b20000"), -1);
	assert_int_equal(counts().listed, FULL + 3);
}

/* What cannot be listed now is not said to be missing. */
static void what_is_not_listed_yet_is_not_missing(void **state)
{
	struct buf b;

	SEND(.trace = "a", .id = 1, .alias = "b");
	store->demand = (struct bucket){0}; /* too many were listed for others */
	assert_int_equal(traces_show(store, "a", &b), -EAGAIN);
	assert_int_equal(traces_show(store, "b", &b), -EAGAIN);
	assert_int_equal(traces_show(store, "c", &b), -ENOENT);
	store->demand = (struct bucket){.tokens_ms = 1000, .most = 1};
	assert_int_equal(spans_of("b"), 1);
}

/* Old by its coming, not by when it was listed. */
static void what_was_listed_late_goes_in_time(void **state)
{
	traces_free(&store);
	test_dir_remove(&home);
	test_dir_make(&home);
	store_start(0, 3600 * 1000);
	wall_behind_s = 3000;
	send_many("fill", 0, TRACES_FIRST_BURST, (struct rec){.service = "fill"});
	use_up_quiet();
	SEND(.trace = "late", .id = 1);
	wall_behind_s = 0;
	SEND(.trace = "young", .id = 1, .status = 500);
	assert_int_equal(spans_of("late"), 1);
	assert_int_equal(counts().listed, FULL + 2);
	wall_behind_s = -1200;
	for (uint64_t i = 0; i < 1000 && counts().traces > 1; i++)
		traces_sweep(store, 2000 + i);
	assert_int_equal(spans_of("late"), -1);
	assert_int_equal(spans_of("young"), 1);
	wall_behind_s = 0;
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup_full, teardown_dir)
	const struct CMUnitTest tests[] = {
		T(a_part_of_a_batch_is_found),
		T(what_began_long_before_it_came_is_found),
		T(a_batch_that_spans_hours_hides_nothing),
		T(a_slow_child_is_no_slow_trace),
		T(without_a_root_all_may_be_it),
		T(without_an_error_is_found),
		T(a_service_that_looks_the_same_hides_nothing),
		T(it_is_found_by_another_name_in_one_go),
		T(what_is_not_listed_yet_is_not_missing),
		T(what_was_listed_late_goes_in_time),
		T(a_clock_that_was_behind_hides_no_batch),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
