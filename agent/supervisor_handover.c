/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From one supervisor to the next: leaving so that the workers serve on, and taking over from one
 * that left or died. The new one starts workers on the same sockets, tells them of those only when
 * all that it knows is published, and retires the old workers when its own are ready. Whatever
 * happens in between, somebody serves.
 */
#include "agent/notify.h"
#include "agent/supervisor.h"

#include "lib/log.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LEAVE_WAIT_MS 10000 /* for the one that was asked to leave */
#define EMPTIED_MS    200   /* who drains has emptied the queues by then */
#define FIND_WAIT_MS  5000  /* for workers to answer: as long as for our own */

/* --- leaving --- */

static void tell_manager(const char *state)
{
	int err = notify_manager(state);

	if (err)
		log_warn("cannot tell the service manager: %s", strerror(-err));
}

static void leave(struct supervisor *s, uint32_t grace_ms)
{
	s->leaving = true;
	tell_manager("STOPPING=1");
	adopt_sweep(s, 0); /* the next one would not know that ours were filled */
	workers_leave(&s->workers, grace_ms);
	kernel_events_drain(s->kernel);
	tcp_beat(s);
	accesslog_flush(s->accesslog);
	s->loop.stop = true;
}

void handover_leave(struct supervisor *s)
{
	log_info("leaving: the workers serve on, and end %d s from now if nobody takes over",
		 SUPERVISOR_GRACE_MS / 1000);
	leave(s, SUPERVISOR_GRACE_MS);
}

static bool asked(void *arg, int *fd)
{
	struct supervisor *s = arg;

	if (s->stopping_ns) {
		log_warn("another agent wants to take over, but this one is stopping");
		return false;
	}
	log_info("leaving: another agent takes over");
	*fd = s->admin_fd;
	leave(s, 0);
	return true;
}

void handover_tell_ready(struct supervisor *s)
{
	if (s->told_ready || !s->settled || !workers_answering(&s->workers))
		return;
	s->told_ready = true;
	tell_manager("READY=1");
}

/* --- before anything is touched --- */

/* Only when this kernel is known to take our programs: the one that runs does not come back. */
static int ask_to_leave(struct supervisor *s)
{
	char error[KERNEL_ERROR_MAX];
	int err = kernel_try(error);

	if (err) {
		log_error("%s; the running agent stays", error);
		return err;
	}
	err = leave_ask(s->cfg->run_dir, LEAVE_WAIT_MS, &s->given_fd);
	if (err == -EBUSY)
		log_error("the running agent is stopping: start this one when it has ended");
	else if (err == -ETIMEDOUT)
		log_error("the running agent does not leave; end it (its workers serve on) and "
			  "start this one");
	else if (err && err != -ENOENT)
		log_error("cannot ask the running agent to leave: %s", strerror(-err));
	return err == -ENOENT ? 0 : err;
}

int handover_lock(struct supervisor *s)
{
	int err = 0;

	if (s->cfg->upgrade)
		err = ask_to_leave(s);
	if (!err)
		err = start_lock(s->cfg, "there is one per host: stop it, or take over (--upgrade)",
				 &s->lock_fd);
	if (err)
		return err;
	s->leave = (struct leave){.loop = &s->loop, .arg = s, .asked = asked};
	err = leave_init(&s->leave, s->cfg->run_dir);
	if (!err)
		s->rendezvous = rendezvous_open(s->cfg->run_dir);
	if (!err && s->rendezvous < 0)
		err = s->rendezvous;
	if (err)
		log_error("cannot use %s: %s; choose another --run-dir", s->cfg->run_dir,
			  strerror(-err));
	return err;
}

static bool is_at(int fd, const struct addr *at)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	struct addr a;

	return !getsockname(fd, (struct sockaddr *)&ss, &len) && !addr_from_sockaddr(&ss, &a) &&
	       a.port == at->port && !memcmp(a.ip, at->ip, sizeof(a.ip));
}

int handover_admin(struct supervisor *s)
{
	int fd = s->given_fd;

	s->given_fd = -1;
	if (fd >= 0 && (!s->cfg->admin_on || !is_at(fd, &s->cfg->admin))) {
		close(fd);
		fd = -1;
	}
	s->admin_fd = fd;
	return fd < 0 && s->cfg->admin_on
		       ? start_listener("metrics", "--admin", &s->cfg->admin, &s->admin_fd)
		       : 0;
}

/* --- taking over --- */

int handover_inherited(void *arg, uint64_t netns, int family)
{
	struct supervisor *s = arg;
	struct addr at = {.port = s->cfg->listener_port};

	(void)addr_parse_ip(family == AF_INET ? "127.0.0.1" : "::1", at.ip);
	return takeover_listener(&s->takeover, false, netns, &at);
}

/* Those of a takeover to other maps that came to no end: the maps that this supervisor adopts are
 * not theirs, however much they are of one version. */
static bool work_by_others(const struct takeover *t, uint32_t maps)
{
	for (uint32_t i = 0; i < t->nold; i++)
		if (t->old[i].listeners && t->old[i].maps != maps)
			return true;
	return false;
}

int handover_begin(struct supervisor *s)
{
	struct workers *ws = &s->workers;
	struct takeover *t = &s->takeover;
	int err = takeover_find(t, s->rendezvous, FIND_WAIT_MS);

	s->cold = work_by_others(t, ws->maps);
	for (; !err && t->nold; t->nold--) {
		int r = workers_adopt(ws, &t->old[t->nold - 1]);

		if (r) /* it drains when its supervisor is gone for good, or never */
			log_error("worker %u (pid %d) of before: %s", t->old[t->nold - 1].id,
				  (int)t->old[t->nold - 1].pid, strerror(-r));
	}
	if (err || (!workers_old_ones(ws) && !s->adopting))
		return err;
	/* maps that are filled send connections to whoever listens, and ours know nothing yet */
	s->taking_over = ws->holding_back = true;
	if (!workers_old_ones(ws))
		return 0;
	log_info("taking over from %u workers with %u listeners%s", workers_old_ones(ws),
		 t->nlisteners, s->cold ? ", which work by other maps" : "");
	workers_make_room(ws);
	return 0;
}

/* Whose gauges nobody keeps: they died while nobody looked. */
void handover_forget_dead(struct supervisor *s, void (*died)(void *arg, uint32_t worker))
{
	for (uint32_t i = 0; i < WORKERS_MAX; i++)
		if (!s->workers.w[i].old)
			died(s, i);
}

/* Do ours accept? The hook goes by their beats, and must not meet a moment without any. */
static bool ours_beat(const struct supervisor *s)
{
	const struct workers *ws = &s->workers;

	for (uint32_t i = 0; i < WORKERS_MAX && ws->nlisteners; i++)
		if (ws->w[i].ours &&
		    !__atomic_load_n(&s->arrays->beats->worker[i], __ATOMIC_RELAXED))
			return false;
	return true;
}

static bool ours_know(const struct supervisor *s)
{
	return workers_all_ready(&s->workers) && workers_generation(&s->workers) >= s->generation;
}

static void retire(struct supervisor *s)
{
	struct workers *ws = &s->workers;

	s->retired = true;
	workers_retire(ws);
	if (!s->gateway.nkept)
		takeover_forget_gateways(&s->takeover); /* nobody accepts there any more */
	log_info("%u workers are ready, %u of before drain, %u s at most", workers_ours(ws),
		 workers_old_ones(ws), ws->drain_ms / 1000);
}

/* Who was captured by the programs of before is noted in their maps, which ours cannot read, and
 * the other way round: so the old ones empty the queues before ours look there. Old capture is off
 * (kernel_settled()), and connections pass meanwhile. Ours are told at once when to begin: should
 * we die, they do it by themselves. True: they may be told. */
static bool queues_are_ours(struct supervisor *s)
{
	if (!s->cold || s->retired || !workers_old_ones(&s->workers))
		return true;
	if (!s->cold_ns)
		s->cold_ns = s->loop.now_ns;
	if (s->loop.now_ns < s->cold_ns + KERNEL_PASSED_HOOK_MS * 1000000ULL || !ours_know(s) ||
	    !gateway_has_moved(s))
		return false;
	retire(s);
	return true;
}

void handover_go_on(struct supervisor *s)
{
	struct workers *ws = &s->workers;

	if (!s->taking_over || (ws->holding_back && !s->settled))
		return;
	if (ws->holding_back && !queues_are_ours(s))
		return;
	workers_release(ws, s->cold ? EMPTIED_MS : 0);
	if (!workers_old_ones(ws)) {
		if (!s->gateway.nkept) /* or stop() does it */
			takeover_done(&s->takeover);
		s->taking_over = false;
		if (s->retired)
			log_info("the workers of before have ended");
		return;
	}
	if (!s->retired && ours_know(s) && ours_beat(s) && gateway_has_moved(s))
		retire(s);
}

bool handover_others_serve(const struct supervisor *s)
{
	return s->leaving ||
	       (!s->up && (s->taking_over || (s->kernel && kernel_adopted(s->kernel))));
}
