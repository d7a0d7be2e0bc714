/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What meshd/red must say, the plain way: a list of all that was taken, looked through from the
 * beginning for each question. Header only, for tests/unit/test_meshd_red*.c.
 */
#ifndef TESTS_RED_MODEL_H
#define TESTS_RED_MODEL_H

#include "ctl/meshd/red/red.h"
#include "tests/unit/meshd_dir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
/* after the types that it needs */
#include <cmocka.h>

#define MODEL_NAMES   5
#define MODEL_ENTRIES 400000

struct model_entry {
	uint64_t second_s;
	uint8_t source, destination, version, protocol, outcome;
	uint32_t requests, errors, bytes, bucket;
};

static struct {
	struct model_entry entry[MODEL_ENTRIES];
	size_t n;
	uint64_t random;
} model;

static inline uint64_t model_random(uint64_t below)
{
	model.random ^= model.random << 13;
	model.random ^= model.random >> 7;
	model.random ^= model.random << 17;
	return model.random % below;
}

static inline const char *model_name(const char *kind, unsigned i)
{
	static char names[8][32];
	static unsigned next;
	char *out = names[next++ % 8];

	snprintf(out, 32, "%s-%u", kind, i);
	return out;
}

/* One batch of n random series of that second, as an agent would send it; into the model too when
 * `add`. The same random state gives the same batch. */
static inline int model_send(struct red *r, const char *node, const char *epoch, uint64_t seq,
			     uint64_t second_s, unsigned n, bool add, uint64_t now_ms)
{
	struct red_delta delta[16] = {0};
	struct red_batch b = {.node = node,
			      .epoch = epoch,
			      .seq = seq,
			      .time_ms = second_s * 1000,
			      .deltas = delta,
			      .n = n};
	char text[16][3][32];
	int err;

	for (unsigned i = 0; i < n; i++) {
		struct model_entry e = {.second_s = second_s,
					.source = (uint8_t)model_random(MODEL_NAMES),
					.destination = (uint8_t)model_random(MODEL_NAMES),
					.version = (uint8_t)model_random(2),
					.protocol = (uint8_t)model_random(RED_PROTOCOLS),
					.outcome = (uint8_t)model_random(RED_OUTCOMES),
					.requests = 1 + (uint32_t)model_random(5),
					.bytes = (uint32_t)model_random(10000),
					.bucket = (uint32_t)model_random(HISTOGRAM_BUCKETS)};

		e.errors = e.outcome >= RED_ERROR ? e.requests : 0;
		snprintf(text[i][0], 32, "from-%u", e.source);
		snprintf(text[i][1], 32, "to-%u", e.destination);
		snprintf(text[i][2], 32, "v%u", e.version);
		delta[i].key =
			(struct red_key){text[i][0], text[i][1], text[i][2], e.protocol, e.outcome};
		delta[i].sum.requests = e.requests;
		delta[i].sum.errors = e.errors;
		delta[i].sum.bytes_in = e.bytes;
		assert_int_equal(
			histogram_sparse_add(&delta[i].sum.histogram, e.bucket, e.requests), 0);
		if (add) {
			assert_true(model.n < MODEL_ENTRIES);
			model.entry[model.n++] = e;
		}
	}
	err = red_take(r, &b, now_ms);
	for (unsigned i = 0; i < n; i++)
		red_sum_done(&delta[i].sum);
	return err;
}

static inline bool model_in(const struct red_window *w, const struct model_entry *e)
{
	return e->second_s >= w->from_s && e->second_s <= w->to_ms / 1000 &&
	       (!w->service || !strcmp(w->service, model_name("to", e->destination))) &&
	       (!w->source || !strcmp(w->source, model_name("from", e->source))) &&
	       (!w->version || atoi(w->version + 1) == e->version);
}

static inline void model_add(struct red_sum *s, const struct model_entry *e)
{
	s->requests += e->requests;
	s->errors += e->errors;
	s->bytes_in += e->bytes;
	assert_int_equal(histogram_sparse_add(&s->histogram, e->bucket, e->requests), 0);
}

static inline void assert_sums_equal(const struct red_sum *a, const struct red_sum *b)
{
	assert_int_equal(a->requests, b->requests);
	assert_int_equal(a->errors, b->errors);
	assert_int_equal(a->bytes_in, b->bytes_in);
	assert_int_equal(a->histogram.n, b->histogram.n);
	if (a->histogram.n)
		assert_memory_equal(a->histogram.pairs, b->histogram.pairs,
				    a->histogram.n * sizeof(*a->histogram.pairs));
}

/* Was anything counted at what is a little later than now? Then a clock was put back, and whether
 * that is in the window depends on how fine the last minutes are known. */
static inline bool model_has_future(uint64_t now_ms)
{
	for (size_t i = 0; i < model.n; i++)
		if (model.entry[i].second_s > now_ms / 1000 &&
		    model.entry[i].second_s <= now_ms / 1000 + 300)
			return true;
	return false;
}

static inline struct red_query *model_query(struct red *r, const struct red_window *w)
{
	struct red_query *q;
	int more;

	assert_int_equal(red_query_new(r, w, &q), 0);
	while ((more = red_query_step(q)) > 0)
		;
	assert_int_equal(more, 0);
	return q;
}

/* Is the window of that service as the model has it, in each of its points? */
static inline void model_compare(struct red *r, struct red_window w, uint64_t now_ms)
{
	struct red_sum *want, all = {0};
	struct red_query *q;
	size_t n;

	if (red_window_plan(r, &w, now_ms))
		return; /* more points than are given */
	n = red_window_points(&w);
	q = model_query(r, &w);
	want = calloc(n, sizeof(*want));
	assert_non_null(want);
	for (size_t i = 0; i < model.n; i++)
		if (model_in(&w, &model.entry[i])) {
			model_add(&want[model.entry[i].second_s / w.step_s - w.from_s / w.step_s],
				  &model.entry[i]);
			model_add(&all, &model.entry[i]);
		}
	for (size_t i = 0; i < n; i++) {
		assert_sums_equal(&red_query_points(q)[i], &want[i]);
		red_sum_done(&want[i]);
	}
	assert_sums_equal(red_query_total(q), &all);
	red_sum_done(&all);
	red_query_free(&q);
	free(want);
}

/* The same of the groups. */
static inline void model_compare_groups(struct red *r, uint64_t window_s, uint64_t now_ms)
{
	struct red_window w = {.window_s = window_s, .step_s = window_s};
	const struct red_group *g;
	struct red_query *q;
	uint64_t requests = 0, want = 0;
	size_t n = 0;

	assert_int_equal(red_window_plan(r, &w, now_ms), 0);
	q = model_query(r, &w);
	g = red_query_groups(q, &n);
	for (size_t i = 0; i < model.n; i++)
		want += model_in(&w, &model.entry[i]) ? model.entry[i].requests : 0;
	for (size_t i = 0; i < n; i++) {
		struct red_sum all = {0};

		requests += g[i].sum.requests;
		for (size_t j = 0; j < model.n; j++) {
			const struct model_entry *e = &model.entry[j];

			if (model_in(&w, e) && e->protocol == g[i].protocol &&
			    !strcmp(g[i].source, model_name("from", e->source)) &&
			    !strcmp(g[i].destination, model_name("to", e->destination)) &&
			    atoi(g[i].version + 1) == e->version)
				model_add(&all, e);
		}
		assert_sums_equal(&g[i].sum, &all);
		red_sum_done(&all);
	}
	assert_int_equal(requests, want);
	red_query_free(&q);
}

#endif
