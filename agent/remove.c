/* SPDX-License-Identifier: Apache-2.0 */
/* See remove.h. In the order in which nobody loses anything: capture, workers, programs, marks. */
#include "agent/remove.h"

#include "agent/rendezvous.h"
#include "lib/cgroup.h"
#include "lib/clock.h"
#include "lib/log.h"

#include <errno.h>
#include <ftw.h>
#include <linux/limits.h>
#include <poll.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#define FIND_WAIT_MS 5000
#define DRAIN_MS     600000 /* what runs through workers may take so long */
#define WAIT_MS	     15000  /* and is waited for so long */
#define WALK_FDS     16

struct removal {
	const struct agent_config *cfg;
	struct takeover takeover;
	uint32_t workers, left; /* found; still at it */
	int error;
};

static void tell_to_drain(const struct workers_old *o)
{
	struct ipc_msg m = {.kind = IPC_DRAIN};
	int err;

	m.drain.millis = DRAIN_MS;
	m.drain.others = 1; /* callers that keep a connection are told with their next answer */
	err = ipc_send(o->ipc, &m, NULL, 0);
	if (err)
		log_error("worker %u (pid %d) cannot be told to end: %s", o->id, (int)o->pid,
			  strerror(-err));
}

static bool has_ended(const struct workers_old *o, int wait_ms)
{
	struct pollfd p = {.fd = o->pidfd, .events = POLLIN};

	return poll(&p, 1, wait_ms < 0 ? 0 : wait_ms) == 1;
}

static void end_workers(void *arg)
{
	struct removal *r = arg;
	struct takeover *t = &r->takeover;
	int64_t until;

	poll(NULL, 0, KERNEL_PASSED_HOOK_MS);
	for (uint32_t i = 0; i < t->nold; i++)
		tell_to_drain(&t->old[i]);
	r->workers = t->nold;
	until = (int64_t)(clock_mono_ns() / 1000000) + WAIT_MS;
	for (; t->nold; t->nold--) {
		struct workers_old *o = &t->old[t->nold - 1];

		if (!has_ended(o, (int)(until - (int64_t)(clock_mono_ns() / 1000000)))) {
			log_warn("worker %u (pid %d) goes on with connections that are open, and "
				 "ends "
				 "with them, in %d minutes at the latest",
				 o->id, (int)o->pid, DRAIN_MS / 60000);
			r->left++;
		}
		workers_old_close(o);
	}
	takeover_done(t);
}

/* Before anything is touched: what a worker holds is looked at, its listeners are closed again: who
 * calls there when it has closed them is refused, and does not wait for us. */
static int find_workers(struct removal *r)
{
	int dir = rendezvous_open(r->cfg->run_dir), err;

	if (dir < 0)
		return dir;
	err = takeover_find(&r->takeover, dir, FIND_WAIT_MS);
	takeover_forget(&r->takeover);
	close(dir);
	return err;
}

static int unmark(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	if (type == FTW_D && removexattr(path, DISCOVERY_MARK) < 0 && errno != ENODATA &&
	    errno != ENOENT)
		log_warn("cannot remove the mark of %s: %s", path, strerror(errno));
	return 0;
}

static void remove_marks(const struct agent_config *cfg)
{
	char root[PATH_MAX];

	if (!cfg->cgroup && cgroup_root(root, sizeof(root)))
		return;
	nftw(cfg->cgroup ? cfg->cgroup : root, unmark, WALK_FDS, FTW_PHYS | FTW_MOUNT);
}

static void say(const struct removal *r, int err, uint32_t spliced)
{
	if (err == -ENOENT && !r->workers) {
		log_info("nothing of the mesh is in the kernel");
		return;
	}
	log_info("removed: the programs, the maps, %u of %u workers", r->workers - r->left,
		 r->workers);
	if (spliced)
		log_info("%u connections on this host were set up to skip TCP: they use TCP from "
			 "now "
			 "on, and the kernel keeps their programs and maps until they close",
			 spliced);
}

int remove_run(const struct agent_config *cfg)
{
	static struct removal r;
	char error[KERNEL_ERROR_MAX];
	uint32_t spliced;
	int lock, err = start_lock(cfg, "stop it: it takes everything along", &lock);

	if (err)
		return 1;
	r.cfg = cfg;
	err = find_workers(&r);
	if (err) {
		log_error("cannot look for workers in %s: %s", cfg->run_dir, strerror(-err));
		close(lock);
		return 1;
	}
	err = kernel_remove(NULL, end_workers, &r, &spliced, error);
	remove_marks(cfg);
	rendezvous_sweep(cfg->run_dir);
	leave_remove(cfg->run_dir);
	if (err && err != -ENOENT)
		log_error("%s", error);
	else
		say(&r, err, spliced);
	close(lock);
	return err && err != -ENOENT;
}
