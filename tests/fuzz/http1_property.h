/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What must hold for any bytes whatsoever given to the HTTP/1 parser: the outcome does not depend
 * on how they are split, nothing outside them is read (each portion is a heap block of its own, for
 * ASan), and slices lie within the head. Used by the fuzzer and by tests/unit/test_http1_random.c.
 * A property returns NULL or what does not hold.
 */
#ifndef TESTS_HTTP1_PROPERTY_H
#define TESTS_HTTP1_PROPERTY_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/proxy/http1.h"

#define PROPERTY_MAX_HEAD 16384

/* xorshift64*; *state is never 0 */
static inline uint64_t random_next(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1dULL;
}

/* 0 .. n-1; 0 for n = 0 */
static inline size_t random_below(uint64_t *state, size_t n)
{
	return n ? (size_t)((random_next(state) >> 33) % n) : 0;
}

static inline char *portion(const char *data, size_t n)
{
	char *copy = malloc(n ? n : 1);

	if (!copy)
		abort();
	memcpy(copy, data, n);
	return copy;
}

static inline enum http1_result property_parse(struct http1_head *h, const char *data, size_t n,
					       bool request, uint8_t method)
{
	char *copy = portion(data, n);
	enum http1_result r = request ? http1_request_parse(h, copy, n, PROPERTY_MAX_HEAD)
				      : http1_response_parse(h, copy, n, PROPERTY_MAX_HEAD, method);

	free(copy);
	return r;
}

static inline bool slice_same(struct http1_slice a, struct http1_slice b)
{
	return a.at == b.at && a.len == b.len;
}

static inline bool header_same(const struct http1_header *a, const struct http1_header *b)
{
	return slice_same(a->name, b->name) && slice_same(a->value, b->value) && a->id == b->id &&
	       a->hop == b->hop;
}

/* Everything that callers may look at after r. */
static inline bool head_same(const struct http1_head *a, const struct http1_head *b,
			     enum http1_result r)
{
	if (r == HTTP1_MORE)
		return true;
	if (r == HTTP1_BAD)
		return a->status == b->status && a->reason == b->reason;
	if (a->nheaders != b->nheaders)
		return false;
	for (unsigned int i = 0; i < a->nheaders; i++)
		if (!header_same(&a->headers[i], &b->headers[i]))
			return false;
	return a->size == b->size && a->minor == b->minor && a->method == b->method &&
	       a->framing == b->framing && a->keep_alive == b->keep_alive &&
	       a->expect_continue == b->expect_continue && a->upgrade == b->upgrade &&
	       a->te_trailers == b->te_trailers && a->status == b->status &&
	       a->content_length == b->content_length &&
	       slice_same(a->method_name, b->method_name) && slice_same(a->target, b->target) &&
	       slice_same(a->path, b->path) && slice_same(a->host, b->host) &&
	       slice_same(a->phrase, b->phrase) && !memcmp(a->index, b->index, sizeof(a->index));
}

static inline bool slice_within(struct http1_slice s, size_t n)
{
	return s.at <= n && s.len <= n - s.at;
}

static inline const char *head_well_formed(const struct http1_head *h, size_t n, bool request)
{
	if (h->size == 0 || h->size > n || h->size > PROPERTY_MAX_HEAD)
		return "the size is not within the data";
	if (!slice_within(h->method_name, h->size) || !slice_within(h->target, h->size) ||
	    !slice_within(h->path, h->size) || !slice_within(h->host, h->size) ||
	    !slice_within(h->phrase, h->size))
		return "a slice is not within the head";
	if (request && (!h->path.len || !h->method_name.len || h->framing == HTTP1_UNTIL_CLOSE))
		return "a request without path, method or end";
	for (unsigned int i = 0; i < h->nheaders; i++)
		if (!h->headers[i].name.len || !slice_within(h->headers[i].name, h->size) ||
		    !slice_within(h->headers[i].value, h->size))
			return "a header is not within the head";
	return NULL;
}

static inline const char *head_property(const char *data, size_t n, bool request, uint64_t *random)
{
	static struct http1_head whole, parts;
	uint8_t method = (uint8_t)random_below(random, HTTP1_CONNECT);
	enum http1_result want, r = HTTP1_MORE;
	const char *wrong;
	size_t at = 0;

	http1_head_init(&whole);
	want = property_parse(&whole, data, n, request, method);
	if (want == HTTP1_MORE && n >= PROPERTY_MAX_HEAD)
		return "a head beyond its limit is not refused";
	if (want == HTTP1_BAD && (whole.status < 400 || whole.status > 505 || !whole.reason))
		return "refused without status or reason";
	if (want == HTTP1_DONE && (wrong = head_well_formed(&whole, n, request)))
		return wrong;
	http1_head_init(&parts);
	while (r == HTTP1_MORE && at < n) {
		at += 1 + random_below(random, random_below(random, 4) ? 8 : n - at);
		at = at < n ? at : n;
		r = property_parse(&parts, data, at, request, method);
	}
	if (r != want || !head_same(&whole, &parts, r))
		return "another outcome when split";
	if (want != HTTP1_DONE)
		return NULL;
	http1_head_init(&parts);
	if (property_parse(&parts, data, whole.size, request, method) != want ||
	    !head_same(&whole, &parts, want))
		return "the outcome depends on what follows the head";
	http1_head_init(&parts);
	if (property_parse(&parts, data, whole.size - 1, request, method) != HTTP1_MORE)
		return "not MORE one byte before the end";
	return NULL;
}

static inline enum http1_result feed_portion(struct http1_chunked *c, const char *data, size_t n,
					     size_t *used)
{
	char *copy = portion(data, n);
	enum http1_result r = http1_chunked_feed(c, copy, n, used);

	free(copy);
	return r;
}

static inline const char *chunked_property(const char *data, size_t n, uint64_t *random)
{
	struct http1_chunked whole, parts;
	enum http1_result want, r = HTTP1_MORE;
	size_t want_used, used, at = 0;

	http1_chunked_init(&whole);
	want = feed_portion(&whole, data, n, &want_used);
	if (want_used > n || (want == HTTP1_MORE && want_used != n) ||
	    (want == HTTP1_BAD && want_used == n))
		return "used is wrong";
	if (whole.data > want_used)
		return "more data than bytes";
	http1_chunked_init(&parts);
	while (r == HTTP1_MORE && at < n) {
		size_t len = 1 + random_below(random, random_below(random, 4) ? 8 : n - at);

		r = feed_portion(&parts, data + at, len < n - at ? len : n - at, &used);
		at += used;
	}
	if (r != want || at != want_used || whole.data != parts.data)
		return "another outcome when split";
	return NULL;
}

/* An answer holds for every longer input. */
static inline const char *sniff_property(const char *data, size_t n)
{
	enum http1_result before = HTTP1_MORE;

	for (size_t i = 0; i <= n && i < 64; i++) {
		char *copy = portion(data, i);
		enum http1_result r = http1_sniff(copy, i);

		free(copy);
		if (before != HTTP1_MORE && r != before)
			return "the answer changes with more bytes";
		before = r;
	}
	return NULL;
}

static inline const char *http1_property(const char *data, size_t n, uint64_t seed)
{
	uint64_t random = seed | 1;
	const char *wrong = head_property(data, n, true, &random);

	if (!wrong)
		wrong = head_property(data, n, false, &random);
	if (!wrong)
		wrong = chunked_property(data, n, &random);
	return wrong ? wrong : sniff_property(data, n);
}

#endif
