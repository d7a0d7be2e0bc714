/* SPDX-License-Identifier: Apache-2.0 */
/* See admin.h. libmicrohttpd runs without threads: its epoll descriptor lies in our loop. */
#include "agent/telemetry/admin.h"

#include "lib/addr.h"
#include "lib/exposition.h"

#include <errno.h>
#include <microhttpd.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define CONNECTIONS		  64
#define IDLE_S			  30
#define PART			  32768 /* bytes of text that are made at once, at least */
#define BLOCK			  65536 /* bytes that are handed over at once */

#define container(p, type, field) ((type *)((char *)(p)-offsetof(type, field)))

struct admin {
	struct loop *loop;
	struct admin_ops ops;
	struct MHD_Daemon *daemon;
	struct watch watch;
	struct timer timer;
};

/* Of everything: what it is depends on what was asked for. Destroys r. */
static enum MHD_Result queue(struct MHD_Connection *c, unsigned status, const char *type,
			     struct MHD_Response *r)
{
	enum MHD_Result ret;

	MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	MHD_add_response_header(r, MHD_HTTP_HEADER_VARY, "Accept, Accept-Encoding");
	if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
		MHD_add_response_header(r, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
	ret = MHD_queue_response(c, status, r);
	MHD_destroy_response(r);
	return ret;
}

static enum MHD_Result say(struct MHD_Connection *c, unsigned status, const char *word)
{
	struct MHD_Response *r;
	char line[256];
	int n = snprintf(line, sizeof(line), "%s\n", word);

	if (n < 0 || (size_t)n >= sizeof(line))
		return MHD_NO;
	r = MHD_create_response_from_buffer((size_t)n, line, MHD_RESPMEM_MUST_COPY);
	return r ? queue(c, status, "text/plain; charset=utf-8", r) : MHD_NO;
}

static const char *given(struct MHD_Connection *c, const char *name)
{
	return MHD_lookup_connection_value(c, MHD_HEADER_KIND, name);
}

/* --- /metrics ---
 *
 * Of many services it is megabytes, and packing them takes as long as writing them: it is made
 * while it is sent, part by part, and rings are read in between.
 */

struct scrape {
	struct admin *admin;
	struct exposition_stream *stream;
	void *text;	/* of the ops */
	struct buf buf; /* made, and not sent from `sent` on */
	size_t sent;
	bool over; /* there are no more parts */
};

static void scrape_free(void *arg)
{
	struct scrape *s = arg;

	if (s->text)
		s->admin->ops.metrics_end(s->text);
	exposition_stream_free(&s->stream);
	buf_done(&s->buf);
	free(s);
}

static struct scrape *scrape_new(struct admin *a, const struct exposition *x)
{
	struct scrape *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->admin = a;
	s->stream = exposition_stream_new(x);
	s->text = s->stream ? a->ops.metrics_begin(a->ops.arg, x->openmetrics) : NULL;
	buf_init(&s->buf, ADMIN_PART_MAX);
	if (s->text)
		return s;
	scrape_free(s);
	return NULL;
}

/* Small parts together: each has something to be packed. */
static void scrape_more(struct scrape *s)
{
	const struct admin_ops *ops = &s->admin->ops;

	buf_reset(&s->buf);
	s->sent = 0;
	while (!s->over && s->buf.len < PART && !s->buf.failed)
		s->over = !ops->metrics_part(ops->arg, s->text, &s->buf);
	exposition_stream_part(s->stream, &s->buf, s->over);
}

/* Called by MHD when it can send. */
static ssize_t scrape_read(void *arg, uint64_t at, char *out, size_t max)
{
	struct scrape *s = arg;
	size_t n;

	while (s->sent == s->buf.len && !s->over && !s->buf.failed)
		scrape_more(s);
	if (s->buf.failed)
		return MHD_CONTENT_READER_END_WITH_ERROR;
	n = s->buf.len - s->sent;
	if (!n)
		return MHD_CONTENT_READER_END_OF_STREAM;
	n = n < max ? n : max;
	memcpy(out, s->buf.data + s->sent, n);
	s->sent += n;
	return (ssize_t)n;
}

static enum MHD_Result give_metrics(struct admin *a, struct MHD_Connection *c)
{
	struct exposition x = exposition_choose(given(c, MHD_HTTP_HEADER_ACCEPT),
						given(c, MHD_HTTP_HEADER_ACCEPT_ENCODING));
	struct scrape *s = scrape_new(a, &x);
	struct MHD_Response *r = s ? MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK,
								       scrape_read, s, scrape_free)
				   : NULL;

	if (!r) {
		if (s)
			scrape_free(s);
		return MHD_NO;
	}
	if (x.gzip)
		MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_ENCODING, "gzip");
	return queue(c, MHD_HTTP_OK, exposition_type(&x), r);
}

static enum MHD_Result give_ready(struct admin *a, struct MHD_Connection *c)
{
	const char *why = "";

	return a->ops.ready(a->ops.arg, &why) ? say(c, MHD_HTTP_OK, "ready")
					      : say(c, MHD_HTTP_SERVICE_UNAVAILABLE, why);
}

/* Without a port, if one that makes sense is there. False: too long. */
static bool host_name(const char *host, char *out, size_t cap)
{
	const char *colon = strrchr(host, ':'), *bracket = strrchr(host, ']');
	size_t len = strlen(host);

	if (colon && (!bracket || colon > bracket) &&
	    colon[1 + strspn(colon + 1, "0123456789")] == '\0')
		len = (size_t)(colon - host);
	if (len >= cap)
		return false;
	memcpy(out, host, len);
	out[len] = '\0';
	return true;
}

/* Only names that nobody else can give themselves. HTTP/1.0 needs no Host. */
static bool host_allowed(const struct admin *a, struct MHD_Connection *c)
{
	const char *host = MHD_lookup_connection_value(c, MHD_HEADER_KIND, MHD_HTTP_HEADER_HOST);
	char name[256];
	uint8_t ip[16];

	if (!host)
		return true;
	if (!host_name(host, name, sizeof(name)))
		return false;
	return !strcasecmp(name, "localhost") || (a->ops.name && !strcasecmp(name, a->ops.name)) ||
	       addr_parse_ip(name, ip) == 0;
}

static enum MHD_Result handle(void *arg, struct MHD_Connection *c, const char *url,
			      const char *method, const char *version, const char *upload,
			      size_t *upload_size, void **state)
{
	struct admin *a = arg;

	if (!*state) { /* the head is here; the answer is asked for in the next call */
		*state = a;
		return MHD_YES;
	}
	if (*upload_size) {
		*upload_size = 0;
		return MHD_YES;
	}
	if (!host_allowed(a, c))
		return say(c, MHD_HTTP_FORBIDDEN,
			   "this Host is not served: use an address, localhost or the node's name");
	if (strcmp(method, "GET") && strcmp(method, "HEAD"))
		return say(c, MHD_HTTP_METHOD_NOT_ALLOWED, "GET or HEAD");
	if (!strcmp(url, "/metrics"))
		return give_metrics(a, c);
	if (!strcmp(url, "/healthz"))
		return say(c, MHD_HTTP_OK, "ok");
	if (!strcmp(url, "/readyz"))
		return give_ready(a, c);
	return say(c, MHD_HTTP_NOT_FOUND, "/metrics, /healthz or /readyz");
}

static void run(struct admin *a);

static void on_timer(struct timer *t)
{
	run(container(t, struct admin, timer));
}

static void run(struct admin *a)
{
	MHD_UNSIGNED_LONG_LONG ms;

	MHD_run(a->daemon);
	if (MHD_get_timeout(a->daemon, &ms) == MHD_YES)
		timer_arm(a->loop, &a->timer, ms, on_timer);
	else
		timer_cancel(a->loop, &a->timer);
}

static void readable(struct watch *w, uint32_t events)
{
	run(container(w, struct admin, watch));
}

int admin_new(struct loop *l, int fd, const struct admin_ops *ops, struct admin **out)
{
	const union MHD_DaemonInfo *info;
	struct admin *a = calloc(1, sizeof(*a));
	int err = -ENOMEM;

	if (!a) {
		close(fd);
		return -ENOMEM;
	}
	a->loop = l;
	a->ops = *ops;
	a->watch.fd = -1;
	a->daemon =
		MHD_start_daemon(MHD_USE_EPOLL, 0, NULL, NULL, handle, a, MHD_OPTION_LISTEN_SOCKET,
				 fd, MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS,
				 MHD_OPTION_CONNECTION_TIMEOUT, IDLE_S, MHD_OPTION_END);
	if (!a->daemon) {
		close(fd);
		free(a);
		return -ENOMEM;
	}
	info = MHD_get_daemon_info(a->daemon, MHD_DAEMON_INFO_EPOLL_FD);
	if (info)
		err = loop_add(l, &a->watch, info->epoll_fd, EPOLLIN, readable);
	if (err) {
		admin_free(&a);
		return err;
	}
	*out = a;
	return 0;
}

void admin_free(struct admin **ap)
{
	struct admin *a = *ap;

	if (!a)
		return;
	timer_cancel(a->loop, &a->timer);
	loop_del(a->loop, &a->watch);
	MHD_stop_daemon(a->daemon); /* closes the listening socket too */
	free(a);
	*ap = NULL;
}
