/* SPDX-License-Identifier: Apache-2.0 */
/* See startup.h. */
#include "ctl/meshd/startup.h"
#include "lib/addr.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <netinet/in.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* Neither Debian nor systemd gives 65520 to 65533 to any group. */
#define GROUP_OF_NO_USER 65533

__attribute__((format(printf, 4, 5))) static int fail(int err, char *why, size_t cap,
						      const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, cap, fmt, ap);
	va_end(ap);
	return err;
}

int startup_identity(const char *user, struct identity *id, char *why, size_t cap)
{
	const struct passwd *p;

	*id = (struct identity){.uid = geteuid(), .gid = getegid(), .file_gid = getegid()};
	if (id->uid != 0)
		return 0;
	p = getpwnam(user ? user : "mesh");
	if (!p && !user)
		p = getpwnam("nobody");
	if (!p)
		return fail(-ENOENT, why, cap,
			    "there is no user %s: make it (useradd --system %s) or choose another "
			    "with --user",
			    user ? user : "nobody", user ? user : "mesh");
	id->uid = p->pw_uid;
	id->gid = p->pw_gid;
	id->change = p->pw_uid != 0;
	id->file_gid = p->pw_gid;
	id->shared = !strcmp(p->pw_name, "nobody");
	if (id->shared) { /* neither this user nor its group is proof of anything */
		id->gid = GROUP_OF_NO_USER;
		id->file_gid = 0;
	}
	return 0;
}

static int make_dirs(const char *dir, mode_t mode)
{
	char path[4096];

	if ((size_t)snprintf(path, sizeof(path), "%s", dir) >= sizeof(path))
		return -ENAMETOOLONG;
	for (char *p = path + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		if (mkdir(path, 0755) < 0 && errno != EEXIST)
			return -errno;
		*p = '/';
	}
	return mkdir(path, mode) < 0 && errno != EEXIST ? -errno : 0;
}

/* Gives a file over that an earlier run, as another user, has left. Somebody else may own the
 * directory: a link to a file elsewhere is not followed. */
static int give_file(int dir, const char *name, const struct identity *id)
{
	int r = 0, fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	if (fstat(fd, &st) < 0)
		r = -errno;
	else if (!S_ISREG(st.st_mode) || st.st_nlink != 1)
		r = -EINVAL;
	else if (st.st_uid != id->uid && fchown(fd, id->uid, id->gid) < 0)
		r = -errno;
	close(fd);
	return r;
}

/* Those that an earlier meshd, of another user, has left. */
static int give_files(int dir, const struct identity *id)
{
	static const char *const databases[] = {"meshd.db", "telemetry.db", "traces.db"};
	static const char *const parts[] = {"", "-wal", "-shm", "-journal"};
	int r = give_file(dir, "spans.ring", id);
	char name[32];

	for (size_t i = 0; !r && i < sizeof(databases) / sizeof(*databases); i++)
		for (size_t k = 0; !r && k < sizeof(parts) / sizeof(*parts); k++) {
			snprintf(name, sizeof(name), "%s%s", databases[i], parts[k]);
			r = give_file(dir, name, id);
		}
	return r;
}

static int give_dir(int fd, const struct identity *id)
{
	if (fchown(fd, id->shared ? 0 : id->uid, id->gid) < 0 ||
	    (id->shared && fchmod(fd, 0770) < 0))
		return -errno;
	return 0;
}

int startup_state(const char *dir, const struct identity *id, char *why, size_t cap)
{
	int fd = -1, r = make_dirs(dir, 0750);

	if (!r && (fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		r = -errno;
	if (!r && id->change)
		r = give_dir(fd, id);
	if (!r && id->change)
		r = give_files(fd, id);
	if (fd >= 0)
		close(fd);
	return r ? fail(r, why, cap,
			"cannot use the state directory %s: %s; choose another with --state", dir,
			strerror(-r))
		 : 0;
}

int startup_tcp(const struct addr *at, char *why, size_t cap)
{
	struct sockaddr_storage ss;
	char text[ADDR_TEXT_MAX];
	const int on = 1;
	socklen_t len = addr_to_sockaddr(at, &ss);
	int fd, err;

	fd = socket(ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
	    bind(fd, (struct sockaddr *)&ss, len) == 0 && listen(fd, 128) == 0)
		return fd;
	err = -errno;
	if (fd >= 0)
		close(fd);
	return fail(err, why, cap, "cannot listen on %s: %s; %s", addr_format(at, text),
		    strerror(-err),
		    err == -EADDRINUSE ? "stop what listens there, or choose another with --listen"
				       : "choose another with --listen");
}

/* Does anybody answer on the socket file? */
static bool answers(const struct sockaddr_un *un)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool yes = fd >= 0 &&
		   (connect(fd, (const struct sockaddr *)un, sizeof(*un)) == 0 || errno == EAGAIN);

	if (fd >= 0)
		close(fd);
	return yes;
}

static int bind_unix(int fd, const struct sockaddr_un *un, const struct identity *id)
{
	mode_t before = umask(0117);
	int r = bind(fd, (const struct sockaddr *)un, sizeof(*un)) < 0 ? -errno : 0;

	umask(before);
	if (!r && id->change && lchown(un->sun_path, (uid_t)-1, id->file_gid) < 0)
		r = -errno;
	return r ? r : listen(fd, 128) < 0 ? -errno : 0;
}

int startup_unix(const char *path, const struct identity *id, char *why, size_t cap)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	char parent[sizeof(un.sun_path)];
	struct stat st;
	int fd, r = 0;

	if (strlen(path) >= sizeof(un.sun_path))
		return fail(-ENAMETOOLONG, why, cap, "the path given by --socket is too long: %s",
			    path);
	strcpy(un.sun_path, path);
	strcpy(parent, path);
	if (strrchr(parent, '/') > parent) {
		*strrchr(parent, '/') = '\0';
		r = make_dirs(parent, 0755);
	}
	if (!r && lstat(path, &st) == 0) {
		if (!S_ISSOCK(st.st_mode) || answers(&un))
			return fail(-EADDRINUSE, why, cap, "%s %s", path,
				    S_ISSOCK(st.st_mode) ? "belongs to a meshd that runs: stop it, "
							   "or choose another with --socket"
							 : "is not a socket: remove it, or choose "
							   "another with --socket");
		r = unlink(path) < 0 ? -errno : 0;
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (!r)
		r = fd < 0 ? -errno : bind_unix(fd, &un, id);
	if (!r)
		return fd;
	if (fd >= 0)
		close(fd);
	return fail(r, why, cap, "cannot make the socket %s: %s; choose another with --socket",
		    path, strerror(-r));
}

int startup_act_as(const struct identity *id, bool begin, char *why, size_t cap)
{
	umask(begin ? 0027 : 0022);
	if (!id->change)
		return 0;
	if (begin ? setgroups(1, &id->gid) < 0 || setresgid(id->gid, id->gid, id->gid) < 0 ||
			    seteuid(id->uid) < 0
		  : seteuid(0) < 0)
		return fail(-errno, why, cap, "cannot change to user %u and back: %s", id->uid,
			    strerror(errno));
	return 0;
}

int startup_drop(const struct identity *id, char *why, size_t cap)
{
	umask(0027);
	if (id->change && setresuid(id->uid, id->uid, id->uid) < 0)
		return fail(-errno, why, cap, "cannot become user %u: %s", id->uid,
			    strerror(errno));
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return fail(-errno, why, cap, "cannot give up new privileges: %s", strerror(errno));
	if (id->change && setuid(0) == 0)
		return fail(-EPERM, why, cap, "privileges came back after they were dropped");
	return 0;
}
