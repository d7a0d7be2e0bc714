/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Chunked bodies (RFC 9112 7.1), byte by byte but for the data, which is passed over. Called by the
 * codec with whatever arrived. Must not keep pointers: the bytes are forwarded as they are and
 * forgotten.
 *
 *   SIZE -hex-> SIZE -;-> EXT --CR-> SIZE_LF -LF, size > 0-> DATA -> DATA_CR -> DATA_LF -> SIZE
 *     \--space-> EXT_SPACE -;-^         \-LF, size = 0-> LINE
 *      \----------CR--------------^
 *   LINE -token-> NAME -:-> VALUE -CR-> VALUE_LF -> LINE -CR-> END_LF -LF-> END
 */
#include "agent/proxy/http1_internal.h"

#include <string.h>

#define MAX_DIGITS    15
#define MAX_EXTENSION 256
#define MAX_TRAILER   8192

enum state {
	SIZE,
	EXT_SPACE,
	EXT,
	SIZE_LF,
	DATA,
	DATA_CR,
	DATA_LF,
	LINE,
	NAME,
	VALUE,
	VALUE_LF,
	END_LF,
	END,
};

/* Fields that trailers must not have (RFC 9110 6.5.1): framing, routing, hop-by-hop and forwarding.
 */
#define FIRST_REFUSED HTTP1_H_CONNECTION
#define LAST_REFUSED  HTTP1_H_X_FORWARDED_HOST
#define REFUSED_COUNT (LAST_REFUSED - FIRST_REFUSED + 1)

void http1_chunked_init(struct http1_chunked *c)
{
	memset(c, 0, sizeof(*c));
}

static int hex_value(char c)
{
	if (!http1_is(c, HTTP1_C_HEX))
		return -1;
	return c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10;
}

static bool take_size(struct http1_chunked *c, char b)
{
	int digit = hex_value(b);

	if (digit >= 0) {
		c->left = c->left << 4 | (unsigned int)digit;
		return ++c->digits <= MAX_DIGITS;
	}
	if (!c->digits)
		return false;
	if (b == '\r')
		c->state = SIZE_LF;
	else if (b == ';')
		c->state = EXT;
	else if (http1_is_space(b))
		c->state = EXT_SPACE;
	else
		return false;
	return true;
}

/* White space may only come before an extension (RFC 9112 7.1.1), not instead of one. */
static bool take_extension(struct http1_chunked *c, char b)
{
	if (b == '\r' && c->state == EXT) {
		c->state = SIZE_LF;
		return true;
	}
	if (++c->extra > MAX_EXTENSION || http1_is(b, HTTP1_C_CONTROL))
		return false;
	if (c->state == EXT_SPACE) {
		if (b == ';')
			c->state = EXT;
		else
			return http1_is_space(b);
	}
	return true;
}

static bool take_size_end(struct http1_chunked *c, char b)
{
	c->state = c->left ? DATA : LINE;
	c->digits = 0;
	c->extra = 0;
	return b == '\n';
}

/* c->name: bit i is set while the name so far begins field FIRST_REFUSED + i. */
static void narrow_name(struct http1_chunked *c, char b)
{
	for (unsigned int i = 0; i < REFUSED_COUNT; i++)
		if (c->name >> i & 1 &&
		    http1_header_name((uint8_t)(FIRST_REFUSED + i))[c->extra] != http1_lower(b))
			c->name &= ~(1ULL << i);
	c->extra++;
}

static bool name_refused(const struct http1_chunked *c)
{
	for (unsigned int i = 0; i < REFUSED_COUNT; i++)
		if (c->name >> i & 1 &&
		    http1_header_name((uint8_t)(FIRST_REFUSED + i))[c->extra] == '\0')
			return true;
	return false;
}

static bool take_line_start(struct http1_chunked *c, char b)
{
	if (b == '\r') {
		c->state = END_LF;
		return true;
	}
	if (!http1_is(b, HTTP1_C_TOKEN))
		return false;
	c->state = NAME;
	c->extra = 0;
	c->name = (1ULL << REFUSED_COUNT) - 1;
	narrow_name(c, b);
	return true;
}

static bool take_name(struct http1_chunked *c, char b)
{
	if (b == ':') {
		c->state = VALUE;
		return !name_refused(c);
	}
	if (!http1_is(b, HTTP1_C_TOKEN))
		return false;
	narrow_name(c, b);
	return true;
}

static bool take_value(struct http1_chunked *c, char b)
{
	if (b == '\r')
		c->state = VALUE_LF;
	return b == '\r' || !http1_is(b, HTTP1_C_CONTROL);
}

static bool take_trailer(struct http1_chunked *c, char b)
{
	if (++c->trailer > MAX_TRAILER)
		return false;
	switch (c->state) {
	case LINE:
		return take_line_start(c, b);
	case NAME:
		return take_name(c, b);
	case VALUE:
		return take_value(c, b);
	case VALUE_LF:
		c->state = LINE;
		return b == '\n';
	default:
		c->state = END;
		return b == '\n';
	}
}

/* One byte that is not data. False: malformed. */
static bool take_byte(struct http1_chunked *c, char b)
{
	switch (c->state) {
	case SIZE:
		return take_size(c, b);
	case EXT_SPACE:
	case EXT:
		return take_extension(c, b);
	case SIZE_LF:
		return take_size_end(c, b);
	case DATA_CR:
		c->state = DATA_LF;
		return b == '\r';
	case DATA_LF:
		c->state = SIZE;
		return b == '\n';
	default:
		return take_trailer(c, b);
	}
}

static size_t pass_data(struct http1_chunked *c, size_t len)
{
	size_t n = c->left < len ? (size_t)c->left : len;

	c->left -= n;
	c->data += n;
	if (!c->left)
		c->state = DATA_CR;
	return n;
}

enum http1_result http1_chunked_feed(struct http1_chunked *c, const char *data, size_t len,
				     size_t *used)
{
	size_t i = 0;

	while (i < len && c->state != END) {
		if (c->state == DATA) {
			i += pass_data(c, len - i);
		} else if (take_byte(c, data[i])) {
			i++;
		} else {
			*used = i;
			return HTTP1_BAD;
		}
	}
	*used = i;
	return c->state == END ? HTTP1_DONE : HTTP1_MORE;
}
