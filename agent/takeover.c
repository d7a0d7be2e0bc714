/* SPDX-License-Identifier: Apache-2.0 */
/* See takeover.h. Waits for what it asks: nothing of ours runs yet, and those it asks serve on. */
#include "agent/takeover.h"
#include "agent/ipc.h"
#include "agent/rendezvous.h"
#include "lib/clock.h"
#include "lib/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif
#define LEAST_WAIT_MS  1000 /* for one that others had to be waited for before */
#define LISTENERS_MOST (2 * MESH_MAX_NETNS + 16)

/* --- one worker --------------------------------------------------------------------------------
 */

/* Nothing can be made for it yet: it is to ask again. */
static void put_off(int ipc, const struct ipc_msg *m)
{
	struct ipc_msg answer = {.kind = IPC_SOCKET, .socket = m->socket};

	answer.socket.error = -EAGAIN;
	(void)ipc_send(ipc, &answer, NULL, 0); /* then its own timeout tells it */
}

/* Its next message of that kind. */
static int hear(int ipc, uint32_t kind, struct ipc_msg *m, uint64_t until_ms)
{
	for (;;) {
		uint64_t now_ms = clock_mono_ns() / 1000000;
		struct pollfd p = {.fd = ipc, .events = POLLIN};
		int fds[IPC_MAX_FDS], r;
		size_t n = 0;

		r = poll(&p, 1, now_ms < until_ms ? (int)(until_ms - now_ms) : 0);
		if (r < 0 && errno != EINTR)
			return -errno;
		if (r <= 0 && now_ms >= until_ms)
			return -ETIMEDOUT;
		r = ipc_recv(ipc, m, fds, &n);
		while (r > 0 && n)
			close(fds[--n]);
		if (r < 0)
			return r;
		if (r > 0 && m->kind == kind)
			return 0;
		if (r > 0 && m->kind == IPC_WANT_SOCKET)
			put_off(ipc, m);
	}
}

static int option(int fd, int what, void *value, socklen_t len)
{
	return getsockopt(fd, SOL_SOCKET, what, value, &len) < 0 ? -errno : 0;
}

static int look_at(int fd, struct takeover_listener *l)
{
	int listens = 0, protocol = 0, err;
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);

	err = option(fd, SO_ACCEPTCONN, &listens, sizeof(listens));
	if (!err)
		err = option(fd, SO_PROTOCOL, &protocol, sizeof(protocol));
	if (!err && (!listens || protocol != IPPROTO_TCP))
		err = -EINVAL;
	if (!err)
		err = option(fd, SO_COOKIE, &l->cookie, sizeof(l->cookie));
	if (!err)
		err = option(fd, SO_NETNS_COOKIE, &l->netns, sizeof(l->netns));
	if (!err && getsockname(fd, (struct sockaddr *)&ss, &len) < 0)
		err = -errno;
	return err ? err : addr_from_sockaddr(&ss, &l->at);
}

/* What is no listener must not hold us up: a close() may linger. */
static void throw_away(int fd)
{
	const struct linger off = {0};

	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &off, sizeof(off)); /* it may be anything */
	close(fd);
}

static bool is_known(const struct takeover *t, uint64_t cookie)
{
	for (uint32_t i = 0; i < t->nlisteners; i++)
		if (t->listeners[i].cookie == cookie)
			return true;
	return false;
}

static int keep(struct takeover *t, const struct takeover_listener *l)
{
	if (t->nlisteners >= LISTENERS_MOST)
		return -ENOSPC;
	if (t->nlisteners == t->cap) {
		uint32_t cap = t->cap ? t->cap * 2 : 16;
		void *more = realloc(t->listeners, cap * sizeof(*l));

		if (!more)
			return -ENOMEM;
		t->listeners = more;
		t->cap = cap;
	}
	t->listeners[t->nlisteners++] = *l;
	return 0;
}

/* All workers hold the same sockets: the first one's copy is kept. */
static int take_listener(struct takeover *t, const struct workers_old *o, uint32_t word)
{
	struct takeover_listener l = {.gateway = word & IPC_HOLDS_GATEWAY};
	int err;

	l.fd = rendezvous_take(o->pidfd, (int)(word & ~IPC_HOLDS_GATEWAY));
	if (l.fd < 0)
		return l.fd;
	err = look_at(l.fd, &l);
	if (err) {
		throw_away(l.fd);
		return err;
	}
	if (is_known(t, l.cookie)) {
		close(l.fd);
		return 0;
	}
	err = keep(t, &l);
	if (err)
		close(l.fd);
	return err;
}

static void say_lost(const struct workers_old *o, uint32_t n, int err)
{
	if (n)
		log_error("%u listeners of worker %u (pid %d) cannot be taken over: %s%s", n, o->id,
			  (int)o->pid, strerror(-err),
			  err == -EPERM ? " (is kernel.yama.ptrace_scope 3?)" : "");
}

static int take_listeners(struct takeover *t, const struct workers_old *o, uint32_t total,
			  uint64_t until_ms)
{
	uint32_t lost = 0;
	struct ipc_msg m;
	int err = 0, why = 0;

	for (uint32_t from = 0; !err && from < total && from < LISTENERS_MOST; from += m.holds.n) {
		m = (struct ipc_msg){.kind = IPC_TELL};
		m.holds.from = from;
		err = ipc_send(o->ipc, &m, NULL, 0);
		if (!err)
			err = hear(o->ipc, IPC_HOLDS, &m, until_ms);
		if (!err && (!m.holds.n || m.holds.n > IPC_HOLDS_MAX))
			break;
		for (uint32_t i = 0; !err && i < m.holds.n; i++) {
			int r = take_listener(t, o, m.holds.fd[i]);

			lost += r != 0;
			why = r ? r : why;
		}
	}
	say_lost(o, lost, why);
	return err;
}

/* What it has in its ring is worth having, and nothing else depends on it. */
static int take_ring(const struct workers_old *o, int fd)
{
	int copy = rendezvous_take(o->pidfd, fd);

	if (copy >= 0 && fcntl(copy, F_GET_SEALS) >= 0)
		return copy;
	if (copy >= 0)
		throw_away(copy);
	return -1;
}

/* --- all of them -------------------------------------------------------------------------------
 */

static int pid_of(int ipc, pid_t *pid)
{
	struct ucred who;
	int err = option(ipc, SO_PEERCRED, &who, sizeof(who));

	*pid = who.pid;
	return err;
}

static int greet(struct takeover *t, struct workers_old *o, uint64_t until_ms)
{
	struct ipc_msg m;
	int err = hear(o->ipc, IPC_HELLO, &m, until_ms);

	if (!err)
		err = pid_of(o->ipc, &o->pid);
	if (err)
		return err;
	o->id = m.hello.worker;
	o->stranger = m.hello.version != IPC_VERSION;
	o->listeners = m.hello.draining ? 0 : m.hello.listeners;
	o->maps = o->stranger ? 0 : m.hello.maps;
	if (!o->stranger && m.hello.ring_size == RING_DATA + RING_SIZE)
		o->ring_fd = take_ring(o, m.hello.ring_fd);
	return take_listeners(t, o, m.hello.listeners, until_ms);
}

/* One that hangs, or says what makes no sense, cannot be told to drain either. */
static void end(const struct workers_old *o, int err)
{
	log_error("a worker of before (%s) cannot be taken over: %s: it is killed", o->name,
		  strerror(-err));
	syscall(SYS_pidfd_send_signal, o->pidfd, SIGKILL, NULL, 0);
}

static void dial(struct takeover *t, int dir, const char *name)
{
	struct workers_old *o = &t->old[t->nold];

	*o = (struct workers_old){.ring_fd = -1};
	memcpy(o->name, name, strnlen(name, sizeof(o->name) - 1));
	o->ipc = rendezvous_dial(dir, name, &o->pidfd);
	if (o->ipc >= 0)
		t->nold++;
	else if (o->ipc == -ECONNREFUSED)
		rendezvous_remove(dir, name);
	else
		log_error("cannot call on a worker of before (%s): %s", name, strerror(-o->ipc));
}

static int dial_all(struct takeover *t, int dir)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (!d) {
		int err = -errno;

		if (fd >= 0)
			close(fd);
		return err;
	}
	while ((e = readdir(d)) && t->nold < WORKERS_MAX)
		if (e->d_name[0] != '.' && strlen(e->d_name) < RENDEZVOUS_NAME_MAX)
			dial(t, dir, e->d_name);
	closedir(d);
	return 0;
}

int takeover_find(struct takeover *t, int rendezvous, int wait_ms)
{
	uint64_t until_ms = clock_mono_ns() / 1000000 + (uint64_t)wait_ms;
	int r = dial_all(t, rendezvous), err;
	uint32_t met = 0;

	for (uint32_t i = 0; i < t->nold; i++) {
		struct workers_old *o = &t->old[i];
		uint64_t least_ms = clock_mono_ns() / 1000000 + LEAST_WAIT_MS;

		/* who has waited for one that hangs has had its word for long */
		err = greet(t, o, until_ms > least_ms ? until_ms : least_ms);
		if (!err) {
			t->old[met++] = *o;
			continue;
		}
		if (err != -EPIPE) /* it has just ended by itself */
			end(o, err);
		rendezvous_remove(rendezvous, o->name);
		workers_old_close(o);
	}
	t->nold = met;
	return r;
}

static bool is_there(const struct takeover_listener *l, bool gateway, uint64_t netns, uint16_t port)
{
	return l->fd >= 0 && l->gateway == gateway && (!netns || l->netns == netns) &&
	       l->at.port == port;
}

static int give(struct takeover_listener *l)
{
	int fd = l->fd;

	l->fd = -1;
	return fd;
}

int takeover_listener(struct takeover *t, bool gateway, uint64_t netns, const struct addr *at)
{
	for (uint32_t i = 0; i < t->nlisteners; i++)
		if (is_there(&t->listeners[i], gateway, netns, at->port) &&
		    !memcmp(t->listeners[i].at.ip, at->ip, sizeof(at->ip)))
			return give(&t->listeners[i]);
	return -1;
}

/* [::] hears both families. */
static bool covers(const struct addr *by, const struct addr *at)
{
	return addr_is_any(by->ip) && (!addr_is_v4(by->ip) || addr_is_v4(at->ip));
}

int takeover_covered(struct takeover *t, uint64_t netns, const struct addr *by)
{
	for (uint32_t i = 0; i < t->nlisteners; i++)
		if (is_there(&t->listeners[i], true, netns, by->port) &&
		    covers(by, &t->listeners[i].at))
			return give(&t->listeners[i]);
	return -1;
}

uint32_t takeover_share(struct takeover *t, uint64_t netns, uint16_t port, bool on)
{
	uint32_t n = 0;
	int value = on;

	for (uint32_t i = 0; i < t->nlisteners; i++)
		if (is_there(&t->listeners[i], true, netns, port) &&
		    !setsockopt(t->listeners[i].fd, SOL_SOCKET, SO_REUSEPORT, &value,
				sizeof(value)))
			n++;
	return n;
}

const struct takeover_listener *takeover_gateway(const struct takeover *t, uint64_t netns,
						 uint32_t i)
{
	for (uint32_t j = 0; j < t->nlisteners; j++) {
		const struct takeover_listener *l = &t->listeners[j];

		if (l->fd >= 0 && l->gateway && l->netns == netns && !i--)
			return l;
	}
	return NULL;
}

void takeover_forget_gateways(struct takeover *t)
{
	for (uint32_t i = 0; i < t->nlisteners; i++)
		if (t->listeners[i].fd >= 0 && t->listeners[i].gateway)
			close(give(&t->listeners[i]));
}

void takeover_forget(struct takeover *t)
{
	for (uint32_t i = 0; i < t->nlisteners; i++)
		if (t->listeners[i].fd >= 0)
			close(t->listeners[i].fd);
	free(t->listeners);
	t->listeners = NULL;
	t->nlisteners = t->cap = 0;
}

void takeover_done(struct takeover *t)
{
	for (uint32_t i = 0; i < t->nold; i++)
		workers_old_close(&t->old[i]);
	takeover_forget(t);
	*t = (struct takeover){0};
}
