/* SPDX-License-Identifier: Apache-2.0 */
/* One request under way: between http.c, which makes it, and http_loop.c, which has many of them.
 */
#ifndef LIB_HTTP_IMPL_H
#define LIB_HTTP_IMPL_H

#include "lib/buf.h"
#include "lib/http.h"

#include <curl/curl.h>

/* The fields of the loop are unused by http_call(). */
struct call {
	const struct http_taker *taker; /* of http_stream() alone */
	struct call *next, **prev;
	struct http_client *client;
	CURL *easy;
	struct curl_slist *headers;
	struct iovec *pieces;	   /* of a body that is sent in pieces */
	size_t npieces, piece, at; /* how many; what goes next */
	struct buf body;
	char etag[sizeof(((struct http_answer *)0)->etag)];
	void (*done)(const struct http_answer *a, void *arg);
	void *arg;
};

/* Fills all of *c but what is the loop's. 0 or -errno; then there is nothing to be ended. */
int http_call_begin(struct call *c, const struct http_call *h);
void http_call_end(struct call *c);
/* Of a transfer that has ended with that code. */
void http_call_answer(struct call *c, CURLcode code, struct http_answer *a);

#endif
