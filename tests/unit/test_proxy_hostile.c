/* SPDX-License-Identifier: Apache-2.0 */
/* One worker's proxy, under ASan and UBSan, against callers and endpoints that mean harm or have
 * bad luck. */
#include "proxy_rig.h"

static void a_request_that_nobody_can_take_is_answered_once(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->gateway_port), o;

	rig_use(rig, 0);
	rig_send(c, GET);
	expect_refusal(c, "503", "no-healthy-endpoint");
	assert_null(strstr(text, "connection: close\r\n"));
	rig_use(rig, 1);
	rig_send(c, "GET /svc/next HTTP/1.1\r\nHost: h\r\n\r\n");
	o = rig_accept(rig, 0);
	serve(o, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx");
	assert_ptr_equal(strstr(text, "GET /next "), text);
	rig_read_until(c, "\r\n\r\n", text, sizeof(text));
	assert_ptr_equal(strstr(text, "HTTP/1.1 200 OK\r\n"), text);
	close(o);
	close(c);
}

static void a_request_that_was_begun_is_not_sent_again(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->gateway_port), o = get_accepted(rig, c);
	struct pollfd p = {.fd = rig->origin[0], .events = POLLIN};

	expect_served(o, c);
	rig_send(c, GET);
	serve(o, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n");
	expect_answer(c, "103", "");
	close(o);
	expect_answer(c, "502 Bad Gateway", "");
	assert_int_equal(poll(&p, 1, 0), 0);
	close(c);
}

static void no_http2_inside_an_upgrade(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->gateway_port), o;

	rig_send(c, "GET /svc/ HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket, "
		    "H2C\r\n\r\n");
	o = rig_accept(rig, 0);
	rig_read_until(o, "\r\n\r\n", text, sizeof(text));
	assert_null(strcasestr(text, "upgrade"));
	close(o);
	close(c);
}

static void expect_another_served(struct rig *rig)
{
	int c = rig_connect(rig->gateway_port), o = get_accepted(rig, c);

	expect_served(o, c);
	close(o);
	close(c);
}

/* Sends the same bytes again and again from a child process, which ends when nobody takes them. */
static pid_t flood(int fd, const char *what, size_t times)
{
	size_t len = strlen(what);
	pid_t pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_IGN);
	for (size_t i = 0; i < times; i++)
		memcpy(text + i * len, what, len);
	while (send(fd, text, len * times, MSG_NOSIGNAL) > 0)
		;
	_exit(0);
}

static pid_t drain(int fd)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (recv(fd, text, sizeof(text), 0) > 0)
		;
	_exit(0);
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void endless_interim_answers_starve_nobody(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->gateway_port), o;
	pid_t sender, reader;

	rig->snapshot->service.timeouts.try = 1000;
	rig_send(c, "GET /svc/ HTTP/1.0\r\nHost: h\r\n\r\n");
	o = rig_accept(rig, 0);
	rig_read_until(o, "\r\n\r\n", text, sizeof(text));
	sender = flood(o, "HTTP/1.1 102 Processing\r\n\r\n", 1000);
	reader = drain(o);
	expect_another_served(rig);
	expect_refusal(c, "504", "try-timeout");
	end(sender);
	end(reader);
	close(o);
	close(c);
}

static void endless_pipelined_requests_starve_nobody(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->gateway_port);
	pid_t sender = flood(c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n", 500), reader = drain(c);

	poll(NULL, 0, 100); /* it is in full swing */
	expect_another_served(rig);
	end(sender);
	end(reader);
	close(c);
}

static void http_spoken_to_a_database_breaks_it_for_nobody_else(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->capture_port), o = rig_accept(rig, 0);

	rig_send(c, GET);
	serve(o, "-ERR unknown command 'GET'\r\n\r\n");
	expect_answer(c, "502", "");
	close(o);
	close(c);
	c = rig_connect(rig->capture_port);
	o = rig_accept(rig, 0);
	rig_send(c, "PING\r\n");
	rig_read_until(o, "\n", text, sizeof(text));
	assert_string_equal(text, "PING\r\n");
	close(o);
	close(c);
}

static void urgent_data_stops_no_tunnel(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->capture_port), o = rig_accept(rig, 0);

	rig_send(c, "\xff\xff");
	rig_read_until(o, "\xff\xff", text, sizeof(text));
	kill(rig->proxy, SIGSTOP); /* so that all of it is there when it reads */
	rig_send(c, "abc");
	assert_int_equal(send(c, "!", 1, MSG_OOB), 1);
	rig_send(c, "def");
	kill(rig->proxy, SIGCONT);
	rig_read_until(o, "abcdef", text, sizeof(text));
	assert_string_equal(text, "abcdef");
	close(o);
	close(c);
}

static void a_silent_caller_of_nobody_is_not_kept_for_ever(void **state)
{
	struct rig *rig = *state;
	int c;

	rig->endpoints[0].port = htons(1);
	c = rig_connect(rig->capture_port);
	assert_int_equal(recv(c, text, 1, 0), -1);
	assert_int_equal(errno, ECONNRESET);
	close(c);
}

static void idle_callers_keep_nobody_out(void **state)
{
	struct rig *rig = *state;
	int idle[8];

	expect_another_served(rig); /* it is up */
	rig->inside->max_clients = 8;
	for (int i = 0; i < 8; i++)
		idle[i] = rig_connect(rig->gateway_port);
	for (int i = 0; i < 20; i++)
		expect_another_served(rig);
	rig_expect_closed(idle[0]);
	assert_true(rig->inside->nclients <= 8);
	for (int i = 0; i < 8; i++)
		close(idle[i]);
}

static void who_drains_answers_what_is_there_and_closes(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->gateway_port), o = get_accepted(rig, c);

	rig_read_until(o, "\r\n\r\n", text, sizeof(text));
	rig->inside->draining = true;
	rig_send(c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
	rig_send(o, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx");
	expect_answer(c, "connection: close\r\n", "x");
	rig_expect_closed(o);
	rig_expect_closed(c);
	close(o);
	close(c);
	rig->inside->quiet_ms = RIG_WAIT_MS; /* who has just come is not quiet yet */
	c = rig_connect(rig->gateway_port);
	rig_send(c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
	rig_read_until(c, NULL, text, sizeof(text));
	assert_non_null(strstr(text, "connection: close\r\n"));
	close(c);
}

/* Programs trust loopback: who came that way still does, nobody else begins to. */
static void loopback_is_kept_and_not_granted(void **state)
{
	struct rig *rig = *state;
	int c, o;

	rig->endpoints[0].ip[15] = 9; /* nobody listens on 127.0.0.9 */
	rig->endpoints[0].netns = RIG_NETNS;
	rig->endpoints[0].flags |= MESH_EP_WILDCARD;
	c = rig_connect(rig->capture_port);
	rig_send(c, "GET /a HTTP/1.1\r\nHost: h\r\n\r\n");
	o = rig_accept(rig, 0);
	rig_read_until(o, "\r\n\r\n", text, sizeof(text));
	rig_send(o, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx");
	rig_read_until(c, "\r\n\r\nx", text, sizeof(text));
	assert_non_null(strstr(text, "200 OK"));
	close(c);
	c = rig_connect(
		rig->gateway_port); /* from elsewhere, and the pooled connection is not for it */
	rig_send(c, "GET /svc/a HTTP/1.1\r\nHost: h\r\n\r\n");
	expect_refusal(c, "503", "connect-failed");
	rig->endpoints[0].flags = MESH_EP_USED | MESH_EP_ALIVE | MESH_EP_LOOPBACK;
	rig->endpoints[0].netns = RIG_NETNS + 1;
	rig_send(c, "GET /svc/a HTTP/1.1\r\nHost: h\r\n\r\n");
	expect_refusal(c, "503", "no-healthy-endpoint");
	close(o);
	close(c);
}

/* What a client names is a name: the connection goes to an endpoint of the service that it called.
 */
static void nobody_is_connected_to_because_a_client_names_it(void **state)
{
	struct rig *rig = *state;
	struct pollfd named = {.fd = rig->origin[1], .events = POLLIN};
	int c = rig_connect(rig->capture_port), o;

	snprintf(text, sizeof(text), "GET http://127.0.0.1:%u/a HTTP/1.1\r\nHost: h\r\n\r\n",
		 rig->origin_port[1]);
	rig_send(c, text);
	o = rig_accept(rig, 0);
	rig_read_until(o, "\r\n\r\n", text, sizeof(text));
	assert_ptr_equal(strstr(text, "GET /a HTTP/1.1\r\nhost: 127.0.0.1:"), text);
	rig_send(o, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx");
	rig_read_until(c, "\r\n\r\nx", text, sizeof(text));
	assert_int_equal(poll(&named, 1, 0), 0);
	close(o);
	close(c);
}

/* A workload that connects to its namespace's listener is not the gateway: it would reach what
 * listens on the agent's loopback only. */
static void who_was_not_captured_is_reset(void **state)
{
	struct rig *rig = *state;
	struct pollfd o = {.fd = rig->origin[0], .events = POLLIN};
	int c;

	rig->endpoints[0].flags |= MESH_EP_LOOPBACK;
	rig->endpoints[0].netns = RIG_NETNS;
	c = rig_connect(rig->listener_port);
	send(c, GET, sizeof(GET) - 1, MSG_NOSIGNAL); /* it may be reset by then */
	assert_int_equal(recv(c, text, 1, 0), -1);
	assert_true(errno == ECONNRESET || errno == EPIPE);
	assert_int_equal(poll(&o, 1, 0), 0);
	close(c);
	c = rig_connect(rig->gateway_port);
	close(get_accepted(rig, c)); /* of which the same is asked by right */
	close(c);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, start, stop)
	const struct CMUnitTest tests[] = {
		T(a_request_that_nobody_can_take_is_answered_once),
		T(a_request_that_was_begun_is_not_sent_again),
		T(no_http2_inside_an_upgrade),
		T(endless_interim_answers_starve_nobody),
		T(endless_pipelined_requests_starve_nobody),
		T(http_spoken_to_a_database_breaks_it_for_nobody_else),
		T(urgent_data_stops_no_tunnel),
		T(idle_callers_keep_nobody_out),
		T(who_drains_answers_what_is_there_and_closes),
		T(a_silent_caller_of_nobody_is_not_kept_for_ever),
		T(loopback_is_kept_and_not_granted),
		T(nobody_is_connected_to_because_a_client_names_it),
		T(who_was_not_captured_is_reset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
