/* SPDX-License-Identifier: Apache-2.0 */
/* See rendezvous.h. Both ends; knows nothing of what is said. */
#include "agent/rendezvous.h"
#include "agent/ipc.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#define CALLS_WAITING 4

static int close_error(int fd)
{
	int err = -errno;

	close(fd);
	return err;
}

int rendezvous_open(const char *run_dir)
{
	char path[4096];
	struct stat st;
	int fd;

	if (snprintf(path, sizeof(path), "%s/" RENDEZVOUS_DIR, run_dir) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return -errno;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		return close_error(fd);
	if (st.st_uid == geteuid() && !(st.st_mode & 077))
		return fd;
	close(fd);
	return -EPERM;
}

void rendezvous_name(uint64_t instance, char out[RENDEZVOUS_NAME_MAX])
{
	snprintf(out, RENDEZVOUS_NAME_MAX, "%016llx", (unsigned long long)instance);
}

/* By way of the directory's descriptor: a path in a sockaddr_un has little room. */
static int address(int dir, const char *name, struct sockaddr_un *sa)
{
	*sa = (struct sockaddr_un){.sun_family = AF_UNIX};
	return snprintf(sa->sun_path, sizeof(sa->sun_path), "/proc/self/fd/%d/%s", dir, name) <
			       (int)sizeof(sa->sun_path)
		       ? 0
		       : -ENAMETOOLONG;
}

int rendezvous_bind(int dir, const char *name)
{
	struct sockaddr_un sa;
	int err = address(dir, name, &sa), fd;

	if (err)
		return err;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	return bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 ? close_error(fd) : fd;
}

void rendezvous_remove(int dir, const char *name)
{
	unlinkat(dir, name, 0); /* it may never have come to be */
}

/* The process that listens: by the time somebody is heard of on fd it is known to have lived when
 * its pid was looked up, so that this is no other process that got the number. */
static int find_process(int fd, int *pidfd)
{
	struct ucred who;
	socklen_t len = sizeof(who);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) < 0)
		return -errno;
	*pidfd = (int)syscall(SYS_pidfd_open, who.pid, 0);
	return *pidfd < 0 ? -errno : 0;
}

int rendezvous_dial(int dir, const char *name, int *pidfd)
{
	struct sockaddr_un sa;
	int err = address(dir, name, &sa), fd, none = 0;

	if (err)
		return err;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	/* as in spawn(): not known before Linux 6.16 */
	(void)setsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &none, sizeof(none));
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		return close_error(fd);
	err = find_process(fd, pidfd);
	if (!err)
		return fd;
	close(fd);
	return err == -ESRCH ? -ECONNREFUSED : err;
}

void rendezvous_sweep(const char *run_dir)
{
	int dir = rendezvous_open(run_dir), copy = dir < 0 ? -1 : dup(dir), fd, pidfd;
	DIR *d = copy < 0 ? NULL : fdopendir(copy);
	struct dirent *e;

	while (d && (e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		fd = rendezvous_dial(dir, e->d_name, &pidfd);
		if (fd == -ECONNREFUSED)
			rendezvous_remove(dir, e->d_name);
		if (fd < 0)
			continue;
		close(fd);
		close(pidfd);
	}
	if (d)
		closedir(d);
	else if (copy >= 0)
		close(copy);
	if (dir < 0)
		return;
	unlinkat(dir, "../" RENDEZVOUS_DIR, AT_REMOVEDIR); /* not while there is one in it */
	close(dir);
}

int rendezvous_take(int pidfd, int fd)
{
	int copy = (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0); /* close-on-exec */

	return copy < 0 ? -errno : copy;
}

int rendezvous_listen(int fd)
{
	return listen(fd, CALLS_WAITING) < 0 ? -errno : 0;
}

static int is_from(int fd, uid_t uid)
{
	struct ucred who;
	socklen_t len = sizeof(who);

	return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) && who.uid == uid;
}

int rendezvous_accept(int fd, uid_t uid)
{
	for (;;) {
		int peer = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (peer < 0 && errno == EINTR)
			continue;
		if (peer < 0)
			return errno == EWOULDBLOCK ? -EAGAIN : -errno;
		if (is_from(peer, uid))
			return peer;
		close(peer);
	}
}
