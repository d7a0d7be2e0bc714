/* SPDX-License-Identifier: Apache-2.0 */
/* The connect and getpeername hooks with real sockets in real cgroups: what is captured, what
 * passes, and what is written down about it. */
#include "tests/bpf/fixture.h"

#include <bpf/bpf.h>
#include <sys/prctl.h>

/* The worker's look-up after accept(): by the peer's address, on the read-only descriptor. */
static int lookup_origdst(int accepted, struct mesh_origdst *out)
{
	struct mesh_origdst_key key = {.netns = fx.netns};
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	int fds[KERNEL_WORKER_FDS];
	struct addr peer;

	if (getpeername(accepted, (struct sockaddr *)&ss, &len) < 0)
		return -errno;
	ok(addr_from_sockaddr(&ss, &peer));
	memcpy(key.ip, peer.ip, 16);
	key.port = htons(peer.port);
	kernel_worker_fds(fx.k, fds);
	return bpf_map_lookup_elem(fds[KERNEL_WORKER_FDS - 1], &key, out) < 0 ? -errno : 0;
}

/* A connect() that must land at `listener` as one to ip:port by `workload`. */
static void assert_captured(const char *ip, uint16_t port, int listener, const char *as,
			    uint32_t workload)
{
	uint64_t before = counter(MESH_C_CAPTURED), start = clock_mono_ns();
	struct mesh_origdst o;
	uint8_t want[16];
	int error, fd = try_connect(ip, port, &error), accepted;

	assert_int_equal(error, 0);
	accepted = accept_within(listener, WAIT_MS);
	assert_true(accepted >= 0);
	ok(lookup_origdst(accepted, &o));
	ok(addr_parse_ip(as, want));
	assert_memory_equal(o.ip, want, 16);
	ok(addr_parse_ip(CALLER_IP, want));
	assert_memory_equal(o.caller_ip, want, 16);
	assert_int_equal(ntohs(o.port), port);
	assert_int_equal(o.upstream, UPSTREAM);
	assert_int_equal(o.workload, workload);
	assert_int_equal(o.netns, fx.netns);
	assert_true(o.time_ns >= start && o.time_ns <= clock_mono_ns());
	assert_int_equal(counter(MESH_C_CAPTURED), before + 1);
	close(accepted);
	close(fd);
}

/* A connect() that must reach the server itself, counted as `why` (MESH_C_MAX: not counted at all).
 */
static void assert_passed(const char *ip, uint16_t port, int server, enum mesh_counter why)
{
	uint64_t captured = counter(MESH_C_CAPTURED), before = why < MESH_C_MAX ? counter(why) : 0;
	int error, fd = try_connect(ip, port, &error), accepted;

	assert_int_equal(error, 0);
	accepted = accept_within(server, WAIT_MS);
	assert_true(accepted >= 0);
	assert_int_equal(counter(MESH_C_CAPTURED), captured);
	if (why < MESH_C_MAX)
		assert_int_equal(counter(why), before + 1);
	close(accepted);
	close(fd);
}

static void workload_is_captured_ipv4(void **state)
{
	enter("/app");
	assert_captured("127.0.0.1", fx.port4, fx.worker4, "127.0.0.1", APP);
}

static void workload_is_captured_ipv6(void **state)
{
	enter("/app");
	assert_captured("::1", fx.port6, fx.worker6, "::1", APP);
}

static void mapped_address_is_ipv4(void **state)
{
	enter("/app");
	assert_captured("::ffff:127.0.0.1", fx.port4, fx.worker4, "127.0.0.1", APP);
}

static void address_zero_is_loopback(void **state)
{
	enter("/app");
	assert_captured("0.0.0.0", fx.port4, fx.worker4, "127.0.0.1", APP);
	assert_captured("::", fx.port6, fx.worker6, "::1", APP);
	assert_captured("::ffff:0.0.0.0", fx.port4, fx.worker4, "127.0.0.1", APP);
}

static void address_that_no_interface_has_is_captured(void **state)
{
	set_dest("10.99.1.2", 80, false, MESH_NONE);
	set_dest("fd99::2", 80, false, MESH_NONE);
	enter("/app");
	assert_captured("10.99.1.2", 80, fx.worker4, "10.99.1.2", APP);
	assert_captured("fd99::2", 80, fx.worker6, "fd99::2", APP);
}

static void getpeername_shows_what_was_asked_for(void **state)
{
	static const struct {
		const char *ip;
		bool v6;
	} cases[] = {{"127.0.0.1", false}, {"::1", true}, {"::ffff:127.0.0.1", false}};

	enter("/app");
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint16_t port = cases[i].v6 ? fx.port6 : fx.port4;
		int error, fd = try_connect(cases[i].ip, port, &error);

		assert_int_equal(error, 0);
		assert_peer(fd, cases[i].ip, port);
		came_to(cases[i].v6 ? fx.worker6 : fx.worker4);
		close(fd);
	}
}

static void unmanaged_caller_is_untouched(void **state)
{
	uint64_t passed = counter(MESH_C_PASSED);

	enter("/other");
	assert_passed("127.0.0.1", fx.port4, fx.server4, MESH_C_MAX);
	assert_passed("::1", fx.port6, fx.server6, MESH_C_MAX);
	assert_int_equal(counter(MESH_C_PASSED), passed);
}

static void unknown_destination_passes(void **state)
{
	int server;

	enter("/other");
	server = listen_on("127.0.0.1", 0, false);
	enter("/app");
	assert_passed("127.0.0.1", local_port(server), server, MESH_C_PASSED);
	close(server);
}

static void nested_cgroup_counts_as_its_deepest_managed_ancestor(void **state)
{
	enter("/app/sub/sub");
	assert_captured("127.0.0.1", fx.port4, fx.worker4, "127.0.0.1", APP);
	set_workload("/app/sub", SUB);
	assert_captured("127.0.0.1", fx.port4, fx.worker4, "127.0.0.1", SUB);
	ok(kernel_workload_delete(fx.k, id_of("/app/sub")));
	assert_captured("127.0.0.1", fx.port4, fx.worker4, "127.0.0.1", APP);
}

static void workload_that_calls_itself_is_left_alone(void **state)
{
	enter("/server");
	assert_passed("127.0.0.1", fx.port4, fx.server4, MESH_C_PASSED_SELF);
}

static void closed_listener_fails_open(void **state)
{
	close(fx.worker4);
	enter("/app");
	assert_passed("127.0.0.1", fx.port4, fx.server4, MESH_C_PASSED_NO_LISTENER);
	close(fx.worker6);
	assert_passed("::1", fx.port6, fx.server6, MESH_C_PASSED_NO_LISTENER);
	open_workers();
}

static void foreign_listener_on_our_port_fails_open(void **state)
{
	int foreign;

	close(fx.worker4);
	enter("/other");
	foreign = listen_on("127.0.0.1", fx.worker_port, false);
	enter("/app");
	assert_passed("127.0.0.1", fx.port4, fx.server4, MESH_C_PASSED_NO_LISTENER);
	close(foreign);
	close(fx.worker6);
	open_workers();
}

static void namespace_without_listeners_fails_open(void **state)
{
	ok(kernel_netns_delete(fx.k, fx.netns));
	enter("/app");
	assert_passed("127.0.0.1", fx.port4, fx.server4, MESH_C_PASSED_NO_LISTENER);
	set_netns(0, cookie_of(fx.worker6, SO_COOKIE));
	assert_passed("127.0.0.1", fx.port4, fx.server4, MESH_C_PASSED_NO_LISTENER);
	set_netns(cookie_of(fx.worker4, SO_COOKIE), cookie_of(fx.worker6, SO_COOKIE));
}

static void without_a_fresh_beat_it_fails_open(void **state)
{
	struct mesh_beats *b = kernel_arrays(fx.k)->beats;

	b->worker[1] = 0;
	b->worker[0] = clock_mono_ns() - MESH_BEAT_MAX_NS - 1000000;
	enter("/app");
	assert_passed("127.0.0.1", fx.port4, fx.server4, MESH_C_PASSED_STALE);
	b->worker[MESH_KERNEL_WORKER - 1] = clock_mono_ns();
	assert_captured("127.0.0.1", fx.port4, fx.worker4, "127.0.0.1", APP);
	b->worker[0] = b->worker[MESH_KERNEL_WORKER - 1] = 0;
}

static void udp_is_untouched(void **state)
{
	uint64_t captured = counter(MESH_C_CAPTURED);
	struct sockaddr_storage ss;
	socklen_t len = address("127.0.0.1", fx.port4, false, &ss);
	int fd;

	enter("/app");
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ok(connect(fd, (struct sockaddr *)&ss, len));
	assert_peer(fd, "127.0.0.1", fx.port4);
	assert_int_equal(counter(MESH_C_CAPTURED), captured);
	close(fd);
}

static void mptcp_is_untouched(void **state)
{
	uint64_t captured = counter(MESH_C_CAPTURED);
	struct sockaddr_storage ss;
	socklen_t len = address("127.0.0.1", fx.port4, false, &ss);
	int fd, accepted;

	enter("/app");
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_MPTCP);
	if (fd < 0) {
		print_message("this kernel has no MPTCP: nothing to leave alone\n");
		skip();
	}
	ok(connect(fd, (struct sockaddr *)&ss, len));
	accepted = accept_within(fx.server4, WAIT_MS);
	assert_true(accepted >= 0);
	assert_int_equal(counter(MESH_C_CAPTURED), captured);
	close(accepted);
	close(fd);
}

/* To a device other than loopback no packet can reach the listener. */
static void device_bound_socket_is_untouched(void **state)
{
	uint64_t before = counter(MESH_C_PASSED_DEVICE);
	struct sockaddr_storage ss;
	socklen_t len = address("127.0.0.1", fx.port4, false, &ss);
	int fd;

	ok(system("ip link add hook0 type veth peer name hook1 && ip link set hook0 up"));
	enter("/app");
	fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	ok(setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "hook0", 6));
	assert_int_equal(connect(fd, (struct sockaddr *)&ss, len), -1);
	assert_int_equal(counter(MESH_C_PASSED_DEVICE), before + 1);
	close(fd);

	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ok(setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3));
	ok(connect(fd, (struct sockaddr *)&ss, len));
	came_to(fx.worker4);
	close(fd);
	ok(system("ip link delete hook0"));
}

/* A socket that was captured once and is connected again elsewhere tells nobody about the first
 * time. */
static void second_connect_starts_afresh(void **state)
{
	struct sockaddr unspec = {.sa_family = AF_UNSPEC};
	struct sockaddr_storage ss;
	struct mesh_origdst o;
	int error, fd, server, accepted;
	socklen_t len;

	enter("/other");
	server = listen_on("127.0.0.1", 0, false);
	enter("/app");
	fd = try_connect("127.0.0.1", fx.port4, &error);
	came_to(fx.worker4);
	ok(connect(fd, &unspec, sizeof(unspec)));
	len = address("127.0.0.1", local_port(server), false, &ss);
	ok(connect(fd, (struct sockaddr *)&ss, len));
	accepted = accept_within(server, WAIT_MS);
	assert_peer(fd, "127.0.0.1", local_port(server));
	assert_int_equal(lookup_origdst(accepted, &o), -ENOENT);
	close(accepted);
	close(server);
	close(fd);
}

/* The worker sees the address that the client bound, not loopback's. */
static void client_with_a_source_address_is_captured(void **state)
{
	static const struct {
		const char *from, *to;
	} cases[] = {{"10.77.0.1", "127.0.0.1"}, {"fd77::1", "::1"}};

	/* nodad: without, nobody may bind to it before a worker of the kernel's has had its turn */
	ok(system("ip address add 10.77.0.1/32 dev lo && "
		  "ip address add fd77::1/128 dev lo nodad"));
	enter("/app");
	for (size_t i = 0; i < 2; i++) {
		bool v6 = i == 1;
		struct sockaddr_storage from, to;
		socklen_t len = address(cases[i].from, 0, v6, &from);
		int fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), accepted;
		struct mesh_origdst o;

		ok(bind(fd, (struct sockaddr *)&from, len));
		len = address(cases[i].to, v6 ? fx.port6 : fx.port4, v6, &to);
		ok(connect(fd, (struct sockaddr *)&to, len));
		accepted = accept_within(v6 ? fx.worker6 : fx.worker4, WAIT_MS);
		ok(lookup_origdst(accepted, &o));
		assert_peer(accepted, cases[i].from, local_port(fd));
		close(accepted);
		close(fd);
	}
	ok(system("ip address delete 10.77.0.1/32 dev lo && ip address delete fd77::1/128 dev lo"));
}

/* Fire and forget: the client is gone before anybody accepts, and the worker still learns what it
 * wanted. */
static void origdst_outlives_a_client_that_closed_early(void **state)
{
	struct mesh_origdst o;
	int error, fd, accepted;

	enter("/app");
	fd = try_connect("127.0.0.1", fx.port4, &error);
	assert_int_equal(error, 0);
	assert_int_equal(send(fd, "x", 1, 0), 1);
	close(fd);
	accepted = accept_within(fx.worker4, WAIT_MS);
	ok(lookup_origdst(accepted, &o));
	assert_int_equal(ntohs(o.port), fx.port4);
	close(accepted);
}

static uint32_t origdst_entries(void)
{
	struct kernel_map_use use[8];
	size_t n = kernel_map_use(fx.k, use, 8);

	for (size_t i = 0; i < n; i++)
		if (!strcmp(use[i].name, "origdst"))
			return use[i].entries;
	fail();
	return 0;
}

static void origdst_is_empty_when_all_is_over(void **state)
{
	int error, fd[64], accepted[64];

	enter("/app");
	for (int i = 0; i < 64; i++) {
		bool v6 = i & 1;

		fd[i] = try_connect(v6 ? "::1" : "127.0.0.1", v6 ? fx.port6 : fx.port4, &error);
		assert_int_equal(error, 0);
		accepted[i] = accept_within(v6 ? fx.worker6 : fx.worker4, WAIT_MS);
	}
	assert_true(origdst_entries() >= 64);
	for (int i = 0; i < 64; i++) { /* either side first */
		close(i & 2 ? fd[i] : accepted[i]);
		close(i & 2 ? accepted[i] : fd[i]);
	}
	eventually(!origdst_entries());
	assert_int_equal(counter(MESH_C_ORIGDST_LOST), 0);
}

#define STORM 4000

/* In the child: connections that end in all three ways, as fast as they go. */
static int make_connections(int n)
{
	struct linger reset = {.l_onoff = 1};
	char byte;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	enter("/app");
	for (int i = 0; i < n; i++) {
		int error, fd = try_connect("127.0.0.1", fx.port4, &error);

		if (error)
			return 1;
		if (i % 3 == 0 && recv(fd, &byte, 1, 0) != 0) /* the worker closes first */
			return 2;
		if (i % 3 == 1)
			setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		close(fd);
	}
	return 0;
}

static bool is_connected(int fd)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);

	return getpeername(fd, (struct sockaddr *)&ss, &len) == 0;
}

/* Two hundred source ports used over and over by two processes: whatever the order in which sockets
 * end, each accepted connection finds what was asked for. Now and then a reset overtakes the ACK
 * before it, on another CPU: then there is nothing to accept. */
static void no_origdst_is_lost_when_ports_are_reused(void **state)
{
	struct mesh_origdst o;
	int status, accepted, reset = 0;
	pid_t pid[2];

	ok(system("echo 20000 20199 > /proc/sys/net/ipv4/ip_local_port_range"));
	ok(system("echo 100 > /proc/sys/net/ipv4/tcp_max_tw_buckets"));
	for (int i = 0; i < 2; i++) {
		pid[i] = fork();
		if (pid[i] == 0)
			_exit(make_connections(STORM / 2));
	}
	for (int i = 0; i < STORM; i++) {
		accepted = accept_within(fx.worker4, WAIT_MS);
		if (accepted < 0) {
			reset += STORM - i;
			break;
		}
		if (lookup_origdst(accepted, &o)) {
			/* its entry goes a moment before its state, on another CPU; one that is
			 * there and has none would stay */
			eventually(!is_connected(accepted));
			reset++; /* nobody to serve */
		} else {
			assert_int_equal(ntohs(o.port), fx.port4);
		}
		close(accepted);
	}
	assert_in_range(reset, 0, STORM / 2);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	}
	assert_int_equal(counter(MESH_C_ORIGDST_LOST), 0);
	ok(system("echo 32768 60999 > /proc/sys/net/ipv4/ip_local_port_range"));
}

/* What nobody accepted: an entry goes with its client when that was never established, and with the
 * listener when it was. */
static void unaccepted_connections_leave_no_origdst(void **state)
{
	struct sockaddr_storage ss;
	socklen_t len = address("127.0.0.1", fx.port4, false, &ss);
	struct pollfd established;
	int fd[4];

	ok(listen(fx.worker4, 0)); /* room for one or two: the others stay in SYN_SENT */
	enter("/app");
	for (int i = 0; i < 4; i++) {
		fd[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		assert_true(connect(fd[i], (struct sockaddr *)&ss, len) == 0 ||
			    errno == EINPROGRESS);
	}
	assert_int_equal(origdst_entries(), 4);
	established = (struct pollfd){.fd = fd[0], .events = POLLOUT};
	assert_int_equal(poll(&established, 1, WAIT_MS), 1);
	for (int i = 0; i < 4; i++)
		close(fd[i]);
	assert_in_range(origdst_entries(), 1, 2);
	close(fx.worker4);
	assert_int_equal(origdst_entries(), 0);
	close(fx.worker6);
	open_workers();
}

static void probe_address_tells_who_is_known(void **state)
{
	int error;

	enter("/other");
	close(try_connect("192.0.0.8", MESH_PROBE_PORT, &error));
	assert_int_equal(error, -MESH_PROBE_UNKNOWN);
	enter("/app");
	close(try_connect("192.0.0.8", MESH_PROBE_PORT, &error));
	assert_int_equal(error, -MESH_PROBE_MANAGED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(workload_is_captured_ipv4, test_setup),
		cmocka_unit_test_setup(workload_is_captured_ipv6, test_setup),
		cmocka_unit_test_setup(mapped_address_is_ipv4, test_setup),
		cmocka_unit_test_setup(address_zero_is_loopback, test_setup),
		cmocka_unit_test_setup(address_that_no_interface_has_is_captured, test_setup),
		cmocka_unit_test_setup(getpeername_shows_what_was_asked_for, test_setup),
		cmocka_unit_test_setup(unmanaged_caller_is_untouched, test_setup),
		cmocka_unit_test_setup(unknown_destination_passes, test_setup),
		cmocka_unit_test_setup(nested_cgroup_counts_as_its_deepest_managed_ancestor,
				       test_setup),
		cmocka_unit_test_setup(workload_that_calls_itself_is_left_alone, test_setup),
		cmocka_unit_test_setup(closed_listener_fails_open, test_setup),
		cmocka_unit_test_setup(foreign_listener_on_our_port_fails_open, test_setup),
		cmocka_unit_test_setup(namespace_without_listeners_fails_open, test_setup),
		cmocka_unit_test_setup(without_a_fresh_beat_it_fails_open, test_setup),
		cmocka_unit_test_setup(udp_is_untouched, test_setup),
		cmocka_unit_test_setup(mptcp_is_untouched, test_setup),
		cmocka_unit_test_setup(device_bound_socket_is_untouched, test_setup),
		cmocka_unit_test_setup(second_connect_starts_afresh, test_setup),
		cmocka_unit_test_setup(origdst_outlives_a_client_that_closed_early, test_setup),
		cmocka_unit_test_setup(client_with_a_source_address_is_captured, test_setup),
		cmocka_unit_test_setup(no_origdst_is_lost_when_ports_are_reused, test_setup),
		cmocka_unit_test_setup(origdst_is_empty_when_all_is_over, test_setup),
		cmocka_unit_test_setup(unaccepted_connections_leave_no_origdst, test_setup),
		cmocka_unit_test_setup(probe_address_tells_who_is_known, test_setup),
	};

	return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
