/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Heads of HTTP/1 messages: cuts lines, reads the start line and the fields. Called by the codec
 * with everything received so far; http1_internal.h says what survives between calls. Must not
 * judge a line before its end is there.
 */
#include "agent/proxy/http1_internal.h"

#include <string.h>

_Static_assert(HTTP1_MAX_HEADERS < 255, "positions fit h->index");
_Static_assert(HTTP1_H_MAX <= 64, "a set of ids fits 64 bits");

typedef enum http1_result line_fn(struct http1_head *h, const char *data, size_t at, size_t end);

void http1_head_init(struct http1_head *h)
{
	memset(h, 0, offsetof(struct http1_head, headers));
}

/* The length of `text` is known here, so the comparison is one or two instructions. */
#define IS(text) (!memcmp(name, text, sizeof(text) - 1))

static uint8_t method_of(const char *name, size_t n)
{
	switch (n) {
	case 3:
		return IS("GET") ? HTTP1_GET : IS("PUT") ? HTTP1_PUT : HTTP1_OTHER;
	case 4:
		return IS("POST") ? HTTP1_POST : IS("HEAD") ? HTTP1_HEAD : HTTP1_OTHER;
	case 5:
		return IS("PATCH") ? HTTP1_PATCH : IS("TRACE") ? HTTP1_TRACE : HTTP1_OTHER;
	case 6:
		return IS("DELETE") ? HTTP1_DELETE : HTTP1_OTHER;
	case 7:
		return IS("OPTIONS") ? HTTP1_OPTIONS : IS("CONNECT") ? HTTP1_CONNECT : HTTP1_OTHER;
	default:
		return HTTP1_OTHER;
	}
}

/* HTTP/d.d in data[0..8): the minor version of 1.0 and 1.1; 2 for another version, -1 for something
 * else. */
static int version_of(const char *data)
{
	if (memcmp(data, "HTTP/", 5) != 0 || data[6] != '.' || data[5] < '0' || data[5] > '9' ||
	    data[7] < '0' || data[7] > '9')
		return -1;
	return data[5] == '1' && data[7] <= '1' ? data[7] - '0' : 2;
}

/* The loops need no bound: the CR at data[end] is of no class they go on with. */
static enum http1_result request_line(struct http1_head *h, const char *data, size_t at, size_t end)
{
	size_t target = http1_token_end(data, at, end);
	size_t space;
	int minor;

	if (target == at || data[target] != ' ')
		return http1_bad(h, 400, "the request line has no valid method");
	h->method_name = http1_slice(at, target);
	h->method = method_of(data + at, target - at);
	space = ++target;
	while (http1_is(data[space], HTTP1_C_TARGET))
		space++;
	if (space == target || data[space] != ' ')
		return http1_bad(h, 400, "the request target is missing or has an invalid byte");
	h->target = http1_slice(target, space);
	minor = end - space == 9 ? version_of(data + space + 1) : -1;
	if (minor < 0)
		return http1_bad(h, 400, "the request line does not end with an HTTP version");
	if (minor > 1)
		return http1_bad(h, 505, "only HTTP/1.0 and HTTP/1.1 are supported here");
	h->minor = (uint8_t)minor;
	return http1_judge_target(h, data);
}

static enum http1_result status_line(struct http1_head *h, const char *data, size_t at, size_t end)
{
	unsigned int status = 0;
	int minor = end - at >= 12 ? version_of(data + at) : -1;

	if (minor < 0 || minor > 1 || data[at + 8] != ' ')
		return http1_bad(h, 502,
				 "the status line does not start with HTTP/1.0 or HTTP/1.1");
	for (size_t i = at + 9; i < at + 12; i++) {
		if (data[i] < '0' || data[i] > '9')
			return http1_bad(h, 502, "the status is not three digits");
		status = status * 10 + (unsigned int)(data[i] - '0');
	}
	if (status < 100 || status > 599)
		return http1_bad(h, 502, "the status is not within 100 and 599");
	if (end > at + 12 && data[at + 12] != ' ')
		return http1_bad(h, 502, "no space after the status");
	h->minor = (uint8_t)minor;
	h->status = (uint16_t)status;
	h->phrase = http1_slice(end > at + 12 ? at + 13 : end, end);
	return HTTP1_DONE;
}

static enum http1_result repeated(struct http1_head *h, uint8_t id)
{
	switch (id) {
	case HTTP1_H_HOST:
		return http1_bad(h, 400, "repeated Host");
	case HTTP1_H_CONTENT_LENGTH:
		return http1_bad(h, 400, "repeated Content-Length");
	case HTTP1_H_TRANSFER_ENCODING:
		return http1_bad(h, 400, "repeated Transfer-Encoding");
	default:
		return HTTP1_DONE;
	}
}

/* One field in data[at..end). As above the CR at data[end] stops the loops. */
static enum http1_result field_line(struct http1_head *h, const char *data, size_t at, size_t end)
{
	struct http1_header *header = &h->headers[h->nheaders];
	size_t colon = http1_token_end(data, at, end);
	size_t value;
	uint8_t id;

	if (colon == at || data[colon] != ':') {
		if (http1_is_space(data[at]))
			return http1_bad(h, 400, "a folded header line");
		return http1_bad(h, 400, "a header line has no valid name before a colon");
	}
	if (h->nheaders == HTTP1_MAX_HEADERS)
		return http1_bad(h, 431, "too many headers");
	id = http1_header_id(data + at, colon - at);
	if (h->index[id] && repeated(h, id) == HTTP1_BAD)
		return HTTP1_BAD;
	value = colon + 1;
	while (http1_is_space(data[value]))
		value++;
	while (end > value && http1_is_space(data[end - 1]))
		end--;
	header->name = http1_slice(at, colon);
	header->value = http1_slice(value, end);
	header->id = id;
	header->hop = id != HTTP1_H_OTHER && id <= HTTP1_H_LAST_HOP;
	h->nheaders++;
	if (!h->index[id])
		h->index[id] = h->nheaders;
	return HTTP1_DONE;
}

static enum http1_result bad_byte(struct http1_head *h, char c)
{
	if (c == '\n')
		return http1_bad(h, 400, "a line feed without a carriage return");
	if (c == '\r')
		return http1_bad(h, 400, "a carriage return without a line feed");
	return http1_bad(h, 400, "a control character in the head");
}

/*
 * The line at h->line: DONE and *end is where its CR LF is; MORE and h->scanned is how far it has
 * none. A line that has HTTP1_MAX_LINE + 1 bytes without an end is refused whether more of it has
 * arrived or not.
 */
static enum http1_result next_line(struct http1_head *h, const char *data, size_t len, size_t *end)
{
	size_t limit = (size_t)h->line + HTTP1_MAX_LINE + 1;
	size_t at;

	if (limit > len)
		limit = len;
	at = http1_find_control(data, h->scanned, limit);
	if (at == limit && at - h->line > HTTP1_MAX_LINE)
		return h->stage == HTTP1_STAGE_START
			       ? http1_bad(h, 414, "the request line is too long")
			       : http1_bad(h, 431, "a header line is too long");
	h->scanned = (uint32_t)at;
	if (at == limit || (data[at] == '\r' && at + 1 == len))
		return HTTP1_MORE;
	if (data[at] != '\r' || data[at + 1] != '\n')
		return bad_byte(h, data[at]);
	*end = at;
	return HTTP1_DONE;
}

/* DONE: all lines up to the empty one were taken. */
static inline __attribute__((always_inline)) enum http1_result
take_lines(struct http1_head *h, const char *data, size_t len, line_fn *start_line)
{
	for (;;) {
		size_t end;
		enum http1_result r = next_line(h, data, len, &end);

		if (r != HTTP1_DONE)
			return r;
		if (h->stage == HTTP1_STAGE_START) {
			/* RFC 9112 2.2: one empty line before a request is passed over. */
			if (end > 0 || start_line != request_line) {
				r = start_line(h, data, h->line, end);
				h->stage = HTTP1_STAGE_FIELDS;
			}
		} else if (end == h->line) {
			h->size = (uint32_t)end + 2;
			return HTTP1_DONE;
		} else {
			r = field_line(h, data, h->line, end);
		}
		if (r != HTTP1_DONE)
			return r;
		h->line = h->scanned = (uint32_t)end + 2;
	}
}

static inline __attribute__((always_inline)) enum http1_result
take_head(struct http1_head *h, const char *data, size_t len, size_t max, line_fn *start_line)
{
	enum http1_result r;

	if (max > UINT32_MAX)
		max = UINT32_MAX;
	r = take_lines(h, data, len < max ? len : max, start_line);
	if (r == HTTP1_MORE && len >= max)
		return http1_bad(h, 431, "the head is too large");
	return r;
}

enum http1_result http1_request_parse(struct http1_head *h, const char *data, size_t len,
				      size_t max)
{
	enum http1_result r = take_head(h, data, len, max, request_line);

	return r == HTTP1_DONE ? http1_judge_request(h, data) : r;
}

enum http1_result http1_response_parse(struct http1_head *h, const char *data, size_t len,
				       size_t max, uint8_t method)
{
	enum http1_result r = take_head(h, data, len, max, status_line);

	if (r == HTTP1_DONE)
		r = http1_judge_response(h, data, method);
	if (r == HTTP1_BAD)
		h->status = 502;
	return r;
}
