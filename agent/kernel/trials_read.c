/* SPDX-License-Identifier: Apache-2.0 */
/* Trials of a reader: how programs find out that there is something, and how much. See
 * trials_impl.h. */
#include "agent/kernel/trials_impl.h"
#include "lib/clock.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>

#define ROUNDS 16

/* Both directions, small and large, in one family. */
static bool redirects_on(struct trial_run *r, const char *ip)
{
	static const size_t sizes[] = {1, 100, 4096, 65536};
	struct trial_how how = {.ip = ip};
	struct trial_pair p;

	if (!trial_pair_how(r, &how, &p))
		return false;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		if (!trial_give(r, &p.a, sizes[i], TRIAL_REDIRECT) ||
		    !trial_take(r, &p.b, sizes[i]) ||
		    !trial_give(r, &p.b, sizes[i], TRIAL_REDIRECT) ||
		    !trial_take(r, &p.a, sizes[i]))
			return false;
	return true;
}

bool trial_redirects(struct trial_run *r)
{
	static const char *const six[] = {"::1", "::ffff:127.0.0.1"};

	if (!redirects_on(r, "127.0.0.1"))
		return false;
	for (size_t i = 0; i < 2; i++)
		if (!redirects_on(r, six[i]) && r->outcome != TRIAL_SKIPPED)
			return false;
	r->outcome = TRIAL_PASSED; /* a host without IPv6 is complete */
	*r->why = 0;
	return true;
}

/* --- how much is there --- */

/* Readable: then FIONREAD must say something, and soon all. */
static bool fionread_says(struct trial_run *r, int fd, int want)
{
	uint64_t end = clock_mono_ns() + (uint64_t)trial_left(r, TRIAL_WAIT_MS) * 1000000;
	int n = 0;

	if (want && !trial_wait(r, fd, POLLIN))
		return trial_fail(r, "%d bytes were not reported", want);
	do {
		if (ioctl(fd, FIONREAD, &n) < 0)
			return trial_fail(r, "FIONREAD: %s", strerror(errno));
		if (n == want)
			return true;
		if (n <= 0 || n > want)
			break;
		sched_yield();
	} while (clock_mono_ns() < end);
	return trial_fail(r, "FIONREAD says %d, there are %d bytes", n, want);
}

static bool fionread_by(struct trial_run *r, struct trial_pair *p, enum trial_way way)
{
	return trial_give(r, &p->a, 5, way) && fionread_says(r, p->b.fd, 5) &&
	       trial_take(r, &p->b, 3) && fionread_says(r, p->b.fd, 2) && trial_take(r, &p->b, 2) &&
	       fionread_says(r, p->b.fd, 0);
}

bool trial_fionread(struct trial_run *r)
{
	struct trial_pair p;

	return trial_pair(r, &p) && fionread_by(r, &p, TRIAL_REDIRECT) &&
	       fionread_by(r, &p, TRIAL_TCP) && fionread_by(r, &p, TRIAL_REDIRECT) &&
	       trial_give(r, &p.a, 5, TRIAL_REDIRECT) && trial_give(r, &p.a, 4, TRIAL_TCP) &&
	       fionread_says(r, p.b.fd, 9) && trial_take(r, &p.b, 9);
}

/* --- looking without taking --- */

static bool peek(struct trial_run *r, const struct trial_end *e, size_t n, size_t least)
{
	uint8_t buf[64];
	ssize_t got = -1;

	if (trial_wait(r, e->fd, POLLIN))
		got = recv(e->fd, buf, n, MSG_PEEK);
	if (got < (ssize_t)least)
		return trial_fail(r, "MSG_PEEK shows %zd of %zu bytes", got, least);
	return trial_right(r, e->got, buf, (size_t)got);
}

static bool peek_by(struct trial_run *r, struct trial_pair *p, enum trial_way way)
{
	return trial_give(r, &p->a, 10, way) && peek(r, &p->b, 4, 4) && peek(r, &p->b, 64, 10) &&
	       trial_take(r, &p->b, 3) && peek(r, &p->b, 64, 7) && trial_take(r, &p->b, 7);
}

bool trial_peek(struct trial_run *r)
{
	struct trial_pair p;

	return trial_pair(r, &p) && peek_by(r, &p, TRIAL_REDIRECT) && peek_by(r, &p, TRIAL_TCP) &&
	       peek_by(r, &p, TRIAL_REDIRECT) && trial_give(r, &p.a, 10, TRIAL_REDIRECT) &&
	       trial_give(r, &p.a, 10, TRIAL_TCP) && peek(r, &p.b, 64, 10) &&
	       trial_take(r, &p.b, 20);
}

/* --- epoll --- */

static bool watch(struct trial_run *r, int fd, uint32_t events, int *ep)
{
	struct epoll_event e = {.events = events};

	*ep = epoll_create1(EPOLL_CLOEXEC);
	return trial_own(r, *ep, "epoll") && (epoll_ctl(*ep, EPOLL_CTL_ADD, fd, &e) == 0 ||
					      trial_fail(r, "epoll_ctl(): %s", strerror(errno)));
}

static int event(struct trial_run *r, int ep, int ms)
{
	struct epoll_event e;

	return epoll_wait(ep, &e, 1, trial_left(r, ms));
}

/* Reads until nothing is there, as edge-triggered programs should. */
static bool read_dry(struct trial_run *r, struct trial_end *e)
{
	bool eof;
	long n;

	do {
		n = trial_read(r, e, 7, &eof);
	} while (n > 0);
	return n == 0;
}

/* So that the next message is not one of many in a row, which are better merged by TCP. */
static bool answer(struct trial_run *r, struct trial_pair *p)
{
	return trial_give(r, &p->b, 1, TRIAL_ANY) && trial_take(r, &p->a, 1);
}

bool trial_epoll_edge(struct trial_run *r)
{
	struct trial_pair p;
	int ep;

	if (!trial_pair(r, &p) || !watch(r, p.b.fd, EPOLLIN | EPOLLRDHUP | EPOLLET, &ep))
		return false;
	for (int i = 0; i < 4 * ROUNDS; i++) {
		if (!trial_give(r, &p.a, 10, i % 5 < 3 ? TRIAL_REDIRECT : TRIAL_TCP))
			return false;
		while (p.b.got < p.a.sent) {
			if (event(r, ep, TRIAL_WAIT_MS) != 1)
				return trial_fail(r, "message %d woke nobody", i + 1);
			if (!read_dry(r, &p.b))
				return false;
		}
		if (!answer(r, &p))
			return false;
	}
	return true;
}

static bool level_by(struct trial_run *r, struct trial_pair *p, int ep, enum trial_way way)
{
	if (!trial_give(r, &p->a, 6, way) || !trial_take(r, &p->b, 2))
		return false;
	if (event(r, ep, TRIAL_WAIT_MS) != 1)
		return trial_fail(r, "the rest of a message is not reported");
	if (!trial_take(r, &p->b, 4))
		return false;
	return event(r, ep, 0) == 0 || trial_fail(r, "reported, but there is nothing");
}

bool trial_epoll_level(struct trial_run *r)
{
	struct trial_pair p;
	int ep;

	return trial_pair(r, &p) && watch(r, p.b.fd, EPOLLIN, &ep) &&
	       level_by(r, &p, ep, TRIAL_REDIRECT) && level_by(r, &p, ep, TRIAL_TCP) &&
	       level_by(r, &p, ep, TRIAL_REDIRECT);
}

/* Bytes are there, and the last edge is gone: nothing will ever be reported. */
static bool is_stalled(struct trial_run *r, int ep, int fd)
{
	char c;

	return recv(fd, &c, 1, MSG_PEEK) == 1 && event(r, ep, TRIAL_STALL_MS) == 0;
}

/* nginx, tokio and others: what did not fill the buffer was the last there is, wait for the next
 * edge. TCP always gives what it has, so with TCP they are right. */
static bool read_till_short(struct trial_run *r, struct trial_end *e, int ep, uint64_t want)
{
	const long size = 64;
	bool eof;
	long n;

	while (e->got < want) {
		if (event(r, ep, TRIAL_STALL_MS) != 1) {
			if (is_stalled(r, ep, e->fd))
				return trial_fail(r, "a short read, then %llu bytes and no edge",
						  (unsigned long long)(want - e->got));
			if (event(r, ep, TRIAL_WAIT_MS) != 1)
				return trial_fail(r, "%llu bytes did not arrive",
						  (unsigned long long)(want - e->got));
		}
		do {
			n = trial_read(r, e, (size_t)size, &eof);
		} while (n == size);
		if (n < 0)
			return false;
	}
	return true;
}

bool trial_short_read(struct trial_run *r)
{
	struct trial_pair p;
	int ep;

	if (!trial_pair(r, &p) || !watch(r, p.b.fd, EPOLLIN | EPOLLRDHUP | EPOLLET, &ep))
		return false;
	for (int i = 0; i < ROUNDS; i++)
		if (!trial_give(r, &p.a, 10, i % 3 ? TRIAL_ANY : TRIAL_REDIRECT) ||
		    !trial_give(r, &p.a, 10, TRIAL_TCP) || !trial_arrived(r, &p.a, &p.b) ||
		    !trial_steer(r, i % 2 ? TRIAL_TCP : TRIAL_REDIRECT) ||
		    !trial_give(r, &p.a, 10, TRIAL_ANY) ||
		    !read_till_short(r, &p.b, ep, p.a.sent) || !answer(r, &p))
			return false;
	return true;
}

/* --- readers that sleep --- */

struct reader {
	struct trial_end *end;
	int fd;
	size_t n;
	ssize_t got;
	uint8_t buf[64];
	char why[TRIAL_WHY_MAX]; /* "" */
};

static void *wait_for_all(void *arg)
{
	struct reader *me = arg;

	me->got = recv(me->fd, me->buf, me->n, MSG_WAITALL);
	if (me->got < 0)
		snprintf(me->why, sizeof(me->why), "recv(): %s", strerror(errno));
	return NULL;
}

static bool check_all(struct trial_run *r, struct trial_end *e, const struct reader *me)
{
	if (*me->why)
		return trial_fail(r, "%s", me->why);
	if (me->got != (ssize_t)me->n)
		return trial_fail(r, "MSG_WAITALL gave %zd of %zu bytes", me->got, me->n);
	e->got += me->n;
	return trial_right(r, e->got - me->n, me->buf, me->n);
}

/* Waits until the sleeping reader has what was sent so far. */
static void let_it_read(const struct trial_run *r, int fd)
{
	uint64_t end = clock_mono_ns() + (uint64_t)trial_left(r, TRIAL_WAIT_MS) * 1000000;
	int n = 1;

	while (n && clock_mono_ns() < end && ioctl(fd, FIONREAD, &n) == 0)
		sched_yield();
}

/* 10 bytes in two messages: both there, or the second one on its way. */
static bool all_of_two(struct trial_run *r, struct trial_pair *p, enum trial_way second,
		       bool asleep)
{
	struct reader me = {.fd = p->b.fd, .n = 10};
	pthread_t t;
	bool ok;

	ok = trial_give(r, &p->a, 5, TRIAL_REDIRECT);
	if (ok && !asleep)
		ok = trial_give(r, &p->a, 5, second) && trial_arrived(r, &p->a, &p->b);
	if (!ok)
		return false;
	if (pthread_create(&t, NULL, wait_for_all, &me))
		return trial_fail(r, "no thread");
	if (asleep) {
		let_it_read(r, p->b.fd);
		ok = trial_give(r, &p->a, 5, second);
	}
	pthread_join(t, NULL);
	return ok && check_all(r, &p->b, &me);
}

bool trial_wait_all(struct trial_run *r)
{
	struct trial_pair p;

	return trial_pair(r, &p) && trial_block(r, p.b.fd) &&
	       all_of_two(r, &p, TRIAL_REDIRECT, false) && all_of_two(r, &p, TRIAL_TCP, false) &&
	       all_of_two(r, &p, TRIAL_REDIRECT, true) && all_of_two(r, &p, TRIAL_TCP, true);
}

static void *echo(void *arg)
{
	struct reader *me = arg;
	ssize_t n;

	while ((n = recv(me->fd, me->buf, sizeof(me->buf), 0)) > 0)
		if (send(me->fd, me->buf, (size_t)n, MSG_NOSIGNAL) != n)
			break;
	if (n)
		snprintf(me->why, sizeof(me->why), "the sleeper got: %s", strerror(errno));
	return NULL;
}

bool trial_sleeper(struct trial_run *r)
{
	struct trial_pair p;
	struct reader me = {0};
	bool ok = true;
	pthread_t t;

	if (!trial_pair(r, &p) || !trial_block(r, p.b.fd))
		return false;
	me.fd = p.b.fd;
	if (pthread_create(&t, NULL, echo, &me))
		return trial_fail(r, "no thread");
	for (int i = 0; ok && i < 2 * ROUNDS; i++)
		ok = trial_give(r, &p.a, 10, i % 5 < 3 ? TRIAL_REDIRECT : TRIAL_TCP) &&
		     trial_take(r, &p.a, 10);
	shutdown(p.a.fd, ok ? SHUT_WR : SHUT_RDWR);
	pthread_join(t, NULL);
	return ok && (!*me.why || trial_fail(r, "%s", me.why));
}

static void *wait_for_one(void *arg)
{
	struct reader *me = arg;

	me->got = recv(me->fd, me->buf, 1, 0);
	if (me->got < 0)
		snprintf(me->why, sizeof(me->why), "a sleeping recv() says: %s", strerror(errno));
	return NULL;
}

/* While one thread of a program sleeps in recv(), another one has filled the socket's send buffer;
 * the peer makes room, which wakes whoever sleeps on the socket. */
bool trial_woken(struct trial_run *r)
{
	struct reader me = {.n = 1};
	struct trial_pair p;
	bool ok = true;
	pthread_t t;

	if (!trial_pair(r, &p) || !trial_block(r, p.b.fd))
		return false;
	me.fd = p.b.fd;
	if (pthread_create(&t, NULL, wait_for_one, &me))
		return trial_fail(r, "no thread");
	for (int i = 0; ok && i < 4; i++)
		ok = trial_fill(r, &p.b) && trial_take(r, &p.a, (size_t)(p.b.sent - p.a.got));
	ok = ok && trial_give(r, &p.a, 1, TRIAL_ANY);
	if (!ok)
		shutdown(p.b.fd, SHUT_RDWR);
	pthread_join(t, NULL);
	return ok && (!*me.why || trial_fail(r, "%s", me.why)) && check_all(r, &p.b, &me);
}
