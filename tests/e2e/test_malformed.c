/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is not HTTP, or could be read in two ways, is refused: with the right status and cause, the
 * connection closed, and not a byte of it at the origin.
 */
#include "tests/e2e/harness.h"

struct bad {
	const char *what, *text;
	int status;
	const char *cause;
};

#define GET_	"GET / HTTP/1.1\r\nHost: a\r\n"
#define POST_	"POST / HTTP/1.1\r\nHost: a\r\n"
#define CHUNKED POST_ "Transfer-Encoding: chunked\r\n\r\n"

/* Every one of these is decided by the head alone. */
static const struct bad heads[] = {
	{"content-length and transfer-encoding",
	 POST_ "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG", 400,
	 "bad-request"},
	{"transfer-encoding and content-length",
	 POST_ "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\nG", 400,
	 "bad-request"},
	{"two lengths", POST_ "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400,
	 "bad-request"},
	{"two lengths in one", POST_ "Content-Length: 5, 6\r\n\r\nhello", 400, "bad-request"},
	{"a signed length", POST_ "Content-Length: +5\r\n\r\nhello", 400, "bad-request"},
	{"a negative length", POST_ "Content-Length: -5\r\n\r\nhello", 400, "bad-request"},
	{"a hexadecimal length", POST_ "Content-Length: 0x5\r\n\r\nhello", 400, "bad-request"},
	{"an empty length", POST_ "Content-Length:\r\n\r\nhello", 400, "bad-request"},
	{"a length over 64 bits", POST_ "Content-Length: 18446744073709551616\r\n\r\nhello", 400,
	 "bad-request"},
	{"chunked twice", POST_ "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 501,
	 "bad-request"},
	{"chunked not last", POST_ "Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", 501,
	 "bad-request"},
	{"an unknown coding", POST_ "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501,
	 "bad-request"},
	{"a misspelt chunked", POST_ "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501,
	 "bad-request"},
	{"transfer-encoding in HTTP/1.0",
	 "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400,
	 "bad-request"},
	{"a space before the colon", POST_ "Content-Length : 5\r\n\r\nhello", 400, "bad-request"},
	{"a folded line", GET_ "X-A: b\r\n c\r\n\r\n", 400, "bad-request"},
	{"a folded first header", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400, "bad-request"},
	{"a bare LF behind a header", GET_ "X-A: b\nX-B: c\r\n\r\n", 400, "bad-request"},
	{"a bare LF behind the request line", "GET / HTTP/1.1\nHost: a\r\n\r\n", 400,
	 "bad-request"},
	{"a bare CR in a value", GET_ "X-A: b\rc\r\n\r\n", 400, "bad-request"},
	{"a control character in a value", GET_ "X-A: b\x01\r\n\r\n", 400, "bad-request"},
	{"an empty header name", GET_ ": b\r\n\r\n", 400, "bad-request"},
	{"a header without a colon", GET_ "nonsense\r\n\r\n", 400, "bad-request"},
	{"a header name with a space", GET_ "X A: b\r\n\r\n", 400, "bad-request"},
	{"no host", "GET / HTTP/1.1\r\n\r\n", 400, "bad-request"},
	{"two hosts", GET_ "Host: b\r\n\r\n", 400, "bad-request"},
	{"two spaces in the request line", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400,
	 "bad-request"},
	{"no target", "GET HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad-request"},
	{"a control character in the target", "GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n", 400,
	 "bad-request"},
	{"a version that does not exist", "GET / HTTP/3.7\r\nHost: a\r\n\r\n", 505, "bad-request"},
	{"the first line of HTTP/2", "GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505, "bad-request"},
	{"a version in small letters", "GET / http/1.1\r\nHost: a\r\n\r\n", 400, "bad-request"},
};

/* The head of these is right: the request is refused in the middle of its body. */
static const struct bad bodies[] = {
	{"a chunk size that is no number", CHUNKED "xyz\r\nhello\r\n0\r\n\r\n", 400, "bad-request"},
	{"a signed chunk size", CHUNKED "+5\r\nhello\r\n0\r\n\r\n", 400, "bad-request"},
	{"a chunk size with 0x", CHUNKED "0x5\r\nhello\r\n0\r\n\r\n", 400, "bad-request"},
	{"an empty chunk size", CHUNKED "\r\nhello\r\n0\r\n\r\n", 400, "bad-request"},
	{"a chunk size over 64 bits", CHUNKED "10000000000000005\r\nhello\r\n0\r\n\r\n", 400,
	 "bad-request"},
	{"a bare LF behind a chunk size", CHUNKED "5\nhello\r\n0\r\n\r\n", 400, "bad-request"},
	{"a chunk longer than its size", CHUNKED "3\r\nhello\r\n0\r\n\r\n", 400, "bad-request"},
	{"a bad trailer", CHUNKED "0\r\nX A: b\r\n\r\n", 400, "bad-request"},
};

static struct instance *web;
static struct caller *who;

static void open_web(void)
{
	web = instance_ready(
		instance_start("web", "web-1", "--netns --protocol http", "origin --port 8000"));
	who = caller_start("client", "--netns");
}

static int refusal_differs(struct client *c, const struct bad *b, int status)
{
	if (status == b->status && !strcmp(header(c, "x-mesh-cause"), b->cause) && hung_up(c, 2000))
		return 0;
	printf("%s: status %d (want %d), cause '%s'%s\n", b->what, status, b->status,
	       header(c, "x-mesh-cause"), hung_up(c, 0) ? "" : ", connection still open");
	return 1;
}

static int send_bad(struct client *c, const struct bad *b)
{
	say_bytes(c, b->text, strlen(b->text));
	return refusal_differs(c, b, answer(c, "GET"));
}

static void bad_heads_are_refused_and_reach_nobody(void **state)
{
	int wrong = 0;

	open_web();
	for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++)
		wrong += send_bad(call(who, web->address), &heads[i]);
	assert_int_equal(wrong, 0);
	assert_int_equal(origin_stat(web, "requests"), 0);
	assert_int_equal(origin_stat(web, "bad"), 0);
	assert_int_equal(get(call(who, web->address), "/"), 200);
}

static void bad_heads_are_refused_at_the_gateway_too(void **state)
{
	int wrong = 0;

	open_web();
	for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++)
		wrong += send_bad(gateway(), &heads[i]);
	assert_int_equal(wrong, 0);
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
	assert_true(hung_up(c, 2000));
	assert_int_equal(origin_stat(web, "requests"), 1);
}

static void bad_chunks_end_the_request_and_nothing_is_smuggled(void **state)
{
	int wrong = 0;

	open_web();
	for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++)
		wrong += send_bad(call(who, web->address), &bodies[i]);
	assert_int_equal(wrong, 0);
	assert_int_equal(origin_stat(web, "bad"), 0);
	assert_true(origin_stat(web, "requests") <= (long)(sizeof(bodies) / sizeof(bodies[0])));
	assert_int_equal(get(call(who, web->address), "/"), 200);
}

static void nul_bytes_are_refused(void **state)
{
	static const char value[] = GET_ "X-A: b\0c\r\n\r\n", name[] = GET_ "X\0A: b\r\n\r\n",
			  target[] = "GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n";
	const struct bad b = {"NUL", "", 400, "bad-request"};
	struct client *c;
	int wrong = 0;

	open_web();
	c = call(who, web->address);
	say_bytes(c, value, sizeof(value) - 1);
	wrong += refusal_differs(c, &b, answer(c, "GET"));
	c = call(who, web->address);
	say_bytes(c, name, sizeof(name) - 1);
	wrong += refusal_differs(c, &b, answer(c, "GET"));
	c = call(who, web->address);
	say_bytes(c, target, sizeof(target) - 1);
	wrong += refusal_differs(c, &b, answer(c, "GET"));
	assert_int_equal(wrong, 0);
	assert_int_equal(origin_stat(web, "requests"), 0);
}

static void what_is_too_large_is_refused(void **state)
{
	static char filler[1 << 17];
	struct bad target = {"a long target", "", 414, "bad-request"},
		   large = {"a large head", "", 431, "header-too-large"},
		   many = {"many headers", "", 431, "header-too-large"};
	struct client *c;
	int wrong = 0, status;

	open_web();
	memset(filler, 'x', sizeof(filler) - 1);
	c = call(who, web->address);
	say(c, "GET /%s HTTP/1.1\r\nHost: a\r\n\r\n", filler);
	status = answer(c, "GET");
	target.cause = !strcmp(header(c, "x-mesh-cause"), "header-too-large") ? "header-too-large"
									      : "bad-request";
	wrong += refusal_differs(c, &target, status);
	c = call(who, web->address);
	say(c, GET_ "X-A: %s\r\n\r\n", filler);
	wrong += refusal_differs(c, &large, answer(c, "GET"));
	c = call(who, web->address);
	say(c, GET_);
	for (int i = 0; i < 2000; i++)
		say(c, "X-%d: y\r\n", i);
	say(c, "\r\n");
	wrong += refusal_differs(c, &many, answer(c, "GET"));
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
	assert_true(hung_up(c, 2000));
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
