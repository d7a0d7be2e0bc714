/* SPDX-License-Identifier: Apache-2.0 */
/* See cgroup.h. */
#include "lib/cgroup.h"

#include <errno.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

/* mountinfo writes blank, tab, newline and backslash as \ooo (proc(5)). In place. */
static void unescape(char *s)
{
	char *out = s;

	for (; *s; s++) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' &&
		    s[3] >= '0' && s[3] <= '7') {
			*out++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 3;
		} else {
			*out++ = *s;
		}
	}
	*out = 0;
}

static bool is_cgroup2(const char *path)
{
	struct statfs fs;

	return statfs(path, &fs) == 0 && fs.f_type == CGROUP2_SUPER_MAGIC;
}

/* ID PARENT MAJOR:MINOR ROOT MOUNTPOINT OPTIONS [TAGS...] - TYPE SOURCE OPTIONS. Returns the mount
 * point if the line is a cgroup2 mount that can be reached (a later mount may hide it), else NULL.
 * *whole: it shows the root. */
static char *cgroup2_mount(char *line, bool *whole)
{
	char *type = strstr(line, " - cgroup2 "), *save = NULL, *field[5];

	if (!type)
		return NULL;
	*type = 0;
	for (int i = 0; i < 5; i++) {
		field[i] = strtok_r(i ? NULL : line, " ", &save);
		if (!field[i])
			return NULL;
	}
	unescape(field[4]);
	*whole = !strcmp(field[3], "/");
	return is_cgroup2(field[4]) ? field[4] : NULL;
}

int cgroup_root(char *out, size_t cap)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	bool whole = false;
	char *line = NULL;
	size_t size = 0;
	int r = -ENOENT;

	if (!f)
		return -errno;
	/* the first mount of the root itself; a mount of a part of the tree only when there is no
	 * other */
	while (!whole && getline(&line, &size, f) > 0) {
		char *mount = cgroup2_mount(line, &whole);

		if (!mount) {
			whole = false;
			continue;
		}
		if (r == 0 && !whole)
			continue;
		r = strlen(mount) < cap ? 0 : -ENAMETOOLONG;
		if (!r)
			memcpy(out, mount, strlen(mount) + 1);
	}
	free(line);
	fclose(f);
	return r;
}

int cgroup_id(const char *path, uint64_t *id)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return -errno;
	if (!S_ISDIR(st.st_mode) || !is_cgroup2(path))
		return -EINVAL;
	*id = st.st_ino;
	return 0;
}

int cgroup_own(uint64_t *id)
{
	char root[PATH_MAX / 2], path[PATH_MAX], *line = NULL;
	FILE *f = fopen("/proc/self/cgroup", "re");
	int r = f ? cgroup_root(root, sizeof(root)) : -errno;
	size_t size = 0;

	if (!r) {
		r = -ENOENT;
		while (r == -ENOENT && getline(&line, &size, f) > 0) {
			line[strcspn(line, "\n")] = 0;
			if (strncmp(line, "0::", 3))
				continue;
			r = snprintf(path, sizeof(path), "%s%s", root, line + 3) < (int)sizeof(path)
				    ? cgroup_id(path, id)
				    : -ENAMETOOLONG;
		}
	}
	free(line);
	if (f)
		fclose(f);
	return r;
}
