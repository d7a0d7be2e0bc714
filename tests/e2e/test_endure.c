/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent is replaced and killed again and again under load, and nobody notices. A few rounds of
 * each here; `make soak-upgrade` and `make soak-kill` do it for long.
 *
 * Upgrades: requests at a fixed rate, half of them captured and half by the gateway, over
 * connections that are kept. Each must be answered with 200, whenever it was made.
 *
 * Kills, by turns, each at a random moment, under requests with a connection each:
 *   the supervisor alone     no request may fail, not even one that is under way
 *   one worker               no request may fail but one that was begun before kill() returned and
 *                            was not answered by then: its worker may have had it
 *   everything at once       likewise, from the first kill() to the return of the last one
 * A request begins before its connect(). Beside them go requests over connections that are kept:
 * of those one may fail until the worker that had its connection has wholly ended.
 */
#include "tests/e2e/harness.h"

#include <poll.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define KILLS_MAX   1000
#define WORKERS_MAX 32

static struct instance *web;

static struct kill_window {
	uint64_t from_us, to_us; /* of the kill() calls; equal: nothing may fail */
	uint64_t gone_us;	 /* the processes have ended */
} windows[KILLS_MAX];
static size_t nwindows;

/* A number from the environment. */
static long wanted(const char *name, long otherwise)
{
	const char *s = getenv(name);

	return s && *s ? atol(s) : otherwise;
}

static uint64_t random_below(uint64_t n)
{
	uint64_t x;

	assert_int_equal(getrandom(&x, sizeof(x), 0), sizeof(x));
	return x % n;
}

static void open_web(void)
{
	web = instance_ready(instance_start("web", "web-1", "--netns", "origin --port 8000"));
}

static bool was_under_way(const struct shot *s, bool kept)
{
	for (size_t i = 0; i < nwindows; i++) {
		const struct kill_window *w = &windows[i];

		if (w->from_us < w->to_us && s->start_us <= (kept ? w->gone_us : w->to_us) &&
		    s->start_us + s->took_us >= w->from_us)
			return true;
	}
	return false;
}

/* All but those that were under way when a worker was killed. */
static size_t failed(struct load *l, const char *what, bool kept)
{
	size_t bad = 0, excused = 0;

	load_end(l);
	for (size_t i = 0; i < l->n; i++) {
		const struct shot *s = &l->shots[i];

		if (s->status == 200)
			continue;
		if (was_under_way(s, kept)) {
			excused++;
			continue;
		}
		if (bad++ < 20)
			printf("  %s: at %lu us, after %lu us: %d %s\n", what, s->start_us,
			       s->took_us, s->status, s->cause);
	}
	printf("%s: %zu requests, %zu failed, %zu were under way at a worker that was killed\n",
	       what, l->n, bad, excused);
	return bad;
}

static void settled_on_one(void)
{
	pid_t pids[WORKERS_MAX];

	eventually(30000,
		   agent_workers(pids, WORKERS_MAX) > 0 &&
			   agent_workers(pids, WORKERS_MAX) == all_workers(pids, WORKERS_MAX));
}

static void upgrade(void)
{
	pid_t before = agent_succeed("--upgrade");
	int status = reap(&before, 0);

	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	agent_wait();
}

static void upgrades_under_load(void **state)
{
	long rounds = wanted("SOAK_UPGRADES", 5), rate = wanted("SOAK_RATE", 400),
	     every_ms = wanted("SOAK_EVERY_MS", 1000);
	uint64_t next = mono_ms(), began = next;
	struct load *captured, *through;
	size_t bad;

	open_web();
	captured =
		load_start("caller", "--to %s --rate %ld --connections 32", web->address, rate / 2);
	through = load_start(NULL,
			     "--to " GATEWAY_ADDRESS " --path /web/ --rate %ld --connections 32",
			     rate / 2);
	eventually(5000, metric("mesh_requests_total", "source=\"caller\"", NULL) > 10);
	for (long i = 0; i < rounds; i++) {
		next += (uint64_t)every_ms;
		while (mono_ms() < next)
			usleep(1000);
		upgrade();
	}
	settled_on_one();
	/* they went through the mesh to the end */
	assert_true(metric("mesh_requests_total", "source=\"caller\"", NULL) > 0);
	assert_true(metric("mesh_requests_total", "source=\"gateway\"", NULL) > 0);
	nwindows = 0;
	bad = failed(captured, "captured", true) + failed(through, "gateway", true);
	printf("%ld upgrades in %lu s: %zu requests, %zu failed\n", rounds,
	       (mono_ms() - began) / 1000, captured->n + through->n, bad);
	assert_int_equal(bad, 0);
}

/* What is killed becomes a window of time for those that were under way. */
static void kill_these(const pid_t *pids, int n, bool forgiven)
{
	struct kill_window *w = &windows[nwindows++];
	struct pollfd gone[WORKERS_MAX + 1];

	for (int i = 0; i < n; i++)
		gone[i] = (struct pollfd){.fd = (int)syscall(SYS_pidfd_open, pids[i], 0),
					  .events = POLLIN};
	w->from_us = now_us();
	for (int i = 0; i < n; i++)
		kill(pids[i], SIGKILL);
	w->to_us = forgiven ? now_us() : w->from_us;
	for (int i = 0; i < n; i++) {
		if (gone[i].fd < 0) /* it had ended by itself */
			continue;
		assert_int_equal(poll(&gone[i], 1, 5000), 1);
		close(gone[i].fd);
	}
	w->gone_us = now_us();
}

static void kill_supervisor(void)
{
	kill_these(&agent_pid, 1, false);
	reap(&agent_pid, 0);
	usleep((useconds_t)random_below(50000)); /* they serve on alone for a while */
	agent_start("");
}

static void kill_worker(void)
{
	pid_t pids[WORKERS_MAX];
	int n = agent_workers(pids, WORKERS_MAX);

	if (n)
		kill_these(&pids[random_below((uint64_t)n)], 1, true);
}

static void kill_all(void)
{
	pid_t pids[WORKERS_MAX + 1];
	int n;

	pids[0] = agent_pid;
	n = 1 + all_workers(pids + 1, WORKERS_MAX);
	kill_these(pids, n, true);
	reap(&agent_pid, 0);
	workers_kill();
	usleep((useconds_t)random_below(50000));
	agent_start("");
}

static void kills_under_load(void **state)
{
	long kills = wanted("SOAK_KILLS", 9), rate = wanted("SOAK_RATE", 400);
	void (*const ways[])(void) = {kill_supervisor, kill_worker, kill_all};
	struct load *captured, *through;
	size_t bad;

	assert_in_range(kills, 1, KILLS_MAX);
	open_web();
	captured = load_start("caller", "--to %s --rate %ld --connections 32 --fresh", web->address,
			      rate);
	/* not by the gateway: while all are dead nobody is there */
	through = load_start("other", "--to %s --rate %ld --connections 8", web->address, rate / 4);
	eventually(5000, metric("mesh_requests_total", "source=\"caller\"", NULL) > 10);
	nwindows = 0;
	for (long i = 0; i < kills; i++) {
		usleep((useconds_t)random_below(400000));
		ways[i % 3]();
	}
	settled_on_one();
	bad = failed(captured, "new connections", false) +
	      failed(through, "kept connections", true);
	printf("%ld kills: %zu requests, %zu failed\n", kills, captured->n + through->n, bad);
	assert_int_equal(bad, 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest stories[] = {
		STORY(upgrades_under_load),
		STORY(kills_under_load),
	};

	if (argc == 2) /* one of them: make soak-... */
		cmocka_set_test_filter(argv[1]);
	return RUN(stories);
}
