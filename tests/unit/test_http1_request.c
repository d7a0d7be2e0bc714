/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Request heads: what is accepted and as what, what is refused and with which status and words.
 * Every row is parsed whole, in two parts at every split point and byte by byte, between guard
 * pages.
 */
#include "http1_harness.h"

#define H    "Host: a\r\n"
#define END  "\r\n"
#define GET  "GET / HTTP/1.1\r\n" H
#define POST "POST / HTTP/1.1\r\n" H

static void check_all(const struct http1_case *cases, size_t n)
{
	for (size_t i = 0; i < n; i++)
		check_head(&cases[i], HARNESS_HEAD, true);
}
#define CHECK_ALL(cases) check_all(cases, sizeof(cases) / sizeof((cases)[0]))

static void request_lines(void **state)
{
	static const struct http1_case cases[] = {
		CASE("the least 1.1 request", "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
		     "GET / @a 1.1 no-body keep"),
		CASE("the least 1.0 request", "GET / HTTP/1.0\r\n\r\n", "GET / @ 1.0 no-body"),
		CASE("bytes after the head are not its", GET END "GET / HTTP/1.1\n",
		     "GET / @a 1.1 no-body keep"),
		CASE("one empty line before", "\r\n" GET END, "GET / @a 1.1 no-body keep"),
		CASE("two empty lines before", "\r\n\r\n" GET END,
		     "400 the request line has no valid method"),
		CASE("a bare LF before", "\n" GET END, "400 a line feed without a carriage return"),
		CASE("nothing", "", "more"),
		CASE("an unknown method", "BREW-1 / HTTP/1.1\r\n" H END,
		     "BREW-1 / @a 1.1 no-body keep"),
		CASE("methods are case-sensitive tokens", "get / HTTP/1.1\r\n" H END,
		     "get / @a 1.1 no-body keep"),
		CASE("no method", " / HTTP/1.1\r\n" H END,
		     "400 the request line has no valid method"),
		CASE("a method that is no token", "G@T / HTTP/1.1\r\n" H END,
		     "400 the request line has no valid method"),
		CASE("a tab after the method", "GET\t/ HTTP/1.1\r\n" H END,
		     "400 the request line has no valid method"),
		CASE("two spaces after the method", "GET  / HTTP/1.1\r\n" H END,
		     "400 the request target is missing or has an invalid byte"),
		CASE("two spaces after the target", "GET /  HTTP/1.1\r\n" H END,
		     "400 the request line does not end with an HTTP version"),
		CASE("a tab after the target", "GET /\tHTTP/1.1\r\n" H END,
		     "400 the request target is missing or has an invalid byte"),
		CASE("a space at the end", "GET / HTTP/1.1 \r\n" H END,
		     "400 the request line does not end with an HTTP version"),
		CASE("HTTP/0.9", "GET /\r\n" END,
		     "400 the request target is missing or has an invalid byte"),
		CASE("a method only", "GET\r\n" END, "400 the request line has no valid method"),
		CASE("no version", "GET / \r\n" END,
		     "400 the request line does not end with an HTTP version"),
		CASE("a version in lower case", "GET / http/1.1\r\n" H END,
		     "400 the request line does not end with an HTTP version"),
		CASE("a version of two digits", "GET / HTTP/1.10\r\n" H END,
		     "400 the request line does not end with an HTTP version"),
		CASE("a version without a point", "GET / HTTP/1,1\r\n" H END,
		     "400 the request line does not end with an HTTP version"),
		CASE("a letter in the version", "GET / HTTP/x.1\r\n" H END,
		     "400 the request line does not end with an HTTP version"),
		CASE("HTTP/1.2", "GET / HTTP/1.2\r\n" H END,
		     "505 only HTTP/1.0 and HTTP/1.1 are supported here"),
		CASE("HTTP/2.0", "GET / HTTP/2.0\r\n" H END,
		     "505 only HTTP/1.0 and HTTP/1.1 are supported here"),
		CASE("HTTP/0.9 said aloud", "GET / HTTP/0.9\r\n" H END,
		     "505 only HTTP/1.0 and HTTP/1.1 are supported here"),
		CASE("the HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		     "505 only HTTP/1.0 and HTTP/1.1 are supported here"),
		CASE("TLS", "\x16\x03\x01\x02", "400 a control character in the head"),
	};

	CHECK_ALL(cases);
}

static void targets(void **state)
{
	static const struct http1_case cases[] = {
		CASE("path and query", "GET /a/b;c?d=/e&f=%20? HTTP/1.1\r\n" H END,
		     "GET /a/b;c?d=/e&f=%20? @a 1.1 no-body keep"),
		CASE("visible ASCII that URIs should escape",
		     "GET /a|b{c}\"<>\\^` HTTP/1.1\r\n" H END,
		     "GET /a|b{c}\"<>\\^` @a 1.1 no-body keep"),
		CASE("two slashes are a path, not an authority", "GET //b/c HTTP/1.1\r\n" H END,
		     "GET //b/c @a 1.1 no-body keep"),
		CASE("a fragment", "GET /a#b HTTP/1.1\r\n" H END,
		     "400 the request target is missing or has an invalid byte"),
		CASE("a byte over 0x7e", "GET /\xc3\xa4 HTTP/1.1\r\n" H END,
		     "400 the request target is missing or has an invalid byte"),
		CASE("DEL", "GET /\x7f HTTP/1.1\r\n" H END, "400 a control character in the head"),
		CASE("NUL", "GET /\0 HTTP/1.1\r\n" H END, "400 a control character in the head"),
		CASE("absolute-form: its authority wins over Host",
		     "GET http://b:81/c?d HTTP/1.1\r\n" H END, "GET /c?d @b:81 1.1 no-body keep"),
		CASE("absolute-form in 1.0 without Host", "GET http://b/ HTTP/1.0\r\n" END,
		     "GET / @b 1.0 no-body"),
		CASE("absolute-form: the scheme in any case", "GET HTtP://b/ HTTP/1.1\r\n" H END,
		     "GET / @b 1.1 no-body keep"),
		CASE("absolute-form without path is the root", "GET http://b HTTP/1.1\r\n" H END,
		     "GET / @b 1.1 no-body keep"),
		CASE("absolute-form without path but a query", "GET http://b?c HTTP/1.1\r\n" H END,
		     "400 an absolute request target without a path"),
		CASE("OPTIONS in absolute-form without path", "OPTIONS http://b HTTP/1.1\r\n" H END,
		     "400 an absolute request target without a path"),
		CASE("OPTIONS in absolute-form with path", "OPTIONS http://b/ HTTP/1.1\r\n" H END,
		     "OPTIONS / @b 1.1 no-body keep"),
		CASE("absolute-form needs Host too in 1.1", "GET http://b/ HTTP/1.1\r\n" END,
		     "400 no Host"),
		CASE("absolute-form without host", "GET http:///c HTTP/1.1\r\n" H END,
		     "400 the request target has an invalid host"),
		CASE("absolute-form with a port only", "GET http://:80/c HTTP/1.1\r\n" H END,
		     "400 the request target has an invalid host"),
		CASE("absolute-form with user info", "GET http://u:p@b/c HTTP/1.1\r\n" H END,
		     "400 the request target has an invalid host"),
		CASE("absolute-form cut short", "GET http:// HTTP/1.1\r\n" H END,
		     "400 the request target is not a path or an http URI"),
		CASE("another scheme", "GET https://b/ HTTP/1.1\r\n" H END,
		     "400 the request target is not a path or an http URI"),
		CASE("a file", "GET file:///etc/passwd HTTP/1.1\r\n" H END,
		     "400 the request target is not a path or an http URI"),
		CASE("a name without slash", "GET index.html HTTP/1.1\r\n" H END,
		     "400 the request target is not a path or an http URI"),
		CASE("a query only", "GET ?a HTTP/1.1\r\n" H END,
		     "400 the request target is not a path or an http URI"),
		CASE("asterisk-form", "OPTIONS * HTTP/1.1\r\n" H END,
		     "OPTIONS * @a 1.1 no-body keep"),
		CASE("asterisk-form of another method", "GET * HTTP/1.1\r\n" H END,
		     "400 the request target is not a path or an http URI"),
		CASE("more than an asterisk", "OPTIONS *a HTTP/1.1\r\n" H END,
		     "400 the request target is not a path or an http URI"),
		CASE("CONNECT", "CONNECT b:443 HTTP/1.1\r\n" H END, "501 CONNECT is not supported"),
		CASE("CONNECT to an address", "CONNECT [::1]:443 HTTP/1.1\r\n" H END,
		     "501 CONNECT is not supported"),
		CASE("CONNECT without port", "CONNECT b HTTP/1.1\r\n" H END,
		     "400 the target of CONNECT is not host:port"),
		CASE("CONNECT with an empty port", "CONNECT b: HTTP/1.1\r\n" H END,
		     "400 the target of CONNECT is not host:port"),
		CASE("CONNECT without host", "CONNECT :443 HTTP/1.1\r\n" H END,
		     "400 the target of CONNECT is not host:port"),
		CASE("CONNECT to a path", "CONNECT /b HTTP/1.1\r\n" H END,
		     "400 the target of CONNECT is not host:port"),
	};

	CHECK_ALL(cases);
}

static void hosts(void **state)
{
#define HOST(value) "GET / HTTP/1.1\r\nHost:" value "\r\n\r\n"
	static const struct http1_case cases[] = {
		CASE("name and port", HOST(" b.c_d-e:8080"),
		     "GET / @b.c_d-e:8080 1.1 no-body keep"),
		CASE("IPv4", HOST("10.0.0.1:80"), "GET / @10.0.0.1:80 1.1 no-body keep"),
		CASE("IPv6", HOST("[fd00::1]"), "GET / @[fd00::1] 1.1 no-body keep"),
		CASE("IPv6 and port", HOST("[::ffff:1.2.3.4]:80"),
		     "GET / @[::ffff:1.2.3.4]:80 1.1 no-body keep"),
		CASE("escaped bytes", HOST("a%2Db"), "GET / @a%2Db 1.1 no-body keep"),
		CASE("an empty port", HOST("a:"), "GET / @a: 1.1 no-body keep"),
		CASE("an empty host is in the grammar", HOST(""), "GET / @ 1.1 no-body keep"),
		CASE("the highest port", HOST("a:65535"), "GET / @a:65535 1.1 no-body keep"),
		CASE("a port too high", HOST("a:65536"), "400 invalid Host"),
		CASE("a port far too high", HOST("a:99999999999999999999"), "400 invalid Host"),
		CASE("a port that is no number", HOST("a:b"), "400 invalid Host"),
		CASE("two ports", HOST("a:1:2"), "400 invalid Host"),
		CASE("a port only", HOST(":80"), "400 invalid Host"),
		CASE("a slash", HOST("a/b"), "400 invalid Host"),
		CASE("user info", HOST("u@a"), "400 invalid Host"),
		CASE("a space", HOST("a b"), "400 invalid Host"),
		CASE("two in one line", HOST("a, b"), "400 invalid Host"),
		CASE("a broken escape", HOST("a%2"), "400 invalid Host"),
		CASE("an escape that is not hex", HOST("a%2x"), "400 invalid Host"),
		CASE("a byte over 0x7e", HOST("\xc3\xa4"), "400 invalid Host"),
		CASE("an unclosed bracket", HOST("[::1"), "400 invalid Host"),
		CASE("empty brackets", HOST("[]"), "400 invalid Host"),
		CASE("a name in brackets", HOST("[host]"), "400 invalid Host"),
		CASE("bytes after the bracket", HOST("[::1]a"), "400 invalid Host"),
		CASE("missing in 1.1", "GET / HTTP/1.1\r\n\r\n", "400 no Host"),
		CASE("repeated", GET H END, "400 repeated Host"),
		CASE("repeated in other case", GET "hOST: b\r\n" END, "400 repeated Host"),
		CASE("repeated in 1.0", "GET / HTTP/1.0\r\n" H H END, "400 repeated Host"),
		CASE("invalid in 1.0", "GET / HTTP/1.0\r\nHost: a/b\r\n" END, "400 invalid Host"),
		CASE("invalid beside absolute-form", "GET http://b/ HTTP/1.1\r\nHost: a/b\r\n" END,
		     "400 invalid Host"),
	};

	CHECK_ALL(cases);
}

static void field_lines(void **state)
{
#define NO_NAME "400 a header line has no valid name before a colon"
	static const struct http1_case cases[] = {
		CASE("no space after the colon", GET "A:b\r\n" END, "GET / @a 1.1 no-body keep"),
		CASE("an empty value", GET "A:\r\n" END, "GET / @a 1.1 no-body keep"),
		CASE("a value of white space", GET "A: \t \r\n" END, "GET / @a 1.1 no-body keep"),
		CASE("a tab within a value", GET "A: b\tc\r\n" END, "GET / @a 1.1 no-body keep"),
		CASE("bytes over 0x7f in a value", GET "A: \x80\xff\r\n" END,
		     "GET / @a 1.1 no-body keep"),
		CASE("every token byte in a name", GET "!#$%&'*+-.^_`|~09azAZ: b\r\n" END,
		     "GET / @a 1.1 no-body keep"),
		CASE("a space before the colon", GET "A : b\r\n" END, NO_NAME),
		CASE("a tab before the colon", GET "Content-Length\t: 5\r\n" END, NO_NAME),
		CASE("a space before the name of the first", "GET / HTTP/1.1\r\n Host: a\r\n" END,
		     "400 a folded header line"),
		CASE("a folded line", GET "A: b\r\n c\r\n" END, "400 a folded header line"),
		CASE("a line folded with a tab", GET "A: b\r\n\tc\r\n" END,
		     "400 a folded header line"),
		CASE("a line of white space", GET " \r\n" END, "400 a folded header line"),
		CASE("an empty name", GET ": b\r\n" END, NO_NAME),
		CASE("no colon", GET "Ab\r\n" END, NO_NAME),
		CASE("a name that is no token", GET "A(b): c\r\n" END, NO_NAME),
		CASE("a byte over 0x7f in a name", GET "\xc3\xa4: c\r\n" END, NO_NAME),
		CASE("a slash in a name", GET "A/b: c\r\n" END, NO_NAME),
		CASE("a bare LF ends a line", GET "A: b\n" END,
		     "400 a line feed without a carriage return"),
		CASE("a bare LF ends the head", GET "\n",
		     "400 a line feed without a carriage return"),
		CASE("LF hides a header", GET "A: b\nContent-Length: 5\r\n" END,
		     "400 a line feed without a carriage return"),
		CASE("CR within a value", GET "A: b\rc\r\n" END,
		     "400 a carriage return without a line feed"),
		CASE("CR CR LF", GET "A: b\r\r\n" END, "400 a carriage return without a line feed"),
		CASE("CR within a name", GET "A\rb: c\r\n" END,
		     "400 a carriage return without a line feed"),
		CASE("CR before the end", GET "\r\r\n",
		     "400 a carriage return without a line feed"),
		CASE("NUL in a value", GET "A: b\0c\r\n" END,
		     "400 a control character in the head"),
		CASE("NUL in a name", GET "A\0: c\r\n" END, "400 a control character in the head"),
		CASE("0x1f in a value", GET "A: \x1f\r\n" END,
		     "400 a control character in the head"),
		CASE("DEL in a value", GET "A: \x7f\r\n" END,
		     "400 a control character in the head"),
		CASE("vertical tab before the colon", GET "A\v: b\r\n" END,
		     "400 a control character in the head"),
		CASE("the last line only begun", GET "A: b", "more"),
		CASE("CR at the very end", GET "\r", "more"),
	};

	CHECK_ALL(cases);
}

static void framing(void **state)
{
#define NO_NUMBER "400 Content-Length is not a number of bytes"
#define CL(value) POST "Content-Length:" value "\r\n\r\n"
#define TE(value) POST "Transfer-Encoding:" value "\r\n\r\n"
	static const struct http1_case cases[] = {
		CASE("neither", POST END, "POST / @a 1.1 no-body keep"),
		CASE("a length", CL(" 5"), "POST / @a 1.1 length=5 keep"),
		CASE("a length of nothing", CL("0"), "POST / @a 1.1 length=0 keep"),
		CASE("leading zeros are digits", CL("0005"), "POST / @a 1.1 length=5 keep"),
		CASE("the largest length", CL("9223372036854775807"),
		     "POST / @a 1.1 length=9223372036854775807 keep"),
		CASE("a length of 2^63", CL("9223372036854775808"), NO_NUMBER),
		CASE("a length of 2^64", CL("18446744073709551616"), NO_NUMBER),
		CASE("a length of 2^64 + 5", CL("18446744073709551621"), NO_NUMBER),
		CASE("an empty length", CL(""), NO_NUMBER),
		CASE("a plus sign", CL("+5"), NO_NUMBER),
		CASE("a minus sign", CL("-5"), NO_NUMBER),
		CASE("hexadecimal", CL("0x5"), NO_NUMBER),
		CASE("a fraction", CL("5.0"), NO_NUMBER),
		CASE("the byte after nine", CL("5:5"), NO_NUMBER),
		CASE("a space within", CL("5 5"), NO_NUMBER),
		CASE("a list of equal lengths", CL("5, 5"), NO_NUMBER),
		CASE("a list of lengths", CL("5,6"), NO_NUMBER),
		CASE("a trailing comma", CL("5,"), NO_NUMBER),
		CASE("quoted", CL("\"5\""), NO_NUMBER),
		CASE("equal lengths twice", POST "Content-Length: 5\r\nContent-Length: 5\r\n" END,
		     "400 repeated Content-Length"),
		CASE("two lengths", POST "Content-Length: 5\r\ncontent-length: 6\r\n" END,
		     "400 repeated Content-Length"),
		CASE("chunked", TE(" chunked"), "POST / @a 1.1 chunked keep -Transfer-Encoding"),
		CASE("chunked in any case", TE("ChunKed \t"),
		     "POST / @a 1.1 chunked keep -Transfer-Encoding"),
		CASE("CL.TE", POST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n" END,
		     "400 both Content-Length and Transfer-Encoding"),
		CASE("TE.CL", POST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n" END,
		     "400 both Content-Length and Transfer-Encoding"),
		CASE("an unknown coding beside a length",
		     POST "Transfer-Encoding: x\r\nContent-Length: 5\r\n" END,
		     "400 both Content-Length and Transfer-Encoding"),
		CASE("TE.TE", POST "Transfer-Encoding: chunked\r\nTransfer-encoding: x\r\n" END,
		     "400 repeated Transfer-Encoding"),
		CASE("chunked twice", TE("chunked, chunked"),
		     "501 a Transfer-Encoding other than chunked"),
		CASE("chunked last of two", TE("gzip, chunked"),
		     "501 a Transfer-Encoding other than chunked"),
		CASE("chunked first of two", TE("chunked, identity"),
		     "501 a Transfer-Encoding other than chunked"),
		CASE("identity", TE("identity"), "501 a Transfer-Encoding other than chunked"),
		CASE("an empty coding", TE(""), "501 a Transfer-Encoding other than chunked"),
		CASE("a coding like chunked", TE("xchunked"),
		     "501 a Transfer-Encoding other than chunked"),
		CASE("a vertical tab before chunked", TE("\vchunked"),
		     "400 a control character in the head"),
		CASE("a quoted coding", TE("\"chunked\""),
		     "501 a Transfer-Encoding other than chunked"),
		CASE("a parameter", TE("chunked;q=1"),
		     "501 a Transfer-Encoding other than chunked"),
		CASE("a space before the colon", POST "Transfer-Encoding : chunked\r\n" END,
		     NO_NAME),
		CASE("a folded coding", POST "Transfer-Encoding:\r\n chunked\r\n" END,
		     "400 a folded header line"),
		CASE("chunked in 1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n" END,
		     "400 Transfer-Encoding in HTTP/1.0"),
		CASE("an underscore makes another name", POST "Content_Length: 5\r\n" END,
		     "POST / @a 1.1 no-body keep"),
		CASE("a body of GET", GET "Content-Length: 5\r\n" END,
		     "GET / @a 1.1 length=5 keep"),
	};

	CHECK_ALL(cases);
}

static void connection_options(void **state)
{
#define NAMES_END_TO_END "400 Connection names a header that must reach the other end"
#define CON(value)	 GET "Connection:" value "\r\n"
#define GET10		 "GET / HTTP/1.0\r\n"
	static const struct http1_case cases[] = {
		CASE("close", CON("close") END, "GET / @a 1.1 no-body -Connection"),
		CASE("close in any case", CON(" CloSe") END, "GET / @a 1.1 no-body -Connection"),
		CASE("keep-alive", CON("keep-alive") END, "GET / @a 1.1 no-body keep -Connection"),
		CASE("1.0 closes", GET10 END, "GET / @ 1.0 no-body"),
		CASE("1.0 with keep-alive",
		     GET10 "Connection: Keep-Alive\r\nKeep-Alive: timeout=5\r\n" END,
		     "GET / @ 1.0 no-body keep -Connection -Keep-Alive"),
		CASE("close wins over keep-alive", CON("keep-alive, close") END,
		     "GET / @a 1.1 no-body -Connection"),
		CASE("close wins in another line", CON("keep-alive") "Connection: close\r\n" END,
		     "GET / @a 1.1 no-body -Connection -Connection"),
		CASE("close wins in 1.0", GET10 "Connection: close, keep-alive\r\n" END,
		     "GET / @ 1.0 no-body -Connection"),
		CASE("Proxy-Connection is not Connection", GET "Proxy-Connection: close\r\n" END,
		     "GET / @a 1.1 no-body keep -Proxy-Connection"),
		CASE("an unknown option", CON("closed") END,
		     "GET / @a 1.1 no-body keep -Connection"),
		CASE("empty elements", CON(", ,close,") END, "GET / @a 1.1 no-body -Connection"),
		CASE("an empty field", CON("") END, "GET / @a 1.1 no-body keep -Connection"),
		CASE("names headers, all of that name, before and after",
		     GET "X-A: 1\r\nConnection: x-b, x-A\r\nx-B: 2\r\nx-a: 3\r\nx-ab: "
			 "4\r\n" END,
		     "GET / @a 1.1 no-body keep -X-A -Connection -x-B -x-a"),
		CASE("names itself", CON("connection") END,
		     "GET / @a 1.1 no-body keep -Connection"),
		CASE("TE and what it says", CON("TE") "TE: gzip;q=0.5, Trailers\r\n" END,
		     "GET / @a 1.1 no-body keep trailers -Connection -TE"),
		CASE("TE in two lines", GET "TE: gzip\r\nTE: trailers\r\n" END,
		     "GET / @a 1.1 no-body keep trailers -TE -TE"),
		CASE("TE without trailers", GET "TE: trailersx\r\n" END,
		     "GET / @a 1.1 no-body keep -TE"),
		CASE("the other hop-by-hop headers",
		     GET "Trailer: x\r\nProxy-Authorization: x\r\n"
			 "Proxy-Authenticate: x\r\nUpgrade: x\r\n" END,
		     "GET / @a 1.1 no-body keep -Trailer -Proxy-Authorization "
		     "-Proxy-Authenticate -Upgrade"),
		CASE("upgrade", CON("Upgrade") "Upgrade: websocket\r\n" END,
		     "GET / @a 1.1 no-body keep upgrade -Connection -Upgrade"),
		CASE("close and upgrade", CON("close, upgrade") "Upgrade: websocket\r\n" END,
		     "GET / @a 1.1 no-body upgrade -Connection -Upgrade"),
		CASE("upgrade without Upgrade", CON("upgrade") END,
		     "GET / @a 1.1 no-body keep -Connection"),
		CASE("Upgrade without upgrade", GET "Upgrade: websocket\r\n" END,
		     "GET / @a 1.1 no-body keep -Upgrade"),
		CASE("upgrade in 1.0", GET10 "Connection: upgrade\r\nUpgrade: x\r\n" END,
		     "GET / @ 1.0 no-body -Connection -Upgrade"),
		CASE("an option that is no token", CON("close;x") END,
		     "400 an option in Connection is not a token"),
		CASE("two options without comma", CON("close x") END,
		     "400 an option in Connection is not a token"),
		CASE("names Host", CON("close, Host") END, NAMES_END_TO_END),
		CASE("names Content-Length", CON("content-length") "Content-Length: 5\r\n" END,
		     NAMES_END_TO_END),
		CASE("names Transfer-Encoding",
		     CON("Transfer-Encoding") "Transfer-Encoding: chunked\r\n" END,
		     NAMES_END_TO_END),
		CASE("names Expect", CON("expect") END, NAMES_END_TO_END),
		CASE("names X-Forwarded-For", CON("x-forwarded-for") END, NAMES_END_TO_END),
		CASE("names a header of a trace", CON("traceparent") END, NAMES_END_TO_END),
		CASE("names Cookie", CON("cookie") END, NAMES_END_TO_END),
		CASE("32 options",
		     CON("a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a") END,
		     "GET / @a 1.1 no-body keep -Connection"),
		CASE("33 options in two lines",
		     CON("a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,"
			 "a") "Connection: a\r\n" END,
		     "400 too many options in Connection"),
		CASE("33 empty options", CON(",,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,") END,
		     "400 too many options in Connection"),
	};

	CHECK_ALL(cases);
}

static void expectations(void **state)
{
	static const struct http1_case cases[] = {
		CASE("100-continue", POST "Expect: 100-Continue\r\nContent-Length: 5\r\n" END,
		     "POST / @a 1.1 length=5 keep expect"),
		CASE("100-continue in 1.0 is ignored",
		     "POST / HTTP/1.0\r\nExpect: 100-continue\r\n" END, "POST / @ 1.0 no-body"),
		CASE("100-continue twice",
		     POST "Expect: 100-continue\r\nExpect: 100-continue\r\n" END,
		     "POST / @a 1.1 no-body keep expect"),
		CASE("another one", POST "Expect: 200-ok\r\n" END,
		     "417 an Expect other than 100-continue"),
		CASE("another one second", POST "Expect: 100-continue\r\nExpect: x\r\n" END,
		     "417 an Expect other than 100-continue"),
		CASE("an empty one", POST "Expect:\r\n" END,
		     "417 an Expect other than 100-continue"),
	};

	CHECK_ALL(cases);
}

static void methods_and_ids(void **state)
{
	static const struct {
		const char *name;
		uint8_t method;
	} methods[] = {
		{"GET", HTTP1_GET},	{"HEAD", HTTP1_HEAD},	  {"POST", HTTP1_POST},
		{"PUT", HTTP1_PUT},	{"DELETE", HTTP1_DELETE}, {"OPTIONS", HTTP1_OPTIONS},
		{"PATCH", HTTP1_PATCH}, {"TRACE", HTTP1_TRACE},	  {"GETS", HTTP1_OTHER},
		{"Get", HTTP1_OTHER},
	};
	struct http1_head h;
	char text[64];

	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
		int n = snprintf(text, sizeof(text), "%s / HTTP/1.0\r\n\r\n", methods[i].name);

		http1_head_init(&h);
		assert_int_equal(http1_request_parse(&h, text, (size_t)n, HARNESS_HEAD),
				 HTTP1_DONE);
		assert_int_equal(h.method, methods[i].method);
	}
}

static const char *const names[HTTP1_H_MAX] = {
	[HTTP1_H_CONNECTION] = "Connection",
	[HTTP1_H_KEEP_ALIVE] = "Keep-Alive",
	[HTTP1_H_PROXY_CONNECTION] = "Proxy-Connection",
	[HTTP1_H_PROXY_AUTHENTICATE] = "Proxy-Authenticate",
	[HTTP1_H_PROXY_AUTHORIZATION] = "Proxy-Authorization",
	[HTTP1_H_TE] = "TE",
	[HTTP1_H_TRAILER] = "Trailer",
	[HTTP1_H_TRANSFER_ENCODING] = "Transfer-Encoding",
	[HTTP1_H_UPGRADE] = "Upgrade",
	[HTTP1_H_CONTENT_LENGTH] = "Content-Length",
	[HTTP1_H_HOST] = "Host",
	[HTTP1_H_EXPECT] = "Expect",
	[HTTP1_H_X_FORWARDED_FOR] = "X-Forwarded-For",
	[HTTP1_H_X_FORWARDED_PROTO] = "X-Forwarded-Proto",
	[HTTP1_H_X_FORWARDED_HOST] = "X-Forwarded-Host",
	[HTTP1_H_X_REQUEST_ID] = "X-Request-Id",
	[HTTP1_H_X_REQUEST_TIMEOUT_MS] = "X-Request-Timeout-Ms",
	[HTTP1_H_X_INSTANCE_ID] = "X-Instance-Id",
	[HTTP1_H_X_MESH_CAUSE] = "X-Mesh-Cause",
	[HTTP1_H_X_MESH_TRIES] = "X-Mesh-Tries",
	[HTTP1_H_TRACEPARENT] = "Traceparent",
	[HTTP1_H_TRACESTATE] = "Tracestate",
	[HTTP1_H_B3] = "B3",
	[HTTP1_H_X_B3_TRACEID] = "X-B3-TraceId",
	[HTTP1_H_X_B3_SPANID] = "X-B3-SpanId",
	[HTTP1_H_X_B3_PARENTSPANID] = "X-B3-ParentSpanId",
	[HTTP1_H_X_B3_SAMPLED] = "X-B3-Sampled",
	[HTTP1_H_X_B3_FLAGS] = "X-B3-Flags",
	[HTTP1_H_X_TRACE_ID] = "X-Trace-Id",
	[HTTP1_H_X_SPAN_ID] = "X-Span-Id",
	[HTTP1_H_X_PARENT_SPAN_ID] = "X-Parent-Span-Id",
	[HTTP1_H_GRPC_TIMEOUT] = "Grpc-Timeout",
	[HTTP1_H_COOKIE] = "Cookie",
};

/* The id that a response gives a header of that name. */
static uint8_t id_of(const char *name, const char *value)
{
	struct http1_head h;
	char text[128];
	int n = snprintf(text, sizeof(text), "HTTP/1.1 200 OK\r\n%s: %s\r\n\r\n", name, value);

	http1_head_init(&h);
	assert_int_equal(http1_response_parse(&h, text, (size_t)n, HARNESS_HEAD, HTTP1_GET),
			 HTTP1_DONE);
	assert_int_equal(h.index[h.headers[0].id], 1);
	assert_int_equal(h.headers[0].hop, h.headers[0].id && h.headers[0].id <= HTTP1_H_LAST_HOP);
	return (uint8_t)h.headers[0].id;
}

static void header_ids_in_any_case(void **state)
{
	for (uint8_t id = 1; id < HTTP1_H_MAX; id++) {
		const char *value = id == HTTP1_H_CONTENT_LENGTH ? "5" : "chunked";
		char name[40];

		assert_non_null(names[id]);
		for (int variant = 0; variant < 4; variant++) {
			size_t n = strlen(names[id]);

			for (size_t i = 0; i <= n; i++) {
				char c = names[id][i];
				bool letter = (c | 0x20) >= 'a' && (c | 0x20) <= 'z';

				if (letter && variant < 3)
					c = (char)(variant == 0 || (variant == 2 && i & 1)
							   ? c & ~0x20
							   : c | 0x20);
				name[i] = c;
			}
			assert_int_equal(id_of(name, value), id);
		}
		name[0] = 'q';
		assert_int_equal(id_of(name, value), HTTP1_H_OTHER);
	}
	assert_int_equal(id_of("x-b4-traceid", "1"), HTTP1_H_OTHER);
	assert_int_equal(id_of("x_request-id", "1"), HTTP1_H_OTHER);
	assert_int_equal(id_of("x", "1"), HTTP1_H_OTHER);
}

static void the_index_names_the_first_of_each(void **state)
{
	static const char text[] = GET "X-Forwarded-For: 1\r\nA: b\r\nX-Forwarded-For: 2\r\n" END;
	struct http1_head h;

	http1_head_init(&h);
	assert_int_equal(http1_request_parse(&h, text, sizeof(text) - 1, HARNESS_HEAD), HTTP1_DONE);
	assert_int_equal(h.nheaders, 4);
	assert_int_equal(h.index[HTTP1_H_HOST], 1);
	assert_int_equal(h.index[HTTP1_H_X_FORWARDED_FOR], 2);
	assert_int_equal(h.index[HTTP1_H_COOKIE], 0);
	assert_int_equal(h.headers[3].id, HTTP1_H_X_FORWARDED_FOR);
	assert_int_equal(h.size, sizeof(text) - 1);
}

static void slices_are_exact(void **state)
{
	static const char text[] =
		"\r\nPUT http://h:1/p?q HTTP/1.1\r\nHost:h\r\nName: \t a b\t \r\n\r\nbody";
	struct http1_head h;

	http1_head_init(&h);
	assert_int_equal(http1_request_parse(&h, text, sizeof(text) - 1, HARNESS_HEAD), HTTP1_DONE);
	assert_int_equal(h.size, sizeof(text) - 1 - 4);
	assert_memory_equal(text + h.target.at, "http://h:1/p?q", h.target.len);
	assert_int_equal(h.target.len, 14);
	assert_memory_equal(text + h.headers[1].name.at, "Name", 4);
	assert_int_equal(h.headers[1].name.len, 4);
	assert_memory_equal(text + h.headers[1].value.at, "a b", 3);
	assert_int_equal(h.headers[1].value.len, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(request_lines),
		cmocka_unit_test(targets),
		cmocka_unit_test(hosts),
		cmocka_unit_test(field_lines),
		cmocka_unit_test(framing),
		cmocka_unit_test(connection_options),
		cmocka_unit_test(expectations),
		cmocka_unit_test(methods_and_ids),
		cmocka_unit_test(header_ids_in_any_case),
		cmocka_unit_test(the_index_names_the_first_of_each),
		cmocka_unit_test(slices_are_exact),
	};

	return cmocka_run_group_tests_name("http1 requests", tests, NULL, NULL);
}
