/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a record (lib/record.h) says, as a span: the JSON of docs/telemetry.md ("A span"), its
 * texts, and whether it is an error or matters otherwise. Everything that a peer chose is escaped.
 * Pure: the names are the caller's to find. Used by the agent and by meshd.
 */
#ifndef LIB_SPAN_JSON_H
#define LIB_SPAN_JSON_H

#include "lib/buf.h"
#include "lib/record.h"

#include <stdbool.h>
#include <stdint.h>

#define SPAN_MAX (16u << 10) /* bytes of a span: all of a record's text escaped, and its tries */

struct span_names {
	const char *source, *service, *instance, *version, *node;
	bool slow; /* slow enough to be kept for that: meshd does not know --trace-slow */
	/* Of a try's endpoint; "" when unknown. */
	const char *(*endpoint)(void *arg, uint32_t endpoint, uint32_t gen);
	void *arg;
};

/* Appends one span. start_ns: since 1970. */
void span_json(const struct record *rec, const struct span_names *n, uint64_t start_ns,
	       struct buf *out);

/* The same without braces, ids and service, a comma before each member. */
void span_members(const struct record *rec, const struct span_names *n, uint64_t start_ns,
		  struct buf *out);

/* As a span says it: status >= 400 or no answer. Of tunnels: the mesh's own end of it. */
bool span_error(const struct record *rec);
/* An answer that began and was not brought to its end, though its caller was there. */
static inline bool span_cut_off(const struct record *rec)
{
	return rec->kind == RECORD_REQUEST && rec->status && rec->cause != CAUSE_NONE &&
	       !(rec->flags & (RECORD_LOCAL | RECORD_CLIENT_GONE));
}
/* What counts as the duration of a request: of a stream that began with an upgrade (101), the time
 * until that. */
static inline uint64_t span_took_ns(const struct record *rec)
{
	return rec->status == 101 ? rec->head_ns : rec->duration_ns;
}
/* Kept though nobody sampled it: a request without an answer, with one >= 500 or with one that was
 * cut off, or a slow one. */
static inline bool span_matters(const struct record *rec, uint64_t slow_ns)
{
	return rec->kind == RECORD_REQUEST && (!rec->status || rec->status >= 500 ||
					       span_cut_off(rec) || span_took_ns(rec) > slow_ns);
}

/* The texts of a record, in their order. */
struct span_text {
	const char *at;
	uint16_t len;
};
struct span_texts {
	struct span_text method, path, host, request_id, trace, alias, parent;
};
struct span_texts span_texts(const struct record *rec);

/* Takes the next of a list with commas between its elements, as `alias` is; false: none is left. */
bool span_next_alias(struct span_text *list, struct span_text *one);
/* What was done: method and path; its length. */
#define SPAN_OPERATION_SIZE (2 * RECORD_TEXT_MAX)
size_t span_operation(const struct record *rec, const struct span_texts *t,
		      char out[SPAN_OPERATION_SIZE]);

/* Has the record's trace that id, as its caller chose it, as hex, or as an alias? bytes: what the
 * id stands for (lib/trace_id.h), since not every hop may have seen the text. */
bool span_has_trace(const struct record *rec, const char *id, const uint8_t bytes[16]);

#endif
