/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/1.x message parser: strict, incremental, without allocation. It reads bytes the caller owns
 * and reports slices of them; it never copies, never writes, never looks beyond the length it is
 * given, and knows nothing of connections. Rules: RFC 9110, 9112; what those leave to the receiver
 * is refused, not repaired, because two parsers that repair differently are how requests are
 * smuggled.
 *
 * Heads: call http1_request_parse or http1_response_parse with everything received so far, from the
 * first byte of the message; when it returns HTTP1_MORE call again with more bytes (at least those
 * of the last call). h->scanned makes that linear, and the result is the same however the bytes
 * were split. Slices are offsets from the start of the message, so the buffer may move between
 * calls. After DONE or BAD a head must be initialised again.
 */
#ifndef PROXY_HTTP1_H
#define PROXY_HTTP1_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTP1_MAX_HEADERS 100
#define HTTP1_MAX_LINE	  8192 /* request line or one header field, without CR LF */

enum http1_result {
	HTTP1_MORE = 0, /* incomplete, nothing wrong so far */
	HTTP1_DONE = 1, /* whole; *h is filled */
	HTTP1_BAD = -1, /* malformed; h->status is the status to answer with, h->reason says what is
			   wrong */
};

struct http1_slice {
	uint32_t at, len;
};

enum http1_method {
	HTTP1_OTHER, /* a valid token that is none of the below */
	HTTP1_GET,
	HTTP1_HEAD,
	HTTP1_POST,
	HTTP1_PUT,
	HTTP1_DELETE,
	HTTP1_OPTIONS,
	HTTP1_PATCH,
	HTTP1_TRACE,
	HTTP1_CONNECT,
};

/*
 * Headers that the proxy itself acts on; everything else is HTTP1_H_OTHER. The order means
 * something: hop-by-hop ones come first, and those up to X-Forwarded-Host are refused in trailers.
 */
enum http1_header_id {
	HTTP1_H_OTHER,
	HTTP1_H_CONNECTION,
	HTTP1_H_KEEP_ALIVE,
	HTTP1_H_PROXY_CONNECTION,
	HTTP1_H_PROXY_AUTHENTICATE,
	HTTP1_H_PROXY_AUTHORIZATION,
	HTTP1_H_TE,
	HTTP1_H_TRAILER,
	HTTP1_H_TRANSFER_ENCODING,
	HTTP1_H_UPGRADE,
	HTTP1_H_LAST_HOP = HTTP1_H_UPGRADE,
	HTTP1_H_CONTENT_LENGTH,
	HTTP1_H_HOST,
	HTTP1_H_EXPECT,
	HTTP1_H_X_FORWARDED_FOR,
	HTTP1_H_X_FORWARDED_PROTO,
	HTTP1_H_X_FORWARDED_HOST,
	HTTP1_H_X_REQUEST_ID,
	HTTP1_H_X_REQUEST_TIMEOUT_MS,
	HTTP1_H_X_INSTANCE_ID,
	HTTP1_H_X_MESH_CAUSE,
	HTTP1_H_X_MESH_TRIES,
	HTTP1_H_TRACEPARENT,
	HTTP1_H_TRACESTATE,
	HTTP1_H_B3,
	HTTP1_H_X_B3_TRACEID,
	HTTP1_H_X_B3_SPANID,
	HTTP1_H_X_B3_PARENTSPANID,
	HTTP1_H_X_B3_SAMPLED,
	HTTP1_H_X_B3_FLAGS,
	HTTP1_H_X_TRACE_ID,
	HTTP1_H_X_SPAN_ID,
	HTTP1_H_X_PARENT_SPAN_ID,
	HTTP1_H_FIRST_TRACE = HTTP1_H_TRACEPARENT,
	HTTP1_H_LAST_TRACE = HTTP1_H_X_PARENT_SPAN_ID,
	HTTP1_H_GRPC_TIMEOUT,
	HTTP1_H_COOKIE,
	HTTP1_H_MAX,
};

struct http1_header {
	struct http1_slice name;  /* as sent, without the colon */
	struct http1_slice value; /* without white space around it; may be empty */
	uint16_t id;		  /* enum http1_header_id */
	bool hop; /* must not be forwarded: hop-by-hop by itself or named in Connection */
};

enum http1_framing {
	HTTP1_NO_BODY,
	HTTP1_LENGTH, /* content_length bytes follow (may be 0) */
	HTTP1_CHUNKED,
	HTTP1_UNTIL_CLOSE, /* responses only */
};

struct http1_head {
	uint32_t scanned; /* parser's own, as are line and stage; 0 before the first call */
	uint32_t line;	  /* start of the line that is not complete yet */
	uint32_t size;	  /* bytes of the whole head, blank line included (DONE) */
	uint8_t stage;
	uint8_t minor;	      /* HTTP/1.minor: 0 or 1 */
	uint8_t method;	      /* enum http1_method (requests) */
	uint8_t framing;      /* enum http1_framing */
	bool keep_alive;      /* the sender allows another message on this connection */
	bool expect_continue; /* requests: Expect: 100-continue (never in 1.0) */
	bool upgrade;	  /* Connection: upgrade and an Upgrade header are there (never in 1.0) */
	bool te_trailers; /* requests: TE: trailers was there */
	uint8_t nheaders;
	uint16_t status;	 /* responses: theirs; BAD: what to answer the client with */
	const char *reason;	 /* BAD: static text, for people */
	uint64_t content_length; /* of Content-Length, even when framing is NO_BODY (HEAD, 304); 0
				    without */
	struct http1_slice method_name, target; /* requests; target as sent */
	struct http1_slice
		path; /* origin-form of target, never empty: "/a/b?c"; "*" for OPTIONS * */
	struct http1_slice host; /* authority of an absolute-form target, which wins, else Host; as
				    sent, with its port; len 0: an empty Host, or none in 1.0 */
	struct http1_slice phrase;  /* responses: reason phrase, may be empty */
	uint8_t index[HTTP1_H_MAX]; /* 1 + position of the first header with that id, 0: not there
				     */
	struct http1_header headers[HTTP1_MAX_HEADERS];
};

/* Before the first byte of each message. Cheap: does not touch headers[]. */
void http1_head_init(struct http1_head *h);

/*
 * Requests. `max` (below 4 GiB) is the limit for the whole head: only its first max bytes are
 * looked at, and MORE is never returned with len >= max. At most one empty line (CRLF) before the
 * request line is passed over (RFC 9112 2.2); size includes it. Refused, with h->status:
 *
 * 400  lines: bare LF or CR, control characters but tab, obs-fold, white space before the colon, an
 * empty or non-token name, two spaces or a tab in the request line; target: bytes outside
 * 0x21..0x7e, a fragment, neither origin- nor absolute-form (http only, no userinfo) nor "*" of
 * OPTIONS nor host:port of CONNECT; absolute-form that has no path but a query or the method
 * OPTIONS (its origin-form is not a part of the message); Host: none in 1.1, repeated, or not RFC
 * 3986 host [":" port] (empty is allowed); framing: Content-Length that is not digits, over 2^63-1
 * or repeated (even if equal, even as a list), Content-Length together with Transfer-Encoding,
 * Transfer-Encoding repeated or in 1.0; Connection: an option that is no token, more than 32
 * options, or one that names Transfer-Encoding or any field after HTTP1_H_LAST_HOP in enum
 * http1_header_id: removing those would change what the other end understands 414  request line
 * over HTTP1_MAX_LINE 417  an Expect other than 100-continue 431  one field over HTTP1_MAX_LINE,
 * more than HTTP1_MAX_HEADERS, head over max 501  Transfer-Encoding other than exactly "chunked"
 * (in any case), CONNECT 505  a version other than 1.0 and 1.1
 */
enum http1_result http1_request_parse(struct http1_head *h, const char *data, size_t len,
				      size_t max);

/*
 * Responses. `method` (enum http1_method) of the request decides framing: no body for HEAD, 1xx,
 * 204, 304. The rules for lines, fields, framing and Connection are those of requests, but an
 * option of Connection that names an end-to-end field has no effect (some servers name
 * Transfer-Encoding). A status outside 100..599 is BAD, an empty line before the status line too;
 * the space after the status may be missing when the phrase is empty. BAD is always status 502.
 */
enum http1_result http1_response_parse(struct http1_head *h, const char *data, size_t len,
				       size_t max, uint8_t method);

/*
 * Does it look like the start of an HTTP/1 request? For protocol detection on the first bytes of a
 * connection: DONE yes, MORE could still become one, BAD no (TLS, HTTP/2 preface, Redis, anything
 * binary). Only "METHOD SP" with a method of up to 20 upper-case letters or '-' counts, followed by
 * '/', '*', "http://", or for CONNECT the start of a host; "PRI * HTTP/2" is BAD.
 */
enum http1_result http1_sniff(const char *data, size_t len);

/*
 * Chunked bodies. Consumes framing and data in place: the proxy forwards the raw bytes, so what it
 * must know is where the body ends and that everything up to there is well-formed: sizes hex
 * without sign, at most 15 digits; extensions start with ';' (white space may precede it), have no
 * control characters and no bare CR or LF, at most 256 bytes a chunk; CRLF exact; trailers as
 * header fields (obs-fold refused; framing, routing, hop-by-hop and x-forwarded-* fields refused:
 * all up to HTTP1_H_X_FORWARDED_HOST in enum http1_header_id), at most 8 KiB altogether with the
 * last CRLF.
 */
struct http1_chunked {
	uint8_t state;
	uint8_t digits;
	uint16_t extra;	  /* bytes of extension, or of a trailer's name, so far */
	uint32_t trailer; /* bytes of trailer section so far */
	uint64_t left;	  /* of the current chunk's data */
	uint64_t data;	  /* body bytes seen so far, without framing */
	uint64_t name; /* refused trailer names that the name so far could become, parser's own */
};
void http1_chunked_init(struct http1_chunked *c);
/*
 * Looks at len bytes. *used: how many belong to the body. MORE: all of them, and it goes on; DONE:
 * the body ended after *used; BAD: malformed at data[*used].
 */
enum http1_result http1_chunked_feed(struct http1_chunked *c, const char *data, size_t len,
				     size_t *used);

#endif
