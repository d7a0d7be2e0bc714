/* SPDX-License-Identifier: Apache-2.0 */
/* See qualify_sandbox.h. */
#include "agent/kernel/qualify_sandbox.h"
#include "agent/kernel/qualify_netns.h"
#include "agent/kernel/qualify_rig.h"
#include "lib/clock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PREFIX	 "mesh-trials-"
#define RMDIR_MS 1000 /* a cgroup is busy for a moment after its last process was waited for */

struct sandbox {
	char dir[PATH_MAX];
	pid_t pid; /* 0: waited for */
	int fd;	   /* the result's pipe */
	size_t got;
	struct qualify_result result;
};

/* --- in the child --- */

/* What fails on plain TCP too says something about the trial or the host, nothing about splice. */
static enum trial_outcome judge(struct rig *rig, const struct trial *t, const struct trial_env *env,
				enum mesh_splice_mode mode, char why[TRIAL_WHY_MAX])
{
	enum trial_outcome o = trial_run(t, env, why);
	struct trial_env plain = *env;
	char same[TRIAL_WHY_MAX];

	if (o != TRIAL_FAILED)
		return o;
	plain.steer = NULL;
	if (rig_mode(rig, MESH_SPLICE_OFF, 0) || trial_run(t, &plain, same) == TRIAL_PASSED ||
	    rig_mode(rig, mode, 0))
		return TRIAL_FAILED;
	snprintf(why, TRIAL_WHY_MAX, "it fails on plain TCP too");
	return TRIAL_SKIPPED;
}

/* Of redirect alone the first failure is enough: there is another mode to be tried. */
static void run_battery(struct rig *rig, const struct trial_env *env, enum mesh_splice_mode mode,
			struct qualify_result *q)
{
	for (size_t i = 0; i < trials_count && clock_mono_ns() < env->deadline_ns; i++) {
		enum trial_outcome o;

		if (rig_mode(rig, mode, 0)) { /* the verdict needs Linux 6.2 */
			snprintf(q->why[mode][i], TRIAL_WHY_MAX,
				 "this kernel does not take its program");
			q->outcome[mode][i] = TRIAL_FAILED;
			return;
		}
		o = judge(rig, &trials[i], env, mode, q->why[mode][i]);
		q->outcome[mode][i] = (uint8_t)o;
		if (o == TRIAL_FAILED && !trials[i].whom && mode == MESH_SPLICE_REDIRECT)
			return;
	}
}

static void run_trials(int cgroup_fd, unsigned budget_ms, struct qualify_result *q)
{
	struct trial_env env = {.netns = {-1, -1}};
	char error[RIG_ERROR_MAX];
	struct rig *rig;
	int err = qualify_netns(&env);

	if (err) {
		snprintf(q->error, sizeof(q->error), "no network namespace for the trials: %s",
			 strerror(-err));
		return;
	}
	env.plain_queue = trial_plain_queue();
	if (rig_open(cgroup_fd, &rig, error)) {
		snprintf(q->error, sizeof(q->error), "%.150s", error);
		return;
	}
	env.steer = rig_steer;
	env.arg = rig;
	env.deadline_ns = clock_mono_ns() + budget_ms * 1000000ull;
	run_battery(rig, &env, MESH_SPLICE_REDIRECT, q);
	run_battery(rig, &env, MESH_SPLICE_VERDICT, q);
	q->done = clock_mono_ns() < env.deadline_ns;
	rig_close(&rig);
}

static int enter(int cgroup_fd)
{
	int fd = openat(cgroup_fd, "cgroup.procs", O_WRONLY | O_CLOEXEC), err = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, "0", 1) != 1)
		err = -errno;
	close(fd);
	return err;
}

static void close_all_but(unsigned a, unsigned b)
{
	unsigned low = a < b ? a : b, high = a < b ? b : a;

	if (low > 3)
		close_range(3, low - 1, 0);
	if (high > low + 1)
		close_range(low + 1, high - 1, 0);
	close_range(high + 1, ~0u, 0);
}

/* Nothing of the parent's is of use here; its lock and its listeners must not outlive it. */
static void leave_the_parent(int out, int cgroup_fd, pid_t parent)
{
	sigset_t none;

	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		_exit(1);
	prctl(PR_SET_NAME, "mesh-trials");
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	close_all_but((unsigned)out, (unsigned)cgroup_fd);
}

static void child(int out, int cgroup_fd, pid_t parent, unsigned budget_ms)
{
	static struct qualify_result q;
	uint64_t start = clock_mono_ns();
	const char *at = (const char *)&q;
	size_t left = sizeof(q);
	int err;

	leave_the_parent(out, cgroup_fd, parent);
	err = enter(cgroup_fd);
	if (err)
		snprintf(q.error, sizeof(q.error), "cannot enter the cgroup of the trials: %s",
			 strerror(-err));
	else
		run_trials(cgroup_fd, budget_ms, &q);
	q.ms = (uint32_t)((clock_mono_ns() - start) / 1000000);
	while (left) {
		ssize_t n = write(out, at, left);

		if (n < 0 && errno != EINTR)
			_exit(1);
		at += n > 0 ? n : 0;
		left -= n > 0 ? (size_t)n : 0;
	}
	_exit(0);
}

/* --- in the parent --- */

/* Only what is empty goes: of a live one, and of the processes of a dead one that still end, not.
 */
static void sweep(const char *cgroup)
{
	DIR *d = opendir(cgroup);
	struct dirent *e;

	while (d && (e = readdir(d)))
		if (!strncmp(e->d_name, PREFIX, strlen(PREFIX)))
			unlinkat(dirfd(d), e->d_name, AT_REMOVEDIR);
	if (d)
		closedir(d);
}

static int spawn(struct sandbox *s, int cgroup_fd, unsigned budget_ms)
{
	pid_t parent = getpid();
	int p[2];

	if (pipe2(p, O_CLOEXEC) < 0)
		return -errno;
	if (fcntl(p[0], F_SETFL, O_NONBLOCK) < 0 || (s->pid = fork()) < 0) {
		int err = -errno;

		s->pid = 0;
		close(p[0]);
		close(p[1]);
		return err;
	}
	if (!s->pid)
		child(p[1], cgroup_fd, parent, budget_ms);
	close(p[1]);
	s->fd = p[0];
	return 0;
}

int sandbox_start(const char *cgroup, unsigned budget_ms, struct sandbox **out)
{
	struct sandbox *s = calloc(1, sizeof(*s));
	int cgroup_fd, err;

	if (!s)
		return -ENOMEM;
	s->fd = -1;
	sweep(cgroup);
	snprintf(s->dir, sizeof(s->dir), "%.4000s/" PREFIX "%d", cgroup, (int)getpid());
	if (mkdir(s->dir, 0755) < 0 && errno != EEXIST) {
		err = -errno;
		free(s);
		return err;
	}
	cgroup_fd = open(s->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	err = cgroup_fd < 0 ? -errno : spawn(s, cgroup_fd, budget_ms);
	if (cgroup_fd >= 0)
		close(cgroup_fd);
	if (err)
		sandbox_free(&s);
	else
		*out = s;
	return err;
}

int sandbox_fd(const struct sandbox *s)
{
	return s->fd;
}

int sandbox_take(struct sandbox *s, struct qualify_result *q)
{
	while (s->got < sizeof(s->result)) {
		ssize_t n = read(s->fd, (char *)&s->result + s->got, sizeof(s->result) - s->got);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n <= 0) {
			memset(&s->result, 0, sizeof(s->result));
			snprintf(s->result.error, sizeof(s->result.error),
				 "the process of the trials died");
			break;
		}
		s->got += (size_t)n;
	}
	*q = s->result;
	return 1;
}

static void remove_dir(const char *dir)
{
	const struct timespec pause = {.tv_nsec = 1000000};
	uint64_t end = clock_mono_ns() + RMDIR_MS * 1000000ull;

	while (rmdir(dir) < 0 && errno == EBUSY && clock_mono_ns() < end)
		nanosleep(&pause, NULL);
}

void sandbox_free(struct sandbox **sp)
{
	struct sandbox *s = *sp;

	if (!s)
		return;
	if (s->pid) {
		kill(s->pid, SIGKILL);
		while (waitpid(s->pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	if (s->fd >= 0)
		close(s->fd);
	remove_dir(s->dir);
	free(s);
	*sp = NULL;
}
