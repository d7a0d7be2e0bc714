/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Request targets (RFC 9112 3.2), hosts, and the sniffing of a connection's first bytes. Called by
 * http1_head.c when the request line is whole; http1_sniff by the listener. Must not repair: a
 * target that has to be rewritten before it could be sent on is refused.
 */
#include "agent/proxy/http1_internal.h"

#include <string.h>

#define SCHEME		   "http://"
#define SCHEME_LEN	   (sizeof(SCHEME) - 1)
#define PREFACE		   "PRI * HTTP/2"
#define PREFACE_LEN	   (sizeof(PREFACE) - 1)
#define MAX_SNIFFED_METHOD 20

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* *DIGIT (RFC 3986 3.2.3), within what a port can be. */
static bool port_valid(const char *s, size_t n)
{
	unsigned int port = 0;

	for (size_t i = 0; i < n; i++) {
		if (!is_digit(s[i]))
			return false;
		port = port * 10 + (unsigned int)(s[i] - '0');
		if (port > 65535)
			return false;
	}
	return true;
}

/* Length of the IP-literal at s, brackets included, 0 if it is none. What is an address is for its
 * user to judge. */
static size_t literal_len(const char *s, size_t n)
{
	size_t i = 1;

	while (i < n && (http1_is(s[i], HTTP1_C_HEX) || s[i] == ':' || s[i] == '.'))
		i++;
	return i < n && i > 2 && s[i] == ']' ? i + 1 : 0;
}

static size_t regname_len(const char *s, size_t n)
{
	size_t i = 0;

	while (i < n) {
		if (http1_is(s[i], HTTP1_C_REGNAME))
			i++;
		else if (s[i] == '%' && n - i >= 3 && http1_is(s[i + 1], HTTP1_C_HEX) &&
			 http1_is(s[i + 2], HTTP1_C_HEX))
			i += 3;
		else
			break;
	}
	return i;
}

bool http1_host_valid(const char *host, size_t n)
{
	size_t name;

	if (!n)
		return true;
	name = host[0] == '[' ? literal_len(host, n) : regname_len(host, n);
	if (!name)
		return false;
	return name == n || (host[name] == ':' && port_valid(host + name + 1, n - name - 1));
}

static enum http1_result absolute_form(struct http1_head *h, const char *data)
{
	size_t at = h->target.at + SCHEME_LEN;
	size_t end = h->target.at + h->target.len;
	size_t path = at;

	while (path < end && data[path] != '/' && data[path] != '?')
		path++;
	if (path == at || !http1_host_valid(data + at, path - at))
		return http1_bad(h, 400, "the request target has an invalid host");
	h->host = http1_slice(at, path);
	h->path = http1_slice(path, end);
	if (path < end && data[path] == '/')
		return HTTP1_DONE;
	/* "/?query" and the "*" of OPTIONS are nowhere in the buffer; the "/" is, in the scheme. */
	if (path < end || h->method == HTTP1_OPTIONS)
		return http1_bad(h, 400, "an absolute request target without a path");
	h->path = http1_slice(at - 1, at);
	return HTTP1_DONE;
}

static enum http1_result authority_form(struct http1_head *h, const char *data)
{
	const char *colon = memrchr(data + h->target.at, ':', h->target.len);

	if (!colon || colon == data + h->target.at ||
	    colon + 1 == data + h->target.at + h->target.len ||
	    !http1_host_valid(data + h->target.at, h->target.len))
		return http1_bad(h, 400, "the target of CONNECT is not host:port");
	return http1_bad(h, 501, "CONNECT is not supported");
}

enum http1_result http1_judge_target(struct http1_head *h, const char *data)
{
	const char *target = data + h->target.at;

	if (h->method == HTTP1_CONNECT)
		return authority_form(h, data);
	h->path = h->target;
	if (target[0] == '/')
		return HTTP1_DONE;
	if (target[0] == '*' && h->target.len == 1 && h->method == HTTP1_OPTIONS)
		return HTTP1_DONE;
	if (h->target.len > SCHEME_LEN && http1_same(target, SCHEME, SCHEME_LEN))
		return absolute_form(h, data);
	return http1_bad(h, 400, "the request target is not a path or an http URI");
}

/* Is s, as far as it goes, the beginning of `whole`? DONE: all of it. */
static enum http1_result begins(const char *s, size_t n, const char *whole, size_t whole_len)
{
	if (!http1_same(s, whole, n < whole_len ? n : whole_len))
		return HTTP1_BAD;
	return n < whole_len ? HTTP1_MORE : HTTP1_DONE;
}

static bool is_preface(const char *data, size_t n)
{
	return !memcmp(data, PREFACE, n < PREFACE_LEN ? n : PREFACE_LEN);
}

static enum http1_result sniff_target(const char *data, size_t len, size_t at)
{
	char c = data[at];

	if (c == '/')
		return HTTP1_DONE;
	if (c == '*') {
		if (!is_preface(data, len))
			return HTTP1_DONE;
		return len < PREFACE_LEN ? HTTP1_MORE : HTTP1_BAD;
	}
	if (at == sizeof("CONNECT") && !memcmp(data, "CONNECT", at - 1))
		return c == '[' || http1_is(c, HTTP1_C_REGNAME) ? HTTP1_DONE : HTTP1_BAD;
	return begins(data + at, len - at, SCHEME, SCHEME_LEN);
}

enum http1_result http1_sniff(const char *data, size_t len)
{
	size_t n = 0;

	while (n < len && n <= MAX_SNIFFED_METHOD &&
	       (http1_is(data[n], HTTP1_C_UPPER) || data[n] == '-'))
		n++;
	if (n > MAX_SNIFFED_METHOD)
		return HTTP1_BAD;
	if (n == len)
		return HTTP1_MORE;
	if (n == 0 || data[n] != ' ')
		return HTTP1_BAD;
	return n + 1 == len ? HTTP1_MORE : sniff_target(data, len, n + 1);
}
