/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is not HTTP, or could be read in two ways, is refused: with the right status and cause, the
 * connection closed, and not a byte of it at the origin.
 */
#include "tests/e2e/harness.h"

struct bad {
	const char *what, *text;
	int status;
};

#define GET_	"GET / HTTP/1.1\r\nHost: a\r\n"
#define POST_	"POST / HTTP/1.1\r\nHost: a\r\n"
#define CHUNKED POST_ "Transfer-Encoding: chunked\r\n\r\n"

/* Every one of these is decided by the head alone. */
static const struct bad heads[] = {
	{"content-length and transfer-encoding",
	 POST_ "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG", 400},
	{"transfer-encoding and content-length",
	 POST_ "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\nG", 400},
	{"two lengths", POST_ "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400},
	{"two lengths in one", POST_ "Content-Length: 5, 6\r\n\r\nhello", 400},
	{"a signed length", POST_ "Content-Length: +5\r\n\r\nhello", 400},
	{"a negative length", POST_ "Content-Length: -5\r\n\r\nhello", 400},
	{"a hexadecimal length", POST_ "Content-Length: 0x5\r\n\r\nhello", 400},
	{"an empty length", POST_ "Content-Length:\r\n\r\nhello", 400},
	{"a length over 64 bits", POST_ "Content-Length: 18446744073709551616\r\n\r\nhello", 400},
	{"chunked twice", POST_ "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 501},
	{"chunked not last", POST_ "Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", 501},
	{"an unknown coding", POST_ "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501},
	{"a misspelt chunked", POST_ "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501},
	{"transfer-encoding in HTTP/1.0",
	 "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
	{"a space before the colon", POST_ "Content-Length : 5\r\n\r\nhello", 400},
	{"a folded line", GET_ "X-A: b\r\n c\r\n\r\n", 400},
	{"a folded first header", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400},
	{"a bare LF behind a header", GET_ "X-A: b\nX-B: c\r\n\r\n", 400},
	{"a bare LF behind the request line", "GET / HTTP/1.1\nHost: a\r\n\r\n", 400},
	{"a bare CR in a value", GET_ "X-A: b\rc\r\n\r\n", 400},
	{"a control character in a value", GET_ "X-A: b\x01\r\n\r\n", 400},
	{"an empty header name", GET_ ": b\r\n\r\n", 400},
	{"a header without a colon", GET_ "nonsense\r\n\r\n", 400},
	{"a header name with a space", GET_ "X A: b\r\n\r\n", 400},
	{"no host", "GET / HTTP/1.1\r\n\r\n", 400},
	{"two hosts", GET_ "Host: b\r\n\r\n", 400},
	{"two spaces in the request line", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"no target", "GET HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"a control character in the target", "GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"a version that does not exist", "GET / HTTP/3.7\r\nHost: a\r\n\r\n", 505},
	{"the first line of HTTP/2", "GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505},
	{"a version in small letters", "GET / http/1.1\r\nHost: a\r\n\r\n", 400},
};

/* The head of these is right: the request is refused in the middle of its body. */
static const struct bad bodies[] = {
	{"a chunk size that is no number", CHUNKED "xyz\r\nhello\r\n0\r\n\r\n", 400},
	{"a signed chunk size", CHUNKED "+5\r\nhello\r\n0\r\n\r\n", 400},
	{"a chunk size with 0x", CHUNKED "0x5\r\nhello\r\n0\r\n\r\n", 400},
	{"an empty chunk size", CHUNKED "\r\nhello\r\n0\r\n\r\n", 400},
	{"a chunk size over 64 bits", CHUNKED "10000000000000005\r\nhello\r\n0\r\n\r\n", 400},
	{"a bare LF behind a chunk size", CHUNKED "5\nhello\r\n0\r\n\r\n", 400},
	{"a chunk longer than its size", CHUNKED "3\r\nhello\r\n0\r\n\r\n", 400},
	{"a bad trailer", CHUNKED "0\r\nX A: b\r\n\r\n", 400},
};

#define HEADS  (sizeof(heads) / sizeof(heads[0]))
#define BODIES (sizeof(bodies) / sizeof(bodies[0]))

static struct instance *web;
static struct caller *who;

static void open_web(void)
{
	web = instance_ready(
		instance_start("web", "web-1", "--netns --protocol http", "origin --port 8000"));
	who = caller_start("client", "--netns");
}

/* Reads the answer: 0 when it is that refusal and the connection is closed behind it. */
static int refusal_differs(struct client *c, const char *what, int want, const char *cause)
{
	int status = answer(c, "GET");

	if (status == want && !strcmp(header(c, "x-mesh-cause"), cause) && hung_up(c, 5000))
		return 0;
	printf("%s: status %d (want %d), cause '%s'%s\n", what, status, want,
	       header(c, "x-mesh-cause"), hung_up(c, 0) ? "" : ", connection still open");
	return 1;
}

/* Each on a connection of its own, of the workload or (no caller) to the gateway. */
static void send_all_bad(struct caller *from, const struct bad *b, size_t n)
{
	int wrong = 0;

	for (size_t i = 0; i < n; i++) {
		struct client *c = from ? call(from, web->address) : gateway();

		say_bytes(c, b[i].text, strlen(b[i].text));
		wrong += refusal_differs(c, b[i].what, b[i].status, "bad-request");
	}
	assert_int_equal(wrong, 0);
}

static void bad_heads_are_refused_and_reach_nobody(void **state)
{
	open_web();
	send_all_bad(who, heads, HEADS);
	assert_int_equal(origin_stat(web, "requests"), 0);
	assert_int_equal(origin_stat(web, "bad"), 0);
	assert_int_equal(get(call(who, web->address), "/"), 200);
}

static void bad_heads_are_refused_at_the_gateway_too(void **state)
{
	open_web();
	send_all_bad(NULL, heads, HEADS);
	assert_int_equal(origin_stat(web, "requests"), 0);
}

static void a_bad_second_request_does_not_spoil_the_first(void **state)
{
	struct client *c;

	open_web();
	c = call(who, web->address);
	say(c, GET_ "\r\n" POST_ "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello");
	assert_int_equal(answer(c, "GET"), 200);
	assert_int_equal(answer(c, "POST"), 400);
	assert_true(hung_up(c, 5000));
	assert_int_equal(origin_stat(web, "requests"), 1);
}

static void bad_chunks_end_the_request_and_nothing_is_smuggled(void **state)
{
	open_web();
	send_all_bad(who, bodies, BODIES);
	assert_int_equal(origin_stat(web, "bad"), 0);
	assert_true(origin_stat(web, "requests") <= (long)BODIES);
	assert_int_equal(get(call(who, web->address), "/"), 200);
}

static void nul_bytes_are_refused(void **state)
{
	static const struct {
		const char *what, *text;
		size_t n;
	} nuls[] = {
#define NUL(what, text) {what, text, sizeof(text) - 1}
		NUL("NUL in a value", GET_ "X-A: b\0c\r\n\r\n"),
		NUL("NUL in a name", GET_ "X\0A: b\r\n\r\n"),
		NUL("NUL in the target", "GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n"),
	};
	int wrong = 0;

	open_web();
	for (size_t i = 0; i < sizeof(nuls) / sizeof(nuls[0]); i++) {
		struct client *c = call(who, web->address);

		say_bytes(c, nuls[i].text, nuls[i].n);
		wrong += refusal_differs(c, nuls[i].what, 400, "bad-request");
	}
	assert_int_equal(wrong, 0);
	assert_int_equal(origin_stat(web, "requests"), 0);
}

static void what_is_too_large_is_refused(void **state)
{
	static char filler[1 << 17];
	struct client *c;
	int wrong = 0;

	open_web();
	memset(filler, 'x', sizeof(filler) - 1);
	c = call(who, web->address);
	say(c, "GET /%s HTTP/1.1\r\nHost: a\r\n\r\n", filler);
	wrong += refusal_differs(c, "a long target", 414, "header-too-large");
	c = call(who, web->address);
	say(c, GET_ "X-A: %s\r\n\r\n", filler);
	wrong += refusal_differs(c, "a large head", 431, "header-too-large");
	c = call(who, web->address);
	say(c, GET_);
	for (int i = 0; i < 2000; i++)
		say(c, "X-%d: y\r\n", i);
	say(c, "\r\n");
	wrong += refusal_differs(c, "many headers", 431, "header-too-large");
	assert_int_equal(wrong, 0);
	assert_int_equal(origin_stat(web, "requests"), 0);
}

/* CONNECT would make a proxy of us for whatever the client names. */
static void connect_is_refused(void **state)
{
	struct client *c;

	open_web();
	c = call(who, web->address);
	say(c, "CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n");
	assert_in_range(answer(c, "GET"), 400, 501);
	assert_string_not_equal(header(c, "x-mesh-cause"), "");
	assert_true(hung_up(c, 5000));
	assert_int_equal(origin_stat(web, "requests"), 0);
}

int main(void)
{
	const struct CMUnitTest stories[] = {
		STORY(bad_heads_are_refused_and_reach_nobody),
		STORY(bad_heads_are_refused_at_the_gateway_too),
		STORY(a_bad_second_request_does_not_spoil_the_first),
		STORY(bad_chunks_end_the_request_and_nothing_is_smuggled),
		STORY(nul_bytes_are_refused),
		STORY(what_is_too_large_is_refused),
		STORY(connect_is_refused),
	};

	return RUN(stories);
}
