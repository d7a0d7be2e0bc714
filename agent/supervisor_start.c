/* SPDX-License-Identifier: Apache-2.0 */
/* What must hold before the agent touches anything. Every failure is one line: what is missing and
 * what to do. */
#include "agent/supervisor.h"

#include "lib/log.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOCK_TRIES    20
#define LOCK_RETRY_MS 25
#define LOCK_MODE     0600 /* whoever can open it, if only to read, can take the lock */
#define BACKLOG	      4096

static void ignore(uint64_t cookie, const struct mesh_listener *l, void *arg)
{
}

int start_check(const struct agent_config *cfg)
{
	struct kernel_check checks[KERNEL_CHECKS];
	size_t n = kernel_qualify(cfg->cgroup, checks);
	int err;

	for (size_t i = 0; i < n; i++)
		if (!checks[i].ok) {
			log_error("%s: %s; %s", checks[i].name, checks[i].missing,
				  checks[i].remedy);
			return -ENOTSUP;
		}
	err = sockdiag_listeners(-1, ignore, NULL);
	if (err && err != -EINTR) {
		log_error("socket list: the kernel does not say who listens (%s); it needs "
			  "CONFIG_INET_DIAG, or the module tcp_diag",
			  strerror(-err));
		return err;
	}
	return 0;
}

/* A child that a killed agent had just forked has the lock too, until it runs its first lines. */
static bool take_lock(int fd)
{
	for (int i = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; i++) {
		if (i == LOCK_TRIES)
			return false;
		poll(NULL, 0, LOCK_RETRY_MS);
	}
	return true;
}

/* flock() goes with the process, however it ends, so a stale file is harmless. */
int start_lock(const struct agent_config *cfg, const char *remedy, int *out)
{
	char path[4096], pid[16];
	int fd, n;

	if (mkdir(cfg->run_dir, 0755) < 0 && errno != EEXIST) {
		n = -errno;
		log_error("cannot make %s: %s; choose another --run-dir", cfg->run_dir,
			  strerror(errno));
		return n;
	}
	snprintf(path, sizeof(path), "%s/agent.lock", cfg->run_dir);
	fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, LOCK_MODE);
	if (fd < 0) {
		n = -errno;
		log_error("cannot open %s: %s; choose another --run-dir", path, strerror(errno));
		return n;
	}
	if (!take_lock(fd)) {
		n = (int)read(fd, pid, sizeof(pid) - 1);
		pid[n > 0 ? n : 0] = 0;
		pid[strcspn(pid, "\n")] = 0;
		log_error("another agent (pid %s) uses %s; %s", *pid ? pid : "unknown",
			  cfg->run_dir, remedy);
		close(fd);
		return -EBUSY;
	}
	if (fchmod(fd, LOCK_MODE) < 0) /* one of before may be for all to read */
		log_warn("cannot close %s to others: %s", path, strerror(errno));
	n = snprintf(pid, sizeof(pid), "%d\n", (int)getpid());
	if (ftruncate(fd, 0) < 0 || pwrite(fd, pid, (size_t)n, 0) != n)
		log_warn("cannot note the pid in %s: %s", path, strerror(errno));
	*out = fd;
	return 0;
}

/* /etc/passwd first: the modules of the name service stay in memory for good, so they are asked for
 * a user that was named explicitly only. */
static bool find_user(const char *name, bool everywhere, uint32_t *uid, uint32_t *gid)
{
	FILE *f = fopen("/etc/passwd", "re");
	const struct passwd *p = NULL;

	while (f && (p = fgetpwent(f)) && strcmp(p->pw_name, name))
		;
	if (!p && everywhere)
		p = getpwnam(name);
	if (p) {
		*uid = p->pw_uid;
		*gid = p->pw_gid;
	}
	if (f)
		fclose(f);
	return p != NULL;
}

int start_user(const struct agent_config *cfg, uint32_t *uid, uint32_t *gid)
{
	const char *name = cfg->user;
	bool found;

	if (name) {
		found = find_user(name, true, uid, gid);
	} else {
		name = "mesh, nor nobody";
		found = find_user("mesh", false, uid, gid) || find_user("nobody", false, uid, gid);
	}
	if (!found) {
		log_error("no user %s for the workers; create it or choose another --user", name);
		return -ENOENT;
	}
	if (!*uid) {
		log_error("workers must not run as root; choose another --user");
		return -EINVAL;
	}
	return 0;
}

static int set(int fd, int option, int value)
{
	return setsockopt(fd, SOL_SOCKET, option, &value, sizeof(value));
}

/* Who has once shared a port shares it on: the kernel keeps a note of it, and lets the next socket
 * with SO_REUSEPORT in without a look at the others. A bind() without it ends that; TCP_REPAIR has
 * it succeed where somebody listens. */
static int share_no_more(int fd, const struct sockaddr_storage *at, socklen_t len)
{
	int other, on = 1;

	if (set(fd, SO_REUSEPORT, 0) < 0)
		return -errno;
	other = socket(at->ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (other < 0 || setsockopt(other, IPPROTO_TCP, TCP_REPAIR, &on, sizeof(on)) < 0 ||
	    bind(other, (const struct sockaddr *)at, len) < 0)
		log_warn("processes of this user may listen beside the gateway: %s",
			 strerror(errno));
	if (other >= 0)
		close(other);
	return 0;
}

int start_listen(const struct addr *a, bool shared, int *out)
{
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(a, &ss);
	int err = 0, fd = socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 || set(fd, SO_REUSEADDR, 1) < 0 || (shared && set(fd, SO_REUSEPORT, 1) < 0) ||
	    bind(fd, (struct sockaddr *)&ss, len) < 0 || listen(fd, BACKLOG) < 0)
		err = -errno;
	if (!err && shared)
		err = share_no_more(fd, &ss, len);
	if (!err)
		*out = fd;
	else if (fd >= 0)
		close(fd);
	return err;
}

int start_listener(const char *what, const char *flag, const struct addr *a, int *out)
{
	char text[ADDR_TEXT_MAX];
	int err = start_listen(a, false, out);

	if (err)
		log_error("cannot listen on %s for the %s: %s; free it or choose another %s",
			  addr_format(a, text), what, strerror(-err), flag);
	return err;
}
