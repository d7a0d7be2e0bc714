/* SPDX-License-Identifier: Apache-2.0 */
/* See accesslog.h. What cannot be written now waits in the buffer; when that is full, lines are
 * lost and counted, whole ones only. Nothing is ever held up. */
#include "agent/telemetry/accesslog.h"

#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/trace_id.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BUFFER_MAX (256u << 10)
#define LINE_ROOM  (8u << 10) /* for one: names, RECORD_TEXT_MAX escaped, numbers */

struct accesslog {
	char *path; /* NULL: stdout */
	int fd;
	struct buf buf;
	uint64_t lost; /* lines */
};

static int open_log(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK, 0640);

	return fd < 0 ? -errno : fd;
}

int accesslog_new(const char *where, struct accesslog **out)
{
	struct accesslog *a;

	*out = NULL;
	if (!strcmp(where, "off") || !*where)
		return 0;
	a = calloc(1, sizeof(*a));
	if (!a)
		return -ENOMEM;
	buf_init(&a->buf, BUFFER_MAX);
	a->fd = STDOUT_FILENO;
	if (strcmp(where, "-")) {
		a->path = strdup(where);
		a->fd = a->path ? open_log(where) : -ENOMEM;
	}
	if (a->fd < 0) {
		int err = a->fd;

		a->fd = STDOUT_FILENO;
		accesslog_free(&a);
		return err;
	}
	*out = a;
	return 0;
}

void accesslog_free(struct accesslog **ap)
{
	struct accesslog *a = *ap;

	if (!a)
		return;
	accesslog_flush(a);
	if (a->fd != STDOUT_FILENO)
		close(a->fd);
	buf_done(&a->buf);
	free(a->path);
	free(a);
	*ap = NULL;
}

int accesslog_reopen(struct accesslog *a)
{
	int fd;

	if (!a->path)
		return 0;
	accesslog_flush(a);
	fd = open_log(a->path);
	if (fd < 0)
		return fd;
	close(a->fd);
	a->fd = fd;
	return 0;
}

/* Of n bytes, as many as can be written without waiting. stdout is shared with others, so it stays
 * in the mode that it is in: where a pipe or a socket is ready, PIPE_BUF bytes fit. */
static size_t fits(const struct accesslog *a, size_t n)
{
	struct pollfd p = {.fd = a->fd, .events = POLLOUT};

	if (a->path)
		return n;
	if (poll(&p, 1, 0) != 1 || !(p.revents & POLLOUT))
		return 0;
	return n < PIPE_BUF ? n : PIPE_BUF;
}

void accesslog_flush(struct accesslog *a)
{
	size_t done = 0, n;

	if (!a || !a->buf.len)
		return;
	while ((n = fits(a, a->buf.len - done))) {
		ssize_t w = write(a->fd, a->buf.data + done, n);

		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			break;
		done += (size_t)w;
	}
	memmove(a->buf.data, a->buf.data + done, a->buf.len - done + 1);
	a->buf.len -= done;
}

uint64_t accesslog_lost(const struct accesslog *a)
{
	return a ? a->lost : 0;
}

static void text(struct buf *b, const char *key, const char *s, size_t len)
{
	buf_char(b, ',');
	buf_key(b, key);
	buf_json(b, s, len);
}

static void number(struct buf *b, const char *key, uint64_t v)
{
	buf_char(b, ',');
	buf_key(b, key);
	buf_u64(b, v);
}

static void boolean(struct buf *b, const char *key, bool v)
{
	buf_char(b, ',');
	buf_key(b, key);
	buf_str(b, v ? "true" : "false");
}

static void millis(struct buf *b, const char *key, uint64_t ns)
{
	buf_char(b, ',');
	buf_key(b, key);
	buf_ms(b, ns);
}

static void put_time(struct buf *b, uint64_t start_ns)
{
	char iso[CLOCK_ISO_MAX];

	buf_str(b, "{\"time\":\"");
	buf_str(b, clock_iso(start_ns / 1000000, iso));
	buf_char(b, '"');
}

static void hex(struct buf *b, const char *key, const uint8_t *id, size_t n)
{
	char digits[32];

	trace_hex(digits, id, n);
	text(b, key, digits, 2 * n);
}

/* The ids as their spans have them; p: the text behind the request id. */
static void put_trace(struct buf *b, const struct record *r, const char *p)
{
	static const uint8_t none[sizeof(r->parent_id)];

	if (!(r->flags & RECORD_TRACED))
		return;
	if (r->trace_len)
		text(b, "traceId", p, r->trace_len);
	else
		hex(b, "traceId", r->trace_id, sizeof(r->trace_id));
	hex(b, "spanId", r->span_id, sizeof(r->span_id));
	if (r->parent_len)
		text(b, "parentSpanId", p + r->trace_len + r->alias_len, r->parent_len);
	else if (memcmp(r->parent_id, none, sizeof(none)))
		hex(b, "parentSpanId", r->parent_id, sizeof(r->parent_id));
	else
		buf_str(b, ",\"parentSpanId\":null");
	boolean(b, "sampled", r->flags & RECORD_SAMPLED);
}

static void put_line(struct buf *b, const struct record *r, const struct accesslog_names *n,
		     uint64_t start_ns)
{
	const char *p = record_text(r);

	put_time(b, start_ns);
	text(b, "kind", r->kind == RECORD_TUNNEL ? "tunnel" : "request",
	     r->kind == RECORD_TUNNEL ? 6 : 7);
	text(b, "caller", n->caller, strlen(n->caller));
	text(b, "callee", n->callee, strlen(n->callee));
	text(b, "endpoint", n->endpoint, strlen(n->endpoint));
	text(b, "version", n->version, strlen(n->version));
	text(b, "method", p, r->method_len);
	text(b, "path", p += r->method_len, r->path_len);
	text(b, "host", p += r->path_len, r->host_len);
	number(b, "status", r->status);
	text(b, "cause", cause_name(r->cause), strlen(cause_name(r->cause)));
	millis(b, "duration", r->duration_ns);
	millis(b, "head", r->head_ns);
	millis(b, "upstream", r->upstream_ns);
	number(b, "bytesIn", r->bytes_in);
	number(b, "bytesOut", r->bytes_out);
	text(b, "requestId", p += r->host_len, r->request_id_len);
	put_trace(b, r, p + r->request_id_len);
	number(b, "tries", r->tries);
	boolean(b, "clientGone", r->flags & RECORD_CLIENT_GONE);
	buf_str(b, "}\n");
}

void accesslog_write(struct accesslog *a, const struct record *r, const struct accesslog_names *n,
		     uint64_t start_ns)
{
	size_t before;

	if (a->buf.len > BUFFER_MAX / 2)
		accesslog_flush(a);
	before = a->buf.len;
	if (before <= BUFFER_MAX - LINE_ROOM)
		put_line(&a->buf, r, n, start_ns);
	if (before > BUFFER_MAX - LINE_ROOM || a->buf.failed) {
		buf_cut(&a->buf, before);
		a->lost++;
	}
}
