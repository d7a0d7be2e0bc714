/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses that nobody has, and services that fail closed: what the connect hook does when there
 * is a worker, and when there is none. */
#include "tests/bpf/fixture.h"

#include <bpf/bpf.h>

#define SERVICE 5
#define SUBSET	9
#define EP	11
#define ALIVE	(MESH_EP_USED | MESH_EP_ALIVE)
#define VIRTUAL "10.99.7.7"

static void set_endpoint(uint32_t id, const char *ip, uint16_t port, uint32_t flags)
{
	struct mesh_endpoint *e = &kernel_arrays(fx.k)->endpoints[id];

	*e = (struct mesh_endpoint){.service = SERVICE, .netns = fx.netns, .flags = flags};
	e->port = htons(port);
	ok(addr_parse_ip(ip, e->ip));
}

/* Every second slot is EP + 1's. */
static void set_slots(uint32_t n)
{
	struct mesh_slots t = {.n = n, .nendpoints = 2};

	for (int i = 0; i < MESH_SLOTS; i++)
		t.ep[i] = (uint16_t)(EP + (i & 1));
	ok(kernel_slots_set(fx.k, SUBSET, &t));
}

static void set_service(uint32_t flags)
{
	struct mesh_service s = {.flags = MESH_SVC_USED | flags};

	ok(kernel_service_set(fx.k, SERVICE, &s));
}

static void no_worker(void)
{
	memset(kernel_arrays(fx.k)->beats, 0, sizeof(struct mesh_beats));
}

static int before(void **state)
{
	struct mesh_upstream *u = &kernel_arrays(fx.k)->upstreams[UPSTREAM];

	*u = (struct mesh_upstream){.service = SERVICE, .protocol = MESH_PROTO_HTTP, .nsplit = 1};
	u->split[0].subset = u->version[0] = SUBSET;
	u->split[0].upto = 65536;
	set_service(0);
	set_slots(MESH_SLOTS);
	set_endpoint(EP, "127.0.0.1", fx.port4, ALIVE | MESH_EP_LOOPBACK);
	set_endpoint(EP + 1, "127.0.0.1", fx.port4, ALIVE | MESH_EP_LOOPBACK);
	set_dest(VIRTUAL, 80, false, MESH_VIRTUAL);
	set_dest("fd99::7", 80, false, MESH_VIRTUAL);
	return test_setup(state);
}

static void assert_lands(const char *ip, uint16_t port, int listener)
{
	int error, fd = try_connect(ip, port, &error), accepted;

	assert_int_equal(error, 0);
	accepted = accept_within(listener, WAIT_MS);
	assert_true(accepted >= 0);
	close(accepted);
	close(fd);
}

static void assert_refused(const char *ip, uint16_t port)
{
	uint64_t before_ = counter(MESH_C_REFUSED);
	int error, fd = try_connect(ip, port, &error);

	assert_int_equal(error, -ECONNREFUSED);
	assert_int_equal(counter(MESH_C_REFUSED), before_ + 1);
	close(fd);
}

static void a_worker_takes_it(void **state)
{
	enter("/app");
	assert_lands(VIRTUAL, 80, fx.worker4);
	assert_lands("fd99::7", 80, fx.worker6);
}

static void without_a_worker_an_endpoint_does(void **state)
{
	uint64_t resolved = counter(MESH_C_RESOLVED);

	no_worker();
	enter("/app");
	assert_lands(VIRTUAL, 80, fx.server4);
	assert_lands("fd99::7", 80, fx.server4); /* by IPv4, as its socket can */
	assert_int_equal(counter(MESH_C_RESOLVED), resolved + 2);
}

static void who_is_not_alive_is_not_chosen(void **state)
{
	set_endpoint(EP + 1, "127.0.0.1", 1, MESH_EP_USED | MESH_EP_LOOPBACK);
	no_worker();
	enter("/app");
	for (int i = 0; i < 50; i++)
		assert_lands(VIRTUAL, 80, fx.server4);
}

static void with_nobody_alive_it_is_refused(void **state)
{
	set_endpoint(EP, "127.0.0.1", fx.port4, MESH_EP_USED);
	set_endpoint(EP + 1, "127.0.0.1", fx.port4, ALIVE | MESH_EP_DRAINING);
	no_worker();
	enter("/app");
	assert_refused(VIRTUAL, 80);
	set_slots(0);
	assert_refused(VIRTUAL, 80);
}

static void another_namespaces_loopback_is_out_of_reach(void **state)
{
	kernel_arrays(fx.k)->endpoints[EP].netns = fx.netns + 1;
	kernel_arrays(fx.k)->endpoints[EP + 1].netns = fx.netns + 1;
	no_worker();
	enter("/app");
	assert_refused(VIRTUAL, 80);
}

/* Somebody is on the way to that namespace, and has not come about yet. */
static void nobody_has_come_about(uint64_t netns)
{
	uint64_t key[2] = {fx.netns, netns}, value[2] = {clock_mono_ns(), 0};
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/reach", fx.pins);
	fd = bpf_obj_get(path);
	assert_true(fd >= 0);
	ok(bpf_map_update_elem(fd, key, value, BPF_ANY));
	close(fd);
}

static void where_a_way_is_known_comes_first(void **state)
{
	int error;

	set_endpoint(EP, "10.99.8.8", fx.port4, ALIVE);
	kernel_arrays(fx.k)->endpoints[EP].netns = fx.netns + 1;
	nobody_has_come_about(fx.netns + 1);
	no_worker();
	enter("/app");
	for (int i = 0; i < 50; i++)
		assert_lands(VIRTUAL, 80, fx.server4);
	/* but it is better than nobody */
	set_endpoint(EP + 1, "127.0.0.1", fx.port4, MESH_EP_USED);
	close(try_connect(VIRTUAL, 80, &error));
	assert_int_equal(error, -ENETUNREACH);
}

static void who_is_no_workload_is_left_alone(void **state)
{
	struct sockaddr_storage ss;
	socklen_t len = address(VIRTUAL, 80, false, &ss);
	int fd;

	no_worker();
	enter("/other");
	fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	assert_true(connect(fd, (struct sockaddr *)&ss, len) < 0);
	assert_int_equal(errno, ENETUNREACH); /* this namespace has no route to anywhere */
	close(fd);
}

static void of_a_tcp_service_too(void **state)
{
	kernel_arrays(fx.k)->upstreams[UPSTREAM].protocol = MESH_PROTO_TCP;
	no_worker();
	enter("/app");
	assert_lands(VIRTUAL, 80, fx.server4);
	set_endpoint(EP, "127.0.0.1", fx.port4, MESH_EP_USED);
	set_endpoint(EP + 1, "127.0.0.1", fx.port4, MESH_EP_USED);
	assert_refused(VIRTUAL, 80);
}

static void who_fails_closed_is_refused_without_a_worker(void **state)
{
	set_service(MESH_SVC_FAIL_CLOSED);
	enter("/app");
	assert_lands("127.0.0.1", fx.port4, fx.worker4);
	no_worker();
	assert_refused("127.0.0.1", fx.port4);
	assert_refused("::1", fx.port6);
	assert_refused(VIRTUAL, 80);
	set_service(0);
	assert_lands("127.0.0.1", fx.port4, fx.server4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(a_worker_takes_it, before),
		cmocka_unit_test_setup(without_a_worker_an_endpoint_does, before),
		cmocka_unit_test_setup(who_is_not_alive_is_not_chosen, before),
		cmocka_unit_test_setup(with_nobody_alive_it_is_refused, before),
		cmocka_unit_test_setup(another_namespaces_loopback_is_out_of_reach, before),
		cmocka_unit_test_setup(where_a_way_is_known_comes_first, before),
		cmocka_unit_test_setup(who_is_no_workload_is_left_alone, before),
		cmocka_unit_test_setup(of_a_tcp_service_too, before),
		cmocka_unit_test_setup(who_fails_closed_is_refused_without_a_worker, before),
	};

	return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
