/* SPDX-License-Identifier: Apache-2.0 */
/* Records as workers write them, with names as a registry has them, and batches of them. Header
 * only; after cmocka.h. */
#ifndef TESTS_RECORD_BATCH_RIG_H
#define TESTS_RECORD_BATCH_RIG_H

#include "lib/buf.h"
#include "lib/record_batch.h"
#include "tests/unit/random.h"

#include <mesh/abi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WALL 1763868000000000000LL

struct whole {
	struct record r;
	struct record_try tries[RECORD_TRIES];
	char text[RECORD_TEXT_MAX];
};

/* Names as a registry has them: in places of their own. */
static char instances[8][RECORD_NAME_SIZE], services[4][RECORD_NAME_SIZE];
static unsigned asked; /* for endpoints of tries */

static inline const char *endpoint_name(void *arg, uint32_t endpoint, uint32_t gen)
{
	asked++;
	return instances[endpoint % 8];
}

static inline int setup(void **state)
{
	for (int i = 0; i < 8; i++)
		snprintf(instances[i], sizeof(*instances), "backend-%d", i);
	for (int i = 0; i < 4; i++)
		snprintf(services[i], sizeof(*services), "service-%d", i);
	seed = 1;
	asked = 0;
	return 0;
}

/* A request with `ntries` tries and a path of so many bytes. */
static inline const struct record *make(struct whole *w, uint64_t number, uint8_t ntries,
					uint16_t path)
{
	char *text = (char *)(w->tries + ntries); /* follows the last try */

	memset(w, 0, sizeof(*w));
	w->r = (struct record){.kind = RECORD_REQUEST,
			       .tries = ntries,
			       .ntries = ntries,
			       .flags = RECORD_TRACED | RECORD_SAMPLED,
			       .start_ns = number,
			       .duration_ns = 5000000,
			       .head_ns = 4000000,
			       .upstream_ns = 3000000,
			       .caller = number % 3,
			       .service = number % 4,
			       .upstream = 77,
			       .endpoint = number % 8,
			       .endpoint_gen = 1,
			       .status = 200,
			       .method_len = 3,
			       .path_len = path};
	memcpy(w->r.span_id, &number, sizeof(number));
	for (uint32_t i = 0; i < ntries; i++)
		w->tries[i] = (struct record_try){.endpoint = (uint32_t)((number + i + 1) % 8),
						  .gen = 1,
						  .start_us = 10 * i,
						  .duration_us = 9,
						  .status = 503};
	if (ntries)
		w->tries[ntries - 1] = (struct record_try){.endpoint = w->r.endpoint,
							   .gen = 1,
							   .start_us = 10u * ntries,
							   .duration_us = 9,
							   .status = 200};
	memcpy(text, "GET", 3);
	memset(text + 3, 'p', path);
	w->r.size = (uint32_t)(text + 3 + path - (char *)w + 7) & ~7u;
	return &w->r;
}

static inline struct span_names names_of(const struct record *r)
{
	return (struct span_names){.source = services[r->caller % 4],
				   .service = services[r->service % 4],
				   .instance = instances[r->endpoint % 8],
				   .version = r->endpoint % 2 ? "v1" : "v2",
				   .node = "host1",
				   .slow = r->start_ns % 5 == 0,
				   .endpoint = endpoint_name};
}

static inline int add(struct record_batch *b, const struct record *r)
{
	struct span_names n = names_of(r);

	return record_batch_add(b, r, &n);
}

static inline struct record_batch *writer(void)
{
	struct record_batch *b;

	assert_int_equal(record_batch_new("host1", &b), 0);
	return b;
}

/* As it would be sent: in a piece of memory of just that size, for the sanitizer. */
static inline void *taken(struct record_batch *b, size_t *len)
{
	void *out, *exact;

	assert_int_equal(record_batch_take(b, WALL, &out, len), 0);
	exact = malloc(*len);
	assert_non_null(exact);
	memcpy(exact, out, *len);
	free(out);
	return exact;
}

static inline void span_of(const struct record *r, const struct span_names *n, uint64_t ns,
			   struct buf *b)
{
	buf_init(b, SPAN_MAX);
	span_json(r, n, ns, b);
	assert_false(b->failed);
}

/* Every record of a batch makes the span that it made before. Returns how many there are. */
static inline uint32_t same_spans(const struct record_batch_view *v, uint64_t first)
{
	const struct record *r;
	uint32_t at = 0, n = 0;
	struct whole w;

	while ((r = record_batch_next(v, &at))) {
		const struct record *was =
			make(&w, first + n, (uint8_t)(n % (RECORD_TRIES + 1)), (uint16_t)(n % 700));
		struct span_names before = names_of(was), after;
		struct buf a, b;

		record_batch_span(v, r, &after);
		span_of(was, &before, was->start_ns + WALL, &a);
		span_of(r, &after, record_batch_wall(v, r->start_ns), &b);
		assert_string_equal(a.data, b.data);
		buf_done(&a);
		buf_done(&b);
		n++;
	}
	return n;
}

#endif
