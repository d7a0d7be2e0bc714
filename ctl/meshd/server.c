/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See server.h. libmicrohttpd gives one epoll descriptor per daemon; the loop watches it, and the
 * loop's `after` hook runs both daemons until neither has anything left to do. What a request says
 * is handled in request.c.
 */
#include "ctl/meshd/server.h"
#include "lib/addr.h"
#include "lib/clock.h"

#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define ROUNDS_MAX 64 /* of the daemons in one turn of the loop */
/* Memory of a connection: the head must fit, and of a body half as much is read at a time. Agents
 * post megabytes over the unix socket, which is for few; over TCP anybody may hold connections. */
#define TCP_MEMORY  (16 * 1024)
#define UNIX_MEMORY (64 * 1024)
#define DROPPED_MAX (8 * SERVER_BODY_MAX) /* read and thrown away so that a client sees its 413 */

struct connection {
	struct connection *next, **prev;
	int fd;
	bool busy, suspended, answering;
	uint64_t deadline_ms;
};

struct listener {
	struct server *server;
	struct MHD_Daemon *daemon;
	struct watch watch;
	int fd; /* after quiescing it is ours to close */
	bool local;
};

struct server {
	struct server_config c;
	struct listener tcp, local;
	struct timer timer;
	struct connection *connections;
	unsigned nconnections;
	size_t held; /* bytes of answers under way */
	bool quiesced;
	bool pumping, resumed; /* resumed: the daemons have to look once more */
};

static void on_timer(struct timer *t);

static uint64_t now_ms(void)
{
	return clock_mono_ns() / 1000000;
}

/* --- finding the route --------------------------------------------------------------- */

static bool visible(const char *s)
{
	while (*s > ' ' && *s < 0x7f)
		s++;
	return !*s;
}

static bool segment_match(const char **pattern, const char **path, struct request *r, int *nargs)
{
	size_t n = strcspn(*path, "/"), m = strcspn(*pattern, "/");
	bool named = m == 1 && **pattern == '*', any = m == 1 && **pattern == '?';
	const char *arg;

	if (named || any) {
		if (!n || n > SERVER_ARG_MAX || *nargs == SERVER_ARGS)
			return false;
		arg = memcpy(r->arg[*nargs], *path, n);
		r->arg[(*nargs)++][n] = '\0';
		if (named ? !name_valid(arg) : !visible(arg))
			return false;
	} else if (n != m || memcmp(*pattern, *path, n)) {
		return false;
	}
	*pattern += m;
	*path += n;
	return true;
}

static bool path_match(const char *pattern, const char *path, struct request *r)
{
	int nargs = 0;

	while (*pattern == '/' && *path == '/') {
		pattern++;
		path++;
		if (!segment_match(&pattern, &path, r, &nargs))
			return false;
	}
	return !*pattern && !*path;
}

static bool method_match(const char *wanted, const char *method)
{
	return !strcmp(wanted, method) || (!strcmp(wanted, "GET") && !strcmp(method, "HEAD"));
}

/* Sets r->route, or else r->refusal; for 405 r->allow is the list of what is allowed. */
static void route_find(struct request *r, const char *method, const char *path)
{
	char *allow = r->allow;

	for (const struct route *t = r->server->c.routes; t->method; t++) {
		if (!path_match(t->path, path, r))
			continue;
		if (method_match(t->method, method)) {
			r->route = t;
			return;
		}
		if (strlen(allow) + strlen(t->method) + 8 < sizeof(r->allow)) {
			strcat(allow, allow[0] ? ", " : "");
			strcat(allow, t->method);
			strcat(allow, strcmp(t->method, "GET") ? "" : ", HEAD");
		}
	}
	r->refusal = allow[0] ? 405 : 404;
}

/* --- one request --------------------------------------------------------------------- */

static bool peer_loopback(struct MHD_Connection *mhd)
{
	const union MHD_ConnectionInfo *i =
		MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
	struct sockaddr_storage ss = {0};
	struct addr a;

	if (!i || !i->client_addr)
		return false;
	memcpy(&ss, i->client_addr,
	       i->client_addr->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6)
						     : sizeof(struct sockaddr_in));
	return addr_from_sockaddr(&ss, &a) == 0 && addr_is_loopback(a.ip);
}

static enum MHD_Result count_hosts(void *cls, enum MHD_ValueKind kind, const char *key,
				   const char *value)
{
	*(unsigned *)cls += !strcasecmp(key, "Host");
	return MHD_YES;
}

static void judge(struct request *r, const char *method, const char *path)
{
	unsigned hosts = 0;
	struct auth_facts f = {
		.local = r->local,
		.peer_loopback = !r->local && peer_loopback(r->mhd),
		.write = strcmp(method, "GET") && strcmp(method, "HEAD"),
		.host = request_header(r, "Host"),
		.origin = request_header(r, "Origin"),
		.authorization = request_header(r, "Authorization"),
		.site = request_header(r, "Sec-Fetch-Site"),
		.page = !strcmp(path, "/") || !strncmp(path, "/ui/", 4),
	};

	MHD_get_connection_values(r->mhd, MHD_HEADER_KIND, count_hosts, &hosts);
	if (hosts > 1) { /* RFC 9112, 3.2: which of them counts is anybody's guess */
		r->refusal = 400;
		r->why = "more than one Host";
		return;
	}
	r->refusal = auth_judge(r->server->c.auth, &f, &r->why);
}

static struct request *request_new(struct listener *l, struct MHD_Connection *mhd)
{
	const union MHD_ConnectionInfo *i =
		MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	struct request *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->server = l->server;
	r->meshd = l->server->c.meshd;
	r->connection = i ? i->socket_context : NULL;
	r->mhd = mhd;
	r->local = l->local;
	if (r->connection)
		r->connection->busy = true;
	return r;
}

/* Everything that the head alone decides. A client that asks first (Expect) need not send what will
 * not be taken. */
static void head_judge(struct request *r, const char *method, const char *path)
{
	const char *length = request_header(r, "Content-Length");
	size_t max;

	judge(r, method, path);
	if (!r->refusal)
		route_find(r, method, path);
	max = r->route && r->route->body_max ? r->route->body_max : SERVER_BODY_MAX;
	buf_init(&r->body, max);
	if (!r->refusal && length && strtoull(length, NULL, 10) > max)
		r->refusal = 413;
}

static void refuse(struct request *r)
{
	switch (r->refusal) {
	case 404:
		reply_error(r, 404, NULL, "no such address here");
		break;
	case 405:
		reply_error(r, 405, NULL, "this address takes %s", r->allow);
		break;
	case 413:
		reply_error(r, 413, NULL, "the body is longer than %zu bytes", r->body.max);
		break;
	default:
		reply_error(r, r->refusal, NULL, "%s", r->why);
	}
}

static enum MHD_Result body_take(struct request *r, const char *data, size_t *size)
{
	if (!r->refusal) {
		buf_add(&r->body, data, *size);
		if (r->body.failed)
			r->refusal = 413;
	}
	if (r->refusal) {
		buf_done(&r->body);
		r->dropped += *size;
	}
	*size = 0;
	return r->dropped > DROPPED_MAX ? MHD_NO : MHD_YES;
}

static enum MHD_Result known_parameter(void *cls, enum MHD_ValueKind kind, const char *key,
				       const char *value)
{
	struct request *r = cls;
	size_t len = strlen(key), n;

	for (const char *q = r->route->query; q && *q; q += n + (q[n] == ',')) {
		n = strcspn(q, ",");
		if (n == len && !memcmp(q, key, len))
			return MHD_YES;
	}
	r->refusal = 400;
	if (!r->answered)
		reply_error(r, 400, key, "unknown query parameter");
	return MHD_NO;
}

static enum MHD_Result dispatch(struct request *r)
{
	if (!r->refusal)
		MHD_get_connection_values(r->mhd, MHD_GET_ARGUMENT_KIND, known_parameter, r);
	else
		refuse(r);
	if (!r->refusal)
		r->route->handler(r);
	if (!r->answered && !(r->connection && r->connection->suspended))
		reply_error(r, 500, NULL, "no answer");
	if (r->answered)
		request_lives(r);
	return r->answered ? r->queued : MHD_YES;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *mhd, const char *path,
				  const char *method, const char *version, const char *data,
				  size_t *size, void **state)
{
	struct request *r = *state;
	const char *expect;

	if (!r) {
		r = *state = request_new(cls, mhd);
		if (!r)
			return MHD_NO;
		head_judge(r, method, path);
		expect = request_header(r, "Expect");
		return r->refusal && expect && !strcasecmp(expect, "100-continue") ? dispatch(r)
										   : MHD_YES;
	}
	if (*size)
		return body_take(r, data, size);
	return r->answered ? MHD_YES : dispatch(r);
}

static void on_completed(void *cls, struct MHD_Connection *mhd, void **state,
			 enum MHD_RequestTerminationCode how)
{
	struct request *r = *state;

	if (!r)
		return;
	stream_done(r);
	if (r->work_done)
		r->work_done(r->work);
	if (r->connection) {
		r->connection->busy = r->connection->answering = false;
		r->connection->suspended = false;
		r->connection->deadline_ms = now_ms() + SERVER_CLIENT_S * 1000;
	}
	r->server->held -= r->held;
	buf_done(&r->body);
	free(r);
	*state = NULL;
}

bool server_hold(struct request *r, size_t len)
{
	struct server *s = r->server;

	if (s->held > SERVER_ANSWERS_MAX && len > SERVER_ANSWER_SMALL)
		return false;
	r->held += len;
	s->held += len;
	return true;
}

void request_lives(struct request *r)
{
	if (!r->connection)
		return;
	r->connection->answering = true;
	r->connection->deadline_ms = now_ms() + SERVER_ANSWER_S * 1000;
}

void request_suspend(struct request *r)
{
	MHD_suspend_connection(r->mhd);
	if (r->connection)
		r->connection->suspended = true;
}

void request_resume(struct request *r)
{
	r->resumed = true;
	if (r->connection)
		r->connection->suspended = false;
	request_lives(r);
	MHD_resume_connection(r->mhd);
	r->server->resumed = true;
	if (!r->server->pumping)
		timer_arm(r->server->c.loop, &r->server->timer, 0, on_timer);
}

/* --- connections and daemons --------------------------------------------------------- */

static void on_connection(void *cls, struct MHD_Connection *mhd, void **context,
			  enum MHD_ConnectionNotificationCode what)
{
	struct listener *l = cls;
	struct server *s = l->server;
	struct connection *c = *context;

	if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
		if (!c)
			return;
		*c->prev = c->next;
		if (c->next)
			c->next->prev = c->prev;
		/* a daemon that was full accepts again only when it runs once more */
		if (s->nconnections-- >= SERVER_UNIX_MAX)
			s->resumed = true;
		free(c);
		*context = NULL;
		return;
	}
	c = calloc(1, sizeof(*c));
	if (!c)
		return;
	c->fd = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
	c->deadline_ms = now_ms() + SERVER_CLIENT_S * 1000;
	c->next = s->connections;
	c->prev = &s->connections;
	if (c->next)
		c->next->prev = &c->next;
	s->connections = c;
	s->nconnections++;
	*context = c;
}

/* Nothing more comes, and what came has been read. libmicrohttpd misses an end that arrives
 * together with the first part of a request: such connections would take the places of others. */
static bool has_ended(const struct connection *c)
{
	char byte;

	return !c->answering && recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

/* libmicrohttpd's own timeout starts anew with every byte; this one does not. It sees the end of
 * the stream and closes the connection itself. */
void server_sweep(struct server *s, uint64_t now)
{
	for (struct connection *c = s->connections; c; c = c->next)
		if (!c->suspended && (now > c->deadline_ms || has_ended(c)))
			shutdown(c->fd, SHUT_RDWR);
}

/* Runs one daemon. Milliseconds until it wants to run again, UINT64_MAX for never. */
static uint64_t listener_run(struct listener *l)
{
	MHD_UNSIGNED_LONG_LONG ms;

	if (!l->daemon || MHD_run(l->daemon) != MHD_YES ||
	    MHD_get_timeout(l->daemon, &ms) != MHD_YES)
		return UINT64_MAX;
	return ms;
}

/* A daemon keeps connections that are ready in a list of its own, which epoll does not show: run
 * until it is empty. */
static void pump(struct server *s)
{
	uint64_t a, b, wait;
	int rounds = 0;

	s->pumping = true;
	do {
		s->resumed = false;
		a = listener_run(&s->tcp);
		b = listener_run(&s->local);
		wait = a < b ? a : b;
	} while ((!wait || s->resumed) && ++rounds < ROUNDS_MAX);
	s->pumping = false;
	if (wait == UINT64_MAX)
		timer_cancel(s->c.loop, &s->timer);
	else
		timer_arm(s->c.loop, &s->timer, wait, on_timer);
}

static void on_timer(struct timer *t)
{
	pump((struct server *)((char *)t - offsetof(struct server, timer)));
}

static void on_ready(struct watch *w, uint32_t events)
{
	pump(((struct listener *)((char *)w - offsetof(struct listener, watch)))->server);
}

/* A %00 would cut a name short, and the request would be about another one. */
static size_t unescape(void *cls, struct MHD_Connection *mhd, char *s)
{
	size_t len = MHD_http_unescape(s);

	for (size_t i = 0; i < len; i++)
		if (!s[i])
			s[i] = '\x01';
	return len;
}

static int listener_start(struct server *s, struct listener *l, int fd, unsigned limit)
{
	const unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME;
	const size_t memory = l->local ? UNIX_MEMORY : TCP_MEMORY;
	const union MHD_DaemonInfo *info;

	l->server = s;
	l->fd = -1;
	if (fd < 0)
		return 0;
	l->daemon = MHD_start_daemon(
		flags, 0, NULL, NULL, on_request, l, MHD_OPTION_LISTEN_SOCKET, fd,
		MHD_OPTION_CONNECTION_LIMIT, limit, MHD_OPTION_CONNECTION_TIMEOUT,
		(unsigned)SERVER_CLIENT_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT, memory,
		MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_UNESCAPE_CALLBACK, unescape, NULL,
		MHD_OPTION_NOTIFY_COMPLETED, on_completed, l, MHD_OPTION_NOTIFY_CONNECTION,
		on_connection, l, MHD_OPTION_END);
	if (!l->daemon) {
		close(fd);
		return -ENOMEM;
	}
	info = MHD_get_daemon_info(l->daemon, MHD_DAEMON_INFO_EPOLL_FD);
	return info ? loop_add(s->c.loop, &l->watch, info->epoll_fd, EPOLLIN, on_ready) : -ENOTSUP;
}

static void listener_stop(struct server *s, struct listener *l)
{
	loop_del(s->c.loop, &l->watch);
	if (l->daemon)
		MHD_stop_daemon(l->daemon);
	if (l->fd >= 0)
		close(l->fd);
}

int server_new(const struct server_config *c, struct server **out)
{
	struct server *s = calloc(1, sizeof(*s));
	int r, r2;

	if (!s)
		return -ENOMEM;
	s->c = *c;
	s->local.local = true;
	s->tcp.watch.fd = s->local.watch.fd = -1;
	r = listener_start(s, &s->tcp, c->tcp_fd, SERVER_TCP_MAX);
	r2 = listener_start(s, &s->local, c->unix_fd, SERVER_UNIX_MAX);
	if (r || r2) {
		server_free(&s);
		return r ? r : r2;
	}
	*out = s;
	return 0;
}

void server_free(struct server **s)
{
	if (!*s)
		return;
	listener_stop(*s, &(*s)->tcp);
	listener_stop(*s, &(*s)->local);
	timer_cancel((*s)->c.loop, &(*s)->timer);
	free(*s);
	*s = NULL;
}

void server_quiesce(struct server *s)
{
	s->quiesced = true;
	if (s->tcp.daemon && s->tcp.fd < 0)
		s->tcp.fd = MHD_quiesce_daemon(s->tcp.daemon);
	if (s->local.daemon && s->local.fd < 0)
		s->local.fd = MHD_quiesce_daemon(s->local.daemon);
	pump(s);
}

bool server_quiesced(const struct server *s)
{
	return s->quiesced;
}

bool server_idle(const struct server *s)
{
	for (const struct connection *c = s->connections; c; c = c->next)
		if (c->busy)
			return false;
	return true;
}

struct loop *server_loop(struct server *s)
{
	return s->c.loop;
}

unsigned server_connections(const struct server *s)
{
	return s->nconnections;
}
