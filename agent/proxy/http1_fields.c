/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the fields of a head mean together: Connection and what it names, message framing (RFC
 * 9112 6.3), Expect, Host. Called by http1_head.c when the empty line was seen. Must decide framing
 * in one way only: whatever two recipients could read differently is refused.
 */
#include "agent/proxy/http1_internal.h"

#include <string.h>

#define MAX_OPTIONS                                                                                \
	32 /* elements in all Connection fields; each is looked for among all headers              \
	    */

struct list {
	const char *at, *end;
};

/* The next element of a comma-separated list (RFC 9110 5.6.1); it may be empty. False at the end.
 */
static bool list_next(struct list *l, const char **item, size_t *n)
{
	const char *start = l->at;
	const char *stop;

	if (!start)
		return false;
	stop = memchr(start, ',', (size_t)(l->end - start));
	l->at = stop ? stop + 1 : NULL;
	if (!stop)
		stop = l->end;
	while (start < stop && http1_is_space(*start))
		start++;
	while (stop > start && http1_is_space(stop[-1]))
		stop--;
	*item = start;
	*n = (size_t)(stop - start);
	return true;
}

static struct list list_of(const char *data, struct http1_slice value)
{
	return (struct list){data + value.at, data + value.at + value.len};
}

static bool is_word(const char *s, size_t n, const char *lower)
{
	return n == strlen(lower) && http1_same(s, lower, n);
}

static bool is_token(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!http1_is(s[i], HTTP1_C_TOKEN))
			return false;
	return n > 0;
}

/* A field that only the receiver of this message may need, so a sender may name it in Connection.
 */
static bool may_be_named(uint8_t id)
{
	return id <= HTTP1_H_LAST_HOP && id != HTTP1_H_TRANSFER_ENCODING;
}

static void mark_hop(struct http1_head *h, const char *data, const char *name, size_t n)
{
	for (size_t i = 0; i < h->nheaders; i++) {
		struct http1_header *header = &h->headers[i];
		const char *s = data + header->name.at;
		size_t k = 0;

		if (header->id != HTTP1_H_OTHER || header->name.len != n)
			continue;
		while (k < n && http1_lower(s[k]) == http1_lower(name[k]))
			k++;
		if (k == n)
			header->hop = true;
	}
}

struct options {
	bool close, keep_alive, upgrade;
	bool end_to_end; /* names a field that must not be removed */
	unsigned int n;
};

static void take_option(struct http1_head *h, const char *data, struct options *o, const char *s,
			size_t n)
{
	uint8_t id;

	if (is_word(s, n, "close")) {
		o->close = true;
		return;
	}
	id = http1_header_id(s, n);
	if (id == HTTP1_H_OTHER)
		mark_hop(h, data, s, n);
	else if (id == HTTP1_H_KEEP_ALIVE)
		o->keep_alive = true;
	else if (id == HTTP1_H_UPGRADE)
		o->upgrade = true;
	else if (!may_be_named(id))
		o->end_to_end = true;
}

static enum http1_result take_connection(struct http1_head *h, const char *data, struct options *o,
					 struct http1_slice value)
{
	struct list l = list_of(data, value);
	const char *s;
	size_t n;

	while (list_next(&l, &s, &n)) {
		if (++o->n > MAX_OPTIONS)
			return http1_bad(h, 400, "too many options in Connection");
		if (!n)
			continue;
		if (!is_token(s, n))
			return http1_bad(h, 400, "an option in Connection is not a token");
		take_option(h, data, o, s, n);
	}
	return HTTP1_DONE;
}

static enum http1_result judge_connection(struct http1_head *h, const char *data, bool request)
{
	struct options o = {0};
	size_t i = h->index[HTTP1_H_CONNECTION];

	for (; i && i <= h->nheaders; i++) {
		const struct http1_header *header = &h->headers[i - 1];

		if (header->id == HTTP1_H_CONNECTION &&
		    take_connection(h, data, &o, header->value) == HTTP1_BAD)
			return HTTP1_BAD;
	}
	if (o.end_to_end && request)
		return http1_bad(h, 400, "Connection names a header that must reach the other end");
	h->keep_alive = !o.close && (h->minor == 1 || o.keep_alive);
	/* RFC 9110 7.8: Upgrade in HTTP/1.0 is ignored. */
	h->upgrade = o.upgrade && h->index[HTTP1_H_UPGRADE] && h->minor == 1;
	return HTTP1_DONE;
}

/* The largest one fits off_t and int64_t, the types that servers read it into. */
static bool parse_length(const char *s, size_t n, uint64_t *out)
{
	uint64_t value = 0;

	for (size_t i = 0; i < n; i++) {
		unsigned int digit = (unsigned int)(uint8_t)s[i] - '0';

		if (digit > 9 || value > ((uint64_t)INT64_MAX - digit) / 10)
			return false;
		value = value * 10 + digit;
	}
	*out = value;
	return n > 0;
}

/* DONE: h->framing is by Transfer-Encoding or Content-Length, or HTTP1_NO_BODY for neither. */
static enum http1_result judge_framing(struct http1_head *h, const char *data)
{
	uint8_t length = h->index[HTTP1_H_CONTENT_LENGTH];
	uint8_t coding = h->index[HTTP1_H_TRANSFER_ENCODING];
	struct http1_slice value;

	if (length && coding)
		return http1_bad(h, 400, "both Content-Length and Transfer-Encoding");
	if (coding) {
		value = h->headers[coding - 1].value;
		if (h->minor == 0)
			return http1_bad(h, 400, "Transfer-Encoding in HTTP/1.0");
		if (!is_word(data + value.at, value.len, "chunked"))
			return http1_bad(h, 501, "a Transfer-Encoding other than chunked");
		h->framing = HTTP1_CHUNKED;
	} else if (length) {
		value = h->headers[length - 1].value;
		if (!parse_length(data + value.at, value.len, &h->content_length))
			return http1_bad(h, 400, "Content-Length is not a number of bytes");
		h->framing = HTTP1_LENGTH;
	}
	return HTTP1_DONE;
}

static enum http1_result judge_host(struct http1_head *h, const char *data)
{
	uint8_t i = h->index[HTTP1_H_HOST];
	struct http1_slice host;

	if (!i)
		return h->minor == 0 ? HTTP1_DONE : http1_bad(h, 400, "no Host");
	host = h->headers[i - 1].value;
	if (!http1_host_valid(data + host.at, host.len))
		return http1_bad(h, 400, "invalid Host");
	if (!h->host.len) /* absolute-form has set it */
		h->host = host;
	return HTTP1_DONE;
}

static enum http1_result judge_expect(struct http1_head *h, const char *data)
{
	size_t i = h->index[HTTP1_H_EXPECT];

	for (; i && i <= h->nheaders; i++) {
		const struct http1_header *header = &h->headers[i - 1];

		if (header->id != HTTP1_H_EXPECT)
			continue;
		if (!is_word(data + header->value.at, header->value.len, "100-continue"))
			return http1_bad(h, 417, "an Expect other than 100-continue");
		/* RFC 9110 10.1.1: ignored in HTTP/1.0. */
		h->expect_continue = h->minor == 1;
	}
	return HTTP1_DONE;
}

static void take_te(struct http1_head *h, const char *data)
{
	size_t i = h->index[HTTP1_H_TE];

	for (; i && i <= h->nheaders; i++) {
		struct list l = list_of(data, h->headers[i - 1].value);
		const char *s;
		size_t n;

		if (h->headers[i - 1].id != HTTP1_H_TE)
			continue;
		while (list_next(&l, &s, &n))
			if (is_word(s, n, "trailers"))
				h->te_trailers = true;
	}
}

enum http1_result http1_judge_request(struct http1_head *h, const char *data)
{
	enum http1_result r = judge_host(h, data);

	if (r == HTTP1_DONE)
		r = judge_framing(h, data);
	if (r == HTTP1_DONE)
		r = judge_connection(h, data, true);
	if (r == HTTP1_DONE)
		r = judge_expect(h, data);
	if (r == HTTP1_DONE)
		take_te(h, data);
	return r;
}

enum http1_result http1_judge_response(struct http1_head *h, const char *data, uint8_t method)
{
	enum http1_result r = judge_framing(h, data);

	if (r == HTTP1_DONE)
		r = judge_connection(h, data, false);
	if (r != HTTP1_DONE)
		return r;
	if (method == HTTP1_HEAD || h->status < 200 || h->status == 204 || h->status == 304) {
		h->framing = HTTP1_NO_BODY;
	} else if (h->framing == HTTP1_NO_BODY) {
		h->framing = HTTP1_UNTIL_CLOSE;
		h->keep_alive = false;
	}
	return HTTP1_DONE;
}
