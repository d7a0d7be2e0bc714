/* SPDX-License-Identifier: Apache-2.0 */
/* What the decision code of include/mesh/ says, in tables of cases, and what it amounts to over
 * many draws. That the kernel says the same is tests/bpf/test_decide.c. */
#include <mesh/ewma.h>
#include <mesh/pick.h>
#include <mesh/slots.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* after the types that it needs */
#include <cmocka.h>

#define MS	 1000000ULL
#define S	 1000000000ULL
#define HALF	 (8192ULL << 20) /* ns in which an average halves */
#define T0	 (100 * S)
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static void fade_follows_the_exponential(void **state)
{
	const double step = 0.99991539088661349; /* 2 ^ (-1 / 8192) */
	double want = 4e9;

	for (__u32 dt = 0; dt < 5 << MESH_EWMA_TAU_SHIFT; dt++, want *= step) {
		double off = (double)mesh_ewma_fade(4000000000ULL, dt) / want - 1;

		if (off > 0.003 || off < -0.003)
			fail_msg("dt %u is off by %f", dt, off);
	}
	assert_int_equal(mesh_ewma_fade(~0U, 32U << MESH_EWMA_TAU_SHIFT), 0);
	assert_int_equal(mesh_ewma_fade(~0U, ~0U), 0);
	assert_int_equal(mesh_ewma_fade(0, 1), 0);
}

static void average_after_one_more_sample(void **state)
{
	static const struct {
		const char *what;
		__u64 first_ns; /* 0: no first sample */
		__u64 gap_ns, sample_ns;
		__u32 failed;
		__u64 least_ns, most_ns;
	} cases[] = {
		{"first sample counts as it is", 0, 0, 10 * MS, 0, 10 * MS - 64, 10 * MS},
		{"first failure counts at least 100 ms", 0, 0, 1 * MS, 1, 100 * MS, 100 * MS},
		{"slow first failure counts as it is", 0, 0, 2 * S, 1, 2 * S - 64, 2 * S},
		{"a higher sample replaces at once", 10 * MS, 1 * MS, 90 * MS, 0, 90 * MS - 64,
		 90 * MS},
		{"a lower one right after moves nothing", 90 * MS, 0, 10 * MS, 0, 90 * MS - 64,
		 90 * MS},
		{"a lower one after one half-life moves half", 90 * MS, HALF, 10 * MS, 0, 49 * MS,
		 51 * MS},
		{"a lower one after ten moves it all", 90 * MS, 10 * HALF, 10 * MS, 0, 10 * MS - 64,
		 11 * MS},
		{"a fast failure lowers nothing", 90 * MS, HALF, 1 * MS, 1, 90 * MS - 64, 90 * MS},
		{"a slow failure raises", 90 * MS, 0, 3 * S, 1, 3 * S - 64, 3 * S},
		{"no time at all is still a sample", 0, 0, 0, 0, 64, 64},
		{"more than the word holds is its limit", 0, 0, 1000 * S, 0, 274 * S, 275 * S},
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		__u64 word = 0, now = T0 + cases[i].gap_ns, got;

		if (cases[i].first_ns)
			word = mesh_ewma_update(0, cases[i].first_ns, T0, 0);
		word = mesh_ewma_update(word, cases[i].sample_ns, now, cases[i].failed);
		got = mesh_ewma_read(word, now);
		if (got < cases[i].least_ns || got > cases[i].most_ns)
			fail_msg("%s: %llu", cases[i].what, (unsigned long long)got);
	}
}

static void reading_decays_but_never_to_nothing(void **state)
{
	__u64 word = mesh_ewma_update(0, 100 * MS, T0, 0);

	assert_int_equal(mesh_ewma_read(0, T0), 0);
	assert_in_range(mesh_ewma_read(word, T0 + HALF), 49 * MS, 51 * MS);
	assert_in_range(mesh_ewma_read(word, T0 + 2 * HALF), 24 * MS, 26 * MS);
	assert_int_equal(mesh_ewma_read(word, T0 + 1000 * HALF), 64);
}

/* Two workers read their clocks in one order and update in the other. */
static void clock_a_tick_behind_is_no_long_time(void **state)
{
	__u64 word = mesh_ewma_update(0, 100 * MS, T0, 0);

	assert_in_range(mesh_ewma_read(word, T0 - 5 * MS), 100 * MS - 64, 100 * MS);
	word = mesh_ewma_update(word, 10 * MS, T0 - 5 * MS, 0);
	assert_in_range(mesh_ewma_read(word, T0), 99 * MS, 100 * MS);
}

/* Two workers whose readings differ by 5 ms take turns: the average fades by the time that went by,
 * not by the differences. */
static void clocks_that_differ_fade_nothing(void **state)
{
	__u64 word = mesh_ewma_update(0, 100 * MS, T0, 0);

	for (__u64 i = 0; i < 10000; i++)
		word = mesh_ewma_update(word, 10 * MS, T0 + i * MS / 10 - (i % 2 ? 5 * MS : 0), 0);
	assert_in_range(mesh_ewma_read(word, T0 + 1000 * MS), 90 * MS, 94 * MS);
}

/* Not asked for a month: that is no reading behind, or it would stay as it is for another. */
static void very_idle_is_not_ahead(void **state)
{
	__u64 word = mesh_ewma_update(0, 100 * MS, T0, 0), later = T0 + 30 * 86400 * S;

	assert_int_equal(mesh_ewma_read(word, later), 64);
	assert_in_range(mesh_ewma_read(mesh_ewma_update(word, MS, later, 0), later), MS - 64, MS);
}

static void stamp_survives_its_own_overflow(void **state)
{
	__u64 before = (1ULL << 52) - HALF / 2, word = mesh_ewma_update(0, 100 * MS, before, 0);

	assert_in_range(mesh_ewma_read(word, before + HALF), 49 * MS, 51 * MS);
}

static struct mesh_upstream split_of(const __u32 *upto, __u32 n)
{
	struct mesh_upstream up = {.nsplit = n};

	for (__u32 i = 0; i < n; i++)
		up.split[i].upto = upto[i];
	return up;
}

static void draw_falls_into_its_split(void **state)
{
	static const struct {
		__u32 upto[MESH_SPLITS], n, draw, want;
	} cases[] = {
		{{65536}, 1, 0, 0},
		{{65536}, 1, 65535, 0},
		{{58982, 65536}, 2, 58981, 0},
		{{58982, 65536}, 2, 58982, 1},
		{{58982, 65536}, 2, 65535, 1},
		{{0, 65536}, 2, 0, 1},
		{{65536, 65536}, 2, 65535, 0},
		{{8192, 16384, 24576, 32768, 40960, 49152, 57344, 65536}, 8, 57343, 6},
		{{8192, 16384, 24576, 32768, 40960, 49152, 57344, 65536}, 8, 57344, 7},
		{{0}, 0, 1234, 0},
		{{1, 2, 3}, 3, 0xffff0002, 2}, /* only 16 bits of the draw count */
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct mesh_upstream up = split_of(cases[i].upto, cases[i].n);

		assert_int_equal(mesh_pick_split(&up, cases[i].draw), cases[i].want);
	}
}

static void cost_is_latency_times_queue(void **state)
{
	static const struct {
		__u64 latency;
		__u32 inflight;
		__u64 want;
	} cases[] = {
		{10 * MS, 0, 10 * MS}, {10 * MS, 3, 40 * MS},  {0, 0, 0},
		{0, 1, 2 * S},	       {1, 0xffffffff, 65536},
	};

	for (size_t i = 0; i < COUNT(cases); i++)
		assert_int_equal(mesh_pick_cost(cases[i].latency, cases[i].inflight),
				 cases[i].want);
	assert_int_equal(mesh_pick_p2c(1, 5, 2, 6), 1);
	assert_int_equal(mesh_pick_p2c(1, 6, 2, 5), 2);
	assert_int_equal(mesh_pick_p2c(1, 5, 2, 5), 1);
}

static void load_is_queue_per_weight(void **state)
{
	static const struct {
		__u32 inflight_a, weight_a, inflight_b, weight_b;
		int order; /* of a's load and b's */
	} cases[] = {
		{0, 100, 0, 100, 0}, {0, 90, 0, 10, 0}, /* idle: shares are by slots */
		{0, 1, 1, 1000, -1}, {1, 100, 1, 100, 0}, {1, 90, 1, 10, -1},
		{9, 90, 1, 10, 0},   {10, 90, 1, 10, 1},  {1, 1000, 1, 999, -1},
		{~0U, 1, ~0U, 2, 1}, {0, 0, ~0U, 1, 1}, /* weight 0 takes no traffic */
		{0, 0, 5, 0, 0},
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		__u64 a = mesh_pick_load(cases[i].inflight_a, cases[i].weight_a),
		      b = mesh_pick_load(cases[i].inflight_b, cases[i].weight_b);

		if ((a > b) - (a < b) != cases[i].order)
			fail_msg("case %zu: %llu, %llu", i, (unsigned long long)a,
				 (unsigned long long)b);
	}
}

static __u32 slots_of(const __u16 *slots, __u16 ep)
{
	__u32 n = 0;

	for (int i = 0; i < MESH_SLOTS; i++)
		n += slots[i] == ep;
	return n;
}

#define ANY 0xffff

static void slots_in_proportion(void **state)
{
	static const struct {
		const char *what;
		struct {
			__u16 weight;
			__u64 latency;
		} in[4];
		__u32 n, endpoints;
		__u32 want[4];
	} cases[] = {
		{"alone", {{100, 5 * MS}}, 1, 1, {256}},
		{"alone and never measured", {{1, 0}}, 1, 1, {256}},
		{"equals", {{100, MS}, {100, MS}, {100, MS}}, 3, 3, {86, 85, 85}},
		{"nobody measured", {{1, 0}, {1, 0}}, 2, 2, {128, 128}},
		{"10, 50, 100 ms",
		 {{100, 10 * MS}, {100, 50 * MS}, {100, 100 * MS}},
		 3,
		 3,
		 {197, 39, 20}},
		{"a floor for the slowest", {{100, MS}, {100, 10 * S}}, 2, 2, {243, 13}},
		{"a newcomer counts as the quickest", {{100, 10 * MS}, {100, 0}}, 2, 2, {128, 128}},
		{"weights", {{90, MS}, {10, MS}}, 2, 2, {230, 26}},
		{"the floor does not undo a weight", {{1000, MS}, {1, MS}}, 2, 2, {255, 1}},
		{"weight 0 gets nothing", {{1, MS}, {0, MS}, {1, MS}}, 3, 2, {128, 0, 128}},
		{"everybody has weight 0", {{0, MS}, {0, MS}}, 2, 0, {ANY, ANY}},
		{"extremes", {{1000, ~0ULL}, {1000, 1}, {1, ~0ULL}}, 3, 3, {13, 242, 1}},
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct mesh_slot_input in[4];
		__u16 out[MESH_SLOTS];

		memset(out, 0xff, sizeof(out));
		for (__u32 j = 0; j < cases[i].n; j++)
			in[j] = (struct mesh_slot_input){(__u16)(j + 100), cases[i].in[j].weight, 0,
							 cases[i].in[j].latency};
		assert_int_equal(mesh_slots_build(in, cases[i].n, out), cases[i].endpoints);
		for (__u32 j = 0; j < cases[i].n; j++)
			if (cases[i].want[j] != ANY && slots_of(out, in[j].ep) != cases[i].want[j])
				fail_msg("%s: endpoint %u got %u", cases[i].what, j,
					 slots_of(out, in[j].ep));
		if (!cases[i].endpoints)
			assert_int_equal(out[0], 0xffff);
	}
}

/* Whatever the input: every slot is given, to somebody with a weight, and nobody with a weight is
 * left out. */
static void slots_for_any_input(void **state)
{
	struct mesh_slot_input in[MESH_SLOTS + 44];
	__u16 out[MESH_SLOTS];
	unsigned seed = 1;

	for (int round = 0; round < 2000; round++) {
		__u32 n = (__u32)(rand_r(&seed) % (int)COUNT(in)) + 1, used = 0, total = 0;

		memset(out, 0xff, sizeof(out));
		for (__u32 i = 0; i < n; i++) {
			in[i].ep = (__u16)i;
			in[i].weight = (__u16)(rand_r(&seed) % 5 ? rand_r(&seed) % 1001
								 : rand_r(&seed) % 2);
			in[i].latency_ns =
				(__u64)rand_r(&seed) << rand_r(&seed) % 32 >> rand_r(&seed) % 32;
			used += i < MESH_SLOTS && in[i].weight;
		}
		assert_int_equal(mesh_slots_build(in, n, out), used);
		for (__u32 i = 0; used && i < n && i < MESH_SLOTS; i++) {
			assert_int_equal(slots_of(out, (__u16)i) > 0, in[i].weight > 0);
			total += slots_of(out, (__u16)i);
		}
		assert_int_equal(total, used ? MESH_SLOTS : 0);
	}
}

/* Acceptance in small: endpoints that take 10, 50 and 100 ms, 1000 requests one after the other,
 * the table rebuilt every 100 ms of their time. */
static void sequential_requests_go_to_the_quickest(void **state)
{
	static const __u64 takes[3] = {10 * MS, 50 * MS, 100 * MS};
	__u64 word[3] = {0}, now = T0, rebuilt = 0;
	__u32 got[3] = {0};
	__u16 slots[MESH_SLOTS];
	unsigned seed = 7;

	for (int i = 0; i < 1000; i++) {
		__u32 rnd = (__u32)rand_r(&seed) << 16 ^ (__u32)rand_r(&seed), a, b, e;

		if (now - rebuilt >= 100 * MS) {
			struct mesh_slot_input in[3];

			for (__u16 j = 0; j < 3; j++)
				in[j] = (struct mesh_slot_input){j, 100, 0,
								 mesh_ewma_read(word[j], now)};
			mesh_slots_build(in, 3, slots);
			rebuilt = now;
		}
		a = slots[mesh_pick_slot_a(rnd)];
		b = slots[mesh_pick_slot_b(rnd)];
		e = mesh_pick_p2c(a, mesh_pick_cost(mesh_ewma_read(word[a], now), 0), b,
				  mesh_pick_cost(mesh_ewma_read(word[b], now), 0));
		now += takes[e];
		word[e] = mesh_ewma_update(word[e], takes[e], now, 0);
		got[e]++;
	}
	assert_in_range(got[0], 501, 1000);
	assert_in_range(got[1], 1, 299);
	assert_in_range(got[2], 1, 199);
}

static void round_robin_is_a_fair_order(void **state)
{
	static const struct {
		const char *what;
		__u32 n, turn;
		__u16 weight[4];
		const char *begins;
	} cases[] = {
		{"one", 1, 256, {100}, "0000"},
		{"three alike", 3, 255, {100, 100, 100}, "012012012"},
		{"one not used", 3, 256, {1, 0, 1}, "02020202"},
		{"twice as often, but not twice in a row", 2, 255, {2, 1}, "010010010"},
		{"five to one to one", 3, 252, {5, 1, 1}, "00102000010200"},
	};
	struct mesh_slot_input in[4];
	__u16 out[MESH_SLOTS];
	__u32 turn = 0;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		for (__u32 j = 0; j < cases[i].n; j++)
			in[j] = (struct mesh_slot_input){.ep = (__u16)j,
							 .weight = cases[i].weight[j]};
		assert_true(mesh_slots_rotate(in, cases[i].n, out, &turn) > 0);
		if (turn != cases[i].turn)
			fail_msg("%s: a turn of %u", cases[i].what, turn);
		for (size_t j = 0; cases[i].begins[j]; j++)
			if (out[j] != cases[i].begins[j] - '0')
				fail_msg("%s: slot %zu is %u", cases[i].what, j, out[j]);
	}
	in[0].weight = 0;
	assert_int_equal(mesh_slots_rotate(in, 1, out, &turn), 0);
}

/* Every draw of 16 bits, among some of three. */
static void draw_among_those_who_serve_keeps_their_proportion(void **state)
{
	struct mesh_upstream up = {.nsplit = 3,
				   .split = {{.upto = 32768}, {.upto = 49152}, {.upto = 65536}}};
	const struct {
		__u32 serving;
		double share[3];
	} cases[] = {
		{7, {.5, .25, .25}}, {5, {2 / 3., 0, 1 / 3.}}, {6, {0, .5, .5}}, {2, {0, 1, 0}}};

	for (size_t i = 0; i < COUNT(cases); i++) {
		__u32 got[MESH_SPLITS + 1] = {0};

		for (__u32 rnd = 0; rnd < 65536; rnd++)
			got[mesh_pick_split_among(&up, cases[i].serving, rnd)]++;
		for (int k = 0; k < 3; k++)
			assert_in_range(got[k] + 2, (__u32)(65536 * cases[i].share[k]),
					(__u32)(65536 * cases[i].share[k]) + 4);
		assert_int_equal(got[0] + got[1] + got[2], 65536);
	}
	assert_int_equal(mesh_pick_split_among(&up, 0, 1234), MESH_SPLITS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fade_follows_the_exponential),
		cmocka_unit_test(average_after_one_more_sample),
		cmocka_unit_test(reading_decays_but_never_to_nothing),
		cmocka_unit_test(clock_a_tick_behind_is_no_long_time),
		cmocka_unit_test(clocks_that_differ_fade_nothing),
		cmocka_unit_test(very_idle_is_not_ahead),
		cmocka_unit_test(stamp_survives_its_own_overflow),
		cmocka_unit_test(draw_falls_into_its_split),
		cmocka_unit_test(draw_among_those_who_serve_keeps_their_proportion),
		cmocka_unit_test(cost_is_latency_times_queue),
		cmocka_unit_test(load_is_queue_per_weight),
		cmocka_unit_test(slots_in_proportion),
		cmocka_unit_test(slots_for_any_input),
		cmocka_unit_test(round_robin_is_a_fair_order),
		cmocka_unit_test(sequential_requests_go_to_the_quickest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
