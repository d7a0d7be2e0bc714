/* SPDX-License-Identifier: Apache-2.0 */
/* See supervisor_workers.h. */
#include "agent/supervisor_workers.h"

#include "lib/clock.h"
#include "lib/log.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define QUEUE_MAX	8192	      /* messages that wait for one worker */
#define SILENT_NS	400000000ULL  /* no longer counted as answering */
#define HANGS_NS	5000000000ULL /* replaced */
#define QUICK_DEATH_NS	1000000000ULL
#define QUICK_DEATHS	10
#define DRAIN_AT_ONCE	4096 /* records of one ring in one round of the loop */
#define HEAR_AT_ONCE	64   /* messages of one worker in one round */
#define SOCKETS_WAITING 256  /* messages unread: who asks for more sockets gets none */

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif

#define container(p, type, field) ((type *)((char *)(p)-offsetof(type, field)))

static void start(struct worker *w);

/* The loop's clock is that of the start of the round: a time taken during it may be later. */
static uint64_t since(const struct worker *w, uint64_t then)
{
	return w->all->loop->now_ns > then ? w->all->loop->now_ns - then : 0;
}

/* --- sending --- */

static void queued_free(struct queued *q)
{
	for (size_t i = 0; i < q->nfds; i++)
		close(q->fds[i]);
	free(q);
}

static void queue_clear(struct worker *w)
{
	for (struct queued *q = w->first, *next; q; q = next) {
		next = q->next;
		queued_free(q);
	}
	w->first = NULL;
	w->last = &w->first;
	w->nqueued = 0;
}

/* A worker that can no longer be told something is not one of ours any more. */
static void give_up(struct worker *w, const char *why)
{
	if (w->given_up)
		return;
	w->given_up = true;
	log_error("worker %u (pid %d) %s: it is replaced", w->id, (int)w->pid, why);
	kill(w->pid, SIGKILL);
}

static int enqueue(struct worker *w, const struct ipc_msg *msg, const int *fds, size_t nfds)
{
	struct queued *q = w->nqueued < QUEUE_MAX ? calloc(1, sizeof(*q)) : NULL;

	if (!q)
		return -ENOBUFS;
	q->msg = *msg;
	for (; q->nfds < nfds; q->nfds++) {
		q->fds[q->nfds] = fcntl(fds[q->nfds], F_DUPFD_CLOEXEC, 0);
		if (q->fds[q->nfds] < 0) {
			queued_free(q);
			return -EMFILE;
		}
	}
	*w->last = q;
	w->last = &q->next;
	w->nqueued++;
	return loop_mod(w->all->loop, &w->on_ipc, EPOLLIN | EPOLLOUT);
}

static void send_or_queue(struct worker *w, const struct ipc_msg *msg, const int *fds, size_t nfds)
{
	int err;

	if (!w->pid || w->on_ipc.fd < 0)
		return;
	err = w->first ? -EAGAIN : ipc_send(w->ipc, msg, fds, nfds);
	if (err == -EAGAIN)
		err = enqueue(w, msg, fds, nfds);
	if (err && err != -EPIPE) /* EPIPE: its end is about to be reported */
		give_up(w, "cannot be told what is new");
}

static void flush_queue(struct worker *w)
{
	while (w->first) {
		struct queued *q = w->first;

		if (ipc_send(w->ipc, &q->msg, q->fds, q->nfds) == -EAGAIN)
			return;
		w->first = q->next;
		if (!w->first)
			w->last = &w->first;
		w->nqueued--;
		queued_free(q);
	}
	loop_mod(w->all->loop, &w->on_ipc, EPOLLIN);
}

static void send_init(struct worker *w)
{
	struct workers *ws = w->all;
	struct ipc_msg m = {.kind = IPC_INIT};
	int fds[IPC_INIT_FDS];

	m.init.worker = w->id;
	m.init.workers = ws->n;
	m.init.uid = ws->uid;
	m.init.gid = ws->gid;
	m.init.instance = ws->instance + w->id + ws->restarts * MESH_MAX_WORKERS;
	m.init.ring_size = RING_DATA + RING_SIZE;
	memcpy(fds, ws->map_fds, sizeof(ws->map_fds));
	fds[IPC_FD_RING] = w->ring_fd;
	send_or_queue(w, &m, fds, IPC_INIT_FDS);
}

static void send_listener(struct worker *w, const struct workers_listener *l)
{
	struct ipc_msg m = {.kind = IPC_LISTENER};

	m.listener.id = l->id;
	m.listener.role = l->role;
	m.listener.netns = l->netns;
	send_or_queue(w, &m, &l->fd, 1);
}

/* --- hearing --- */

static void answer_socket(struct worker *w, const struct ipc_msg *in)
{
	struct ipc_msg m = {.kind = IPC_SOCKET, .socket = in->socket};
	int fd = -EAGAIN;

	if (w->nqueued < SOCKETS_WAITING)
		fd = w->all->ops.socket(w->all->ops.arg, in->socket.netns, (int)in->socket.family);
	m.socket.error = fd < 0 ? fd : 0;
	send_or_queue(w, &m, &fd, fd < 0 ? 0 : 1);
	if (fd >= 0)
		close(fd);
}

static void hear(struct worker *w, const struct ipc_msg *m)
{
	w->answered_ns = w->all->loop->now_ns;
	w->asked = false;
	switch (m->kind) {
	case IPC_READY:
		if (w->ready)
			break;
		w->ready = true;
		log_debug("worker %u (pid %d) is ready", w->id, (int)w->pid);
		break;
	case IPC_WANT_SOCKET:
		answer_socket(w, m);
		break;
	case IPC_SNAPSHOT_USED:
		w->generation = m->snapshot.generation;
		break;
	default:
		break;
	}
}

static void ipc_event(struct watch *watch, uint32_t events)
{
	struct worker *w = container(watch, struct worker, on_ipc);
	int fds[IPC_MAX_FDS], r = 0;
	struct ipc_msg m;
	size_t n;

	if (events & EPOLLOUT)
		flush_queue(w);
	/* what is left wakes us again: a worker that talks without end must not stop the heart */
	for (int i = 0; i < HEAR_AT_ONCE && (r = ipc_recv(w->ipc, &m, fds, &n)) > 0; i++) {
		while (n)
			close(fds[--n]); /* a worker has nothing to give */
		hear(w, &m);
	}
	if (r == -EPIPE) {
		loop_del(w->all->loop, &w->on_ipc); /* the pidfd tells the rest */
		w->ready = false;
	} else if (r < 0) {
		give_up(w, "speaks another protocol");
	}
}

/* --- starting and ending --- */

static void child(int ipc)
{
	static char *const argv[] = {"mesh-agent", "worker", NULL};
	sigset_t none;

	/* whoever means all of us (a terminal, the end of a service) means the supervisor, which
	 * tells its workers what to do */
	signal(SIGTERM, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	/* the worker repeats this after it changed its user, which clears it */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (ipc == IPC_FD ? fcntl(ipc, F_SETFD, 0) < 0 : dup2(ipc, IPC_FD) < 0)
		_exit(127);
	close_range(IPC_FD + 1, ~0U, CLOSE_RANGE_CLOEXEC);
	execv("/proc/self/exe", argv);
	_exit(127);
}

static int spawn(struct worker *w)
{
	int pair[2], none = 0, err;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return -errno;
	/* the last close() of a socket may linger: none must come from a worker. Linux 6.16; before
	 * that only its system call filter stands in the way */
	if (setsockopt(pair[0], SOL_SOCKET, SO_PASSRIGHTS, &none, sizeof(none)) < 0)
		log_debug("descriptors from workers are not refused by this kernel");
	w->pid = fork();
	if (w->pid < 0) {
		err = -errno;
		w->pid = 0;
		close(pair[0]);
		close(pair[1]);
		return err;
	}
	if (!w->pid)
		child(pair[1]);
	close(pair[1]);
	w->ipc = pair[0];
	w->pidfd = (int)syscall(SYS_pidfd_open, w->pid, 0);
	return w->pidfd < 0 ? -errno : 0;
}

static void bury(struct worker *w)
{
	loop_del(w->all->loop, &w->on_exit);
	loop_del(w->all->loop, &w->on_ipc);
	if (w->pidfd >= 0)
		close(w->pidfd);
	if (w->ipc >= 0)
		close(w->ipc);
	w->pidfd = w->ipc = -1;
	w->pid = 0;
	w->ready = w->given_up = w->asked = false;
	queue_clear(w);
}

static void drain_ring(struct worker *w, uint32_t max)
{
	ring_drain(w->ring, max, w->all->ops.record, w->all->ops.arg, &w->all->ring_corrupt);
}

static void respawn(struct timer *t)
{
	start(container(t, struct worker, respawn));
}

/* At once; but one that never gets anywhere is not allowed to eat the machine. */
static void schedule_respawn(struct worker *w, bool quick)
{
	w->quick_deaths = quick ? w->quick_deaths + 1 : 0;
	w->all->restarts++;
	if (w->quick_deaths < QUICK_DEATHS) {
		start(w);
		return;
	}
	log_error("worker %u died %u times within a second of its start: next try in a second",
		  w->id, w->quick_deaths);
	timer_arm(w->all->loop, &w->respawn, 1000, respawn);
}

static void say_death(const struct worker *w, const siginfo_t *si)
{
	if (si->si_code == CLD_EXITED)
		log_warn("worker %u (pid %d) ended with status %d: it is replaced", w->id,
			 (int)w->pid, si->si_status);
	else
		log_warn("worker %u (pid %d) was killed by signal %d: it is replaced", w->id,
			 (int)w->pid, si->si_status);
}

static void exited(struct watch *watch, uint32_t events)
{
	struct worker *w = container(watch, struct worker, on_exit);
	struct workers *ws = w->all;
	siginfo_t si = {0};

	if (waitid(P_PID, (id_t)w->pid, &si, WEXITED | WNOHANG) < 0 || !si.si_pid)
		return;
	if (!ws->draining)
		say_death(w, &si);
	drain_ring(w, UINT32_MAX);
	ws->ring_lost += w->ring->lost;
	memset(w->ring, 0, sizeof(*w->ring));
	bury(w);
	ws->ops.died(ws->ops.arg, w->id);
	if (!ws->draining)
		schedule_respawn(w, since(w, w->started_ns) < QUICK_DEATH_NS);
}

static int start_one(struct worker *w)
{
	struct workers *ws = w->all;
	int err = spawn(w), late;

	if (err)
		return err;
	late = ws->ops.started(ws->ops.arg, w->id, w->pidfd);
	if (late)
		log_warn("the end of worker %u will be noticed late: %s", w->id, strerror(-late));
	err = loop_add(ws->loop, &w->on_exit, w->pidfd, EPOLLIN, exited);
	if (!err)
		err = loop_add(ws->loop, &w->on_ipc, w->ipc, EPOLLIN, ipc_event);
	if (err)
		return err;
	w->started_ns = w->answered_ns = clock_mono_ns();
	w->generation = 0;
	send_init(w);
	if (ws->snapshot_fd >= 0)
		send_or_queue(w, &ws->snapshot, &ws->snapshot_fd, 1);
	for (uint32_t i = 0; i < ws->nlisteners; i++)
		send_listener(w, &ws->listeners[i]);
	return 0;
}

static void end_now(struct worker *w)
{
	if (w->pid) {
		kill(w->pid, SIGKILL);
		waitpid(w->pid, NULL, 0);
	}
	bury(w);
}

static void start(struct worker *w)
{
	int err = start_one(w);

	if (!err)
		return;
	end_now(w);
	log_error("worker %u cannot be started: %s; next try in a second", w->id, strerror(-err));
	timer_arm(w->all->loop, &w->respawn, 1000, respawn);
}

static int ring_new(struct worker *w)
{
	w->ring_fd = memfd_create("mesh-ring", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (w->ring_fd < 0)
		return -errno;
	/* sealed in size: a worker that shrank it would end us with SIGBUS */
	if (ftruncate(w->ring_fd, RING_DATA + RING_SIZE) < 0 ||
	    fcntl(w->ring_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return -errno;
	w->ring = mmap(NULL, RING_DATA + RING_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, w->ring_fd,
		       0);
	if (w->ring == MAP_FAILED) {
		w->ring = NULL;
		return -errno;
	}
	return 0;
}

int workers_start(struct workers *ws)
{
	int err = 0;

	for (uint32_t i = 0; i < ws->n; i++) {
		struct worker *w = &ws->w[i];

		*w = (struct worker){.all = ws,
				     .id = i,
				     .pidfd = -1,
				     .ipc = -1,
				     .ring_fd = -1,
				     .on_exit.fd = -1,
				     .on_ipc.fd = -1};
		w->last = &w->first;
	}
	for (uint32_t i = 0; i < ws->n && !err; i++) {
		err = ring_new(&ws->w[i]);
		if (!err)
			err = start_one(&ws->w[i]);
	}
	if (err)
		workers_done(ws);
	return err;
}

void workers_done(struct workers *ws)
{
	for (uint32_t i = 0; i < ws->n; i++) {
		struct worker *w = &ws->w[i];

		if (!w->all)
			continue;
		timer_cancel(ws->loop, &w->respawn);
		end_now(w);
		if (w->ring)
			munmap(w->ring, RING_DATA + RING_SIZE);
		if (w->ring_fd >= 0)
			close(w->ring_fd);
		w->all = NULL;
	}
	free(ws->listeners);
	ws->listeners = NULL;
	ws->nlisteners = ws->listeners_cap = 0;
}

/* --- what all are told --- */

int workers_listener(struct workers *ws, uint32_t id, enum ipc_listener_role role, uint64_t netns,
		     int fd)
{
	struct workers_listener *l;

	if (ws->nlisteners == ws->listeners_cap) {
		uint32_t cap = ws->listeners_cap ? ws->listeners_cap * 2 : 16;

		l = realloc(ws->listeners, cap * sizeof(*l));
		if (!l)
			return -ENOMEM;
		ws->listeners = l;
		ws->listeners_cap = cap;
	}
	l = &ws->listeners[ws->nlisteners++];
	*l = (struct workers_listener){.id = id, .role = role, .netns = netns, .fd = fd};
	for (uint32_t i = 0; i < ws->n; i++)
		send_listener(&ws->w[i], l);
	return 0;
}

void workers_listener_gone(struct workers *ws, uint32_t id)
{
	struct ipc_msg m = {.kind = IPC_LISTENER_GONE, .listener.id = id};

	for (uint32_t i = 0; i < ws->nlisteners; i++)
		if (ws->listeners[i].id == id) {
			ws->listeners[i] = ws->listeners[--ws->nlisteners];
			break;
		}
	for (uint32_t i = 0; i < ws->n; i++)
		send_or_queue(&ws->w[i], &m, NULL, 0);
}

void workers_snapshot(struct workers *ws, int fd, uint64_t generation, uint64_t size)
{
	ws->snapshot_fd = fd;
	ws->snapshot = (struct ipc_msg){.kind = IPC_SNAPSHOT};
	ws->snapshot.snapshot.generation = generation;
	ws->snapshot.snapshot.size = size;
	for (uint32_t i = 0; i < ws->n; i++)
		send_or_queue(&ws->w[i], &ws->snapshot, &fd, 1);
}

uint64_t workers_generation(const struct workers *ws)
{
	uint64_t least = UINT64_MAX;

	for (uint32_t i = 0; i < ws->n; i++)
		if (ws->w[i].ready && ws->w[i].generation < least)
			least = ws->w[i].generation;
	return least;
}

uint32_t workers_answering(struct workers *ws)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < ws->n; i++)
		if (ws->w[i].ready && since(&ws->w[i], ws->w[i].answered_ns) < SILENT_NS)
			n++;
	return n;
}

/* Whatever it says is an answer: one that is busy has much to say. */
static void ask(struct worker *w)
{
	struct ipc_msg ping = {.kind = IPC_PING};

	if (!w->asked) {
		w->asked = true;
		send_or_queue(w, &ping, NULL, 0);
	} else if (since(w, w->answered_ns) > HANGS_NS) {
		give_up(w, "does not answer");
	}
}

void workers_tick(struct workers *ws)
{
	for (uint32_t i = 0; i < ws->n; i++)
		if (ws->w[i].pid && ws->w[i].on_ipc.fd >= 0)
			ask(&ws->w[i]);
}

uint32_t workers_drain_rings(struct workers *ws)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < ws->n; i++)
		if (ws->w[i].ring)
			n += ring_drain(ws->w[i].ring, DRAIN_AT_ONCE, ws->ops.record, ws->ops.arg,
					&ws->ring_corrupt);
	return n;
}

void workers_drain(struct workers *ws, uint32_t millis)
{
	struct ipc_msg m = {.kind = IPC_DRAIN, .drain.millis = millis};

	ws->draining = true;
	for (uint32_t i = 0; i < ws->n; i++) {
		timer_cancel(ws->loop, &ws->w[i].respawn);
		send_or_queue(&ws->w[i], &m, NULL, 0);
	}
}

uint32_t workers_running(const struct workers *ws)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < ws->n; i++)
		n += ws->w[i].pid != 0;
	return n;
}
