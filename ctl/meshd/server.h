/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP: two libmicrohttpd daemons (TCP and unix socket) on the loop, one route table. Reads
 * requests whole and bounded, checks who may do what (auth.h), finds the route, calls its handler.
 * Single-threaded. Knows nothing of services.
 */
#ifndef MESHD_SERVER_H
#define MESHD_SERVER_H

#include "ctl/meshd/auth.h"
#include "ctl/meshd/schema.h"
#include "lib/buf.h"
#include "lib/loop.h"

#include <cjson/cJSON.h>
#include <microhttpd.h>
#include <stdbool.h>
#include <stdint.h>

#define SERVER_BODY_MAX (1u << 20) /* unless a route says otherwise */
#define SERVER_TCP_MAX	512	   /* connections; more wait in the backlog */
#define SERVER_UNIX_MAX 256
#define SERVER_CLIENT_S 30 /* for a request to be there whole; for an idle connection */
#define SERVER_ANSWER_S 60 /* for an answer to be read; of a stream, for a piece of it */
/* Bytes of answers that wait to be read: above the first only small ones are given */
#define SERVER_ANSWERS_MAX  (32u << 20)
#define SERVER_ANSWER_SMALL (64u << 10)
#define SERVER_ARGS	    2
#define SERVER_ARG_MAX	    128 /* bytes */

struct meshd;
struct request;
struct server;
struct connection;

/* The body of an answer that goes on for as long as both sides like. */
struct stream {
	/* Up to cap bytes; 0: nothing now, stream_wake() will say when; -1: that was all. */
	long (*read)(void *arg, char *out, size_t cap);
	/* Runs once, when the client has gone or has got all: the request is freed after it. */
	void (*gone)(void *arg);
	void *arg;
};

struct route {
	const char *method;
	const char *path;  /* "*" stands for one segment, which must be a valid name; "?" for one of
			      visible ASCII */
	const char *query; /* the parameters it knows, by commas; NULL: none. Others are refused */
	void (*handler)(struct request *r); /* answers, or suspends */
	size_t body_max;		    /* 0: SERVER_BODY_MAX */
	size_t values_max;		    /* of JSON in it; 0: JSON_VALUES_MAX */
};

struct request {
	struct meshd *meshd;
	const struct route *route;		   /* NULL when there is none */
	char arg[SERVER_ARGS][SERVER_ARG_MAX + 1]; /* the segments under "*" and "?" */
	struct buf body;
	bool resumed;	      /* the handler runs again after request_resume() */
	bool again;	      /* set by a handler: Retry-After, of a second */
	uint64_t etag;	      /* set by a handler: sent as ETag; 0: none */
	const char *vary;     /* set by a handler: the headers that the answer depends on */
	bool gzip;	      /* likewise: the body is compressed */
	uint64_t deadline_ms; /* of whoever suspended it */
	struct request *next; /* likewise */
	void *work;	      /* a handler's own, until the end of the request ... */
	void (*work_done)(void *work); /* ... when this is called, unless it is NULL */

	/* server.c only */
	struct server *server;
	struct connection *connection;
	struct MHD_Connection *mhd;
	struct stream stream;
	struct watch leaves;	       /* of a stream: the client goes */
	bool streaming, left, pausing; /* gone() is still to run; the client has gone; suspended */
	unsigned refusal;	       /* status decided from the head alone */
	const char *why;	       /* its text, unless the status says it all */
	char allow[64];		       /* with 405: the methods, by commas */
	bool local, answered;
	enum MHD_Result queued;
	size_t dropped; /* bytes of an oversized body */
	size_t held;	/* bytes of the answer, in server_hold() */
};

struct static_file {
	const char *type; /* Content-Type */
	const char *data, *gzip;
	size_t len, gzip_len; /* gzip_len 0: there is no packed form */
};

struct server_config {
	struct loop *loop;
	struct meshd *meshd;
	const struct auth *auth;
	const struct route *routes; /* ends with method == NULL */
	int tcp_fd, unix_fd;	    /* listening sockets, or -1; the server's from then on */
};

/* stream.c: the response of a stream, NULL without memory; what on_completed does for it. */
struct MHD_Response *stream_response(struct request *r, const struct stream *s);
void stream_done(struct request *r);
struct loop *server_loop(struct server *s);
/* An answer of so many bytes of its own is about to be queued; they count until the request ends.
 * false: too much waits to be read already, and this is not small. */
bool server_hold(struct request *r, size_t len);
/* The client takes its answer: it has its time anew. */
void request_lives(struct request *r);

/* Uses the loop's `after` hook. 0 or -errno. */
int server_new(const struct server_config *c, struct server **out);
/* No request may be suspended. */
void server_free(struct server **s);
/* Once a second: ends connections of clients that are too slow. */
void server_sweep(struct server *s, uint64_t now_ms);
/* Accepts nothing more. */
void server_quiesce(struct server *s);
bool server_quiesced(const struct server *s);
/* Is no request under way? */
bool server_idle(const struct server *s);
unsigned server_connections(const struct server *s);

/* A query parameter, NULL when it is not given. */
const char *request_query(const struct request *r, const char *name);
const char *request_header(const struct request *r, const char *name);
/* Of ?name=true|false: 0 with *out (false when it is not given), or -EINVAL after answering 400. */
int request_flag(struct request *r, const char *name, bool *out);
/* Of ?name=N: 0 with *out (the fallback when it is not given), or -EINVAL after answering 400. */
int request_number(struct request *r, const char *name, uint64_t fallback, uint64_t *out);
/* Who asks, for the history: "uid 0", "token 127.0.0.1", "127.0.0.1". Returns out. */
const char *request_author(const struct request *r, char *out, size_t cap);
/* The body as JSON, the caller's to delete; NULL after answering 400. */
cJSON *request_json(struct request *r);
/* The same of its first bytes. */
cJSON *request_json_part(struct request *r, size_t len);

/* Answers 200 with a stream: whatever comes of it, gone() runs. */
void reply_stream(struct request *r, const char *type, const struct stream *s);
/* There is something to read, or it has ended. Harmless at any time before gone(). */
void stream_wake(struct request *r);

/* Puts the request aside until request_resume(), which has the handler called again. */
void request_suspend(struct request *r);
void request_resume(struct request *r);

/* Exactly one of these answers a request. */
void reply_json(struct request *r, unsigned status, cJSON *v); /* deletes v; NULL: no memory, 500 */
__attribute__((format(printf, 4, 5))) void reply_error(struct request *r, unsigned status,
						       const char *field, const char *fmt, ...);
/* 503 to who is to ask again in a moment. */
void reply_again(struct request *r, const char *why);
void reply_buf(struct request *r, unsigned status, const char *type, struct buf *b); /* empties b */
/* With an ETag of what is sent, so that it is sent once; 304 to who has it. Its data must stay. */
void reply_static(struct request *r, const struct static_file *f);
/* {"error", "field"} of a schema error, 400. */
void reply_invalid(struct request *r, const struct schema_error *e);
/* A response that may be shared by many requests; it stays the caller's. */
void reply_shared(struct request *r, struct MHD_Response *response);
struct MHD_Response *response_json(char *text,
				   size_t len); /* takes over text (malloc). NULL without memory */

#endif
