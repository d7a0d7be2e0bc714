/* SPDX-License-Identifier: Apache-2.0 */
/* One run of `meshctl check`: a list of lines, each something that was tried or read, with what to
 * do when it fails. */
#ifndef CTL_MESHCTL_CHECK_H
#define CTL_MESHCTL_CHECK_H

#include "ctl/meshctl/meshctl.h"

#include <cjson/cJSON.h>
#include <stdbool.h>

#define CHECK_LINES 40

enum check_result {
	CHECK_PASSED,
	CHECK_FAILED,
	CHECK_SKIPPED,
	CHECK_NOTED, /* well, but somebody should know */
};

struct check_line {
	const char *name; /* a literal */
	enum check_result result;
	char detail[320];
	char hint[256]; /* what to do; "" when it passed */
};

struct check {
	struct cli *cli;
	struct check_line lines[CHECK_LINES];
	unsigned count;
	bool unreachable; /* meshd */
	char cgroup[256]; /* of the agent on this host; "" when there is none */
};

/* Adds a line. hint: NULL when it passed. Returns whether it passed. */
__attribute__((format(printf, 5, 6))) bool check_add(struct check *c, const char *name,
						     enum check_result result, const char *hint,
						     const char *fmt, ...);

/* check_host.c: what the host must offer. */
void check_host(struct check *c);
/* check_mesh.c: meshd and the agent of this host. Fills c->cgroup. False when there is no use in
 * going on. */
bool check_mesh(struct check *c);
/* check_coverage.c: whose connections go past the mesh, as that agent says. */
void check_coverage(struct check *c, const cJSON *agent);
/* check_bpf.c: the pinned programs, and that the kernel runs them for the agent's cgroup. */
bool check_programs(struct check *c);
/* probe.c: a request from a process of the mesh to another one. */
bool check_request(struct check *c);

#endif
