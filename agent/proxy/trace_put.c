/* SPDX-License-Identifier: Apache-2.0 */
/* See trace.h: from a trace to header lines. */
#include "agent/proxy/trace.h"

#include <string.h>

struct out {
	char *at, *end;
	bool full;
};

static inline void put(struct out *o, const char *s, size_t n)
{
	if ((size_t)(o->end - o->at) < n) {
		o->full = true;
		return;
	}
	memcpy(o->at, s, n);
	o->at += n;
}

#define put_literal(o, s) put(o, s, sizeof(s) - 1)

static size_t finished(const struct out *o, const char *start)
{
	return o->full ? 0 : (size_t)(o->at - start);
}

static void put_traceparent(struct out *o, const struct trace *t)
{
	put_literal(o, "traceparent: 00-");
	put(o, t->hex, sizeof(t->hex));
	put_literal(o, "-");
	put(o, t->span_hex, sizeof(t->span_hex));
	put_literal(o, "-0");
	put(o, &"0123"[(t->random ? 2 : 0) + t->sampled], 1);
	put_literal(o, "\r\n");
}

static bool has_members(const char *s, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if (s[i] != ' ' && s[i] != '\t' && s[i] != ',')
			return true;
	return false;
}

/* One line, of those that are not empty, as far as they fit: those at the end were there first. */
static void put_tracestate(struct out *o, const struct http1_head *h, const char *head)
{
	const char *before = "tracestate: ";
	uint32_t room = TRACE_STATE_MAX + 1;

	for (unsigned i = h->index[HTTP1_H_TRACESTATE]; i && i <= h->nheaders; i++) {
		const struct http1_header *f = &h->headers[i - 1];

		if (f->id != HTTP1_H_TRACESTATE || !has_members(head + f->value.at, f->value.len))
			continue;
		if (f->value.len + 1 > room)
			break;
		room -= f->value.len + 1;
		put(o, before, strlen(before));
		put(o, head + f->value.at, f->value.len);
		before = ",";
	}
	put_literal(o, "\r\n");
}

static void put_b3_id(struct out *o, const struct trace *t)
{
	uint32_t skip = t->short_b3 ? 16 : 0;

	put(o, t->hex + skip, sizeof(t->hex) - skip);
}

static void put_b3(struct out *o, const struct trace *t)
{
	put_literal(o, "b3: ");
	put_b3_id(o, t);
	put_literal(o, "-");
	put(o, t->span_hex, sizeof(t->span_hex));
	if (t->debug && t->sampled)
		put_literal(o, "-d");
	else
		put(o, t->sampled ? "-1" : "-0", 2);
	if (t->parent_is_hex) {
		put_literal(o, "-");
		put(o, t->parent_text, t->parent_len);
	}
	put_literal(o, "\r\n");
}

static void put_b3_multi(struct out *o, const struct trace *t)
{
	put_literal(o, "x-b3-traceid: ");
	put_b3_id(o, t);
	put_literal(o, "\r\nx-b3-spanid: ");
	put(o, t->span_hex, sizeof(t->span_hex));
	if (t->parent_is_hex) {
		put_literal(o, "\r\nx-b3-parentspanid: ");
		put(o, t->parent_text, t->parent_len);
	}
	if (t->debug && t->sampled) /* which says that it is sampled */
		put_literal(o, "\r\nx-b3-flags: 1\r\n");
	else if (t->sampled)
		put_literal(o, "\r\nx-b3-sampled: 1\r\n");
	else
		put_literal(o, "\r\nx-b3-sampled: 0\r\n");
}

static void put_name(struct out *o, const struct trace *t)
{
	uint32_t len;
	const char *name = trace_name(t, &len);

	put_literal(o, "x-trace-id: ");
	put(o, name, len);
	put_literal(o, "\r\n");
}

size_t trace_put(const struct trace *t, const struct http1_head *h, const char *head, char *out,
		 size_t cap)
{
	struct out o = {out, out + cap, false};

	put_traceparent(&o, t);
	if (t->state)
		put_tracestate(&o, h, head);
	if (t->forms & TRACE_B3)
		put_b3(&o, t);
	if (t->forms & TRACE_B3_MULTI)
		put_b3_multi(&o, t);
	put_name(&o, t);
	put_literal(&o, "x-span-id: ");
	put(&o, t->span_hex, sizeof(t->span_hex));
	if (t->parent_len) {
		put_literal(&o, "\r\nx-parent-span-id: ");
		put(&o, t->parent_text, t->parent_len);
	}
	put_literal(&o, "\r\n");
	return finished(&o, out);
}

size_t trace_put_answer(const struct trace *t, char *out, size_t cap)
{
	struct out o = {out, out + cap, false};

	put_name(&o, t);
	return finished(&o, out);
}
