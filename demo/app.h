/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the four programs of the demo share: a small HTTP/1.1 server (a thread per connection,
 * keep-alive) and a client. They know nothing of the mesh: they call each other by ordinary
 * addresses and pass on the headers of the trace, as any traced program does. Not for anything but
 * the demo and tests.
 */
#ifndef DEMO_APP_H
#define DEMO_APP_H

#include <stddef.h>

struct app_request {
	char method[16];
	char path[256];
	char passed[4096]; /* the trace's header lines as they came, each with its CRLF */
};

struct app_reply {
	int status; /* 200 unless set */
	char body[4096];
};

/* Serves until it is killed; returns an exit status when it cannot. Flags: --port N (else $PORT,
 * else the given one),
 * --delay MS and --fail PERCENT to misbehave, which POST /chaos?delay=MS&fail=PERCENT changes while
 * it runs. GET /health is answered here, and never misbehaves; everything else goes to `handle`,
 * from many threads. */
int app_run(const char *name, const char *port, int argc, char **argv,
	    void (*handle)(const struct app_request *rq, struct app_reply *re));

/* GET of `path` at the address in the environment variable `url_name` ("http://HOST:PORT"), or at
 * `fallback`, with the headers of rq passed on. The answer's body goes into body (cut off at cap).
 * Its status, or -errno. */
int app_get(const char *url_name, const char *fallback, const char *path,
	    const struct app_request *rq, char *body, size_t cap);

/* Makes *re the 502 that says which callee failed, and how (what app_get returned). */
void app_bad_gateway(struct app_reply *re, const char *callee, int status);

#endif
