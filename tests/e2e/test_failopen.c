/* SPDX-License-Identifier: Apache-2.0 */
/* Fail open: what holds while parts of the mesh are gone, and nobody looks after the tables. */
#include "tests/e2e/harness.h"

#include <sys/wait.h>

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

/* How often did a request succeed there, whoever answered? */
static int answered(const char *address, int n)
{
	int ok = 0;

	for (int i = 0; i < n; i++) {
		struct client *c = call(who, address);

		ok += get(c, "/") == 200;
		hang_up(c);
	}
	return ok;
}

static bool dials(const char *address)
{
	int fd = caller_dial(who, address);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static void stop_workers(int sig)
{
	pid_t pids[16];
	int n = agent_workers(pids, 16);

	assert_true(n > 0);
	while (n)
		kill(pids[--n], sig);
}

static void an_address_that_nobody_has_works_with_the_mesh_and_without(void **state)
{
	open_two();
	configure("web", "{\"addresses\":[\"10.240.0.1:80\"]}");
	assert_int_equal(answered("10.240.0.1:80", 20), 20);
	kill(agent_pid, SIGSTOP);
	stop_workers(SIGSTOP);
	usleep(600000); /* their last beats are old by then: the bound itself */
	assert_int_equal(answered("10.240.0.1:80", 20), 20);
	kill(instance_pid(web[0]), SIGKILL);
	eventually(2000, !instance_pid(web[0]));
	assert_int_equal(answered("10.240.0.1:80", 20), 20);
	kill(instance_pid(web[1]), SIGKILL);
	eventually(2000, !instance_pid(web[1]));
	assert_int_equal(caller_dial(who, "10.240.0.1:80"), -ECONNREFUSED);
	stop_workers(SIGCONT);
	kill(agent_pid, SIGCONT);
}

static void what_fails_closed_is_refused_while_nobody_serves(void **state)
{
	open_two();
	configure("web", "{\"failClosed\":true}");
	assert_int_equal(answered(web[0]->address, 5), 5);
	kill(agent_pid, SIGSTOP);
	stop_workers(SIGSTOP);
	usleep(600000);
	assert_int_equal(caller_dial(who, web[0]->address), -ECONNREFUSED);
	stop_workers(SIGCONT);
	kill(agent_pid, SIGCONT);
	eventually(3000, dials(web[0]->address));
	assert_int_equal(answered(web[0]->address, 5), 5);
}

/* In some order, some moment from now; agent and workers, or only these. */
static pid_t kill_soon(uint32_t seed)
{
	pid_t pids[17], pid;
	int n = agent_workers(pids, 16);

	if (seed % 4)
		pids[n++] = agent_pid;
	pid = fork();
	if (pid)
		return pid;
	usleep(seed % 20000);
	for (int i = 0; i < n; i++)
		kill(pids[(i + (int)seed) % n], SIGKILL);
	_exit(0);
}

static void dial(const char *address, long *n, long *failed)
{
	int fd = caller_dial(who, address);

	++*n;
	if (fd >= 0) {
		close(fd);
		return;
	}
	++*failed;
	printf("connect() %ld to %s: %s\n", *n, address, strerror(-fd));
}

#define KILLS 40

static void whoever_is_killed_whenever_no_connect_fails(void **state)
{
	long n = 0, failed = 0;

	open_two();
	configure("web", "{\"addresses\":[\"10.240.0.1:80\"]}");
	srandom(4711);
	for (int i = 0; i < KILLS; i++) {
		pid_t killer = kill_soon((uint32_t)random());
		uint64_t until = mono_ms() + 40;

		while (mono_ms() < until) {
			dial(web[0]->address, &n, &failed);
			dial("10.240.0.1:80", &n, &failed);
		}
		reap(&killer, 0);
		if (waitpid(agent_pid, NULL, WNOHANG) == agent_pid) {
			agent_pid = 0;
			agent_start("");
		}
	}
	printf("%ld connects, %d kills: %ld failed\n", n, KILLS, failed);
	assert_int_equal(failed, 0);
}

int main(void)
{
	const struct CMUnitTest stories[] = {
		STORY(an_endpoint_that_dies_while_nobody_looks_gets_no_calls),
		STORY(an_address_that_nobody_has_works_with_the_mesh_and_without),
		STORY(what_fails_closed_is_refused_while_nobody_serves),
		STORY(whoever_is_killed_whenever_no_connect_fails),
	};

	return RUN(stories);
}
