/* SPDX-License-Identifier: Apache-2.0 */
/* The host goes down: SIGTERM to everything, also to workers whose supervisor is gone. What runs is
 * finished, nothing that is new fails, and it ends in time. */
#include "lib/addr.h"
#include "tests/bench/net.h"
#include "tests/e2e/web.h"

#include <sys/wait.h>

#define QUICKLY_MS    6000 /* nothing runs but what takes SLOW_MS */
#define SLOW_MS	      2500
#define REMEMBERED_MS 3500 /* longer than a worker remembers a signal: ALL_AT_ONCE_MS */

static struct client *slow_request(void)
{
	struct client *c;

	/* a busy machine may add to it what it likes */
	configure("web", "{\"timeouts\":{\"try\":\"60s\",\"request\":\"60s\"}}");
	c = call(who, web->address);
	say(c, "GET /?delay=%d&seed=3&len=1000 HTTP/1.1\r\nHost: w\r\n\r\n", SLOW_MS);
	eventually(5000, origin_stat(web, "requests") >= 1);
	return c;
}

/* An agent that drains for 2 s, and the n-th request, which takes a minute. */
static void start_with_what_does_not_end(int n)
{
	struct client *stuck;

	agent_start("--drain 2");
	eventually(3000, captured());
	stuck = call(who, web->address);
	say(stuck, "GET /?delay=60000 HTTP/1.1\r\nHost: w\r\n\r\n");
	eventually(5000, origin_stat(web, "requests") >= n);
}

static void terminate_workers(void)
{
	pid_t pids[WORKERS_MAX];
	int n = all_workers(pids, WORKERS_MAX);

	assert_true(n > 0);
	for (int i = 0; i < n; i++)
		if (kill(pids[i], SIGTERM)) /* it may have ended by itself, told by its agent */
			assert_int_equal(errno, ESRCH);
}

/* What ran came to its end, and what connects meanwhile is served by somebody. */
static void all_ends_well(struct client *slow, uint64_t since_ms)
{
	for (int i = 0; i < 50; i++)
		assert_true(works());
	assert_int_equal(answer(slow, "GET"), 200);
	assert_int_equal(slow->body_len, 1000);
	eventually(QUICKLY_MS, !workers_now());
	assert_in_range(mono_ms() - since_ms, SLOW_MS / 2, QUICKLY_MS * slowness());
	assert_true(works());
}

static void workers_without_a_supervisor_drain(void **state)
{
	struct client *idle, *slow;
	uint64_t since;

	open_web();
	idle = call(who, web->address);
	assert_int_equal(get(idle, "/"), 200);
	slow = slow_request();
	agent_orphan();
	assert_true(captured());
	since = mono_ms();
	terminate_workers();
	all_ends_well(slow, since);
	assert_true(hung_up(idle, 100));
	agent_start("");
	eventually(3000, captured());
}

/* The host goes down while they wait for a successor: systemd stops the unit by SIGUSR2 and then
 * ends what is left. */
static void workers_that_wait_for_a_successor_drain(void **state)
{
	struct client *slow;
	uint64_t since;

	open_web();
	slow = slow_request();
	since = mono_ms();
	agent_stop(SIGUSR2);
	terminate_workers();
	all_ends_well(slow, since);
}

/* The supervisor has gone without a word just after: they were meant, too. */
static void workers_remember_when_their_supervisor_goes_next(void **state)
{
	struct client *slow;
	uint64_t since;

	open_web();
	slow = slow_request();
	since = mono_ms();
	kill(agent_pid, SIGSTOP);
	terminate_workers();
	assert_true(captured());
	agent_orphan();
	all_ends_well(slow, since);
}

/* By all who had it open: they drain. */
static bool gateway_is_closed(void)
{
	struct addr at;
	int fd;

	assert_int_equal(addr_parse(GATEWAY_ADDRESS, &at), 0);
	fd = net_connect(&at, 0);
	if (fd >= 0)
		close(fd);
	return fd == -ECONNREFUSED;
}

/* One that drains for long, since nobody waits for it, is told that somebody does. */
static void workers_that_drain_already_end_no_later(void **state)
{
	uint64_t since;
	pid_t removal;

	open_web();
	agent_stop(SIGTERM);
	start_with_what_does_not_end(1);
	agent_orphan();
	assert_false(gateway_is_closed());
	removal = spawn("removal", "exec mesh-agent --remove");
	eventually(5000, gateway_is_closed());
	reap(&removal, SIGKILL);
	assert_true(workers_now() > 0);
	since = mono_ms();
	terminate_workers();
	eventually(QUICKLY_MS, !workers_now());
	assert_true(mono_ms() - since >= 1900);
	agent_start("");
	eventually(3000, captured());
}

static void workers_with_a_supervisor_leave_it_to_that(void **state)
{
	pid_t before[WORKERS_MAX], after[WORKERS_MAX];
	uint64_t later;
	int n;

	open_web();
	n = agent_workers(before, WORKERS_MAX);
	terminate_workers();
	later = mono_ms() + REMEMBERED_MS;
	do { /* nor does it count when the supervisor goes after that time */
		assert_true(captured());
	} while (mono_ms() < later);
	assert_int_equal(agent_workers(after, WORKERS_MAX), n);
	assert_memory_equal(before, after, (size_t)n * sizeof(*before));
	agent_orphan();
	/* who serves after that has seen that it is alone, which was there to be read before */
	for (int i = 0; i < 50; i++)
		assert_true(captured());
	assert_int_equal(workers_now(), n);
	agent_start("");
}

static void all_at_once_ends_within_the_time_to_drain(void **state)
{
	struct client *slow;
	uint64_t since;

	open_web();
	slow = slow_request();
	since = mono_ms();
	kill(agent_pid, SIGTERM);
	terminate_workers();
	all_ends_well(slow, since);
	agent_stop(0);
}

/* As `docker stop` wants it, which kills after 10 s. */
static void the_time_to_drain_is_what_was_asked_for(void **state)
{
	uint64_t since;

	open_web();
	agent_stop(SIGTERM);
	start_with_what_does_not_end(1);
	since = mono_ms();
	assert_int_equal(agent_stop(SIGTERM), 0);
	assert_in_range(mono_ms() - since, 1900, 3500 * slowness());
	assert_int_equal(workers_now(), 0);

	start_with_what_does_not_end(2);
	agent_orphan();
	since = mono_ms();
	terminate_workers();
	eventually(QUICKLY_MS, !workers_now());
	assert_true(mono_ms() - since >= 1900);
}

int main(void)
{
	const struct CMUnitTest stories[] = {
		STORY(workers_without_a_supervisor_drain),
		STORY(workers_that_wait_for_a_successor_drain),
		STORY(workers_remember_when_their_supervisor_goes_next),
		STORY(workers_that_drain_already_end_no_later),
		STORY(workers_with_a_supervisor_leave_it_to_that),
		STORY(all_at_once_ends_within_the_time_to_drain),
		STORY(the_time_to_drain_is_what_was_asked_for),
	};

	return RUN(stories);
}
