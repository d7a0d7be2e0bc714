/* SPDX-License-Identifier: Apache-2.0 */
/* Services are found by what they do: nobody registers them, and they are gone when they are dead.
 */
#include "tests/e2e/harness.h"
#include "tests/bench/net.h"

#include <limits.h>
#include <sys/un.h>

#define FOUR	  4
#define WITHIN_MS 100 /* what is promised of a listen() and of a death */
#define TIMES	  9

static const char *const four[FOUR] = {"frontend", "backend", "database", "cache"};

static void four_services_have_one_healthy_endpoint_each(void **state)
{
	for (int i = 0; i < FOUR; i++)
		instance_start(four[i], four[i], "--netns", "origin --port 8000");
	for (int i = 0; i < FOUR; i++)
		eventually(5000, healthy(four[i]) == 1);
	assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(api("GET", "/api/services", NULL),
								"services")),
			 FOUR);
}

/* The program whose listen() is timed: connects to the test, listens when it is told to, says when
 * that was. This very test program, started again. */
static int listen_when_told(const char *path)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	const struct addr any = {.ip = {[10] = 0xff, [11] = 0xff}, .port = 8000};
	int test = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	uint64_t at;
	char go;

	if (strlen(path) >= sizeof(un.sun_path))
		return 2;
	strcpy(un.sun_path, path);
	if (connect(test, (struct sockaddr *)&un, sizeof(un)) || recv(test, &go, 1, 0) != 1)
		return 1;
	at = clock_mono_ns(); /* before the call: what comes out is never too short */
	if (net_listen(&any) < 0 || send(test, &at, sizeof(at), MSG_NOSIGNAL) != sizeof(at))
		return 1;
	return recv(test, &go, 1, 0) == 0 ? 0 : 1; /* the test is gone */
}

/* Asks the registry until it has (or has not) that instance; the ms since then. */
static double ms_until(bool there, const struct instance *i, uint64_t since)
{
	while (registered(i->service, i->id) != there) {
		if (clock_mono_ns() > since + 2000000000)
			fail_msg("%s is %s after 2 s", i->id, there ? "unknown" : "still there");
		usleep(500);
	}
	assert_true(api_status == 200 || api_status == 404);
	return (double)(clock_mono_ns() - since) / 1e6;
}

static void one_that_listens_is_there_after_100_ms_and_a_dead_one_gone(void **state)
{
	char self[PATH_MAX] = "", program[PATH_MAX + 16];
	int soon = 0;

	assert_true(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
	snprintf(program, sizeof(program), "%s listen-when-told", self);
	driven_start("fifth", "silent", "--netns", program);
	for (int k = 0; k < TIMES; k++) {
		char id[16];
		struct caller *c;
		uint64_t at;
		double came, went;
		pid_t pid;

		snprintf(id, sizeof(id), "f%d", k);
		c = driven_start("fifth", id, "--netns", program);
		assert_false(registered("fifth", id));
		assert_int_equal(send(c->fd, "!", 1, MSG_NOSIGNAL), 1);
		assert_int_equal(recv(c->fd, &at, sizeof(at), 0), sizeof(at));
		came = ms_until(true, c->run, at);
		call_directly(instance_ready(c->run)->address);

		pid = instance_pid(c->run);
		assert_true(pid > 0);
		at = clock_mono_ns();
		kill(pid, SIGKILL);
		went = ms_until(false, c->run, at);
		printf("registered %.1f ms after listen(), gone %.1f ms after kill -9\n", came,
		       went);
		soon += came <= WITHIN_MS && went <= WITHIN_MS;
		reap(&c->run->run, 0);
	}
	/* the machine may have something else to do now and then */
	assert_true(soon > TIMES / 2);
	/* older than all of them, but never told to listen */
	assert_false(registered("fifth", "silent"));
}

static void a_pure_caller_is_no_service(void **state)
{
	struct caller *who = caller_start("nobody", "");

	for (int k = 0; k < 2; k++) {
		struct instance *i =
			instance_start("later", k ? "l2" : "l1", "--netns", "origin --port 8000");

		/* The agent tells meshd of all that it knows at once: with somebody who came later
		 * a service of the caller would be there too. */
		assert_int_equal(get(call(who, instance_ready(i)->address), "/"), 200);
		assert_false(registered("nobody", NULL));
		assert_int_equal(healthy("nobody"), 0);
	}
}

static void addresses_are_those_of_the_namespace(void **state)
{
	struct instance *in =
		instance_ready(instance_start("ns", "n1", "--netns", "origin --port 8000"));
	struct instance *out = instance_ready(
		instance_start("host", "h1", "", "origin --port 8001 --listen 127.0.0.1"));

	assert_memory_equal(in->ip, "10.201.", 7);
	assert_int_equal(in->port, 8000);
	assert_string_equal(out->address, "127.0.0.1:8001");
}

static void the_primary_port_is_the_declared_or_the_lowest(void **state)
{
	struct instance *lowest = instance_ready(
		instance_start("lowest", "l1", "--netns", "origin --port 8002,8001"));
	struct instance *declared = instance_ready(
		instance_start("declared", "d1", "--netns --port 8002", "origin --port 8002,8001"));
	struct caller *who = caller_start("client", "--netns");
	char other[64];

	eventually(5000, (instance_ready(lowest), lowest->port == 8001));
	assert_int_equal(declared->port, 8002);
	/* the other port can be called too, and is that service's */
	snprintf(other, sizeof(other), "%s:8001", declared->ip);
	assert_int_equal(get(call(who, other), "/"), 200);
	assert_int_equal(get(call(who, declared->address), "/"), 200);
}

static void two_versions_and_instances_are_told_apart(void **state)
{
	cJSON *s;

	instance_ready(instance_start("pair", "p1", "--netns", "origin --port 8000"));
	instance_ready(instance_start("pair", "p2", "--netns --version v2", "origin --port 8000"));
	s = api("GET", "/api/services/pair", NULL);
	if (cJSON_GetObjectItem(s, "services"))
		s = cJSON_GetArrayItem(cJSON_GetObjectItem(s, "services"), 0);
	s = cJSON_GetObjectItem(s, "endpoints");
	assert_int_equal(cJSON_GetArraySize(s), 2);
	for (int i = 0; i < 2; i++) {
		const cJSON *e = cJSON_GetArrayItem(s, i);

		assert_string_equal(json_str(e, "version", ""),
				    !strcmp(json_str(e, "id", ""), "p2") ? "v2" : "v1");
	}
}

/* As redis, nginx and PostgreSQL do, to write their title there. What was not said on the command
 * line but in the environment alone is known to the agent that read it in time. */
static void who_overwrites_its_environment_stays_who_it_is(void **state)
{
	static const char *const is_as_told =
		"meshctl get services titled | grep -qw tcp && "
		"meshctl get endpoints titled -o wide | grep -w v7 | grep -qw 300";
	struct instance *i = instance_ready(
		instance_start("titled", "t1", "--netns --version v7 --protocol tcp --weight 300",
			       "origin --port 8000 --titled"));

	assert_int_equal(sh("grep -qz MESH_ /proc/%d/environ", instance_pid(i))->status, 1);
	assert_int_equal(sh("%s", is_as_told)->status, 0);
	agent_stop(SIGTERM);
	agent_start("");
	instance_ready(i);
	assert_int_equal(sh("%s", is_as_told)->status, 0);
	agent_stop(SIGKILL);
	agent_start("");
	instance_ready(i);
	eventually(2000, sh("%s", is_as_told)->status == 0);
}

static int open_descriptors(pid_t pid)
{
	return atoi(sh("ls /proc/%d/fd | wc -l", pid)->out);
}

/* Descriptors of listeners in namespaces that are gone would keep those alive for ever. */
static void many_come_and_go_without_a_trace(void **state)
{
	enum { MANY = 20 };
	struct instance *i[MANY];
	pid_t workers[16];
	int n = agent_workers(workers, 16), before = open_descriptors(agent_pid), of_worker;
	double dests, netns;

	assert_true(n > 0);
	eventually(5000, metric("mesh_bpf_map_entries", "\"netns\"", NULL) <= 1);
	of_worker = open_descriptors(workers[0]);
	dests = metric("mesh_bpf_map_entries", "\"dests\"", NULL);
	netns = metric("mesh_bpf_map_entries", "\"netns\"", NULL);
	for (int k = 0; k < MANY; k++) {
		char id[16];

		snprintf(id, sizeof(id), "many-%d", k);
		i[k] = instance_start("many", id, "--netns", "origin --port 8000");
	}
	eventually(15000, healthy("many") == MANY);
	for (int k = 0; k < MANY; k++)
		kill(i[k]->run, SIGTERM);
	for (int k = 0; k < MANY; k++)
		reap(&i[k]->run, 0);
	eventually(3000, healthy("many") == 0);
	/* less: what an earlier story had may have been there still */
	eventually(5000, metric("mesh_bpf_map_entries", "\"dests\"", NULL) <= dests);
	eventually(5000, metric("mesh_bpf_map_entries", "\"netns\"", NULL) <= netns);
	eventually(5000, open_descriptors(agent_pid) <= before);
	eventually(5000, open_descriptors(workers[0]) <= of_worker);
	assert_string_equal(sh("ip netns list")->out, "");
}

static void services_older_than_the_agent_are_found(void **state)
{
	struct instance *i;

	agent_stop(SIGTERM);
	i = instance_start("older", "o1", "--netns", "origin --port 8000");
	/* without an agent the program starts after 5 s: fail open */
	eventually(10000, instance_pid(i) && sh("nsenter -t %d -n ss -H -l -t -n | grep -q :8000",
						instance_pid(i))
							     ->status == 0);
	agent_start("");
	instance_ready(i);
	kill(instance_pid(i), SIGKILL);
	eventually(2000, !registered("older", "o1")); /* as the contract has it */
	reap(&i->run, 0);
}

static void a_restarted_agent_finds_the_same_again(void **state)
{
	struct instance *i =
		instance_ready(instance_start("again", "a1", "--netns", "origin --port 8000"));
	struct caller *who = caller_start("client", "--netns");

	assert_int_equal(get(call(who, i->address), "/"), 200);
	agent_stop(SIGTERM);
	eventually(2000, !registered("again", "a1"));
	agent_start("");
	instance_ready(i);
	eventually(5000, ({
			   struct client *c = call(who, i->address);

			   get(c, "/") == 200 && !strcmp(header(c, "x-instance-id"), "a1");
		   }));
}

static void registered_by_hand_it_can_be_called(void **state)
{
	struct caller *who = caller_start("client", "");
	struct client *c;

	/* outside the mesh: a program that no agent manages */
	pid_t pid = spawn("outside", "exec origin --port 8090 --listen 127.0.0.1 --name outside");

	eventually(5000, sh("ss -H -l -t -n | grep -q 127.0.0.1:8090")->status == 0);
	api("POST", "/api/register",
	    "{\"name\":\"legacy\",\"port\":8090,\"address\":\"127.0.0.1\",\"instance\":\"leg-1\"}");
	assert_in_range(api_status, 200, 201);
	eventually(5000, healthy("legacy") == 1);
	eventually(5000, ({
			   c = call(who, "127.0.0.1:8090");
			   get(c, "/") == 200 && !strcmp(header(c, "x-instance-id"), "leg-1");
		   }));
	assert_string_equal(header(c, "x-origin"), "outside");
	api("DELETE", "/api/register/legacy/leg-1", NULL);
	assert_int_equal(api_status, 200);
	eventually(2000, !registered("legacy", "leg-1"));
	reap(&pid, SIGKILL);
}

static void a_dead_meshd_stops_no_traffic_and_learns_all_again(void **state)
{
	struct instance *i =
		instance_ready(instance_start("steady", "s1", "--netns", "origin --port 8000"));
	struct caller *who = caller_start("client", "--netns");
	struct client *c = call(who, i->address);
	struct instance *late;

	assert_int_equal(get(c, "/"), 200);
	meshd_stop(SIGKILL);
	assert_int_equal(get(c, "/"), 200);
	late = instance_start("late", "l1", "--netns", "origin --port 8000");
	eventually(
		10000,
		sh("nsenter -t %d -n ss -H -l -t -n | grep -q :8000", instance_pid(late))->status ==
			0);
	for (int k = 0; k < 20; k++)
		assert_int_equal(get(call(who, i->address), "/?n=%d", k), 200);
	meshd_start();
	instance_ready(i);
	instance_ready(late);
	assert_int_equal(get(call(who, late->address), "/"), 200);
}

/* What the agent has open there must not keep it: somebody else lives on in the cgroup. */
static void a_namespace_goes_with_the_last_process_that_was_in_it(void **state)
{
	double before = metric("mesh_network_namespaces", "captured", NULL);
	pid_t stays, visitor;

	sh("mkdir /sys/fs/cgroup/shared");
	stays = spawn("stays", "echo $$ >/sys/fs/cgroup/shared/cgroup.procs; exec sleep 1000");
	/* in its namespace before it says who it is: the agent takes the namespace that it then is
	 * in */
	visitor = spawn("visitor", "exec unshare -n sh -c 'ip link set lo up; "
				   "echo $$ >/sys/fs/cgroup/shared/cgroup.procs; "
				   "MESH_SERVICE=visitor exec sleep 1000'");
	eventually(5000, metric("mesh_network_namespaces", "captured", NULL) == before + 1);
	reap(&visitor, SIGKILL);
	eventually(5000, metric("mesh_network_namespaces", "captured", NULL) == before);
	reap(&stays, SIGKILL);
	assert_int_equal(sh("rmdir /sys/fs/cgroup/shared")->status, 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest stories[] = {
		STORY(four_services_have_one_healthy_endpoint_each),
		STORY(one_that_listens_is_there_after_100_ms_and_a_dead_one_gone),
		STORY(a_pure_caller_is_no_service),
		STORY(addresses_are_those_of_the_namespace),
		STORY(the_primary_port_is_the_declared_or_the_lowest),
		STORY(two_versions_and_instances_are_told_apart),
		STORY(who_overwrites_its_environment_stays_who_it_is),
		STORY(many_come_and_go_without_a_trace),
		STORY(services_older_than_the_agent_are_found),
		STORY(a_restarted_agent_finds_the_same_again),
		STORY(registered_by_hand_it_can_be_called),
		STORY(a_namespace_goes_with_the_last_process_that_was_in_it),
		STORY(a_dead_meshd_stops_no_traffic_and_learns_all_again),
	};

	if (argc == 3 && !strcmp(argv[1], "listen-when-told"))
		return listen_when_told(argv[2]);
	return RUN(stories);
}
