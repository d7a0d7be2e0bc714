/* SPDX-License-Identifier: Apache-2.0 */
/* Cgroups of instances, for `run`. Touches nothing above ROOT/mesh. */
#include "ctl/meshctl/run_cgroup.h"
#include "lib/cgroup.h"
#include "lib/clock.h"
#include "lib/name.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define EMPTY_WITHIN_MS 5000
#define CREATE_TRIES	1000

static int make_dir(const char *path)
{
	return mkdir(path, 0755) && errno != EEXIST ? -errno : 0;
}

/* Is the directory that we locked still the one at the path? Its owner may have removed it in
 * between. */
static bool still_there(int fd, const char *path)
{
	struct stat mine, now;

	return !fstat(fd, &mine) && !stat(path, &now) && mine.st_ino == now.st_ino;
}

/* "populated 1" in cgroup.events: a process lives in the cgroup or below it. 1, 0 or -errno. */
static int populated(int dir)
{
	char text[256];
	int fd = openat(dir, "cgroup.events", O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n < 0)
		return -EIO;
	text[n] = '\0';
	return strstr(text, "populated 1") != NULL;
}

/* Removes the cgroups below `dir`; the kernel's own files go with their directory. */
static void remove_below(int dir)
{
	DIR *d;
	struct dirent *e;
	int copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (copy < 0)
		return;
	d = fdopendir(copy);
	if (!d) {
		close(copy);
		return;
	}
	while ((e = readdir(d))) {
		int child;

		if (e->d_type != DT_DIR || !strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		child = openat(dir, e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (child < 0)
			continue;
		remove_below(child);
		close(child);
		unlinkat(dir, e->d_name, AT_REMOVEDIR);
	}
	closedir(d);
}

/* One step: makes the directory, or takes over one that nobody owns. 0, 1: taken, to be tried
 * again, or -errno. */
static int claim(struct run_cgroup *w)
{
	bool made;
	int rc;

	made = !mkdir(w->path, 0755);
	if (!made && errno != EEXIST)
		return -errno;
	w->fd = open(w->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (w->fd < 0)
		return errno == ENOENT ? 1 : -errno;
	rc = flock(w->fd, LOCK_EX | LOCK_NB) ? -errno : 0;
	if (rc == -EWOULDBLOCK)
		rc = -EBUSY;
	else if (!rc && !still_there(w->fd, w->path))
		rc = 1;
	else if (!rc && populated(w->fd) > 0)
		rc = -EBUSY;
	else if (!rc && !made) { /* a leftover: a new directory tells the agent that this is another
				    instance */
		remove_below(w->fd);
		rc = rmdir(w->path) && errno != ENOENT ? -errno : 1;
	}
	if (rc) {
		close(w->fd);
		w->fd = -1;
	}
	return rc;
}

bool run_cgroup_name_valid(const char *name)
{
	return name_valid(name) && strncmp(name, "cgroup.", 7);
}

int run_cgroup_create(struct run_cgroup *w, const char *root, const char *service,
		      const char *instance)
{
	char mesh[PATH_MAX], parent[PATH_MAX];
	uint64_t id;
	int rc = 1;

	w->fd = -1;
	w->path[0] = '\0';
	if (cgroup_id(root, &id))
		return -EINVAL;
	w->root_len = strlen(root);
	while (w->root_len > 1 && root[w->root_len - 1] == '/')
		w->root_len--;
	if (snprintf(mesh, sizeof(mesh), "%.*s/mesh", (int)w->root_len, root) >= PATH_MAX ||
	    snprintf(parent, sizeof(parent), "%s/%s", mesh, service) >= PATH_MAX ||
	    snprintf(w->path, sizeof(w->path), "%s/%s", parent, instance) >= PATH_MAX)
		return -ENAMETOOLONG;
	w->parent_len = strlen(parent);
	/* Another instance's end may remove the empty parents between our steps: once more then. */
	for (int i = 0; i < CREATE_TRIES && (rc == 1 || rc == -ENOENT || rc == -ENODEV); i++) {
		rc = make_dir(mesh);
		if (!rc)
			rc = make_dir(parent);
		if (!rc)
			rc = claim(w);
	}
	if (rc)
		w->path[0] = '\0';
	return rc == 1 ? -EBUSY : rc;
}

/* Before 5.14 there is no cgroup.kill: process by process then. */
static void kill_each(int dir)
{
	FILE *f;
	int fd = openat(dir, "cgroup.procs", O_RDONLY | O_CLOEXEC), pid;

	if (fd < 0)
		return;
	f = fdopen(fd, "r");
	if (!f) {
		close(fd);
		return;
	}
	while (fscanf(f, "%d", &pid) == 1)
		if (pid > 0)
			kill(pid, SIGKILL);
	fclose(f);
}

static void kill_all(int dir)
{
	int fd = openat(dir, "cgroup.kill", O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, "1", 1) != 1)
		kill_each(dir);
	if (fd >= 0)
		close(fd);
}

static int wait_empty(int dir)
{
	uint64_t until = clock_mono_ns() + EMPTY_WITHIN_MS * 1000000ull;
	int fd = openat(dir, "cgroup.events", O_RDONLY | O_CLOEXEC), live = 1;
	struct pollfd p = {.fd = fd, .events = POLLPRI};

	while ((live = populated(dir)) > 0 && clock_mono_ns() < until) {
		kill_all(dir); /* again: a fork may have been under way */
		poll(&p, fd >= 0, 20);
	}
	if (fd >= 0)
		close(fd);
	return live > 0 ? -EBUSY : 0;
}

int run_cgroup_say(const struct run_cgroup *w)
{
	static const char *const names[] = {"MESH_SERVICE", "MESH_VERSION", "MESH_PORT",
					    "MESH_PROTOCOL", "MESH_WEIGHT"};
	char text[CGROUP_SAID_MAX];
	size_t len = 0;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const char *value = getenv(names[i]);

		if (value)
			len += (size_t)snprintf(text + len, sizeof(text) - len, "%s=%s", names[i],
						value) +
			       1;
		if (len > sizeof(text))
			return -ENAMETOOLONG;
	}
	return setxattr(w->path, CGROUP_SAID, text, len, 0) ? -errno : 0;
}

int run_cgroup_destroy(struct run_cgroup *w)
{
	int rc;

	if (!w->path[0])
		return 0;
	rc = wait_empty(w->fd);
	if (!rc) {
		remove_below(w->fd);
		rc = rmdir(w->path) && errno != ENOENT ? -errno : 0;
	}
	if (!rc) { /* only empty ones go, and nobody minds if they stay */
		w->path[w->parent_len] = '\0';
		rmdir(w->path);
		strcpy(w->path + w->root_len, "/mesh");
		rmdir(w->path);
	}
	close(w->fd);
	w->fd = -1;
	w->path[0] = '\0';
	return rc;
}

bool run_cgroup_inside(const char *service, const char *instance)
{
	char line[PATH_MAX + 16], tail[2 * NAME_LEN_MAX + 16];
	FILE *f = fopen("/proc/self/cgroup", "re");
	bool inside = false;

	if (!f)
		return false;
	snprintf(tail, sizeof(tail), "/mesh/%s/%s", service, instance);
	while (!inside && fgets(line, sizeof(line), f)) {
		const char *at = strncmp(line, "0::", 3) ? NULL : strstr(line, tail);

		inside = at && strchr("/\n", at[strlen(tail)]);
	}
	fclose(f);
	return inside;
}

static bool marked(const char *path)
{
	char value[64];

	return getxattr(path, RUN_READY_ATTR, value, sizeof(value)) > 0;
}

int run_cgroup_wait_ready(const char *path, unsigned timeout_ms)
{
	uint64_t now = clock_mono_ns(), until = now + timeout_ms * 1000000ull;
	char events[4096];
	int fd, rc = 0;

	fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (fd < 0)
		return -errno;
	if (inotify_add_watch(fd, path, IN_ATTRIB) < 0)
		rc = -errno;
	while (!rc && !marked(path)) {
		struct pollfd p = {.fd = fd, .events = POLLIN};

		now = clock_mono_ns();
		if (now >= until) {
			rc = -ETIMEDOUT;
			break;
		}
		if (poll(&p, 1, (until - now) / 1000000 + 1) < 0 && errno != EINTR)
			rc = -errno;
		while (read(fd, events, sizeof(events)) > 0)
			; /* only the wake-up counts */
	}
	close(fd);
	return rc;
}
