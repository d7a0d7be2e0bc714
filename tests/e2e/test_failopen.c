/* SPDX-License-Identifier: Apache-2.0 */
/* Fail open: what holds while parts of the mesh are gone, and nobody looks after the tables. */
#include "tests/e2e/harness.h"

static struct instance *web[2];
static struct caller *who;

static void open_two(void)
{
	web[0] = instance_ready(instance_start("web", "web-1", "--netns", "origin --port 8000"));
	web[1] = instance_ready(instance_start("web", "web-2", "--netns", "origin --port 8000"));
	who = caller_start("client", "--netns");
}

/* By the mesh, from whom, at the first try? */
static bool served_by(const char *address, const char *instance)
{
	struct client *c = call(who, address);
	bool ok = get(c, "/") == 200 && !strcmp(header(c, "x-instance-id"), instance);

	hang_up(c);
	return ok;
}

/* A stopped supervisor hears of nothing; the first address stays one of the mesh. */
static void an_endpoint_that_dies_while_nobody_looks_gets_no_calls(void **state)
{
	double retries;

	open_two();
	eventually(2000, healthy("web") == 2);
	eventually(2000,
		   served_by(web[0]->address, "web-1") || served_by(web[0]->address, "web-2"));
	kill(agent_pid, SIGSTOP);
	kill(instance_pid(web[1]), SIGKILL);
	eventually(2000, !instance_pid(web[1]));
	for (int i = 0; i < 100; i++)
		assert_true(served_by(web[0]->address, "web-1"));
	kill(agent_pid, SIGCONT);
	/* nobody was called who was not there: not even once, to be tried elsewhere then */
	eventually(3000, !registered("web", "web-2"));
	retries = metric("mesh_retries_total", "destination=\"web\"", NULL);
	assert_true(retries <= 0);
}

int main(void)
{
	const struct CMUnitTest stories[] = {
		STORY(an_endpoint_that_dies_while_nobody_looks_gets_no_calls),
	};

	return RUN(stories);
}
