/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Chunked bodies: what is well-formed and where the body ends, what is refused and at which byte.
 * Every row is fed whole, in two parts at every split point and byte by byte, between guard pages.
 */
#include "http1_harness.h"

#define OK(what, body, rest, data)                                                                 \
	{                                                                                          \
		what, body rest, sizeof(body rest) - 1, sizeof(body) - 1, HTTP1_DONE, data         \
	}
#define BAD(what, good, rest)                                                                      \
	{                                                                                          \
		what, good rest, sizeof(good rest) - 1, sizeof(good) - 1, HTTP1_BAD, 0             \
	}
#define MORE(what, bytes, data)                                                                    \
	{                                                                                          \
		what, bytes, sizeof(bytes) - 1, sizeof(bytes) - 1, HTTP1_MORE, data                \
	}

struct row {
	const char *what;
	const char *bytes;
	size_t n;
	size_t used;
	enum http1_result result;
	uint64_t data; /* not for BAD */
};

/* Feeds data[0..split), then the rest. *used: of both. */
static enum http1_result feed_split(struct http1_chunked *c, const struct row *row, size_t split,
				    size_t *used)
{
	enum http1_result r;
	size_t more;

	http1_chunked_init(c);
	r = http1_chunked_feed(c, guarded(row->bytes, split, split & 1), split, used);
	if (r == HTTP1_BAD || (r == HTTP1_DONE && *used < split))
		return r;
	assert_int_equal(*used, split);
	r = http1_chunked_feed(c, guarded(row->bytes + split, row->n - split, true), row->n - split,
			       &more);
	*used += more;
	return r;
}

static enum http1_result feed_bytewise(struct http1_chunked *c, const struct row *row, size_t *used)
{
	enum http1_result r = HTTP1_MORE;
	size_t one;

	http1_chunked_init(c);
	for (*used = 0; *used < row->n && r == HTTP1_MORE; *used += one)
		r = http1_chunked_feed(c, guarded(row->bytes + *used, 1, true), 1, &one);
	return r;
}

static void check(const struct row *row)
{
	struct http1_chunked c;
	size_t used;

	for (size_t i = 0; i <= row->n; i++) {
		enum http1_result r = feed_split(&c, row, i, &used);

		if (r != row->result || used != row->used ||
		    (r != HTTP1_BAD && c.data != row->data))
			fail_msg("%s: split at %zu: result %d, used %zu, data %llu", row->what, i,
				 r, used, (unsigned long long)c.data);
	}
	if (feed_bytewise(&c, row, &used) != row->result || used != row->used)
		fail_msg("%s: another outcome byte by byte", row->what);
}

static void well_formed_bodies(void **state)
{
	static const struct row rows[] = {
		OK("the empty body", "0\r\n\r\n", "", 0),
		OK("one chunk", "5\r\nhello\r\n0\r\n\r\n", "", 5),
		OK("what follows is not the body's", "5\r\nhello\r\n0\r\n\r\n",
		   "GET / HTTP/1.1\r\n", 5),
		OK("two chunks", "5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n", "", 6),
		OK("CR LF in the data", "4\r\n\r\n\r\n\r\n0\r\n\r\n", "", 4),
		OK("hexadecimal in any case", "a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", "",
		   20),
		OK("leading zeros", "0005\r\nhello\r\n000\r\n\r\n", "", 5),
		OK("fifteen digits", "000000000000005\r\nhello\r\n000000000000000\r\n\r\n", "", 5),
		OK("an extension", "5;a=b\r\nhello\r\n0\r\n\r\n", "", 5),
		OK("a quoted extension, obs-text, tab",
		   "5;a=\"b;c \t\x80\"\r\nhello\r\n0;x\r\n\r\n", "", 5),
		OK("white space before an extension", "5 \t;a\r\nhello\r\n0\r\n\r\n", "", 5),
		OK("a trailer", "0\r\nX-Sum: 12\r\n\r\n", "", 0),
		OK("trailers, with empty value and white space", "0\r\nA:\r\nB: \t c\t\r\n\r\n", "",
		   0),
		OK("trailers whose names only begin like refused ones",
		   "0\r\nHos: a\r\nHosts: a\r\nT: a\r\nTrail: a\r\nTrailers: a\r\n\r\n", "", 0),
		OK("what has an id but is no framing", "0\r\ntracestate: a\r\nCookie: a\r\n\r\n",
		   "", 0),
		MORE("nothing yet", "", 0),
		MORE("a size without end", "5", 0),
		MORE("within an extension", "5;abc", 0),
		MORE("within data", "5\r\nhel", 3),
		MORE("after data", "5\r\nhello", 5),
		MORE("the largest chunk", "fffffffffffffff\r\nabc", 3),
		MORE("the last CR LF is missing", "0\r\n", 0),
		MORE("within a trailer", "0\r\nA: b", 0),
		MORE("the last LF is missing", "0\r\n\r", 0),
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		check(&rows[i]);
}

static void malformed_chunks(void **state)
{
	static const struct row rows[] = {
		BAD("no size", "", "\r\n"),
		BAD("no size but an extension", "", ";a\r\n"),
		BAD("a space before the size", "", " 5\r\n"),
		BAD("a sign", "", "-5\r\n"),
		BAD("a plus sign", "", "+5\r\n"),
		BAD("0x", "0", "x5\r\n"),
		BAD("no hex digit", "5", "g\r\n"),
		BAD("an underscore", "1", "_0\r\n"),
		BAD("sixteen digits", "000000000000000", "5\r\n"),
		BAD("a size that would wrap", "100000000000000", "05\r\n"),
		BAD("a space instead of an extension", "5 ", "\r\nhello\r\n"),
		BAD("spaces and letters", "5 ", "a\r\nhello\r\n"),
		BAD("a bare LF after the size", "5", "\nhello\r\n"),
		BAD("a bare LF after an extension", "5;a", "\nhello\r\n"),
		BAD("CR without LF after the size", "5\r", "hello\r\n"),
		BAD("two CR", "5\r", "\r\nhello"),
		BAD("CR within an extension", "5;a\r", "b\r\nhello"),
		BAD("NUL in an extension", "5;a", "\0\r\nhello"),
		BAD("DEL in an extension", "5;a", "\x7f\r\nhello"),
		BAD("data longer than said", "5\r\nhello", "!\r\n0\r\n\r\n"),
		BAD("a bare LF after data", "5\r\nhello", "\n0\r\n\r\n"),
		BAD("CR without LF after data", "5\r\nhello\r", "0\r\n\r\n"),
		BAD("an empty line between chunks", "5\r\nhello\r\n", "\r\n0\r\n\r\n"),
		BAD("a bare LF at the end", "0\r\n", "\n"),
		BAD("a bare LF after the last size", "0", "\n\r\n"),
		BAD("CR without LF at the end", "0\r\n\r", "x"),
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		check(&rows[i]);
}

static void refused_trailers(void **state)
{
	static const struct row rows[] = {
		BAD("a folded line", "0\r\nA: b\r\n", " c\r\n\r\n"),
		BAD("a line of white space", "0\r\n", "\t\r\n\r\n"),
		BAD("no name", "0\r\n", ": b\r\n\r\n"),
		BAD("no colon", "0\r\nAb", "\r\n\r\n"),
		BAD("a space before the colon", "0\r\nA", " : b\r\n\r\n"),
		BAD("a name that is no token", "0\r\nA", "(: b\r\n\r\n"),
		BAD("NUL as a name", "0\r\n", "\0: b\r\n\r\n"),
		BAD("NUL after a refused name", "0\r\nhost", "\0: b\r\n\r\n"),
		BAD("NUL in a value", "0\r\nA: ", "\0\r\n\r\n"),
		BAD("a bare LF", "0\r\nA: b", "\n\r\n"),
		BAD("CR without LF", "0\r\nA: b\r", "c\r\n\r\n"),
		BAD("Content-Length", "0\r\nContent-Length", ": 5\r\n\r\n"),
		BAD("Transfer-Encoding", "0\r\ntransfer-encoding", ": chunked\r\n\r\n"),
		BAD("Host", "0\r\nHOST", ": a\r\n\r\n"),
		BAD("Trailer", "0\r\nTrailer", ": a\r\n\r\n"),
		BAD("Connection", "0\r\nA: b\r\nConnection", ": close\r\n\r\n"),
		BAD("Keep-Alive", "0\r\nKeep-Alive", ": a\r\n\r\n"),
		BAD("TE", "0\r\nTE", ": a\r\n\r\n"),
		BAD("Upgrade", "0\r\nUpgrade", ": a\r\n\r\n"),
		BAD("Proxy-Authorization", "0\r\nProxy-Authorization", ": a\r\n\r\n"),
		BAD("Expect", "0\r\nExpect", ": a\r\n\r\n"),
		BAD("X-Forwarded-For", "0\r\nX-Forwarded-For", ": a\r\n\r\n"),
		BAD("X-Forwarded-Host", "0\r\nX-Forwarded-Host", ": a\r\n\r\n"),
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		check(&rows[i]);
}

/* before, n times 'a', after: the result, and how far it got */
static enum http1_result feed_filled(const char *before, size_t n, const char *after, size_t *used)
{
	static char text[16384];
	struct http1_chunked c;
	size_t len = strlen(before);

	memcpy(text, before, len);
	memset(text + len, 'a', n);
	memcpy(text + len + n, after, strlen(after));
	len += n + strlen(after);
	http1_chunked_init(&c);
	return http1_chunked_feed(&c, guarded(text, len, true), len, used);
}

static void limits(void **state)
{
	size_t used;

	assert_int_equal(feed_filled("1;", 256, "\r\na\r\n0\r\n\r\n", &used), HTTP1_DONE);
	assert_int_equal(feed_filled("1;", 257, "\r\na\r\n0\r\n\r\n", &used), HTTP1_BAD);
	assert_int_equal(used, 2 + 256);
	assert_int_equal(feed_filled("0\r\nA:", 8192 - 6, "\r\n\r\n", &used), HTTP1_DONE);
	assert_int_equal(feed_filled("0\r\nA:", 8192 - 5, "\r\n\r\n", &used), HTTP1_BAD);
	assert_int_equal(feed_filled("0\r\n", 9000, ":\r\n\r\n", &used), HTTP1_BAD);
	assert_int_equal(used, 3 + 8192);
}

static void the_limit_of_extensions_is_for_each_chunk(void **state)
{
	static char text[2 * 210 + 8];
	struct http1_chunked c;
	size_t used, n = 0;

	for (int i = 0; i < 2; i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "1;%0200d\r\na\r\n", 0);
	http1_chunked_init(&c);
	assert_int_equal(http1_chunked_feed(&c, text, n, &used), HTTP1_MORE);
	assert_int_equal(c.data, 2);
}

static void after_the_end_nothing_is_used(void **state)
{
	struct http1_chunked c;
	size_t used;

	http1_chunked_init(&c);
	assert_int_equal(http1_chunked_feed(&c, "0\r\n\r\n", 5, &used), HTTP1_DONE);
	assert_int_equal(http1_chunked_feed(&c, "5\r\n", 3, &used), HTTP1_DONE);
	assert_int_equal(used, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(well_formed_bodies),
		cmocka_unit_test(malformed_chunks),
		cmocka_unit_test(refused_trailers),
		cmocka_unit_test(limits),
		cmocka_unit_test(the_limit_of_extensions_is_for_each_chunk),
		cmocka_unit_test(after_the_end_nothing_is_used),
	};

	return cmocka_run_group_tests_name("http1 chunked bodies", tests, NULL, NULL);
}
