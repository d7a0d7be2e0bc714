/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Heads of HTTP/1 messages as bytes. Composes what goes to the endpoint and to the caller from what
 * was parsed; knows which headers end at this hop (RFC 9110 7.6.1) and which ones we add. Returns
 * the number of bytes composed, 0: it does not fit.
 */
#ifndef PROXY_CODEC_HTTP1_H
#define PROXY_CODEC_HTTP1_H

#include "agent/proxy/http1.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct exchange;

#define CODEC_NO_LIMIT UINT32_MAX

/* How many more may forward an OPTIONS or TRACE request (Max-Forwards, RFC 9110 7.6.2): 0: we may
 * not; CODEC_NO_LIMIT: it does not say, or is another method's. */
uint32_t codec_max_forwards(const struct http1_head *request, const char *head);

/* The request's head for the endpoint; `head` is the caller's, as it was parsed. */
size_t codec_request(const struct exchange *ex, const char *head, char *out, size_t cap);

/* The answer's head for the caller. keep: its connection stays open. 0 also for an answer that the
 * caller cannot be given: chunked, to HTTP/1.0. */
size_t codec_response(const struct exchange *ex, const char *head, bool keep, char *out,
		      size_t cap);

/* A whole answer of our own (ex->status, ex->cause), JSON:
 * {"error":text,"cause":...,"service":...}, or without a body for an empty text. service may be
 * NULL. */
size_t codec_answer(const struct exchange *ex, const char *text, const char *service, bool keep,
		    char *out, size_t cap);

/* Keep-Alive: timeout=N of an answer, in ms and half a second less; 0 when it says nothing. */
uint32_t codec_keep_alive_ms(const struct http1_head *response, const char *head);

#endif
