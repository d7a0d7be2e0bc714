/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A TCP service for the tests of bpf/balance.bpf.h and bpf/outcome.bpf.h, on top of fixture.h: the
 * arrays filled by hand as the supervisor would, servers that are plain sockets of the test, and
 * the gauges and words to be looked at. The service has no workers: nobody beats.
 */
#ifndef TESTS_BPF_TCP_RIG_H
#define TESTS_BPF_TCP_RIG_H

#include "tests/bpf/fixture.h"

#include <mesh/breaker.h>
#include <mesh/ewma.h>
#include <netinet/tcp.h>

#define SERVICE	  5
#define SUBSET	  3
#define OTHERS	  4	      /* a second subset */
#define ASKED	  "10.99.5.5" /* the address of the service; no interface has it */
#define ASKED6	  "fd99::5"   /* ... */
#define ASKED_P	  6379
#define OUTER	  "10.77.0.1" /* the namespace's own address that is not loopback */
#define ENDPOINTS 8

static struct rig {
	int server[ENDPOINTS];
	uint16_t port[ENDPOINTS];
	struct mesh_service service;
	struct mesh_upstream up;
} rig;

#define arrays (kernel_arrays(fx.k))

__attribute__((unused)) static void put_service(void)
{
	ok(kernel_service_set(fx.k, SERVICE, &rig.service));
}

__attribute__((unused)) static void put_upstream(void)
{
	arrays->upstreams[UPSTREAM] = rig.up;
}

/* `ip` "" : nobody. */
__attribute__((unused)) static void put_endpoint(uint32_t id, const char *ip, uint16_t port,
						 uint32_t flags, uint64_t netns)
{
	struct mesh_endpoint e = {.seq = 2,
				  .gen = 1,
				  .flags = MESH_EP_USED | MESH_EP_ALIVE | flags,
				  .service = SERVICE,
				  .workload = SERVER,
				  .netns = netns,
				  .weight = 100,
				  .port = htons(port)};

	ok(addr_parse_ip(ip, e.ip));
	arrays->endpoints[id] = e;
}

/* The table in turns of ids[n]. */
__attribute__((unused)) static void put_slots(uint32_t subset, const uint16_t *ids, uint32_t n)
{
	struct mesh_slots t = {.n = n ? MESH_SLOTS / n * n : 0, .nendpoints = (uint16_t)n};

	for (uint32_t i = 0; n && i < MESH_SLOTS; i++)
		t.ep[i] = ids[i % n];
	ok(kernel_slots_set(fx.k, subset, &t));
}

/* Endpoint i listens on 127.0.0.1 or where it is told. */
__attribute__((unused)) static void serve(uint32_t i, const char *ip, uint32_t flags)
{
	enter(NULL);
	rig.server[i] = listen_on(ip, 0, true);
	rig.port[i] = local_port(rig.server[i]);
	put_endpoint(i, ip, rig.port[i], flags, fx.netns);
}

__attribute__((unused)) static void serve_three(void)
{
	const uint16_t ids[] = {0, 1, 2};

	for (uint32_t i = 0; i < 3; i++)
		serve(i, "127.0.0.1", MESH_EP_LOOPBACK);
	put_slots(SUBSET, ids, 3);
}

__attribute__((unused)) static void serve_one(void)
{
	const uint16_t id = 0;

	serve(0, "127.0.0.1", MESH_EP_LOOPBACK);
	put_slots(SUBSET, &id, 1);
}

/* Nobody listens there any more; whoever knows it is refused. */
__attribute__((unused)) static void stop_serving(uint32_t i)
{
	if (rig.server[i] >= 0)
		close(rig.server[i]);
	rig.server[i] = -1;
}

__attribute__((unused)) static void serve_again(uint32_t ep)
{
	rig.server[ep] = listen_on("127.0.0.1", rig.port[ep], false);
}

__attribute__((unused)) static uint32_t open_at(uint32_t ep)
{
	return __atomic_load_n(&arrays->ep_inflight[ep].worker[MESH_KERNEL_WORKER],
			       __ATOMIC_RELAXED);
}

__attribute__((unused)) static uint32_t open_in_all(void)
{
	return __atomic_load_n(
		&arrays->svc_inflight[SERVICE].worker[MESH_KERNEL_WORKER].connections,
		__ATOMIC_RELAXED);
}

__attribute__((unused)) static struct mesh_tally tally(const uint64_t words[MESH_WINDOW])
{
	uint64_t copy[MESH_WINDOW];

	memcpy(copy, words, sizeof(copy));
	return mesh_window_sum(
		(const __u64 *)copy,
		mesh_window_turn(rig.service.breaker.window_ms, clock_mono_ns() / 1000000),
		MESH_WINDOW);
}

__attribute__((unused)) static struct mesh_tally endpoint_tally(uint32_t ep)
{
	return tally((const uint64_t *)arrays->ep_stats[ep].window);
}

__attribute__((unused)) static struct mesh_tally service_tally(void)
{
	return tally((const uint64_t *)arrays->svc_stats[SERVICE].window);
}

__attribute__((unused)) static void assert_tally(struct mesh_tally t, uint32_t total,
						 uint32_t failed)
{
	if (t.total != total || t.failed != failed)
		fail_msg("%u of %u failed, expected %u of %u", t.failed, t.total, failed, total);
}

__attribute__((unused)) static uint64_t in_a_row(uint32_t ep)
{
	return __atomic_load_n(&arrays->ep_stats[ep].consecutive, __ATOMIC_RELAXED);
}

__attribute__((unused)) static uint32_t breaker_state(void)
{
	return mesh_breaker_state(arrays->svc_stats[SERVICE].breaker);
}

static void add_refusal(const struct mesh_refusal_key *key, uint64_t n, void *arg)
{
	assert_int_equal(key->workload, APP);
	assert_int_equal(key->upstream, UPSTREAM);
	((uint64_t *)arg)[key->reason % MESH_REFUSALS] += n;
}

/* By reason, since the last call. */
__attribute__((unused)) static void refusals(uint64_t n[MESH_REFUSALS])
{
	memset(n, 0, MESH_REFUSALS * sizeof(*n));
	ok(kernel_refusals(fx.k, add_refusal, n));
}

/* A connect() of the app to the service: the socket, or -errno. */
__attribute__((unused)) static int dial(const char *ip)
{
	int error, fd = try_connect(ip, ASKED_P, &error);

	if (!error)
		return fd;
	close(fd);
	return error;
}

/* The same without waiting; -EINPROGRESS stays in *error. */
__attribute__((unused)) static int dial_nonblocking(int *error)
{
	struct sockaddr_storage ss;
	socklen_t len = address(ASKED, ASKED_P, false, &ss);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	assert_true(fd >= 0);
	*error = connect(fd, (struct sockaddr *)&ss, len) < 0 ? -errno : 0;
	return fd;
}

/* Which endpoint has it; the accepted socket in *accepted. */
__attribute__((unused)) static uint32_t who_has(int *accepted)
{
	struct pollfd p[ENDPOINTS];

	for (int i = 0; i < ENDPOINTS; i++)
		p[i] = (struct pollfd){.fd = rig.server[i], .events = POLLIN};
	assert_true(poll(p, ENDPOINTS, WAIT_MS) > 0);
	for (uint32_t i = 0; i < ENDPOINTS; i++)
		if (p[i].revents & POLLIN) {
			*accepted = accept4(p[i].fd, NULL, NULL, SOCK_CLOEXEC);
			assert_true(*accepted >= 0);
			return i;
		}
	fail();
	return MESH_NONE;
}

__attribute__((unused)) static void reset(int fd)
{
	const struct linger now = {.l_onoff = 1};

	ok(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now)));
	close(fd);
}

/* The endpoint drops the SYNs of whoever comes from now on: its queue is full. */
__attribute__((unused)) static void go_deaf(uint32_t ep, int filler[2])
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);

	enter(NULL);
	ok(getsockname(rig.server[ep], (struct sockaddr *)&ss, &len));
	ok(listen(rig.server[ep], 0));
	for (int i = 0; i < 2; i++) {
		filler[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		connect(filler[i], (struct sockaddr *)&ss, len); /* the first fills it */
	}
	enter("/app");
}

__attribute__((unused)) static void hear_again(uint32_t ep, int filler[2])
{
	ok(listen(rig.server[ep], 64));
	for (int i = 0; i < 2; i++)
		reset(filler[i]);
	for (int fd; (fd = accept_within(rig.server[ep], 0)) >= 0;)
		close(fd);
}

/* n connections, one after the other, counted by endpoint. */
__attribute__((unused)) static void spread(int n, uint32_t got[ENDPOINTS])
{
	memset(got, 0, ENDPOINTS * sizeof(*got));
	for (int i = 0; i < n; i++) {
		int fd = dial(ASKED), accepted;

		assert_true(fd >= 0);
		got[who_has(&accepted)]++;
		close(fd);
		close(accepted);
	}
}

/* A clean sheet: one address of a service that nobody serves yet. */
__attribute__((unused)) static int rig_setup(void **state)
{
	uint64_t old[MESH_REFUSALS];

	ok(test_setup(state));
	memset(arrays->beats, 0, sizeof(*arrays->beats));
	for (int i = 0; i < ENDPOINTS; i++)
		rig.server[i] = -1;
	rig.service = (struct mesh_service){
		.flags = MESH_SVC_USED,
		.connect_ms = 1000,
		.breaker = {.error_pm = 5000,
			    .min_requests = 1000000,
			    .window_ms = 10000,
			    .open_ms = 200,
			    .half_open = 1,
			    .consecutive = 5,
			    .max_ejected = 50,
			    .probe_ms = 60000},
	};
	rig.up = (struct mesh_upstream){.seq = 2,
					.service = SERVICE,
					.protocol = MESH_PROTO_TCP,
					.policy = MESH_LB_RANDOM,
					.port = htons(ASKED_P),
					.nsplit = 1,
					.split = {{SUBSET, 65536}}};
	for (int i = 0; i < MESH_VERSIONS; i++)
		rig.up.version[i] = MESH_NONE;
	rig.up.version[0] = SUBSET;
	put_service();
	put_upstream();
	put_slots(SUBSET, NULL, 0);
	put_slots(OTHERS, NULL, 0);
	/* one that failed may have left its connections open */
	memset(&arrays->svc_inflight[SERVICE], 0, sizeof(struct mesh_svc_inflight));
	memset(arrays->ep_inflight, 0, ENDPOINTS * sizeof(struct mesh_ep_inflight));
	memset(&arrays->svc_stats[SERVICE], 0, sizeof(struct mesh_svc_stat));
	memset(arrays->ep_stats, 0, ENDPOINTS * sizeof(struct mesh_ep_stat));
	memset(&arrays->up_stats[UPSTREAM], 0, sizeof(struct mesh_up_stat));
	refusals(old);
	enter("/app");
	return 0;
}

/* After each test: whatever happened, nothing is counted as open any more. */
__attribute__((unused)) static int rig_teardown(void **state)
{
	for (uint32_t i = 0; i < ENDPOINTS; i++)
		stop_serving(i);
	eventually(!open_in_all());
	for (uint32_t i = 0; i < ENDPOINTS; i++)
		assert_int_equal(open_at(i), 0);
	enter(NULL);
	return 0;
}

static void outer_address(void)
{
	struct ifreq r = {.ifr_name = "lo:1"};
	struct sockaddr_storage ss;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	address(OUTER, 0, false, &ss);
	memcpy(&r.ifr_addr, &ss, sizeof(r.ifr_addr));
	ok(ioctl(fd, SIOCSIFADDR, &r));
	close(fd);
}

__attribute__((unused)) static int group_setup(void **state)
{
	if (fixture_setup(state))
		return -1;
	outer_address();
	set_dest(ASKED, ASKED_P, false, MESH_NONE);
	set_dest(ASKED6, ASKED_P, false, MESH_NONE);
	set_dest("127.0.0.1", ASKED_P, true, MESH_NONE);
	set_dest("::1", ASKED_P, true, MESH_NONE);
	return 0;
}

#endif
