/* SPDX-License-Identifier: Apache-2.0 */
/* See conn.h. */
#include "agent/proxy/conn.h"
#include "agent/proxy/proxy.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define FEW 1024 /* bytes */

static void bytes_free(struct proxy *p, struct bytes *b)
{
	if (b->mem)
		buf_put(&p->bufs, b->mem);
	memset(b, 0, sizeof(*b));
}

void conn_init(struct conn *c, struct proxy *p)
{
	memset(c, 0, sizeof(*c));
	c->watch.fd = -1;
	c->proxy = p;
	c->connecting = true;
}

/* An accepted socket can be written to, and is not asked about that before it once could not: its
 * first event would only say so. */
#define WATCH_IN  (EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLET)
#define WATCH_ALL (WATCH_IN | EPOLLOUT)

int conn_open(struct conn *c, int fd, void (*fn)(struct watch *, uint32_t))
{
	int r;

	c->watches_out = c->connecting;
	r = loop_add(&c->proxy->loop, &c->watch, fd, c->connecting ? WATCH_ALL : WATCH_IN, fn);
	if (r) {
		close(fd);
		return r;
	}
	c->readable = c->writable = true;
	return 0;
}

void conn_close(struct conn *c, bool rst)
{
	struct linger now = {.l_onoff = 1, .l_linger = 0};
	int fd = c->watch.fd;

	bytes_free(c->proxy, &c->in);
	bytes_free(c->proxy, &c->out);
	if (fd < 0)
		return;
	if (rst) /* fails only on a socket that is reset already */
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	if (c->handed)
		loop_del(&c->proxy->loop, &c->watch);
	else
		loop_forget(&c->proxy->loop, &c->watch);
	close(fd);
}

void conn_note(struct conn *c, uint32_t events)
{
	/* a read stops short at urgent data, too: then less than asked for does not mean drained */
	const uint32_t last = EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR;

	if (events & (EPOLLIN | last))
		c->readable = true;
	if (events & last)
		c->hung = true;
	if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
		c->writable = true;
	if (events & EPOLLERR && !c->error) {
		socklen_t len = sizeof(c->error);

		if (getsockopt(c->watch.fd, SOL_SOCKET, SO_ERROR, &c->error, &len) < 0)
			c->error = errno;
	} else if (c->connecting && events & EPOLLOUT) {
		c->connecting = false;
	}
}

/* Room behind `end`, or -ENOBUFS. */
static int make_room(struct conn *c)
{
	struct bytes *b = &c->in;
	uint32_t keep;

	if (!b->mem) {
		b->mem = buf_get(&c->proxy->bufs);
		b->hold = b->start = b->end = 0;
		return b->mem ? 0 : -ENOBUFS;
	}
	if (b->end < BUF_SIZE)
		return 0;
	if (b->held && b->hold == 0)
		b->held = false; /* no second try then */
	keep = b->held ? b->hold : b->start;
	if (!keep)
		return -ENOBUFS;
	memmove(b->mem, b->mem + keep, b->end - keep);
	b->hold -= b->held ? keep : b->hold;
	b->start -= keep;
	b->end -= keep;
	return 0;
}

/* Less than asked for: drained, and what comes later is a new edge. Not where redirected bytes and
 * TCP's wait in queues of their own: a read takes from one of them. */
static bool may_have_more(const struct conn *c)
{
	return __atomic_load_n(&c->proxy->shared.ctl->splice_bare, __ATOMIC_RELAXED);
}

ssize_t conn_fill(struct conn *c)
{
	size_t room;
	ssize_t n;

	if (make_room(c))
		return -ENOBUFS;
	room = BUF_SIZE - c->in.end;
	n = recv(c->watch.fd, c->in.mem + c->in.end, room, 0);
	if (n > 0) {
		c->in.end += (uint32_t)n;
		c->connecting = false;
		c->readable = (size_t)n == room || c->hung || c->error || may_have_more(c);
		return n;
	}
	c->readable = false;
	if (n < 0 && errno != EAGAIN && errno != EINTR && !c->error)
		c->error = errno;
	/* what came before a reset could still be read; SO_ERROR was asked for, so its end looks
	 * like FIN */
	if (c->error)
		n = -c->error;
	else if (n == 0)
		c->eof = true;
	else
		n = -EAGAIN;
	conn_consume(c, 0);
	return n;
}

void conn_consume(struct conn *c, uint32_t n)
{
	struct bytes *b = &c->in;

	b->start += n;
	if (b->start == b->end && !b->held && b->mem)
		bytes_free(c->proxy, b);
}

void conn_hold(struct conn *c)
{
	c->in.hold = c->in.start;
	c->in.held = true;
}

void conn_release(struct conn *c)
{
	c->in.held = false;
	conn_consume(c, 0);
}

static void out_sent(struct conn *c, size_t n)
{
	c->out.start += (uint32_t)n;
	if (c->out.start == c->out.end)
		bytes_free(c->proxy, &c->out);
}

/* The kernel takes no more for now. */
static void blocked(struct conn *c)
{
	int r = c->watches_out ? 0 : loop_mod(&c->proxy->loop, &c->watch, WATCH_ALL);

	c->writable = false;
	c->watches_out = true;
	if (r)
		c->error = -r;
}

/* One piece takes send(), which is cheaper and takes flags; two take writev(): the worker's filter
 * has no sendmsg(), which can pass descriptors. */
static ssize_t push(const struct conn *c, const char *first, size_t nfirst, const char *more,
		    size_t n)
{
	struct iovec iov[2] = {{(char *)first, nfirst}, {(char *)more, n}};

	if (nfirst && n)
		return writev(c->watch.fd, iov, 2);
	return send(c->watch.fd, nfirst ? first : more, nfirst + n,
		    MSG_NOSIGNAL | (c->ending ? MSG_MORE : 0));
}

/* Copying a few bytes costs less than a second piece. */
static bool is_few(const struct bytes *out, size_t n)
{
	return n <= FEW && out->end != out->start && BUF_SIZE - out->end >= n;
}

ssize_t conn_send(struct conn *c, const char *more, size_t n)
{
	size_t first, sent, copied = 0;
	ssize_t r;

	if (c->error)
		return -c->error;
	if (!c->writable)
		return 0;
	if (n && is_few(&c->out, n)) {
		memcpy(c->out.mem + c->out.end, more, n);
		c->out.end += (uint32_t)n;
		copied = n;
		n = 0;
	}
	first = c->out.end - c->out.start;
	if (first + n == 0)
		return 0;
	r = push(c, first ? c->out.mem + c->out.start : NULL, first, more, n);
	if (r < 0 && errno != EAGAIN && errno != EINTR) {
		c->writable = false;
		c->error = errno;
		return -errno;
	}
	if (r < 0) {
		blocked(c);
		return (ssize_t)copied;
	}
	c->connecting = false;
	sent = (size_t)r;
	if (sent < first + n)
		blocked(c);
	if (first)
		out_sent(c, sent < first ? sent : first);
	return (ssize_t)(copied + (sent > first ? sent - first : 0));
}

char *conn_compose(struct conn *c, size_t *cap)
{
	struct bytes *b = &c->out;

	if (!b->mem) {
		b->mem = buf_get(&c->proxy->bufs);
		b->start = b->end = 0;
	} else if (b->start) {
		memmove(b->mem, b->mem + b->start, b->end - b->start);
		b->end -= b->start;
		b->start = 0;
	}
	*cap = BUF_SIZE - b->end;
	return b->mem ? b->mem + b->end : NULL;
}

void conn_composed(struct conn *c, size_t n)
{
	c->out.end += (uint32_t)n;
}

void conn_shutdown(struct conn *c)
{
	if (c->shut || !conn_flushed(c))
		return;
	if (c->connecting || c->watch.fd < 0) /* it would end the attempt (tcp(7): a disconnect) */
		return;
	c->shut = true;
	if (shutdown(c->watch.fd, SHUT_WR) < 0 && !c->error && errno != ENOTCONN)
		c->error = errno;
}
