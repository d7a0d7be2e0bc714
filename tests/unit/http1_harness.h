/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For the tests of the HTTP/1 parser: inputs between two PROT_NONE pages, parsing in given
 * portions, and the outcome of a head as one line of text, so that a table row is: description,
 * bytes, outcome.
 */
#ifndef TESTS_HTTP1_HARNESS_H
#define TESTS_HTTP1_HARNESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#include "agent/proxy/http1.h"
#include "tests/fuzz/http1_property.h"

#define HARNESS_MAX  131072 /* longest input */
#define HARNESS_HEAD 65536  /* `max` of heads */

struct http1_case {
	const char *what;
	const char *bytes;
	size_t n;
	const char *outcome;
	uint8_t method; /* responses: of their request */
};
#define CASE(what, bytes, outcome, ...)                                                            \
	{                                                                                          \
		what, bytes, sizeof(bytes) - 1, outcome, ##__VA_ARGS__                             \
	}

static char *guarded_pages(void)
{
	static char *pages;
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	if (!pages) {
		pages = mmap(NULL, HARNESS_MAX + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS,
			     -1, 0);
		assert_ptr_not_equal(pages, MAP_FAILED);
		pages += page;
		assert_int_equal(mprotect(pages, HARNESS_MAX, PROT_READ | PROT_WRITE), 0);
	}
	return pages;
}

/* A copy of the bytes that ends (or begins) where access ends. Valid until the next call. */
static inline const char *guarded(const char *data, size_t n, bool at_end)
{
	char *copy = guarded_pages() + (at_end ? HARNESS_MAX - n : 0);

	assert_true(n <= HARNESS_MAX);
	memcpy(copy, data, n);
	return copy;
}

/* method HARNESS_REQUEST: parse a request. */
#define HARNESS_REQUEST 0xff

static inline enum http1_result head_parse(struct http1_head *h, const char *data, size_t n,
					   size_t max, uint8_t method)
{
	if (method == HARNESS_REQUEST)
		return http1_request_parse(h, data, n, max);
	return http1_response_parse(h, data, n, max, method);
}

static inline void put(char *out, size_t size, const char *format, ...)
{
	size_t at = strlen(out);
	va_list args;

	va_start(args, format);
	vsnprintf(out + at, size - at, format, args);
	va_end(args);
}

static inline const char *framing_text(const struct http1_head *h)
{
	static char text[40];

	switch (h->framing) {
	case HTTP1_LENGTH:
		snprintf(text, sizeof(text), "length=%llu", (unsigned long long)h->content_length);
		return text;
	case HTTP1_CHUNKED:
		return "chunked";
	case HTTP1_UNTIL_CLOSE:
		return "until-close";
	default:
		return "no-body";
	}
}

/*
 * "GET /path @host 1.1 no-body keep expect upgrade trailers -Name" (-Name: a hop-by-hop header),
 * "200 1.1 length=5 keep", "400 reason" or "more".
 */
static inline const char *head_outcome(const struct http1_head *h, enum http1_result r,
				       const char *data, bool request)
{
	static char out[16384];

	out[0] = '\0';
	if (r != HTTP1_DONE) {
		put(out, sizeof(out), r == HTTP1_MORE ? "more" : "%u %s", h->status, h->reason);
		return out;
	}
	if (request)
		put(out, sizeof(out), "%.*s %.*s @%.*s", (int)h->method_name.len,
		    data + h->method_name.at, (int)h->path.len, data + h->path.at, (int)h->host.len,
		    data + h->host.at);
	else
		put(out, sizeof(out), "%u", h->status);
	put(out, sizeof(out), " 1.%u %s%s%s%s%s", h->minor, framing_text(h),
	    h->keep_alive ? " keep" : "", h->expect_continue ? " expect" : "",
	    h->upgrade ? " upgrade" : "", h->te_trailers ? " trailers" : "");
	for (unsigned int i = 0; i < h->nheaders; i++)
		if (h->headers[i].hop)
			put(out, sizeof(out), " -%.*s", (int)h->headers[i].name.len,
			    data + h->headers[i].name.at);
	return out;
}

/* Parses first data[0..split), then all of it, each against the guard page. */
static inline enum http1_result head_parse_split(struct http1_head *h, const char *data, size_t n,
						 size_t split, size_t max, uint8_t method)
{
	enum http1_result r;

	http1_head_init(h);
	r = head_parse(h, guarded(data, split, split & 1), split, max, method);
	if (r != HTTP1_MORE)
		return r;
	return head_parse(h, guarded(data, n, true), n, max, method);
}

static inline enum http1_result head_parse_bytewise(struct http1_head *h, const char *data,
						    size_t n, size_t max, uint8_t method)
{
	enum http1_result r = HTTP1_MORE;

	http1_head_init(h);
	for (size_t i = 1; i <= n && r == HTTP1_MORE; i++)
		r = head_parse(h, guarded(data, i, true), i, max, method);
	return r;
}

/* The whole, every split point and byte by byte must have the given outcome. */
static inline void check_head(const struct http1_case *c, size_t max, bool request)
{
	static struct http1_head whole, split;
	uint8_t method = request ? HARNESS_REQUEST : c->method;
	const char *data = guarded(c->bytes, c->n, true);
	enum http1_result r;

	http1_head_init(&whole);
	r = head_parse(&whole, data, c->n, max, method);
	if (strcmp(head_outcome(&whole, r, data, request), c->outcome) != 0)
		fail_msg("%s: got \"%s\", want \"%s\"", c->what,
			 head_outcome(&whole, r, data, request), c->outcome);
	for (size_t i = 0; i <= c->n; i++)
		if (head_parse_split(&split, c->bytes, c->n, i, max, method) != r ||
		    !head_same(&whole, &split, r))
			fail_msg("%s: another outcome when split at %zu", c->what, i);
	if (head_parse_bytewise(&split, c->bytes, c->n, max, method) != r ||
	    !head_same(&whole, &split, r))
		fail_msg("%s: another outcome byte by byte", c->what);
	if (r == HTTP1_DONE) {
		http1_head_init(&split);
		assert_int_equal(head_parse(&split, guarded(c->bytes, whole.size - 1, true),
					    whole.size - 1, max, method),
				 HTTP1_MORE);
	}
}

#endif
