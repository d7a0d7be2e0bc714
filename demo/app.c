/* SPDX-License-Identifier: Apache-2.0 */
/* See app.h. */
#include "demo/app.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define HEAD_MAX	16384
#define CONNECTIONS_MAX 512
#define CALL_TIMEOUT_S	10

static struct {
	const char *name;
	void (*handle)(const struct app_request *rq, struct app_reply *re);
	atomic_uint delay_ms, fail_percent;
	sem_t connections;
} app;

static const char *const trace_headers[] = {"traceparent", "tracestate", "b3",
					    "x-trace-id",  "x-span-id",	 "x-request-id"};

static bool is_trace_header(const char *line, size_t name_len)
{
	if (name_len > 5 && !strncasecmp(line, "x-b3-", 5))
		return true;
	for (size_t i = 0; i < sizeof(trace_headers) / sizeof(trace_headers[0]); i++)
		if (strlen(trace_headers[i]) == name_len &&
		    !strncasecmp(line, trace_headers[i], name_len))
			return true;
	return false;
}

static int send_all(int fd, const char *data, size_t len)
{
	while (len) {
		ssize_t n = send(fd, data, len, MSG_NOSIGNAL);

		if (n < 0)
			return -errno;
		data += n;
		len -= (size_t)n;
	}
	return 0;
}

/* One connection's bytes: a head at the front, whatever came behind it after that. */
struct stream {
	int fd;
	size_t len;
	char data[HEAD_MAX + 1];
};

static int receive(struct stream *s)
{
	ssize_t n;

	if (s->len == HEAD_MAX)
		return -EMSGSIZE;
	n = recv(s->fd, s->data + s->len, HEAD_MAX - s->len, 0);
	if (n < 0)
		return -errno;
	if (!n)
		return -ECONNRESET;
	s->len += (size_t)n;
	s->data[s->len] = 0;
	return 0;
}

/* Length of the head with its empty line once it is there, or -errno. */
static int receive_head(struct stream *s)
{
	const char *end;
	int r;

	s->data[s->len] = 0;
	while (!(end = strstr(s->data, "\r\n\r\n"))) {
		r = receive(s);
		if (r)
			return r;
	}
	return (int)(end + 4 - s->data);
}

static void consume(struct stream *s, size_t n)
{
	s->len -= n;
	memmove(s->data, s->data + n, s->len);
}

struct head {
	size_t body; /* Content-Length */
	bool close, chunked;
	char *passed; /* optional: where the trace's headers go */
	size_t passed_cap;
};

/* Reads the header lines at *line; the start line is not among them. */
static void read_fields(const char *line, struct head *h)
{
	size_t at = 0;

	for (const char *end; (end = strstr(line, "\r\n")) && end != line; line = end + 2) {
		size_t len = (size_t)(end + 2 - line), name = strcspn(line, ":");

		if (!strncasecmp(line, "content-length:", 15))
			h->body = strtoul(line + 15, NULL, 10);
		else if (!strncasecmp(line, "connection: close", 17))
			h->close = true;
		else if (!strncasecmp(line, "transfer-encoding:", 18))
			h->chunked = true;
		if (h->passed && name < len && is_trace_header(line, name) &&
		    at + len < h->passed_cap) {
			memcpy(h->passed + at, line, len);
			at += len;
		}
	}
	if (h->passed)
		h->passed[at] = 0;
}

/* --- server -------------------------------------------------------------------------- */

static const char *reason(int status)
{
	switch (status) {
	case 200:
		return "OK";
	case 404:
		return "Not Found";
	case 500:
		return "Internal Server Error";
	case 501:
		return "Not Implemented";
	case 502:
		return "Bad Gateway";
	}
	return "Other";
}

static int send_reply(int fd, const struct app_reply *re, bool head_only, bool close_after)
{
	char out[sizeof(re->body) + 256];
	size_t body = strlen(re->body);
	int n = snprintf(out, sizeof(out),
			 "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: "
			 "%zu\r\n%s\r\n%s",
			 re->status, reason(re->status), body,
			 close_after ? "Connection: close\r\n" : "", head_only ? "" : re->body);

	return send_all(fd, out, (size_t)n);
}

static void set_chaos(const char *query, struct app_reply *re)
{
	const char *delay = strstr(query, "delay="), *fail = strstr(query, "fail=");

	if (delay)
		app.delay_ms = (unsigned)strtoul(delay + 6, NULL, 10);
	if (fail)
		app.fail_percent = (unsigned)strtoul(fail + 5, NULL, 10);
	snprintf(re->body, sizeof(re->body), "{\"service\":\"%s\",\"delay\":%u,\"fail\":%u}\n",
		 app.name, app.delay_ms, app.fail_percent);
}

static bool misbehave(struct app_reply *re)
{
	unsigned delay = app.delay_ms;
	struct timespec t = {.tv_sec = delay / 1000, .tv_nsec = (long)(delay % 1000) * 1000000};
	uint32_t draw = 0;

	if (delay)
		nanosleep(&t, NULL);
	if (!app.fail_percent || getrandom(&draw, sizeof(draw), 0) < 0 ||
	    draw % 100 >= app.fail_percent)
		return false;
	re->status = 500;
	snprintf(re->body, sizeof(re->body), "{\"service\":\"%s\",\"error\":\"told to fail\"}\n",
		 app.name);
	return true;
}

static void answer(const struct app_request *rq, struct app_reply *re)
{
	re->status = 200;
	if (!strcmp(rq->path, "/health"))
		snprintf(re->body, sizeof(re->body),
			 "{\"service\":\"%s\",\"status\":\"healthy\"}\n", app.name);
	else if (!strncmp(rq->path, "/chaos", 6) && !strcmp(rq->method, "POST"))
		set_chaos(rq->path + 6, re);
	else if (!misbehave(re))
		app.handle(rq, re);
}

static int discard_body(struct stream *s, size_t body)
{
	while (body) {
		size_t n = body < s->len ? body : s->len;
		int r;

		consume(s, n);
		body -= n;
		r = body ? receive(s) : 0;
		if (r)
			return r;
	}
	return 0;
}

/* Serves one request; 0 while the connection stays open. */
static int serve_request(struct stream *s)
{
	struct app_request rq;
	struct app_reply re = {.status = 501,
			       .body = "{\"error\":\"chunked requests are not served\"}\n"};
	struct head h = {.passed = rq.passed, .passed_cap = sizeof(rq.passed)};
	int n = receive_head(s), r;

	if (n < 0)
		return n;
	if (sscanf(s->data, "%15s %255s HTTP/1.", rq.method, rq.path) != 2)
		return -EBADMSG;
	read_fields(strstr(s->data, "\r\n") + 2, &h);
	consume(s, (size_t)n);
	h.close |= h.chunked;
	r = h.chunked ? 0 : discard_body(s, h.body);
	if (r)
		return r;
	if (!h.chunked)
		answer(&rq, &re);
	r = send_reply(s->fd, &re, !strcmp(rq.method, "HEAD"), h.close);
	return r ? r : h.close ? -ECONNRESET : 0;
}

static void *serve_connection(void *arg)
{
	struct stream *s = arg;

	while (!serve_request(s))
		;
	close(s->fd);
	free(s);
	sem_post(&app.connections);
	return NULL;
}

static int start_connection(int fd)
{
	struct stream *s = malloc(sizeof(*s));
	pthread_t thread;
	int one = 1;

	if (!s)
		return -ENOMEM;
	s->fd = fd;
	s->len = 0;
	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) ||
	    pthread_create(&thread, NULL, serve_connection, s)) {
		free(s);
		return -EAGAIN;
	}
	pthread_detach(thread);
	return 0;
}

static int listen_on(uint16_t port)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) ||
	    bind(fd, (struct sockaddr *)&in, sizeof(in)) || listen(fd, 128)) {
		int err = -errno;

		close(fd);
		return err;
	}
	return fd;
}

static int read_flags(int argc, char **argv, const char **port)
{
	for (int i = 1; i + 1 < argc; i += 2) {
		if (!strcmp(argv[i], "--port"))
			*port = argv[i + 1];
		else if (!strcmp(argv[i], "--delay"))
			app.delay_ms = (unsigned)strtoul(argv[i + 1], NULL, 10);
		else if (!strcmp(argv[i], "--fail"))
			app.fail_percent = (unsigned)strtoul(argv[i + 1], NULL, 10);
		else
			return -EINVAL;
	}
	return argc % 2 ? 0 : -EINVAL;
}

int app_run(const char *name, const char *port, int argc, char **argv,
	    void (*handle)(const struct app_request *rq, struct app_reply *re))
{
	const char *env = getenv("PORT");
	int fd, c;

	app.name = name;
	app.handle = handle;
	port = env ? env : port;
	if (read_flags(argc, argv, &port) || sem_init(&app.connections, 0, CONNECTIONS_MAX)) {
		fprintf(stderr, "usage: %s [--port N] [--delay MS] [--fail PERCENT]\n", name);
		return 2;
	}
	fd = listen_on((uint16_t)strtoul(port, NULL, 10));
	if (fd < 0) {
		fprintf(stderr, "%s: cannot listen on port %s: %s\n", name, port, strerror(-fd));
		return 1;
	}
	while (!sem_wait(&app.connections) || errno == EINTR) {
		c = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
		if (c >= 0 && !start_connection(c))
			continue;
		if (c >= 0)
			close(c);
		sem_post(&app.connections);
	}
	return 1;
}

/* --- client -------------------------------------------------------------------------- */

static int connect_to(const char *url, char *host, size_t cap)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found, *a;
	const char *start = strncmp(url, "http://", 7) ? url : url + 7,
		   *colon = strrchr(start, ':');
	struct timeval limit = {.tv_sec = CALL_TIMEOUT_S};
	int fd = -1, err = EINVAL;

	if (!colon || (size_t)snprintf(host, cap, "%.*s", (int)(colon - start), start) >= cap)
		return -EINVAL;
	if (getaddrinfo(host, colon + 1, &hints, &found))
		return -EHOSTUNREACH;
	for (a = found; a && fd < 0; a = a->ai_next) {
		fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, 0);
		if (fd >= 0 && !setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) &&
		    !connect(fd, a->ai_addr, a->ai_addrlen))
			break;
		err = errno;
		if (fd >= 0)
			close(fd);
		fd = -1;
	}
	freeaddrinfo(found);
	return fd < 0 ? -err : fd;
}

/* The answer's body: Content-Length bytes, or all until the end. */
static int receive_answer(struct stream *s, char *body, size_t cap)
{
	struct head h = {.body = HEAD_MAX};
	int n = receive_head(s), status;

	if (n < 0)
		return n;
	if (sscanf(s->data, "HTTP/1.%*1d %3d", &status) != 1)
		return -EPROTO;
	read_fields(strstr(s->data, "\r\n") + 2, &h);
	if (h.chunked)
		return -EPROTO;
	consume(s, (size_t)n);
	while (s->len < h.body && !receive(s))
		;
	if (s->len < h.body && h.body != HEAD_MAX)
		return -ECONNRESET;
	snprintf(body, cap, "%.*s", (int)s->len, s->data);
	body[strcspn(body, "\n")] = 0;
	return status;
}

int app_get(const char *url_name, const char *fallback, const char *path,
	    const struct app_request *rq, char *body, size_t cap)
{
	const char *url = getenv(url_name);
	char host[256], out[sizeof(rq->passed) + 1024];
	struct stream *s;
	int fd, r;

	body[0] = 0;
	fd = connect_to(url ? url : fallback, host, sizeof(host));
	if (fd < 0)
		return fd;
	s = malloc(sizeof(*s));
	if (!s) {
		close(fd);
		return -ENOMEM;
	}
	s->fd = fd;
	s->len = 0;
	r = snprintf(out, sizeof(out), "GET %s HTTP/1.1\r\nHost: %s\r\n%sConnection: close\r\n\r\n",
		     path, host, rq->passed);
	r = (size_t)r < sizeof(out) ? send_all(fd, out, (size_t)r) : -EMSGSIZE;
	if (!r)
		r = receive_answer(s, body, cap);
	close(fd);
	free(s);
	return r;
}

void app_bad_gateway(struct app_reply *re, const char *callee, int status)
{
	re->status = 502;
	if (status < 0)
		snprintf(re->body, sizeof(re->body), "{\"service\":\"%s\",\"error\":\"%s: %s\"}\n",
			 app.name, callee, strerror(-status));
	else
		snprintf(re->body, sizeof(re->body),
			 "{\"service\":\"%s\",\"error\":\"%s answered %d\"}\n", app.name, callee,
			 status);
}
