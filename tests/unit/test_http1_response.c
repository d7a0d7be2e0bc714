/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Response heads, the limits of both kinds of heads, and the sniffing of first bytes. Rows as in
 * test_http1_request.c.
 */
#include "http1_harness.h"

#define OK  "HTTP/1.1 200 OK\r\n"
#define END "\r\n"

static void status_lines(void **state)
{
#define NO_VERSION "502 the status line does not start with HTTP/1.0 or HTTP/1.1"
#define NO_STATUS  "502 the status is not three digits"
	static const struct http1_case cases[] = {
		CASE("1.1", OK END, "200 1.1 until-close"),
		CASE("1.0", "HTTP/1.0 404 Not Found\r\n" END, "404 1.0 until-close"),
		CASE("an empty phrase", "HTTP/1.1 200 \r\n" END, "200 1.1 until-close"),
		CASE("no phrase and no space", "HTTP/1.1 200\r\n" END, "200 1.1 until-close"),
		CASE("a phrase with obs-text and tab", "HTTP/1.1 200 \xc3\xa4\tb\r\n" END,
		     "200 1.1 until-close"),
		CASE("the highest status", "HTTP/1.1 599 x\r\n" END, "599 1.1 until-close"),
		CASE("a status too high", "HTTP/1.1 600 x\r\n" END,
		     "502 the status is not within 100 and 599"),
		CASE("a status too low", "HTTP/1.1 099 x\r\n" END,
		     "502 the status is not within 100 and 599"),
		CASE("a status of two digits", "HTTP/1.1 20 OK\r\n" END, NO_STATUS),
		CASE("a status of four digits", "HTTP/1.1 2000 OK\r\n" END,
		     "502 no space after the status"),
		CASE("a letter in the status", "HTTP/1.1 2x0 OK\r\n" END, NO_STATUS),
		CASE("two spaces before the status", "HTTP/1.1  200 OK\r\n" END, NO_STATUS),
		CASE("a tab before the status", "HTTP/1.1\t200 OK\r\n" END, NO_VERSION),
		CASE("a tab after the status", "HTTP/1.1 200\tOK\r\n" END,
		     "502 no space after the status"),
		CASE("HTTP/1.2", "HTTP/1.2 200 OK\r\n" END, NO_VERSION),
		CASE("HTTP/2", "HTTP/2 200\r\n" END, NO_VERSION),
		CASE("no status", "HTTP/1.1\r\n" END, NO_VERSION),
		CASE("ICY", "ICY 200 OK and more\r\n" END, NO_VERSION),
		CASE("an empty line before", "\r\n" OK END, NO_VERSION),
		CASE("a control character", "HTTP/1.1 200 \x01\r\n" END,
		     "502 a control character in the head"),
		CASE("a bare LF", "HTTP/1.1 200 OK\n" END,
		     "502 a line feed without a carriage return"),
		CASE("a folded line", OK "A: b\r\n c\r\n" END, "502 a folded header line"),
		CASE("a space before the colon", OK "Content-Length : 5\r\n" END,
		     "502 a header line has no valid name before a colon"),
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		check_head(&cases[i], HARNESS_HEAD, false);
}

static void framing(void **state)
{
#define CL	     "Content-Length: 5\r\n"
#define CHUNKED	     "Transfer-Encoding: chunked\r\n"
#define STATUS(code) "HTTP/1.1 " code " x\r\n"
	static const struct http1_case cases[] = {
		CASE("a length", OK CL END, "200 1.1 length=5 keep"),
		CASE("chunked", OK CHUNKED END, "200 1.1 chunked keep -Transfer-Encoding"),
		CASE("neither", OK END, "200 1.1 until-close"),
		CASE("neither, whatever keep-alive says", OK "Connection: keep-alive\r\n" END,
		     "200 1.1 until-close -Connection"),
		CASE("to HEAD, with length", OK CL END, "200 1.1 no-body keep", HTTP1_HEAD),
		CASE("to HEAD, chunked", OK CHUNKED END, "200 1.1 no-body keep -Transfer-Encoding",
		     HTTP1_HEAD),
		CASE("to HEAD, neither", OK END, "200 1.1 no-body keep", HTTP1_HEAD),
		CASE("to DELETE", OK CL END, "200 1.1 length=5 keep", HTTP1_DELETE),
		CASE("100", STATUS("100") END, "100 1.1 no-body keep"),
		CASE("101", STATUS("101") "Connection: upgrade\r\nUpgrade: websocket\r\n" END,
		     "101 1.1 no-body keep upgrade -Connection -Upgrade"),
		CASE("103 with a length", STATUS("103") CL END, "103 1.1 no-body keep"),
		CASE("204", STATUS("204") END, "204 1.1 no-body keep"),
		CASE("204 with a length", STATUS("204") "Content-Length: 0\r\n" END,
		     "204 1.1 no-body keep"),
		CASE("205 may have a body", STATUS("205") CL END, "205 1.1 length=5 keep"),
		CASE("304 with a length", STATUS("304") CL END, "304 1.1 no-body keep"),
		CASE("304 chunked", STATUS("304") CHUNKED END,
		     "304 1.1 no-body keep -Transfer-Encoding"),
		CASE("1.0 with a length", "HTTP/1.0 200 OK\r\n" CL END, "200 1.0 length=5"),
		CASE("1.0 with a length and keep-alive",
		     "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n" CL END,
		     "200 1.0 length=5 keep -Connection"),
		CASE("close", OK CL "Connection: close\r\n" END, "200 1.1 length=5 -Connection"),
		CASE("both", OK CL CHUNKED END, "502 both Content-Length and Transfer-Encoding"),
		CASE("both to HEAD", OK CL CHUNKED END,
		     "502 both Content-Length and Transfer-Encoding", HTTP1_HEAD),
		CASE("two lengths", OK CL "Content-Length: 6\r\n" END,
		     "502 repeated Content-Length"),
		CASE("equal lengths", OK CL CL END, "502 repeated Content-Length"),
		CASE("a list of lengths", OK "Content-Length: 5, 5\r\n" END,
		     "502 Content-Length is not a number of bytes"),
		CASE("no number", OK "Content-Length: five\r\n" END,
		     "502 Content-Length is not a number of bytes"),
		CASE("chunked twice", OK CHUNKED CHUNKED END, "502 repeated Transfer-Encoding"),
		CASE("chunked is not last", OK "Transfer-Encoding: chunked, gzip\r\n" END,
		     "502 a Transfer-Encoding other than chunked"),
		CASE("another coding before chunked", OK "Transfer-Encoding: gzip, chunked\r\n" END,
		     "502 a Transfer-Encoding other than chunked"),
		CASE("chunked in 1.0", "HTTP/1.0 200 OK\r\n" CHUNKED END,
		     "502 Transfer-Encoding in HTTP/1.0"),
		CASE("Connection names Transfer-Encoding, as some servers do",
		     OK "Connection: keep-alive, Transfer-Encoding\r\n" CHUNKED END,
		     "200 1.1 chunked keep -Connection -Transfer-Encoding"),
		CASE("Connection names Content-Length: it stays",
		     OK "Connection: content-length\r\n" CL END,
		     "200 1.1 length=5 keep -Connection"),
		CASE("Connection names another header", OK "Connection: x-a\r\nX-A: 1\r\n" CL END,
		     "200 1.1 length=5 keep -Connection -X-A"),
		CASE("no token in Connection", OK "Connection: \"a\"\r\n" CL END,
		     "502 an option in Connection is not a token"),
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct http1_case c = cases[i];

		check_head(&c, HARNESS_HEAD, false);
		if (c.method == HTTP1_OTHER) {
			c.method = HTTP1_GET;
			check_head(&c, HARNESS_HEAD, false);
		}
	}
}

static void the_phrase_is_a_slice(void **state)
{
	static const char with[] = "HTTP/1.1 404 Not Found\r\n\r\n",
			  without[] = "HTTP/1.1 404\r\n\r\n";
	struct http1_head h;

	http1_head_init(&h);
	assert_int_equal(http1_response_parse(&h, with, sizeof(with) - 1, HARNESS_HEAD, HTTP1_GET),
			 HTTP1_DONE);
	assert_int_equal(h.phrase.len, 9);
	assert_memory_equal(with + h.phrase.at, "Not Found", 9);
	http1_head_init(&h);
	assert_int_equal(
		http1_response_parse(&h, without, sizeof(without) - 1, HARNESS_HEAD, HTTP1_GET),
		HTTP1_DONE);
	assert_int_equal(h.phrase.len, 0);
}

/* before, n times `fill`, after */
static void check_filled(const char *what, const char *before, size_t n, const char *fill,
			 const char *after, size_t max, const char *outcome)
{
	static char text[HARNESS_MAX];
	struct http1_head whole, split;
	struct http1_case c = {.what = what, .bytes = text, .outcome = outcome};
	size_t len = strlen(fill);
	enum http1_result r;

	c.n = strlen(before);
	assert_true(c.n + n * len + strlen(after) <= sizeof(text));
	memcpy(text, before, c.n);
	for (size_t i = 0; i < n; i++, c.n += len)
		memcpy(text + c.n, fill, len);
	memcpy(text + c.n, after, strlen(after));
	c.n += strlen(after);
	if (c.n < 2048) {
		check_head(&c, max, true);
		return;
	}
	http1_head_init(&whole);
	r = head_parse(&whole, guarded(text, c.n, true), c.n, max, HARNESS_REQUEST);
	if (strcmp(head_outcome(&whole, r, text, true), outcome) != 0)
		fail_msg("%s: got \"%s\", want \"%s\"", what, head_outcome(&whole, r, text, true),
			 outcome);
	assert_int_equal(head_parse_bytewise(&split, text, c.n, max, HARNESS_REQUEST), r);
	assert_true(head_same(&whole, &split, r));
}

static void limits(void **state)
{
#define GET10	 "GET / HTTP/1.0\r\n"
#define GET10_OK "GET / @ 1.0 no-body"
	check_filled("a request line of 8193 bytes", "GET /", 8193 - 14, "a", " HTTP/1.0\r\n\r\n",
		     HARNESS_HEAD, "414 the request line is too long");
	check_filled("a request line that does not end", "GET /", 9000, "a", "", HARNESS_HEAD,
		     "414 the request line is too long");
	check_filled("a method that does not end", "", 9000, "A", "", HARNESS_HEAD,
		     "414 the request line is too long");
	check_filled("a field of 8192 bytes", GET10 "A:", 8190, "a", "\r\n\r\n", HARNESS_HEAD,
		     GET10_OK);
	check_filled("a field of 8193 bytes", GET10 "A:", 8191, "a", "\r\n\r\n", HARNESS_HEAD,
		     "431 a header line is too long");
	check_filled("a field that does not end", GET10 "A:", 9000, "a", "", HARNESS_HEAD,
		     "431 a header line is too long");
	check_filled("a name that does not end", GET10, 9000, "a", "", HARNESS_HEAD,
		     "431 a header line is too long");
	check_filled("a bad byte within the limit", GET10 "A:", 8190, "a", "\n\r\n", HARNESS_HEAD,
		     "400 a line feed without a carriage return");
	check_filled("a bad byte beyond the limit", GET10 "A:", 8191, "a", "\n\r\n", HARNESS_HEAD,
		     "431 a header line is too long");
	check_filled("100 headers", GET10, 100, "A:b\r\n", "\r\n", HARNESS_HEAD, GET10_OK);
	check_filled("101 headers", GET10, 101, "A:b\r\n", "\r\n", HARNESS_HEAD,
		     "431 too many headers");
	check_filled("a head of exactly max", GET10, 10, "A: 3456\r\n", "\r\n", 16 + 90 + 2,
		     GET10_OK);
	check_filled("a head of one byte more", GET10, 10, "A: 3456\r\n", "\r\n", 16 + 90 + 1,
		     "431 the head is too large");
	check_filled("an incomplete head of max bytes", GET10, 10, "A: 3456\r\n", "", 16 + 90,
		     "431 the head is too large");
	check_filled("an incomplete head of less", GET10, 10, "A: 3456\r\n", "", 16 + 91, "more");
	check_filled("a malformed byte beyond max", GET10, 10, "A: 3456\r\n", "\n", 16 + 90,
		     "431 the head is too large");
}

/* A quadratic parser would look at 64 KiB of head 64 Ki times: two billion bytes, seconds under the
 * sanitizers. */
static void a_byte_at_a_time_is_linear(void **state)
{
	static char text[HARNESS_HEAD];
	static struct http1_head h;
	size_t n = (size_t)snprintf(text, sizeof(text), "GET / HTTP/1.0\r\n");

	for (int i = 0; i < 7; i++, n += 8194) {
		memset(text + n, 'a', 8192);
		memcpy(text + n + 1, ":", 1);
		memcpy(text + n + 8192, "\r\n", 2);
	}
	memcpy(text + n, "\r\n", 2);
	n += 2;
	http1_head_init(&h);
	for (size_t i = 1; i < n; i++) {
		uint32_t before = h.scanned;

		assert_int_equal(http1_request_parse(&h, text, i, HARNESS_HEAD), HTTP1_MORE);
		assert_true(h.scanned >= before && h.scanned + 1 >= i);
	}
	assert_int_equal(http1_request_parse(&h, text, n, HARNESS_HEAD), HTTP1_DONE);
	assert_int_equal(h.nheaders, 7);
}

static void sniffing(void **state)
{
	static const struct {
		const char *bytes;
		size_t n;
		enum http1_result result;
	} cases[] = {
#define SNIFF(bytes, result) {bytes, sizeof(bytes) - 1, result}
		SNIFF("", HTTP1_MORE),
		SNIFF("G", HTTP1_MORE),
		SNIFF("GET", HTTP1_MORE),
		SNIFF("GET ", HTTP1_MORE),
		SNIFF("GET /", HTTP1_DONE),
		SNIFF("VERSION-CONTROL /", HTTP1_DONE),
		SNIFF("OPTIONS *", HTTP1_DONE),
		SNIFF("GET h", HTTP1_MORE),
		SNIFF("GET http:/", HTTP1_MORE),
		SNIFF("GET http://", HTTP1_DONE),
		SNIFF("GET HTTP://a", HTTP1_DONE),
		SNIFF("GET https", HTTP1_BAD),
		SNIFF("CONNECT a", HTTP1_DONE),
		SNIFF("CONNECT 1", HTTP1_DONE),
		SNIFF("CONNECT [", HTTP1_DONE),
		SNIFF("CONNECT {\"verbose\":false}\r\n", HTTP1_BAD),
		SNIFF("ABCDEFGHIJKLMNOPQRST", HTTP1_MORE),
		SNIFF("ABCDEFGHIJKLMNOPQRST /", HTTP1_DONE),
		SNIFF("ABCDEFGHIJKLMNOPQRSTU", HTTP1_BAD),
		SNIFF("get /", HTTP1_BAD),
		SNIFF("GET\t/", HTTP1_BAD),
		SNIFF("GET\r\n", HTTP1_BAD),
		SNIFF(" GET /", HTTP1_BAD),
		SNIFF("\r\nGET /", HTTP1_BAD),
		SNIFF("GET  /", HTTP1_BAD),
		SNIFF("PRI *", HTTP1_MORE),
		SNIFF("PRI * HTTP/", HTTP1_MORE),
		SNIFF("PRI * HTTP/1", HTTP1_DONE),
		SNIFF("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", HTTP1_BAD),
		SNIFF("\x16\x03\x01\x02", HTTP1_BAD),
		SNIFF("*1\r\n$4\r\nPING\r\n", HTTP1_BAD),
		SNIFF("PING\r\n", HTTP1_BAD),
		SNIFF("SSH-2.0-x\r\n", HTTP1_BAD),
		SNIFF("NICK joe\r\n", HTTP1_BAD),
		SNIFF("EHLO mail\r\n", HTTP1_BAD),
		SNIFF("\0\0\0\x08\x04\xd2\x16\x2f", HTTP1_BAD),
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		enum http1_result r =
			http1_sniff(guarded(cases[i].bytes, cases[i].n, true), cases[i].n);

		if (r != cases[i].result)
			fail_msg("\"%s\": got %d, want %d", cases[i].bytes, r, cases[i].result);
		for (size_t k = 0; k < cases[i].n; k++) {
			enum http1_result part = http1_sniff(guarded(cases[i].bytes, k, true), k);

			if (part != HTTP1_MORE && part != r)
				fail_msg("\"%s\": %d after %zu bytes", cases[i].bytes, part, k);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(status_lines),
		cmocka_unit_test(framing),
		cmocka_unit_test(the_phrase_is_a_slice),
		cmocka_unit_test(limits),
		cmocka_unit_test(a_byte_at_a_time_is_linear),
		cmocka_unit_test(sniffing),
	};

	return cmocka_run_group_tests_name("http1 responses, limits, sniffing", tests, NULL, NULL);
}
