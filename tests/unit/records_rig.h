/* SPDX-License-Identifier: Apache-2.0 */
/* Records as agents send them, and batches of them. Header only. */
#ifndef TESTS_RECORDS_RIG_H
#define TESTS_RECORDS_RIG_H

#include "lib/record_batch.h"
#include "lib/trace_id.h"

#include <mesh/abi.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* after the types that it needs */
#include <cmocka.h>

#define REC_WALL_US 1600000000000000ull

struct rec {
	const char *trace;   /* as the caller chose it */
	uint64_t id, parent; /* of spans; 0: no parent */
	const char *parent_text, *alias;
	const char *service, *source, *path; /* NULL: backend, frontend, /items */
	uint64_t start_us;		     /* since 1970, 0: REC_WALL_US */
	uint32_t took_us;
	int status; /* 0: 200; -1: none */
	unsigned flags;
	uint8_t cause, ntries, kind;
	bool unsampled, untraced;
};

struct whole_record {
	struct record r;
	char rest[RECORD_SIZE_MAX - sizeof(struct record)];
};

static inline void rec_text(char **at, uint16_t *len, const char *text)
{
	*len = (uint16_t)(text ? strlen(text) : 0);
	memcpy(*at, text ? text : "", *len);
	*at += *len;
}

static inline void rec_tries(struct whole_record *w)
{
	struct record_try *tries = (struct record_try *)w->rest;

	for (uint32_t i = 0; i < w->r.ntries; i++)
		tries[i] = (struct record_try){.endpoint = i + 1 < w->r.ntries ? i : w->r.endpoint,
					       .gen = 1,
					       .start_us = 100 * i,
					       .duration_us = 90,
					       .status = i + 1 < w->r.ntries ? 0 : 200,
					       .cause = i + 1 < w->r.ntries ? CAUSE_UPSTREAM_RESET
									    : CAUSE_NONE};
}

static inline const struct record *rec_make(const struct rec *m, struct whole_record *w)
{
	char *p = w->rest + m->ntries * sizeof(struct record_try);
	const char *trace = m->trace ? m->trace : "t";
	char hex[33] = "";

	memset(w, 0, sizeof(*w));
	w->r = (struct record){.kind = m->kind ? m->kind : RECORD_REQUEST,
			       .cause = m->cause,
			       .tries = m->ntries,
			       .ntries = m->ntries,
			       .start_ns = m->start_us ? (m->start_us - REC_WALL_US) * 1000 : 0,
			       .duration_ns = m->took_us * 1000ULL,
			       .head_ns = m->took_us * 900ULL,
			       .upstream_ns = m->took_us * 800ULL,
			       .bytes_out = 512,
			       .endpoint = 7,
			       .endpoint_gen = 1,
			       .status = m->status < 0 ? 0
					 : m->status   ? m->status
						       : 200};
	w->r.flags = (uint16_t)(m->flags | (m->unsampled ? 0 : RECORD_SAMPLED) |
				(m->untraced ? 0 : RECORD_TRACED));
	trace_id_bytes(trace, strlen(trace), w->r.trace_id);
	trace_hex(hex, w->r.trace_id, 16);
	memcpy(w->r.span_id, &m->id, 8);
	memcpy(w->r.parent_id, &m->parent, 8);
	rec_tries(w);
	rec_text(&p, &w->r.method_len, "GET");
	rec_text(&p, &w->r.path_len, m->path ? m->path : "/items");
	rec_text(&p, &w->r.host_len, "backend:80");
	rec_text(&p, &w->r.request_id_len, "0123456789abcdef");
	rec_text(&p, &w->r.trace_len, strcmp(trace, hex) ? trace : NULL);
	rec_text(&p, &w->r.alias_len, m->alias);
	rec_text(&p, &w->r.parent_len, m->parent_text);
	w->r.size = (uint32_t)(p - (char *)w + 7) & ~7u;
	return &w->r;
}

/* An id of a span as it is shown. */
static inline const char *rec_id(uint64_t id)
{
	static char hex[17];

	trace_hex(hex, (const uint8_t *)&id, 8);
	return hex;
}

static inline const char *rec_endpoint(void *arg, uint32_t endpoint, uint32_t gen)
{
	static const char *const names[] = {"backend-0", "backend-1", "backend-2", "backend-3",
					    "backend-4", "backend-5", "backend-6", "backend-7"};

	return names[endpoint % 8];
}

static inline int rec_add(struct record_batch *b, const struct rec *m)
{
	struct span_names n = {.source = m->source ? m->source : "frontend",
			       .service = m->service ? m->service : "backend",
			       .instance = "backend-7",
			       .version = "v1",
			       .node = "n",
			       .slow = m->flags & RECORD_SLOW,
			       .endpoint = rec_endpoint};
	struct whole_record w;

	return record_batch_add(b, rec_make(m, &w), &n);
}

/* A batch of the node "n": the caller's to free(). */
static inline void *rec_batch(const struct rec *all, size_t n, size_t *len)
{
	struct record_batch *b;
	void *out = NULL;

	assert_int_equal(record_batch_new("n", &b), 0);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(rec_add(b, &all[i]), 0);
	assert_int_equal(record_batch_take(b, REC_WALL_US * 1000, &out, len), 0);
	record_batch_free(&b);
	return out;
}

#endif
