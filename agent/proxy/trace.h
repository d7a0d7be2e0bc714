/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The trace that a request belongs to, by whatever headers its caller uses: W3C Trace Context
 * (level 2), B3 in one header or in several, x-trace-id and x-span-id. Every request has one: who
 * names none begins one here. What is sent on are the forms that came in, rewritten to this hop's
 * span, and always traceparent, x-trace-id, x-span-id and x-parent-span-id.
 *
 *   trace_read.c   what the caller said
 *   trace.c        ids, and whether it is sampled
 *   trace_put.c    what is sent on
 *
 * Rules where a header is not as it should be: several traceparent lines, a version of ff, ids of
 * zeros, capital letters: it is as if there were none, and tracestate goes with it. A version that
 * is not known yet is read by what it begins with. A tracestate with more than 32 members or with
 * one that is malformed is dropped, and the rest stays. Of B3, digits may be in capitals; what does
 * not parse, or is there twice, is as if it were not there. When forms name different traces the
 * first of traceparent, b3, X-B3-*, x-trace-id decides, and the ids of the others are aliases.
 */
#ifndef PROXY_TRACE_H
#define PROXY_TRACE_H

#include "agent/proxy/http1.h"
#include "lib/record.h"
#include "lib/trace_id.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct exchange;

/* What of a tracestate fits a line that others like us take. */
#define TRACE_STATE_MAX (HTTP1_MAX_LINE - 12)

enum trace_form { TRACE_B3 = 1, TRACE_B3_MULTI = 2 };	      /* those that not everybody gets */
enum trace_decision { TRACE_UNDECIDED, TRACE_NO, TRACE_YES }; /* the caller's, on sampling */

struct trace {
	/* trace_read() begins anew with these */
	bool begun;    /* it has a trace id and a span id */
	bool named;    /* the caller named the trace */
	bool random;   /* the last seven bytes of its id are (level 2's flag) */
	bool debug;    /* B3's flag, which means sampled */
	bool short_b3; /* B3's id had 16 digits */
	bool state;    /* tracestate is passed on */
	bool parent_is_hex;
	bool sampled;
	bool aside;	  /* of the limit it gets only what others leave: no service was meant */
	uint8_t decision; /* enum trace_decision */
	uint8_t forms;	  /* enum trace_form: what came in */
	uint8_t text_len, parent_len, alias_len;
	uint8_t id[16], span[8], parent[8];
	/* and these need no beginning */
	char hex[32], span_hex[16];
	char text[TRACE_TEXT_MAX];	  /* the id as the caller wrote it; empty: hex */
	char parent_text[TRACE_TEXT_MAX]; /* likewise of its span */
	char alias[TRACE_ALIAS_MAX];	  /* other trace ids, a comma between them */
};

/* Where a worker's new ids come from, and how many traces it may begin to sample. */
struct trace_source {
	uint64_t state, step; /* the next id; odd */
	uint64_t interval_ns; /* of sampled traces in the long run; 0: there is no limit */
	uint64_t spent_ns;    /* until then the time is used up */
};

/* Seeded by the kernel. limit: sampled traces a second that this one of `workers` may begin its
 * share of; 0: any number. 0 or -errno. */
int trace_source_init(struct trace_source *s);
void trace_limit(struct trace_source *s, uint32_t limit, uint32_t workers);

/* Reads what the caller said; `head` are the bytes that h was parsed from. */
void trace_read(struct trace *t, const struct http1_head *h, const char *head);
/* Ids: of the span always, of the trace unless the caller named one. */
void trace_begin(struct trace *t, struct trace_source *s);
/* Of a copy of a request: a span that nobody records, and nobody it calls is sampled for its sake.
 */
void trace_shadow(struct trace *t, struct trace_source *s);
/* Is it sampled? As the caller decided, else a share (of SNAP_ALL) of all traces, the same ones on
 * each hop. false in *within: it would be, but the limit is reached. */
bool trace_draw(const struct trace *t, struct trace_source *s, uint32_t share, uint64_t now_ns,
		bool *within);

/* The id as people see it: what the caller chose, or 32 digits; empty while there is none. */
static inline const char *trace_name(const struct trace *t, uint32_t *len)
{
	*len = !t->begun ? 0 : t->text_len ? t->text_len : sizeof(t->hex);
	return t->text_len ? t->text : t->hex;
}

/* The header lines for the endpoint, or for the caller; `head` as for trace_read. How many bytes
 * they take; 0: they do not fit. */
size_t trace_put(const struct trace *t, const struct http1_head *h, const char *head, char *out,
		 size_t cap);
size_t trace_put_answer(const struct trace *t, char *out, size_t cap);

/* An exchange's: a request is there (head NULL: none that could be read); what it goes to is known.
 */
void trace_request(struct exchange *ex, const char *head);
void trace_decide(struct exchange *ex);

#endif
