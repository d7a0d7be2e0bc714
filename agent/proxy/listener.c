/* SPDX-License-Identifier: Apache-2.0 */
/* See listener.h. */
#include "agent/proxy/listener.h"
#include "agent/ipc.h"
#include "agent/proxy/downstream.h"
#include "agent/proxy/upstream.h"
#include "lib/addr.h"
#include "lib/log.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ACCEPT_ROUND 8 /* accepted at once, so that other workers get their share */
#define RESUME_MS    50
#define WARN_NS	     60000000000ULL /* of strangers: at most one line a minute and listener */

struct listener {
	struct watch watch;
	struct proxy *proxy;
	struct listener *next;
	int fd;
	uint32_t id, role;
	uint64_t netns;
	uint64_t strangers, warned_ns;
};

static void on_connection(struct watch *w, uint32_t events);

static int watch_listener(struct listener *l)
{
	return loop_add(&l->proxy->loop, &l->watch, l->fd, EPOLLIN | EPOLLEXCLUSIVE, on_connection);
}

static void resume(struct timer *t)
{
	struct proxy *p = (struct proxy *)((char *)t - offsetof(struct proxy, resume));

	if (p->nclients >= p->max_clients) {
		timer_arm(&p->loop, t, RESUME_MS, resume);
		return;
	}
	p->paused = false;
	for (struct listener *l = p->listeners; l; l = l->next) {
		int r = watch_listener(l);

		if (r)
			log_error("cannot watch a listener: %s", strerror(-r));
	}
}

/* At the limit of clients or descriptors: the others queue in the kernel. */
static void pause_all(struct proxy *p, const char *why)
{
	if (p->paused)
		return;
	log_warn("no more connections are accepted for now: %s (%u open)", why, p->nclients);
	p->paused = true;
	for (struct listener *l = p->listeners; l; l = l->next)
		loop_del(&p->loop, &l->watch);
	timer_arm(&p->loop, &p->resume, RESUME_MS, resume);
}

void listener_wait(struct proxy *p, uint32_t ms)
{
	for (struct listener *l = p->listeners; l; l = l->next)
		loop_del(&p->loop, &l->watch);
	p->paused = true;
	timer_arm(&p->loop, &p->resume, ms, resume);
}

void listener_resume(struct proxy *p)
{
	if (p->paused && p->nclients + ACCEPT_ROUND < p->max_clients)
		timer_arm(&p->loop, &p->resume, 0, resume);
}

/* Whoever has no note was not captured: somebody in that namespace who connected to the port by
 * himself, or whose note the kernel lost, or who reset the connection before it was accepted (the
 * note is gone then). Where it was meant to go is not known, and what the gateway may reach is not
 * for everybody. */
static void refuse_stranger(struct listener *l, int fd)
{
	const struct linger now = {.l_onoff = 1};
	uint64_t now_ns = l->proxy->loop.now_ns;

	/* fails only on a socket that is reset already */
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(fd);
	l->strangers++;
	if (l->warned_ns && now_ns - l->warned_ns < WARN_NS)
		return;
	l->warned_ns = now_ns;
	log_warn("connections that were not captured are reset: %llu so far in network namespace "
		 "%llu",
		 (unsigned long long)l->strangers, (unsigned long long)l->netns);
}

/* What the kernel noted when the caller connected says what a captured connection is for. */
static void accepted(struct listener *l, int fd, const struct addr *peer)
{
	struct mesh_origdst_key key = {.netns = l->netns, .port = htons(peer->port)};
	struct mesh_origdst meant;

	if (l->role == IPC_GATEWAY) {
		downstream_new(l->proxy, fd, peer->ip, NULL);
		return;
	}
	memcpy(key.ip, peer->ip, sizeof(key.ip));
	if (shared_origdst(&l->proxy->shared, &key, &meant))
		refuse_stranger(l, fd);
	else
		downstream_new(l->proxy, fd, peer->ip, &meant);
}

/* 1: accepted one; 0: there is none, or no room for one. */
static int accept_one(struct listener *l)
{
	struct proxy *p = l->proxy;
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	struct addr peer;
	int fd;

	if (p->nclients >= p->max_clients && !downstream_make_room(p)) {
		pause_all(p, "limit of clients reached");
		return 0;
	}
	fd = accept4(l->fd, (struct sockaddr *)&ss, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0 && errno == EMFILE && upconn_make_room(p))
		fd = accept4(l->fd, (struct sockaddr *)&ss, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0) {
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
			pause_all(p, strerror(errno));
		return 0;
	}
	if (addr_from_sockaddr(&ss, &peer))
		close(fd);
	else
		accepted(l, fd, &peer);
	return 1;
}

/* A new connection may make us read messages, and they may take the listener away. */
static void accept_some(struct listener *l, uint32_t max)
{
	struct proxy *p = l->proxy;

	p->accepting = l;
	while (max-- && p->accepting == l && accept_one(l))
		;
}

static void on_connection(struct watch *w, uint32_t events)
{
	accept_some((struct listener *)w, ACCEPT_ROUND);
}

int listener_add(struct proxy *p, int fd, uint32_t id, uint32_t role, uint64_t netns)
{
	struct listener *l = calloc(1, sizeof(*l));
	const int one = 1;
	int r = -ENOMEM;

	if (!l)
		goto fail;
	*l = (struct listener){
		.watch.fd = -1, .proxy = p, .fd = fd, .id = id, .role = role, .netns = netns};
	/* what is accepted inherits both */
	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one)) < 0) {
		r = -errno;
		goto fail;
	}
	r = p->paused ? 0 : watch_listener(l);
	if (r)
		goto fail;
	l->next = p->listeners;
	p->listeners = l;
	return 0;
fail:
	free(l);
	close(fd);
	return r;
}

static void remove_at(struct proxy *p, struct listener **at)
{
	struct listener *l = *at;

	*at = l->next;
	if (p->accepting == l)
		p->accepting = NULL;
	loop_del(&p->loop, &l->watch);
	close(l->fd);
	free(l);
}

void listener_remove(struct proxy *p, uint32_t id)
{
	for (struct listener **at = &p->listeners; *at;) {
		if ((*at)->id == id)
			remove_at(p, at);
		else
			at = &(*at)->next;
	}
}

void listener_look(struct proxy *p)
{
	struct listener *l = p->paused ? NULL : p->listeners, *next;

	for (; l; l = next) {
		next = l->next;
		accept_some(l, ACCEPT_ROUND);
		if (p->accepting != l) /* others may have gone with it */
			return;
	}
}

uint32_t listener_list(const struct proxy *p, uint32_t from, uint32_t *fds, uint32_t max)
{
	uint32_t n = 0;

	for (const struct listener *l = p->listeners; l && n < max; l = l->next)
		if (from)
			from--;
		else
			fds[n++] =
				(uint32_t)l->fd | (l->role == IPC_GATEWAY ? IPC_HOLDS_GATEWAY : 0);
	return n;
}

void listener_drain(struct proxy *p)
{
	while (p->listeners) {
		struct listener *l = p->listeners;
		uint32_t id = l->id;

		/* first: where others accept too, a connection wakes one of us, and whom it woke
		 * has to come for it */
		loop_del(&p->loop, &l->watch);
		accept_some(l, UINT32_MAX);
		listener_remove(p, id);
	}
}
