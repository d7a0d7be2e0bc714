/* SPDX-License-Identifier: Apache-2.0 */
/* See buf.h. Used for everything that is written out as text; bounded by the limit each caller
 * gives. */
#include "lib/buf.h"
#include "lib/utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void buf_init(struct buf *b, size_t max)
{
	*b = (struct buf){.max = max};
}

void buf_done(struct buf *b)
{
	free(b->data);
	*b = (struct buf){.max = b->max};
}

void buf_cut(struct buf *b, size_t len)
{
	b->len = len;
	b->failed = false;
	if (b->data)
		b->data[len] = 0;
}

void buf_reset(struct buf *b)
{
	buf_cut(b, 0);
}

/* Makes room for `more` bytes and a NUL. */
static bool reserve(struct buf *b, size_t more)
{
	size_t cap = b->cap ? b->cap : 64;
	char *data;

	if (b->failed)
		return false;
	if (more > b->max || b->len > b->max - more) {
		b->failed = true;
		return false;
	}
	while (cap < b->len + more + 1)
		cap *= 2;
	if (cap == b->cap)
		return true;
	data = realloc(b->data, cap);
	if (!data) {
		b->failed = true;
		return false;
	}
	b->data = data;
	b->cap = cap;
	return true;
}

void buf_add(struct buf *b, const void *data, size_t len)
{
	if (!reserve(b, len))
		return;
	if (len)
		memcpy(b->data + b->len, data, len);
	b->len += len;
	b->data[b->len] = 0;
}

void buf_str(struct buf *b, const char *s)
{
	buf_add(b, s, strlen(s));
}

void buf_char(struct buf *b, char c)
{
	buf_add(b, &c, 1);
}

/* Bytes that can be added to the memory that is there, before its NUL. */
static size_t spare(const struct buf *b)
{
	size_t memory = b->cap ? b->cap - 1 - b->len : 0, left = b->max - b->len;

	return b->failed ? 0 : memory < left ? memory : left;
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
	size_t fits = spare(b);
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(fits ? b->data + b->len : NULL, fits ? fits + 1 : 0, fmt, ap);
	va_end(ap);
	if (n >= 0 && fits && (size_t)n <= fits) {
		b->len += (size_t)n;
		return;
	}
	if (fits)
		b->data[b->len] = 0;
	if (n < 0)
		b->failed = true;
	if (n < 0 || !reserve(b, (size_t)n))
		return;
	va_start(ap, fmt);
	vsnprintf(b->data + b->len, (size_t)n + 1, fmt, ap);
	va_end(ap);
	b->len += (size_t)n;
}

void buf_u64(struct buf *b, uint64_t v)
{
	char digits[20], *p = digits + sizeof(digits);

	do
		*--p = (char)('0' + v % 10);
	while (v /= 10);
	buf_add(b, p, (size_t)(digits + sizeof(digits) - p));
}

void buf_ms(struct buf *b, uint64_t ns)
{
	unsigned us = (unsigned)(ns / 1000 % 1000);
	char rest[] = {'.', (char)('0' + us / 100), (char)('0' + us / 10 % 10),
		       (char)('0' + us % 10)};

	buf_u64(b, ns / 1000000);
	buf_add(b, rest, sizeof(rest));
}

static void json_escape(struct buf *b, unsigned char c)
{
	static const char named[] = {['\b'] = 'b', ['\f'] = 'f', ['\n'] = 'n', ['\r'] = 'r',
				     ['\t'] = 't', ['"'] = '"',	 ['\\'] = '\\'};

	if (c < sizeof(named) && named[c]) {
		buf_char(b, '\\');
		buf_char(b, named[c]);
	} else {
		buf_printf(b, "\\u%04x", c);
	}
}

/* Does a character of n bytes (0: it is none) need no escaping? */
static bool stays(const unsigned char *p, size_t n)
{
	if (n == 1)
		return *p >= 0x20 && *p != '"' && *p != '\\' && *p != 0x7f;
	return n && !utf8_is_c1(p, n);
}

void buf_json(struct buf *b, const char *s, size_t len)
{
	const unsigned char *p = (const unsigned char *)s;
	size_t plain = 0, n;

	buf_char(b, '"');
	for (size_t i = 0; i < len; i += n ? n : 1) {
		n = p[i] < 0x80 ? 1 : utf8_len(p + i, len - i);
		if (stays(p + i, n))
			continue;
		buf_add(b, s + plain, i - plain);
		if (n)
			json_escape(b, p[i + n - 1]); /* U+0080 to U+009F: their last byte */
		else
			buf_str(b, "\xef\xbf\xbd");
		plain = i + (n ? n : 1);
	}
	if (len > plain)
		buf_add(b, s + plain, len - plain);
	buf_char(b, '"');
}

void buf_comma(struct buf *b)
{
	char last = b->len ? b->data[b->len - 1] : '[';

	if (last != '[' && last != '{')
		buf_char(b, ',');
}

void buf_key(struct buf *b, const char *key)
{
	buf_char(b, '"');
	buf_str(b, key);
	buf_add(b, "\":", 2);
}

void buf_member(struct buf *b, const char *key, const char *value)
{
	buf_key(b, key);
	if (value)
		buf_json(b, value, strlen(value));
	else
		buf_str(b, "null");
}

char *buf_take(struct buf *b)
{
	char *data;

	buf_add(b, "", 0); /* an empty string is a string too */
	data = b->failed ? NULL : b->data;
	if (!data)
		free(b->data);
	*b = (struct buf){.max = b->max};
	return data;
}
