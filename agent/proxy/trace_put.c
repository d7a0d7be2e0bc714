/* SPDX-License-Identifier: Apache-2.0 */
/* See trace.h: from a trace to header lines. All but tracestate have a bound, and room for it is
 * looked for once. */
#include "agent/proxy/trace.h"

#include <string.h>

/* Bytes of all lines but tracestate. A text of any length takes TRACE_TEXT_MAX, see put_text(). */
#define LINES_MAX 576
#define ID	  sizeof(((struct trace *)0)->hex)
#define SPAN	  sizeof(((struct trace *)0)->span_hex)
#define LEN(s)	  (sizeof(s) - 1)

_Static_assert(LEN("traceparent: 00---0f\r\n") + ID + SPAN + LEN("b3: --d-\r\n") + ID + SPAN +
			       TRACE_TEXT_MAX +
			       LEN("x-b3-traceid: \r\n"
				   "x-b3-spanid: \r\n"
				   "x-b3-parentspanid: \r\n"
				   "x-b3-sampled: 1\r\n") +
			       ID + SPAN + TRACE_TEXT_MAX + LEN("x-trace-id: \r\n") +
			       TRACE_TEXT_MAX +
			       LEN("x-span-id: \r\n"
				   "x-parent-span-id: \r\n") +
			       SPAN + TRACE_TEXT_MAX <=
		       LINES_MAX,
	       "the lines of a trace fit");
_Static_assert(sizeof("x-b3-flags: 1") <= sizeof("x-b3-sampled: 1"), "which one is there counts");
_Static_assert(ID <= TRACE_TEXT_MAX, "a name takes no less than the digits that stand for it");

static inline __attribute__((always_inline)) char *put(char *at, const char *s, size_t n)
{
	memcpy(at, s, n);
	return at + n;
}

#define put_literal(at, s) put(at, s, sizeof(s) - 1)

/* A length that is known takes fewer instructions: always TRACE_TEXT_MAX bytes are written, and
 * what is beyond n is written over by what follows. */
static char *put_text(char *at, const char text[TRACE_TEXT_MAX], size_t n)
{
	memcpy(at, text, TRACE_TEXT_MAX);
	return at + n;
}

static char *put_traceparent(char *at, const struct trace *t)
{
	at = put_literal(at, "traceparent: 00-");
	at = put(at, t->hex, sizeof(t->hex));
	*at++ = '-';
	at = put(at, t->span_hex, sizeof(t->span_hex));
	at = put_literal(at, "-0");
	*at++ = (char)('0' + (t->random ? 2 : 0) + t->sampled);
	return put_literal(at, "\r\n");
}

static char *put_b3_id(char *at, const struct trace *t)
{
	uint32_t skip = t->short_b3 ? 16 : 0;

	return put(at, t->hex + skip, sizeof(t->hex) - skip);
}

static char *put_b3(char *at, const struct trace *t)
{
	at = put_literal(at, "b3: ");
	at = put_b3_id(at, t);
	*at++ = '-';
	at = put(at, t->span_hex, sizeof(t->span_hex));
	*at++ = '-';
	*at++ = !t->sampled ? '0' : t->debug ? 'd' : '1';
	if (t->parent_is_hex) {
		*at++ = '-';
		at = put_text(at, t->parent_text, t->parent_len);
	}
	return put_literal(at, "\r\n");
}

static char *put_b3_multi(char *at, const struct trace *t)
{
	at = put_literal(at, "x-b3-traceid: ");
	at = put_b3_id(at, t);
	at = put_literal(at, "\r\nx-b3-spanid: ");
	at = put(at, t->span_hex, sizeof(t->span_hex));
	if (t->parent_is_hex) {
		at = put_literal(at, "\r\nx-b3-parentspanid: ");
		at = put_text(at, t->parent_text, t->parent_len);
	}
	if (t->debug && t->sampled) /* which says that it is sampled */
		return put_literal(at, "\r\nx-b3-flags: 1\r\n");
	at = put_literal(at, "\r\nx-b3-sampled: ");
	*at++ = (char)('0' + t->sampled);
	return put_literal(at, "\r\n");
}

static char *put_name(char *at, const struct trace *t)
{
	at = put_literal(at, "x-trace-id: ");
	if (t->text_len)
		at = put_text(at, t->text, t->text_len);
	else
		at = put(at, t->hex, sizeof(t->hex));
	return put_literal(at, "\r\n");
}

static char *put_lines(char *at, const struct trace *t)
{
	at = put_traceparent(at, t);
	if (t->forms & TRACE_B3)
		at = put_b3(at, t);
	if (t->forms & TRACE_B3_MULTI)
		at = put_b3_multi(at, t);
	at = put_name(at, t);
	at = put_literal(at, "x-span-id: ");
	at = put(at, t->span_hex, sizeof(t->span_hex));
	if (t->parent_len) {
		at = put_literal(at, "\r\nx-parent-span-id: ");
		at = put_text(at, t->parent_text, t->parent_len);
	}
	return put_literal(at, "\r\n");
}

/* As many bytes as what makes them takes, whatever the room; 0: more than cap. */
static __attribute__((noinline)) size_t fitted(char *(*lines)(char *, const struct trace *),
					       const struct trace *t, char *out, size_t cap)
{
	char room[LINES_MAX];
	size_t n = (size_t)(lines(room, t) - room);

	if (n > cap)
		return 0;
	memcpy(out, room, n);
	return n;
}

static bool has_members(const char *s, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if (s[i] != ' ' && s[i] != '\t' && s[i] != ',')
			return true;
	return false;
}

/* One line, of those that are not empty, as far as they fit it: those at the end were there first.
 * 0: more than cap. */
static size_t put_tracestate(const struct http1_head *h, const char *head, char *out, size_t cap)
{
	static const char name[] = "tracestate: ";
	size_t n = sizeof(name) - 1, most = n + TRACE_STATE_MAX;

	if (cap < n)
		return 0;
	put_literal(out, name);
	for (unsigned i = h->index[HTTP1_H_TRACESTATE]; i && i <= h->nheaders; i++) {
		struct http1_slice v = h->headers[i - 1].value;
		bool first = n == sizeof(name) - 1;

		if (h->headers[i - 1].id != HTTP1_H_TRACESTATE || !has_members(head + v.at, v.len))
			continue;
		if (n + !first + v.len > most)
			break;
		if (n + !first + v.len + 2 > cap)
			return 0;
		if (!first)
			out[n++] = ',';
		put(out + n, head + v.at, v.len);
		n += v.len;
	}
	put_literal(out + n, "\r\n");
	return n + 2;
}

size_t trace_put(const struct trace *t, const struct http1_head *h, const char *head, char *out,
		 size_t cap)
{
	size_t n = cap >= LINES_MAX ? (size_t)(put_lines(out, t) - out)
				    : fitted(put_lines, t, out, cap),
	       more;

	if (!n || !t->state)
		return n;
	more = put_tracestate(h, head, out + n, cap - n);
	return more ? n + more : 0;
}

size_t trace_put_answer(const struct trace *t, char *out, size_t cap)
{
	return cap >= LINES_MAX ? (size_t)(put_name(out, t) - out) : fitted(put_name, t, out, cap);
}
