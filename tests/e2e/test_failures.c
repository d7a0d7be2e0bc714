/* SPDX-License-Identifier: Apache-2.0 */
/* Parts of the mesh die. Traffic does not. */
#include "tests/e2e/web.h"

#include <mesh/abi.h>
#include <sys/wait.h>

static bool is_among(pid_t pid, const pid_t *pids, int n)
{
	for (int i = 0; i < n; i++)
		if (pids[i] == pid)
			return true;
	return false;
}

static void a_killed_worker_is_back_within_200_ms(void **state)
{
	pid_t old[16], now[16];
	int n;
	uint64_t start, best = UINT64_MAX;

	open_web();
	n = agent_workers(old, 16);
	assert_true(n > 0);
	for (int i = 0; i < n * 3; i++) {
		uint64_t took;

		assert_true(works());
		assert_int_equal(agent_workers(old, 16), n);
		kill(old[i % n], SIGKILL);
		start = mono_ms();
		assert_true(works()); /* at once: by another worker, or past the mesh */
		while (agent_workers(now, 16) < n || is_among(old[i % n], now, n))
			usleep(1000);
		took = mono_ms() - start;
		printf("worker replaced after %lu ms\n", took);
		best = took < best ? took : best;
	}
	assert_true(best < 200); /* the others may have had to wait for the machine */
	eventually(5000, captured());
}

static void a_killed_worker_leaves_no_count_behind(void **state)
{
	pid_t pids[16];
	struct client *c[8];
	int n;

	open_web();
	for (int i = 0; i < 8; i++) {
		c[i] = call(who, web->address);
		say(c[i], "GET /?delay=60000 HTTP/1.1\r\nHost: w\r\n\r\n");
	}
	eventually(5000, metric("mesh_requests_in_flight", NULL) >= 8);
	n = agent_workers(pids, 16);
	for (int i = 0; i < n; i++)
		kill(pids[i], SIGKILL);
	for (int i = 0; i < 8; i++)
		assert_true(hung_up(c[i], 5000));
	eventually(5000, metric("mesh_requests_in_flight", NULL) <= 0);
	eventually(5000, captured());
}

static void a_killed_agent_stops_no_traffic(void **state)
{
	open_web();
	assert_true(captured());
	agent_stop(SIGKILL);
	for (int i = 0; i < 50; i++)
		assert_true(works());
	eventually(5000, !captured());
	agent_start("");
	eventually(5000, captured());
}

/* New connections while the agent ends and starts: each is answered, by the mesh or past it. */
static void an_agent_that_is_restarted_under_load_fails_no_new_connection(void **state)
{
	uint64_t until;
	int status, n = 0, bad = 0;

	open_web();
	kill(agent_pid, SIGTERM);
	until = mono_ms() + 15000;
	while (waitpid(agent_pid, &status, WNOHANG) == 0 && mono_ms() < until) {
		bad += !works();
		n++;
	}
	agent_pid = 0;
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	for (int i = 0; i < 50; i++, n++)
		assert_true(works());
	agent_start("");
	assert_int_equal(bad, 0);
	eventually(5000, n++ && works() && captured());
	printf("%d connections, none failed\n", n);
}

/* A request that is under way until let_it_go(). */
static void hold_one(struct client *c)
{
	long before = origin_stat(web, "requests");

	configure("web", "{\"timeouts\":{\"try\":\"60s\",\"request\":\"60s\"}}");
	say(c, "GET /?hold=1&seed=3&len=1000 HTTP/1.1\r\nHost: w\r\n\r\n");
	eventually(5000, origin_stat(web, "requests") == before + 1);
}

/* Now that the agent has begun to end. */
static void let_it_go(long log_from)
{
	eventually(5000, agent_logged(log_from, "waiting for what runs"));
	origin_set(web, "");
}

static void a_running_request_survives_the_agents_orderly_end(void **state)
{
	struct client *c;
	long from;

	open_web();
	c = call(who, web->address);
	assert_int_equal(get(c, "/"), 200);
	hold_one(c);
	from = agent_log_size();
	kill(agent_pid, SIGTERM);
	let_it_go(from);
	assert_int_equal(answer(c, "GET"), 200);
	assert_int_equal(c->body_len, 1000);
	reap(&agent_pid, 0);
}

/* As a terminal or the end of a service does it: to all of us at once. */
static void a_running_request_survives_an_end_that_workers_are_told_of_too(void **state)
{
	pid_t pids[16];
	struct client *c;
	long from;
	int n;

	open_web();
	c = call(who, web->address);
	hold_one(c);
	from = agent_log_size();
	n = agent_workers(pids, 16);
	assert_true(n > 0);
	kill(agent_pid, SIGTERM);
	while (n)
		kill(pids[--n], SIGTERM);
	let_it_go(from);
	assert_int_equal(answer(c, "GET"), 200);
	assert_int_equal(c->body_len, 1000);
	reap(&agent_pid, 0);
	agent_start("");
}

static int workers_answering(void)
{
	const cJSON *agents = cJSON_GetObjectItem(api("GET", "/api/agents", NULL), "agents");

	return (int)json_num(cJSON_GetArrayItem(agents, 0), "workersAnswering", -1);
}

static void workers_that_hang_are_not_said_to_answer(void **state)
{
	pid_t pids[16];
	int n = agent_workers(pids, 16);

	assert_true(n > 0);
	eventually(5000, workers_answering() == n);
	for (int i = 0; i < n; i++)
		kill(pids[i], SIGSTOP);
	eventually(5000, workers_answering() == 0);
	for (int i = 0; i < n; i++)
		kill(pids[i], SIGCONT);
	eventually(5000, workers_answering() == n);
}

/* The workers do not need it. */
static void a_stopped_agent_stops_nothing(void **state)
{
	int n = 0, by_mesh = 0;
	uint64_t until;

	open_web();
	assert_true(captured());
	kill(agent_pid, SIGSTOP);
	for (until = mono_ms() + 1500; mono_ms() < until; n++) {
		struct client *c = call(who, web->address);

		/* past the mesh when the machine lets no worker run for half a second */
		by_mesh += meshed(c);
		assert_int_equal(c->status, 200);
		hang_up(c);
	}
	kill(agent_pid, SIGCONT);
	printf("%d of %d by the mesh\n", by_mesh, n);
	assert_true(by_mesh > n / 2);
}

/* Connections that were queued before it was noticed wait; all that are made later pass. */
static void workers_that_hang_are_passed_by(void **state)
{
	uint64_t stale = MESH_BEAT_MAX_NS / 1000000;
	pid_t pids[16];
	int n;

	open_web();
	assert_true(captured());
	n = agent_workers(pids, 16);
	for (int i = 0; i < n; i++)
		kill(pids[i], SIGSTOP);
	usleep((useconds_t)(stale + 100) * 1000); /* the bound itself */
	for (int i = 0; i < 20; i++)
		assert_true(works() && !captured());
	for (int i = 0; i < n; i++)
		kill(pids[i], SIGCONT);
	eventually(5000, captured());
}

static void a_dead_service_is_refused_as_its_address_would_be(void **state)
{
	int fd;

	open_web();
	instance_kill(web);
	eventually(5000, !registered("web", "web-1"));
	fd = caller_dial(who, web->address); /* the address is nobody's now */
	assert_true(fd < 0);
}

static void no_listener_is_left_after_an_orderly_end(void **state)
{
	open_web();
	agent_stop(SIGTERM);
	assert_string_equal(sh("ss -H -l -t -n | grep -E ':15001|:8080|:15020'")->out, "");
	assert_true(works());
}

int main(void)
{
	const struct CMUnitTest stories[] = {
		STORY(a_killed_worker_is_back_within_200_ms),
		STORY(a_killed_worker_leaves_no_count_behind),
		STORY(a_killed_agent_stops_no_traffic),
		STORY(an_agent_that_is_restarted_under_load_fails_no_new_connection),
		STORY(a_running_request_survives_the_agents_orderly_end),
		STORY(a_running_request_survives_an_end_that_workers_are_told_of_too),
		STORY(workers_that_hang_are_not_said_to_answer),
		STORY(a_stopped_agent_stops_nothing),
		STORY(workers_that_hang_are_passed_by),
		STORY(a_dead_service_is_refused_as_its_address_would_be),
		STORY(no_listener_is_left_after_an_orderly_end),
	};

	return RUN(stories);
}
