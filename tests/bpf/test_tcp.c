/* SPDX-License-Identifier: Apache-2.0 */
/* TCP services at the hooks, with real sockets: which endpoint gets a connection, over which
 * addresses, by which policy; all of it while no worker lives. */
#include "tests/bpf/tcp_rig.h"

#include <math.h>

/* Of n draws with that chance: no further off than six deviations. */
static void assert_share(uint32_t got, uint32_t n, double chance)
{
	double off = fabs(got - n * chance), most = 6 * sqrt(n * chance * (1 - chance));

	if (off > most)
		fail_msg("%u of %u, expected %.0f", got, n, n * chance);
}

/* The address that the accepted socket's peer came to. */
static void assert_came_to(int accepted, const char *ip)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	uint8_t want[16];
	struct addr a;

	ok(getsockname(accepted, (struct sockaddr *)&ss, &len));
	ok(addr_from_sockaddr(&ss, &a));
	ok(addr_parse_ip(ip, want));
	assert_memory_equal(a.ip, want, 16);
}

/* dial() that must arrive at endpoint `ep`, at its address `at`. */
static void assert_reaches(const char *asked, uint32_t ep, const char *at)
{
	uint64_t before = counter(MESH_C_KERNEL);
	int fd = dial(asked), accepted;

	if (fd < 0)
		fail_msg("%s: %s", asked, strerror(-fd));
	assert_int_equal(who_has(&accepted), ep);
	assert_came_to(accepted, at);
	assert_peer(fd, asked, ASKED_P);
	assert_int_equal(counter(MESH_C_KERNEL), before + 1);
	close(fd);
	close(accepted);
}

static void connection_goes_straight_to_an_endpoint(void **state)
{
	char back[6] = "";
	int fd, accepted;

	serve_one();
	enter("/app");
	fd = dial(ASKED);
	assert_true(fd >= 0);
	assert_int_equal(who_has(&accepted), 0);
	assert_peer(fd, ASKED, ASKED_P);
	assert_int_equal(open_at(0), 1);
	assert_int_equal(open_in_all(), 1);
	assert_int_equal(write(fd, "hello", 5), 5);
	assert_int_equal(read(accepted, back, 5), 5);
	assert_string_equal(back, "hello");
	close(fd);
	close(accepted);
	eventually(!open_at(0));
}

static void loopback_is_reached_by_loopback_only_within_its_namespace(void **state)
{
	const uint16_t ids[] = {0, 1};

	/* 0: on all addresses here; 1: on the loopback of another namespace */
	serve(0, OUTER, MESH_EP_WILDCARD);
	close(rig.server[0]);
	rig.server[0] = listen_on("0.0.0.0", rig.port[0], false);
	put_endpoint(1, "127.0.0.1", rig.port[0], MESH_EP_LOOPBACK, fx.netns + 1);
	put_slots(SUBSET, ids, 2);
	enter("/app");
	for (int i = 0; i < 20; i++) {
		assert_reaches("127.0.0.1", 0, "127.0.0.1");
		assert_reaches(ASKED, 0, OUTER);
	}
}

static void families_are_kept_apart_as_sockets_can(void **state)
{
	const uint16_t ids[] = {0, 1};
	struct sockaddr_storage ss;
	int fd, accepted, on = 1;
	socklen_t len;

	serve(0, "127.0.0.1", MESH_EP_LOOPBACK);
	serve(1, "::1", MESH_EP_LOOPBACK);
	put_slots(SUBSET, ids, 2);
	enter("/app");
	for (int i = 0; i < 20; i++)
		assert_reaches(ASKED, 0, "127.0.0.1");
	/* an IPv6 socket goes to either, unless it was told not to */
	len = address(ASKED6, ASKED_P, true, &ss);
	for (int i = 0; i < 20; i++) {
		fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
		ok(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)));
		ok(connect(fd, (struct sockaddr *)&ss, len));
		assert_int_equal(who_has(&accepted), 1);
		close(fd);
		close(accepted);
	}
	put_slots(SUBSET, ids, 1);
	assert_reaches(ASKED6, 0, "127.0.0.1");
}

static void socket_bound_to_loopback_stays_there(void **state)
{
	const uint16_t ids[] = {0, 1};
	struct sockaddr_storage from, to;
	socklen_t len = address("127.0.0.9", 0, false, &from);
	int fd, accepted;

	serve(0, OUTER, 0);
	serve(1, "127.0.0.1", MESH_EP_LOOPBACK);
	put_slots(SUBSET, ids, 2);
	enter("/app");
	address(ASKED, ASKED_P, false, &to);
	for (int i = 0; i < 20; i++) {
		fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		ok(bind(fd, (struct sockaddr *)&from, len));
		ok(connect(fd, (struct sockaddr *)&to, len));
		assert_int_equal(who_has(&accepted), 1);
		close(fd);
		close(accepted);
	}
}

/* Another family, and nobody else: a worker can do what the caller's socket cannot. */
static void what_the_socket_cannot_reach_is_a_workers(void **state)
{
	const uint16_t id = 0;
	int fd, accepted;

	serve(0, "::1", MESH_EP_LOOPBACK);
	put_slots(SUBSET, &id, 1);
	arrays->beats->worker[0] = clock_mono_ns() + 3600 * 1000000000ULL;
	enter("/app");
	fd = dial(ASKED);
	assert_true(fd >= 0);
	accepted = accept_within(fx.worker4, WAIT_MS);
	assert_true(accepted >= 0);
	close(accepted);
	close(fd);
}

static void only_who_is_alive_and_not_draining_is_called(void **state)
{
	uint32_t got[ENDPOINTS];

	serve_three();
	arrays->endpoints[0].flags &= ~(uint32_t)MESH_EP_ALIVE;
	arrays->endpoints[1].flags |= MESH_EP_DRAINING;
	enter("/app");
	spread(200, got);
	assert_int_equal(got[2], 200);
	arrays->endpoints[0].flags |= MESH_EP_ALIVE | MESH_EP_UNHEALTHY;
	arrays->endpoints[1].flags &= ~(uint32_t)MESH_EP_DRAINING;
	spread(200, got);
	assert_int_equal(got[0], 0);
	assert_true(got[1] && got[2]);
}

static void held_by_hand_is_never_called(void **state)
{
	const uint16_t id = 1;
	uint32_t got[ENDPOINTS];
	uint64_t passed;

	serve_three();
	arrays->ep_stats[1].breaker = mesh_breaker_hand(MESH_HAND_OPEN, clock_mono_ns() / 1000000);
	enter("/app");
	spread(100, got);
	assert_int_equal(got[1], 0);
	/* nor when there is nobody else, as one that is merely ejected would be */
	put_slots(SUBSET, &id, 1);
	passed = counter(MESH_C_PASSED_NO_ENDPOINT);
	close(dial("127.0.0.1"));
	assert_int_equal(counter(MESH_C_PASSED_NO_ENDPOINT), passed + 1);
	arrays->ep_stats[1].breaker &= ~MESH_BREAKER_HELD;
	spread(10, got);
	assert_int_equal(got[1], 10);
}

static void nobody_to_go_to_passes_or_is_refused(void **state)
{
	uint64_t passed = counter(MESH_C_PASSED_NO_ENDPOINT), n[MESH_REFUSALS];
	int server;

	enter(NULL);
	server = listen_on("127.0.0.1", ASKED_P, false);
	enter("/app");
	close(dial("127.0.0.1"));
	came_to(server);
	assert_int_equal(counter(MESH_C_PASSED_NO_ENDPOINT), passed + 1);
	rig.service.flags |= MESH_SVC_FAIL_CLOSED;
	put_service();
	assert_int_equal(dial("127.0.0.1"), -ECONNREFUSED);
	assert_int_equal(accept_within(server, 0), -1);
	refusals(n);
	assert_int_equal(n[MESH_REFUSED_NO_ENDPOINT], 1);
	close(server);
}

static void other_protocols_are_the_workers(void **state)
{
	serve_one();
	rig.up.protocol = MESH_PROTO_AUTO;
	put_upstream();
	arrays->beats->worker[0] = clock_mono_ns() + 3600 * 1000000000ULL;
	enter("/app");
	close(dial(ASKED));
	came_to(fx.worker4);
	assert_int_equal(accept_within(rig.server[0], 0), -1);
}

/* --- shares --- */

static void slots_give_the_shares(void **state)
{
	const uint16_t ids[] = {0, 0, 0, 0, 1, 1, 1, 2};
	uint32_t got[ENDPOINTS];

	serve_three();
	put_slots(SUBSET, ids, 8);
	enter("/app");
	spread(1600, got);
	assert_share(got[0], 1600, 4. / 8);
	assert_share(got[1], 1600, 3. / 8);
	assert_share(got[2], 1600, 1. / 8);
}

static void round_robin_takes_turns(void **state)
{
	uint32_t got[ENDPOINTS], last = MESH_NONE;

	rig.up.policy = MESH_LB_ROUND_ROBIN;
	put_upstream();
	serve_three();
	enter("/app");
	for (int i = 0; i < 30; i++) {
		int fd = dial(ASKED), accepted;
		uint32_t ep = who_has(&accepted);

		assert_true(last == MESH_NONE || ep == (last + 1) % 3);
		last = ep;
		close(fd);
		close(accepted);
	}
	spread(300, got);
	for (int i = 0; i < 3; i++)
		assert_int_equal(got[i], 100);
}

/* What a busy machine measures must not decide. */
static void set_latency(uint32_t ep, uint64_t ns)
{
	arrays->ep_stats[ep].ewma = mesh_ewma_update(0, ns, clock_mono_ns(), 0);
}

#define MANY 180

/* So many connections that stay open, by endpoint: the kernel's gauges say the same. */
static void hold_open(int fd[MANY], int accepted[MANY], uint32_t got[ENDPOINTS])
{
	memset(got, 0, ENDPOINTS * sizeof(*got));
	for (uint32_t i = 0; i < MANY; i++) {
		for (uint32_t e = 0; e < 3; e++)
			set_latency(e, 1000000);
		fd[i] = dial(ASKED);
		got[who_has(&accepted[i])]++;
	}
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(got[i], open_at(i));
}

static void let_go(const int fd[MANY], const int accepted[MANY])
{
	for (uint32_t i = 0; i < MANY; i++) {
		close(fd[i]);
		close(accepted[i]);
	}
}

/* One that a worker has many connections to gets one only when it is drawn twice: one of nine. */
static void assert_busy_one_is_left_alone(enum mesh_policy policy)
{
	int fd[MANY], accepted[MANY];
	uint32_t got[ENDPOINTS];

	rig.up.policy = policy;
	put_upstream();
	serve_three();
	__atomic_store_n(&arrays->ep_inflight[1].worker[0], 10000, __ATOMIC_RELAXED);
	enter("/app");
	hold_open(fd, accepted, got);
	assert_share(got[1], MANY, 1. / 9);
	let_go(fd, accepted);
	__atomic_store_n(&arrays->ep_inflight[1].worker[0], 0, __ATOMIC_RELAXED);
}

static void least_request_counts_open_connections(void **state)
{
	assert_busy_one_is_left_alone(MESH_LB_LEAST_REQUEST);
}

static void p2c_looks_at_open_connections(void **state)
{
	assert_busy_one_is_left_alone(MESH_LB_P2C);
}

/* Known by its connects to take 200 ms where the others take one: what it gets by even slots is
 * what draws it twice. */
static void p2c_looks_at_connect_latency(void **state)
{
	uint32_t got[ENDPOINTS] = {0}, all = 600;

	rig.up.policy = MESH_LB_P2C;
	put_upstream();
	serve_three();
	enter("/app");
	for (uint32_t i = 0; i < all; i++) {
		int fd, accepted;

		for (uint32_t e = 0; e < 3; e++)
			set_latency(e, e == 2 ? 200000000 : 1000000);
		fd = dial(ASKED);
		got[who_has(&accepted)]++;
		close(fd);
		close(accepted);
		eventually(!open_in_all());
	}
	assert_share(got[2], all, 1. / 9);
	assert_true(got[0] > 100 && got[1] > 100);
}

static void failures_in_a_row_weigh_like_open_connections(void **state)
{
	uint32_t got[ENDPOINTS] = {0};

	rig.up.policy = MESH_LB_LEAST_REQUEST;
	put_upstream();
	serve_three();
	enter("/app");
	for (int i = 0; i < 600; i++) {
		int fd, accepted;

		arrays->ep_stats[1].consecutive = 3; /* a success ends it */
		fd = dial(ASKED);
		got[who_has(&accepted)]++;
		close(fd);
		close(accepted);
		eventually(!open_in_all());
	}
	assert_share(got[1], 600, 1. / 9);
}

/* But not below a millisecond, where it would tell of the scheduler. */
static void latency_is_that_of_connect(void **state)
{
	uint64_t before, took;
	int fd, accepted;

	serve_one();
	enter("/app");
	before = clock_mono_ns();
	fd = dial(ASKED);
	took = clock_mono_ns() - before;
	who_has(&accepted);
	took = took < 1000000 ? 1000000 : took;
	assert_in_range(mesh_ewma_read(arrays->ep_stats[0].ewma, before), 990000, took);
	close(fd);
	close(accepted);
}

static void split_is_by_the_draw(void **state)
{
	const uint16_t one = 0, two = 1;
	uint32_t got[ENDPOINTS];

	serve_three();
	put_slots(SUBSET, &one, 1);
	put_slots(OTHERS, &two, 1);
	rig.up.nsplit = 2;
	rig.up.split[0].upto = 65536 * 9 / 10;
	rig.up.split[1].subset = OTHERS;
	rig.up.split[1].upto = 65536;
	put_upstream();
	enter("/app");
	spread(1000, got);
	assert_share(got[0], 1000, 0.9);
	assert_share(got[1], 1000, 0.1);
	/* whose version nobody serves: its share is the others', or fails */
	put_slots(OTHERS, NULL, 0);
	spread(100, got);
	assert_int_equal(got[0], 100);
	rig.service.flags |= MESH_SVC_NO_FALLBACK | MESH_SVC_FAIL_CLOSED;
	put_service();
	got[0] = 0;
	for (int i = 0; i < 300; i++) {
		int fd = dial(ASKED), accepted;

		if (fd == -ECONNREFUSED) {
			got[0]++;
			continue;
		}
		assert_true(fd >= 0);
		who_has(&accepted);
		close(fd);
		close(accepted);
	}
	assert_share(got[0], 300, 0.1);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(connection_goes_straight_to_an_endpoint),
		T(loopback_is_reached_by_loopback_only_within_its_namespace),
		T(families_are_kept_apart_as_sockets_can),
		T(socket_bound_to_loopback_stays_there),
		T(what_the_socket_cannot_reach_is_a_workers),
		T(only_who_is_alive_and_not_draining_is_called),
		T(held_by_hand_is_never_called),
		T(nobody_to_go_to_passes_or_is_refused),
		T(other_protocols_are_the_workers),
		T(slots_give_the_shares),
		T(round_robin_takes_turns),
		T(least_request_counts_open_connections),
		T(p2c_looks_at_connect_latency),
		T(p2c_looks_at_open_connections),
		T(failures_in_a_row_weigh_like_open_connections),
		T(latency_is_that_of_connect),
		T(split_is_by_the_draw),
	};

	return cmocka_run_group_tests_name("tcp", tests, group_setup, fixture_teardown);
}
