/* SPDX-License-Identifier: Apache-2.0 */
/* Where cgroup2 is and what a cgroup's id is. Never a fixed path: hosts are pure, hybrid, or
 * namespaced. */
#ifndef LIB_CGROUP_H
#define LIB_CGROUP_H

#include <stddef.h>
#include <stdint.h>

/* The mount point of cgroup2, from /proc/self/mountinfo. 0, -ENOENT when there is none,
 * -ENAMETOOLONG. */
int cgroup_root(char *out, size_t cap);
/* A cgroup's id is the inode number of its directory. 0 or -errno; -EINVAL when path is not on a
 * cgroup2. */
int cgroup_id(const char *path, uint64_t *id);

/* The id of the cgroup that this process is in. 0 or -errno. */
int cgroup_own(uint64_t *id);

/* The attribute of its cgroup in which `meshctl run` says what it was told, as the environment of
 * what it runs does: NAME=VALUE, each with a NUL at its end. It says so for as long as the cgroup
 * is there; a program may overwrite its environment. */
#define CGROUP_SAID	"user.sockmesh.said"
#define CGROUP_SAID_MAX 1024

#endif
