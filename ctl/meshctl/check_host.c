/* SPDX-License-Identifier: Apache-2.0 */
/*
 * meshctl check --pre: what the host must offer before anything of the mesh can run on it. The list
 * is the agent's own (agent/kernel/qualify.c), so that both always ask for the same things. Changes
 * nothing.
 */
#include "agent/kernel/kernel.h"
#include "ctl/meshctl/check.h"
#include "lib/cgroup.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

/* What there is, where there is more to say than that it is there. */
static const char *detail_of(const char *name, char *text, size_t cap)
{
	struct utsname u;
	char root[PATH_MAX];

	text[0] = '\0';
	if (!strcmp(name, "kernel") && !uname(&u))
		snprintf(text, cap, "Linux %s", u.release);
	else if (!strcmp(name, "cgroup2") && !cgroup_root(root, sizeof(root)))
		snprintf(text, cap, "%.200s", root);
	return text;
}

void check_host(struct check *c)
{
	struct kernel_check list[KERNEL_CHECKS];
	size_t n = kernel_qualify(NULL, list);
	char text[256];

	for (size_t i = 0; i < n; i++)
		check_add(c, list[i].name, list[i].ok ? CHECK_PASSED : CHECK_FAILED, list[i].remedy,
			  "%s",
			  list[i].ok ? detail_of(list[i].name, text, sizeof(text))
				     : list[i].missing);
}
