/* SPDX-License-Identifier: Apache-2.0 */
/* Connections to endpoints that take their time, or are never made: what the caller does meanwhile,
 * how long it is waited for, and what is held against the endpoint. */
#include "proxy_rig.h"

#include "agent/proxy/upstream.h"
#include "lib/clock.h"
#include <mesh/ewma.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define LONG_MS 60000 /* a timeout that is not what the test is about */

/* Endpoint 0 accepts nothing: SYNs are dropped while the queue of its listener, which has room for
 * one, is full. */
struct hole {
	int listener, fill;
};

static void hole_open(struct hole *h, struct rig *rig)
{
	uint16_t port;

	h->listener = rig_listen(&port);
	assert_int_equal(listen(h->listener, 0), 0);
	h->fill = rig_connect(port);
	rig->endpoints[0].port = htons(port);
}

static void hole_close(struct hole *h)
{
	close(h->listener);
	close(h->fill);
}

/* The one that fills the hole leaves; the next one that it accepts is the proxy's. */
static int hole_accept(struct hole *h)
{
	struct pollfd p = {.fd = h->listener, .events = POLLIN};
	int fd = -1;

	for (int i = 0; i < 2; i++) {
		close(fd);
		assert_int_equal(poll(&p, 1, RIG_WAIT_MS), 1);
		fd = accept4(h->listener, NULL, NULL, SOCK_CLOEXEC);
		assert_true(fd >= 0);
	}
	rig_bound(fd);
	return fd;
}

/* The proxy has looked at all that reached it before. */
static void settle(struct rig *rig)
{
	int c = rig_connect(rig->gateway_port);

	rig_send(c, "GET /nobody HTTP/1.1\r\nHost: h\r\n\r\n");
	expect_refusal(c, "404", "no-route");
	close(c);
}

static uint64_t held_against(const struct rig *rig, unsigned endpoint)
{
	return __atomic_load_n(&rig->shared.ep_stats[endpoint].ewma, __ATOMIC_RELAXED);
}

/* Polls for n tries under way at that endpoint. */
static void await_tries(const struct rig *rig, unsigned endpoint, uint32_t n)
{
	const uint32_t *tries = &rig->shared.ep_inflight[endpoint].worker[0];

	for (int ms = 0; __atomic_load_n(tries, __ATOMIC_RELAXED) != n; ms++) {
		assert_true(ms < RIG_WAIT_MS);
		usleep(1000);
	}
}

/* --- a caller that has said all before the endpoint is reached --- */

static void a_caller_may_end_its_half_before_the_endpoint_is_reached(void **state)
{
	struct rig *rig = *state;
	struct hole hole;
	int c, o;

	rig->upstreams[0].protocol = MESH_PROTO_TCP;
	rig->snapshot->service.timeouts.connect = LONG_MS;
	hole_open(&hole, rig);
	c = rig_connect(rig->capture_port);
	shutdown(c, SHUT_WR);
	settle(rig);
	o = hole_accept(&hole);
	assert_int_equal(rig_read_until(o, NULL, text, sizeof(text)), 0);
	rig_send(o, "bye");
	close(o);
	rig_read_until(c, NULL, text, sizeof(text));
	assert_string_equal(text, "bye");
	assert_int_equal(held_against(rig, 0), 0);
	close(c);
	hole_close(&hole);
}

static void a_caller_that_only_looks_in_spoils_nothing(void **state)
{
	struct rig *rig = *state;
	struct hole hole;
	int c;

	rig->snapshot->service.timeouts.connect = LONG_MS;
	hole_open(&hole, rig);
	c = rig_connect(rig->capture_port);
	await_tries(rig, 0, 1);
	close(c);
	settle(rig);
	settle(rig); /* what came of that, too */
	assert_int_equal(held_against(rig, 0), 0);
	hole_close(&hole);
}

/* --- an endpoint that does not answer --- */

static void a_tunnel_goes_elsewhere_when_the_connect_timeout_is_over(void **state)
{
	struct rig *rig = *state;
	struct hole hole;
	int c, o;

	rig->upstreams[0].protocol = MESH_PROTO_TCP;
	rig->snapshot->service.timeouts.connect = 200;
	hole_open(&hole, rig);
	c = rig_connect(rig->capture_port);
	rig_send(c, "hello");
	await_tries(rig, 0, 1);
	rig_use(rig, 2);
	o = rig_accept(rig, 1);
	rig_read_until(o, "hello", text, sizeof(text));
	assert_string_equal(text, "hello");
	assert_int_not_equal(held_against(rig, 0), 0);
	close(o);
	rig_expect_closed(c);
	close(c);
	hole_close(&hole);
}

static void a_silent_caller_is_connected_elsewhere_too(void **state)
{
	struct rig *rig = *state;
	struct hole hole;
	int c, o;

	rig->snapshot->service.timeouts.connect = 200;
	hole_open(&hole, rig);
	c = rig_connect(rig->capture_port);
	await_tries(rig, 0, 1);
	rig_use(rig, 2);
	o = rig_accept(rig, 1);
	rig_send(o, "220 ready\r\n");
	rig_read_until(c, "\r\n", text, sizeof(text));
	assert_string_equal(text, "220 ready\r\n");
	close(o);
	close(c);
	hole_close(&hole);
}

static void a_tunnel_that_nobody_takes_is_reset(void **state)
{
	struct rig *rig = *state;
	struct hole hole;
	int c;

	rig->upstreams[0].protocol = MESH_PROTO_TCP;
	rig->snapshot->service.timeouts.connect = 100;
	hole_open(&hole, rig);
	c = rig_connect(rig->capture_port);
	assert_int_equal(recv(c, text, 1, 0), -1);
	assert_int_equal(errno, ECONNRESET);
	close(c);
	hole_close(&hole);
}

/* The timer of the connect is not one of the connection. */
static void a_tunnel_that_is_made_may_be_silent(void **state)
{
	struct rig *rig = *state;
	int c, o;

	rig->upstreams[0].protocol = MESH_PROTO_TCP;
	rig->snapshot->service.timeouts.connect = 50;
	c = rig_connect(rig->capture_port);
	o = rig_accept(rig, 0);
	usleep(200000); /* four times the timeout: nothing is to happen in it */
	rig_send(o, "late");
	rig_read_until(c, "late", text, sizeof(text));
	assert_string_equal(text, "late");
	close(o);
	close(c);
}

/* --- a socket that the supervisor makes --- */

/* The ends of the control channel: the worker's, and that of the supervisor, whom the test plays.
 * proxy_want_socket and proxy_catch_up stand in for those of the worker process. */
static int control[2];

static void on_control(struct watch *w, uint32_t events);

static struct {
	struct watch watch;
	struct proxy *proxy;
} worker = {.watch.fd = -1}; /* in the proxy's process */

int proxy_want_socket(struct proxy *p, uint64_t request, uint64_t netns, uint32_t family)
{
	struct ipc_msg m = {.kind = IPC_WANT_SOCKET};

	worker.proxy = p;
	if (worker.watch.fd < 0 &&
	    loop_add(&p->loop, &worker.watch, control[0], EPOLLIN, on_control))
		abort();
	m.socket.request = request;
	m.socket.netns = netns;
	m.socket.family = family;
	return ipc_send(control[0], &m, NULL, 0);
}

void proxy_catch_up(struct proxy *p)
{
	struct ipc_msg m;
	int fds[IPC_MAX_FDS];
	size_t nfds;

	while (ipc_recv(control[0], &m, fds, &nfds) > 0)
		upconn_socket(p, m.socket.request, nfds ? fds[0] : m.socket.error);
}

static void on_control(struct watch *w, uint32_t events)
{
	proxy_catch_up(worker.proxy);
}

/* As start(), and endpoint 0 is in another network namespace. */
static int start_apart(void **state)
{
	struct rig *rig;

	assert_int_equal(
		socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, control), 0);
	rig = *state = rig_start();
	rig->endpoints[0].flags |= MESH_EP_LOOPBACK | MESH_EP_EXTERNAL;
	rig->endpoints[0].netns = RIG_NETNS + 1;
	return 0;
}

static int stop_apart(void **state)
{
	rig_stop(*state);
	close(control[0]);
	close(control[1]);
	return 0;
}

/* The next request for a socket. */
static struct ipc_msg hear(void)
{
	struct pollfd p = {.fd = control[1], .events = POLLIN};
	struct ipc_msg m;
	int fds[IPC_MAX_FDS];
	size_t nfds;

	assert_int_equal(poll(&p, 1, RIG_WAIT_MS), 1);
	assert_int_equal(ipc_recv(control[1], &m, fds, &nfds), 1);
	assert_int_equal(m.kind, IPC_WANT_SOCKET);
	assert_int_equal(m.socket.netns, RIG_NETNS + 1);
	return m;
}

/* fd, which is closed here, or -errno. */
static void answer(struct ipc_msg m, int fd)
{
	m.kind = IPC_SOCKET;
	m.socket.error = fd < 0 ? fd : 0;
	assert_int_equal(ipc_send(control[1], &m, &fd, fd >= 0), 0);
	if (fd >= 0)
		close(fd);
}

static int fresh_socket(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	return fd;
}

/* What is sent at c arrives at o, and endpoint 0 looks as if nothing had ever been slow. */
static void expect_tunnel(const struct rig *rig, int c, int o)
{
	rig_send(c, "hello");
	rig_read_until(o, "hello", text, sizeof(text));
	assert_string_equal(text, "hello");
	assert_int_equal(held_against(rig, 0), 0);
}

static void a_caller_may_end_its_half_before_there_is_a_socket(void **state)
{
	struct rig *rig = *state;
	struct ipc_msg m;
	int c, o;

	rig->upstreams[0].protocol = MESH_PROTO_TCP;
	rig->snapshot->service.timeouts.connect = LONG_MS;
	c = rig_connect(rig->capture_port);
	m = hear();
	shutdown(c, SHUT_WR);
	settle(rig);
	answer(m, fresh_socket());
	o = rig_accept(rig, 0);
	assert_int_equal(rig_read_until(o, NULL, text, sizeof(text)), 0);
	rig_send(o, "bye");
	close(o);
	rig_read_until(c, NULL, text, sizeof(text));
	assert_string_equal(text, "bye");
	assert_int_equal(held_against(rig, 0), 0);
	close(c);
}

static void an_answer_that_is_lost_is_not_waited_for(void **state)
{
	struct rig *rig = *state;
	int c, o;

	rig->upstreams[0].protocol = MESH_PROTO_TCP;
	rig->snapshot->service.timeouts.connect = 200;
	c = rig_connect(rig->capture_port);
	hear();
	rig_use(rig, 2);
	o = rig_accept(rig, 1);
	expect_tunnel(rig, c, o);
	close(o);
	close(c);
}

static void what_the_supervisor_lacks_is_asked_for_again(void **state)
{
	static const int lacks[] = {-EAGAIN, -EMFILE, -ENFILE, -ENOBUFS, -ENOMEM};
	struct rig *rig = *state;
	int c, o;

	rig->upstreams[0].protocol = MESH_PROTO_TCP;
	rig->snapshot->service.timeouts.connect = LONG_MS;
	c = rig_connect(rig->capture_port);
	for (size_t i = 0; i < sizeof(lacks) / sizeof(lacks[0]); i++)
		answer(hear(), lacks[i]);
	answer(hear(), fresh_socket());
	o = rig_accept(rig, 0);
	expect_tunnel(rig, c, o);
	close(o);
	close(c);
}

static void lacking_sockets_is_no_fault_of_the_endpoint(void **state)
{
	struct rig *rig = *state;
	struct pollfd p[2] = {{.fd = control[1], .events = POLLIN}, {.events = POLLIN}};
	int c;

	rig->snapshot->service.timeouts.connect = 100;
	c = p[1].fd = rig_connect(rig->gateway_port);
	rig_send(c, GET);
	do {
		assert_true(poll(p, 2, RIG_WAIT_MS) > 0);
		if (p[0].revents)
			answer(hear(), -EAGAIN);
	} while (!p[1].revents);
	expect_refusal(c, "504", "connect-timeout");
	assert_int_equal(held_against(rig, 0), 0);
	close(c);
}

/* A namespace that is gone is the end of what was in it. */
static void other_failures_are_the_endpoints(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->gateway_port);

	rig->snapshot->service.timeouts.connect = LONG_MS;
	rig_send(c, GET);
	for (int i = 0; i < EXCHANGE_TRIES; i++)
		answer(hear(), -ENOENT);
	expect_refusal(c, "503", "connect-failed");
	assert_int_not_equal(held_against(rig, 0), 0);
	close(c);
}

static int bound_socket(uint16_t *port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);
	const int one = 1;
	int fd = fresh_socket();

	a.sin_port = htons(*port);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)), 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	*port = ntohs(a.sin_port);
	return fd;
}

static void no_port_left_is_no_fault_of_the_endpoint(void **state)
{
	struct rig *rig = *state;
	struct sockaddr_in a = {.sin_family = AF_INET,
				.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
				.sin_port = rig->endpoints[0].port};
	uint16_t port = 0;
	int taken = bound_socket(&port), c, o, other;

	assert_int_equal(connect(taken, (struct sockaddr *)&a, sizeof(a)), -1);
	assert_int_equal(errno, EINPROGRESS);
	other = rig_accept(rig, 0);
	rig->upstreams[0].protocol = MESH_PROTO_TCP;
	rig->snapshot->service.timeouts.connect = LONG_MS;
	c = rig_connect(rig->capture_port);
	answer(hear(), bound_socket(&port)); /* that connection exists already: EADDRNOTAVAIL */
	answer(hear(), fresh_socket());
	o = rig_accept(rig, 0);
	expect_tunnel(rig, c, o);
	close(other);
	close(taken);
	close(o);
	close(c);
}

#define CROWD 400 /* more than the control channel holds */

static void a_crowd_for_another_namespace_is_served(void **state)
{
	struct rig *rig = *state;
	struct pollfd p[2] = {{.fd = control[1], .events = POLLIN},
			      {.fd = rig->origin[0], .events = POLLIN}};
	static int c[CROWD], o[CROWD];
	int served = 0;

	rig->snapshot->service.timeouts =
		(struct snap_timeouts){LONG_MS, LONG_MS, LONG_MS, LONG_MS};
	for (int i = 0; i < CROWD; i++) {
		c[i] = rig_connect(rig->gateway_port);
		rig_send(c[i], GET);
	}
	settle(rig);
	while (served < CROWD) {
		assert_true(poll(p, 2, RIG_WAIT_MS) > 0);
		if (p[0].revents)
			answer(hear(), fresh_socket());
		if (p[1].revents) {
			o[served] = rig_accept(rig, 0);
			serve(o[served++], "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx");
		}
	}
	for (int i = 0; i < CROWD; i++) {
		expect_answer(c[i], "200 OK", "x");
		close(c[i]);
		close(o[i]);
	}
}

/* A channel that takes next to nothing at a time. */
static void a_full_channel_is_waited_for(void **state)
{
	struct rig *rig = *state;
	const int least = 1;
	int c[16];

	assert_int_equal(setsockopt(control[0], SOL_SOCKET, SO_SNDBUF, &least, sizeof(least)), 0);
	rig->upstreams[0].protocol = MESH_PROTO_TCP;
	rig->snapshot->service.timeouts.connect = LONG_MS;
	for (int i = 0; i < 16; i++)
		c[i] = rig_connect(rig->capture_port);
	await_tries(rig, 0, 16);
	for (int i = 0; i < 16; i++) {
		answer(hear(), fresh_socket());
		close(rig_accept(rig, 0));
	}
	for (int i = 0; i < 16; i++) {
		rig_expect_closed(c[i]);
		close(c[i]);
	}
	assert_int_equal(held_against(rig, 0), 0);
}

/* --- out of descriptors --- */

/* The number of the next descriptor that the proxy opens. */
static unsigned next_fd(const struct rig *rig)
{
	char path[64];
	struct stat st;

	for (unsigned fd = 0;; fd++) {
		snprintf(path, sizeof(path), "/proc/%d/fd/%u", (int)rig->proxy, fd);
		if (lstat(path, &st) < 0)
			return fd;
	}
}

/* Returns what it was. */
static rlim_t limit_fds(const struct rig *rig, rlim_t to)
{
	struct rlimit was, now;

	assert_int_equal(prlimit(rig->proxy, RLIMIT_NOFILE, NULL, &was), 0);
	now = was;
	now.rlim_cur = to;
	assert_int_equal(prlimit(rig->proxy, RLIMIT_NOFILE, &now, NULL), 0);
	return was.rlim_cur;
}

/* Polls for the n-th client. If the proxy stops accepting before it has that one, it never comes.
 */
static void await_clients(const struct rig *rig, uint32_t n)
{
	const struct proxy *p = rig->inside;

	for (int ms = 0; __atomic_load_n(&p->nclients, __ATOMIC_ACQUIRE) != n; ms++) {
		bool paused = __atomic_load_n(&p->paused, __ATOMIC_ACQUIRE);

		assert_false(paused && __atomic_load_n(&p->nclients, __ATOMIC_ACQUIRE) != n);
		assert_true(ms < RIG_WAIT_MS);
		usleep(1000);
	}
}

static void a_request_waits_for_a_descriptor(void **state)
{
	struct rig *rig = *state;
	rlim_t enough;
	int c, o;

	rig->snapshot->service.timeouts.connect = LONG_MS;
	c = rig_connect(rig->gateway_port);
	await_clients(rig, 1);
	enough = limit_fds(rig, next_fd(rig));
	rig_send(c, GET);
	await_tries(rig, 0, 1);
	usleep(600000); /* time that is not the endpoint's */
	limit_fds(rig, enough);
	o = rig_accept(rig, 0);
	assert_int_equal(held_against(rig, 0), 0);
	expect_served(o, c);
	assert_in_range(mesh_ewma_read(held_against(rig, 0), clock_mono_ns()), 1, 500000000);
	close(o);
	close(c);
}

static void an_idle_connection_makes_room_for_a_caller(void **state)
{
	struct rig *rig = *state;
	int first = rig_connect(rig->gateway_port), second, o;

	o = get_accepted(rig, first);
	expect_served(o, first);
	limit_fds(rig, next_fd(rig));
	second = rig_connect(rig->gateway_port);
	await_clients(rig, 2);
	rig_expect_closed(o);
	close(o);
	close(first);
	close(second);
}

int main(void)
{
#define T(name)	    cmocka_unit_test_setup_teardown(name, start, stop)
#define APART(name) cmocka_unit_test_setup_teardown(name, start_apart, stop_apart)
	const struct CMUnitTest tests[] = {
		T(a_caller_may_end_its_half_before_the_endpoint_is_reached),
		T(a_caller_that_only_looks_in_spoils_nothing),
		T(a_tunnel_goes_elsewhere_when_the_connect_timeout_is_over),
		T(a_silent_caller_is_connected_elsewhere_too),
		T(a_tunnel_that_nobody_takes_is_reset),
		T(a_tunnel_that_is_made_may_be_silent),
		APART(a_caller_may_end_its_half_before_there_is_a_socket),
		APART(an_answer_that_is_lost_is_not_waited_for),
		APART(what_the_supervisor_lacks_is_asked_for_again),
		APART(lacking_sockets_is_no_fault_of_the_endpoint),
		APART(other_failures_are_the_endpoints),
		APART(no_port_left_is_no_fault_of_the_endpoint),
		APART(a_crowd_for_another_namespace_is_served),
		APART(a_full_channel_is_waited_for),
		T(a_request_waits_for_a_descriptor),
		T(an_idle_connection_makes_room_for_a_caller),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
