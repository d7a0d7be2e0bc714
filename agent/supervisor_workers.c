/* SPDX-License-Identifier: Apache-2.0 */
/* See supervisor_workers.h. */
#include "agent/supervisor_workers_impl.h"

#include "lib/clock.h"
#include "lib/log.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SILENT_NS      400000000ULL  /* no longer counted as answering */
#define HANGS_NS       5000000000ULL /* replaced */
#define QUICK_DEATH_NS 1000000000ULL
#define QUICK_DEATHS   10
#define DRAIN_AT_ONCE  4096 /* records of one ring in one round of the loop */

static void start(struct worker *w);
static int fill(struct workers *ws);

/* The loop's clock is that of the start of the round: a time taken during it may be later. */
static uint64_t since(const struct worker *w, uint64_t then)
{
	return w->all->loop->now_ns > then ? w->all->loop->now_ns - then : 0;
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
	signal(SIGUSR2, SIG_IGN);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
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

/* Nothing is left of its process but what it wrote into its ring. */
static void bury(struct worker *w)
{
	loop_del(w->all->loop, &w->on_exit);
	loop_del(w->all->loop, &w->on_ipc);
	if (*w->name)
		rendezvous_remove(w->all->rendezvous, w->name);
	*w->name = 0;
	if (w->pidfd >= 0)
		close(w->pidfd);
	if (w->ipc >= 0)
		close(w->ipc);
	w->pidfd = w->ipc = -1;
	w->pid = 0;
	w->ready = w->given_up = w->asked = false;
	worker_forget_queue(w);
}

static void place_clear(struct workers *ws, uint32_t id)
{
	struct worker *w = &ws->w[id];

	*w = (struct worker){.all = ws,
			     .id = id,
			     .pidfd = -1,
			     .ipc = -1,
			     .ring_fd = -1,
			     .on_exit.fd = -1,
			     .on_ipc.fd = -1};
	w->last = &w->first;
}

/* Its index is free then. */
static void place_free(struct worker *w)
{
	timer_cancel(w->all->loop, &w->respawn);
	worker_unmap_ring(w);
	if (w->ring_fd >= 0)
		close(w->ring_fd);
	place_clear(w->all, w->id);
}

static uint32_t drain_ring(struct worker *w, uint32_t max)
{
	const struct workers_ops *ops = &w->all->ops;
	uint32_t n = ring_drain(w->ring, max, ops->record, ops->arg, &w->all->ring_corrupt);

	return n + tally_take(ring_tally(w->ring), ops->counted, ops->arg);
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

/* What its ring still holds is the last that is heard of it. */
static void close_books(struct worker *w)
{
	struct workers *ws = w->all;

	if (w->ring) {
		tally_orphaned(ring_tally(w->ring));
		drain_ring(w, UINT32_MAX);
		ws->ring_lost[w->id] += w->ring->lost;
		ws->unsampled += w->ring->unsampled;
		ws->whys_skipped += w->ring->whys_skipped;
		memset(w->ring, 0, sizeof(*w->ring));
		ring_init(w->ring);
	}
	bury(w);
	ws->ops.died(ws->ops.arg, w->id);
}

/* Not our child: its end is all that can be known of it. */
static void old_one_ended(struct worker *w)
{
	struct workers *ws = w->all;
	int err;

	log_debug("worker %u (pid %d) of before has ended", w->id, (int)w->pid);
	close_books(w);
	place_free(w);
	err = fill(ws);
	if (err)
		log_error("cannot start a worker: %s", strerror(-err));
}

void worker_exited(struct watch *watch, uint32_t events)
{
	struct worker *w = container(watch, struct worker, on_exit);
	struct workers *ws = w->all;
	siginfo_t si = {0};

	if (w->old) {
		old_one_ended(w);
		return;
	}
	if (waitid(P_PID, (id_t)w->pid, &si, WEXITED | WNOHANG) < 0 || !si.si_pid)
		return;
	if (!ws->draining)
		say_death(w, &si);
	close_books(w);
	if (!ws->draining)
		schedule_respawn(w, since(w, w->started_ns) < QUICK_DEATH_NS);
}

static void say_late(const struct worker *w, int err)
{
	if (err)
		log_warn("the end of worker %u will be noticed late: %s", w->id, strerror(-err));
}

static int start_one(struct worker *w)
{
	struct workers *ws = w->all;
	int rendezvous, err;

	w->instance = ws->instance + ws->started++;
	rendezvous_name(w->instance, w->name);
	rendezvous = rendezvous_bind(ws->rendezvous, w->name);
	if (rendezvous < 0)
		return rendezvous;
	err = spawn(w);
	if (!err)
		say_late(w, ws->ops.started(ws->ops.arg, w->id, w->pidfd));
	if (!err)
		err = loop_add(ws->loop, &w->on_exit, w->pidfd, EPOLLIN, worker_exited);
	if (!err)
		err = loop_add(ws->loop, &w->on_ipc, w->ipc, EPOLLIN, worker_ipc_event);
	if (!err)
		worker_tell_init(w, rendezvous);
	close(rendezvous);
	if (err)
		return err;
	w->started_ns = w->answered_ns = clock_mono_ns();
	w->generation = 0;
	if (ws->snapshot_fd >= 0)
		worker_tell(w, &ws->snapshot, &ws->snapshot_fd, 1);
	for (uint32_t i = 0; i < ws->nlisteners && !ws->holding_back; i++)
		worker_tell_listener(w, &ws->listeners[i]);
	return 0;
}

static void end_now(struct worker *w)
{
	if (w->pid) {
		worker_kill(w);
		waitpid(w->pid, NULL,
			0); /* fails for one of before, which is none of our children */
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
	int err;

	w->ring_fd = memfd_create("mesh-ring", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (w->ring_fd < 0)
		return -errno;
	/* sealed in size: a worker that shrank it would end us with SIGBUS */
	if (ftruncate(w->ring_fd, RING_DATA + RING_SIZE) < 0 ||
	    fcntl(w->ring_fd, F_ADD_SEALS, WORKERS_RING_SEALS) < 0)
		return -errno;
	err = worker_map_ring(w);
	if (!err)
		ring_init(w->ring);
	return err;
}

int worker_map_ring(struct worker *w)
{
	void *at = mmap(NULL, RING_DATA + RING_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, w->ring_fd,
			0);

	if (at == MAP_FAILED)
		return -errno;
	w->ring = at;
	return 0;
}

void worker_unmap_ring(struct worker *w)
{
	if (w->ring)
		munmap(w->ring, RING_DATA + RING_SIZE);
	w->ring = NULL;
}

struct worker *workers_free_place(struct workers *ws)
{
	for (uint32_t i = 0; i < WORKERS_MAX; i++)
		if (!ws->w[i].ours && !ws->w[i].old)
			return &ws->w[i];
	return NULL;
}

uint32_t workers_ours(const struct workers *ws)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < WORKERS_MAX; i++)
		n += ws->w[i].ours;
	return n;
}

/* Starts as many as are wanted and have a place. 0 or -errno. */
static int fill(struct workers *ws)
{
	uint32_t n = workers_ours(ws);

	for (; n < ws->n && !ws->draining; n++) {
		struct worker *w = workers_free_place(ws);
		int err;

		if (!w) {
			log_info("%u of %u workers run for now: the others follow when those of "
				 "before have ended",
				 n, ws->n);
			break;
		}
		w->ours = true;
		err = ring_new(w);
		if (!err)
			err = start_one(w);
		if (err) {
			end_now(w);
			place_free(w);
			return err;
		}
	}
	return 0;
}

void workers_init(struct workers *ws)
{
	for (uint32_t i = 0; i < WORKERS_MAX; i++)
		place_clear(ws, i);
}

int workers_start(struct workers *ws)
{
	int err = fill(ws);

	if (err)
		workers_done(ws);
	return err;
}

/* Those of before are not ours to end, unless everything ends. */
static void let_go(struct worker *w)
{
	*w->name = 0; /* for who comes next */
	bury(w);
}

void workers_done(struct workers *ws)
{
	for (uint32_t i = 0; i < WORKERS_MAX; i++) {
		struct worker *w = &ws->w[i];

		if (!w->ours && !w->old)
			continue;
		if (w->old && !ws->draining)
			let_go(w);
		else
			end_now(w);
		place_free(w);
	}
	free(ws->listeners);
	ws->listeners = NULL;
	ws->nlisteners = ws->listeners_cap = 0;
}

void workers_leave(struct workers *ws, uint32_t grace_ms)
{
	struct ipc_msg m = {.kind = IPC_HOLD_ON};

	m.hold_on.grace_ms = grace_ms;
	m.hold_on.drain_ms = ws->drain_ms;
	for (uint32_t i = 0; i < WORKERS_MAX; i++) {
		struct worker *w = &ws->w[i];

		if (grace_ms && !w->retired)
			worker_tell(w, &m, NULL, 0);
		if (w->ring)
			drain_ring(w, UINT32_MAX);
		if (w->pid)
			let_go(w);
		place_free(w);
	}
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
	for (uint32_t i = 0; i < WORKERS_MAX && !ws->holding_back; i++)
		if (ws->w[i].ours)
			worker_tell_listener(&ws->w[i], l);
	return 0;
}

void workers_listener_gone(struct workers *ws, uint32_t id)
{
	struct ipc_msg m = {.kind = IPC_LISTENER_GONE};

	m.listener.id = id;
	for (uint32_t i = 0; i < ws->nlisteners; i++)
		if (ws->listeners[i].id == id) {
			ws->listeners[i] = ws->listeners[--ws->nlisteners];
			break;
		}
	for (uint32_t i = 0; i < WORKERS_MAX && !ws->holding_back; i++)
		if (ws->w[i].ours) /* those of before know it by another number */
			worker_tell(&ws->w[i], &m, NULL, 0);
}

void workers_release(struct workers *ws, uint32_t after_ms)
{
	if (!ws->holding_back)
		return;
	ws->holding_back = false;
	ws->begin_ns = clock_mono_ns() + after_ms * 1000000ULL;
	for (uint32_t i = 0; i < WORKERS_MAX; i++)
		for (uint32_t j = 0; ws->w[i].ours && j < ws->nlisteners; j++)
			worker_tell_listener(&ws->w[i], &ws->listeners[j]);
}

void workers_snapshot(struct workers *ws, int fd, uint64_t generation, uint64_t size)
{
	ws->snapshot_fd = fd;
	ws->snapshot = (struct ipc_msg){.kind = IPC_SNAPSHOT};
	ws->snapshot.snapshot.generation = generation;
	ws->snapshot.snapshot.size = size;
	for (uint32_t i = 0; i < WORKERS_MAX; i++)
		if (ws->w[i].ours) /* those of before end by what they know */
			worker_tell(&ws->w[i], &ws->snapshot, &fd, 1);
}

uint64_t workers_generation(const struct workers *ws)
{
	uint64_t least = UINT64_MAX;

	for (uint32_t i = 0; i < WORKERS_MAX; i++)
		if (ws->w[i].ours && ws->w[i].ready && ws->w[i].generation < least)
			least = ws->w[i].generation;
	return least;
}

uint32_t workers_answering(struct workers *ws)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < WORKERS_MAX; i++)
		if (ws->w[i].ours && ws->w[i].ready &&
		    since(&ws->w[i], ws->w[i].answered_ns) < SILENT_NS)
			n++;
	return n;
}

/* Whatever it says is an answer: one that is busy has much to say. */
static void ask(struct worker *w)
{
	struct ipc_msg ping = {.kind = IPC_PING};

	if (!w->asked) {
		w->asked = true;
		worker_tell(w, &ping, NULL, 0);
	} else if (since(w, w->answered_ns) > HANGS_NS) {
		worker_give_up(w, "does not answer");
	}
}

void workers_tick(struct workers *ws)
{
	for (uint32_t i = 0; i < WORKERS_MAX; i++) {
		struct worker *w = &ws->w[i];

		if (w->retired && ws->loop->now_ns > w->end_by_ns)
			worker_give_up(w, "does not come to its end");
		else if (w->pid && w->on_ipc.fd >= 0 && !w->stranger)
			ask(w);
	}
}

uint32_t workers_drain_rings(struct workers *ws)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < WORKERS_MAX; i++)
		if (ws->w[i].ring)
			n += drain_ring(&ws->w[i], DRAIN_AT_ONCE);
	return n;
}

uint64_t workers_ring_lost(const struct workers *ws, uint32_t id)
{
	const struct ring *ring = ws->w[id].ring;

	return ws->ring_lost[id] + (ring ? __atomic_load_n(&ring->lost, __ATOMIC_RELAXED) : 0);
}

uint64_t workers_unsampled(const struct workers *ws)
{
	uint64_t n = ws->unsampled;

	for (uint32_t i = 0; i < WORKERS_MAX; i++)
		if (ws->w[i].ring)
			n += __atomic_load_n(&ws->w[i].ring->unsampled, __ATOMIC_RELAXED);
	return n;
}

uint64_t workers_whys_skipped(const struct workers *ws)
{
	uint64_t n = ws->whys_skipped;

	for (uint32_t i = 0; i < WORKERS_MAX; i++)
		if (ws->w[i].ring)
			n += __atomic_load_n(&ws->w[i].ring->whys_skipped, __ATOMIC_RELAXED);
	return n;
}

void workers_drain(struct workers *ws)
{
	struct ipc_msg m = {.kind = IPC_DRAIN};

	m.drain.millis = ws->drain_ms;
	ws->draining = true;
	for (uint32_t i = 0; i < WORKERS_MAX; i++) {
		timer_cancel(ws->loop, &ws->w[i].respawn);
		worker_tell(&ws->w[i], &m, NULL, 0);
	}
}

uint32_t workers_running(const struct workers *ws)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < WORKERS_MAX; i++)
		n += ws->w[i].pid != 0;
	return n;
}
