/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Windows of rate, errors and duration against a plain model: whatever was taken, in whatever
 * order, at whatever time, is there, once; also after restarts and kill -9.
 */
#include "tests/unit/red_rig.h"

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

static const uint64_t windows[] = {1,	7,    60,    300,   599,   600,	   601,
				   900, 3600, 10800, 14400, 86400, 400000, 14 * 86400};
static const uint64_t granularities[] = {0, 1, 3, 10, 60, 300, 3600, 86400};

#define PICK(list) list[model_random(sizeof(list) / sizeof(*list))]

static struct red *open_well(const char *path, uint64_t now_ms)
{
	struct red *r;

	assert_int_equal(red_new(path, now_ms, &r), 0);
	assert_string_equal(red_error(r), "");
	return r;
}

static void compare_some(struct red *r, uint64_t now_ms)
{
	char to[16], from[16];

	if (model_has_future(now_ms))
		return;
	snprintf(to, sizeof(to), "to-%u", (unsigned)model_random(MODEL_NAMES));
	snprintf(from, sizeof(from), "from-%u", (unsigned)model_random(MODEL_NAMES));
	for (int i = 0; i < 3; i++) {
		struct red_window w = {.window_s = PICK(windows),
				       .step_s = PICK(granularities),
				       .service = to,
				       .source = model_random(3) ? NULL : from,
				       .version = model_random(3) ? NULL : "v1"};

		model_compare(r, w, now_ms);
	}
	model_compare_groups(r, PICK(windows), now_ms);
}

/* Time goes on by `most` seconds at a step; what is posted is up to `late` seconds old. */
static void run(const char *path, unsigned steps, uint64_t most, uint64_t late, bool jumps)
{
	uint64_t now_ms = START_S * 1000, seq = 1;
	struct red *r = open_well(path, now_ms);

	for (unsigned i = 0; i < steps; i++) {
		uint64_t second = now_ms / 1000 -
				  (model_random(4) ? model_random(2) : model_random(late + 1));

		assert_int_equal(model_send(r, "n", "e", seq++, second,
					    1 + (unsigned)model_random(12), true, now_ms),
				 0);
		red_tick(r, now_ms);
		if (model_random(20) == 0)
			compare_some(r, now_ms);
		if (path && model_random(60) == 0) {
			red_free(&r);
			r = open_well(path, now_ms);
			compare_some(r, now_ms);
		}
		now_ms += model_random(most * 1000);
		if (jumps && model_random(40) == 0)
			now_ms += (model_random(2400) - 1200) * 1000;
	}
	compare_some(r, now_ms);
	red_free(&r);
}

static void seconds_are_as_in_the_model(void **state)
{
	run(dir.path, 800, 3, 20, false);
}

static void hours_are_as_in_the_model(void **state)
{
	run(dir.path, 500, 120, 2000, false);
}

static void days_are_as_in_the_model(void **state)
{
	run(dir.path, 300, 4000, 40000, false);
}

static void clocks_jump(void **state)
{
	run(dir.path, 1000, 10, 60, true);
}

static void without_a_disk_the_last_minutes_are_there(void **state)
{
	run(NULL, 600, 2, 20, false);
}

/* --- once ---------------------------------------------------------------------------- */

static void a_number_counts_once(void **state)
{
	uint64_t now_ms = START_S * 1000;
	struct red *r = open_well(dir.path, now_ms);
	struct red_counts c;

	assert_false(red_seen(r, "n", "e", 1));
	assert_int_equal(model_send(r, "n", "e", 1, START_S, 3, true, now_ms), 0);
	assert_true(red_seen(r, "n", "e", 1));
	assert_int_equal(model_send(r, "n", "e", 1, START_S, 3, false, now_ms), -EALREADY);
	/* another process of the node, and the first one again: it has not ended yet */
	assert_int_equal(model_send(r, "n", "e2", 1, START_S, 3, true, now_ms), 0);
	assert_int_equal(model_send(r, "n", "e", 2, START_S, 3, true, now_ms), 0);
	assert_int_equal(model_send(r, "n", "e2", 1, START_S, 3, false, now_ms), -EALREADY);
	assert_int_equal(model_send(r, "other", "e", 1, START_S, 3, true, now_ms), 0);
	/* some went missing: that is seen */
	assert_int_equal(model_send(r, "n", "e", 5, START_S, 3, true, now_ms), 0);
	assert_int_equal(model_send(r, "n", "e", 3, START_S, 3, false, now_ms), -EALREADY);
	red_count(r, &c);
	assert_int_equal(c.batches, 5);
	assert_int_equal(c.duplicates, 3);
	assert_int_equal(c.unwritten, 0);
	model_compare_groups(r, 60, now_ms);
	red_free(&r);
	r = open_well(dir.path, now_ms);
	assert_true(red_seen(r, "n", "e", 5) && red_seen(r, "n", "e2", 1));
	assert_false(red_seen(r, "n", "e", 6) || red_seen(r, "n", "e3", 1));
	model_compare_groups(r, 60, now_ms);
	red_free(&r);
}

struct shared {
	volatile uint64_t taken; /* batches that were answered */
};

/* Batch number seq is the same whoever sends it, and whenever. */
static int send_numbered(struct red *r, uint64_t seq, bool add, uint64_t *now_ms)
{
	uint64_t back;

	model.random = seq * 0x9e3779b97f4a7c15u + 1;
	*now_ms = START_S * 1000 + seq * 700;
	back = model_random(5) ? 0 : model_random(400);
	return model_send(r, "n", "e", seq, *now_ms / 1000 - back, 8, add, *now_ms);
}

static void take_until_killed(struct shared *shared, uint64_t now_ms)
{
	struct red *r = open_well(dir.path, now_ms);

	for (uint64_t seq = shared->taken + 1;; seq++) {
		if (send_numbered(r, seq, false, &now_ms))
			_exit(1);
		shared->taken = seq;
		for (int i = 0; i < 3; i++)
			red_tick(r, now_ms);
	}
}

static void kill_9_loses_nothing_and_doubles_nothing(void **state)
{
	struct shared *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
				     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t now_ms = START_S * 1000, taken = 0;
	struct red *r;

	assert_true(shared != MAP_FAILED);
	for (int round = 0; round < 10; round++) {
		pid_t child = fork();
		int status;

		if (!child)
			take_until_killed(shared, now_ms);
		while (shared->taken < taken + 20) /* then at any point */
			assert_int_equal(waitpid(child, &status, WNOHANG), 0);
		usleep((useconds_t)(rand() % 40000));
		kill(child, SIGKILL);
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_true(WIFSIGNALED(status));
		/* what was answered is there; what was not, may be: it is sent again */
		taken = shared->taken;
		now_ms = START_S * 1000 + (taken + 1) * 700;
		r = open_well(dir.path, now_ms);
		assert_true(red_seen(r, "n", "e", taken));
		assert_false(red_seen(r, "n", "e", taken + 2));
		(void)send_numbered(r, taken + 1, false, &now_ms);
		shared->taken = ++taken;
		model.n = 0;
		for (uint64_t seq = 1; seq <= taken; seq++) {
			uint64_t at = START_S * 1000 + seq * 700;

			assert_int_equal(send_numbered(r, seq, true, &at), -EALREADY);
		}
		model_compare_groups(r, 60, now_ms);
		model_compare_groups(r, 600, now_ms);
		model_compare_groups(r, 86400, now_ms);
		for (int i = 0; i < 4; i++)
			compare_some(r, now_ms);
		red_free(&r);
	}
	assert_true(taken > 200);
	munmap(shared, sizeof(*shared));
}

/* --- bounds -------------------------------------------------------------------------- */

static void take_one(struct red *r, uint64_t seq, const char *source, const char *destination,
		     uint64_t now_ms)
{
	struct red_delta d = {.key = {source, destination, "v1", RED_HTTP, RED_OK},
			      .sum = {.requests = 1}};
	struct red_batch b = {
		.node = "n", .epoch = "e", .seq = seq, .time_ms = now_ms, .deltas = &d, .n = 1};

	assert_int_equal(histogram_sparse_add(&d.sum.histogram, 100, 1), 0);
	assert_int_equal(red_take(r, &b, now_ms), 0);
	red_sum_done(&d.sum);
}

#define MANY 1024

/* As many callers of the backend in one batch, from that number on: one by one they would outrun a
 * slow disk. */
static void take_many(struct red *r, uint64_t seq, unsigned first, uint64_t now_ms)
{
	static char source[MANY][32];
	static struct red_delta d[MANY];
	struct red_batch b = {
		.node = "n", .epoch = "e", .seq = seq, .time_ms = now_ms, .deltas = d, .n = MANY};

	for (unsigned i = 0; i < MANY; i++) {
		snprintf(source[i], sizeof(source[i]), "caller-%u", first + i);
		d[i] = (struct red_delta){.key = {source[i], "backend", "v1", RED_HTTP, RED_OK},
					  .sum = {.requests = 1}};
		assert_int_equal(histogram_sparse_add(&d[i].sum.histogram, 100, 1), 0);
	}
	assert_int_equal(red_take(r, &b, now_ms), 0);
	for (unsigned i = 0; i < MANY; i++)
		red_sum_done(&d[i].sum);
}

static uint64_t requests_of(struct red *r, const char *service, uint64_t window_s, uint64_t now_ms)
{
	struct red_window w = {.window_s = window_s, .step_s = window_s, .service = service};
	struct red_query *q;
	uint64_t n;

	assert_int_equal(red_window_plan(r, &w, now_ms), 0);
	q = model_query(r, &w);
	n = red_query_total(q)->requests;
	red_query_free(&q);
	return n;
}

/* A question takes a while, and what it asks for is written, pruned and added to meanwhile. */
static void the_world_goes_on_between_the_parts_of_a_question(void **state)
{
	uint64_t now_ms = START_S * 1000, seq = 0, later;
	struct red *r = open_well(dir.path, now_ms);
	struct red_window w = {.window_s = 86400, .step_s = 86400};
	struct red_query *q;
	uint64_t requests = 0, want = 0;
	const struct red_group *g;
	size_t n;

	for (int i = 0; i < 300; i++) {
		now_ms += model_random(200000);
		assert_int_equal(model_send(r, "n", "e", ++seq, now_ms / 1000 - model_random(1000),
					    10, true, now_ms),
				 0);
	}
	for (size_t i = 0; i < model.n; i++)
		want += model.entry[i].requests;
	assert_int_equal(red_window_plan(r, &w, now_ms), 0);
	assert_int_equal(red_query_new(r, &w, &q), 0);
	later = now_ms;
	while (red_query_step(q) > 0) {
		later += 1500; /* shards are written, one after the other */
		assert_int_equal(model_send(r, "n", "e", ++seq, later / 1000 + 1, 10, false, later),
				 0);
		red_tick(r, later);
	}
	g = red_query_groups(q, &n);
	for (size_t i = 0; i < n; i++)
		requests += g[i].sum.requests;
	assert_true(later > now_ms + 60000);
	assert_int_equal(requests, want);
	red_query_free(&q);
	red_free(&r);
}

static void days_of_which_nothing_is_kept_are_not_read(void **state)
{
	uint64_t now_ms = START_S * 1000, n;
	struct red_window w = {.window_s = 13 * 86400, .step_s = 13 * 86400};
	struct red *r = open_well(dir.path, now_ms);
	struct red_query *q;
	unsigned steps = 0;

	take_one(r, 1, "caller", "backend", now_ms - 7200000);
	take_one(r, 2, "caller", "backend", now_ms);
	assert_int_equal(red_window_plan(r, &w, now_ms), 0);
	assert_int_equal(red_query_new(r, &w, &q), 0);
	while (red_query_step(q) > 0)
		steps++;
	assert_int_equal(red_query_groups(q, &n)[0].sum.requests, 2);
	assert_int_equal(n, 1);
	assert_in_range(steps, 1, 60); /* two hours of buckets; a fortnight has 2,000 steps */
	red_query_free(&q);
	red_free(&r);
}

static void series_beyond_the_limit_are_counted_together_until_others_go(void **state)
{
	uint64_t now_ms = START_S * 1000, seq = 0;
	struct red *r = open_well(NULL, now_ms);
	struct red_counts c;
	char source[32];

	for (unsigned i = 0; i < RED_SERIES_MAX + 500; i++) {
		snprintf(source, sizeof(source), "caller-%u", i);
		take_one(r, ++seq, source, "backend", now_ms);
	}
	red_count(r, &c);
	assert_int_equal(c.folded, 500);
	assert_int_equal(c.evicted, 0);
	assert_int_equal(c.dropped, 0);
	assert_int_equal(c.series, RED_SERIES_MAX + 1);
	assert_int_equal(requests_of(r, "backend", 60, now_ms), RED_SERIES_MAX + 500);
	red_free(&r);
}

static void services_beyond_the_limit_are_counted_together(void **state)
{
	uint64_t now_ms = START_S * 1000, seq = 0, requests = 0;
	struct red *r = open_well(dir.path, now_ms);
	struct red_window w = {.window_s = 60, .step_s = 60};
	const struct red_group *g;
	struct red_query *q;
	struct red_counts c;
	char to[32];
	size_t n;

	assert_false(red_knows(r, "other"));
	for (unsigned i = 0; i < RED_SERVICES_MAX + 1000; i++) {
		snprintf(to, sizeof(to), "service-%u", i);
		take_one(r, ++seq, "caller", to, now_ms);
	}
	red_count(r, &c);
	assert_true(c.services <= RED_SERVICES_MAX);
	assert_int_equal(c.dropped, 0);
	assert_true(c.folded >= 1000 && c.folded < 1010);
	assert_true(red_knows(r, "other"));
	assert_int_equal(red_window_plan(r, &w, now_ms), 0);
	q = model_query(r, &w);
	g = red_query_groups(q, &n);
	for (size_t i = 0; i < n; i++)
		requests += g[i].sum.requests;
	assert_int_equal(requests, RED_SERVICES_MAX + 1000);
	red_query_free(&q);
	red_free(&r);
}

static void series_that_are_not_used_make_room(void **state)
{
	uint64_t now_ms = START_S * 1000, seq = 0;
	struct red *r = open_well(dir.path, now_ms);
	struct red_counts c;
	char source[32];

	for (unsigned i = 0; i < RED_SERIES_MAX; i += MANY)
		take_many(r, ++seq, i, now_ms);
	for (unsigned i = 0; i < 2000; i++) { /* they are written and grow old */
		now_ms += 600;
		red_tick(r, now_ms);
	}
	for (unsigned i = 0; i < 100; i++) {
		snprintf(source, sizeof(source), "late-%u", i);
		take_one(r, ++seq, source, "backend", now_ms);
	}
	red_count(r, &c);
	assert_int_equal(c.evicted, 100);
	assert_int_equal(c.folded, 0);
	assert_int_equal(requests_of(r, "backend", 60, now_ms), 100);
	assert_int_equal(requests_of(r, "backend", 3600, now_ms), RED_SERIES_MAX + 100);
	red_free(&r);
}

static void the_future_is_now_and_the_far_past_is_dropped(void **state)
{
	uint64_t now_ms = START_S * 1000;
	struct red_delta d = {.key = {"a", "b", "", RED_TCP, RED_NONE},
			      .sum = {.requests = 1, .errors = 1}};
	struct red_batch b = {.node = "n", .epoch = "e", .seq = 1, .deltas = &d, .n = 1};
	struct red *r = open_well(dir.path, now_ms);
	struct red_counts c;

	b.time_ms = UINT64_MAX / 2;
	assert_int_equal(red_take(r, &b, now_ms), 0);
	b.seq = 2;
	b.time_ms = 0;
	assert_int_equal(red_take(r, &b, now_ms), 0);
	red_count(r, &c);
	assert_int_equal(c.shifted, 1);
	assert_int_equal(c.dropped, 1);
	assert_int_equal(requests_of(r, "b", 10, now_ms), 1);
	assert_int_equal(requests_of(r, "b", RED_KEEP_S, now_ms), 1);
	red_free(&r);
}

static void processes_of_agents_are_bounded(void **state)
{
	uint64_t now_ms = START_S * 1000;
	struct red *r = open_well(dir.path, now_ms);
	struct red_batch b = {.seq = 1, .time_ms = now_ms};
	char node[32];

	for (unsigned i = 0; i < RED_AGENTS_MAX + 50; i++) {
		snprintf(node, sizeof(node), "node-%u", i);
		b.node = node;
		b.epoch = "e";
		assert_int_equal(red_take(r, &b, now_ms + i), 0);
	}
	assert_false(red_seen(r, "node-0", "e", 1)); /* the longest unused */
	assert_true(red_seen(r, "node-50", "e", 1));
	for (unsigned i = 0; i < 10; i++) { /* upgrades one after the other */
		snprintf(node, sizeof(node), "epoch-%u", i);
		b.node = "node-100";
		b.epoch = node;
		assert_int_equal(red_take(r, &b, now_ms), 0);
	}
	assert_true(red_seen(r, "node-100", "epoch-9", 1) && red_seen(r, "node-101", "e", 1));
	assert_false(red_seen(r, "node-100", "e", 1));
	red_free(&r);
	r = open_well(dir.path, now_ms);
	assert_true(red_seen(r, "node-100", "epoch-9", 1) && red_seen(r, "node-101", "e", 1));
	red_free(&r);
}

static void a_rate_is_over_the_time_that_the_service_has_been_there(void **state)
{
	uint64_t now_ms = START_S * 1000;
	struct red *r = open_well(dir.path, now_ms);
	struct red_window w = {.window_s = 60, .service = "b"};

	take_one(r, 1, "a", "b", now_ms);
	now_ms += 9500;
	assert_int_equal(red_window_plan(r, &w, now_ms), 0);
	assert_true(red_covered_s(r, &w, "b") > 9.4 && red_covered_s(r, &w, "b") < 9.6);
	assert_true(red_covered_s(r, &w, "a") > 59);
	now_ms += 3600000;
	assert_int_equal(red_window_plan(r, &w, now_ms), 0);
	assert_true(red_covered_s(r, &w, "b") > 59 && red_covered_s(r, &w, "b") <= 60);
	assert_true(red_knows(r, "a") && red_knows(r, "b") && !red_knows(r, "c"));
	red_free(&r);
	r = open_well(dir.path, now_ms);
	assert_true(red_knows(r, "b"));
	red_free(&r);
}

/* Half an hour too late for a while, and right again: the finest tier is there at once, but for
 * what was counted meanwhile. */
static void a_clock_that_was_late_for_a_while_takes_no_tier_away(void **state)
{
	uint64_t now_ms = START_S * 1000, seq = 0;
	struct red *r = open_well(dir.path, now_ms);
	struct red_window w = {.window_s = 30, .service = "b"};

	for (int i = 0; i < 60 * 10; i++) {
		bool late = i >= 200 && i < 300;
		uint64_t at_ms = now_ms + (late ? 1800 * 1000 : 0);

		take_one(r, ++seq, "a", "b", at_ms);
		red_tick(r, at_ms);
		now_ms += 1000;
	}
	assert_int_equal(red_window_plan(r, &w, now_ms), 0);
	assert_int_equal(w.resolution_s, 1);
	assert_int_equal(requests_of(r, "b", 30, now_ms), 29);
	for (int i = 0; i < 1800; i++) { /* what was of then is of now */
		now_ms += 1000;
		red_tick(r, now_ms);
	}
	assert_int_equal(requests_of(r, "b", 3 * 3600, now_ms), 600);
	red_free(&r);
}

/* Whoever has only called others is known after a restart too, when the journal has forgotten. */
static void callers_are_remembered(void **state)
{
	uint64_t now_ms = START_S * 1000;
	struct red *r = open_well(dir.path, now_ms);

	take_one(r, 1, "a", "b", now_ms);
	for (int i = 0; i < 900; i++) {
		now_ms += 1000;
		red_tick(r, now_ms);
	}
	red_free(&r);
	r = open_well(dir.path, now_ms);
	assert_true(red_knows(r, "a") && red_knows(r, "b") && !red_knows(r, "c"));
	red_free(&r);
}

/* The first request came while the clock was wrong by a day. */
static void the_first_second_of_a_service_is_put_right(void **state)
{
	uint64_t now_ms = START_S * 1000, wrong_ms = now_ms + 86400000;
	struct red_window w = {.window_s = 2 * 86400, .service = "b"};
	struct red *r = open_well(dir.path, now_ms);

	take_one(r, 1, "a", "b", wrong_ms);
	red_free(&r);
	r = open_well(dir.path, now_ms);
	take_one(r, 2, "a", "b", now_ms);
	red_free(&r);
	for (int i = 0; i < 2; i++) { /* the second time without what the journal has */
		now_ms = wrong_ms + 60000;
		r = open_well(dir.path, now_ms);
		assert_int_equal(red_window_plan(r, &w, now_ms), 0);
		assert_true(red_covered_s(r, &w, "b") > 86400);
		for (int j = 0; j < 700; j++)
			red_tick(r, now_ms + 86400000 + (uint64_t)j * 1000);
		red_free(&r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		RED_TEST(seconds_are_as_in_the_model),
		RED_TEST(hours_are_as_in_the_model),
		RED_TEST(days_are_as_in_the_model),
		RED_TEST(clocks_jump),
		RED_TEST(without_a_disk_the_last_minutes_are_there),
		RED_TEST(a_number_counts_once),
		RED_TEST(kill_9_loses_nothing_and_doubles_nothing),
		RED_TEST(the_world_goes_on_between_the_parts_of_a_question),
		RED_TEST(days_of_which_nothing_is_kept_are_not_read),
		RED_TEST(series_beyond_the_limit_are_counted_together_until_others_go),
		RED_TEST(services_beyond_the_limit_are_counted_together),
		RED_TEST(series_that_are_not_used_make_room),
		RED_TEST(the_future_is_now_and_the_far_past_is_dropped),
		RED_TEST(processes_of_agents_are_bounded),
		RED_TEST(a_clock_that_was_late_for_a_while_takes_no_tier_away),
		RED_TEST(callers_are_remembered),
		RED_TEST(the_first_second_of_a_service_is_put_right),
		RED_TEST(a_rate_is_over_the_time_that_the_service_has_been_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
