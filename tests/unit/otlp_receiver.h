/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A receiver of OTLP/HTTP on a thread: answers what it is told to, one request after the other, and
 * keeps what it was sent, checked by otlp_strict.h. Header only.
 */
#ifndef TESTS_OTLP_RECEIVER_H
#define TESTS_OTLP_RECEIVER_H

#include "lib/clock.h"
#include "tests/unit/otlp_strict.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zlib.h>

#define REQUESTS_MAX 64

enum turn { ANSWER, HANG, CLOSE_AT_ONCE, CLOSE_IN_ANSWER };

struct scripted {
	enum turn turn;
	const char *status;  /* "429 Too Many Requests"; NULL: 200 OK */
	const char *headers; /* lines with their ends, or NULL */
	const char *body;    /* NULL: {} */
};

struct received {
	uint64_t ms;
	char head[4096];
	cJSON *body;
	char wrong[512];
};

static struct receiver {
	pthread_t thread;
	int fd, stop[2], port;
	const struct scripted *script; /* ends with what is done from there on */
	unsigned nscript;
	pthread_mutex_t lock;
	struct received got[REQUESTS_MAX];
	unsigned n;
} receiver;

static inline void receiver_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* What there is to read; 0 at the end, -1 when the test is over. */
static inline ssize_t receiver_read(int fd, char *to, size_t cap)
{
	struct pollfd p[] = {{.fd = fd, .events = POLLIN},
			     {.fd = receiver.stop[0], .events = POLLIN}};

	if (poll(p, 2, -1) < 0 || p[1].revents)
		return -1;
	return read(fd, to, cap);
}

static inline cJSON *receiver_unpack(char *data, size_t len, bool packed)
{
	static char text[32 << 20];
	z_stream z = {.next_in = (Bytef *)data,
		      .avail_in = (uInt)len,
		      .next_out = (Bytef *)text,
		      .avail_out = sizeof(text)};
	int r;

	if (!packed)
		return json_parse(data, len, NULL);
	if (inflateInit2(&z, 15 + 16) != Z_OK)
		return NULL;
	r = inflate(&z, Z_FINISH);
	inflateEnd(&z);
	return r == Z_STREAM_END && !z.avail_in ? json_parse(text, z.total_out, NULL) : NULL;
}

static inline void receiver_judge(struct received *g, char *body, size_t len)
{
	const char *why;

	g->ms = clock_mono_ns() / 1000000;
	g->body = receiver_unpack(body, len, strcasestr(g->head, "content-encoding: gzip"));
	why = g->body ? otlp_wrong(g->body) : "no JSON";
	snprintf(g->wrong, sizeof(g->wrong), "%s", why ? why : "");
}

/* One request whole into the next place. Its number, or -1. */
static inline int receiver_take(int fd)
{
	static char data[8 << 20];
	struct received *g = &receiver.got[receiver.n];
	size_t len = 0, head = 0, body = 0;
	char *end;

	assert_true(receiver.n < REQUESTS_MAX);
	do {
		ssize_t n = receiver_read(fd, data + len, sizeof(data) - 1 - len);

		if (n <= 0)
			return -1;
		len += (size_t)n;
		data[len] = '\0';
		end = head ? data + head : strstr(data, "\r\n\r\n");
		if (end && !head) {
			head = (size_t)(end + 4 - data);
			end = strcasestr(data, "content-length:");
			body = end ? strtoul(end + 15, NULL, 10) : 0;
		}
	} while (!head || len < head + body);
	snprintf(g->head, sizeof(g->head), "%.*s", (int)head, data);
	receiver_judge(g, data + head, body);
	pthread_mutex_lock(&receiver.lock);
	receiver.n++;
	pthread_mutex_unlock(&receiver.lock);
	return (int)receiver.n - 1;
}

static inline bool receiver_answer(int fd, const struct scripted *s)
{
	const char *body = s->body ? s->body : "{}";
	char text[4096];
	int n = snprintf(text, sizeof(text),
			 "HTTP/1.1 %s\r\nContent-Type: application/json\r\n%sContent-Length: "
			 "%zu\r\n\r\n%s",
			 s->status ? s->status : "200 OK", s->headers ? s->headers : "",
			 strlen(body), body);

	if (s->turn == CLOSE_IN_ANSWER)
		n--;
	return write(fd, text, (size_t)n) == n && s->turn == ANSWER;
}

static inline void receiver_serve(int fd)
{
	int i;
	char byte;

	while ((i = receiver_take(fd)) >= 0) {
		const struct scripted *s =
			&receiver.script[(unsigned)i < receiver.nscript ? (unsigned)i
									: receiver.nscript - 1];

		if (s->turn == HANG) {
			while (receiver_read(fd, &byte, 1) > 0)
				;
			return;
		}
		if (s->turn == CLOSE_AT_ONCE || !receiver_answer(fd, s))
			return;
	}
}

static inline void *receiver_run(void *arg)
{
	struct pollfd p[] = {{.fd = receiver.fd, .events = POLLIN},
			     {.fd = receiver.stop[0], .events = POLLIN}};

	while (poll(p, 2, -1) > 0 && !p[1].revents) {
		int fd = accept4(receiver.fd, NULL, NULL, SOCK_CLOEXEC);

		if (fd < 0)
			continue;
		receiver_serve(fd);
		close(fd);
	}
	return NULL;
}

/* A socket that is bound, not yet listening: nobody is there, and the port is ours. */
static inline void receiver_bind(void)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(in);

	memset(&receiver, 0, sizeof(receiver));
	pthread_mutex_init(&receiver.lock, NULL);
	receiver.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(receiver.fd, (struct sockaddr *)&in, len), 0);
	assert_int_equal(getsockname(receiver.fd, (struct sockaddr *)&in, &len), 0);
	receiver.port = ntohs(in.sin_port);
	assert_int_equal(pipe(receiver.stop), 0);
}

static inline void receiver_listen(const struct scripted *script, unsigned n)
{
	receiver.script = script;
	receiver.nscript = n;
	assert_int_equal(listen(receiver.fd, 16), 0);
	assert_int_equal(pthread_create(&receiver.thread, NULL, receiver_run, NULL), 0);
}

static inline void receiver_end(void)
{
	if (receiver.thread) {
		assert_int_equal(write(receiver.stop[1], "", 1), 1);
		pthread_join(receiver.thread, NULL);
	}
	for (unsigned i = 0; i < receiver.n; i++)
		cJSON_Delete(receiver.got[i].body);
	receiver_close(&receiver.fd);
	receiver_close(&receiver.stop[0]);
	receiver_close(&receiver.stop[1]);
	pthread_mutex_destroy(&receiver.lock);
}

static inline unsigned receiver_count(void)
{
	unsigned n;

	pthread_mutex_lock(&receiver.lock);
	n = receiver.n;
	pthread_mutex_unlock(&receiver.lock);
	return n;
}

#endif
