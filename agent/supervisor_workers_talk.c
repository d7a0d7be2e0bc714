/* SPDX-License-Identifier: Apache-2.0 */
/* See supervisor_workers.h: what is said to workers and heard from them. Nothing that a worker
 * says, or does not read, may hold the supervisor up. */
#include "agent/supervisor_workers_impl.h"

#include "lib/clock.h"
#include "lib/log.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define QUEUE_MAX	8192 /* messages that wait for one worker */
#define HEAR_AT_ONCE	64   /* messages of one worker in one round */
#define SOCKETS_WAITING 256  /* messages unread: who asks for more sockets gets none */

/* --- sending --- */

static void queued_free(struct queued *q)
{
	for (size_t i = 0; i < q->nfds; i++)
		close(q->fds[i]);
	free(q);
}

void worker_forget_queue(struct worker *w)
{
	for (struct queued *q = w->first, *next; q; q = next) {
		next = q->next;
		queued_free(q);
	}
	w->first = NULL;
	w->last = &w->first;
	w->nqueued = 0;
}

/* By its pidfd: of one that is not our child the number may be another's by now. */
void worker_kill(const struct worker *w)
{
	if (w->pidfd >= 0)
		syscall(SYS_pidfd_send_signal, w->pidfd, SIGKILL, NULL, 0); /* or it has ended */
}

/* A worker that can no longer be told something is not one of ours any more. */
void worker_give_up(struct worker *w, const char *why)
{
	if (w->given_up)
		return;
	w->given_up = true;
	log_error("worker %u (pid %d) %s: it is %s", w->id, (int)w->pid, why,
		  w->old ? "ended" : "replaced");
	worker_kill(w);
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

void worker_tell(struct worker *w, const struct ipc_msg *msg, const int *fds, size_t nfds)
{
	int err;

	if (!w->pid || w->on_ipc.fd < 0)
		return;
	err = w->first ? -EAGAIN : ipc_send(w->ipc, msg, fds, nfds);
	if (err == -EAGAIN)
		err = enqueue(w, msg, fds, nfds);
	if (err && err != -EPIPE) /* EPIPE: its end is about to be reported */
		worker_give_up(w, "cannot be told what is new");
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

void worker_tell_init(struct worker *w, int rendezvous)
{
	struct workers *ws = w->all;
	struct ipc_msg m = {.kind = IPC_INIT};
	int fds[IPC_INIT_FDS];

	m.init.worker = w->id;
	m.init.workers = ws->n;
	m.init.uid = ws->uid;
	m.init.gid = ws->gid;
	m.init.instance = w->instance;
	m.init.ring_size = RING_DATA + RING_SIZE;
	m.init.drain_ms = ws->drain_ms;
	m.init.maps = ws->maps;
	m.init.trace_limit = ws->trace_limit;
	m.init.unobserved = ws->unobserved;
	memcpy(fds, ws->map_fds, sizeof(ws->map_fds));
	fds[IPC_FD_RING] = w->ring_fd;
	fds[IPC_FD_RENDEZVOUS] = rendezvous;
	worker_tell(w, &m, fds, IPC_INIT_FDS);
}

/* How long it is to wait yet: also one that is started meanwhile. */
static uint32_t begins_in_ms(const struct workers *ws)
{
	uint64_t now_ns = clock_mono_ns();

	return ws->begin_ns > now_ns ? (uint32_t)((ws->begin_ns - now_ns) / 1000000 + 1) : 0;
}

void worker_tell_listener(struct worker *w, const struct workers_listener *l)
{
	struct ipc_msg m = {.kind = IPC_LISTENER};

	m.listener.id = l->id;
	m.listener.role = l->role;
	m.listener.netns = l->netns;
	m.listener.after_ms = begins_in_ms(w->all);
	worker_tell(w, &m, &l->fd, 1);
}

/* --- hearing --- */

static void answer_socket(struct worker *w, const struct ipc_msg *in)
{
	struct ipc_msg m = {.kind = IPC_SOCKET, .socket = in->socket};
	int fd = -EAGAIN;

	if (w->nqueued < SOCKETS_WAITING)
		fd = w->all->ops.socket(w->all->ops.arg, in->socket.netns, (int)in->socket.family);
	m.socket.error = fd < 0 ? fd : 0;
	worker_tell(w, &m, &fd, fd < 0 ? 0 : 1);
	if (fd >= 0)
		close(fd);
}

/* Returns true when its records are to be read. */
static bool hear(struct worker *w, const struct ipc_msg *m)
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
	return m->kind == IPC_RECORDS;
}

void worker_ipc_event(struct watch *watch, uint32_t events)
{
	struct worker *w = container(watch, struct worker, on_ipc);
	int fds[IPC_MAX_FDS], r = 0;
	struct ipc_msg m;
	bool waiting = false;
	size_t n;

	if (events & EPOLLOUT)
		flush_queue(w);
	/* what is left wakes us again: a worker that talks without end must not stop the heart */
	for (int i = 0; i < HEAR_AT_ONCE && (r = ipc_recv(w->ipc, &m, fds, &n)) > 0; i++) {
		while (n)
			close(fds[--n]); /* a worker has nothing to give */
		waiting |= hear(w, &m);
	}
	if (waiting)
		w->all->ops.waiting(w->all->ops.arg);
	if (r == -EPIPE) {
		loop_del(w->all->loop, &w->on_ipc); /* the pidfd tells the rest */
		w->ready = false;
	} else if (r < 0) {
		worker_give_up(w, "speaks another protocol");
	}
}
