/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the HTTP/1 parser share: byte classes, the scan for the end of a line, and who
 * does what. Nobody else includes it. A function here that judges returns HTTP1_DONE to go on, or
 * what http1_bad returned.
 *
 * A head is parsed line by line, and a line is judged only when it is whole; that alone makes the
 * result independent of how the bytes arrived. Three numbers survive between calls:
 *
 *      0            h->line          h->scanned      len
 *      |  judged     |  no end of     |  not yet      |
 *      |  lines      |  line in here  |  looked at    |
 *
 * http1_head.c    cuts lines, reads the start line and the fields       h->stage: START -> FIELDS
 * http1_target.c  request target -> path and host
 * http1_fields.c  when all fields are there: Connection, framing, Expect, Host
 * http1_names.c   field name -> enum http1_header_id
 */
#ifndef PROXY_HTTP1_INTERNAL_H
#define PROXY_HTTP1_INTERNAL_H

#include "agent/proxy/http1.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

enum http1_stage {
	HTTP1_STAGE_START, /* waiting for the request or status line */
	HTTP1_STAGE_FIELDS,
};

enum {
	HTTP1_C_TOKEN = 1,   /* RFC 9110 5.6.2 tchar */
	HTTP1_C_TARGET = 2,  /* visible ASCII without '#' */
	HTTP1_C_REGNAME = 4, /* RFC 3986 reg-name, without '%' */
	HTTP1_C_HEX = 8,
	HTTP1_C_CONTROL = 16, /* must not be in a line: C0 without tab, DEL */
	HTTP1_C_UPPER = 32,   /* A-Z */
};
extern const uint8_t http1_class[256];

static inline bool http1_is(char c, uint8_t classes)
{
	return http1_class[(uint8_t)c] & classes;
}

static inline bool http1_is_space(char c)
{
	return c == ' ' || c == '\t';
}

static inline char http1_lower(char c)
{
	return http1_is(c, HTTP1_C_UPPER) ? (char)(c | 0x20) : c;
}

/* `lower` has no upper-case letters. */
static inline bool http1_same(const char *s, const char *lower, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (http1_lower(s[i]) != lower[i])
			return false;
	return true;
}

static inline struct http1_slice http1_slice(size_t from, size_t to)
{
	return (struct http1_slice){.at = (uint32_t)from, .len = (uint32_t)(to - from)};
}

static inline enum http1_result http1_bad(struct http1_head *h, uint16_t status, const char *reason)
{
	h->status = status;
	h->reason = reason;
	return HTTP1_BAD;
}

#ifdef __SSE2__
/* How many of the 16 bytes at data are letters or '-', which is what most field names are made of.
 */
static inline size_t http1_count_plain(const char *data)
{
	__m128i v = _mm_loadu_si128((const __m128i *)data);
	__m128i letter = _mm_sub_epi8(_mm_or_si128(v, _mm_set1_epi8(0x20)), _mm_set1_epi8('a'));
	__m128i plain =
		_mm_or_si128(_mm_cmpeq_epi8(_mm_min_epu8(letter, _mm_set1_epi8(25)), letter),
			     _mm_cmpeq_epi8(v, _mm_set1_epi8('-')));

	return (size_t)__builtin_ctz(~(unsigned int)_mm_movemask_epi8(plain));
}

/* Bit i: data[i] is of HTTP1_C_CONTROL. Reads 16 bytes. */
static inline unsigned int http1_control_mask(const char *data)
{
	__m128i v = _mm_loadu_si128((const __m128i *)data);
	__m128i c0 = _mm_cmpeq_epi8(_mm_min_epu8(v, _mm_set1_epi8(0x1f)), v);
	__m128i tab = _mm_cmpeq_epi8(v, _mm_set1_epi8('\t'));
	__m128i del = _mm_cmpeq_epi8(v, _mm_set1_epi8(0x7f));

	return (unsigned int)_mm_movemask_epi8(_mm_or_si128(_mm_andnot_si128(tab, c0), del));
}
#endif

/* Where in data[at..end) the first HTTP1_C_CONTROL byte is; end when there is none. Looks at
 * data[0..end) only. */
static inline size_t http1_find_control(const char *data, size_t at, size_t end)
{
#ifdef __SSE2__
	unsigned int mask;

	for (; at + 16 <= end; at += 16) {
		mask = http1_control_mask(data + at);
		if (mask)
			return at + (size_t)__builtin_ctz(mask);
	}
	if (at < end && end >= 16) { /* the tail, loaded together with bytes before it */
		mask = http1_control_mask(data + end - 16) >> (16 - (end - at));
		return mask ? at + (size_t)__builtin_ctz(mask) : end;
	}
#endif
	while (at < end && !http1_is(data[at], HTTP1_C_CONTROL))
		at++;
	return at;
}

/* Where the token at data[at] ends; data[end] is there and is no token byte. */
static inline size_t http1_token_end(const char *data, size_t at, size_t end)
{
#ifdef __SSE2__
	if (end - at >= 16)
		at += http1_count_plain(data + at);
#endif
	while (http1_is(data[at], HTTP1_C_TOKEN))
		at++;
	return at;
}

/* The id of a field name, in any case. `name` is a token of n > 0 bytes. */
uint8_t http1_header_id(const char *name, size_t n);
/* The name that an id belongs to, in lower case; NULL for HTTP1_H_OTHER. */
const char *http1_header_name(uint8_t id);

/* h->target -> h->path, h->host. Needs h->method; the target's bytes are of HTTP1_C_TARGET. */
enum http1_result http1_judge_target(struct http1_head *h, const char *data);
/* RFC 3986 host [":" port]; n may be 0. */
bool http1_host_valid(const char *host, size_t n);

/* All lines are there: what the fields mean together. */
enum http1_result http1_judge_request(struct http1_head *h, const char *data);
enum http1_result http1_judge_response(struct http1_head *h, const char *data, uint8_t method);

#endif
