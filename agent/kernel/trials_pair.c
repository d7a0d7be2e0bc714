/* SPDX-License-Identifier: Apache-2.0 */
/* Pairs of connected sockets for trials, and streams of a known pattern through them. See
 * trials_impl.h. */
#include "agent/kernel/trials_impl.h"
#include "lib/clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/time.h>
#include <unistd.h>

#define CHUNK 65536

unsigned trial_patience = 1;

int trial_left(const struct trial_run *r, int ms)
{
	uint64_t now = clock_mono_ns(), end = r->env->deadline_ns;

	ms *= (int)trial_patience;
	if (end && now >= end)
		return 0;
	if (end && (end - now) / 1000000 < (uint64_t)ms)
		return (int)((end - now) / 1000000);
	return ms;
}

bool trial_steer(struct trial_run *r, enum trial_way way)
{
	int err;

	if (way == TRIAL_ANY || !r->env->steer || r->steered == (int)way)
		return true;
	err = r->env->steer(r->env->arg, way == TRIAL_REDIRECT);
	if (err)
		return trial_fail(r, "cannot steer: %s", strerror(-err));
	r->steered = (int)way;
	return true;
}

/* --- the pattern --- */

static uint8_t pattern_at(uint64_t at)
{
	return (uint8_t)(at ^ at >> 8 ^ at >> 16);
}

void trial_pattern(uint64_t at, uint8_t *buf, size_t n)
{
	for (size_t i = 0; i < n; i++)
		buf[i] = pattern_at(at + i);
}

bool trial_right(struct trial_run *r, uint64_t at, const uint8_t *buf, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (buf[i] != pattern_at(at + i))
			return trial_fail(r, "byte %llu of the stream is wrong",
					  (unsigned long long)(at + i));
	return true;
}

/* --- sending and reading --- */

uint64_t trial_tcp_bytes(int fd)
{
	struct tcp_info info = {0};
	socklen_t len = sizeof(info);

	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
		return 0;
	return info.tcpi_bytes_sent - info.tcpi_bytes_retrans + info.tcpi_notsent_bytes;
}

static uint64_t tcp_received(int fd)
{
	struct tcp_info info = {0};
	socklen_t len = sizeof(info);

	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0 ? 0
								      : info.tcpi_bytes_received;
}

/* TCP reports no event when bytes have reached a queue that nobody has read up to: so it is asked,
 * which on one host it needs to be once. */
bool trial_arrived(struct trial_run *r, const struct trial_end *from, const struct trial_end *to)
{
	uint64_t end = clock_mono_ns() + (uint64_t)trial_left(r, TRIAL_WAIT_MS) * 1000000;
	uint64_t sent = trial_tcp_bytes(from->fd);

	while (tcp_received(to->fd) < sent) {
		if (clock_mono_ns() > end)
			return trial_fail(r, "%llu bytes of TCP did not arrive",
					  (unsigned long long)(sent - tcp_received(to->fd)));
		sched_yield();
	}
	return true;
}

/* An acknowledgement may be put off for 40 ms: a reader that is asked gives it at once. */
static bool all_acknowledged(struct trial_run *r, const struct trial_end *e)
{
	uint64_t end = clock_mono_ns() + (uint64_t)trial_left(r, TRIAL_WAIT_MS) * 1000000;
	int one = 1, n = 0;

	while (r->env->steer && ioctl(e->fd, SIOCOUTQ, &n) == 0 && n) {
		if (e->peer->fd >= 0)
			setsockopt(e->peer->fd, IPPROTO_TCP, TCP_QUICKACK, &one, sizeof(one));
		if (clock_mono_ns() > end)
			return trial_fail(r, "%d bytes of TCP are not acknowledged", n);
		sched_yield();
	}
	return true;
}

static bool took_the_way(struct trial_run *r, size_t n, uint64_t by_tcp, enum trial_way way)
{
	if (!r->env->steer || way == TRIAL_ANY || by_tcp == (way == TRIAL_TCP ? n : 0))
		return true;
	return trial_fail(r, "%llu of %zu bytes went by TCP", (unsigned long long)by_tcp, n);
}

bool trial_give(struct trial_run *r, struct trial_end *e, size_t n, enum trial_way way)
{
	static uint8_t buf[CHUNK];
	uint64_t before;
	ssize_t sent;

	if (n > sizeof(buf))
		return trial_fail(r, "a message of %zu bytes", n);
	if (!trial_steer(r, way) || (way == TRIAL_REDIRECT && !all_acknowledged(r, e)))
		return false;
	trial_pattern(e->sent, buf, n);
	before = trial_tcp_bytes(e->fd);
	sent = send(e->fd, buf, n, MSG_NOSIGNAL);
	if (sent < 0)
		return trial_fail(r, "send() of %zu bytes: %s", n, strerror(errno));
	e->sent += (uint64_t)sent;
	if ((size_t)sent != n)
		return trial_fail(r, "send() of %zu bytes took %zd", n, sent);
	return took_the_way(r, n, trial_tcp_bytes(e->fd) - before, way);
}

long trial_read(struct trial_run *r, struct trial_end *e, size_t n, bool *eof)
{
	static uint8_t buf[CHUNK];
	ssize_t got = recv(e->fd, buf, n < sizeof(buf) ? n : sizeof(buf), 0);

	*eof = got == 0;
	if (got < 0 && errno == EAGAIN)
		return 0;
	if (got < 0) {
		trial_fail(r, "recv(): %s", strerror(errno));
		return -1;
	}
	if (!trial_right(r, e->got, buf, (size_t)got))
		return -1;
	e->got += (uint64_t)got;
	return got;
}

bool trial_take(struct trial_run *r, struct trial_end *e, size_t n)
{
	size_t left = n;
	bool eof;

	while (left) {
		long got = trial_read(r, e, left, &eof);

		if (got < 0)
			return false;
		if (eof)
			return trial_fail(r, "the stream ended %zu bytes early", left);
		left -= (size_t)got;
		if (!got && !trial_wait(r, e->fd, POLLIN))
			return trial_fail(r, "%zu of %zu bytes did not arrive", left, n);
	}
	return true;
}

bool trial_take_end(struct trial_run *r, struct trial_end *e)
{
	bool eof;
	long got;

	if (!trial_wait(r, e->fd, POLLIN))
		return trial_fail(r, "the end of the stream was not reported");
	got = trial_read(r, e, 1, &eof);
	if (got > 0)
		return trial_fail(r, "there was a byte after the last one");
	return got == 0 && (eof || trial_fail(r, "readable, but there was nothing"));
}

bool trial_wait(struct trial_run *r, int fd, short events)
{
	struct pollfd p = {.fd = fd, .events = events};

	return poll(&p, 1, trial_left(r, TRIAL_WAIT_MS)) == 1;
}

bool trial_block(struct trial_run *r, int fd)
{
	int ms = trial_left(r, TRIAL_WAIT_MS);
	struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 + 1};
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)) < 0)
		return trial_fail(r, "cannot make a socket blocking: %s", strerror(errno));
	return true;
}

/* --- making pairs --- */

/* A socket in one of the two namespaces. */
static int socket_in(struct trial_run *r, unsigned netns, int family)
{
	const int *ns = r->env->netns;
	int fd, err;

	if (netns && setns(ns[netns], CLONE_NEWNET) < 0)
		return -1;
	fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	err = errno;
	if (netns && setns(ns[0], CLONE_NEWNET) < 0)
		return -1; /* the process ends with this battery, and owns nothing elsewhere */
	errno = err;
	return fd;
}

static socklen_t address(const char *ip, uint16_t port, struct sockaddr_storage *ss)
{
	struct sockaddr_in6 *six = (struct sockaddr_in6 *)ss;
	struct sockaddr_in *four = (struct sockaddr_in *)ss;

	memset(ss, 0, sizeof(*ss));
	if (inet_pton(AF_INET, ip, &four->sin_addr) == 1) {
		four->sin_family = AF_INET;
		four->sin_port = htons(port);
		return sizeof(*four);
	}
	six->sin6_family = AF_INET6;
	six->sin6_port = htons(port);
	inet_pton(AF_INET6, ip, &six->sin6_addr);
	return sizeof(*six);
}

static int bind_to(int fd, const char *ip, uint16_t port)
{
	struct sockaddr_storage ss;
	socklen_t len = address(ip, port, &ss);
	int one = 1;

	return setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0
		       ? -1
		       : bind(fd, (struct sockaddr *)&ss, len);
}

/* A mapped address is listened on as the IPv4 that it is. */
static const char *plain(const char *ip)
{
	return strncmp(ip, "::ffff:", 7) ? ip : ip + 7;
}

/* The listener, and in *to its address as `ip` writes it. Its family may not be there at all. */
static bool listen_for(struct trial_run *r, const struct trial_how *how, const char *ip, int *out,
		       struct sockaddr_storage *to, socklen_t *len)
{
	struct sockaddr_storage ss;
	socklen_t n = sizeof(ss);
	int queue = 4, one = 1,
	    fd = socket_in(r, how->netns_b, strchr(plain(ip), ':') ? AF_INET6 : AF_INET);

	if (fd < 0 && errno == EAFNOSUPPORT)
		return trial_skip(r, "no IPv6");
	if (!trial_own(r, fd, "socket()"))
		return false;
	*out = fd;
	if (bind_to(fd, plain(ip), how->port_b) < 0)
		return errno == EADDRNOTAVAIL ? trial_skip(r, "no address %s", ip)
					      : trial_fail(r, "bind(%s): %s", ip, strerror(errno));
	if (how->fast_open && setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN, &queue, sizeof(queue)) < 0)
		return trial_skip(r, "no TCP Fast Open");
	if (how->defer && setsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &one, sizeof(one)) < 0)
		return trial_skip(r, "no TCP_DEFER_ACCEPT");
	if (listen(fd, 4) < 0 || getsockname(fd, (struct sockaddr *)&ss, &n) < 0)
		return trial_fail(r, "listen(): %s", strerror(errno));
	*len = address(ip, ntohs(((struct sockaddr_in *)&ss)->sin_port), to);
	return true;
}

/* Fast Open by sendto() needs a cookie of an earlier connection, unless the sysctl lifts that;
 * without one the bytes follow the handshake, which is as good for whoever reads. */
static bool connect_it(struct trial_run *r, const struct trial_how *how, struct trial_end *e,
		       const struct sockaddr_storage *to, socklen_t len)
{
	const struct sockaddr *sa = (const struct sockaddr *)to;
	uint8_t buf[64];
	ssize_t n;

	if (!how->fast_open)
		return connect(e->fd, sa, len) == 0 || errno == EINPROGRESS ||
		       trial_fail(r, "connect(): %s", strerror(errno));
	trial_pattern(0, buf, sizeof(buf));
	n = sendto(e->fd, buf, how->early, MSG_FASTOPEN | MSG_NOSIGNAL, sa, len);
	if (n < 0 && errno == EINPROGRESS)
		return true;
	if (n < 0)
		return trial_fail(r, "sendto(MSG_FASTOPEN): %s", strerror(errno));
	e->sent += (uint64_t)n;
	return true;
}

static bool accept_it(struct trial_run *r, int listener, struct trial_end *e)
{
	if (!trial_wait(r, listener, POLLIN))
		return trial_fail(r, "nobody to accept");
	e->fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	return trial_own(r, e->fd, "accept()");
}

bool trial_pair_begin(struct trial_run *r, const struct trial_how *how, struct trial_pair *p,
		      int *listener)
{
	const char *ip = how->ip ? how->ip : "127.0.0.1";
	struct sockaddr_storage to;
	socklen_t len = 0;

	*p = (struct trial_pair){{-1, &p->b, 0, 0}, {-1, &p->a, 0, 0}};
	if (!trial_steer(r, TRIAL_REDIRECT)) /* who is off now would never be on */
		return false;
	if (!listen_for(r, how, ip, listener, &to, &len))
		return false;
	p->a.fd = socket_in(r, how->netns_a, to.ss_family);
	if (!trial_own(r, p->a.fd, "socket()"))
		return false;
	if (how->port_a && bind_to(p->a.fd, ip, how->port_a) < 0)
		return trial_fail(r, "bind(%s): %s", ip, strerror(errno));
	return connect_it(r, how, &p->a, &to, len) &&
	       (trial_wait(r, p->a.fd, POLLOUT) || trial_fail(r, "connect() did not end"));
}

bool trial_pair_end(struct trial_run *r, const struct trial_how *how, struct trial_pair *p,
		    int *listener)
{
	int one = 1;

	if (how->early > p->a.sent && !trial_give(r, &p->a, how->early - p->a.sent, TRIAL_ANY))
		return false;
	if (!accept_it(r, *listener, &p->b))
		return false;
	trial_close(r, listener);
	return (setsockopt(p->a.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) == 0 &&
		setsockopt(p->b.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) == 0) ||
	       trial_fail(r, "TCP_NODELAY: %s", strerror(errno));
}

bool trial_pair_how(struct trial_run *r, const struct trial_how *how, struct trial_pair *p)
{
	int listener;

	return trial_pair_begin(r, how, p, &listener) && trial_pair_end(r, how, p, &listener);
}

bool trial_pair(struct trial_run *r, struct trial_pair *p)
{
	return trial_pair_how(r, &(struct trial_how){0}, p);
}
