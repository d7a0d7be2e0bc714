/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What must hold for any request whatsoever: what is sent on of its trace are header lines in good
 * order, each name once, which the next hop reads as the same trace, called by our span, without
 * another name for it. Used by the fuzzer and by tests/unit/test_trace.c. A property returns NULL
 * or what does not hold.
 */
#ifndef TESTS_TRACE_PROPERTY_H
#define TESTS_TRACE_PROPERTY_H

#include "agent/proxy/trace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TRACE_LINES_MAX 32768

/* As trace_begin() and trace_decide() leave it. */
static inline void trace_property_begin(struct trace *t, bool sampled)
{
	static const uint8_t id[16] = {1, 2, 3, 0xff}, span[8] = {9, 8, 7};

	if (!t->named) {
		memcpy(t->id, id, sizeof(t->id));
		trace_hex(t->hex, t->id, sizeof(t->id));
		t->random = true;
	}
	memcpy(t->span, span, sizeof(t->span));
	trace_hex(t->span_hex, t->span, sizeof(t->span));
	t->begun = true;
	t->sampled = t->decision == TRACE_UNDECIDED ? sampled : t->decision == TRACE_YES;
}

/* A request with these lines; its head is valid for as long as the memory is. */
static inline bool trace_property_parse(struct http1_head *h, const char *lines, size_t n,
					char *request, size_t cap, size_t *len)
{
	int k = snprintf(request, cap, "GET / HTTP/1.1\r\nHost: h\r\n%.*s\r\n", (int)n, lines);

	if (k < 0 || (size_t)k >= cap)
		return false;
	*len = (size_t)k;
	http1_head_init(h);
	return http1_request_parse(h, request, *len, cap) == HTTP1_DONE;
}

static inline bool trace_property_hex(const char *s, size_t n)
{
	size_t zeros = 0;

	for (size_t i = 0; i < n; i++) {
		if (!((s[i] >= '0' && s[i] <= '9') || (s[i] >= 'a' && s[i] <= 'f')))
			return false;
		zeros += s[i] == '0';
	}
	return zeros < n;
}

static inline bool trace_property_traceparent(const char *s, size_t n)
{
	return n == 55 && !memcmp(s, "00-", 3) && trace_property_hex(s + 3, 32) && s[35] == '-' &&
	       trace_property_hex(s + 36, 16) && s[52] == '-' && s[53] == '0' && s[54] >= '0' &&
	       s[54] <= '3';
}

static inline const char *trace_property_again(const struct trace *t, const char *lines, size_t n)
{
	static char request[TRACE_LINES_MAX + 64];
	static struct http1_head h;
	struct http1_slice v;
	struct trace again;
	const char *name, *other;
	uint32_t len, other_len;
	size_t size;

	if (!trace_property_parse(&h, lines, n, request, sizeof(request), &size))
		return "what is sent on are no header lines";
	for (unsigned i = 0; i < h.nheaders; i++)
		if (h.headers[i].id == HTTP1_H_OTHER || h.index[h.headers[i].id] != i + 1)
			return "a name is there twice, or is none of a trace";
	if (!h.index[HTTP1_H_TRACEPARENT] || !h.index[HTTP1_H_X_TRACE_ID] ||
	    !h.index[HTTP1_H_X_SPAN_ID])
		return "a header that is always sent is missing";
	v = h.headers[h.index[HTTP1_H_TRACEPARENT] - 1].value;
	if (!trace_property_traceparent(request + v.at, v.len))
		return "traceparent is not valid";
	trace_read(&again, &h, request);
	again.begun = true; /* as far as names go */
	name = trace_name(t, &len);
	other = trace_name(&again, &other_len);
	if (!again.named || memcmp(again.id, t->id, sizeof(t->id)) || again.alias_len)
		return "the next hop reads another trace";
	if (len != other_len || memcmp(name, other, len))
		return "the next hop knows it by another name";
	if (!again.parent_is_hex || memcmp(again.parent, t->span, sizeof(t->span)))
		return "the next hop is not called by our span";
	if (again.decision != (t->sampled ? TRACE_YES : TRACE_NO) || again.random != t->random)
		return "the flags have changed";
	if (again.forms != t->forms || again.state != t->state || again.short_b3 != t->short_b3)
		return "a form is lost, or has changed";
	return NULL;
}

static inline const char *trace_property_aliases(const struct trace *t)
{
	const char *at = t->alias, *end = t->alias + t->alias_len;

	if (t->alias_len > TRACE_ALIAS_MAX)
		return "too many aliases";
	while (at < end) {
		const char *comma = memchr(at, ',', (size_t)(end - at)),
			   *stop = comma ? comma : end;

		if (!trace_id_usable(at, (size_t)(stop - at)) || stop + 1 == end)
			return "an alias is no id";
		at = stop + 1;
	}
	return NULL;
}

/* Of a head that was parsed. */
static inline const char *trace_property(const struct http1_head *h, const char *head)
{
	static char lines[TRACE_LINES_MAX];
	struct trace t;
	const char *wrong;
	size_t n;

	memset(&t, 0xa5, sizeof(t));
	trace_read(&t, h, head);
	if (t.text_len > TRACE_TEXT_MAX || t.parent_len > TRACE_TEXT_MAX)
		return "an id is too long";
	wrong = trace_property_aliases(&t);
	if (wrong)
		return wrong;
	trace_property_begin(&t, h->size & 1);
	n = trace_put(&t, h, head, lines, sizeof(lines));
	if (!n)
		return "what is to be sent on does not fit";
	for (size_t cap = 0; cap < n; cap += 1 + cap / 8)
		if (trace_put(&t, h, head, lines, cap))
			return "it has fit where it cannot";
	trace_put(&t, h, head, lines, n);
	return trace_property_again(&t, lines, n);
}

#endif
