/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See supervisor.h. Start is a ladder, stop goes down the same way. In between, each round of the
 * loop ends in settle(): whatever was learned is put into the maps once, and then meshd is told.
 */
#include "agent/supervisor.h"

#include "lib/clock.h"
#include "lib/code.h"
#include "lib/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define BEAT_MS			  100
#define RECONCILE_MS		  1000
#define DRAIN_RINGS_MS		  20 /* while there is traffic; workers with much to read call sooner */
#define LATE_MS			  500 /* for who has not ended when the time to drain is over */

#define container(p, type, field) ((type *)((char *)(p)-offsetof(type, field)))

/* --- telemetry --- */

static void drain_rings(struct timer *t)
{
	supervisor_drain(container(t, struct supervisor, drain));
}

void supervisor_drain(void *arg)
{
	struct supervisor *s = arg;

	if (workers_drain_rings(&s->workers))
		timer_arm(&s->loop, &s->drain, DRAIN_RINGS_MS, drain_rings);
	telemetry_push(s);
	/* also what others drained, and what could not be written the last time */
	accesslog_flush(s->accesslog);
}

static void on_event(const struct mesh_event *e, void *arg)
{
	struct supervisor *s = arg;

	if (e->kind == MESH_EV_SPLICE) {
		acceleration_spliced(s, e);
		return;
	}
	if (e->kind != MESH_EV_CLOSE) {
		discovery_event(&s->discovery, e);
		return;
	}
	tcp_closed(s, e);
}

/* --- namespaces --- */

static void publish_netns(struct supervisor *s, const struct netns *ns)
{
	struct mesh_netns m = {.listener4 = ns->listener[0].cookie,
			       .listener6 = ns->listener[1].cookie,
			       .port = htons(s->cfg->listener_port)};
	int err = s->stopping_ns ? 0 : kernel_netns_set(s->kernel, ns->cookie, &m);

	if (err)
		log_error("the network namespace %s is not captured: %s", ns->owner,
			  strerror(-err));
}

static void netns_listening(void *arg, struct netns *ns, bool up)
{
	struct supervisor *s = arg;

	if (!up)
		kernel_netns_delete(s->kernel, ns->cookie); /* -ENOENT when it never was there */
	for (int i = 0; i < 2; i++) {
		if (ns->listener[i].fd < 0 || ns->listener[i].told == up)
			continue;
		ns->listener[i].told = up;
		if (!up)
			workers_listener_gone(&s->workers, ns->listener[i].id);
		else if (workers_listener(&s->workers, ns->listener[i].id, IPC_CAPTURE, ns->cookie,
					  ns->listener[i].fd))
			ns->listener[i].cookie = 0; /* nobody would accept there */
	}
	if (up)
		publish_netns(s, ns);
}

static void listener_found(void *arg, uint64_t cookie, const struct mesh_listener *l)
{
	struct supervisor *s = arg;
	int err = kernel_listener_add(s->kernel, cookie, l);

	if (err && err != -EEXIST)
		log_warn("the end of a listener will be noticed late: %s", strerror(-err));
}

/* --- control --- */

static void configure(void *arg, const struct configuration *c)
{
	struct supervisor *s = arg;
	uint64_t now_ns = s->loop.now_ns;
	/* what does not fit of one must not keep the others from changing, or from ending */
	int err = registry_configure(s->registry, c->services, c->nservices, now_ns),
	    err2 = registry_externals(s->registry, c->externals, c->nexternals, now_ns),
	    err3 = registry_faults(s->registry, c->faults, c->nfaults, now_ns / 1000000);

	err = err ? err : err2 ? err2 : err3;
	if (err)
		log_error("not all of the configuration fits: %s", strerror(-err));
	health_orders(s, c);
}

static char *state(void *arg)
{
	return state_json(arg);
}

/* --- the round --- */

/* False: put off, what is new is not in the maps yet. */
bool supervisor_flush(struct supervisor *s)
{
	int err;

	if (!registry_dirty(s->registry))
		return true;
	if (s->loop.now_ns < s->retry_ns)
		return false;
	err = registry_flush(s->registry, s->loop.now_ns);
	health_sync(s);
	if (!err)
		err = registry_flush(s->registry, s->loop.now_ns);
	s->retry_ns = err ? s->loop.now_ns + BEAT_MS * 1000000ULL : 0;
	if (err && !s->flush_failed)
		log_error("not everything fits into the maps: %s; see mesh_bpf_map_entries in "
			  "/metrics",
			  strerror(-err));
	s->flush_failed = err != 0;
	if (s->session)
		session_changed(s->session);
	return true;
}

/* A revision is in force when it is in the maps and every worker has said so. */
static void look_at_revision(struct supervisor *s)
{
	uint64_t latest = s->session ? session_revision(s->session) : 0;

	if (latest == s->revision || (registry_dirty(s->registry) && !s->flush_failed) ||
	    workers_generation(&s->workers) < s->generation)
		return;
	s->revision = latest;
	session_changed(s->session);
}

static void settle(struct loop *l)
{
	struct supervisor *s = container(l, struct supervisor, loop);

	if (s->stopping_ns || s->leaving)
		return;
	discovery_settle(&s->discovery);
	if (!s->settled && !adopt_settle(s))
		return;
	adopt_sweep(s, KERNEL_PASSED_HOOK_MS);
	if (supervisor_flush(s)) {
		gateway_go_on(s);
		handover_go_on(s);
		handover_tell_ready(s);
		if (workers_answering(&s->workers))
			discovery_mark(&s->discovery);
	}
	look_at_revision(s);
}

static void reconcile(struct timer *t)
{
	struct supervisor *s = container(t, struct supervisor, reconcile);

	discovery_reconcile(&s->discovery);
	timer_arm(&s->loop, &s->reconcile, RECONCILE_MS, reconcile);
}

/* --- stopping --- */

static void farewell_done(void *arg)
{
	((struct supervisor *)arg)->loop.stop = true;
}

static void farewell(struct supervisor *s)
{
	if (s->farewell)
		return;
	s->farewell = true;
	workers_drain_rings(&s->workers);
	kernel_events_drain(s->kernel);
	tcp_beat(s);
	telemetry_last(s);
	if (s->session)
		session_goodbye(s->session, farewell_done, s);
	else
		s->loop.stop = true;
}

/* Capture ends first: what connects from now on goes its plain way. */
static void begin_stop(struct supervisor *s)
{
	log_info("stopping: waiting for what runs, %u s at most", s->cfg->drain_ms / 1000);
	s->stopping_ns = s->loop.now_ns;
	for (struct netns *ns = s->discovery.netns.list; ns; ns = ns->next)
		kernel_netns_delete(s->kernel, ns->cookie);
	workers_drain(&s->workers);
	takeover_forget_gateways(&s->takeover);
	gateway_close(s);
	timer_cancel(&s->loop, &s->reconcile);
}

static void reload(struct supervisor *s)
{
	int err = s->accesslog ? accesslog_reopen(s->accesslog) : 0;

	if (err)
		log_error("cannot open the access log again: %s", strerror(-err));
	session_reload(s->session);
	log_info("reloaded");
}

static void on_signal(struct watch *w, uint32_t events)
{
	struct supervisor *s = container(w, struct supervisor, on_signal);
	struct signalfd_siginfo si;

	if (read(s->signal_fd, &si, sizeof(si)) != sizeof(si))
		return;
	if (si.ssi_signo == SIGHUP)
		reload(s);
	else if (si.ssi_signo == SIGUSR2 && !s->stopping_ns)
		handover_leave(s);
	else if (!s->stopping_ns)
		begin_stop(s);
	else /* asked twice: now */
		s->loop.stop = true;
}

/* meshd is told of workers that answer, not of those that merely run. */
static void look_at_workers(struct supervisor *s)
{
	uint32_t n = workers_answering(&s->workers);

	if (n != s->answering)
		session_changed(s->session);
	s->answering = n;
}

static void beat(struct timer *t)
{
	struct supervisor *s = container(t, struct supervisor, beat);

	timer_arm(&s->loop, &s->beat, BEAT_MS, beat);
	if (s->stopping_ns) {
		if (!workers_running(&s->workers) ||
		    s->loop.now_ns - s->stopping_ns > (s->cfg->drain_ms + LATE_MS) * 1000000ULL)
			farewell(s);
	} else {
		look_at_workers(s);
	}
	workers_tick(&s->workers);
	registry_faults_end(s->registry, s->loop.now_ns / 1000000);
	health_beat(s);
	coverage_beat(s);
	gain_beat(s);
	tcp_beat(s);
	if (s->settled)
		registry_rebalance(s->registry, s->loop.now_ns);
	kernel_events_drain(s->kernel);
	telemetry_beat(s);
	if (!s->drain.prev)
		supervisor_drain(s);
}

/* --- the ladder --- */

/* A namespace takes four descriptors here and two in each worker, which inherits this limit. */
static void raise_file_limit(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) < 0)
		return;
	l.rlim_cur = l.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &l) < 0)
		log_warn("cannot raise the limit of open files: %s", strerror(errno));
}

static int start_signals(struct supervisor *s)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGUSR2);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGCHLD, SIG_DFL); /* inherited as ignored, it would hide how our children end */
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	s->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (s->signal_fd < 0)
		return -errno;
	return loop_add(&s->loop, &s->on_signal, s->signal_fd, EPOLLIN, on_signal);
}

static int start_admin(struct supervisor *s)
{
	struct admin_ops ops = {.arg = s,
				.name = s->cfg->node,
				.metrics_begin = state_metrics_begin,
				.metrics_part = state_metrics_part,
				.metrics_end = state_metrics_end,
				.ready = state_ready};
	int err = handover_admin(s), fd;

	if (err || s->admin_fd < 0)
		return err;
	fd = fcntl(s->admin_fd, F_DUPFD_CLOEXEC, 0);
	return fd < 0 ? -errno : admin_new(&s->loop, fd, &ops, &s->admin);
}

static int start_kernel(struct supervisor *s)
{
	struct kernel_config kc = {.cgroup = s->cfg->cgroup};
	char error[KERNEL_ERROR_MAX];
	struct registry_sink sink;
	int err = kernel_open(&kc, &s->kernel, error);

	if (err) {
		log_error("%s", error);
		return err;
	}
	s->arrays = kernel_arrays(s->kernel);
	err = netns_own_cookie(&s->own_netns);
	if (err)
		return err;
	publish_sink(s, &sink);
	err = registry_new(&sink, s->own_netns, &s->registry);
	if (!err)
		adopt_begin(s);
	coverage_start(s);
	tcp_start(s);
	return err ? err : health_start(s);
}

static int start_discovery(struct supervisor *s)
{
	struct discovery_ops ops = {.arg = s,
				    .scan = sockdiag_listeners,
				    .listener_found = listener_found,
				    .inherited = handover_inherited,
				    .listening = netns_listening};
	int err = discovery_init(&s->discovery, &s->loop, s->registry, &ops,
				 kernel_cgroup(s->kernel), s->cfg->listener_port);

	return err ? err : kernel_events_start(s->kernel, &s->loop, on_event, s);
}

static int start_session(struct supervisor *s)
{
	struct session_config sc = {.control = s->cfg->control,
				    .node = s->cfg->node,
				    .run_dir = s->cfg->run_dir,
				    .token_file = s->cfg->token_file};
	struct session_ops ops = {
		.arg = s, .configure = configure, .state = state, .taps = telemetry_taps};

	return session_new(&s->loop, &sc, &ops, &s->session);
}

/* Steps that log their own failures. */
static int start_checked(struct supervisor *s)
{
	int err = start_check(s->cfg);

	if (!err)
		err = start_user(s->cfg, &s->uid, &s->gid);
	if (!err)
		err = handover_lock(s);
	if (!err)
		err = start_admin(s);
	return err ? err : start_kernel(s);
}

static int start(struct supervisor *s)
{
	static const struct {
		const char *what; /* NULL: it says itself what went wrong */
		int (*fn)(struct supervisor *s);
	} steps[] = {{"telemetry", telemetry_start}, {"the workers", serve_begin},
		     {NULL, gateway_start},	     {"the workers", serve_start},
		     {"discovery", start_discovery}, {"the control session", start_session}};
	int err;

	for (size_t i = 0; i < sizeof(steps) / sizeof(*steps); i++) {
		err = steps[i].fn(s);
		if (err && steps[i].what)
			log_error("cannot start %s: %s", steps[i].what, strerror(-err));
		if (err)
			return err;
	}
	acceleration_start(s);
	s->loop.after = settle;
	s->loop.now_ns = clock_mono_ns(); /* all of that took its time */
	s->begun_ns = s->loop.now_ns;
	beat(&s->beat);
	timer_arm(&s->loop, &s->reconcile, RECONCILE_MS, reconcile);
	settle(&s->loop);
	s->up = true;
	code_release();
	return 0;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void stop(struct supervisor *s)
{
	bool keep = handover_others_serve(s); /* what they need goes on without us */

	s->loop.after = NULL;
	acceleration_stop(s);
	if (s->leaving)
		telemetry_last(s);
	session_free(&s->session);
	if (!keep)
		discovery_done(&s->discovery);
	if (s->workers.loop)
		workers_done(&s->workers);
	takeover_done(&s->takeover);
	leave_done(&s->leave);
	if (!keep && s->lock_fd >= 0) {
		leave_remove(s->cfg->run_dir);
		rendezvous_sweep(s->cfg->run_dir);
	}
	health_stop(s);
	coverage_stop(s);
	gain_stop(s);
	registry_free(&s->registry);
	if (keep)
		kernel_leave(&s->kernel);
	else
		kernel_close(&s->kernel);
	admin_free(&s->admin);
	accesslog_free(&s->accesslog);
	metrics_free(&s->metrics);
	telemetry_stop(s);
	close_fd(&s->snapshot_fd);
	gateway_close(s);
	close_fd(&s->admin_fd);
	close_fd(&s->given_fd);
	close_fd(&s->rendezvous);
	close_fd(&s->signal_fd);
	close_fd(&s->lock_fd);
	loop_done(&s->loop);
}

int supervisor_run(const struct agent_config *cfg)
{
	static struct supervisor s;
	int err;

	s = (struct supervisor){.cfg = cfg,
				.started_ms = clock_wall_ms(),
				.signal_fd = -1,
				.lock_fd = -1,
				.admin_fd = -1,
				.given_fd = -1,
				.rendezvous = -1,
				.snapshot_fd = -1,
				.loop.epfd = -1,
				.on_signal.fd = -1};
	gateway_init(&s.gateway);
	err = loop_init(&s.loop);
	if (!err)
		err = start_signals(&s);
	if (!err)
		err = metrics_new(&s.metrics);
	if (err)
		log_error("cannot start: %s", strerror(-err));
	raise_file_limit();
	if (!err) {
		err = accesslog_new(cfg->access_log, &s.accesslog);
		if (err)
			log_error("cannot open the access log %s: %s", cfg->access_log,
				  strerror(-err));
	}
	if (!err)
		err = start_checked(&s);
	if (!err)
		err = start(&s);
	if (!err) {
		log_info("node %s is up: cgroup %s, %u workers", cfg->node, kernel_cgroup(s.kernel),
			 cfg->workers);
		err = loop_run(&s.loop);
		if (err)
			log_error("the event loop failed: %s", strerror(-err));
	}
	stop(&s);
	if (!err)
		log_info(s.leaving ? "left" : "stopped");
	return err ? 1 : 0;
}
