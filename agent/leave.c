/* SPDX-License-Identifier: Apache-2.0 */
/* See leave.h. */
#include "agent/leave.h"
#include "agent/ipc.h"
#include "lib/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#define NAME			  "agent.sock"

#define container(p, type, field) ((type *)((char *)(p)-offsetof(type, field)))

static int close_error(int fd)
{
	int err = -errno;

	close(fd);
	return err;
}

/* By way of a descriptor of the directory: a sockaddr_un has little room. */
static int address(const char *run_dir, struct sockaddr_un *sa, int *dir)
{
	*sa = (struct sockaddr_un){.sun_family = AF_UNIX};
	*dir = open(run_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (*dir < 0)
		return -errno;
	snprintf(sa->sun_path, sizeof(sa->sun_path), "/proc/self/fd/%d/" NAME, *dir);
	return 0;
}

static int make_socket(void)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	return fd < 0 ? -errno : fd;
}

static bool is_ours(int fd, pid_t *pid)
{
	struct ucred who;
	socklen_t len = sizeof(who);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) < 0 || who.uid != geteuid())
		return false;
	if (pid)
		*pid = who.pid;
	return true;
}

/* --- who is asked --- */

static void hang_up(struct leave *l)
{
	loop_del(l->loop, &l->on_word);
	if (l->peer >= 0)
		close(l->peer);
	l->peer = -1;
}

static void answer(struct leave *l)
{
	struct ipc_msg m = {.kind = IPC_STAYING};
	int fd = -1;
	bool leaving = l->asked(l->arg, &fd);

	m.kind = leaving ? IPC_LEAVING : IPC_STAYING;
	/* who cannot be told notices that we end */
	if (ipc_send(l->peer, &m, &fd, leaving && fd >= 0 ? 1 : 0) || !leaving)
		hang_up(l);
}

static void on_word(struct watch *w, uint32_t events)
{
	struct leave *l = container(w, struct leave, on_word);
	int fds[IPC_MAX_FDS], r;
	struct ipc_msg m;
	size_t n;

	r = ipc_recv(l->peer, &m, fds, &n);
	if (!r)
		return;
	while (r > 0 && n)
		close(fds[--n]);
	if (r > 0 && m.kind == IPC_LEAVE)
		answer(l);
	else
		hang_up(l);
}

/* One at a time, the latest. */
static void on_call(struct watch *w, uint32_t events)
{
	struct leave *l = container(w, struct leave, on_call);
	int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0)
		return;
	if (!is_ours(fd, NULL)) {
		close(fd);
		return;
	}
	hang_up(l);
	l->peer = fd;
	if (loop_add(l->loop, &l->on_word, fd, EPOLLIN, on_word))
		hang_up(l);
}

static int listen_at(const char *run_dir)
{
	struct sockaddr_un sa;
	int dir, err = address(run_dir, &sa, &dir), fd;

	if (err)
		return err;
	unlinkat(dir, NAME, 0); /* usually it is not there */
	fd = make_socket();
	if (fd >= 0 && (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 ||
			chmod(sa.sun_path, 0600) < 0 || listen(fd, 4) < 0))
		fd = close_error(fd);
	close(dir);
	return fd;
}

int leave_init(struct leave *l, const char *run_dir)
{
	l->on_call.fd = l->on_word.fd = l->peer = -1;
	l->fd = listen_at(run_dir);
	return l->fd < 0 ? l->fd : loop_add(l->loop, &l->on_call, l->fd, EPOLLIN, on_call);
}

void leave_done(struct leave *l)
{
	if (!l->loop)
		return;
	hang_up(l);
	loop_del(l->loop, &l->on_call);
	if (l->fd >= 0)
		close(l->fd);
	l->fd = -1;
	l->loop = NULL;
}

void leave_remove(const char *run_dir)
{
	struct sockaddr_un sa;
	int dir;

	if (address(run_dir, &sa, &dir))
		return;
	unlinkat(dir, NAME, 0); /* it may never have come to be */
	close(dir);
}

/* --- who asks --- */

/* Until something can be read there, or until_ms. */
static int wait_for(int fd, uint64_t until_ms)
{
	for (;;) {
		uint64_t now_ms = clock_mono_ns() / 1000000;
		struct pollfd p = {.fd = fd, .events = POLLIN};
		int n = poll(&p, 1, now_ms < until_ms ? (int)(until_ms - now_ms) : 0);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0)
			return 0;
		if (now_ms >= until_ms)
			return -ETIMEDOUT;
	}
}

static int call(const char *run_dir)
{
	struct sockaddr_un sa;
	int dir, err = address(run_dir, &sa, &dir), fd;

	if (err)
		return err;
	fd = make_socket();
	if (fd >= 0 && connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		fd = close_error(fd);
	close(dir);
	return fd == -ECONNREFUSED ? -ENOENT : fd;
}

static int hear(int fd, uint64_t until_ms, int *given)
{
	int fds[IPC_MAX_FDS], r = wait_for(fd, until_ms);
	struct ipc_msg m;
	size_t n = 0;

	if (!r)
		r = ipc_recv(fd, &m, fds, &n);
	if (r <= 0)
		return r ? r : -ETIMEDOUT;
	if (m.kind == IPC_LEAVING && n)
		*given = fds[--n];
	while (n)
		close(fds[--n]);
	return m.kind == IPC_LEAVING ? 0 : m.kind == IPC_STAYING ? -EBUSY : -EPROTO;
}

/* Its locks and ports are free when the process has ended, not before. */
static int talk(int fd, int pidfd, uint64_t until_ms, int *given)
{
	const struct ipc_msg m = {.kind = IPC_LEAVE};
	int r = ipc_send(fd, &m, NULL, 0);

	if (!r)
		r = hear(fd, until_ms, given);
	if (r == -EPIPE) /* it has just ended by itself */
		r = 0;
	return r ? r : wait_for(pidfd, until_ms);
}

int leave_ask(const char *run_dir, int wait_ms, int *given)
{
	uint64_t until_ms = clock_mono_ns() / 1000000 + (uint64_t)wait_ms;
	int fd = call(run_dir), pidfd, r;
	pid_t pid;

	*given = -1;
	if (fd < 0)
		return fd;
	if (!is_ours(fd, &pid)) {
		close(fd);
		return -EPERM;
	}
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	r = pidfd >= 0 ? talk(fd, pidfd, until_ms, given) : errno == ESRCH ? 0 : -errno;
	if (pidfd >= 0)
		close(pidfd);
	close(fd);
	if (r && *given >= 0) {
		close(*given);
		*given = -1;
	}
	return r;
}
