/* SPDX-License-Identifier: Apache-2.0 */
/* A growing string with an upper limit. After a failure (limit or memory) `failed` stays set, the
 * content is what fitted before, and further appends do nothing: check once at the end. */
#ifndef LIB_BUF_H
#define LIB_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
	char *data; /* NUL-terminated; NULL while empty */
	size_t len, cap, max;
	bool failed;
};

void buf_init(struct buf *b, size_t max);
void buf_done(struct buf *b);  /* frees; harmless twice */
void buf_reset(struct buf *b); /* empties, keeps the memory */
/* Takes away what came after its first len bytes, which are there, and with that a failure. */
void buf_cut(struct buf *b, size_t len);
void buf_add(struct buf *b, const void *data, size_t len);
void buf_str(struct buf *b, const char *s);
void buf_char(struct buf *b, char c);
__attribute__((format(printf, 2, 3))) void buf_printf(struct buf *b, const char *fmt, ...);
void buf_u64(struct buf *b, uint64_t v); /* in decimal digits */
void buf_ms(struct buf *b, uint64_t ns); /* milliseconds, with three decimals cut off */
/* A JSON string with its quotes. Invalid UTF-8 becomes U+FFFD; what steers terminals is escaped,
 * those controls too that JSON would let pass. */
void buf_json(struct buf *b, const char *s, size_t len);
/* A comma, unless nothing is there, or what comes is the first of a list or an object. */
void buf_comma(struct buf *b);
/* "key":, of a key that needs no escaping. */
void buf_key(struct buf *b, const char *key);
/* "key":"value", of a key that needs no escaping; a value of NULL: null. */
void buf_member(struct buf *b, const char *key, const char *value);
/* Gives the string away (caller frees); NULL if it failed. The buffer is empty afterwards. */
char *buf_take(struct buf *b);

#endif
