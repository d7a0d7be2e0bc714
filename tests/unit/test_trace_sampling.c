/* SPDX-License-Identifier: Apache-2.0 */
/* Ids that a worker makes, and which of the traces that begin there are sampled. */
#include "agent/control/snapshot.h"
#include "agent/proxy/trace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void ids_never_repeat(void **state)
{
	enum { N = 2000 };
	static struct trace t[N];
	struct trace_source s;

	assert_int_equal(trace_source_init(&s), 0);
	for (int i = 0; i < N; i++) {
		static const uint8_t zero[8];

		trace_begin(&t[i], &s);
		assert_true(t[i].begun && t[i].random);
		assert_memory_not_equal(t[i].span, zero, 8);
		for (int k = 0; k < i; k++)
			if (!memcmp(t[i].id, t[k].id, 16) || !memcmp(t[i].span, t[k].span, 8))
				fail_msg("%d is %d again", i, k);
	}
}

static void a_share_of_all_traces_is_sampled_the_same_everywhere(void **state)
{
	enum { N = 20000 };
	struct trace_source a, b;
	bool within;
	int drawn = 0, tenth = 0;

	assert_int_equal(trace_source_init(&a), 0);
	assert_int_equal(trace_source_init(&b), 0);
	for (int i = 0; i < N; i++) {
		struct trace t = {.named = i & 1,
				  .id = {[15] = (uint8_t)i, [14] = (uint8_t)(i >> 8)}};
		bool yes;

		trace_begin(&t, &a);
		yes = trace_draw(&t, &a, SNAP_ALL / 4, 0, &within);
		assert_int_equal(trace_draw(&t, &b, SNAP_ALL / 4, 99, &within), yes);
		drawn += yes;
		if (trace_draw(&t, &b, SNAP_ALL / 10, 99, &within)) {
			assert_true(yes); /* the smaller share is among the larger one */
			tenth++;
		}
		assert_true(trace_draw(&t, &a, SNAP_ALL, 0, &within));
		assert_false(trace_draw(&t, &a, 0, 0, &within));
		t.decision = TRACE_YES;
		assert_true(trace_draw(&t, &a, 0, 0, &within));
		t.decision = TRACE_NO;
		assert_false(trace_draw(&t, &a, SNAP_ALL, 0, &within));
	}
	assert_in_range(drawn, N / 4 - N / 50, N / 4 + N / 50);
	assert_in_range(tenth, N / 10 - N / 50, N / 10 + N / 50);
}

static int sampled_of(struct trace_source *s, struct trace t, uint64_t from_ns, uint64_t to_ns,
		      int n)
{
	int yes = 0;

	for (int i = 0; i < n; i++) {
		bool within,
			is = trace_draw(&t, s, SNAP_ALL,
					from_ns + (to_ns - from_ns) / (uint64_t)n * (uint64_t)i,
					&within);

		assert_int_equal(is, within);
		yes += is;
	}
	return yes;
}

static int sampled(struct trace_source *s, uint64_t from_ns, uint64_t to_ns, int n)
{
	return sampled_of(s, (struct trace){0}, from_ns, to_ns, n);
}

/* A scanner at the gateway: each second 10,000 requests that are nobody's, and 20 that are. */
static void requests_for_nobody_do_not_use_up_the_limit(void **state)
{
	const uint64_t second = 1000000000, start = 1000 * second;
	const struct trace nobodys = {.aside = true};
	struct trace_source s;
	int scanned = 0;

	assert_int_equal(trace_source_init(&s), 0);
	trace_limit(&s, 100, 4); /* 25 a second of this worker, 50 at once */
	assert_in_range(sampled_of(&s, nobodys, start, start + 1, 1), 1, 1);
	for (uint64_t i = 1; i <= 60; i++) {
		scanned += sampled_of(&s, nobodys, start + i * second,
				      start + (i + 1) * second - 100, 10000);
		assert_int_equal(sampled(&s, start + (i + 1) * second - 100,
					 start + (i + 1) * second - 80, 20),
				 20);
	}
	assert_in_range(scanned, 60, 60 * 6 + 25);
}

static void not_more_than_the_limit_begin(void **state)
{
	const uint64_t second = 1000000000, start = 1000 * second;
	struct trace_source s;
	struct trace parent = {.decision = TRACE_YES};
	bool within;

	assert_int_equal(trace_source_init(&s), 0);
	trace_limit(&s, 0, 4);
	assert_int_equal(sampled(&s, start, start + 1, 100000), 100000);
	trace_limit(&s, 100, 4); /* 25 a second of this worker, 50 at once */
	assert_int_equal(sampled(&s, start, start + second, 1000), 50 + 25 - 1);
	assert_in_range(sampled(&s, start + second, start + 11 * second, 10000), 249, 251);
	assert_true(trace_draw(&parent, &s, 0, start + 11 * second, &within));
	assert_int_equal(sampled(&s, start + 60 * second, start + 60 * second + 1, 1000), 50);
	trace_limit(&s, 1, 16);
	assert_in_range(sampled(&s, start + 90 * second, start + 250 * second, 16000), 10, 11);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ids_never_repeat),
		cmocka_unit_test(a_share_of_all_traces_is_sampled_the_same_everywhere),
		cmocka_unit_test(not_more_than_the_limit_begin),
		cmocka_unit_test(requests_for_nobody_do_not_use_up_the_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
