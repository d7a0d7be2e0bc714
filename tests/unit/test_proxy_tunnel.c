/* SPDX-License-Identifier: Apache-2.0 */
/* Connections to endpoints that take their time, or are never made: what the caller does meanwhile,
 * how long it is waited for, and what is held against the endpoint. */
#include "proxy_rig.h"

#define LONG_MS 60000 /* a timeout that is not what the test is about */

/* Endpoint 0 accepts nothing: SYNs are dropped while the queue of its listener is full. */
struct hole {
	int listener, fill[2];
};

static void hole_open(struct hole *h, struct rig *rig)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	uint16_t port;

	h->listener = rig_listen(&port);
	assert_int_equal(listen(h->listener, 0), 0);
	a.sin_port = rig->endpoints[0].port = htons(port);
	for (int i = 0; i < 2; i++) {
		h->fill[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		assert_true(h->fill[i] >= 0);
		if (connect(h->fill[i], (struct sockaddr *)&a, sizeof(a)) < 0)
			assert_int_equal(errno, EINPROGRESS);
	}
}

static void hole_close(struct hole *h)
{
	close(h->listener);
	for (int i = 0; i < 2; i++)
		close(h->fill[i]);
}

/* Whoever fills the hole leaves: the next connection that it accepts is the proxy's. */
static int hole_accept(struct hole *h)
{
	struct sockaddr_in mine, peer;
	socklen_t len = sizeof(mine);
	struct pollfd p = {.fd = h->listener, .events = POLLIN};

	for (;;) {
		bool fill = false;
		int fd;

		assert_int_equal(poll(&p, 1, RIG_WAIT_MS), 1);
		fd = accept4(h->listener, (struct sockaddr *)&peer, &len, SOCK_CLOEXEC);
		assert_true(fd >= 0);
		for (int i = 0; i < 2; i++) {
			len = sizeof(mine);
			assert_int_equal(getsockname(h->fill[i], (struct sockaddr *)&mine, &len),
					 0);
			fill = fill || mine.sin_port == peer.sin_port;
		}
		if (!fill) {
			rig_bound(fd);
			return fd;
		}
		close(fd);
	}
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

/* Polls for a try at that endpoint. */
static void await_try(const struct rig *rig, unsigned endpoint)
{
	const uint32_t *tries = &rig->shared.ep_inflight[endpoint].worker[0];

	for (int ms = 0; !__atomic_load_n(tries, __ATOMIC_RELAXED); ms++) {
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
	await_try(rig, 0);
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
	await_try(rig, 0);
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
	await_try(rig, 0);
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

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, start, stop)
	const struct CMUnitTest tests[] = {
		T(a_caller_may_end_its_half_before_the_endpoint_is_reached),
		T(a_caller_that_only_looks_in_spoils_nothing),
		T(a_tunnel_goes_elsewhere_when_the_connect_timeout_is_over),
		T(a_silent_caller_is_connected_elsewhere_too),
		T(a_tunnel_that_nobody_takes_is_reset),
		T(a_tunnel_that_is_made_may_be_silent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
