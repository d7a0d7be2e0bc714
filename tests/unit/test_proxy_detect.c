/* SPDX-License-Identifier: Apache-2.0 */
/* Captured connections whose protocol is not known: the first bytes of either side tell. */
#include "proxy_rig.h"

static void captured_http_is_recognised(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->capture_port), o;

	rig_send(c, "G");
	o = rig_accept(rig, 0); /* opened at once */
	rig_send(c, "ET /a HTTP/1.1\r\nHost: h\r\n\r\n");
	rig_read_until(o, "\r\n\r\n", text, sizeof(text));
	assert_non_null(strstr(text, "GET /a HTTP/1.1\r\n"));
	assert_non_null(strstr(text, "x-forwarded-for: 10.0.0.9\r\n"));
	rig_send(o, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx");
	expect_answer(c, "200", "x");
	assert_int_equal(rig->shared.up_stats[0].learned, MESH_LEARNED_HTTP);
	close(o);
	close(c);
}

static void a_server_that_speaks_first_is_heard(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->capture_port), o = rig_accept(rig, 0);

	rig_send(o, "220 ready\r\n");
	rig_read_until(c, "\r\n", text, sizeof(text));
	assert_string_equal(text, "220 ready\r\n");
	rig_send(c, "GET / HTTP/1.1\r\n");
	rig_read_until(o, "\n", text, sizeof(text));
	assert_string_equal(text, "GET / HTTP/1.1\r\n");
	shutdown(c, SHUT_WR);
	rig_expect_closed(o);
	rig_send(o, "bye");
	close(o);
	rig_read_until(c, NULL, text, sizeof(text));
	assert_string_equal(text, "bye");
	close(c);
}

static void bytes_that_are_not_http_are_tunnelled(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->capture_port), o = rig_accept(rig, 0);

	rig_send(c, "PING\r\n");
	rig_read_until(o, "\n", text, sizeof(text));
	assert_string_equal(text, "PING\r\n");
	rig_send(o, "+PONG\r\n");
	rig_read_until(c, "\n", text, sizeof(text));
	close(o);
	rig_expect_closed(c);
	close(c);
}

static void a_tunnel_to_nobody_is_reset(void **state)
{
	struct rig *rig = *state;
	int c;

	rig->endpoints[0].port = htons(1);
	c = rig_connect(rig->capture_port);
	rig_send(c, "\x16\x03\x01");
	assert_int_equal(recv(c, text, 1, 0), -1);
	assert_int_equal(errno, ECONNRESET);
	close(c);
}

/* The connection was made to learn the protocol; that it goes is no answer to the request. */
static void a_connection_that_ends_before_the_request_is_made_again(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->capture_port), o = rig_accept(rig, 0), fence;

	rig_send(c, "POST /a HTTP/1.1\r\n");
	fence = rig_connect(rig->gateway_port); /* once it is answered, the line before was read */
	rig_send(fence, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
	expect_refusal(fence, "404", "no-route");
	close(o);
	rig_send(fence, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
	expect_refusal(fence, "404", "no-route");
	rig_send(c, "Host: h\r\nContent-Length: 3\r\n\r\nabc");
	o = rig_accept(rig, 0);
	rig_read_until(o, "abc", text, sizeof(text));
	rig_send(o, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx");
	expect_answer(c, "200", "x");
	close(fence);
	close(o);
	close(c);
}

static void a_connection_that_ends_with_the_request_is_made_again(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->capture_port), o = rig_accept(rig, 0);

	rig_send(c, "GET /a HTTP/1.1\r\nHost: h\r\n\r\n");
	rig_read_until(o, "\r\n\r\n", text, sizeof(text));
	close(o);
	o = rig_accept(rig, 0);
	expect_served(o, c);
	close(o);
	close(c);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, start, stop)
	const struct CMUnitTest tests[] = {
		T(captured_http_is_recognised),
		T(a_server_that_speaks_first_is_heard),
		T(bytes_that_are_not_http_are_tunnelled),
		T(a_tunnel_to_nobody_is_reset),
		T(a_connection_that_ends_before_the_request_is_made_again),
		T(a_connection_that_ends_with_the_request_is_made_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
