/* SPDX-License-Identifier: Apache-2.0 */
/* TCP services, which the kernel balances by itself: real servers and callers in namespaces of
 * their own, policies from the configuration, and no worker that sees a byte. */
#include "tests/e2e/harness.h"

#include <arpa/inet.h>
#include <sys/socket.h>

#define SERVERS 3

/* Each story has a service of its own, whose words know nothing yet. */
static char service[32], label[64];
static unsigned services;
static struct instance *server[SERVERS];
static struct caller *who;

static void new_service(void)
{
	snprintf(service, sizeof(service), "db%u", services++);
	snprintf(label, sizeof(label), "destination=\"%s\"", service);
	memset(server, 0, sizeof(server));
}

/* Server i says "i" to whoever comes, and echoes then. */
static void serve(int i, const char *flags)
{
	char id[64], cmd[96], all[128];

	snprintf(id, sizeof(id), "%s-%d", service, i);
	snprintf(cmd, sizeof(cmd), "tcpserver --port 9000 --banner %d", i);
	snprintf(all, sizeof(all), "--netns --protocol tcp %s", flags);
	server[i] = instance_start(service, id, all, cmd);
}

static void serve_three(void)
{
	new_service();
	for (int i = 0; i < SERVERS; i++)
		serve(i, "");
	for (int i = 0; i < SERVERS; i++)
		instance_ready(server[i]);
	who = caller_start("client", "--netns");
}

static double connections(const char *outcome)
{
	double n = metric("mesh_tcp_connections_total", label, outcome, NULL);

	return n < 0 ? 0 : n;
}

static double captured(const char *path)
{
	return metric("mesh_connections_captured_total", path, NULL);
}

/* Says hello over a new connection: the server that took it, or -errno. */
static int whom(const char *address)
{
	int fd = caller_dial(who, address), n = -ECONNRESET;
	char line[3];

	if (fd < 0)
		return fd;
	if (recv(fd, line, sizeof(line), MSG_WAITALL) == sizeof(line))
		n = line[0] - '0';
	close(fd);
	return n;
}

/* Returns when the agent has it. */
static void set_policy(const char *policy)
{
	assert_int_equal(sh("meshctl lb set %s %s", service, policy)->status, 0);
	settled();
}

/* n connections: how many each server took; refused ones are not among them. */
static void spread(const char *address, int n, int got[SERVERS])
{
	memset(got, 0, SERVERS * sizeof(*got));
	for (int k = 0; k < n; k++) {
		int i = whom(address);

		if (i >= 0 && i < SERVERS)
			got[i]++;
		else if (i != -ECONNREFUSED)
			fail_msg("connection %d: %s", k, strerror(-i));
	}
}

static int sum(const int got[SERVERS])
{
	return got[0] + got[1] + got[2];
}

/* Registered by hand at an address where nobody listens, and not checked. */
static void register_dead(const char *id, const char *ip, int port)
{
	char body[256];

	snprintf(body, sizeof(body),
		 "{\"name\":\"%s\",\"port\":%d,\"address\":\"%s\",\"instance\":\"%s\"}", service,
		 port, ip, id);
	api("POST", "/api/register", body);
	assert_int_equal(api_status, 200);
}

static void connections_are_shared_and_no_worker_sees_them(void **state)
{
	double kernel, worker;
	int got[SERVERS];

	serve_three();
	eventually(2000, whom(server[0]->address) >= 0);
	kernel = captured("path=\"kernel\"");
	worker = captured("path=\"worker\"");
	spread(server[1]->address, 300, got);
	assert_int_equal(sum(got), 300);
	for (int i = 0; i < SERVERS; i++)
		assert_true(got[i] < 300); /* a slow machine may make one look slow */
	assert_true(captured("path=\"kernel\"") == kernel + 300);
	assert_true(captured("path=\"worker\"") == worker);
	set_policy("round-robin");
	eventually(3000, ({
			   spread(server[1]->address, 30, got);
			   got[0] == 10 && got[1] == 10 && got[2] == 10;
		   }));
}

static void the_caller_sees_what_it_asked_for(void **state)
{
	struct sockaddr_in peer;
	socklen_t len = sizeof(peer);
	char address[64], text[16], line[3];
	int fd;

	serve_three();
	for (int k = 0; k < 10; k++) {
		fd = caller_dial(who, server[2]->address);
		assert_true(fd >= 0);
		assert_int_equal(recv(fd, line, 3, MSG_WAITALL), 3);
		assert_int_equal(write(fd, "echo", 4), 4);
		assert_int_equal(recv(fd, text, 4, MSG_WAITALL), 4);
		assert_memory_equal(text, "echo", 4);
		assert_int_equal(getpeername(fd, (struct sockaddr *)&peer, &len), 0);
		snprintf(address, sizeof(address), "%s:%d",
			 inet_ntop(AF_INET, &peer.sin_addr, text, sizeof(text)),
			 ntohs(peer.sin_port));
		assert_string_equal(address, server[2]->address);
		close(fd);
	}
}

static void weights_and_splits_hold(void **state)
{
	int got[SERVERS];

	new_service();
	serve(0, "--weight 300");
	serve(1, "--version v2");
	instance_ready(server[0]);
	instance_ready(server[1]);
	who = caller_start("client", "--netns");
	set_policy("round-robin");
	eventually(3000, ({
			   spread(server[0]->address, 40, got);
			   abs(got[0] - 30) <= 2;
		   }));
	configure(service, "{\"split\":{\"v1\":90,\"v2\":10}}");
	spread(server[0]->address, 1000, got);
	assert_int_equal(sum(got), 1000);
	assert_in_range(got[0], 850, 950);
	assert_in_range(got[1], 50, 150);
}

static void an_endpoint_that_refuses_is_ejected(void **state)
{
	int got[SERVERS], refused = 0;

	serve_three();
	configure(service,
		  "{\"protocol\":\"tcp\",\"healthCheck\":{\"type\":\"none\"},"
		  "\"circuitBreaker\":{\"minRequests\":1000}," /* of the service: not now */
		  "\"loadBalancer\":{\"policy\":\"random\"}}");
	register_dead("nobody", server[0]->ip, 9001);
	eventually(3000, healthy(service) == 4);
	/* five in a row are enough; how many come before the agent looks is a matter of speed, and
	 * those before it has met the new policy do not count */
	eventually(5000, ({
			   refused += whom(server[0]->address) == -ECONNREFUSED;
			   !strcmp(endpoint_status(service, "nobody"), "ejected");
		   }));
	assert_true(refused >= 5);
	eventually(2000, connections("outcome=\"refused\"") == refused);
	spread(server[0]->address, 200, got);
	assert_int_equal(sum(got), 200);
	assert_string_equal(breaker_state(service), "closed");
}

/* Its sockets are closed by then. */
static bool is_dead(pid_t pid)
{
	char path[64], state = 'Z';
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = fopen(path, "re");
	if (!f)
		return true;
	if (fscanf(f, "%*d %*s %c", &state) != 1)
		state = 'Z'; /* gone meanwhile */
	fclose(f);
	return state == 'Z' || state == 'X';
}

static void a_killed_server_costs_next_to_nothing(void **state)
{
	int got[SERVERS], failed = 0;
	pid_t victim;

	serve_three();
	set_policy("random");
	eventually(2000, whom(server[0]->address) >= 0);
	victim = instance_pid(server[2]);
	kill(victim, SIGKILL);
	for (int k = 0; k < 300;) {
		bool dead = is_dead(victim); /* when it comes to that is the scheduler's affair */
		bool ok = whom(server[0]->address) >= 0;

		failed += dead && !ok;
		k += dead;
	}
	assert_int_equal(failed, 0); /* the kernel knows at once */
	eventually(2000, healthy(service) == 2);
	spread(server[0]->address, 100, got);
	assert_int_equal(got[0] + got[1], 100);
}

/* Nobody listens there, until somebody does. */
static void the_breaker_opens_refuses_and_closes(void **state)
{
	double refused, passed;
	char address[64];
	pid_t late;

	new_service();
	who = caller_start("client", "");
	configure(service, "{\"protocol\":\"tcp\",\"healthCheck\":{\"type\":\"none\"},"
			   "\"circuitBreaker\":{\"openFor\":\"1s\",\"minRequests\":8,"
			   "\"consecutiveErrors\":0,\"maxEjectedPercent\":0}}");
	register_dead("late", "127.0.0.1", 9100 + (int)services);
	snprintf(address, sizeof(address), "127.0.0.1:%u", 9100 + services);
	eventually(3000, healthy(service) == 1);
	eventually(5000, ({
			   assert_int_equal(whom(address), -ECONNREFUSED);
			   connections("outcome=\"breaker-open\"") > 0;
		   }));
	eventually(2000, !strcmp(breaker_state(service), "open"));
	assert_in_range((int)connections("outcome=\"refused\""), 8, 12);
	refused = captured("path=\"refused\"");
	passed = connections("outcome=\"breaker-open\"");
	for (int k = 0; k < 20; k++)
		assert_int_equal(whom(address), -ECONNREFUSED);
	assert_true(captured("path=\"refused\"") > refused + 15); /* one may be a probe */
	eventually(2000, connections("outcome=\"breaker-open\"") > passed + 15);
	eventually(3000, sh("grep -q 'connects to %s were refused.*breaker is open' " SCRATCH
			    "/agent.log",
			    service)
					 ->status == 0);
	snprintf(label, sizeof(label), "tcpserver --port %u --banner 0", 9100 + services);
	late = spawn("late", label);
	snprintf(label, sizeof(label), "destination=\"%s\"", service);
	eventually(8000, whom(address) == 0);
	for (int i = 0; i < 50; i++)
		assert_int_equal(whom(address), 0);
	eventually(2000, !strcmp(breaker_state(service), "closed"));
	assert_true(metric("mesh_circuit_breaker_transitions_total", label, "to=\"closed\"",
			   NULL) >= 1);
	reap(&late, SIGTERM);
}

static void the_bulkhead_is_kept(void **state)
{
	int fd[5];

	serve_three();
	configure(service, "{\"bulkhead\":{\"maxConnections\":4}}");
	eventually(2000, whom(server[0]->address) >= 0);
	for (int i = 0; i < 4; i++)
		eventually(2000, (fd[i] = caller_dial(who, server[0]->address)) >= 0);
	assert_true(metric("mesh_tcp_connections_open", label, NULL) == 4);
	for (int k = 0; k < 10; k++)
		assert_int_equal(caller_dial(who, server[0]->address), -ECONNREFUSED);
	eventually(2000, connections("outcome=\"bulkhead-full\"") >= 10);
	close(fd[0]);
	eventually(2000, (fd[0] = caller_dial(who, server[0]->address)) >= 0);
	for (int i = 0; i < 4; i++)
		close(fd[i]);
}

static void what_is_counted_adds_up(void **state)
{
	double before, sent, received;
	char line[3];

	serve_three();
	eventually(2000, whom(server[0]->address) >= 0);
	eventually(2000, connections("outcome=\"closed\"") > 0);
	before = connections("outcome=\"closed\"");
	sent = metric("mesh_tcp_sent_bytes_total", label, NULL);
	received = metric("mesh_tcp_received_bytes_total", label, NULL);
	for (int k = 0; k < 100; k++) {
		int fd = caller_dial(who, server[k % SERVERS]->address);
		char back[10];

		assert_true(fd >= 0);
		assert_int_equal(recv(fd, line, 3, MSG_WAITALL), 3);
		assert_int_equal(write(fd, "0123456789", 10), 10);
		assert_int_equal(recv(fd, back, 10, MSG_WAITALL), 10);
		close(fd);
	}
	eventually(3000, connections("outcome=\"closed\"") >= before + 100);
	assert_true(connections("outcome=") == before + 100); /* each in one outcome, once */
	assert_true(metric("mesh_tcp_sent_bytes_total", label, NULL) == sent + 1000);
	assert_true(metric("mesh_tcp_received_bytes_total", label, NULL) == received + 1300);
	assert_true(metric("mesh_tcp_connect_duration_seconds_count", label, NULL) == before + 100);
}

/* Networks of containers may be kept apart; a worker has the host's reach. */
static void what_the_caller_cannot_reach_goes_by_way_of_a_worker(void **state)
{
	double worker;
	int got[SERVERS];

	serve_three();
	for (int i = 0; i < SERVERS; i++)
		assert_int_equal(sh("nsenter -t %d -n ip route add unreachable %s",
				    (int)instance_pid(who->run), server[i]->ip)
					 ->status,
				 0);
	for (int k = 0; k < SERVERS; k++) /* each is tried once */
		(void)whom(server[0]->address);
	worker = captured("path=\"worker\"");
	spread(server[0]->address, 60, got);
	assert_int_equal(sum(got), 60);
	assert_true(captured("path=\"worker\"") == worker + 60);
	assert_int_equal(healthy(service), 3);
	assert_string_equal(breaker_state(service), "closed");
}

static void it_goes_on_without_supervisor_and_workers(void **state)
{
	int got[SERVERS];

	serve_three();
	set_policy("round-robin");
	eventually(3000, ({
			   spread(server[1]->address, 30, got);
			   got[0] == 10 && got[1] == 10 && got[2] == 10;
		   }));
	agent_stop(SIGKILL);
	workers_kill();
	spread(server[1]->address, 300, got);
	assert_int_equal(got[0], 100);
	assert_int_equal(got[1], 100);
	assert_int_equal(got[2], 100);
	/* the kernel alone sees that one is gone */
	instance_kill(server[2]);
	spread(server[1]->address, 100, got);
	assert_int_equal(got[0] + got[1], 100);
	assert_true(got[0] > 20 && got[1] > 20);
}

int main(void)
{
	const struct CMUnitTest stories[] = {
		STORY(connections_are_shared_and_no_worker_sees_them),
		STORY(the_caller_sees_what_it_asked_for),
		STORY(weights_and_splits_hold),
		STORY(an_endpoint_that_refuses_is_ejected),
		STORY(a_killed_server_costs_next_to_nothing),
		STORY(the_breaker_opens_refuses_and_closes),
		STORY(the_bulkhead_is_kept),
		STORY(what_is_counted_adds_up),
		STORY(what_the_caller_cannot_reach_goes_by_way_of_a_worker),
		STORY(it_goes_on_without_supervisor_and_workers),
	};

	return RUN(stories);
}
