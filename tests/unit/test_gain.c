/* SPDX-License-Identifier: Apache-2.0 */
/* The rule that says whether skipping TCP pays: a table of patterns, what becomes of it over time,
 * and what never happens whatever comes. */
#include <mesh/gain.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
/* after the types that it needs */
#include <cmocka.h>

#define SECOND 1000

/* --- one judgement --- */

static const struct {
	const char *what;
	uint64_t closed, messages, turns, bytes;
	uint32_t fresh, unenrolled; /* what is said of it, by who judges */
	uint32_t by_tcp;	    /* percent of the bytes */
	uint32_t slower;
} table[] = {
	{"ping-pong of 64 bytes", 0, 4096, 4096, 4096 * 64, MESH_GAIN_YES, MESH_GAIN_YES},
	{"requests in three pieces", 0, 4096, 1365, 4096 * 200, MESH_GAIN_YES, MESH_GAIN_YES},
	{"small messages one way", 0, 4096, 1, 4096 * 512, MESH_GAIN_ONE_WAY, MESH_GAIN_ONE_WAY},
	{"small, and never an answer", 0, 4096, 0, 4096, MESH_GAIN_ONE_WAY, MESH_GAIN_ONE_WAY},
	{"1 KiB one way", 0, 4096, 10, 4096 * 1024, MESH_GAIN_ONE_WAY, MESH_GAIN_ONE_WAY},
	{"2.5 KiB one way", 0, 4096, 10, 4096 * 2560, MESH_GAIN_YES, MESH_GAIN_ONE_WAY},
	{"4 KiB one way", 0, 4096, 10, 4096 * 4096, MESH_GAIN_YES, MESH_GAIN_YES},
	{"64 KiB one way", 0, 4096, 1, 4096 * 65536ULL, MESH_GAIN_YES, MESH_GAIN_YES},
	{"six in a row", 0, 4096, 4096 / 6, 4096 * 64, MESH_GAIN_YES, MESH_GAIN_ONE_WAY},
	{"nine in a row", 0, 4096, 4096 / 9, 4096 * 64, MESH_GAIN_ONE_WAY, MESH_GAIN_ONE_WAY},
	{"one request on each connection", 64, 128, 128, 128 * 500, MESH_GAIN_YES, MESH_GAIN_YES},
	{"connections without a byte", 64, 0, 0, 0, MESH_GAIN_YES, MESH_GAIN_YES},
	{"a few that close, among many messages", 20, 4096, 4096, 4096, MESH_GAIN_YES,
	 MESH_GAIN_YES},
	{"64 KiB one way, less than half by TCP", 0, 4096, 1, 4096 * 65536ULL, MESH_GAIN_YES,
	 MESH_GAIN_YES, 45},
	{"64 KiB one way, two thirds by TCP", 0, 4096, 1, 4096 * 65536ULL, MESH_GAIN_YES,
	 MESH_GAIN_BY_TCP, 67},
	{"64 KiB one way, nearly all by TCP", 0, 4096, 1, 4096 * 65536ULL, MESH_GAIN_BY_TCP,
	 MESH_GAIN_BY_TCP, 98},
	{"answers that went by TCP", 0, 4096, 4096, 4096 * 65536ULL, MESH_GAIN_YES, MESH_GAIN_YES,
	 98},
	{"ping-pong, but slower", 0, 4096, 4096, 4096 * 64, MESH_GAIN_SLOWER, MESH_GAIN_SLOWER, 0,
	 1},
	{"each sends 50 small ones and closes", 82, 4100, 82, 4100 * 100, MESH_GAIN_ONE_WAY,
	 MESH_GAIN_ONE_WAY},
};

static void patterns_are_judged(void **state)
{
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct mesh_gain g = {.closed = table[i].closed,
				      .messages = table[i].messages,
				      .turns = table[i].turns,
				      .bytes = table[i].bytes,
				      .redirected = table[i].bytes / 100 * (100 - table[i].by_tcp),
				      .slower = table[i].slower};
		uint32_t fresh = mesh_gain_judge(&g), unenrolled;

		g.state = MESH_GAIN_ONE_WAY;
		unenrolled = mesh_gain_judge(&g);
		if (fresh != table[i].fresh || unenrolled != table[i].unenrolled)
			fail_msg("%s: %u and %u", table[i].what, fresh, unenrolled);
	}
}

/* --- over time --- */

static const struct mesh_gain_sample nothing,
	one_way = {.opened = 1,
		   .messages = 5000,
		   .turns = 2,
		   .bytes = 5000 * 200,
		   .redirected = 5000 * 200},
	ping_pong = {.opened = 1,
		     .messages = 5000,
		     .turns = 5000,
		     .bytes = 5000 * 200,
		     .redirected = 5000 * 200},
	short_lived = {.opened = 80,
		       .closed = 80,
		       .messages = 160,
		       .turns = 160,
		       .bytes = 80000,
		       .redirected = 80000,
		       .brief = 1};

static uint32_t step(struct mesh_gain *g, const struct mesh_gain_sample *s, uint64_t *now)
{
	*now += SECOND;
	return mesh_gain_step(g, s, *now);
}

static void everybody_is_enrolled_but_for_the_control_group(void **state)
{
	struct mesh_gain g = {0};
	uint64_t now = 0;

	for (int i = 0; i < 100; i++)
		assert_int_equal(step(&g, i & 1 ? &nothing : &ping_pong, &now), MESH_GAIN_CONTROL);
	assert_int_equal(g.state, MESH_GAIN_YES);
}

static void three_judgements_end_a_state(void **state)
{
	struct mesh_gain g = {0};
	uint64_t now = 0;

	assert_int_equal(step(&g, &one_way, &now), MESH_GAIN_CONTROL);
	assert_int_equal(step(&g, &nothing, &now), MESH_GAIN_CONTROL);
	assert_int_equal(step(&g, &one_way, &now), MESH_GAIN_CONTROL);
	assert_int_equal(step(&g, &one_way, &now), MESH_GAIN_MEASURED);
	assert_int_equal(g.state, MESH_GAIN_ONE_WAY);
	assert_int_equal(g.since_ms, now);
}

static void two_judgements_end_nothing(void **state)
{
	struct mesh_gain g = {0};
	uint64_t now = 0;

	for (int i = 0; i < 50; i++) {
		assert_int_equal(step(&g, &one_way, &now), MESH_GAIN_CONTROL);
		assert_int_equal(step(&g, &short_lived, &now), MESH_GAIN_CONTROL);
		assert_int_equal(step(&g, &ping_pong, &now), MESH_GAIN_CONTROL);
	}
}

static void little_evidence_says_nothing(void **state)
{
	const struct mesh_gain_sample few = {.opened = 1, .messages = 5, .bytes = 50};
	struct mesh_gain g = {0};
	uint64_t now = 0;

	for (int i = 0; i < 500; i++)
		assert_int_equal(step(&g, &few, &now), MESH_GAIN_CONTROL);
	assert_int_equal(g.judged, 0);
	now += MESH_GAIN_STALE_MS;
	step(&g, &nothing, &now);
	assert_int_equal(g.messages, 0);
}

static struct mesh_gain unenrolled(uint64_t *now)
{
	struct mesh_gain g = {0};

	*now = 0;
	while (g.state == MESH_GAIN_YES)
		step(&g, &one_way, now);
	return g;
}

/* The hundredth part that is enrolled all the same is enough when there are many. */
static void it_comes_back_when_its_traffic_has_changed(void **state)
{
	uint64_t now;
	struct mesh_gain g = unenrolled(&now);
	uint32_t hold_back;

	assert_int_equal(step(&g, &ping_pong, &now), MESH_GAIN_MEASURED);
	assert_int_equal(step(&g, &ping_pong, &now), MESH_GAIN_MEASURED);
	hold_back = step(&g, &ping_pong, &now);
	assert_int_equal(g.state, MESH_GAIN_YES);
	assert_int_equal(hold_back, MESH_GAIN_CONTROL);
}

/* Nobody of the hundredth part comes: all that open are enrolled for a moment. */
static void rare_connections_are_tried_now_and_then(void **state)
{
	const struct mesh_gain_sample held = {.held_back = 1}, let_in = {.opened = 1};
	uint64_t now, last, gap = 0;
	struct mesh_gain g = unenrolled(&now);

	last = now;
	for (int i = 0; i < 10; i++) {
		uint32_t trial = 0;

		while (step(&g, &held, &now))
			assert_true(now - last < 2 * (uint64_t)MESH_GAIN_WAIT_MOST_MS);
		assert_true(now - last >= gap);
		/* the trial is over when enough were enrolled, or after a while */
		while (!step(&g, &let_in, &now))
			assert_true(++trial < MESH_GAIN_TRIAL);
		last = now;
		/* what it said: no change. The next one comes later. */
		gap = g.retry_ms - now < gap ? gap : 0;
		step(&g, &one_way, &now);
		assert_int_equal(g.state, MESH_GAIN_ONE_WAY);
	}
	assert_true(g.wait_ms == MESH_GAIN_WAIT_MOST_MS);
}

static void without_traffic_nothing_is_tried(void **state)
{
	uint64_t now;
	struct mesh_gain g = unenrolled(&now);

	for (int i = 0; i < 2000; i++)
		assert_int_equal(step(&g, &nothing, &now), MESH_GAIN_MEASURED);
}

/* The kernel holds them back by itself. It is said at once, and taken back when it lasts. */
static void brief_connections_are_left_to_the_kernel(void **state)
{
	struct mesh_gain g = {0};
	uint64_t now = 0, since;

	for (int i = 0; i < 100; i++) {
		assert_int_equal(step(&g, &short_lived, &now), MESH_GAIN_CONTROL);
		assert_int_equal(mesh_gain_said(&g), MESH_GAIN_NEW);
	}
	since = now;
	while (mesh_gain_said(&g) == MESH_GAIN_NEW)
		step(&g, &ping_pong, &now);
	assert_in_range(now - since, MESH_GAIN_BRIEF_MS, MESH_GAIN_BRIEF_MS + 2 * SECOND);
	assert_int_equal(g.state, MESH_GAIN_YES);
	while (g.state == MESH_GAIN_YES)
		step(&g, &one_way, &now);
	step(&g, &short_lived, &now);
	assert_int_equal(mesh_gain_said(&g), MESH_GAIN_ONE_WAY);
}

/* Patterns on the edge of coming and going: once out, out. */
static void the_edge_does_not_flap(void **state)
{
	struct mesh_gain g = {0};
	uint64_t now = 0;
	int changes = 0;

	for (int i = 0; i < 10000; i++) {
		const struct mesh_gain_sample s = {.opened = 1,
						   .messages = 4500,
						   .turns = 4500 / (6 + i % 4),
						   .bytes = 450000,
						   .redirected = 450000};
		uint32_t before = g.state;

		step(&g, &s, &now);
		changes += (before == MESH_GAIN_YES) != (g.state == MESH_GAIN_YES);
	}
	assert_true(changes <= 1);
}

/* --- streams --- */

static const struct mesh_gain_sample stream = {.opened = 2,
					       .closed = 2,
					       .messages = 5000,
					       .turns = 4,
					       .bytes = 5000ULL * 65536,
					       .redirected = 5000ULL * 6553,
					       .held_back = 2};

static struct mesh_gain_sample with(struct mesh_gain_sample s, uint32_t contest)
{
	s.contest = contest;
	return s;
}

/* Once it is seen that these are streams, half of them are held back until one half has won. */
static void a_stream_is_decided_by_a_contest(void **state)
{
	const struct mesh_gain_sample won = with(stream, MESH_GAIN_WON),
				      lost = with(stream, MESH_GAIN_LOST);

	for (int i = 0; i < 2; i++) {
		struct mesh_gain g = {0};
		uint64_t now = 0;
		uint32_t hold_back = i ? MESH_GAIN_MEASURED : MESH_GAIN_CONTROL;

		assert_int_equal(step(&g, &nothing, &now), MESH_GAIN_CONTROL);
		for (int k = 0; k < 10; k++) {
			assert_int_equal(step(&g, &stream, &now), MESH_GAIN_HALF);
			assert_int_equal(g.state, MESH_GAIN_YES);
		}
		assert_int_equal(step(&g, i ? &lost : &won, &now), hold_back);
		/* that nine tenths of its bytes go by TCP says nothing against that */
		for (int k = 0; k < 20; k++)
			assert_int_equal(step(&g, &stream, &now), hold_back);
		assert_int_equal(g.state, i ? MESH_GAIN_SLOWER : MESH_GAIN_YES);
		assert_int_equal(g.contests, 1);
	}
}

/* Connections that never close: it is given up, and what went by TCP decides. */
static void a_contest_ends(void **state)
{
	struct mesh_gain g = {0};
	uint64_t now = 0;
	int steps = 0;

	while (step(&g, &stream, &now) != MESH_GAIN_MEASURED)
		assert_true(++steps <= MESH_GAIN_CONTEST_MOST + 1 + MESH_GAIN_JUDGEMENTS);
	assert_int_equal(g.state, MESH_GAIN_BY_TCP);
}

static void what_was_lost_is_fought_again_and_ever_less_often(void **state)
{
	const struct mesh_gain_sample lost = with(stream, MESH_GAIN_LOST),
				      won = with(stream, MESH_GAIN_WON);
	struct mesh_gain g = {0};
	uint64_t now = 0, gap = 0, since;

	step(&g, &stream, &now);
	step(&g, &lost, &now);
	for (int i = 0; i < 8; i++) {
		since = now;
		while (step(&g, &stream, &now) != MESH_GAIN_HALF)
			assert_true(now - since <= MESH_GAIN_WAIT_MOST_MS);
		assert_true(now - since >= gap);
		gap = now - since;
		assert_int_equal(step(&g, &stream, &now), MESH_GAIN_HALF);
		assert_int_equal(g.state, MESH_GAIN_SLOWER);
		assert_int_equal(step(&g, &lost, &now), MESH_GAIN_MEASURED);
	}
	while (step(&g, &stream, &now) != MESH_GAIN_HALF)
		;
	assert_int_equal(step(&g, &won, &now), MESH_GAIN_CONTROL);
	assert_int_equal(g.state, MESH_GAIN_YES);
}

/* A result holds for a while, not for ever. */
static void what_was_won_is_asked_again(void **state)
{
	const struct mesh_gain_sample won = with(stream, MESH_GAIN_WON);
	struct mesh_gain g = {0};
	uint64_t now = 0;

	step(&g, &stream, &now);
	step(&g, &won, &now);
	assert_int_equal(step(&g, &stream, &now), MESH_GAIN_CONTROL);
	now += MESH_GAIN_STALE_MS;
	assert_int_equal(step(&g, &stream, &now), MESH_GAIN_HALF);
}

/* Nothing more comes that would end it: half are not held back for ever. */
static void a_contest_without_evidence_ends_in_time(void **state)
{
	const struct mesh_gain_sample little = {
		.opened = 1, .messages = 3, .turns = 3, .bytes = 300};
	struct mesh_gain g = {0};
	uint64_t now = 0, since;

	step(&g, &stream, &now);
	assert_int_equal(g.contest, MESH_GAIN_CONTEST);
	since = now;
	while (step(&g, &little, &now) == MESH_GAIN_HALF)
		assert_true(now - since <= MESH_GAIN_STALE_MS + SECOND);
	assert_int_equal(g.contest, MESH_GAIN_GIVEN_UP);
	assert_int_equal(g.state, MESH_GAIN_YES);
}

/* Its pattern is another now: that is not for a contest of streams to decide. */
static void questions_and_answers_need_no_contest(void **state)
{
	const struct mesh_gain_sample lost = with(stream, MESH_GAIN_LOST);
	struct mesh_gain g = {0};
	uint64_t now = 0;

	step(&g, &stream, &now);
	step(&g, &lost, &now);
	while (step(&g, &stream, &now) != MESH_GAIN_HALF)
		;
	assert_int_equal(g.state, MESH_GAIN_SLOWER);
	for (int i = 0; i < MESH_GAIN_JUDGEMENTS; i++)
		step(&g, &ping_pong, &now);
	assert_int_equal(g.state, MESH_GAIN_YES);
	assert_int_not_equal(g.contest, MESH_GAIN_CONTEST);
}

/* Whoever lost as a stream, and asks and answers now, comes back by that alone. */
static void a_stream_that_asks_and_answers_now_comes_back(void **state)
{
	const struct mesh_gain_sample lost = with(stream, MESH_GAIN_LOST);
	struct mesh_gain_sample turned = ping_pong;
	struct mesh_gain g = {0};
	uint64_t now = 0;

	turned.held_back = 1;
	step(&g, &stream, &now);
	step(&g, &lost, &now);
	for (int i = 0; i < MESH_GAIN_JUDGEMENTS; i++)
		step(&g, &turned, &now);
	assert_int_equal(g.state, MESH_GAIN_YES);
	assert_int_equal(g.contests, 1);
}

/* --- whatever comes --- */

static uint64_t seed = 88172645463325252ULL;

static uint64_t rnd(uint64_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed % below;
}

static struct mesh_gain_sample any(void)
{
	struct mesh_gain_sample s = {.opened = rnd(100), .held_back = rnd(3)};

	s.closed = rnd(s.opened + 1);
	s.messages = rnd(4) ? rnd(3000) : rnd(1ULL << 40);
	s.turns = rnd(s.messages + 1);
	s.bytes = s.messages * rnd(100000);
	s.redirected = rnd(s.bytes + 1);
	s.slower = (uint32_t)rnd(2);
	s.contest = rnd(10) ? 0 : rnd(2) ? MESH_GAIN_WON : MESH_GAIN_LOST;
	return s;
}

/* Any memory at all is a state that ends: some clear judgements later the rule is right again. */
static void it_is_right_again_whatever_was_before(void **state)
{
	for (int i = 0; i < 100000; i++) {
		struct mesh_gain g = {.closed = rnd(100),
				      .messages = rnd(10000),
				      .turns = rnd(10000),
				      .bytes = rnd(1 << 30),
				      .state = (uint32_t)rnd(MESH_GAIN_STATES),
				      .against = (uint32_t)rnd(MESH_GAIN_JUDGEMENTS),
				      .wait_ms = (uint32_t)rnd(MESH_GAIN_WAIT_MOST_MS),
				      .retry_ms = rnd(1000000)};
		uint64_t now = 500000 + rnd(1000000);
		const struct mesh_gain_sample *s = rnd(2) ? &ping_pong : &one_way;

		for (int k = 0; k < 1 + MESH_GAIN_JUDGEMENTS; k++)
			step(&g, s, &now);
		assert_int_equal(g.state == MESH_GAIN_YES, s == &ping_pong);
	}
}

static void what_it_says_is_always_one_of_four(void **state)
{
	struct mesh_gain g = {0};
	uint64_t now = 0;

	for (int i = 0; i < 300000; i++) {
		struct mesh_gain_sample s = any();
		uint32_t before = g.state, judged = g.judged, contest = g.contest, hold_back;

		now += rnd(20) ? rnd(2000) : rnd(2 * MESH_GAIN_STALE_MS);
		hold_back = mesh_gain_step(&g, &s, now);
		assert_true(g.state < MESH_GAIN_STATES);
		if (g.contest == MESH_GAIN_CONTEST)
			assert_int_equal(hold_back, MESH_GAIN_HALF);
		else if (g.state == MESH_GAIN_YES)
			assert_int_equal(hold_back, MESH_GAIN_CONTROL);
		else
			assert_true(hold_back == 0 || hold_back == MESH_GAIN_MEASURED);
		if (g.state != before && g.contest == contest)
			assert_int_equal(g.judged, judged + 1);
		assert_true(g.wait_ms <= MESH_GAIN_WAIT_MOST_MS);
		assert_true(g.messages < MESH_GAIN_MESSAGES && g.closed < MESH_GAIN_CLOSED);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(patterns_are_judged),
		cmocka_unit_test(everybody_is_enrolled_but_for_the_control_group),
		cmocka_unit_test(three_judgements_end_a_state),
		cmocka_unit_test(two_judgements_end_nothing),
		cmocka_unit_test(little_evidence_says_nothing),
		cmocka_unit_test(it_comes_back_when_its_traffic_has_changed),
		cmocka_unit_test(rare_connections_are_tried_now_and_then),
		cmocka_unit_test(without_traffic_nothing_is_tried),
		cmocka_unit_test(brief_connections_are_left_to_the_kernel),
		cmocka_unit_test(the_edge_does_not_flap),
		cmocka_unit_test(a_stream_is_decided_by_a_contest),
		cmocka_unit_test(a_contest_ends),
		cmocka_unit_test(a_contest_without_evidence_ends_in_time),
		cmocka_unit_test(questions_and_answers_need_no_contest),
		cmocka_unit_test(what_was_lost_is_fought_again_and_ever_less_often),
		cmocka_unit_test(what_was_won_is_asked_again),
		cmocka_unit_test(a_stream_that_asks_and_answers_now_comes_back),
		cmocka_unit_test(it_is_right_again_whatever_was_before),
		cmocka_unit_test(what_it_says_is_always_one_of_four),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
