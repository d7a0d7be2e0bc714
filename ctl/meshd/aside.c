/* SPDX-License-Identifier: Apache-2.0 */
/* See aside.h. */
#include "ctl/meshd/aside.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

static int free_name(const char *file, const char *cause, char *to, size_t cap)
{
	int n;

	for (int i = 1; i <= ASIDE_MAX; i++) {
		n = i == 1 ? snprintf(to, cap, "%s.%s", file, cause)
			   : snprintf(to, cap, "%s.%s-%d", file, cause, i);
		if (n >= (int)cap)
			return -ENAMETOOLONG;
		if (access(to, F_OK) && errno == ENOENT)
			return 0;
	}
	return -EEXIST;
}

int aside_put(const char *file, const char *cause, char *to, size_t cap)
{
	static const char *const parts[] = {"-wal", "-shm", ""};
	char from[PATH_MAX], aside[PATH_MAX + 8];
	int r = free_name(file, cause, to, cap);

	for (int i = 0; i < 3 && !r; i++) {
		if (snprintf(from, sizeof(from), "%s%s", file, parts[i]) >= (int)sizeof(from) ||
		    snprintf(aside, sizeof(aside), "%s%s", to, parts[i]) >= (int)sizeof(aside))
			return -ENAMETOOLONG;
		if (rename(from, aside) && errno != ENOENT)
			r = -errno;
	}
	return r;
}
