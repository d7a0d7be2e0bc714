/* SPDX-License-Identifier: Apache-2.0 */
/* See trace.h: from headers to a trace. One pass over the fields of a parsed head, and none when
 * the caller says nothing. */
#include "agent/proxy/trace.h"

#include <string.h>

#define HEADERS	      (HTTP1_H_LAST_TRACE - HTTP1_H_FIRST_TRACE + 1)
#define TRACEPARENT   55 /* bytes of version 00 */
#define STATE_MEMBERS 32
#define STATE_PART    256 /* bytes of a key, and of a value */

struct said { /* what the caller said: each header's first value, and how often it is there */
	struct {
		const char *at;
		uint32_t len;
		uint32_t times;
	} of[HEADERS];
};

/* One form's trace. */
struct claim {
	uint8_t id[16];
	const char *text, *parent;
	uint32_t len, parent_len; /* of text, of parent */
};

static bool says_anything(const struct http1_head *h)
{
	uint8_t any = 0;

	for (unsigned i = HTTP1_H_FIRST_TRACE; i <= HTTP1_H_LAST_TRACE; i++)
		any |= h->index[i];
	return any;
}

static void collect(struct said *s, const struct http1_head *h, const char *head)
{
	memset(s, 0, sizeof(*s));
	for (unsigned i = 0; i < h->nheaders; i++) {
		unsigned k = (unsigned)h->headers[i].id - HTTP1_H_FIRST_TRACE;

		if (k < HEADERS && !s->of[k].times++) {
			s->of[k].at = head + h->headers[i].value.at;
			s->of[k].len = h->headers[i].value.len;
		}
	}
}

/* The value of a header that is there once, else of length 0. */
static const char *value(const struct said *s, enum http1_header_id id, uint32_t *len)
{
	unsigned k = (unsigned)id - HTTP1_H_FIRST_TRACE;

	*len = s->of[k].times == 1 ? s->of[k].len : 0;
	return s->of[k].at;
}

static bool is_zero(const uint8_t *p, size_t n)
{
	uint8_t any = 0;

	for (size_t i = 0; i < n; i++)
		any |= p[i];
	return !any;
}

/* --- W3C -----------------------------------------------------------------------------------------
 */

static bool read_traceparent(struct trace *t, const struct said *s, struct claim *c)
{
	uint8_t version, parent[8], flags;
	uint32_t len;
	const char *v = value(s, HTTP1_H_TRACEPARENT, &len);

	if (len < TRACEPARENT || v[2] != '-' || v[35] != '-' || v[52] != '-')
		return false;
	if (!trace_unhex(&version, v, 1, true) || version == 0xff ||
	    (len > TRACEPARENT && (!version || v[TRACEPARENT] != '-')))
		return false;
	if (!trace_unhex(c->id, v + 3, 16, true) || is_zero(c->id, 16) ||
	    !trace_unhex(parent, v + 36, 8, true) || is_zero(parent, 8) ||
	    !trace_unhex(&flags, v + 53, 1, true))
		return false;
	c->text = v + 3;
	c->len = 32;
	c->parent = v + 36;
	c->parent_len = 16;
	t->decision = flags & 1 ? TRACE_YES : TRACE_NO;
	t->random = flags & 2;
	return true;
}

static bool is_key_byte(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
	       c == '*' || c == '/' || c == '@';
}

static bool is_member(const char *s, size_t n)
{
	size_t k = 0, len;

	while (k < n && is_key_byte(s[k]))
		k++;
	if (!k || k > STATE_PART || k == n || s[k] != '=' || *s == '_' || *s == '-' || *s == '*' ||
	    *s == '/' || *s == '@')
		return false;
	len = n - ++k;
	for (; k < n; k++)
		if (s[k] < ' ' || s[k] > '~' || s[k] == '=')
			return false;
	return len && len <= STATE_PART;
}

static bool is_space(char c)
{
	return c == ' ' || c == '\t';
}

/* Members may be empty, which says nothing, and have white space around them. */
static bool read_members(const char *s, size_t n, uint32_t *members)
{
	const char *end = s + n, *stop;

	for (;; s = stop + 1) {
		const char *last;

		stop = memchr(s, ',', (size_t)(end - s));
		last = stop ? stop : end;
		while (s < last && is_space(*s))
			s++;
		while (last > s && is_space(last[-1]))
			last--;
		if (last > s && (!is_member(s, (size_t)(last - s)) || ++*members > STATE_MEMBERS))
			return false;
		if (!stop)
			return true;
	}
}

/* Is there one, of one or more lines, that may be passed on? */
static bool read_tracestate(const struct http1_head *h, const char *head)
{
	uint32_t members = 0, i = h->index[HTTP1_H_TRACESTATE];

	for (; i && i <= h->nheaders; i++) {
		const struct http1_header *f = &h->headers[i - 1];

		if (f->id == HTTP1_H_TRACESTATE &&
		    (f->value.len > TRACE_STATE_MAX ||
		     !read_members(head + f->value.at, f->value.len, &members)))
			return false;
	}
	return members;
}

/* --- B3 ------------------------------------------------------------------------------------------
 */

static void decide(struct trace *t, enum trace_decision d)
{
	if (t->decision == TRACE_UNDECIDED)
		t->decision = (uint8_t)d;
}

/* Of 16 or 32 digits and 16 digits. */
static bool read_b3_ids(struct claim *c, const char *id, uint32_t len, const char *span,
			uint32_t span_len)
{
	uint8_t parent[8];

	if ((len != 32 && len != 16) || span_len != 16)
		return false;
	memset(c->id, 0, sizeof(c->id));
	c->text = id;
	c->len = len;
	c->parent = span;
	c->parent_len = span_len;
	return trace_unhex(c->id + 16 - len / 2, id, len / 2, false) && !is_zero(c->id, 16) &&
	       trace_unhex(parent, span, 8, false) && !is_zero(parent, 8);
}

static bool read_b3_state(struct trace *t, char c)
{
	switch (c) {
	case 'd':
		t->debug = true;
		decide(t, TRACE_YES);
		return true;
	case '1':
		decide(t, TRACE_YES);
		return true;
	case '0':
		decide(t, TRACE_NO);
		return true;
	default:
		return false;
	}
}

/* ID-SPAN, ID-SPAN-STATE, ID-SPAN-STATE-PARENT, or the state alone. */
static bool read_b3(struct trace *t, const struct said *s, struct claim *c)
{
	uint32_t len, id = 32;
	const char *v = value(s, HTTP1_H_B3, &len);
	uint8_t parent[8];

	if (len == 1 && read_b3_state(t, *v))
		t->forms |= TRACE_B3;
	if (len < 33)
		return false;
	if (v[16] == '-')
		id = 16;
	v += id;
	len -= id;
	if (*v != '-' || (len != 17 && len != 19 && len != 36))
		return false;
	if (len > 17 && (v[17] != '-' || !memchr("01d", v[18], 3)))
		return false;
	if (len > 19 && (v[19] != '-' || !trace_unhex(parent, v + 20, 8, false)))
		return false;
	if (!read_b3_ids(c, v - id, id, v + 1, 16))
		return false;
	if (len > 17)
		read_b3_state(t, v[18]);
	t->forms |= TRACE_B3;
	return true;
}

static bool is(const char *s, uint32_t len, const char *word)
{
	return len == strlen(word) && !memcmp(s, word, len);
}

static bool read_b3_multi(struct trace *t, const struct said *s, struct claim *c)
{
	uint32_t len, span_len;
	const char *v = value(s, HTTP1_H_X_B3_FLAGS, &len), *span;

	if (is(v, len, "1") && read_b3_state(t, 'd'))
		t->forms |= TRACE_B3_MULTI;
	v = value(s, HTTP1_H_X_B3_SAMPLED, &len);
	if (is(v, len, "1") || is(v, len, "true") || is(v, len, "0") || is(v, len, "false")) {
		decide(t, *v == '1' || *v == 't' ? TRACE_YES : TRACE_NO);
		t->forms |= TRACE_B3_MULTI;
	}
	v = value(s, HTTP1_H_X_B3_TRACEID, &len);
	span = value(s, HTTP1_H_X_B3_SPANID, &span_len);
	if (!read_b3_ids(c, v, len, span, span_len))
		return false;
	t->forms |= TRACE_B3_MULTI;
	return true;
}

/* --- x-trace-id ----------------------------------------------------------------------------------
 */

static bool read_plain(const struct said *s, struct claim *c)
{
	c->text = value(s, HTTP1_H_X_TRACE_ID, &c->len);
	if (!trace_id_usable(c->text, c->len))
		return false;
	trace_id_bytes(c->text, c->len, c->id);
	c->parent = value(s, HTTP1_H_X_SPAN_ID, &c->parent_len);
	if (!trace_id_usable(c->parent, c->parent_len))
		c->parent_len = 0;
	return true;
}

/* --- together ------------------------------------------------------------------------------------
 */

/* The caller's own way to write it, unless that is ours. */
static void take_text(struct trace *t, const struct claim *c)
{
	t->text_len = 0;
	if (c->len == sizeof(t->hex) && !memcmp(c->text, t->hex, sizeof(t->hex)))
		return;
	memcpy(t->text, c->text, c->len);
	t->text_len = (uint8_t)c->len;
}

static void take_parent(struct trace *t, const struct claim *c)
{
	uint8_t id[8];

	t->parent_is_hex = c->parent_len == 16 && trace_unhex(id, c->parent, 8, false);
	if (!c->parent_len || (t->parent_is_hex && is_zero(id, sizeof(id)))) { /* nobody's */
		t->parent_is_hex = false;
		return;
	}
	if (t->parent_is_hex)
		memcpy(t->parent, id, sizeof(id));
	if (t->parent_is_hex)
		trace_hex(t->parent_text, id, sizeof(id));
	else
		memcpy(t->parent_text, c->parent, c->parent_len);
	t->parent_len = (uint8_t)c->parent_len;
}

static void take_alias(struct trace *t, const struct claim *c)
{
	if (t->alias_len)
		t->alias[t->alias_len++] = ',';
	memcpy(t->alias + t->alias_len, c->text, c->len);
	t->alias_len += (uint8_t)c->len;
}

/* Ids of the forms that were read so far, the one that decides first. */
struct seen {
	uint8_t id[4][16];
	uint32_t n;
};

static void take(struct trace *t, struct seen *seen, const struct claim *c, bool plain)
{
	uint32_t k = 0;

	while (k < seen->n && memcmp(seen->id[k], c->id, sizeof(c->id)))
		k++;
	if (!seen->n) {
		memcpy(t->id, c->id, sizeof(t->id));
		trace_hex(t->hex, t->id, sizeof(t->id));
		take_parent(t, c);
	}
	if (!k && (plain || !seen->n))
		take_text(t, c);
	if (!k && !plain && c->len == 16)
		t->short_b3 = true;
	if (k < seen->n)
		return;
	if (k)
		take_alias(t, c);
	memcpy(seen->id[seen->n++], c->id, sizeof(c->id));
}

void trace_read(struct trace *t, const struct http1_head *h, const char *head)
{
	struct seen seen = {.n = 0};
	struct claim c;
	struct said s;

	memset(t, 0, offsetof(struct trace, hex));
	if (!head || !says_anything(h))
		return;
	collect(&s, h, head);
	if (read_traceparent(t, &s, &c)) {
		take(t, &seen, &c, false);
		t->state = read_tracestate(h, head);
	}
	if (read_b3(t, &s, &c))
		take(t, &seen, &c, false);
	if (read_b3_multi(t, &s, &c))
		take(t, &seen, &c, false);
	if (read_plain(&s, &c))
		take(t, &seen, &c, true);
	t->named = seen.n;
}
