/* SPDX-License-Identifier: Apache-2.0 */
/* Traffic that goes past the mesh is named: whose it is, why, and what to do. */
#include "tests/e2e/harness.h"

#include <sys/wait.h>

#define SEEN_MS 15000 /* a look, a round, and the next report to meshd */

static struct instance *web;
static struct caller *who;

static void open_web(void)
{
	web = instance_ready(instance_start("web", "web-1", "--netns", "origin --port 8000"));
	who = caller_start("client", "--netns");
}

/* "coverage" as the agent says it. */
static const cJSON *coverage(void)
{
	const cJSON *agents = api("GET", "/api/agents", NULL);

	return cJSON_GetObjectItem(cJSON_GetArrayItem(cJSON_GetObjectItem(agents, "agents"), 0),
				   "coverage");
}

/* That reason of that service's workload, NULL when the agent does not name it. */
static const cJSON *escape(const char *service, const char *reason)
{
	const cJSON *w, *r;

	cJSON_ArrayForEach (w, cJSON_GetObjectItem(coverage(), "escaping"))
		cJSON_ArrayForEach (r, cJSON_GetObjectItem(w, "reasons"))
			if (!strcmp(json_str(w, "service", ""), service) &&
			    !strcmp(json_str(r, "reason", ""), reason))
				return r;
	return NULL;
}

static double number(const cJSON *v, const char *key)
{
	return v ? json_num(v, key, -1) : -1;
}

/* `meshctl check` ends with that status and has these words in one line. */
static void assert_checked(int status, const char *service, const char *words)
{
	struct output *o = sh("meshctl check");
	char *line = strtok(o->out, "\n");

	while (line && !(strstr(line, service) && strstr(line, words)))
		line = strtok(NULL, "\n");
	if (o->status != status || !line)
		fail_msg("check: exit %d, no line with %s and '%s'", o->status, service, words);
}

static void what_is_captured_is_not_named(void **state)
{
	struct client *c;

	open_web();
	c = call(who, web->address);
	assert_int_equal(get(c, "/"), 200);
	eventually(SEEN_MS, metric("mesh_coverage_connects_total", "source=\"client\"",
				   "path=\"worker\"", NULL) >= 1);
	for (double rounds = metric("mesh_coverage_rounds_total", NULL), until = rounds + 2;
	     rounds < until; rounds = metric("mesh_coverage_rounds_total", NULL))
		usleep(20000);
	assert_null(escape("client", "unseen"));
	assert_true(metric("mesh_coverage_escaped_connections", "client", NULL) <= 0);
	assert_checked(0, "coverage", "no connection of a workload to a service goes past");
}

static void a_connection_older_than_the_agent_is_named(void **state)
{
	struct client *c;

	open_web();
	agent_stop(SIGTERM);
	c = call(who, web->address);
	assert_int_equal(get(c, "/"), 200);
	agent_start("");
	eventually(SEEN_MS, number(escape("client", "unseen"), "open") == 1);
	assert_string_equal(json_str(escape("client", "unseen"), "to", ""), "web");
	assert_checked(0, "client/", "older than the agent");
	assert_int_equal(get(c, "/"), 200);
	hang_up(c);
	eventually(SEEN_MS, !escape("client", "unseen"));
}

static void an_mptcp_connection_is_named(void **state)
{
	char address[96];
	int fd;

	open_web();
	snprintf(address, sizeof(address), "mptcp %s", web->address);
	fd = caller_dial(who, address);
	if (fd == -EPROTONOSUPPORT || fd == -ENOPROTOOPT)
		story_skip("this kernel has no MPTCP");
	assert_return_code(fd, errno);
	eventually(SEEN_MS, number(escape("client", "mptcp"), "open") == 1);
	assert_int_equal(number(escape("client", "mptcp"), "connects"), 1);
	assert_null(escape("client", "unseen"));
	assert_checked(0, "client/", "they are MPTCP");
	close(fd);
	eventually(SEEN_MS, number(escape("client", "mptcp"), "open") == 0);
}

static void a_caller_bound_to_a_device_is_named(void **state)
{
	char address[96];
	int fd;

	open_web();
	snprintf(address, sizeof(address), "device %s", web->address);
	fd = caller_dial(who, address);
	assert_return_code(fd, errno);
	eventually(SEEN_MS, number(escape("client", "device"), "open") == 1);
	assert_null(escape("client", "unseen"));
	assert_checked(0, "client/", "bound to a network device");
	assert_true(metric("mesh_coverage_connects_total", "source=\"client\"", "reason=\"device\"",
			   NULL) == 1);
	close(fd);
}

/* Somebody has the port of the capture listener in the workload's namespace. */
static void a_workload_whose_namespace_has_no_listener_is_named(void **state)
{
	struct client *c;
	pid_t squatter;

	assert_int_equal(sh("ip netns add taken && ip -n taken link set lo up")->status, 0);
	squatter = spawn("squatter", "exec ip netns exec taken origin --port 15001");
	eventually(5000, !sh("ip netns exec taken ss -ltn | grep -q :15001")->status);
	instance_start("local", "local-1", "", "ip netns exec taken origin --port 8000");
	who = driven_start("client", "client-ns", "", "ip netns exec taken dialer --socket");
	eventually(5000, metric("mesh_network_namespaces", "port-taken", NULL) == 1);
	eventually(SEEN_MS, registered("local", "local-1"));
	c = call(who, "127.0.0.1:8000");
	assert_int_equal(get(c, "/"), 200);
	eventually(SEEN_MS, number(escape("client", "no-worker"), "open") == 1);
	assert_checked(1, "client/client-ns", "no worker was there");
	hang_up(c);
	reap(&squatter, SIGTERM);
	sh("ip netns del taken");
}

static bool is_stranger(const char *cgroup)
{
	const cJSON *s;

	cJSON_ArrayForEach (s, cJSON_GetObjectItem(coverage(), "strangers"))
		if (!strcmp(json_str(s, "cgroup", ""), cgroup))
			return number(s, "connects") == 1;
	return false;
}

static void a_caller_that_is_no_workload_is_named(void **state)
{
	pid_t pid;

	open_web();
	assert_int_equal(sh("mkdir /sys/fs/cgroup/stray")->status, 0);
	setenv("TO", web->address, 1);
	pid = spawn("stray", "echo $$ >/sys/fs/cgroup/stray/cgroup.procs && exec bash -c 'exec "
			     "3<>/dev/tcp/${TO%:*}/${TO#*:}; exec sleep 600'");
	eventually(SEEN_MS, is_stranger("/stray"));
	assert_checked(0, "cgroup /stray is no workload", "to web past the mesh");
	reap(&pid, SIGKILL);
	assert_int_equal(sh("rmdir /sys/fs/cgroup/stray")->status, 0);
}

int main(void)
{
	const struct CMUnitTest stories[] = {
		STORY(what_is_captured_is_not_named),
		STORY(a_connection_older_than_the_agent_is_named),
		STORY(an_mptcp_connection_is_named),
		STORY(a_caller_bound_to_a_device_is_named),
		STORY(a_workload_whose_namespace_has_no_listener_is_named),
		STORY(a_caller_that_is_no_workload_is_named),
	};

	return RUN(stories);
}
