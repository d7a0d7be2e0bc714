/* SPDX-License-Identifier: Apache-2.0 */
/* See supervisor_workers.h: the workers of a supervisor before us, from the moment that we are
 * theirs to their end. */
#include "agent/supervisor_workers_impl.h"

#include "lib/clock.h"
#include "lib/log.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define LATE_NS 500000000ULL /* after the end of the drain time: killed */

/* A ring that could change its size would end us with SIGBUS. In one of another layout, of before
 * an upgrade, no word means what we take it for, its counters neither. */
static int adopt_ring(struct worker *w, int fd)
{
	int seals = fcntl(fd, F_GET_SEALS), err;

	w->ring_fd = fd;
	if (seals < 0 || (seals & WORKERS_RING_SEALS) != WORKERS_RING_SEALS ||
	    lseek(fd, 0, SEEK_END) != RING_DATA + RING_SIZE)
		return -EINVAL;
	err = worker_map_ring(w);
	if (!err && w->ring->layout != RING_LAYOUT) {
		worker_unmap_ring(w);
		return -EPROTO;
	}
	if (!err)
		tally_inherited(ring_tally(w->ring));
	return err;
}

void workers_old_close(const struct workers_old *o)
{
	close(o->pidfd);
	close(o->ipc);
	if (o->ring_fd >= 0)
		close(o->ring_fd);
}

static int watch_old(struct worker *w)
{
	int err = loop_add(w->all->loop, &w->on_exit, w->pidfd, EPOLLIN, worker_exited);

	return err ? err : loop_add(w->all->loop, &w->on_ipc, w->ipc, EPOLLIN, worker_ipc_event);
}

/* That of its gauge. One that lies about it has another: who is not watched could serve on for
 * ever, with all that it holds. */
static struct worker *place_for(struct workers *ws, uint32_t id)
{
	struct worker *w = id < WORKERS_MAX ? &ws->w[id] : NULL;

	return w && !w->ours && !w->old ? w : workers_free_place(ws);
}

int workers_adopt(struct workers *ws, const struct workers_old *o)
{
	struct worker *w = place_for(ws, o->id);
	int err;

	if (!w) {
		workers_old_close(o);
		return -ENOSPC;
	}
	w->old = w->ready = true;
	w->stranger = o->stranger;
	w->pid = o->pid;
	w->pidfd = o->pidfd;
	w->ipc = o->ipc;
	w->answered_ns = clock_mono_ns(); /* the loop's is old while we start */
	memcpy(w->name, o->name, sizeof(w->name));
	err = o->ring_fd < 0 ? 0 : adopt_ring(w, o->ring_fd);
	if (err)
		log_warn("the records of worker %u (pid %d) cannot be read: %s", w->id, (int)w->pid,
			 err == -EPROTO ? "it is of another version" : strerror(-err));
	err = watch_old(w);
	if (err)
		worker_give_up(w, "cannot be watched");
	return err;
}

static void retire(struct worker *w)
{
	uint32_t drain_ms = w->all->drain_ms;
	struct ipc_msg m = {.kind = IPC_DRAIN};

	m.drain.millis = drain_ms;
	m.drain.others = 1;
	w->retired = true;
	w->end_by_ns = clock_mono_ns() + drain_ms * 1000000ULL + LATE_NS;
	worker_tell(w, &m, NULL, 0);
}

uint32_t workers_old_ones(const struct workers *ws)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < WORKERS_MAX; i++)
		n += ws->w[i].old;
	return n;
}

void workers_make_room(struct workers *ws)
{
	uint32_t old = workers_old_ones(ws), room = WORKERS_MAX - old,
		 go = room ? 0 : (old + 1) / 2;

	if (go)
		log_warn("%u workers of before leave no place: %u of them drain first", old, go);
	for (uint32_t i = 0; i < WORKERS_MAX && go; i++)
		if (ws->w[i].old) {
			retire(&ws->w[i]);
			go--;
		}
}

void workers_retire(struct workers *ws)
{
	for (uint32_t i = 0; i < WORKERS_MAX; i++)
		if (ws->w[i].old && !ws->w[i].retired)
			retire(&ws->w[i]);
}

bool workers_all_ready(const struct workers *ws)
{
	bool any = false;

	for (uint32_t i = 0; i < WORKERS_MAX; i++) {
		if (ws->w[i].ours && !ws->w[i].ready)
			return false;
		any |= ws->w[i].ours;
	}
	return any;
}
