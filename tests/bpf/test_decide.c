/* SPDX-License-Identifier: Apache-2.0 */
/* The decision code gives the same answers in the kernel and natively: random and extreme inputs,
 * worked out by BPF_PROG_TEST_RUN and here; and random sequences, in which each step begins with
 * what the one before has left, on either side its own. */
#include "bpf/decide.h"
#include "bpf/decide.skel.h"

#include <bpf/bpf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
/* after the types that it needs */
#include <cmocka.h>

#define BATCHES	     128 /* of DECIDE_BATCH: 131,072 cases */
#define STEP_BATCHES 512 /* 524,288 steps: what is rare comes by often enough */
#define SEED	     0x9e3779b97f4a7c15ULL

static __u64 rng_state = SEED;

static __u64 rng(void) /* xorshift64* */
{
	rng_state ^= rng_state >> 12;
	rng_state ^= rng_state << 25;
	rng_state ^= rng_state >> 27;
	return rng_state * 0x2545f4914f6cdd1dULL;
}

/* Any magnitude with equal likelihood, and the edges of the words often. */
static __u64 any64(void)
{
	static const __u64 edges[] = {0,	  1,	      63,	   64,	 0x7fffffff,
				      0x80000000, 0xffffffff, 0x100000000, ~0ULL};
	__u64 r = rng();

	if (r % 8 == 0)
		return edges[(r >> 8) % (sizeof(edges) / sizeof(edges[0]))];
	return rng() >> (r >> 8) % 64;
}

static void fill(struct decide_in *in)
{
	__u32 upto = 0;

	in->word = any64();
	in->latency_ns = any64();
	in->now_ns = any64();
	in->cost_a = any64();
	in->cost_b = rng() % 4 ? any64() : in->cost_a;
	in->failed = rng() & 1;
	in->inflight = (__u32)any64();
	in->rnd = (__u32)rng();
	in->dt = (__u32)any64();
	in->weight = rng() % 4 ? (__u32)(rng() % 1001) : (__u32)any64();
	in->serving = (__u32)rng();
	in->up.nsplit = rng() % 8 ? (__u32)(rng() % (MESH_SPLITS + 1)) : (__u32)any64();
	for (int i = 0; i < MESH_SPLITS; i++)
		in->up.split[i].upto = upto += (__u32)(rng() % (65536 / MESH_SPLITS));
}

static void *map_of(struct bpf_map *map, size_t value)
{
	void *at = mmap(NULL, DECIDE_BATCH * value, PROT_READ | PROT_WRITE, MAP_SHARED,
			bpf_map__fd(map), 0);

	assert_true(at != MAP_FAILED);
	assert_int_equal(value % 8, 0); /* as array elements are padded */
	return at;
}

static void run(struct bpf_program *prog)
{
	LIBBPF_OPTS(bpf_test_run_opts, opts);

	assert_int_equal(bpf_prog_test_run_opts(bpf_program__fd(prog), &opts), 0);
	assert_int_equal(opts.retval, DECIDE_BATCH);
}

static void kernel_and_native_agree(void **state)
{
	struct decide_bpf *skel = decide_bpf__open_and_load();
	struct decide_case *cases;
	struct decide_out native;

	assert_non_null(skel);
	cases = map_of(skel->maps.cases, sizeof(*cases));
	for (int b = 0; b < BATCHES; b++) {
		for (int i = 0; i < DECIDE_BATCH; i++) {
			fill(&cases[i].in);
			memset(&cases[i].out, 0xa5, sizeof(cases[i].out));
		}
		run(skel->progs.decide_all);
		for (int i = 0; i < DECIDE_BATCH; i++) {
			decide(&cases[i].in, &native);
			assert_memory_equal(&cases[i].out, &native, sizeof(native));
		}
	}
	munmap(cases, DECIDE_BATCH * sizeof(*cases));
	decide_bpf__destroy(skel);
}

/* The surroundings of a lane: its time, how much fails, and policies that now and then change. */
static struct around {
	__u64 now_ms;
	__u32 failing; /* percent */
	__u32 skew_ms; /* readings are up to so much behind */
	struct mesh_breaker_policy breaker;
	struct mesh_budget_policy budget;
	struct mesh_bulkhead_policy bulkhead;
} around[DECIDE_LANES];

static __u32 upto(__u32 n)
{
	return (__u32)(rng() % (n + 1ULL));
}

/* Mostly such that every state is come by often, sometimes anything at all. */
static void new_policy(struct around *a)
{
	a->failing = upto(100);
	a->skew_ms = upto(3) ? 0 : upto(2000);
	a->breaker = (struct mesh_breaker_policy){.error_pm = upto(10000),
						  .min_requests = upto(10),
						  .window_ms = upto(500),
						  .open_ms = upto(200),
						  .half_open = upto(6),
						  .consecutive = upto(6),
						  .probe_ms = upto(100)};
	a->budget = (struct mesh_budget_policy){upto(10000), upto(100)};
	a->bulkhead = (struct mesh_bulkhead_policy){upto(10), upto(20), upto(5), upto(10)};
	if (upto(9))
		return;
	a->breaker.open_ms = (__u32)any64();
	a->breaker.window_ms = (__u32)any64();
	a->breaker.half_open = (__u32)any64();
	a->budget = (struct mesh_budget_policy){(__u32)any64(), (__u32)any64()};
}

/* Times near where something wraps: turns, the budget's 32 bits, the breaker's 41, none. */
static __u64 new_time(const struct around *a)
{
	const __u64 wraps[] = {(__u64)mesh_window_bucket_ms(a->breaker.window_ms) *
				       MESH_WINDOW_TURNS,
			       1ULL << 32, MESH_BREAKER_TIME + 1, 1000000000};

	return wraps[rng() % 4] + upto(2000) - 1000 + 2000;
}

static __u32 new_what(void)
{
	static const __u32 often[] = {DECIDE_ADMIT,  DECIDE_ADMIT,  DECIDE_RESULT, DECIDE_RESULT,
				      DECIDE_RESULT, DECIDE_PROBED, DECIDE_PROBED, DECIDE_RETRY};

	return upto(1) ? often[rng() % 8] : upto(DECIDE_WHATS - 1);
}

static void next_step(struct decide_step *in)
{
	struct around *a;

	memset(in, 0, sizeof(*in));
	in->lane = upto(DECIDE_LANES - 1);
	a = &around[in->lane];
	if (!a->now_ms || !upto(300)) {
		new_policy(a);
		if (!a->now_ms || !upto(5))
			a->now_ms = new_time(a);
	}
	a->now_ms += upto(20) ? upto(20) : upto(1000);
	in->now_ms = a->now_ms - upto(a->skew_ms);
	in->what = new_what();
	if (in->what == DECIDE_HAND && upto(9)) /* rarely, and not for long */
		in->hand = MESH_HAND_RESET;
	else
		in->hand = upto(2);
	in->failed = upto(99) < a->failing;
	in->latency_us = (__u32)any64();
	in->rnd = (__u32)rng();
	in->key = any64();
	in->breaker = a->breaker;
	in->budget = a->budget;
	in->bulkhead = a->bulkhead;
}

/* How often the native side came by what the test is about. */
static struct {
	__u32 state[4], verdict[3], granted, refused, reason[MESH_BULKHEAD_CONNECTIONS + 1], full;
	__u32 level[MESH_BREAKER_LEVELS + 1], won, counted;
} seen;

static void note(const struct decide_step *in, const struct decide_after *out)
{
	seen.state[out->state]++;
	if (in->what == DECIDE_ADMIT)
		seen.verdict[out->said]++;
	if (in->what == DECIDE_RETRY)
		++*(out->said ? &seen.granted : &seen.refused);
	if (in->what == DECIDE_ENTER || in->what == DECIDE_CONNECT)
		seen.reason[out->said]++;
	if (in->what >= DECIDE_STICKY)
		seen.full += out->said;
	if (mesh_breaker_level(out->lane.breaker) <= MESH_BREAKER_LEVELS)
		seen.level[mesh_breaker_level(out->lane.breaker)]++;
	seen.won += mesh_breaker_wins(out->lane.breaker) > 0;
	seen.counted += out->tally.total > 1;
}

static void often(const char *what, const __u32 *counts, int n)
{
	for (int i = 0; i < n; i++)
		if (counts[i] < 50)
			fail_msg("%s %d: only %u times", what, i, counts[i]);
}

static void sequences_agree_at_each_step(void **state)
{
	static struct decide_lane lanes[DECIDE_LANES];
	struct decide_bpf *skel = decide_bpf__open_and_load();
	struct decide_after native;
	struct decide_move *moves;

	assert_non_null(skel);
	moves = map_of(skel->maps.moves, sizeof(*moves));
	for (int b = 0; b < STEP_BATCHES; b++) {
		for (int i = 0; i < DECIDE_BATCH; i++) {
			next_step(&moves[i].in);
			memset(&moves[i].out, 0xa5, sizeof(moves[i].out));
		}
		run(skel->progs.follow_all);
		for (int i = 0; i < DECIDE_BATCH; i++) {
			const struct decide_step *in = &moves[i].in;

			decide_follow(in, &lanes[in->lane], &native);
			if (memcmp(&moves[i].out, &native, sizeof(native)))
				fail_msg("batch %d, step %d: %u of lane %u", b, i, in->what,
					 in->lane);
			note(in, &native);
		}
	}
	often("state", seen.state, 3);
	often("verdict", seen.verdict, 3);
	often("reason", seen.reason, MESH_BULKHEAD_CONNECTIONS + 1);
	often("level", seen.level, MESH_BREAKER_LEVELS + 1);
	often("granted", &seen.granted, 1);
	often("refused", &seen.refused, 1);
	often("full", &seen.full, 1);
	often("won", &seen.won, 1);
	often("counted", &seen.counted, 1);
	munmap(moves, DECIDE_BATCH * sizeof(*moves));
	decide_bpf__destroy(skel);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(kernel_and_native_agree),
					   cmocka_unit_test(sequences_agree_at_each_step)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
