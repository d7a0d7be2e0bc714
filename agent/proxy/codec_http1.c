/* SPDX-License-Identifier: Apache-2.0 */
/* See codec_http1.h. */
#include "agent/proxy/codec_http1.h"
#include "agent/proxy/deadline.h"
#include "agent/proxy/downstream.h"
#include "agent/proxy/exchange.h"
#include "agent/proxy/sticky.h"
#include "agent/proxy/trace.h"
#include "agent/proxy/upstream.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

struct out {
	char *at, *end;
	bool full;
};

static void put(struct out *o, const char *s, size_t n)
{
	if ((size_t)(o->end - o->at) < n) {
		o->full = true;
		return;
	}
	memcpy(o->at, s, n);
	o->at += n;
}

#define put_literal(o, s) put(o, s, sizeof(s) - 1)

static void put_string(struct out *o, const char *s)
{
	put(o, s, strlen(s));
}

/* n bytes that somebody else has put there; 0: they did not fit. */
static void put_composed(struct out *o, size_t n)
{
	o->at += n;
	o->full |= !n;
}

static void put_slice(struct out *o, const char *head, struct http1_slice s)
{
	put(o, head + s.at, s.len);
}

static void put_number(struct out *o, uint32_t n)
{
	char digits[10];
	size_t at = sizeof(digits);

	do {
		digits[--at] = (char)('0' + n % 10);
		n /= 10;
	} while (n);
	put(o, digits + at, sizeof(digits) - at);
}

static const struct http1_header *find(const struct http1_head *h, enum http1_header_id id)
{
	return h->index[id] ? &h->headers[h->index[id] - 1] : NULL;
}

static bool in_set(uint64_t set, uint16_t id)
{
	return set >> id & 1;
}

/* All that callers say of traces: it is said anew. */
#define TRACE_HEADERS ((2ULL << HTTP1_H_LAST_TRACE) - (1ULL << HTTP1_H_FIRST_TRACE))

static bool is_max_forwards(const struct http1_header *f, const char *head)
{
	static const char name[] = "max-forwards";

	return f->id == HTTP1_H_OTHER && f->name.len == sizeof(name) - 1 &&
	       !strncasecmp(head + f->name.at, name, sizeof(name) - 1);
}

/* Digits, at least one; what is large stays large. */
static bool read_count(const char *s, uint32_t len, uint32_t *out)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < len; i++) {
		if (s[i] < '0' || s[i] > '9')
			return false;
		if (n < 100000000)
			n = n * 10 + (uint32_t)(s[i] - '0');
	}
	*out = n;
	return len;
}

uint32_t codec_max_forwards(const struct http1_head *h, const char *head)
{
	uint32_t least = CODEC_NO_LIMIT, n;

	if (h->method != HTTP1_OPTIONS && h->method != HTTP1_TRACE)
		return least;
	for (unsigned i = 0; i < h->nheaders; i++) {
		struct http1_slice v = h->headers[i].value;

		if (is_max_forwards(&h->headers[i], head) && read_count(head + v.at, v.len, &n) &&
		    n < least)
			least = n;
	}
	return least;
}

/* Copies all headers but those of the set and those that end here. Neighbours that stay are copied
 * in one go, as they were sent. counted: Max-Forwards is not copied. */
static void put_headers(struct out *o, const struct http1_head *h, const char *head, uint64_t drop,
			bool counted)
{
	uint32_t from = 0, to = 0;

	for (unsigned i = 0; i < h->nheaders; i++) {
		const struct http1_header *f = &h->headers[i];

		if ((f->id != HTTP1_H_TRAILER && (f->hop || in_set(drop, f->id))) ||
		    (counted && is_max_forwards(f, head))) {
			put(o, head + from, to - from);
			from = to = 0;
			continue;
		}
		if (!to)
			from = f->name.at;
		/* up to the next field's name, so line end included; the last one ends before the
		 * blank line */
		to = i + 1U < h->nheaders ? h->headers[i + 1].name.at : h->size - 2;
	}
	put(o, head + from, to - from);
}

static void put_value(struct out *o, const char *name, const char *head,
		      const struct http1_header *f)
{
	put_string(o, name);
	put_slice(o, head, f->value);
	put_literal(o, "\r\n");
}

static void put_request_line(struct out *o, const struct exchange *ex, const char *head)
{
	const struct http1_head *h = &ex->request;
	struct http1_slice path = h->path;

	put_slice(o, head, h->method_name);
	put_literal(o, " ");
	if (ex->path_skip) {
		path.at += ex->path_skip;
		path.len -= ex->path_skip;
		if (!path.len || head[path.at] != '/')
			put_literal(o, "/");
	} else if (!path.len) { /* http://host without a path */
		put_literal(o, "/");
	}
	put_slice(o, head, path);
	put(o, h->minor ? " HTTP/1.1\r\n" : " HTTP/1.0\r\n", 11);
}

static void put_forwarded(struct out *o, const struct exchange *ex, const char *head)
{
	const struct http1_head *h = &ex->request;

	put_literal(o, "x-forwarded-for: ");
	for (unsigned i = 0; h->index[HTTP1_H_X_FORWARDED_FOR] && i < h->nheaders; i++)
		if (h->headers[i].id == HTTP1_H_X_FORWARDED_FOR) {
			put_slice(o, head, h->headers[i].value);
			put_literal(o, ", ");
		}
	put_string(o, ex->down->peer);
	put_literal(o, "\r\n");
	if (!find(h, HTTP1_H_X_FORWARDED_PROTO))
		put_literal(o, "x-forwarded-proto: http\r\n");
	if (!find(h, HTTP1_H_X_FORWARDED_HOST) && h->host.len) {
		put_literal(o, "x-forwarded-host: ");
		put_slice(o, head, h->host);
		put_literal(o, "\r\n");
	}
}

static void put_max_forwards(struct out *o, uint32_t left)
{
	put_literal(o, "max-forwards: ");
	put_number(o, left);
	put_literal(o, "\r\n");
}

/* What is left of the time that the caller gave, or that we give; 0: no end. */
static void put_deadline(struct out *o, const struct http1_head *h, uint32_t left_ms)
{
	char grpc[DEADLINE_GRPC_MAX];

	if (!left_ms)
		return;
	put_literal(o, "x-request-timeout-ms: ");
	put_number(o, left_ms);
	put_literal(o, "\r\n");
	if (!find(h, HTTP1_H_GRPC_TIMEOUT))
		return;
	put_literal(o, "grpc-timeout: ");
	put(o, grpc, deadline_format_grpc(left_ms, grpc));
	put_literal(o, "\r\n");
}

static void put_request_connection(struct out *o, const struct http1_head *h, const char *head)
{
	const struct http1_header *upgrade = find(h, HTTP1_H_UPGRADE);

	if (h->framing == HTTP1_CHUNKED)
		put_literal(o, "transfer-encoding: chunked\r\n");
	if (!h->minor)
		put_literal(o, "connection: keep-alive\r\n"); /* ours, for the pool */
	if (h->upgrade && upgrade) {
		put_literal(o, "connection: upgrade\r\n");
		put_value(o, "upgrade: ", head, upgrade);
	} else if (h->te_trailers) {
		put_literal(o, "connection: te\r\nte: trailers\r\n");
	}
}

static size_t finished(struct out *o, const char *start)
{
	put_literal(o, "\r\n");
	return o->full ? 0 : (size_t)(o->at - start);
}

size_t codec_request(const struct exchange *ex, const char *head, char *out, size_t cap)
{
	const struct http1_head *h = &ex->request;
	struct out o = {out, out + cap, false};
	uint32_t forwards = codec_max_forwards(h, head), left_ms = deadline_left_ms(ex);
	uint64_t drop = 1ULL << HTTP1_H_X_FORWARDED_FOR | 1ULL << HTTP1_H_X_REQUEST_ID |
			1ULL << HTTP1_H_HOST | (ex->trace.begun ? TRACE_HEADERS : 0);

	if (left_ms)
		drop |= 1ULL << HTTP1_H_X_REQUEST_TIMEOUT_MS | 1ULL << HTTP1_H_GRPC_TIMEOUT;
	put_request_line(&o, ex, head);
	/* first, as RFC 9110 7.2 asks; of an absolute target its authority; may be empty */
	if (h->host.len || find(h, HTTP1_H_HOST)) {
		put_literal(&o, "host: ");
		put_slice(&o, head, h->host);
		put_literal(&o, "\r\n");
	}
	put_headers(&o, h, head, drop, forwards != CODEC_NO_LIMIT);
	if (forwards != CODEC_NO_LIMIT)
		put_max_forwards(&o, forwards ? forwards - 1 : 0);
	put_forwarded(&o, ex, head);
	put_deadline(&o, h, left_ms);
	put_literal(&o, "x-request-id: ");
	put(&o, ex->request_id, ex->request_id_len);
	put_literal(&o, "\r\n");
	if (ex->trace.begun)
		put_composed(&o, trace_put(&ex->trace, h, head, o.at, (size_t)(o.end - o.at)));
	put_request_connection(&o, h, head);
	return finished(&o, out);
}

static void put_status_line(struct out *o, uint16_t status, const char *phrase, size_t len)
{
	char line[16] = "HTTP/1.1 000 ";

	line[9] = (char)('0' + status / 100 % 10);
	line[10] = (char)('0' + status / 10 % 10);
	line[11] = (char)('0' + status % 10);
	put(o, line, 13);
	put(o, phrase, len);
	put_literal(o, "\r\n");
}

static void put_connection(struct out *o, const struct exchange *ex, bool keep)
{
	if (!keep)
		put_literal(o, "connection: close\r\n");
	else if (!ex->request.minor)
		put_literal(o, "connection: keep-alive\r\n");
}

static void put_request_id(struct out *o, const struct exchange *ex)
{
	if (!ex->request_id_len)
		return;
	put_literal(o, "x-request-id: ");
	put(o, ex->request_id, ex->request_id_len);
	put_literal(o, "\r\n");
}

static void put_trace(struct out *o, const struct exchange *ex)
{
	if (!ex->trace.begun)
		return;
	put_composed(o, trace_put_answer(&ex->trace, o->at, (size_t)(o->end - o->at)));
}

static void put_tries(struct out *o, const struct exchange *ex)
{
	put_literal(o, "x-mesh-tries: ");
	put_number(o, ex->tries);
	put_literal(o, "\r\n");
}

size_t codec_response(const struct exchange *ex, const char *head, bool keep, char *out, size_t cap)
{
	const struct http1_head *h = &ex->response;
	const struct http1_header *upgrade = find(h, HTTP1_H_UPGRADE);
	struct out o = {out, out + cap, false};

	if (h->framing == HTTP1_CHUNKED && !ex->request.minor)
		return 0;
	put_status_line(&o, h->status, head + h->phrase.at, h->phrase.len);
	put_headers(&o, h, head,
		    1ULL << HTTP1_H_X_INSTANCE_ID | 1ULL << HTTP1_H_X_REQUEST_ID |
			    1ULL << HTTP1_H_X_MESH_TRIES | 1ULL << HTTP1_H_X_TRACE_ID,
		    false);
	if (h->status < 200 && h->status != 101)
		return finished(&o, out);
	if (h->framing == HTTP1_CHUNKED)
		put_literal(&o, "transfer-encoding: chunked\r\n");
	put_literal(&o, "x-instance-id: ");
	put_string(&o, ex->up->id);
	put_literal(&o, "\r\n");
	put_request_id(&o, ex);
	put_trace(&o, ex);
	put_tries(&o, ex);
	o.at += sticky_set_cookie(ex, o.at, (size_t)(o.end - o.at));
	if (h->status == 101 && upgrade) {
		put_literal(&o, "connection: upgrade\r\n");
		put_value(&o, "upgrade: ", head, upgrade);
	} else {
		put_connection(&o, ex, keep);
	}
	return finished(&o, out);
}

static const char *phrase(uint16_t status)
{
	switch (status) {
	case 200:
		return "OK";
	case 400:
		return "Bad Request";
	case 403:
		return "Forbidden";
	case 404:
		return "Not Found";
	case 405:
		return "Method Not Allowed";
	case 408:
		return "Request Timeout";
	case 413:
		return "Content Too Large";
	case 414:
		return "URI Too Long";
	case 417:
		return "Expectation Failed";
	case 431:
		return "Request Header Fields Too Large";
	case 501:
		return "Not Implemented";
	case 502:
		return "Bad Gateway";
	case 503:
		return "Service Unavailable";
	case 504:
		return "Gateway Timeout";
	case 505:
		return "HTTP Version Not Supported";
	default:
		return "";
	}
}

/* Texts, causes and service names are ours: nothing in them needs to be escaped. */
static int compose_body(char *out, size_t cap, const char *text, uint8_t code, const char *service)
{
	const char *cause = cause_name(code);

	if (!*text)
		return 0;
	if (code == CAUSE_BREAKER_OPEN)
		return snprintf(out, cap,
				"{\"error\":\"%s\",\"circuit\":\"open\",\"service\":\"%s\","
				"\"cause\":\"%s\"}\n",
				text, service ? service : "", cause);
	if (service)
		return snprintf(out, cap,
				"{\"error\":\"%s\",\"cause\":\"%s\",\"service\":\"%s\"}\n", text,
				cause, service);
	return snprintf(out, cap, "{\"error\":\"%s\",\"cause\":\"%s\"}\n", text, cause);
}

/* Could have been tried, and was not to be. */
static bool is_policy(uint8_t cause)
{
	return cause == CAUSE_BREAKER_OPEN || cause == CAUSE_BULKHEAD_FULL ||
	       cause == CAUSE_FAULT_INJECTED || cause == CAUSE_DENIED;
}

size_t codec_answer(const struct exchange *ex, const char *text, const char *service, bool keep,
		    char *out, size_t cap)
{
	struct out o = {out, out + cap, false};
	const char *cause = cause_name(ex->cause), *name = phrase(ex->status);
	char body[512], length[48];
	int n = compose_body(body, sizeof(body), text, ex->cause, service);

	if (n < 0 || (size_t)n >= sizeof(body))
		return 0;
	put_status_line(&o, ex->status, name, strlen(name));
	if (ex->status == 405) /* RFC 9110 15.5.6: says what would be */
		put_literal(&o, "allow: OPTIONS\r\n");
	if (n)
		put_literal(&o, "content-type: application/json\r\n");
	snprintf(length, sizeof(length), "content-length: %d\r\n", n);
	if (ex->status != 204 && ex->status != 304) /* RFC 9110 8.6 */
		put_string(&o, length);
	put_literal(&o, "x-mesh-cause: ");
	put_string(&o, cause);
	put_literal(&o, "\r\n");
	if (ex->cause == CAUSE_BREAKER_OPEN)
		put_literal(&o, "x-circuit-status: open\r\n");
	if (ex->tries || is_policy(ex->cause))
		put_tries(&o, ex);
	put_request_id(&o, ex);
	put_trace(&o, ex);
	put_connection(&o, ex, keep);
	put_literal(&o, "\r\n");
	if (ex->request.method != HTTP1_HEAD)
		put(&o, body, (size_t)n);
	return o.full ? 0 : (size_t)(o.at - out);
}

uint32_t codec_keep_alive_ms(const struct http1_head *h, const char *head)
{
	const struct http1_header *f = find(h, HTTP1_H_KEEP_ALIVE);
	static const char key[] = "timeout=";
	const char *at, *end;
	uint32_t seconds = 0;

	if (!f)
		return 0;
	at = memmem(head + f->value.at, f->value.len, key, sizeof(key) - 1);
	end = head + f->value.at + f->value.len;
	if (!at)
		return 0;
	for (at += sizeof(key) - 1; at < end && *at >= '0' && *at <= '9' && seconds < 100000; at++)
		seconds = seconds * 10 + (uint32_t)(*at - '0');
	return seconds ? seconds * 1000 - 500 : 1;
}
