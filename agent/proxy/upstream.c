/* SPDX-License-Identifier: Apache-2.0 */
/* See upstream.h. */
#include "agent/proxy/upstream.h"
#include "agent/proxy/bulkhead.h"
#include "agent/proxy/proxy.h"
#include "agent/proxy/queue.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SWEEP_MS      500
#define LOOK_AGAIN_MS 5
#define SEEN_NS	      2000000ULL
#define EARLY_USES    16
#define ASKED_MAX     128 /* sockets at once: what the queue to the supervisor holds safely */

static uint64_t now_ms(const struct proxy *p)
{
	return p->loop.now_ns / 1000000;
}

static void unpool(struct upconn *u)
{
	struct proxy *p = u->conn.proxy;

	p->nidle[u->local][u->endpoint]--;
	p->nidle_of[u->service]--;
	*u->prev = u->next;
	if (u->next)
		u->next->prev = u->prev;
	*u->older = u->younger;
	if (u->younger)
		u->younger->older = u->older;
	else
		p->idle_newest = u->older;
	u->prev = NULL;
	u->older = NULL;
}

static void unlist_awaiting(struct upconn *u)
{
	*u->prev = u->next;
	if (u->next)
		u->next->prev = u->prev;
	u->prev = NULL;
	u->wanted = 0;
	u->conn.proxy->nawaiting--;
}

/* A program that writes its head and its body one after the other, with Nagle's algorithm on (RFC
 * 896), has the second held back until the first is acknowledged, which the kernel puts off for 40
 * ms on a connection that was idle; on a new one, as who calls without us has it, it does not. */
void upconn_acknowledge(struct upconn *u)
{
	const int one = 1;

	/* else it is as slow as it would be */
	(void)setsockopt(u->conn.watch.fd, IPPROTO_TCP, TCP_QUICKACK, &one, sizeof(one));
}

void upconn_close(struct upconn *u, bool rst)
{
	struct proxy *p = u->conn.proxy;

	if (u->older)
		unpool(u);
	else if (u->wanted)
		unlist_awaiting(u);
	timer_cancel(&p->loop, &u->again);
	conn_close(&u->conn, rst);
	bulkhead_disconnected(p, u->service);
	queue_wake(p, u->service);
	slab_put(&p->upconns, u);
}

static void upconn_event(struct watch *w, uint32_t events)
{
	struct upconn *u = (struct upconn *)w;

	conn_note(&u->conn, events);
	if (u->user)
		u->user->run(u);
	else if (events & ~(uint32_t)EPOLLOUT) /* idle: it closed, or speaks without being asked */
		upconn_close(u, false);
}

static int set_up(int fd)
{
	const int one = 1;

	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one)) < 0)
		return -errno;
	return 0;
}

static bool is_v4(const struct upconn *u)
{
	return IN6_IS_ADDR_V4MAPPED((const struct in6_addr *)(const void *)u->ip);
}

/* Takes fd over. 0 or -errno. */
static int start_connect(struct upconn *u, int fd)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = u->port};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = u->port};
	int r = set_up(fd);

	memcpy(&v4.sin_addr, u->ip + 12, 4);
	memcpy(&v6.sin6_addr, u->ip, 16);
	if (!r && (is_v4(u) ? connect(fd, (struct sockaddr *)&v4, sizeof(v4))
			    : connect(fd, (struct sockaddr *)&v6, sizeof(v6))) < 0)
		r = errno == EINPROGRESS ? 0 : -errno;
	if (r) {
		close(fd);
		return r;
	}
	u->begun_ns = u->conn.proxy->loop.now_ns;
	r = conn_open(&u->conn, fd, upconn_event);
	/* on the same host the handshake is over already: the first send succeeds without waiting
	 */
	u->conn.readable = false;
	return r;
}

bool upconn_make_room(struct proxy *p)
{
	if (!p->idle_oldest)
		return false;
	upconn_close(p->idle_oldest, false);
	return true;
}

static int own_socket(struct upconn *u)
{
	const int family = is_v4(u) ? AF_INET : AF_INET6,
		  type = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
	int fd = socket(family, type, 0);

	if (fd < 0 && errno == EMFILE && upconn_make_room(u->conn.proxy))
		fd = socket(family, type, 0);
	return fd < 0 ? -errno : start_connect(u, fd);
}

/* A loopback address of another namespace can only be reached by a socket that was made there. */
static bool elsewhere(const struct proxy *p, const struct mesh_endpoint *ep)
{
	return ep->flags & MESH_EP_LOOPBACK && ep->netns && ep->netns != p->netns;
}

static int ask_for_socket(struct upconn *u)
{
	struct proxy *p = u->conn.proxy;
	int r;

	if (p->nawaiting >= ASKED_MAX)
		return -EAGAIN;
	r = proxy_want_socket(p, p->wanted + 1, u->netns, is_v4(u) ? AF_INET : AF_INET6);
	if (r)
		return r;
	u->wanted = ++p->wanted;
	u->next = p->awaiting;
	u->prev = &p->awaiting;
	if (u->next)
		u->next->prev = &u->next;
	p->awaiting = u;
	p->nawaiting++;
	return 0;
}

static void look_again(struct timer *t);

static void no_socket(struct upconn *u, int error)
{
	switch (error) {
	case EAGAIN:
	case EMFILE:
	case ENFILE:
	case ENOBUFS:
	case ENOMEM:
		timer_arm(&u->conn.proxy->loop, &u->again, LOOK_AGAIN_MS, look_again);
		break;
	default:
		u->conn.error = error;
	}
}

static void seek_socket(struct upconn *u)
{
	int r = u->netns ? ask_for_socket(u) : own_socket(u);

	if (r)
		no_socket(u, -r);
}

static void look_again(struct timer *t)
{
	struct upconn *u = (struct upconn *)((char *)t - offsetof(struct upconn, again));

	seek_socket(u);
	if (u->conn.error)
		u->user->later(u);
}

void upconn_socket(struct proxy *p, uint64_t wanted, int fd)
{
	struct upconn *u;
	int r;

	for (u = p->awaiting; u && u->wanted != wanted; u = u->next)
		;
	if (!u) { /* nobody waits any longer */
		if (fd >= 0)
			close(fd);
		return;
	}
	unlist_awaiting(u);
	u->conn.handed = true;
	r = fd < 0 ? fd : start_connect(u, fd);
	if (r)
		no_socket(u, -r);
	u->user->later(u); /* not now: an exchange may be under way, see proxy_catch_up */
}

void upconn_unanswered(struct proxy *p)
{
	while (p->awaiting)
		upconn_socket(p, p->awaiting->wanted, -EAGAIN);
}

bool upconn_tried(const struct upconn *u)
{
	/* EADDRNOTAVAIL is not waited for: other endpoints have ports of their own */
	return u->conn.error ? u->conn.error != EADDRNOTAVAIL : u->conn.watch.fd >= 0;
}

static bool is_local(const struct mesh_endpoint *ep)
{
	return ep->flags & MESH_EP_LOOPBACK;
}

static struct upconn *from_pool(struct proxy *p, uint32_t index, uint32_t gen, bool local)
{
	struct upconn *u, *next;

	for (u = p->idle_by_endpoint[local][index]; u; u = next) {
		next = u->next;
		if (u->gen == gen && u->idle_until_ms > now_ms(p)) {
			unpool(u);
			return u;
		}
		upconn_close(u, false);
	}
	return NULL;
}

static struct upconn *connect_new(struct proxy *p, uint32_t index, const struct mesh_endpoint *ep)
{
	struct upconn *u = slab_get(&p->upconns);

	if (!u)
		return NULL;
	memset(u, 0, sizeof(*u));
	conn_init(&u->conn, p);
	u->endpoint = index;
	u->gen = ep->gen;
	u->service = ep->service;
	u->local = is_local(ep);
	u->port = ep->port;
	memcpy(u->ip, ep->ip, sizeof(u->ip));
	memcpy(u->id, ep->id, sizeof(u->id));
	u->id[sizeof(u->id) - 1] = '\0';
	u->netns = elsewhere(p, ep) ? ep->netns : 0;
	bulkhead_connected(p, u->service);
	seek_socket(u);
	return u;
}

static bool may_be_pooled(const struct mesh_endpoint *ep)
{
	return !(ep->flags & MESH_EP_UNHEALTHY);
}

bool upconn_is_idle(const struct proxy *p, uint32_t index, const struct mesh_endpoint *ep)
{
	return may_be_pooled(ep) && p->nidle[is_local(ep)][index];
}

static struct upconn *oldest_of(const struct proxy *p, uint32_t service)
{
	struct upconn *u = p->nidle_of[service] ? p->idle_oldest : NULL;

	while (u && u->service != service)
		u = u->younger;
	return u;
}

bool upconn_spare(struct proxy *p, uint32_t service)
{
	struct upconn *u = oldest_of(p, service);

	if (!u)
		return false;
	upconn_close(u, false);
	return true;
}

struct upconn *upconn_get(struct proxy *p, uint32_t index, const struct mesh_endpoint *ep,
			  bool fresh, const struct upconn_user *user, void *of)
{
	bool pooled = !fresh && may_be_pooled(ep);
	struct upconn *u = pooled ? from_pool(p, index, ep->gen, is_local(ep)) : NULL;

	if (!u)
		u = connect_new(p, index, ep);
	if (u) {
		u->user = user;
		u->of = of;
	}
	return u;
}

static void give_up(struct upconn *u)
{
	struct proxy *p = u->conn.proxy;

	p->gives_up = true;
	upconn_close(u, false);
	p->gives_up = false;
}

static void look_at_idle(struct timer *t);

static void look_later(struct proxy *p)
{
	if (!p->idle_look.prev)
		timer_arm(&p->loop, &p->idle_look, QUEUE_LOOK_MS, look_at_idle);
}

/* Other workers may bring a service to its limit at any time: that it is near is reason enough to
 * look. What gets there from far is noticed by the sweep. */
void upconn_look(struct proxy *p)
{
	bool near = false;

	for (uint32_t i = 0; p->workers > 1 && i < MESH_MAX_SERVICES; i++) {
		if (!p->nidle_of[i] || !bulkhead_is_near(p, i))
			continue;
		while (p->nidle_of[i] && queue_gives_up(p, i))
			give_up(oldest_of(p, i));
		near |= p->nidle_of[i];
	}
	if (near)
		look_later(p);
}

static void look_at_idle(struct timer *t)
{
	upconn_look((struct proxy *)((char *)t - offsetof(struct proxy, idle_look)));
}

/* Connections may skip TCP only when both ends are known, and an endpoint gets known by what its
 * first connection is seen to be (mesh/splice.h). Those that are as old as that stay with TCP for
 * ever: they are not kept for ever. */
static bool is_early(struct proxy *p, const struct upconn *u)
{
	uint64_t since = __atomic_load_n(&p->shared.ctl->splice_ns, __ATOMIC_RELAXED);
	uint64_t *seen_ns = &p->seen[u->endpoint].ns;
	uint32_t *gen = &p->seen[u->endpoint].gen;

	if (!since)
		return false;
	if (u->begun_ns >= since && (*gen != u->gen || *seen_ns < since)) {
		*gen = u->gen;
		*seen_ns = p->loop.now_ns;
	}
	return u->used >= EARLY_USES && (u->begun_ns < since || u->begun_ns < *seen_ns + SEEN_NS);
}

void upconn_put(struct upconn *u, uint32_t max_idle_ms)
{
	struct proxy *p = u->conn.proxy;
	struct upconn **head = &p->idle_by_endpoint[u->local][u->endpoint];

	if (p->nidle[u->local][u->endpoint] >= UPCONN_IDLE_PER_ENDPOINT || p->draining ||
	    u->conn.error || u->conn.hung || conn_unread(&u->conn) || is_early(p, u)) {
		upconn_close(u, false);
		return;
	}
	if (queue_gives_up(p, u->service)) {
		give_up(u);
		return;
	}
	u->user = NULL;
	u->used++;
	p->nidle[u->local][u->endpoint]++;
	p->nidle_of[u->service]++;
	u->idle_until_ms = now_ms(p) + max_idle_ms;
	u->next = *head;
	u->prev = head;
	if (u->next)
		u->next->prev = &u->next;
	*head = u;
	u->younger = NULL;
	u->older = p->idle_newest;
	*p->idle_newest = u;
	p->idle_newest = &u->younger;
	if (p->workers > 1 && bulkhead_is_near(p, u->service))
		look_later(p);
	queue_wake(p, u->service);
}

/* Its endpoint is gone, or not well: whoever is behind the connection would keep the next request
 * waiting. */
static bool is_stale(const struct proxy *p, const struct upconn *u)
{
	const struct mesh_endpoint *e = &p->shared.endpoints[u->endpoint];
	uint16_t flags = __atomic_load_n(&e->flags, __ATOMIC_RELAXED);

	return __atomic_load_n(&e->gen, __ATOMIC_RELAXED) != u->gen || !(flags & MESH_EP_USED) ||
	       flags & MESH_EP_UNHEALTHY;
}

static void sweep(struct timer *t)
{
	struct proxy *p = (struct proxy *)((char *)t - offsetof(struct proxy, sweep));
	struct upconn *u = p->idle_oldest, *next;

	for (; u; u = next) {
		next = u->younger;
		if (u->idle_until_ms <= now_ms(p) || is_stale(p, u))
			upconn_close(u, false);
	}
	upconn_look(p);
	timer_arm(&p->loop, t, SWEEP_MS, sweep);
}

void upconn_start_sweep(struct proxy *p)
{
	p->idle_oldest = NULL;
	p->idle_newest = &p->idle_oldest;
	timer_arm(&p->loop, &p->sweep, SWEEP_MS, sweep);
}
