/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small HTTP/1.1 reader for test tools: heads and bodies, of requests and of answers. On purpose
 * not the product's parser: a test must not believe what it tests. Strict, incremental, keeps
 * pointers into the caller's buffer.
 */
#ifndef TESTS_BENCH_H1_H
#define TESTS_BENCH_H1_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/types.h>

#define H1_HEADERS     96
#define H1_TRAILER_MAX 512

struct h1_slice {
	const char *p;
	size_t n;
};

struct h1_head {
	struct h1_slice first; /* request line or status line, without CRLF */
	size_t n;
	struct {
		struct h1_slice name, value;
	} h[H1_HEADERS];
};

/* Parses a head at p. Its size with the empty line; 0 when more bytes are needed; -1 when this is
 * no head (bare LF, no colon, folded line, more than H1_HEADERS). */
static inline ssize_t h1_head_parse(const char *p, size_t len, struct h1_head *h)
{
	const char *end = memmem(p, len, "\r\n\r\n", 4), *line = p;

	if (!end)
		return 0;
	h->n = 0;
	for (bool first = true; line < end + 2; first = false) {
		const char *nl = memchr(line, '\n', (size_t)(end + 2 - line));
		const char *colon;

		if (!nl || nl == line || nl[-1] != '\r')
			return -1;
		if (first) {
			h->first = (struct h1_slice){line, (size_t)(nl - 1 - line)};
			line = nl + 1;
			continue;
		}
		colon = memchr(line, ':', (size_t)(nl - 1 - line));
		if (!colon || colon == line || *line == ' ' || *line == '\t' || h->n == H1_HEADERS)
			return -1;
		h->h[h->n].name = (struct h1_slice){line, (size_t)(colon - line)};
		for (colon++; *colon == ' ' || *colon == '\t'; colon++)
			;
		h->h[h->n++].value = (struct h1_slice){colon, (size_t)(nl - 1 - colon)};
		line = nl + 1;
	}
	return end + 4 - p;
}

/* The first header of that name, NULL when there is none. */
static inline const struct h1_slice *h1_find(const struct h1_head *h, const char *name)
{
	size_t n = strlen(name);

	for (size_t i = 0; i < h->n; i++)
		if (h->h[i].name.n == n && !strncasecmp(h->h[i].name.p, name, n))
			return &h->h[i].value;
	return NULL;
}

/* Is the header there with this value (or, with value NULL, with any)? Case is ignored. */
static inline bool h1_has(const struct h1_head *h, const char *name, const char *value)
{
	const struct h1_slice *v = h1_find(h, name);

	return v && (!value || (v->n == strlen(value) && !strncasecmp(v->p, value, v->n)));
}

/* Status of an answer's head, -1 when the first line is not a status line. */
static inline int h1_status(const struct h1_head *h)
{
	if (h->first.n < 12 || strncmp(h->first.p, "HTTP/1.", 7) || h->first.p[8] != ' ')
		return -1;
	return atoi(h->first.p + 9);
}

enum h1_kind { H1_NONE, H1_LENGTH, H1_CHUNKED, H1_UNTIL_CLOSE };
enum h1_chunk { H1_SIZE, H1_EXT, H1_SIZE_LF, H1_DATA, H1_DATA_CR, H1_DATA_LF, H1_TRAILER };

struct h1_body {
	enum h1_kind kind;
	enum h1_chunk state;
	uint64_t left; /* of the body, or of this chunk */
	unsigned digits;
	bool done;
	char trailer[H1_TRAILER_MAX]; /* the trailer lines as they came, NUL-terminated */
	size_t trailer_len;
};

static inline void h1_body_start(struct h1_body *b, enum h1_kind kind, uint64_t length)
{
	b->kind = kind;
	b->state = H1_SIZE;
	b->left = kind == H1_LENGTH ? length : 0;
	b->digits = 0;
	b->done = kind == H1_NONE || (kind == H1_LENGTH && !length);
	b->trailer_len = 0;
	b->trailer[0] = 0;
}

/* How the body behind this head is delimited. is_answer: one without a length lasts until the
 * connection closes. */
static inline void h1_body_of(struct h1_body *b, const struct h1_head *h, bool is_answer)
{
	const struct h1_slice *length = h1_find(h, "content-length");

	if (h1_has(h, "transfer-encoding", "chunked"))
		h1_body_start(b, H1_CHUNKED, 0);
	else if (length)
		h1_body_start(b, H1_LENGTH, strtoull(length->p, NULL, 10));
	else
		h1_body_start(b, is_answer ? H1_UNTIL_CLOSE : H1_NONE, 0);
}

static inline int h1_hex(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
				      : -1;
}

/* One byte of chunk framing. 0 or -1. */
static inline int h1_chunk_byte(struct h1_body *b, char c)
{
	switch (b->state) {
	case H1_SIZE:
		if (h1_hex(c) >= 0 && b->digits < 15) {
			b->left = b->left * 16 + (uint64_t)h1_hex(c);
			b->digits++;
			return 0;
		}
		b->state = c == ';' ? H1_EXT : H1_SIZE_LF;
		return b->digits && (c == ';' || c == '\r') ? 0 : -1;
	case H1_EXT:
		if (c == '\r')
			b->state = H1_SIZE_LF;
		return 0;
	case H1_SIZE_LF:
		b->state = b->left ? H1_DATA : H1_TRAILER;
		return c == '\n' ? 0 : -1;
	case H1_DATA_CR:
		b->state = H1_DATA_LF;
		return c == '\r' ? 0 : -1;
	case H1_DATA_LF:
		b->state = H1_SIZE;
		b->digits = 0;
		return c == '\n' ? 0 : -1;
	case H1_TRAILER:
		if (b->trailer_len + 1 >= sizeof(b->trailer))
			return -1;
		b->trailer[b->trailer_len++] = c;
		b->trailer[b->trailer_len] = 0;
		b->done = !strcmp(b->trailer, "\r\n") ||
			  (b->trailer_len >= 4 &&
			   !strcmp(b->trailer + b->trailer_len - 4, "\r\n\r\n"));
		return 0;
	case H1_DATA:
		break;
	}
	return -1;
}

/* Takes bytes of the body, gives the payload to sink. How many were taken (fewer than n only when
 * the body is done), or -1. */
static inline ssize_t h1_body_feed(struct h1_body *b, const char *p, size_t n,
				   void (*sink)(void *, const char *, size_t), void *arg)
{
	size_t used = 0;

	while (used < n && !b->done) {
		size_t k = n - used;

		if (b->kind == H1_CHUNKED && b->state != H1_DATA) {
			if (h1_chunk_byte(b, p[used++]))
				return -1;
			continue;
		}
		if (b->kind != H1_UNTIL_CLOSE) {
			k = k < b->left ? k : (size_t)b->left;
			b->left -= k;
		}
		sink(arg, p + used, k);
		used += k;
		if (b->kind == H1_LENGTH)
			b->done = !b->left;
		else if (b->kind == H1_CHUNKED && !b->left)
			b->state = H1_DATA_CR;
	}
	return (ssize_t)used;
}

#endif
