/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a helper program (iproute2) and collects what it says. */
#ifndef CTL_MESHCTL_SPAWN_H
#define CTL_MESHCTL_SPAWN_H

#include <stddef.h>

#define SPAWN_TEXT_MAX (256u << 10)

struct spawn_result {
	int status;	 /* exit status; 128 + n when signal n ended it */
	char *out, *err; /* NUL-terminated, cut off at SPAWN_TEXT_MAX */
};

/* Runs argv[0] (searched in PATH, then in the sbin directories) with `input` (or NULL) on stdin and
 * waits for it. 0, then release with spawn_result_done, or -errno: -ENOENT when there is no such
 * program. */
int spawn_run(const char *const argv[], const char *input, struct spawn_result *r);
void spawn_result_done(struct spawn_result *r);

#endif
