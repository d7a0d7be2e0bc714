/* SPDX-License-Identifier: Apache-2.0 */
/* See accesslog.h. A log that cannot be written loses lines and counts them; it never holds
 * anything up. */
#include "agent/telemetry/accesslog.h"

#include "lib/buf.h"
#include "lib/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BUFFER_MAX (256u << 10)

struct accesslog {
	char *path; /* NULL: stdout */
	int fd;
	struct buf buf;
	uint32_t lines; /* in the buffer */
	uint64_t lost;
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

void accesslog_flush(struct accesslog *a)
{
	size_t done = 0;

	if (!a || !a->buf.len)
		return;
	while (done < a->buf.len) {
		ssize_t n = write(a->fd, a->buf.data + done, a->buf.len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			a->lost += a->lines;
			break;
		}
		done += (size_t)n;
	}
	a->lines = 0;
	buf_reset(&a->buf);
}

uint64_t accesslog_lost(const struct accesslog *a)
{
	return a ? a->lost : 0;
}

static void text(struct buf *b, const char *key, const char *s, size_t len)
{
	buf_printf(b, ",\"%s\":", key);
	buf_json(b, s, len);
}

static void millis(struct buf *b, const char *key, uint64_t ns)
{
	buf_printf(b, ",\"%s\":%llu.%03llu", key, (unsigned long long)(ns / 1000000),
		   (unsigned long long)(ns / 1000 % 1000));
}

/* When it began, by the wall clock: now, less the time since. */
static void put_time(struct buf *b, const struct record *r)
{
	uint64_t since = clock_mono_ns() - r->start_ns;
	char iso[CLOCK_ISO_MAX];

	buf_printf(b, "{\"time\":\"%s\"", clock_iso(clock_wall_ms() - since / 1000000, iso));
}

void accesslog_write(struct accesslog *a, const struct record *r, const struct accesslog_names *n)
{
	const char *p = (const char *)(r + 1);
	struct buf *b = &a->buf;

	if (b->len > BUFFER_MAX / 2)
		accesslog_flush(a);
	put_time(b, r);
	text(b, "kind", r->kind == RECORD_TUNNEL ? "tunnel" : "request",
	     r->kind == RECORD_TUNNEL ? 6 : 7);
	text(b, "caller", n->caller, strlen(n->caller));
	text(b, "callee", n->callee, strlen(n->callee));
	text(b, "endpoint", n->endpoint, strlen(n->endpoint));
	text(b, "version", n->version, strlen(n->version));
	text(b, "method", p, r->method_len);
	text(b, "path", p += r->method_len, r->path_len);
	text(b, "host", p += r->path_len, r->host_len);
	buf_printf(b, ",\"status\":%u", r->status);
	text(b, "cause", cause_name(r->cause), strlen(cause_name(r->cause)));
	millis(b, "duration", r->duration_ns);
	millis(b, "head", r->head_ns);
	millis(b, "upstream", r->upstream_ns);
	buf_printf(b, ",\"bytesIn\":%llu,\"bytesOut\":%llu", (unsigned long long)r->bytes_in,
		   (unsigned long long)r->bytes_out);
	text(b, "requestId", p + r->host_len, r->request_id_len);
	buf_printf(b, ",\"tries\":%u,\"clientGone\":%s}\n", r->tries,
		   r->flags & RECORD_CLIENT_GONE ? "true" : "false");
	a->lines++;
}
