/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of the hooks share: a private network namespace, cgroups under the root that is
 * found, the programs attached to one of them, the worker's listeners, and sockets made in the
 * cgroup that a test names. The test process itself walks from cgroup to cgroup: a socket belongs
 * to the cgroup it was made in, a caller to the one it is in.
 *
 *   BASE            attached; not managed
 *   BASE/app        workload 1        BASE/app/sub/sub   not managed itself
 *   BASE/server     workload 2        BASE/other         not managed
 */
#ifndef TESTS_BPF_FIXTURE_H
#define TESTS_BPF_FIXTURE_H

#include "agent/kernel/kernel.h"
#include "lib/addr.h"
#include "lib/cgroup.h"
#include "lib/clock.h"
#include "tests/bpf/kernel_has.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
/* after the types that it needs */
#include <cmocka.h>

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

#define WAIT_MS	  (5000 * kernel_patience()) /* deadline for what must happen */
#define APP	  1			     /* workload ids */
#define SERVER	  2
#define SUB	  3
#define CALLER_IP "10.77.0.9" /* what the supervisor says of each workload */
#define UPSTREAM  7

static struct {
	char home[PATH_MAX], base[PATH_MAX - 64], pins[64];
	uint64_t netns;
	struct kernel *k;
	int worker4, worker6; /* the capture listeners */
	uint16_t worker_port;
	int server4, server6; /* what the app wants to call, older than the agent */
	uint16_t port4, port6;
} fx;

#define ok(call) assert_int_equal(call, 0)

/* What becomes of sockets, links and the words that programs write is done by the kernel in its own
 * time, and it has no event for that: so it is looked at. */
#define eventually(cond)                                                                           \
	do {                                                                                       \
		for (uint64_t until_ = clock_mono_ns() + WAIT_MS * 1000000ULL; !(cond);) {         \
			if (clock_mono_ns() > until_)                                              \
				fail_msg("not within %d ms: %s", WAIT_MS, #cond);                  \
			usleep(1000);                                                              \
		}                                                                                  \
	} while (0)

__attribute__((unused)) static void path_of(const char *sub, char out[PATH_MAX])
{
	snprintf(out, PATH_MAX, "%s%s", fx.base, sub);
}

__attribute__((unused)) static void enter_path(const char *dir)
{
	char procs[PATH_MAX + 16];
	int fd;

	snprintf(procs, sizeof(procs), "%s/cgroup.procs", dir);
	fd = open(procs, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, "0", 1) != 1)
		fail_msg("cannot enter %s: %s", dir, strerror(errno));
	close(fd);
}

/* sub: "/app" and the like; NULL: where the test came from, outside of BASE. */
__attribute__((unused)) static void enter(const char *sub)
{
	char dir[PATH_MAX];

	if (sub)
		path_of(sub, dir);
	enter_path(sub ? dir : fx.home);
}

__attribute__((unused)) static uint64_t id_of(const char *sub)
{
	char dir[PATH_MAX];
	uint64_t id;

	path_of(sub, dir);
	ok(cgroup_id(dir, &id));
	return id;
}

__attribute__((unused)) static socklen_t address(const char *ip, uint16_t port, bool v6,
						 struct sockaddr_storage *ss)
{
	struct sockaddr_in6 *six = (struct sockaddr_in6 *)ss;
	struct sockaddr_in *four = (struct sockaddr_in *)ss;

	memset(ss, 0, sizeof(*ss));
	if (v6) {
		six->sin6_family = AF_INET6;
		six->sin6_port = htons(port);
		assert_int_equal(inet_pton(AF_INET6, ip, &six->sin6_addr), 1);
		return sizeof(*six);
	}
	four->sin_family = AF_INET;
	four->sin_port = htons(port);
	assert_int_equal(inet_pton(AF_INET, ip, &four->sin_addr), 1);
	return sizeof(*four);
}

__attribute__((unused)) static void assert_peer(int fd, const char *ip, uint16_t port)
{
	struct sockaddr_storage ss = {0}, want;
	socklen_t len = sizeof(ss), want_len = address(ip, port, strchr(ip, ':'), &want);

	ok(getpeername(fd, (struct sockaddr *)&ss, &len));
	assert_int_equal(len, want_len);
	assert_memory_equal(&ss, &want, len);
}

__attribute__((unused)) static uint16_t local_port(int fd)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);

	ok(getsockname(fd, (struct sockaddr *)&ss, &len));
	return ntohs(((struct sockaddr_in6 *)&ss)->sin6_port);
}

__attribute__((unused)) static uint64_t cookie_of(int fd, int option)
{
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);

	ok(getsockopt(fd, SOL_SOCKET, option, &cookie, &len));
	return cookie;
}

__attribute__((unused)) static int listen_on(const char *ip, uint16_t port, bool v6only)
{
	struct sockaddr_storage ss;
	bool v6 = strchr(ip, ':');
	socklen_t len = address(ip, port, v6, &ss);
	int fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0),
	    on = v6only;

	assert_true(fd >= 0);
	if (v6)
		ok(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)));
	on = 1;
	ok(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)));
	if (bind(fd, (struct sockaddr *)&ss, len) || listen(fd, 64))
		fail_msg("cannot listen on %s, port %u: %s", ip, port, strerror(errno));
	return fd;
}

/* connect() on a socket of the family that the text has. Returns it; -errno in *error. */
__attribute__((unused)) static int try_connect(const char *ip, uint16_t port, int *error)
{
	struct sockaddr_storage ss;
	bool v6 = strchr(ip, ':');
	socklen_t len = address(ip, port, v6, &ss);
	int fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	*error = connect(fd, (struct sockaddr *)&ss, len) < 0 ? -errno : 0;
	return fd;
}

/* Accepts within the deadline; -1 when nobody comes within ms. */
__attribute__((unused)) static int accept_within(int listener, int ms)
{
	struct pollfd p = {.fd = listener, .events = POLLIN};

	return poll(&p, 1, ms) == 1 ? accept4(listener, NULL, NULL, SOCK_CLOEXEC) : -1;
}

/* The connection has to be there. */
__attribute__((unused)) static void came_to(int listener)
{
	int fd = accept_within(listener, WAIT_MS);

	assert_true(fd >= 0);
	close(fd);
}

__attribute__((unused)) static uint64_t counter(enum mesh_counter c)
{
	uint64_t all[MESH_C_MAX];

	ok(kernel_counters(fx.k, all));
	return all[c];
}

__attribute__((unused)) static void set_dest(const char *ip, uint16_t port, bool loopback,
					     uint32_t workload)
{
	struct mesh_dest_key key = {.port = htons(port), .netns = loopback ? fx.netns : 0};
	struct mesh_dest d = {.upstream = UPSTREAM, .workload = workload};

	ok(addr_parse_ip(ip, key.ip));
	ok(kernel_dest_set(fx.k, &key, &d));
}

__attribute__((unused)) static void set_workload(const char *sub, uint32_t id)
{
	struct mesh_workload w = {.id = id, .service = MESH_NONE, .netns = fx.netns};

	ok(addr_parse_ip(CALLER_IP, w.ip));
	ok(kernel_workload_set(fx.k, id_of(sub), &w));
}

__attribute__((unused)) static void set_netns(uint64_t listener4, uint64_t listener6)
{
	struct mesh_netns n = {listener4, listener6, htons(fx.worker_port), {0}};

	ok(kernel_netns_set(fx.k, fx.netns, &n));
}

__attribute__((unused)) static void open_workers(void)
{
	enter(NULL);
	fx.worker4 = listen_on("127.0.0.1", fx.worker_port, false);
	fx.worker_port = local_port(fx.worker4);
	fx.worker6 = listen_on("::1", fx.worker_port, true);
	set_netns(cookie_of(fx.worker4, SO_COOKIE), cookie_of(fx.worker6, SO_COOKIE));
}

static void own_network(void)
{
	struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
	int fd;

	ok(unshare(CLONE_NEWNET));
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ok(ioctl(fd, SIOCSIFFLAGS, &lo));
	fx.netns = cookie_of(fd, SO_NETNS_COOKIE);
	close(fd);
}

static void find_home(const char *root)
{
	char line[PATH_MAX];
	FILE *f = fopen("/proc/self/cgroup", "re");

	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = 0;
		if (!strncmp(line, "0::", 3))
			snprintf(fx.home, sizeof(fx.home), "%.2000s%.2000s", root, line + 3);
	}
	fclose(f);
}

static const char *const tree[] = {"", "/app", "/app/sub", "/app/sub/sub", "/server", "/other"};
#define TREE (sizeof(tree) / sizeof(tree[0]))

static int fixture_setup(void **state)
{
	struct kernel_config cfg = {.cgroup = fx.base, .pin_dir = fx.pins};
	char root[PATH_MAX / 2], dir[PATH_MAX], error[KERNEL_ERROR_MAX];

	ok(cgroup_root(root, sizeof(root)));
	find_home(root);
	snprintf(fx.base, sizeof(fx.base), "%s/hooks-%d", root, getpid());
	snprintf(fx.pins, sizeof(fx.pins), "/sys/fs/bpf/hooks-%d", getpid());
	for (size_t i = 0; i < TREE; i++) {
		path_of(tree[i], dir);
		ok(mkdir(dir, 0755));
	}
	own_network();
	enter("/server");
	fx.server4 = listen_on("127.0.0.1", 0, false);
	fx.port4 = local_port(fx.server4);
	/* one port of both families, or that of the workers could be this one's */
	fx.port6 = fx.port4;
	fx.server6 = listen_on("::1", fx.port6, true);
	enter(NULL);
	if (kernel_open(&cfg, &fx.k, error)) {
		fprintf(stderr, "%s\n", error);
		return -1;
	}
	set_workload("/app", APP);
	set_workload("/server", SERVER);
	set_dest("127.0.0.1", fx.port4, true, SERVER);
	set_dest("::1", fx.port6, true, SERVER);
	open_workers();
	return 0;
}

static int fixture_teardown(void **state)
{
	char dir[PATH_MAX];

	enter(NULL);
	kernel_close(&fx.k);
	for (size_t i = TREE; i-- > 0;) {
		path_of(tree[i], dir);
		if (rmdir(dir) < 0)
			return -1;
	}
	return 0;
}

/* Before each test: a worker is alive, however slow this machine is. */
static int test_setup(void **state)
{
	enter(NULL);
	kernel_arrays(fx.k)->beats->worker[1] = clock_mono_ns() + 3600 * 1000000000ULL;
	return 0;
}

#endif
