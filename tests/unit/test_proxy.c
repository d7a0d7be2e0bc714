/* SPDX-License-Identifier: Apache-2.0 */
/* One worker's proxy, under ASan and UBSan, between a client and origins that the test plays byte
 * by byte. */
#include "proxy_rig.h"

#include <linux/tcp.h> /* libc's struct tcp_info ends before the counters of segments */

static void a_request_is_forwarded_and_answered(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->gateway_port), o;

	rig_send(c, "GET /svc/a?b=c HTTP/1.1\r\nHost: h\r\nX-Own: 1\r\nConnection: keep-alive, "
		    "X-Hop\r\nX-Hop: 1\r\n"
		    "X-Forwarded-For: 1.2.3.4\r\nVia: 1.0 before\r\nMax-Forwards: 0\r\n\r\n");
	o = rig_accept(rig, 0);
	rig_read_until(o, "\r\n\r\n", text, sizeof(text));
	assert_ptr_equal(strstr(text, "GET /a?b=c HTTP/1.1\r\nhost: h\r\n"), text);
	assert_non_null(strstr(text, "X-Own: 1\r\n"));
	assert_null(strstr(text, "X-Hop"));
	assert_null(strstr(text, "keep-alive"));
	assert_non_null(strstr(text, "x-forwarded-for: 1.2.3.4, 127.0.0.1\r\n"));
	assert_non_null(strstr(text, "x-forwarded-proto: http\r\n"));
	assert_non_null(strstr(text, "x-forwarded-host: h\r\n"));
	assert_non_null(strstr(text, "x-request-id: "));
	assert_non_null(strstr(text, "Via: 1.0 before\r\n"));
	assert_null(strstr(text, "sockmesh"));
	assert_non_null(strstr(text, "Max-Forwards: 0\r\n")); /* nothing to a GET */
	rig_send(o, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Theirs: 2\r\nKeep-Alive: "
		    "timeout=5\r\n\r\nok");
	rig_read_until(c, "\r\n\r\n", text, sizeof(text));
	assert_ptr_equal(strstr(text, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Theirs: 2\r\n"),
			 text);
	assert_null(strstr(text, "Keep-Alive"));
	assert_non_null(strstr(text, "x-instance-id: origin-0\r\n"));
	rig_read_until(c, "ok", text, sizeof(text));
	assert_string_equal(text, "ok");
	close(o);
	close(c);
}

static void connections_are_kept_on_both_sides(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->gateway_port), o = get_accepted(rig, c);

	for (int i = 0; i < 20; i++) {
		expect_served(o, c);
		rig_send(c, GET);
	}
	serve(o, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\ny");
	expect_answer(c, "200 OK", "y");
	rig_expect_closed(o);
	rig_send(c, GET);
	close(o);
	o = rig_accept(rig, 0);
	serve(o, "HTTP/1.1 204 No Content\r\n\r\n");
	expect_answer(c, "204", "");
	close(o);
	close(c);
}

static void pipelined_requests_are_answered_in_order(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->gateway_port), o;

	rig_send(c,
		 "GET /svc/1 HTTP/1.1\r\nHost: h\r\n\r\nPOST /svc/2 HTTP/1.1\r\nHost: "
		 "h\r\nContent-Length: 3\r\n\r\nabc"
		 "GET /nowhere HTTP/1.1\r\nHost: h\r\n\r\nGET /svc/3 HTTP/1.1\r\nHost: h\r\n\r\n");
	o = rig_accept(rig, 0);
	serve(o, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1");
	rig_read_until(o, "\r\n\r\nabc", text, sizeof(text));
	assert_non_null(strstr(text, "POST /2 "));
	rig_send(o, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2");
	serve(o, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n3");
	expect_answer(c, "200", "1");
	expect_answer(c, "200", "2");
	expect_answer(c, "404",
		      "{\"error\":\"no service is meant by this host and "
		      "path\",\"cause\":\"no-route\"}\n");
	expect_answer(c, "200", "3");
	close(o);
	close(c);
}

static void chunked_bodies_and_trailers_pass(void **state)
{
	static const char body[] = "3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n";
	struct rig *rig = *state;
	int c = rig_connect(rig->gateway_port), o;

	rig_send(c, "POST /svc/ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
	rig_send(c, body);
	o = rig_accept(rig, 0);
	rig_read_until(o, body, text, sizeof(text));
	assert_non_null(strstr(text, "transfer-encoding: chunked\r\n"));
	rig_send(o, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
	rig_send(o, body);
	rig_read_until(c, body, text, sizeof(text));
	assert_non_null(strstr(text, "transfer-encoding: chunked\r\n"));
	rig_send(c, GET);
	serve(o, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	expect_answer(c, "200", "");
	close(o);
	close(c);
}

static void a_body_until_close_closes_the_caller(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->gateway_port), o = get_accepted(rig, c);

	serve(o, "HTTP/1.0 200 OK\r\n\r\nall of it");
	close(o);
	rig_read_until(c, NULL, text, sizeof(text));
	assert_non_null(strstr(text, "connection: close\r\n"));
	assert_non_null(strstr(text, "\r\n\r\nall of it"));
	close(c);
}

/* What is left of the request would have to be read first, and nobody knows how much comes. */
static void an_answer_before_the_end_of_the_request_closes_the_caller(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->gateway_port), o;

	rig_send(c, "POST /svc/ HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n1");
	o = rig_accept(rig, 0);
	serve(o, "HTTP/1.1 401 Unauthorized\r\nContent-Length: 1\r\n\r\n");
	expect_answer(c, "connection: close\r\n", "");
	rig_send(c, "2345");
	rig_send(o, "x");
	rig_read_until(c, NULL, text, sizeof(text));
	assert_string_equal(text, "x");
	close(o);
	close(c);
}

static void an_empty_host_is_passed_on(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->gateway_port), o;

	rig_send(c, "GET /svc/a HTTP/1.1\r\nHost:\r\n\r\n");
	o = rig_accept(rig, 0);
	rig_read_until(o, "\r\n\r\n", text, sizeof(text));
	assert_ptr_equal(strstr(text, "GET /a HTTP/1.1\r\nhost: \r\n"), text);
	close(o);
	close(c);
}

static void a_request_goes_no_further_than_it_may(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->gateway_port), o;

	rig_send(c, "OPTIONS /svc/ HTTP/1.1\r\nHost: h\r\nMax-Forwards: 0\r\n\r\n");
	rig_read_until(c, "\r\n\r\n", text, sizeof(text));
	assert_ptr_equal(strstr(text, "HTTP/1.1 200 OK\r\n"), text);
	assert_non_null(strstr(text, "content-length: 0\r\n"));
	assert_non_null(strstr(text, "x-mesh-cause: max-forwards\r\n"));
	rig_send(c, "TRACE /svc/ HTTP/1.1\r\nHost: h\r\nmax-forwards: 0\r\nCookie: a=b\r\n\r\n");
	expect_refusal(c, "405", "max-forwards");
	assert_non_null(strstr(text, "allow: OPTIONS\r\n"));
	assert_null(strstr(text, "a=b"));
	rig_send(c, "OPTIONS /svc/ HTTP/1.1\r\nMax-Forwards: 10\r\nX-A: 1\r\nMax-Forwards: "
		    "7\r\nHost: h\r\n\r\n");
	o = rig_accept(rig, 0);
	rig_read_until(o, "\r\n\r\n", text, sizeof(text));
	assert_non_null(strstr(text, "X-A: 1\r\nmax-forwards: 6\r\n"));
	assert_null(strstr(text, "Max-Forwards"));
	rig_send(o, "HTTP/1.1 204 No Content\r\n\r\n");
	expect_answer(c, "204", "");
	rig_send(c, "OPTIONS /svc/ HTTP/1.1\r\nHost: h\r\nMax-Forwards: x\r\n\r\n");
	rig_read_until(o, "\r\n\r\n", text, sizeof(text));
	assert_non_null(strstr(text, "Max-Forwards: x\r\n"));
	close(o);
	close(c);
}

static uint32_t segments_in(int fd)
{
	struct tcp_info info;
	socklen_t len = sizeof(info);

	assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len), 0);
	return info.tcpi_segs_in;
}

/* To a caller that wants no more, FIN comes with the end of the answer and not in a segment of its
 * own; but nothing else waits for it. */
static void the_end_of_the_answer_carries_the_fin(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->gateway_port), o;
	uint32_t before;

	rig_send(c, "GET /svc/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
	o = rig_accept(rig, 0);
	serve(o, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
	rig_read_until(c, "3\r\nabc\r\n", text, sizeof(text));
	assert_non_null(strstr(text, "connection: close\r\n"));
	before = segments_in(c);
	rig_send(o, "2\r\nde\r\n0\r\n\r\n");
	rig_read_until(c, NULL, text, sizeof(text));
	assert_string_equal(text, "2\r\nde\r\n0\r\n\r\n");
	assert_int_equal(segments_in(c), before + 1);
	close(o);
	close(c);
}

static void interim_answers_are_passed_on(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->gateway_port), o;

	rig_send(c, "PUT /svc/ HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: "
		    "100-continue\r\n\r\n");
	o = rig_accept(rig, 0);
	serve(o, "HTTP/1.1 100 Continue\r\n\r\n");
	rig_read_until(c, "\r\n\r\n", text, sizeof(text));
	assert_string_equal(text, "HTTP/1.1 100 Continue\r\n\r\n");
	rig_send(c, "abc");
	rig_read_until(o, "abc", text, sizeof(text));
	rig_send(o, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: "
		    "1\r\n\r\nx");
	rig_read_until(c, "\r\n\r\n", text, sizeof(text));
	assert_string_equal(text, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n");
	expect_answer(c, "200", "x");
	close(o);
	close(c);
}

static void head_and_not_modified_have_no_body(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->gateway_port), o;

	rig_send(c, "HEAD /svc/ HTTP/1.1\r\nHost: h\r\n\r\n");
	o = rig_accept(rig, 0);
	serve(o, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
	rig_read_until(c, "\r\n\r\n", text, sizeof(text));
	assert_non_null(strstr(text, "Content-Length: 1000\r\n"));
	rig_send(c, GET);
	serve(o, "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n");
	expect_answer(c, "304", "");
	rig_send(c, GET);
	expect_served(o, c);
	close(o);
	close(c);
}

static void an_upgrade_becomes_a_tunnel(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->gateway_port), o;

	rig_send(c, "GET /svc/ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: "
		    "websocket\r\n\r\nearly");
	o = rig_accept(rig, 0);
	rig_read_until(o, "\r\n\r\n", text, sizeof(text));
	assert_non_null(strstr(text, "connection: upgrade\r\nupgrade: websocket\r\n"));
	rig_send(o, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "
		    "websocket\r\n\r\nhello");
	rig_read_until(c, "hello", text, sizeof(text));
	assert_non_null(strstr(text, "upgrade: websocket\r\n"));
	rig_read_until(o, "early", text, sizeof(text));
	assert_string_equal(text, "early");
	rig_send(c, "GET / not http at all");
	rig_read_until(o, "all", text, sizeof(text));
	shutdown(c, SHUT_WR);
	rig_expect_closed(o);
	rig_send(o, "bye");
	close(o);
	rig_read_until(c, NULL, text, sizeof(text));
	assert_string_equal(text, "bye");
	close(c);
}

static void malformed_requests_reach_nobody(void **state)
{
	static const struct {
		const char *request, *status;
	} cases[] = {
		{"GET /svc/ HTTP/1.1\r\n\r\n", "400"},
		{"GET /svc/ HTTP/1.1\nHost: h\n\n", "400"},
		{"GET /svc/ HTTP/2.0\r\nHost: h\r\n\r\n", "505"},
		{"POST /svc/ HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: "
		 "chunked\r\n\r\n",
		 "400"},
		{"POST /svc/ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n", "501"},
		{"POST /svc/ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
		 "400"},
		{"CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n", "501"},
	};
	struct rig *rig = *state;
	struct pollfd p = {.fd = rig->origin[0], .events = POLLIN};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int c = rig_connect(rig->gateway_port);

		rig_send(c, cases[i].request);
		expect_refusal(c, cases[i].status, "bad-request");
		assert_non_null(strstr(text, "connection: close\r\n"));
		rig_expect_closed(c);
		close(c);
	}
	if (poll(&p, 1,
		 0)) { /* of the bad chunk a connection may have been made, but nothing sent */
		int o = rig_accept(rig, 0);

		assert_int_equal(rig_read_until(o, NULL, text, sizeof(text)), 0);
		close(o);
	}
}

static void a_stale_pooled_connection_costs_an_idempotent_request_nothing(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->gateway_port), o = get_accepted(rig, c), o2;

	expect_served(o, c);
	rig_send(c, "PUT /svc/ HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc");
	rig_read_until(o, "abc", text, sizeof(text));
	close(o); /* all read, so FIN: without a byte of an answer */
	o2 = rig_accept(rig, 0);
	rig_read_until(o2, "abc", text, sizeof(text));
	rig_send(o2, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\ny");
	expect_answer(c, "200", "y");
	rig_send(c, "POST /svc/ HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc");
	rig_read_until(o2, "abc", text, sizeof(text));
	close(o2);
	expect_refusal(c, "502", "upstream-reset");
	close(c);
}

static void a_refused_connection_is_tried_elsewhere(void **state)
{
	struct rig *rig = *state;
	int c, o;

	rig->endpoints[1].port = htons(1); /* nobody there */
	for (unsigned i = 0; i < MESH_SLOTS; i++)
		rig->slots->ep[i] = i == 0 ? 0 : 1;
	c = rig_connect(rig->gateway_port);
	rig_send(c, "POST /svc/ HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc");
	o = rig_accept(rig, 0);
	rig_read_until(o, "abc", text, sizeof(text));
	rig_send(o, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx");
	expect_answer(c, "200", "x");
	close(o);
	close(c);
}

static void without_anybody_to_call_the_answer_says_so(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->gateway_port);

	rig->endpoints[0].port = htons(1);
	rig_send(c, GET);
	expect_refusal(c, "503", "connect-failed");
	assert_non_null(strstr(text, "\"service\":\"svc\""));
	rig_use(rig, 0);
	rig->upstreams[0].nsplit = 0;
	rig_send(c, GET);
	expect_refusal(c, "503", "no-endpoint");
	close(c);
}

static void an_endpoint_that_talks_nonsense_is_a_bad_gateway(void **state)
{
	static const char *const answers[] = {
		"nonsense\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
		"HTTP/1.1 101 Switching Protocols\r\n\r\n",
	};
	struct rig *rig = *state;

	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
		int c = rig_connect(rig->gateway_port), o = get_accepted(rig, c);

		serve(o, answers[i]);
		expect_refusal(c, "502", "upstream-protocol");
		rig_expect_closed(o);
		close(o);
		close(c);
	}
}

static void a_cut_answer_never_looks_whole(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->gateway_port), o = get_accepted(rig, c);

	serve(o, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
	rig_read_until(c, "half", text, sizeof(text));
	close(o);
	assert_int_equal(recv(c, text, 1, 0), -1);
	assert_int_equal(errno, ECONNRESET);
	close(c);
}

/* Sends n bytes of a pattern from a child process, so that both ends can be driven at once. */
static pid_t send_pattern(int fd, size_t n)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	for (size_t at = 0; at < n;) {
		char block[8192];
		size_t len = n - at < sizeof(block) ? n - at : sizeof(block);
		ssize_t r;

		for (size_t i = 0; i < len; i++)
			block[i] = (char)((at + i) * 2654435761u >> 13);
		r = send(fd, block, len, MSG_NOSIGNAL);
		if (r <= 0)
			_exit(1);
		at += (size_t)r;
	}
	_exit(0);
}

static void check_pattern(int fd, size_t n)
{
	for (size_t at = 0; at < n;) {
		ssize_t r = recv(fd, text, sizeof(text) < n - at ? sizeof(text) : n - at, 0);

		assert_true(r > 0);
		for (ssize_t i = 0; i < r; i++)
			assert_int_equal(text[i], (char)((at + (size_t)i) * 2654435761u >> 13));
		at += (size_t)r;
	}
}

static void large_bodies_pass_both_ways(void **state)
{
	const size_t n = 8 << 20;
	struct rig *rig = *state;
	int c = rig_connect(rig->gateway_port), o, status;
	pid_t pid;

	snprintf(text, sizeof(text),
		 "POST /svc/ HTTP/1.1\r\nHost: h\r\nContent-Length: %zu\r\n\r\n", n);
	rig_send(c, text);
	o = rig_accept(rig, 0);
	rig_read_until(o, "\r\n\r\n", text, sizeof(text));
	pid = send_pattern(c, n);
	check_pattern(o, n);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	snprintf(text, sizeof(text), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", n);
	rig_send(o, text);
	rig_read_until(c, "\r\n\r\n", text, sizeof(text));
	pid = send_pattern(o, n);
	check_pattern(c, n);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	rig_send(c, GET);
	expect_served(o, c);
	close(o);
	close(c);
}

static void a_reader_that_stops_stops_the_sender(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->gateway_port), o = get_accepted(rig, c);
	struct pollfd p;
	size_t sent = 0;

	serve(o, "HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n");
	rig_read_until(c, "\r\n\r\n", text, sizeof(text));
	memset(text, 'x', sizeof(text));
	p = (struct pollfd){.fd = o, .events = POLLOUT};
	while (poll(&p, 1, 300) == 1) {
		ssize_t r = send(o, text, sizeof(text), MSG_DONTWAIT | MSG_NOSIGNAL);

		assert_true(r > 0);
		sent += (size_t)r;
		assert_true(sent < 64 << 20);
	}
	close(c);
	close(o);
}

static void what_happened_is_recorded(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->gateway_port), o;
	const struct record *r;

	rig_send(c, "GET /svc/a HTTP/1.1\r\nHost: h\r\nX-Request-Id: abc\r\n\r\n");
	o = rig_accept(rig, 0);
	serve(o, "HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\nhello");
	expect_answer(c, "201", "hello");
	close(c);
	r = rig_first_record(rig);
	assert_int_equal(r->kind, RECORD_REQUEST);
	assert_int_equal(r->flags, RECORD_GATEWAY | RECORD_TRACED | RECORD_SAMPLED | RECORD_ROOT);
	assert_int_equal(r->status, 201);
	assert_int_equal(r->tries, 1);
	assert_int_equal(r->bytes_out, 5);
	assert_int_equal(r->service, 0);
	assert_int_equal(r->ntries, 1);
	assert_int_equal(record_tries(r)->status, 201);
	assert_memory_equal(record_text(r), "GET/svc/ahabc", 13);
	assert_int_equal(rig->shared.ep_inflight[0].worker[0], 0);
	assert_true(rig->shared.ep_stats[0].ewma != 0);
	close(o);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, start, stop)
	const struct CMUnitTest tests[] = {
		T(a_request_is_forwarded_and_answered),
		T(connections_are_kept_on_both_sides),
		T(pipelined_requests_are_answered_in_order),
		T(chunked_bodies_and_trailers_pass),
		T(a_body_until_close_closes_the_caller),
		T(an_answer_before_the_end_of_the_request_closes_the_caller),
		T(an_empty_host_is_passed_on),
		T(a_request_goes_no_further_than_it_may),
		T(the_end_of_the_answer_carries_the_fin),
		T(interim_answers_are_passed_on),
		T(head_and_not_modified_have_no_body),
		T(an_upgrade_becomes_a_tunnel),
		T(malformed_requests_reach_nobody),
		T(a_stale_pooled_connection_costs_an_idempotent_request_nothing),
		T(a_refused_connection_is_tried_elsewhere),
		T(without_anybody_to_call_the_answer_says_so),
		T(an_endpoint_that_talks_nonsense_is_a_bad_gateway),
		T(a_cut_answer_never_looks_whole),
		T(large_bodies_pass_both_ways),
		T(a_reader_that_stops_stops_the_sender),
		T(what_happened_is_recorded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
