/* SPDX-License-Identifier: Apache-2.0 */
/* Programs on the host that mean harm: they take nobody's calls, and stop nobody's service. */
#include "tests/e2e/harness.h"

#include <arpa/inet.h>
#include <limits.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#define NOBODYS "203.0.113.5" /* RFC 5737: no host has it */

static const char *self(void)
{
	static char path[PATH_MAX];

	assert_true(readlink("/proc/self/exe", path, sizeof(path) - 1) > 0);
	return path;
}

/* --- this very program, started again as an intruder --------------------------------------------
 */

static int listen_at(const char *ip, uint16_t port)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	if (fd < 0 || inet_pton(AF_INET, ip, &sa.sin_addr) != 1 ||
	    setsockopt(fd, IPPROTO_IP, IP_FREEBIND, &one, sizeof(one)) ||
	    bind(fd, (struct sockaddr *)&sa, sizeof(sa)) || listen(fd, 8))
		return -1;
	return fd;
}

/* On an address that is not there, and then on one that shows when the agent has seen both. */
static int bind_freely(void)
{
	if (listen_at(NOBODYS, 8000) < 0 || listen_at("0.0.0.0", 8001) < 0)
		return 1;
	for (;;)
		pause();
}

static int listen_without_end(void)
{
	int fd;

	while ((fd = listen_at("127.0.0.1", 0)) >= 0)
		close(fd);
	return 1;
}

/* --- stories ------------------------------------------------------------------------------------
 */

/* A call to that address is neither taken by the mesh nor answered by anybody. */
static void goes_nowhere(struct caller *who, const char *address)
{
	int fd = caller_dial(who, address);

	if (fd >= 0)
		fail_msg("a call to %s was taken", address);
}

static void a_namespace_that_a_workload_made_itself_takes_no_calls(void **state)
{
	struct caller *who = caller_start("client", "");

	instance_start(
		"thief", "t1", "--netns",
		"unshare -Urn sh -c 'ip link set lo up && ip addr add " NOBODYS
		"/32 dev lo && ip link add d0 type veth peer name d1 && ip link set d0 up && "
		"ip addr add 203.0.113.6/32 dev d0 && exec origin --port 8000'");
	eventually(10000,
		   sh("grep -c 'mesh/thief/t1 is left alone' " SCRATCH "/agent.log")->status == 0);
	assert_int_equal(healthy("thief"), 0);
	goes_nowhere(who, NOBODYS ":8000");
	goes_nowhere(who, "203.0.113.6:8000");
}

static void addresses_of_the_host_are_not_taken_by_a_namespace_that_adds_them(void **state)
{
	struct caller *who = caller_start("client", "");
	struct instance *thief;

	thief = instance_ready(
		instance_start("thief", "t1", "--netns",
			       "sh -c 'ip addr add 10.201.0.1/32 dev eth0; ip addr add " NOBODYS
			       "/32 dev lo; exec origin --port 8000'"));
	assert_string_not_equal(thief->ip, "10.201.0.1");
	assert_string_not_equal(thief->ip, NOBODYS);
	goes_nowhere(who, "10.201.0.1:8000");
	goes_nowhere(who, NOBODYS ":8000");
}

static void a_socket_bound_to_an_address_that_is_not_there_takes_no_calls(void **state)
{
	struct caller *who = caller_start("client", "");
	char program[PATH_MAX + 16];

	snprintf(program, sizeof(program), "%s bind-freely", self());
	instance_ready(instance_start("thief", "t1", "", program));
	goes_nowhere(who, NOBODYS ":8000");
}

/* In a cgroup of nobody, beside processes whose environment takes long to read. */
static void who_listens_without_end_stops_nobody(void **state)
{
	struct instance *web =
		instance_ready(instance_start("web", "w1", "--netns", "origin --port 8000"));
	struct caller *who = caller_start("client", "--netns");
	double stale = metric("mesh_hook_total", "\"passed-stale\"", NULL);
	char cmd[PATH_MAX + 512];
	uint64_t until;
	pid_t loud;
	int n = 0;

	sh("mkdir /sys/fs/cgroup/loud");
	snprintf(cmd, sizeof(cmd),
		 "echo $$ >/sys/fs/cgroup/loud/cgroup.procs; "
		 "big=$(head -c 100000 /dev/zero | tr '\\0' x); export big; "
		 "for i in $(seq 31); do sleep 1000 & done; exec %s listen-without-end",
		 self());
	loud = spawn("loud", cmd);
	eventually(5000,
		   sh("grep -c ^[0-9] /sys/fs/cgroup/loud/cgroup.procs")->out[0] == '3' &&
			   sh("grep -q listen-without-end /proc/%d/cmdline", loud)->status == 0);
	for (until = mono_ms() + 2000; mono_ms() < until || !registered("web", "w2");) {
		struct client *c = call(who, web->address);

		assert_int_equal(get(c, "/"), 200);
		assert_string_not_equal(header(c, "x-instance-id"), "");
		hang_up(c);
		if (n++ == 0)
			instance_start("web", "w2", "--netns", "origin --port 8000");
		if (mono_ms() > until + 8000)
			fail_msg("w2 is not registered after 10 s");
	}
	sh("echo 1 >/sys/fs/cgroup/loud/cgroup.kill");
	reap(&loud, SIGKILL);
	eventually(5000, sh("rmdir /sys/fs/cgroup/loud")->status == 0);
	assert_true(metric("mesh_hook_total", "\"passed-stale\"", NULL) == stale);
}

/* Whoever may make cgroups of his own may call them anything but a line feed; meshd takes no
 * control characters, and with one of them nothing of all that the agent says. */
static void a_cgroup_with_a_strange_name_hides_nobody(void **state)
{
	pid_t odd;

	sh("mkdir \"$(printf '/sys/fs/cgroup/a\\033[2J\\377')\"");
	odd = spawn("odd", "cd /sys/fs/cgroup/a* && echo $$ >cgroup.procs && cd / && "
			   "MESH_SERVICE=odd MESH_INSTANCE=o1 exec origin --port 8000");
	eventually(10000, registered("odd", "o1"));
	instance_ready(instance_start("web", "w1", "--netns", "origin --port 8000"));
	reap(&odd, SIGKILL);
	eventually(5000, sh("rmdir /sys/fs/cgroup/a*")->status == 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest stories[] = {
		STORY(a_namespace_that_a_workload_made_itself_takes_no_calls),
		STORY(addresses_of_the_host_are_not_taken_by_a_namespace_that_adds_them),
		STORY(a_socket_bound_to_an_address_that_is_not_there_takes_no_calls),
		STORY(who_listens_without_end_stops_nobody),
		STORY(a_cgroup_with_a_strange_name_hides_nobody),
	};

	if (argc == 2 && !strcmp(argv[1], "bind-freely"))
		return bind_freely();
	if (argc == 2 && !strcmp(argv[1], "listen-without-end"))
		return listen_without_end();
	return RUN(stories);
}
