/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cgroup of one instance: ROOT/mesh/SERVICE/INSTANCE. Whoever made it holds a lock on its
 * directory (flock) for as long as the instance lives, so a cgroup that nobody has locked is left
 * over and may be taken down.
 */
#ifndef CTL_MESHCTL_RUN_CGROUP_H
#define CTL_MESHCTL_RUN_CGROUP_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

/* Set on the cgroup's directory by the agent when connections of this workload are captured, and
 * removed when not. */
#define RUN_READY_ATTR "user.sockmesh"

struct run_cgroup {
	char path[PATH_MAX];	     /* absolute; "" when there is none */
	size_t root_len, parent_len; /* how much of path is ROOT, and ROOT/mesh/SERVICE */
	int fd;			     /* the directory, locked; close-on-exec */
};

/* A name (lib/name.h) that can also be a directory of a cgroup: the kernel keeps what begins with
 * "cgroup." for itself. */
bool run_cgroup_name_valid(const char *name);
/* Makes the cgroup and its parents. service and instance are names by run_cgroup_name_valid(). What
 * an earlier instance of the same name left behind is removed first. 0, or -EBUSY: an instance of
 * this name runs; -EINVAL: root is not on a cgroup2; else -errno of mkdir or open. */
int run_cgroup_create(struct run_cgroup *w, const char *root, const char *service,
		      const char *instance);
/* Notes MESH_SERVICE, MESH_VERSION and so on of the environment where the agent finds them whatever
 * the program makes of its own (CGROUP_SAID). 0 or -errno. */
int run_cgroup_say(const struct run_cgroup *w);
/* Kills what runs in it (and below), waits until it is empty (5 s at most), removes it, and its
 * parents when they are empty. 0 or -errno: -EBUSY when it does not get empty. Harmless twice. */
int run_cgroup_destroy(struct run_cgroup *w);

/* Does the calling process live in mesh/SERVICE/INSTANCE, or below it, under whatever root? */
bool run_cgroup_inside(const char *service, const char *instance);

/* Waits in the calling process until the agent has marked `path`. 0, -ETIMEDOUT or -errno. */
int run_cgroup_wait_ready(const char *path, unsigned timeout_ms);

#endif
