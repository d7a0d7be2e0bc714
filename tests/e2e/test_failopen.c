/* SPDX-License-Identifier: Apache-2.0 */
/* Fail open: what holds while parts of the mesh are gone, and nobody looks after the tables. */
#include "tests/e2e/harness.h"

#include <sys/mman.h>
#include <sys/wait.h>

static struct instance *web[2];
static struct caller *who;

static void open_two(void)
{
	web[0] = instance_ready(instance_start("web", "web-1", "--netns", "origin --port 8000"));
	web[1] = instance_ready(instance_start("web", "web-2", "--netns", "origin --port 8000"));
	who = caller_start("client", "--netns");
}

/* By the mesh, from whom? */
static bool served_by(const char *address, const char *instance)
{
	struct client *c = call(who, address);
	bool ok = get(c, "/") == 200 && !strcmp(header(c, "x-instance-id"), instance);

	hang_up(c);
	return ok;
}

/* As that, or past the mesh: that is where calls go when the machine has let no worker run for half
 * a second. Counts those by the mesh. */
static bool reaches(const char *address, const char *instance, int *meshed)
{
	struct client *c = call(who, address);
	bool ok = get(c, "/") == 200 && !strcmp(header(c, "x-origin"), instance);

	*meshed += *header(c, "x-instance-id") != 0;
	hang_up(c);
	return ok;
}

/* A stopped supervisor hears of nothing; the first address stays one of the mesh. */
static void an_endpoint_that_dies_while_nobody_looks_gets_no_calls(void **state)
{
	double retries;
	int meshed = 0;

	open_two();
	eventually(5000, healthy("web") == 2);
	eventually(5000,
		   served_by(web[0]->address, "web-1") || served_by(web[0]->address, "web-2"));
	kill(agent_pid, SIGSTOP);
	kill(instance_pid(web[1]), SIGKILL);
	eventually(5000, !instance_pid(web[1]));
	for (int i = 0; i < 100; i++)
		assert_true(reaches(web[0]->address, "web-1", &meshed));
	kill(agent_pid, SIGCONT);
	printf("%d of 100 by the mesh\n", meshed);
	assert_true(meshed > 50);
	/* nobody was called who was not there: not even once, to be tried elsewhere then */
	eventually(5000, !registered("web", "web-2"));
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
	eventually(5000, !instance_pid(web[0]));
	assert_int_equal(answered("10.240.0.1:80", 20), 20);
	kill(instance_pid(web[1]), SIGKILL);
	eventually(5000, !instance_pid(web[1]));
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
	eventually(5000, dials(web[0]->address));
	assert_int_equal(answered(web[0]->address, 5), 5);
}

/* In some order, some moment from now; agent and workers, or only these. *killed_ns: when the last
 * of them had been sent its signal; 0 until then. */
static pid_t kill_soon(uint32_t seed, uint64_t *killed_ns)
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
	*killed_ns = clock_mono_ns();
	_exit(0);
}

struct dials {
	long n, failed;
	uint64_t failed_ns[8]; /* when those connect() were called */
};

static void dial(const char *address, struct dials *d)
{
	int fd = caller_dial(who, address);

	d->n++;
	if (fd >= 0) {
		close(fd);
		return;
	}
	printf("connect() %ld to %s: %s\n", d->n, address, strerror(-fd));
	assert_true(d->failed < (long)(sizeof(d->failed_ns) / sizeof(d->failed_ns[0])));
	d->failed_ns[d->failed++] = who->dialed_ns;
}

/* A worker takes what it has not accepted yet with it: the callers of that were earlier. */
static long called_after(const struct dials *d, uint64_t killed_ns)
{
	long n = 0;

	for (long i = 0; i < d->failed; i++)
		n += d->failed_ns[i] > killed_ns;
	return n;
}

#define KILLS 40

static void whoever_is_killed_whenever_no_connect_fails(void **state)
{
	uint64_t *killed_ns = mmap(NULL, sizeof(*killed_ns), PROT_READ | PROT_WRITE,
				   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	long n = 0, early = 0, failed = 0;

	assert_ptr_not_equal(killed_ns, MAP_FAILED);
	open_two();
	configure("web", "{\"addresses\":[\"10.240.0.1:80\"]}");
	srandom(4711);
	for (int i = 0; i < KILLS; i++) {
		struct dials d = {0};
		pid_t killer;
		uint64_t until;

		*killed_ns = 0;
		killer = kill_soon((uint32_t)random(), killed_ns);
		until = mono_ms() + 40;
		while (mono_ms() < until) {
			dial(web[0]->address, &d);
			dial("10.240.0.1:80", &d);
		}
		reap(&killer, 0);
		n += d.n;
		failed += called_after(&d, *killed_ns);
		early += d.failed - called_after(&d, *killed_ns);
		if (waitpid(agent_pid, NULL, WNOHANG) == agent_pid) {
			agent_pid = 0;
			agent_start("");
		}
	}
	munmap(killed_ns, sizeof(*killed_ns));
	printf("%ld connects, %d kills: %ld failed that were called after a kill, %ld under way\n",
	       n, KILLS, failed, early);
	assert_int_equal(failed, 0);
	assert_true(early <= KILLS); /* at most what one caller has under way */
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
