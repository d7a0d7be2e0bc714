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

#define container(p, type, field) ((type *)((char *)(p)-offsetof(type, field)))

struct admin {
	struct loop *loop;
	struct admin_ops ops;
	struct MHD_Daemon *daemon;
	struct watch watch;
	struct timer timer;
};

static enum MHD_Result answer(struct MHD_Connection *c, unsigned status, const char *type,
			      bool gzip, struct buf *text)
{
	struct MHD_Response *r;
	enum MHD_Result ret;
	size_t len = text->len;
	char *body;

	if (text->failed) {
		buf_done(text);
		return MHD_NO;
	}
	body = len ? buf_take(text) : NULL;
	r = MHD_create_response_from_buffer(len, body ? body : "",
					    body ? MHD_RESPMEM_MUST_FREE : MHD_RESPMEM_PERSISTENT);
	if (!r) {
		free(body);
		return MHD_NO;
	}
	MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	MHD_add_response_header(r, MHD_HTTP_HEADER_VARY, "Accept, Accept-Encoding");
	if (gzip)
		MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_ENCODING, "gzip");
	if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
		MHD_add_response_header(r, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
	ret = MHD_queue_response(c, status, r);
	MHD_destroy_response(r);
	return ret;
}

static enum MHD_Result say(struct MHD_Connection *c, unsigned status, const char *word)
{
	struct buf b;

	buf_init(&b, 1024);
	buf_printf(&b, "%s\n", word);
	return answer(c, status, "text/plain; charset=utf-8", false, &b);
}

static const char *given(struct MHD_Connection *c, const char *name)
{
	return MHD_lookup_connection_value(c, MHD_HEADER_KIND, name);
}

static enum MHD_Result give_metrics(struct admin *a, struct MHD_Connection *c)
{
	struct exposition x = exposition_choose(given(c, MHD_HTTP_HEADER_ACCEPT),
						given(c, MHD_HTTP_HEADER_ACCEPT_ENCODING));
	struct buf b;

	buf_init(&b, ADMIN_TEXT_MAX);
	a->ops.metrics(a->ops.arg, &b, x.openmetrics);
	exposition_seal(&x, &b);
	return answer(c, MHD_HTTP_OK, exposition_type(&x), x.gzip, &b);
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
