/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP client for the control plane (libcurl). Never used for traffic of services. Bounded: answers
 * over `max` bytes are an error. No redirects, no proxies, no cookies, HTTP only.
 */
#ifndef LIB_HTTP_H
#define LIB_HTTP_H

#include "lib/loop.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define HTTP_ANSWER_MAX (16u << 20)

struct http_call {
	const char *method;	   /* "GET" ... */
	const char *base;	   /* "http://127.0.0.1:15000", or "unix:/run/mesh/meshd.sock" */
	const char *path;	   /* "/api/services", already escaped */
	const char *token;	   /* bearer token, or NULL */
	const char *if_match;	   /* or NULL */
	const char *if_none_match; /* or NULL */
	const char *body;	   /* JSON, or NULL */
	size_t body_len;
	/* Or a body in pieces, which are not copied: they stay as they are until the call has
	 * ended, been cancelled or the client was freed. */
	const struct iovec *pieces;
	size_t npieces;
	uint32_t timeout_ms; /* for all of it; 0: 10 s */
};

struct http_answer {
	int error;  /* 0, or -errno: -ECONNREFUSED / -ENOENT nobody there, -ETIMEDOUT, -EMSGSIZE,
		       -EPROTO ... */
	int status; /* HTTP status when error is 0 */
	char *body; /* NUL-terminated, "" when empty; never NULL when error is 0 */
	size_t len;
	char etag[64]; /* "" when there is none */
};

/* Blocking. Fills *a (release with http_answer_done). Returns a->error. */
int http_call(const struct http_call *c, struct http_answer *a);
void http_answer_done(struct http_answer *a);

/* How the body of an answer is taken while it comes. */
struct http_taker {
	int (*take)(const char *data, size_t len, void *arg); /* anything but 0 ends the call */
	void *arg;
	int stop_fd;	  /* when it can be read the call ends; -1: none */
	uint32_t idle_ms; /* so long without a byte: -ETIMEDOUT; whole seconds */
};
/* Blocking, for as long as the answer lasts, whatever its size (timeout_ms of the call is only for
 * connecting). Only a body with status 200 is given to t->take; that of another is in a->body.
 * a->error: -ECANCELED when stop_fd or t->take ended it. Fills *a, returns a->error. */
int http_stream(const struct http_call *c, const struct http_taker *t, struct http_answer *a);

/* Asynchronous, on a loop. One client per loop; calls in flight are cancelled by http_client_free
 * (their callback is not called). */
struct http_client;
int http_client_new(struct loop *l, struct http_client **out);
void http_client_free(struct http_client **c);
/* Starts a call (everything in *c is copied, but not what pieces point to). `done` runs once from
 * the loop, never from inside this call; the answer is released after it returns. 0 or -errno (then
 * done is not called). */
int http_client_start(struct http_client *hc, const struct http_call *c,
		      void (*done)(const struct http_answer *a, void *arg), void *arg);
/* Ends the calls that were started with this arg: `done` will not run for them. Not from `done`. */
void http_client_cancel(struct http_client *hc, const void *arg);

/* Percent-encodes a path segment into out (cap bytes). 0 or -ENOBUFS. */
int http_escape(const char *s, char *out, size_t cap);

#endif
