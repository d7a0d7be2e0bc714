/* SPDX-License-Identifier: Apache-2.0 */
/* See harness.h: callers, and HTTP by hand over their sockets. */
#include "tests/e2e/harness_impl.h"
#include "tests/bench/dialer.h"
#include "tests/bench/net.h"

#include <fcntl.h>
#include <sys/time.h>
#include <sys/un.h>

#define PATIENCE_S 10

static struct client *clients;
static struct caller *callers;
static unsigned ncallers;
static char last[512]; /* what the last answer was */

/* --- callers -----------------------------------------------------------------------------------
 */

struct caller *driven_start(const char *service, const char *id, const char *flags,
			    const char *program)
{
	struct caller *c = calloc(1, sizeof(*c));
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	struct pollfd p;
	char cmd[PATH_MAX];

	assert_non_null(c);
	snprintf(c->path, sizeof(c->path), SCRATCH "/driven.%u", ncallers++);
	snprintf(cmd, sizeof(cmd), "%s %s", program, c->path);
	strcpy(un.sun_path, c->path);
	c->fd = -1;
	c->next = callers;
	callers = c;
	c->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	assert_return_code(bind(c->listener, (struct sockaddr *)&un, sizeof(un)), errno);
	assert_return_code(listen(c->listener, 1), errno);
	c->run = instance_start(service, id, flags, cmd);
	p = (struct pollfd){.fd = c->listener, .events = POLLIN};
	if (poll(&p, 1, PATIENCE_S * 1000 * (int)slowness()) != 1)
		fail_msg("%s did not start", id);
	c->fd = accept4(c->listener, NULL, NULL, SOCK_CLOEXEC);
	assert_return_code(c->fd, errno);
	return c;
}

struct caller *caller_start(const char *service, const char *flags)
{
	char id[64];

	snprintf(id, sizeof(id), "%.40s-caller-%u", service, ncallers);
	return driven_start(service, id, flags, "dialer --socket");
}

int caller_dial(struct caller *c, const char *address)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct dialed d = {.err = -EIO};
	struct iovec iov = {&d, sizeof(d)};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control.room,
			     .msg_controllen = sizeof(control.room)};
	struct pollfd p = {.fd = c->fd, .events = POLLIN};
	struct cmsghdr *m;
	int fd = -1;

	assert_int_equal(send(c->fd, address, strlen(address), MSG_NOSIGNAL), strlen(address));
	if (poll(&p, 1, PATIENCE_S * 1000 * (int)slowness()) != 1)
		fail_msg("no connection to %s after %d s", address, PATIENCE_S);
	assert_int_equal(recvmsg(c->fd, &msg, MSG_CMSG_CLOEXEC), sizeof(d));
	c->dialed_ns = d.began_ns;
	m = CMSG_FIRSTHDR(&msg);
	if (m)
		memcpy(&fd, CMSG_DATA(m), sizeof(fd));
	return d.err ? d.err : fd;
}

/* --- clients -----------------------------------------------------------------------------------
 */

static struct client *client_new(int fd)
{
	const struct timeval patience = {.tv_sec = PATIENCE_S * slowness()};
	struct client *c = calloc(1, sizeof(*c));

	assert_non_null(c);
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	c->fd = fd;
	c->next = clients;
	clients = c;
	return c;
}

struct client *client_try(const char *address)
{
	struct addr a;
	int fd = addr_parse(address, &a) ? -1 : net_connect(&a, 0);

	return fd < 0 ? NULL : client_new(fd);
}

struct client *call_directly(const char *address)
{
	struct client *c = client_try(address);

	if (!c)
		fail_msg("cannot connect to %s: %s", address, strerror(errno));
	return c;
}

struct client *gateway(void)
{
	return call_directly(GATEWAY_ADDRESS);
}

struct client *call(struct caller *who, const char *address)
{
	int fd = caller_dial(who, address);

	if (fd < 0)
		fail_msg("cannot connect to %s as a workload: %s", address, strerror(-fd));
	return client_new(fd);
}

void hang_up(struct client *c)
{
	for (struct client **p = &clients; *p; p = &(*p)->next)
		if (*p == c) {
			*p = c->next;
			close(c->fd);
			free(c->body);
			free(c);
			return;
		}
}

void clients_end(void)
{
	*last = 0;
	while (clients)
		hang_up(clients);
	for (struct caller *c; (c = callers);) {
		callers = c->next;
		if (c->fd >= 0)
			close(c->fd);
		close(c->listener);
		unlink(c->path);
		free(c);
	}
}

void say_bytes(struct client *c, const void *p, size_t n)
{
	const char *at = p;

	while (n) {
		ssize_t did = send(c->fd, at, n, MSG_NOSIGNAL);

		if (did < 0 && errno == EINTR)
			continue;
		if (did < 0 && (errno == EPIPE || errno == ECONNRESET))
			return; /* refused early: the answer tells */
		if (did < 0)
			fail_msg("send: %s", strerror(errno));
		at += did;
		n -= (size_t)did;
	}
}

void say(struct client *c, const char *fmt, ...)
{
	char *text;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	assert_true(n >= 0);
	say_bytes(c, text, (size_t)n);
	free(text);
}

/* Reads more. false at the end, on an error, or when nothing came in time. */
static bool more(struct client *c)
{
	ssize_t n;

	memmove(c->in, c->in + c->at, c->len - c->at);
	c->len -= c->at;
	c->at = 0;
	do /* with a time limit it does not go on by itself when this process was stopped */
		n = recv(c->fd, c->in + c->len, sizeof(c->in) - c->len, 0);
	while (n < 0 && errno == EINTR);
	if (!n)
		errno = 0;
	if (n <= 0)
		return false;
	c->len += (size_t)n;
	return true;
}

static void keep_body(void *arg, const char *p, size_t n)
{
	struct client *c = arg;

	if (c->body_len + n + 1 > c->body_cap) {
		c->body_cap = (c->body_len + n + 1) * 2;
		c->body = realloc(c->body, c->body_cap);
		assert_non_null(c->body);
	}
	memcpy(c->body + c->body_len, p, n);
	c->body_len += n;
	c->body[c->body_len] = 0;
}

/* The next head that is not 1xx (101 is final). Its status or -1. */
static int read_head(struct client *c)
{
	for (c->interims = 0;; c->interims++) {
		ssize_t n;
		int status;

		while (!(n = h1_head_parse(c->in + c->at, c->len - c->at, &c->h)))
			if (!more(c))
				return -1;
		if (n < 0)
			fail_msg("not an answer: %.*s", (int)(c->len - c->at), c->in + c->at);
		if ((size_t)n >= sizeof(c->head))
			fail_msg("a head of %zd bytes", n);
		memcpy(c->head, c->in + c->at, (size_t)n);
		c->head[n] = 0;
		(void)h1_head_parse(c->head, (size_t)n, &c->h);
		c->at += (size_t)n;
		status = h1_status(&c->h);
		if (status == 101 || status < 100 || status >= 200)
			return status;
	}
}

static int take_answer(struct client *c, const char *method)
{
	c->body_len = 0;
	keep_body(c, "", 0);
	c->whole = false;
	c->status = read_head(c);
	if (c->status < 0)
		return -1;
	if (!strcmp(method, "HEAD") || c->status == 204 || c->status == 304 || c->status == 101)
		h1_body_start(&c->b, H1_NONE, 0);
	else
		h1_body_of(&c->b, &c->h, true);
	while (!c->b.done) {
		ssize_t n = h1_body_feed(&c->b, c->in + c->at, c->len - c->at, keep_body, c);

		if (n < 0)
			fail_msg("bad chunk in an answer");
		c->at += (size_t)n;
		if (!c->b.done && !more(c)) {
			c->whole = c->b.kind == H1_UNTIL_CLOSE;
			return c->status;
		}
	}
	c->whole = true;
	return c->status;
}

int answer(struct client *c, const char *method)
{
	uint64_t start = mono_ms();
	int status = take_answer(c, method), err = errno;

	snprintf(last, sizeof(last), "%d after %lu ms, %s%s, cause '%s', by '%s': %.*s", status,
		 mono_ms() - start, c->whole ? "whole" : "cut: ", c->whole ? "" : strerror(err),
		 header(c, "x-mesh-cause"), header(c, "x-instance-id"), 200,
		 c->body_len ? c->body : "");
	return status;
}

void answer_show(void)
{
	if (*last)
		printf("--- the last answer: %s\n", last);
}

int get(struct client *c, const char *target_fmt, ...)
{
	char target[8192];
	va_list ap;

	va_start(ap, target_fmt);
	vsnprintf(target, sizeof(target), target_fmt, ap);
	va_end(ap);
	say(c, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", target);
	return answer(c, "GET");
}

int get_with(struct client *c, const char *extra, const char *target)
{
	say(c, "GET %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n\r\n", target, extra);
	return answer(c, "GET");
}

const char *header(const struct client *c, const char *name)
{
	static char text[8][1024]; /* answer() takes two */
	static unsigned turn;
	const struct h1_slice *v = c->status < 0 ? NULL : h1_find(&c->h, name);
	char *out = text[turn++ % 8];

	snprintf(out, sizeof(text[0]), "%.*s", v ? (int)v->n : 0, v ? v->p : "");
	return out;
}

bool hung_up(struct client *c, unsigned ms)
{
	struct pollfd p = {.fd = c->fd, .events = POLLIN};
	char byte;

	return c->at == c->len && poll(&p, 1, (int)ms) == 1 && recv(c->fd, &byte, 1, 0) <= 0;
}

size_t take(struct client *c, void *out, size_t n)
{
	char *to = out;
	size_t got = 0;

	while (got < n) {
		size_t k = c->len - c->at < n - got ? c->len - c->at : n - got;

		memcpy(to + got, c->in + c->at, k);
		c->at += k;
		got += k;
		if (got < n && !more(c))
			break;
	}
	return got;
}

struct client *two_origins(const char *service, struct instance **a, struct instance **b)
{
	struct client *c;

	*a = instance_start(service, "a", "--netns", "origin --port 8000");
	*b = instance_start(service, "b", "--netns", "origin --port 8000");
	instance_ready(*a);
	instance_ready(*b);
	c = gateway();
	eventually(5000, get(c, "/%s/", service) == 200);
	return c;
}
