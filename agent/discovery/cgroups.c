/* SPDX-License-Identifier: Apache-2.0 */
/* See cgroups.h. */
#include "agent/discovery/cgroups.h"

#include "lib/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define DIR_EVENTS (IN_CREATE | IN_DELETE | IN_ONLYDIR)

static int at(struct cgroups *t, const struct cgroup *c, const char *file, char *out)
{
	int n = snprintf(out, PATH_MAX, "/proc/self/fd/%d%s%s%s", t->root_fd, c->path,
			 file ? "/" : "", file ? file : "");

	return n >= PATH_MAX ? -ENAMETOOLONG : 0;
}

static int open_at(struct cgroups *t, const struct cgroup *c, const char *file)
{
	char path[PATH_MAX];
	int fd;

	if (at(t, c, file, path))
		return -ENAMETOOLONG;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static void out_of_watches(struct cgroups *t)
{
	t->no_watches = true;
	if (!t->said_so)
		log_warn("no inotify watches left: cgroups are polled; raise "
			 "fs.inotify.max_user_watches");
	t->said_so = true;
}

static int watch_path(struct cgroups *t, const struct cgroup *c, const char *file, uint32_t events)
{
	char path[PATH_MAX];
	int wd;

	if (at(t, c, file, path))
		return -1;
	wd = inotify_add_watch(t->inotify, path, events);
	if (wd < 0 && (errno == ENOSPC || errno == ENOMEM))
		out_of_watches(t);
	return wd;
}

static bool read_populated(struct cgroups *t, const struct cgroup *c)
{
	char buf[128];
	int fd = open_at(t, c, "cgroup.events");
	ssize_t n;

	if (fd < 0)
		return !*c->path; /* the real root of the hierarchy has no such file */
	n = read(fd, buf, sizeof(buf) - 1);
	close(fd);
	buf[n > 0 ? n : 0] = 0;
	return strstr(buf, "populated 1") != NULL;
}

static void scan_children(struct cgroups *t, struct cgroup *c);

static void index_add(struct cgroups *t, struct cgroup *c)
{
	struct cgroup **b = &t->by_id[c->id % CGROUPS_BUCKETS];

	c->next_id = *b;
	*b = c;
	if (c->wd_dir >= 0) {
		b = &t->by_dir[c->wd_dir % CGROUPS_BUCKETS];
		c->next_wd_dir = *b;
		*b = c;
	}
	if (c->wd_events >= 0) {
		b = &t->by_events[c->wd_events % CGROUPS_BUCKETS];
		c->next_wd_events = *b;
		*b = c;
	}
}

static void chain_remove(struct cgroup **p, struct cgroup *c, size_t next)
{
	while (*p && *p != c)
		p = (struct cgroup **)((char *)*p + next);
	if (*p)
		*p = *(struct cgroup **)((char *)c + next);
}

static void index_remove(struct cgroups *t, struct cgroup *c)
{
	chain_remove(&t->by_id[c->id % CGROUPS_BUCKETS], c, offsetof(struct cgroup, next_id));
	if (c->wd_dir >= 0)
		chain_remove(&t->by_dir[c->wd_dir % CGROUPS_BUCKETS], c,
			     offsetof(struct cgroup, next_wd_dir));
	if (c->wd_events >= 0)
		chain_remove(&t->by_events[c->wd_events % CGROUPS_BUCKETS], c,
			     offsetof(struct cgroup, next_wd_events));
}

static struct cgroup *node_new(struct cgroup *parent, const char *name)
{
	struct cgroup *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->parent = parent;
	c->depth = parent ? parent->depth + 1 : 0;
	c->wd_dir = c->wd_events = -1;
	if (asprintf(&c->path, "%s%s%s", parent ? parent->path : "", parent ? "/" : "", name) < 0) {
		free(c);
		return NULL;
	}
	return c;
}

/* The watch comes before the look at what is inside, so that nothing falls between. */
static void add(struct cgroups *t, struct cgroup *parent, const char *name)
{
	struct cgroup *c = parent && parent->depth >= CGROUPS_DEPTH ? NULL : node_new(parent, name);
	char path[PATH_MAX];
	struct stat st;

	if (!c)
		return;
	if (at(t, c, NULL, path) || stat(path, &st) < 0 || !S_ISDIR(st.st_mode)) {
		free(c->path);
		free(c);
		return;
	}
	c->id = st.st_ino;
	c->seen = true;
	c->wd_dir = watch_path(t, c, NULL, DIR_EVENTS);
	c->wd_events = watch_path(t, c, "cgroup.events", IN_MODIFY);
	c->populated = read_populated(t, c);
	if (parent) {
		c->sibling = parent->children;
		parent->children = c;
	} else {
		t->root = c;
	}
	index_add(t, c);
	t->count++;
	t->changed(t->arg, c);
	scan_children(t, c);
}

static void drop(struct cgroups *t, struct cgroup *c)
{
	while (c->children)
		drop(t, c->children);
	t->gone(t->arg, c);
	if (c->parent)
		chain_remove(&c->parent->children, c, offsetof(struct cgroup, sibling));
	else
		t->root = NULL;
	index_remove(t, c);
	if (c->wd_dir >= 0)
		inotify_rm_watch(t->inotify,
				 c->wd_dir); /* fails when the directory is gone: fine */
	if (c->wd_events >= 0)
		inotify_rm_watch(t->inotify, c->wd_events);
	free(c->path);
	free(c);
	t->count--;
}

static struct cgroup *child(const struct cgroup *c, const char *name)
{
	struct cgroup *k;

	for (k = c->children; k; k = k->sibling)
		if (!strcmp(strrchr(k->path, '/') + 1, name))
			break;
	return k;
}

static void scan_children(struct cgroups *t, struct cgroup *c)
{
	int fd = open_at(t, c, ".");
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *d;

	if (!dir) {
		if (fd >= 0)
			close(fd);
		return;
	}
	while ((d = readdir(dir))) {
		struct cgroup *k;

		if (d->d_type != DT_DIR || d->d_name[0] == '.')
			continue;
		k = child(c, d->d_name);
		if (k && k->id != d->d_ino) { /* removed and made again */
			drop(t, k);
			k = NULL;
		}
		if (k)
			k->seen = true;
		else
			add(t, c, d->d_name);
	}
	closedir(dir);
}

static void populated_maybe(struct cgroups *t, struct cgroup *c)
{
	bool now = read_populated(t, c);

	if (now == c->populated)
		return;
	c->populated = now;
	t->changed(t->arg, c);
}

static void refresh_node(struct cgroups *t, struct cgroup *c)
{
	for (struct cgroup *k = c->children; k; k = k->sibling)
		k->seen = false;
	scan_children(t, c);
	for (struct cgroup *k = c->children, *next; k; k = next) {
		next = k->sibling;
		if (!k->seen) {
			drop(t, k);
			continue;
		}
		populated_maybe(t, k);
		refresh_node(t, k);
	}
}

void cgroups_refresh(struct cgroups *t)
{
	if (t->no_watches && t->root)
		refresh_node(t, t->root);
}

static void event(struct cgroups *t, const struct inotify_event *e)
{
	struct cgroup *c;

	if (e->mask & IN_Q_OVERFLOW) {
		if (t->root)
			refresh_node(t, t->root);
		return;
	}
	if (e->wd < 0 || e->mask & IN_IGNORED)
		return;
	for (c = t->by_events[e->wd % CGROUPS_BUCKETS]; c && c->wd_events != e->wd;)
		c = c->next_wd_events;
	if (c) {
		populated_maybe(t, c);
		return;
	}
	for (c = t->by_dir[e->wd % CGROUPS_BUCKETS]; c && c->wd_dir != e->wd;)
		c = c->next_wd_dir;
	if (c && e->mask & IN_ISDIR && e->len) {
		struct cgroup *k = child(c, e->name);

		if (k && e->mask & IN_DELETE)
			drop(t, k);
		/* a name that is made again right after it went: its own IN_CREATE comes, or has
		 * come */
		if (e->mask & IN_CREATE && !k)
			add(t, c, e->name);
	}
}

void cgroups_catch_up(struct cgroups *t)
{
	_Alignas(struct inotify_event) char buf[4096];
	ssize_t n;

	while ((n = read(t->inotify, buf, sizeof(buf))) > 0)
		for (char *p = buf; p < buf + n;) {
			const struct inotify_event *e = (const void *)p;

			event(t, e);
			p += sizeof(*e) + e->len;
		}
}

static void readable(struct watch *w, uint32_t events)
{
	cgroups_catch_up((struct cgroups *)((char *)w - offsetof(struct cgroups, watch)));
}

int cgroups_init(struct cgroups *t, struct loop *loop, const char *root_path)
{
	int err;

	t->loop = loop;
	t->watch.fd = -1;
	t->inotify = -1;
	t->root_fd = open(root_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (t->root_fd < 0)
		return -errno;
	t->inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	err = t->inotify < 0 ? -errno : loop_add(loop, &t->watch, t->inotify, EPOLLIN, readable);
	if (err) {
		cgroups_done(t);
		return err;
	}
	add(t, NULL, "");
	return t->root ? 0 : -ENOMEM;
}

void cgroups_done(struct cgroups *t)
{
	if (t->root)
		drop(t, t->root);
	loop_del(t->loop, &t->watch);
	if (t->inotify >= 0)
		close(t->inotify);
	if (t->root_fd >= 0)
		close(t->root_fd);
	t->inotify = t->root_fd = -1;
}

struct cgroup *cgroups_find(struct cgroups *t, uint64_t id)
{
	struct cgroup *c = t->by_id[id % CGROUPS_BUCKETS];

	while (c && c->id != id)
		c = c->next_id;
	return c;
}

int cgroups_pids(struct cgroups *t, const struct cgroup *c, int *pids, int max)
{
	char buf[1024];
	int fd = open_at(t, c, "cgroup.procs"), n = 0;
	ssize_t len;

	if (fd < 0)
		return 0;
	len = read(fd, buf, sizeof(buf) - 1);
	close(fd);
	buf[len > 0 ? len : 0] = 0;
	for (char *p = buf, *end; n < max; p = end) {
		long pid = strtol(p, &end, 10);

		if (end == p || *end != '\n') /* the last one may be cut */
			break;
		if (pid > 0) /* 0: a process of another pid namespace */
			pids[n++] = (int)pid;
	}
	return n;
}

int cgroups_mark(struct cgroups *t, const struct cgroup *c, const char *name, const char *value)
{
	char path[PATH_MAX];

	if (at(t, c, NULL, path))
		return -ENAMETOOLONG;
	if (!value)
		return removexattr(path, name) < 0 && errno != ENODATA && errno != ENOENT ? -errno
											  : 0;
	return setxattr(path, name, value, strlen(value), 0) < 0 ? -errno : 0;
}

ssize_t cgroups_marked(struct cgroups *t, const struct cgroup *c, const char *name, char *out,
		       size_t cap)
{
	char path[PATH_MAX];
	ssize_t n;

	if (at(t, c, NULL, path))
		return -ENAMETOOLONG;
	n = getxattr(path, name, out, cap);
	return n < 0 ? -errno : n;
}
