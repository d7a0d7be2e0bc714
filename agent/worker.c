/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worker process: takes what the supervisor hands it, gives up everything else, runs the
 * proxy's loop. See ipc.h for the order of messages and sandbox.h for what is given up. Must not
 * touch a byte of a stranger before sandbox_filter().
 */
#include "agent/worker.h"
#include "agent/ipc.h"
#include "agent/proxy/downstream.h"
#include "agent/proxy/listener.h"
#include "agent/proxy/proxy.h"
#include "agent/proxy/upstream.h"
#include "agent/sandbox.h"
#include "agent/worker_impl.h"
#include "lib/clock.h"
#include "lib/log.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define CLIENTS_LEAST 64 /* however many listeners there are */
#define DRAIN_LOOK_MS 50
/* Whoever passed the hook before it was told to stop is in a listener's queue by then. */
#define DRAIN_ACCEPT_MS 100
/* What is idle for so long is closed when the mesh ends, and at the very end when others take over:
 * nobody waits for that. */
#define DRAIN_QUIET_MS 1000
#define DRAIN_LAST_MS  1000

#define BEAT_LEAST_NS  10000000ULL /* a busy loop turns more often than anybody needs to know */

static struct worker *worker_of(struct proxy *p)
{
	return (struct worker *)((char *)p - offsetof(struct worker, proxy));
}

int worker_send(struct proxy *p, const struct ipc_msg *m)
{
	return p->ipc_fd < 0 ? -EPIPE : ipc_send(p->ipc_fd, m, NULL, 0);
}

int proxy_want_socket(struct proxy *p, uint64_t request, uint64_t netns, uint32_t family)
{
	struct ipc_msg m = {.kind = IPC_WANT_SOCKET};
	int r;

	m.socket.request = request;
	m.socket.netns = netns;
	m.socket.family = family;
	r = worker_send(p, &m);
	return r == -EPIPE && alone_hopes(worker_of(p)) ? -EAGAIN : r;
}

/* --- messages ------------------------------------------------------------------------------------
 */

static void on_snapshot(struct proxy *p, const struct ipc_msg *m, int fd)
{
	struct ipc_msg used = {.kind = IPC_SNAPSHOT_USED};
	const struct snapshot *old = p->snapshot;
	size_t size = m->snapshot.size;
	void *block;

	block = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	if (block == MAP_FAILED || snapshot_check(block, size)) {
		log_error(
			"configuration snapshot %llu cannot be used; the one before stays in force",
			(unsigned long long)m->snapshot.generation);
		if (block != MAP_FAILED)
			munmap(block, size);
		return;
	}
	p->snapshot = block;
	if (old) /* nobody keeps a pointer into it beyond one event */
		munmap((void *)old, old->size);
	upconn_look(p);
	used.snapshot.generation = m->snapshot.generation;
	if (worker_send(p, &used))
		log_warn("the supervisor does not take messages");
}

/* --- beats: the hook sends connections to workers that come round, see abi.h --- */

/* Once for each time that much waits; when that cannot be said, after the next round. */
static void call_reader(struct worker *w)
{
	const struct ipc_msg m = {.kind = IPC_RECORDS};

	if (ring_used(w->proxy.ring) < RING_CALL)
		w->called = false;
	else if (!w->called)
		w->called = !worker_send(&w->proxy, &m);
}

/* What the kernel has cleared, since this process is about to end, stays clear: it is written only
 * where nobody else has written since the last time. */
static void beat(struct loop *l)
{
	struct worker *w = (struct worker *)((char *)l - offsetof(struct worker, proxy.loop));
	struct proxy *p = &w->proxy;
	__u64 last = w->beat_ns;

	if (l->now_ns - w->beat_ns >= BEAT_LEAST_NS && l->now_ns >= w->begin_ns && w->nlisteners &&
	    !p->draining &&
	    __atomic_compare_exchange_n(&p->shared.beats->worker[p->id], &last, l->now_ns, false,
					__ATOMIC_RELAXED, __ATOMIC_RELAXED))
		w->beat_ns = l->now_ns;
	call_reader(w);
	w->after(l);
}

static void keep_turning(struct timer *t)
{
	struct worker *w = (struct worker *)((char *)t - offsetof(struct worker, beat));

	if (w->proxy.ipc_fd < 0)
		listener_look(&w->proxy);
	timer_arm(&w->proxy.loop, t, MESH_BEAT_MS - LOOP_TICK_MS, keep_turning);
}

static void start_beating(struct worker *w)
{
	w->after = w->proxy.loop.after;
	w->proxy.loop.after = beat;
	keep_turning(&w->beat);
}

static void look_drained(struct timer *t)
{
	struct worker *w = (struct worker *)((char *)t - offsetof(struct worker, drain));
	struct proxy *p = &w->proxy;
	uint64_t now_ms = p->loop.now_ns / 1000000;

	listener_drain(p);
	w->nlisteners = 0;
	if (!p->nclients || now_ms >= w->drain_until_ms)
		p->loop.stop = true;
	if (now_ms + DRAIN_LAST_MS >= w->drain_until_ms)
		p->quiet_ms = 0;
	downstream_drain(p);
	timer_arm(&p->loop, t, DRAIN_LOOK_MS, look_drained);
}

void worker_drain(struct worker *w, uint32_t millis, bool patient, bool others)
{
	struct proxy *p = &w->proxy;

	p->draining = true;
	__atomic_store_n(&p->shared.beats->worker[p->id], 0, __ATOMIC_RELAXED);
	p->quiet_ms = patient ? millis : DRAIN_QUIET_MS;
	w->drain_until_ms = p->loop.now_ns / 1000000 + millis;
	timer_arm(&p->loop, &w->drain, others ? 0 : DRAIN_ACCEPT_MS, look_drained);
}

/* A listener takes a descriptor away that a client, or the connection for it, could have. */
static void count_listener(struct worker *w, bool more)
{
	uint32_t least = w->most_clients < CLIENTS_LEAST ? w->most_clients : CLIENTS_LEAST, half;

	if (!more && !w->nlisteners)
		return;
	w->nlisteners += more ? 1 : -1u;
	half = (w->nlisteners + 1) / 2;
	w->proxy.max_clients = half < w->most_clients - least ? w->most_clients - half : least;
}

static void on_listener(struct proxy *p, const struct ipc_msg *m, int fd)
{
	struct worker *w = worker_of(p);
	int r;

	if (m->listener.after_ms) {
		w->begin_ns = p->loop.now_ns + m->listener.after_ms * 1000000ULL;
		listener_wait(p, m->listener.after_ms);
	}
	r = listener_add(p, fd, m->listener.id, m->listener.role, m->listener.netns);

	if (r)
		log_error("cannot use a listener: %s", strerror(-r));
	else
		count_listener(w, true);
}

/* The answer may be dropped where the supervisor has not heard yet what was said before. */
static void answer_ping(struct proxy *p, const struct ipc_msg *m)
{
	int r = worker_send(p, m);

	if (r && r != -EAGAIN && r != -EPIPE)
		log_warn("the supervisor does not take messages");
}

static void on_message(struct proxy *p, const struct ipc_msg *m, int *fds, size_t nfds)
{
	alone_no_more(worker_of(p), m->kind);
	if (m->kind == IPC_LISTENER && nfds == 1) {
		on_listener(p, m, fds[0]);
	} else if (m->kind == IPC_LISTENER_GONE && !nfds) {
		listener_remove(p, m->listener.id);
		count_listener(worker_of(p), false);
	} else if (m->kind == IPC_SNAPSHOT && nfds == 1) {
		on_snapshot(p, m, fds[0]);
	} else if (m->kind == IPC_SOCKET && nfds <= 1) {
		upconn_socket(p, m->socket.request,
			      nfds		? fds[0]
			      : m->socket.error ? m->socket.error
						: -EPROTO);
	} else if (m->kind == IPC_DRAIN && !nfds) {
		worker_drain(worker_of(p), m->drain.millis, m->drain.others, m->drain.others);
	} else if (m->kind == IPC_HOLD_ON && !nfds) {
		alone_hold_on(worker_of(p), m->hold_on.grace_ms, m->hold_on.drain_ms);
	} else if (m->kind == IPC_TELL && !nfds) {
		alone_tell(worker_of(p), m->holds.from);
	} else if (m->kind == IPC_PING && !nfds) {
		answer_ping(p, m);
	} else {
		log_error("message of kind %u from the supervisor makes no sense", m->kind);
		while (nfds)
			close(fds[--nfds]);
	}
}

static int spare_descriptor(struct proxy *p)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 && errno == EMFILE && upconn_make_room(p))
		fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	return fd;
}

/* A message whose descriptor finds no room is lost, and connections use all the room there is. */
static int receive(struct worker *w, struct ipc_msg *m, int *fds, size_t *nfds)
{
	int r;

	if (w->spare >= 0)
		close(w->spare);
	r = ipc_recv(w->proxy.ipc_fd, m, fds, nfds);
	w->spare = spare_descriptor(&w->proxy);
	return r;
}

void proxy_catch_up(struct proxy *p)
{
	struct worker *w = worker_of(p);
	int fds[IPC_MAX_FDS], r = 0;
	struct ipc_msg m;
	size_t nfds;

	while (p->ipc_fd >= 0 && (r = receive(w, &m, fds, &nfds)) > 0)
		on_message(p, &m, fds, nfds);
	if (r == -EPIPE) {
		alone_serve(w);
	} else if (r < 0) {
		/* one that missed a message is replaced by one that is told everything */
		w->error = r;
		p->loop.stop = true;
	}
}

void worker_on_ipc(struct watch *w, uint32_t events)
{
	proxy_catch_up(&((struct worker *)((char *)w - offsetof(struct worker, ipc)))->proxy);
}

/* --- beginning -----------------------------------------------------------------------------------
 */

/* The first message, for which there is nothing to do but wait. */
static int receive_init(int fd, struct ipc_msg *m, int *fds)
{
	struct pollfd pfd = {.fd = fd, .events = POLLIN};
	size_t nfds = 0;
	int r;

	do {
		if (poll(&pfd, 1, -1) < 0 && errno != EINTR)
			return -errno;
		r = ipc_recv(fd, m, fds, &nfds);
	} while (!r);
	if (r < 0)
		return r;
	return m->kind == IPC_INIT && nfds == IPC_INIT_FDS ? 0 : -EPROTO;
}

static int own_netns(uint64_t *cookie)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), r = 0;
	socklen_t len = sizeof(*cookie);

	if (fd < 0)
		return -errno;
	if (getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, cookie, &len) < 0)
		r = -errno;
	close(fd);
	return r;
}

/* The descriptor is kept: the next supervisor reads what is left in the ring. */
static int map_ring(struct worker *w, int fd, uint64_t size)
{
	void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (at == MAP_FAILED)
		return -errno;
	w->proxy.ring = at;
	w->ring_fd = fd;
	w->ring_size = size;
	return 0;
}

static int begin(struct worker *w)
{
	struct proxy *p = &w->proxy;
	struct ipc_msg m, ready = {.kind = IPC_READY};
	int fds[IPC_MAX_FDS], r;

	p->ipc_fd = IPC_FD;
	w->spare = -1;
	r = receive_init(IPC_FD, &m, fds);
	if (!r)
		r = shared_map(&p->shared, fds);
	if (!r)
		r = map_ring(w, fds[IPC_FD_RING], m.init.ring_size);
	if (!r)
		r = alone_init(w, fds[IPC_FD_RENDEZVOUS], m.init.drain_ms);
	if (!r)
		r = own_netns(&p->netns);
	if (!r)
		r = proxy_init(p, m.init.worker, m.init.workers, m.init.instance);
	if (!r)
		trace_limit(&p->traces, m.init.trace_limit, m.init.workers);
	p->unobserved = m.init.unobserved;
	if (!r)
		r = sandbox_drop(m.init.uid, m.init.gid);
	if (!r)
		r = loop_add(&p->loop, &w->ipc, IPC_FD, EPOLLIN, worker_on_ipc);
	if (!r)
		r = alone_start(w);
	if (!r)
		r = sandbox_filter();
	if (r)
		return r;
	p->loop.spins = true;
	w->most_clients = p->max_clients;
	w->maps = m.init.maps;
	start_beating(w);
	ready.ready.pid = getpid();
	return worker_send(p, &ready);
}

int worker_main(void)
{
	struct worker *w = calloc(1, sizeof(*w));
	char iso[CLOCK_ISO_MAX];
	int r = -ENOMEM;

	clock_iso(0, iso); /* glibc reads the time zone once, which the filter would not allow */
	prctl(PR_SET_NAME, "mesh-worker"); /* what ps and top show; "exe" otherwise */
	signal(SIGPIPE, SIG_IGN);
	if (w)
		r = begin(w);
	if (!r)
		r = loop_run(&w->proxy.loop);
	if (!r)
		r = w->error;
	if (r)
		log_error("worker: %s", strerror(-r));
	free(w);
	return r ? 1 : 0;
}
