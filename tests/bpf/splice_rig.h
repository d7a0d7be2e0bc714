/* SPDX-License-Identifier: Apache-2.0 */
/* For tests of connections that skip TCP: pairs of sockets of the fixture's app and of "workers" in
 * /other, what they say to each other, and what was counted of it. */
#ifndef TESTS_BPF_SPLICE_RIG_H
#define TESTS_BPF_SPLICE_RIG_H

#include "agent/kernel/splice.h"
#include "tests/bpf/fixture.h"

#include <netinet/tcp.h>

#define SMALL 100

struct pair {
	int client, server;
};

static struct mesh_splice_ctl usual = {.mode = MESH_SPLICE_VERDICT};

__attribute__((unused)) static void switch_to(const struct mesh_splice_ctl *c)
{
	char error[KERNEL_ERROR_MAX];

	if (kernel_splice_set(fx.k, c, error))
		fail_msg("%s", error);
}

__attribute__((unused)) static uint64_t opened(enum mesh_accel_which group)
{
	struct mesh_accel a;

	ok(kernel_splice_total(fx.k, &a));
	return a.group[group].opened;
}

__attribute__((unused)) static void set_blocking(int fd, bool blocking)
{
	int flags = fcntl(fd, F_GETFL);

	ok(fcntl(fd, F_SETFL, blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK));
}

/* As an event-driven program does it, or (blocking) as a simple one. */
__attribute__((unused)) static int connect_as(const char *ip, uint16_t port, bool blocking)
{
	struct sockaddr_storage ss;
	bool v6 = strchr(ip, ':');
	socklen_t len = address(ip, port, v6, &ss);
	int fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
	struct pollfd p = {.fd = fd, .events = POLLOUT};

	assert_true(fd >= 0);
	ok(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)));
	set_blocking(fd, blocking);
	if (connect(fd, (struct sockaddr *)&ss, len) < 0)
		assert_int_equal(errno, EINPROGRESS);
	assert_int_equal(poll(&p, 1, WAIT_MS), 1);
	return fd;
}

__attribute__((unused)) static struct pair pair_up(const char *ip, uint16_t port, int listener,
						   bool blocking)
{
	struct pair p = {.client = connect_as(ip, port, blocking)};

	p.server = accept_within(listener, WAIT_MS);
	assert_true(p.server >= 0);
	set_blocking(p.server, false);
	return p;
}

__attribute__((unused)) static void part(struct pair *p)
{
	close(p->client);
	close(p->server);
	eventually(!kernel_splice_pairs(fx.k));
}

__attribute__((unused)) static void pass_on(int from, int to, size_t n)
{
	char sent[4096], got[4096];
	struct pollfd p = {.fd = to, .events = POLLIN};

	for (size_t i = 0; i < n; i++)
		sent[i] = (char)rand();
	assert_int_equal(send(from, sent, n, MSG_NOSIGNAL), n);
	for (size_t at = 0; at < n;) {
		ssize_t r;

		assert_int_equal(poll(&p, 1, WAIT_MS), 1);
		r = recv(to, got + at, n - at, 0);
		assert_true(r > 0);
		at += (size_t)r;
	}
	assert_memory_equal(sent, got, n);
}

/* Both ways; what was redirected and what went by TCP meanwhile, the connection closed. */
__attribute__((unused)) static void talk(struct pair *p, int times, uint64_t *redirected,
					 uint64_t *tcp)
{
	struct mesh_accel before, after;
	const struct mesh_accel_group *b = &before.group[MESH_ACCEL_ENROLLED],
				      *a = &after.group[MESH_ACCEL_ENROLLED];

	ok(kernel_splice_total(fx.k, &before));
	for (int i = 0; i < times; i++) {
		pass_on(p->client, p->server, SMALL);
		pass_on(p->server, p->client, SMALL);
	}
	part(p);
	ok(kernel_splice_total(fx.k, &after));
	*redirected = a->redirected - b->redirected;
	*tcp = a->tcp - b->tcp;
	assert_int_equal(a->messages - b->messages, *redirected || *tcp ? 2 * times : 0);
	assert_int_equal(a->turns - b->turns, *redirected || *tcp ? 2 * times : 0);
}

/* The first connection of two workloads: with TCP, and both are known afterwards. */
__attribute__((unused)) static void meet(const char *ip, uint16_t port, int listener)
{
	struct pair p = pair_up(ip, port, listener, false);
	uint64_t redirected, tcp;

	talk(&p, 2, &redirected, &tcp);
}

__attribute__((unused)) static void assert_enrolled(const char *ip, uint16_t port, int listener)
{
	uint64_t before, redirected, tcp;
	struct pair p;

	meet(ip, port, listener);
	before = opened(MESH_ACCEL_ENROLLED);
	p = pair_up(ip, port, listener, false);
	assert_int_equal(opened(MESH_ACCEL_ENROLLED), before + 1);
	assert_int_equal(kernel_splice_pairs(fx.k), 1);
	talk(&p, 3, &redirected, &tcp);
	assert_int_equal(redirected, 6 * SMALL);
	assert_int_equal(tcp, 0);
}

/* In which group it counts; MESH_ACCEL_GROUPS: in none. */
__attribute__((unused)) static void assert_left_alone(const char *ip, uint16_t port, int listener,
						      bool blocking, enum mesh_accel_which group)
{
	uint64_t enrolled = opened(MESH_ACCEL_ENROLLED),
		 before = group < MESH_ACCEL_GROUPS ? opened(group) : 0, redirected, tcp;
	struct pair p = pair_up(ip, port, listener, blocking);

	assert_int_equal(opened(MESH_ACCEL_ENROLLED), enrolled);
	if (group < MESH_ACCEL_GROUPS)
		assert_int_equal(opened(group), before + 1);
	talk(&p, 2, &redirected, &tcp);
	assert_int_equal(redirected + tcp, 0);
}

__attribute__((unused)) static int splice_setup(void **state)
{
	const struct mesh_service plain = {.flags = MESH_SVC_USED};
	struct mesh_upstream *u = &kernel_arrays(fx.k)->upstreams[UPSTREAM];

	test_setup(state);
	u->service = 0;
	ok(kernel_service_set(fx.k, 0, &plain));
	ok(kernel_splice_upstream(fx.k, UPSTREAM));
	for (uint32_t w = APP; w <= SUB; w++)
		ok(kernel_splice_forget(fx.k, w));
	usual.cgroup = id_of("/other");
	usual.uid = getuid();
	switch_to(&usual);
	return 0;
}

/* Workers where a hook sees them, too; and the mode that this kernel has. */
__attribute__((unused)) static int group_setup(void **state)
{
	char error[KERNEL_ERROR_MAX];

	if (fixture_setup(state))
		return -1;
	if (kernel_splice_set(fx.k, &usual, error)) {
		print_message("redirect alone: %s\n", error);
		usual.mode = MESH_SPLICE_REDIRECT;
	}
	close(fx.worker4);
	close(fx.worker6);
	enter("/other");
	fx.worker4 = listen_on("127.0.0.1", fx.worker_port, false);
	fx.worker6 = listen_on("::1", fx.worker_port, true);
	set_netns(cookie_of(fx.worker4, SO_COOKIE), cookie_of(fx.worker6, SO_COOKIE));
	return 0;
}

#endif
