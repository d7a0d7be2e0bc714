/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A worker whose supervisor ended: it serves on by its last snapshot, and holds its listeners for
 * the next supervisor, which comes by the rendezvous socket (rendezvous.h) and is then obeyed like
 * the one before. If that one had announced that it left, the worker drains when nobody has come
 * within the grace time; and at SIGTERM, since then the host goes down and nobody will. Called by
 * worker.c only.
 */
#include "agent/proxy/listener.h"
#include "agent/proxy/upstream.h"
#include "agent/rendezvous.h"
#include "agent/worker_impl.h"
#include "lib/log.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define HOPE_MS			  3000 /* a supervisor that is started anew is there by then */
#define ALL_AT_ONCE_MS		  3000 /* who goes down with us has gone by then */

#define container(p, type, field) ((type *)((char *)(p)-offsetof(type, field)))

static void leave_supervisor(struct worker *w)
{
	struct proxy *p = &w->proxy;

	if (p->ipc_fd < 0)
		return;
	loop_del(&p->loop, &w->ipc);
	close(p->ipc_fd);
	p->ipc_fd = -1;
	w->alone_since_ms = p->loop.now_ns / 1000000;
	upconn_unanswered(p); /* they ask again, while there is hope */
}

static void hold_over(struct timer *t)
{
	struct worker *w = container(t, struct worker, hold);

	log_info("worker %u: nobody has taken over: draining", w->proxy.id);
	worker_drain(w, w->drain_ms, true, false);
}

static void forget_hold(struct worker *w)
{
	timer_cancel(&w->proxy.loop, &w->hold);
	w->hold_until_ms = 0;
}

/* What is left of it: who came meanwhile may have gone before it was up. */
static void hold(struct worker *w)
{
	uint64_t now_ms = w->proxy.loop.now_ns / 1000000, until_ms = w->hold_until_ms;

	if (until_ms)
		timer_arm(&w->proxy.loop, &w->hold, until_ms > now_ms ? until_ms - now_ms : 0,
			  hold_over);
}

/* As a supervisor that is told to stop would have it, and no later than it was to end anyway. */
static void end_alone(struct worker *w)
{
	uint64_t now_ms = w->proxy.loop.now_ns / 1000000, left = w->drain_ms;

	if (w->drain.prev && w->drain_until_ms < now_ms + left)
		left = w->drain_until_ms > now_ms ? w->drain_until_ms - now_ms : 0;
	log_info("worker %u: told to end, and there is no supervisor: draining", w->proxy.id);
	forget_hold(w);
	worker_drain(w, (uint32_t)left, false, false);
}

/* With a supervisor, that one was meant too, and says what is to be done: unless it has gone
 * without a word. */
static void on_signal(struct watch *watch, uint32_t events)
{
	struct worker *w = container(watch, struct worker, on_signal);
	struct signalfd_siginfo si;

	if (read(w->signal_fd, &si, sizeof(si)) != sizeof(si))
		return;
	w->term_ms = w->proxy.loop.now_ns / 1000000;
	if (w->proxy.ipc_fd < 0)
		end_alone(w);
}

static bool was_told_to_end(const struct worker *w)
{
	return w->term_ms && w->alone_since_ms - w->term_ms < ALL_AT_ONCE_MS;
}

void alone_serve(struct worker *w)
{
	leave_supervisor(w);
	if (was_told_to_end(w)) {
		end_alone(w);
		return;
	}
	if (w->drain.prev) /* it ends anyway */
		return;
	if (!w->nlisteners) { /* nobody would ever come, or miss it */
		worker_drain(w, w->drain_ms, true, true);
		return;
	}
	log_debug("worker %u: the supervisor is gone, serving on", w->proxy.id);
	hold(w);
}

bool alone_hopes(const struct worker *w)
{
	return w->proxy.ipc_fd >= 0 || /* its end is not noticed yet */
	       w->proxy.loop.now_ns / 1000000 - w->alone_since_ms < HOPE_MS;
}

/* Who merely calls, or looks for what there is, may fail yet: it answers for sockets meanwhile.
 * Whoever says anything else is up, and stays. */
void alone_no_more(struct worker *w, uint32_t kind)
{
	if (kind == IPC_TELL || kind == IPC_SOCKET)
		timer_cancel(&w->proxy.loop, &w->hold);
	else
		forget_hold(w);
}

void alone_hold_on(struct worker *w, uint32_t grace_ms, uint32_t drain_ms)
{
	w->drain_ms = drain_ms;
	w->hold_until_ms = w->proxy.loop.now_ns / 1000000 + grace_ms;
	hold(w);
}

void alone_tell(struct worker *w, uint32_t from)
{
	struct ipc_msg m = {.kind = IPC_HOLDS, .holds.from = from};

	m.holds.n = listener_list(&w->proxy, from, m.holds.fd, IPC_HOLDS_MAX);
	if (worker_send(&w->proxy, &m))
		log_warn("the supervisor does not take messages");
}

static int greet(struct worker *w)
{
	struct ipc_msg m = {.kind = IPC_HELLO};

	m.hello.version = IPC_VERSION;
	m.hello.worker = w->proxy.id;
	m.hello.listeners = w->nlisteners;
	m.hello.ring_fd = w->ring_fd;
	m.hello.ring_size = w->ring_size;
	m.hello.draining = w->proxy.draining;
	m.hello.maps = w->maps;
	return worker_send(&w->proxy, &m);
}

/* The latest who calls is the supervisor: it has made sure that there is no other. */
static void meet(struct worker *w, int fd)
{
	struct proxy *p = &w->proxy;
	int r;

	leave_supervisor(w);
	p->ipc_fd = fd;
	r = loop_add(&p->loop, &w->ipc, fd, EPOLLIN, worker_on_ipc);
	if (!r)
		r = greet(w);
	if (!r)
		return;
	if (r == -EPIPE) /* it only looked who lives, see rendezvous_sweep() */
		log_debug("worker %u: who called has gone", p->id);
	else
		log_error("worker %u: cannot hear the new supervisor: %s", p->id, strerror(-r));
	alone_serve(w);
}

static void on_call(struct watch *watch, uint32_t events)
{
	struct worker *w = container(watch, struct worker, rendezvous);
	int fd;

	/* the supervisor before may have had a listener for us, or said how it left */
	proxy_catch_up(&w->proxy);
	if (w->spare >= 0)
		close(w->spare);
	w->spare = -1; /* the next message finds another */
	while ((fd = rendezvous_accept(w->rendezvous_fd, w->superior)) >= 0)
		meet(w, fd);
}

static int open_signals(struct worker *w)
{
	sigset_t term;

	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	if (sigprocmask(SIG_BLOCK, &term, NULL) < 0 || signal(SIGTERM, SIG_DFL) == SIG_ERR)
		return -errno;
	w->signal_fd = signalfd(-1, &term, SFD_CLOEXEC | SFD_NONBLOCK);
	return w->signal_fd < 0 ? -errno : 0;
}

int alone_init(struct worker *w, int rendezvous_fd, uint32_t drain_ms)
{
	int err = open_signals(w);

	w->rendezvous_fd = rendezvous_fd;
	w->superior = geteuid();
	w->drain_ms = drain_ms;
	return err ? err : rendezvous_listen(rendezvous_fd);
}

int alone_start(struct worker *w)
{
	struct loop *l = &w->proxy.loop;
	int err = loop_add(l, &w->rendezvous, w->rendezvous_fd, EPOLLIN, on_call);

	return err ? err : loop_add(l, &w->on_signal, w->signal_fd, EPOLLIN, on_signal);
}
