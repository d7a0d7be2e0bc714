/* SPDX-License-Identifier: Apache-2.0 */
/* One origin, and a workload of another namespace that calls it: for tests of what becomes of
 * traffic while parts of the mesh come and go. */
#ifndef TESTS_E2E_WEB_H
#define TESTS_E2E_WEB_H

#include "tests/e2e/harness.h"

#define WORKERS_MAX 32

static struct instance *web;
static struct caller *who;

static inline void open_web(void)
{
	web = instance_ready(instance_start("web", "web-1", "--netns", "origin --port 8000"));
	who = caller_start("client", "--netns");
}

/* A request that is answered, and through the mesh. */
static inline bool meshed(struct client *c)
{
	return get(c, "/") == 200 && !strcmp(header(c, "x-instance-id"), "web-1");
}

/* By a connection of its own. */
static inline bool captured(void)
{
	struct client *c = call(who, web->address);
	bool ok = meshed(c);

	hang_up(c);
	return ok;
}

/* As captured(), whichever way it went. */
static inline bool works(void)
{
	struct client *c = call(who, web->address);
	bool ok = get(c, "/") == 200;

	hang_up(c);
	return ok;
}

static inline int workers_now(void)
{
	pid_t pids[WORKERS_MAX];

	return all_workers(pids, WORKERS_MAX);
}

#endif
