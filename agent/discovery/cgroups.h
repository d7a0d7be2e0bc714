/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cgroup tree below one directory, kept up to date by inotify: directories that come and go,
 * and whether anybody lives in them. Knows nothing of services. When the kernel has no inotify
 * watches left it says so once and looks at the whole tree at each cgroups_refresh().
 */
#ifndef AGENT_DISCOVERY_CGROUPS_H
#define AGENT_DISCOVERY_CGROUPS_H

#include "lib/loop.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define CGROUPS_BUCKETS 1024
#define CGROUPS_PIDS	32 /* processes of one cgroup that are looked at */
#define CGROUPS_DEPTH	64 /* levels below the root: whoever may make cgroups may nest thousands */

struct cgroup {
	struct cgroup *parent, *children, *sibling;
	struct cgroup *next_id, *next_wd_dir, *next_wd_events; /* hash chains */
	uint64_t id;					       /* inode of the directory */
	char *path; /* below the root, with a leading slash; "" for the root itself */
	int wd_dir, wd_events;
	unsigned depth;
	bool populated; /* somebody lives in it or below */
	bool seen;	/* by the refresh that runs */
	void *user;	/* the owner's */
};

struct cgroups {
	struct loop *loop;
	struct watch watch;
	int root_fd, inotify;
	struct cgroup *root;
	struct cgroup *by_id[CGROUPS_BUCKETS], *by_dir[CGROUPS_BUCKETS],
		*by_events[CGROUPS_BUCKETS];
	uint32_t count;
	bool no_watches, said_so;
	void *arg;
	void (*changed)(void *arg, struct cgroup *c); /* new, or populated or not any more */
	void (*gone)(void *arg, struct cgroup *c);    /* c is freed after this */
};

/* Looks at the tree below root_path (calls `changed` for each) and begins to watch. arg, changed
 * and gone are to be set before. 0 or -errno. */
int cgroups_init(struct cgroups *t, struct loop *loop, const char *root_path);
void cgroups_done(struct cgroups *t); /* calls `gone` for each */
/* Takes in what inotify has to say now, so that a look-up is not behind the kernel. */
void cgroups_catch_up(struct cgroups *t);
/* Compares with the tree as it is if inotify could not tell all. */
void cgroups_refresh(struct cgroups *t);
struct cgroup *cgroups_find(struct cgroups *t, uint64_t id);
/* The processes that live directly in it, at most `max`; 0 when there are none (or it is gone). */
int cgroups_pids(struct cgroups *t, const struct cgroup *c, int *pids, int max);
/* Sets (NULL: removes) the extended attribute of the directory. 0 or -errno. */
int cgroups_mark(struct cgroups *t, const struct cgroup *c, const char *name, const char *value);
/* Reads it. Its length, or -errno: -ENODATA when there is none, -ERANGE when it is longer. */
ssize_t cgroups_marked(struct cgroups *t, const struct cgroup *c, const char *name, char *out,
		       size_t cap);

#endif
