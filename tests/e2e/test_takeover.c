/* SPDX-License-Identifier: Apache-2.0 */
/* From one agent to the next: killed, told to leave, replaced while it runs. No request is lost. */
#include "tests/e2e/web.h"

#include <mesh/abi.h>

#include <linux/bpf.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#define RENDEZVOUS "/run/mesh/workers"
#define DRAIN_MS   15000
#define SETTLED_MS (DRAIN_MS + 10000)

static struct load *captured_load, *gateway_load;
static uint64_t began_us;

static void open_load(void)
{
	open_web();
	captured_load = load_start("caller", "--to %s --rate 300 --connections 12", web->address);
	gateway_load = load_start(NULL, "--to " GATEWAY_ADDRESS
					" --path /web/ --rate 300 --connections 12");
	began_us = now_us();
	eventually(5000, metric("mesh_requests_total", "source=\"caller\"", NULL) > 50 &&
				 metric("mesh_requests_total", "source=\"gateway\"", NULL) > 50);
}

static void none_failed(struct load *l, const char *name)
{
	size_t all, good;

	load_end(l);
	all = load_count(l, 0, UINT64_MAX);
	good = load_ok(l, 0, UINT64_MAX);
	printf("%s: %zu requests, %zu failed, in %lu ms\n", name, all, all - good,
	       (now_us() - began_us) / 1000);
	for (size_t i = 0; i < l->n; i++)
		if (l->shots[i].status != 200)
			printf("  at %lu ms, after %lu us: %d %s\n",
			       (l->shots[i].start_us - began_us) / 1000, l->shots[i].took_us,
			       l->shots[i].status, l->shots[i].cause);
	assert_int_equal(good, all);
	assert_true(all > 100);
}

static void close_load(void)
{
	none_failed(captured_load, "captured");
	none_failed(gateway_load, "gateway");
}

static bool gateway_works(void)
{
	struct client *c = gateway();
	bool ok = get(c, "/web/") == 200;

	hang_up(c);
	return ok;
}

static int own_workers(void)
{
	pid_t pids[WORKERS_MAX];

	return agent_workers(pids, WORKERS_MAX);
}

/* The agent that runs has workers, nobody else has any, and nothing is left of the others. */
static void settled_on_one(void)
{
	int n;

	eventually(SETTLED_MS, own_workers() > 0 && workers_now() == own_workers());
	n = own_workers();
	eventually(2000, atoi(sh("ls " RENDEZVOUS " | wc -l")->out) == n);
}

static int exit_code(pid_t pid)
{
	int status = reap(&pid, 0);

	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void upgrade_to(const char *flags)
{
	long from = agent_log_size();
	pid_t before = agent_succeed(flags);

	assert_int_equal(exit_code(before), 0);
	agent_wait();
	eventually(START_MS, agent_logged(from, "of before drain"));
}

static void upgrade(void)
{
	upgrade_to("--upgrade");
}

/* --- stories -----------------------------------------------------------------------------------
 */

static void workers_serve_on_when_their_supervisor_is_killed(void **state)
{
	struct client *kept, *through;

	open_load();
	kept = call(who, web->address);
	through = gateway();
	assert_true(meshed(kept));
	assert_int_equal(get(through, "/web/"), 200);
	agent_orphan();
	for (int i = 0; i < 200; i++) {
		assert_true(meshed(kept));
		assert_true(captured());
		assert_int_equal(get(through, "/web/"), 200);
		assert_true(gateway_works());
	}
	agent_start("");
	assert_true(agent_logged(0, "taking over from"));
	assert_true(captured());
	assert_true(meshed(kept));
	assert_int_equal(get(through, "/web/"), 200);
	settled_on_one();
	assert_true(captured());
	close_load();
}

/* What workers record while nobody reads is counted by the next. */
static void requests_of_the_time_between_are_counted(void **state)
{
	struct client *c;

	open_web();
	c = call(who, web->address);
	agent_orphan();
	for (int i = 0; i < 300; i++)
		assert_true(meshed(c));
	agent_start("");
	eventually(2000, metric("mesh_requests_total", "source=\"client\"", NULL) >= 300);
	settled_on_one();
}

static void a_worker_that_dies_without_a_supervisor_leaves_the_others(void **state)
{
	pid_t pids[WORKERS_MAX];
	int n;

	open_web();
	n = agent_workers(pids, WORKERS_MAX);
	agent_orphan();
	for (int i = 0; i < n; i++) {
		assert_true(works());
		kill(pids[i], SIGKILL);
		for (int j = 0; j < 20; j++)
			assert_true(works()); /* by the others, or past the mesh */
	}
	eventually(2000, !workers_now());
	assert_true(works());
	agent_start("");
	eventually(3000, captured());
	settled_on_one();
}

static void upgrades_lose_no_request(void **state)
{
	open_load();
	for (int i = 0; i < 4; i++) {
		upgrade();
		assert_true(captured());
		assert_true(gateway_works());
	}
	settled_on_one();
	close_load();
}

static void a_restart_loses_no_request(void **state)
{
	open_load();
	for (int i = 0; i < 3; i++) {
		kill(agent_pid, SIGUSR2);
		assert_int_equal(exit_code(agent_pid), 0);
		agent_pid = 0;
		assert_true(captured());
		assert_true(gateway_works());
		agent_start("");
		assert_true(captured());
	}
	settled_on_one();
	close_load();
}

/* Whoever comes next finds maps that another version has laid out. */
static void make_maps_strange(void)
{
	union bpf_attr get = {.pathname = (__u64)(uintptr_t) "/sys/fs/bpf/sockmesh/ctl"},
		       attr = {0};
	struct mesh_ctl ctl;
	__u32 zero = 0;

	attr.map_fd = (__u32)syscall(SYS_bpf, BPF_OBJ_GET, &get, sizeof(get));
	attr.key = (__u64)(uintptr_t)&zero;
	attr.value = (__u64)(uintptr_t)&ctl;
	assert_int_equal(syscall(SYS_bpf, BPF_MAP_LOOKUP_ELEM, &attr, sizeof(attr)), 0);
	ctl.abi++;
	assert_int_equal(syscall(SYS_bpf, BPF_MAP_UPDATE_ELEM, &attr, sizeof(attr)), 0);
	close((int)attr.map_fd);
}

static void an_upgrade_to_other_maps_loses_no_request(void **state)
{
	struct load *anew;

	open_load();
	anew = load_start("anew", "--to %s --rate 300 --connections 12 --fresh", web->address);
	for (int i = 0; i < 2; i++) {
		make_maps_strange();
		upgrade();
		eventually(2000, captured());
		assert_true(gateway_works());
		settled_on_one();
	}
	none_failed(anew, "new connections");
	close_load();
}

/* What it leaves: its own maps, in which the next one finds itself, and workers that know others.
 */
static void a_successor_with_other_maps_that_dies_on_the_way_stops_nothing(void **state)
{
	static const char *const steps[] = {"taking over from", "is up: cgroup", "of before drain"};
	struct load *anew;

	open_load();
	anew = load_start("anew", "--to %s --rate 1000 --connections 12 --fresh", web->address);
	for (size_t i = 0; i < 3; i++) {
		long from = agent_log_size();
		pid_t before;

		make_maps_strange();
		before = agent_succeed("--upgrade");
		eventually(START_MS, agent_logged(from, steps[i]));
		agent_orphan();
		assert_int_equal(exit_code(before), 0);
		for (int j = 0; j < 50; j++) {
			assert_true(works());
			assert_true(gateway_works());
		}
		if (i == 2) /* the new workers begin by themselves */
			eventually(5000, captured());
		from = agent_log_size();
		agent_start("");
		assert_int_equal(agent_logged(from, "which work by other maps"), i < 2);
		eventually(START_MS, agent_logged(from, "of before drain"));
		eventually(2000, captured());
		settled_on_one();
	}
	none_failed(anew, "new connections");
	close_load();
}

static void without_a_successor_workers_end_by_themselves(void **state)
{
	struct client *kept;

	open_web();
	kept = call(who, web->address);
	assert_true(meshed(kept));
	kill(agent_pid, SIGUSR2);
	assert_int_equal(exit_code(agent_pid), 0);
	agent_pid = 0;
	assert_true(captured());
	/* one that cannot start has taken over nothing */
	assert_int_equal(
		sh("mesh-agent --token-file " SCRATCH "/state/token --admin 203.0.113.7:1")->status,
		1);
	eventually(25000, !captured()); /* the grace time is 20 s */
	assert_true(meshed(kept));
	assert_string_equal(header(kept, "connection"), "close");
	eventually(DRAIN_MS + 1000, !workers_now());
	assert_true(works());
	agent_start("");
	eventually(3000, captured());
}

static bool was_told(const struct client *c)
{
	return !strcmp(header(c, "connection"), "close");
}

static void an_idle_caller_is_told_with_an_answer(void **state)
{
	struct client *kept, *slow;

	open_web();
	/* a busy machine may add to the slow one what it likes */
	configure("web", "{\"timeouts\":{\"try\":\"60s\",\"request\":\"60s\"}}");
	kept = call(who, web->address);
	slow = call(who, web->address);
	assert_true(meshed(kept));
	assert_false(was_told(kept));
	say(slow, "GET /?delay=2500&seed=3&len=1000 HTTP/1.1\r\nHost: w\r\n\r\n");
	eventually(5000, metric("mesh_requests_in_flight", NULL) >= 1);
	upgrade();
	assert_int_equal(answer(slow, "GET"), 200);
	assert_int_equal(slow->body_len, 1000);
	assert_false(hung_up(kept, 100)); /* idle for seconds by now */
	do
		assert_true(meshed(kept));
	while (!was_told(kept));
	settled_on_one();
}

static void a_pipeline_is_answered_to_its_end(void **state)
{
	struct client *c;

	open_web();
	c = call(who, web->address);
	assert_true(meshed(c));
	upgrade();
	do {
		say(c, "GET /?seed=1&len=10 HTTP/1.1\r\nHost: w\r\n\r\n"
		       "GET /?seed=2&len=20 HTTP/1.1\r\nHost: w\r\n\r\n"
		       "GET /?seed=3&len=30 HTTP/1.1\r\nHost: w\r\n\r\n");
		for (size_t i = 1; i <= 3; i++) {
			assert_int_equal(answer(c, "GET"), 200);
			assert_int_equal(c->body_len, 10 * i);
			assert_true(i == 3 || !was_told(c));
		}
	} while (!was_told(c));
	settled_on_one();
}

/* Killed at every point that can be seen from outside; then another repairs. */
static void a_successor_that_dies_on_the_way_stops_nothing(void **state)
{
	static const char *const steps[] = {
		"leaving: another agent takes over",
		"taking over from",
		"is up: cgroup",
		"workers are ready",
	};

	open_load();
	for (size_t i = 0; i < sizeof(steps) / sizeof(*steps); i++) {
		long from = agent_log_size();
		pid_t before = agent_succeed("--upgrade");

		eventually(START_MS, agent_logged(from, steps[i]));
		agent_orphan();
		assert_int_equal(exit_code(before), 0);
		for (int j = 0; j < 20; j++) {
			assert_true(captured());
			assert_true(gateway_works());
		}
		printf("killed after '%s': %d workers\n", steps[i], workers_now());
		from = agent_log_size();
		agent_start("");
		assert_true(captured());
		eventually(START_MS, agent_logged(from, "of before drain"));
	}
	settled_on_one();
	close_load();
}

static void after_the_death_of_all_nothing_is_lost_and_the_next_repairs(void **state)
{
	open_web();
	assert_true(captured());
	kill(agent_pid, SIGSTOP); /* it replaces nobody */
	workers_kill();
	agent_orphan();
	for (int i = 0; i < 50; i++)
		assert_true(works());
	assert_false(captured());
	agent_start("");
	eventually(3000, captured());
	settled_on_one();
}

/* An old worker says with an answer that it goes, but perhaps not with the first. */
static void assert_serves_on(struct client *c, bool by_an_old_one)
{
	do
		assert_true(meshed(c));
	while (by_an_old_one && !was_told(c));
}

/* Callers that say nothing keep old workers to the end of their time: places run short. Of that
 * time there is plenty, as four agents have to start in it. */
static void generations_that_pile_up_wait_for_places(void **state)
{
	struct client *kept[5][8]; /* NULL: it was told to go, by a worker that drains */

	open_load();
	agent_stop(SIGUSR2);
	agent_start("--workers 6 --drain 120");
	for (int g = 0; g < 5; g++) {
		for (int i = 0; i < 8; i++) {
			kept[g][i] = call(who, web->address);
			assert_true(meshed(kept[g][i]));
			if (was_told(kept[g][i]))
				kept[g][i] = NULL;
		}
		if (g < 4) {
			upgrade_to("--upgrade --workers 6 --drain 120");
			assert_true(workers_now() <= 15);
		}
	}
	for (int g = 0; g < 5; g++)
		for (int i = 0; i < 8; i++)
			if (kept[g][i])
				assert_serves_on(kept[g][i], g < 4);
	eventually(SETTLED_MS, own_workers() == 6 && workers_now() == 6);
	settled_on_one();
	close_load();
	agent_stop(SIGUSR2);
	agent_start("");
	settled_on_one();
}

static void a_second_agent_is_refused_and_disturbs_nothing(void **state)
{
	struct output *o;

	open_web();
	o = sh("mesh-agent --token-file " SCRATCH "/state/token");
	assert_int_equal(o->status, 1);
	assert_non_null(strstr(o->err, "another agent (pid "));
	/* who could open the lock file, if only to read, could hold the lock against us */
	assert_int_equal(atoi(sh("stat -c %%a /run/mesh/agent.lock")->out), 600);
	/* nor is a link followed: it might lead to any file of root's */
	o = sh("mkdir " SCRATCH "/linked && ln -s " SCRATCH "/victim " SCRATCH
	       "/linked/agent.lock && mesh-agent --run-dir " SCRATCH "/linked");
	assert_int_equal(o->status, 1);
	assert_non_null(strstr(o->err, "cannot open"));
	assert_int_not_equal(access(SCRATCH "/victim", F_OK), 0);
	assert_true(captured());
	assert_int_equal(workers_now(), own_workers());
}

/* As systemd starts it (Type=notify): it is ready when it says so, and says when it leaves. */
static void the_service_manager_is_told(void **state)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX, .sun_path = SCRATCH "/notify"};
	const struct timeval wait = {.tv_sec = 10};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	char text[64] = "";

	agent_stop(SIGUSR2);
	unlink(at.sun_path);
	assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)), 0);
	setenv("NOTIFY_SOCKET", at.sun_path, 1);
	agent_start("");
	unsetenv("NOTIFY_SOCKET");
	assert_true(recv(fd, text, sizeof(text) - 1, 0) > 0);
	assert_string_equal(text, "READY=1");
	agent_stop(SIGUSR2);
	memset(text, 0, sizeof(text));
	assert_true(recv(fd, text, sizeof(text) - 1, 0) > 0);
	assert_string_equal(text, "STOPPING=1");
	close(fd);
	agent_start("");
}

static void upgrade_without_an_agent_is_a_start(void **state)
{
	open_web();
	agent_stop(SIGTERM);
	assert_false(captured());
	agent_start("--upgrade");
	eventually(3000, captured());
}

int main(void)
{
	const struct CMUnitTest stories[] = {
		STORY(workers_serve_on_when_their_supervisor_is_killed),
		STORY(requests_of_the_time_between_are_counted),
		STORY(a_worker_that_dies_without_a_supervisor_leaves_the_others),
		STORY(upgrades_lose_no_request),
		STORY(a_restart_loses_no_request),
		STORY(an_upgrade_to_other_maps_loses_no_request),
		STORY(a_successor_with_other_maps_that_dies_on_the_way_stops_nothing),
		STORY(without_a_successor_workers_end_by_themselves),
		STORY(an_idle_caller_is_told_with_an_answer),
		STORY(a_pipeline_is_answered_to_its_end),
		STORY(a_successor_that_dies_on_the_way_stops_nothing),
		STORY(after_the_death_of_all_nothing_is_lost_and_the_next_repairs),
		STORY(generations_that_pile_up_wait_for_places),
		STORY(a_second_agent_is_refused_and_disturbs_nothing),
		STORY(the_service_manager_is_told),
		STORY(upgrade_without_an_agent_is_a_start),
	};

	return RUN(stories);
}
