/* SPDX-License-Identifier: Apache-2.0 */
/* Copies of requests for another version: whole, marked, and of no consequence for the caller. */
#include "proxy_rig.h"

#define COPY	 1 /* the origin that serves version 1 */
#define SHORT_MS 200

static int set_up(void **state)
{
	struct rig *rig = rig_start();
	struct snap_route *r = rig_route(rig, "/");

	rig_version(rig, 1, COPY);
	r->mirror_version = 1;
	r->mirror_share = SNAP_ALL;
	*state = rig;
	return 0;
}

static void await_no_copies(struct rig *rig)
{
	volatile uint32_t *used = &rig->inside->mirrors.used;

	for (int i = 0; i < RIG_WAIT_MS && *used; i++)
		poll(NULL, 0, 1);
	assert_int_equal(*used, 0);
	assert_int_equal(rig->shared.ep_inflight[COPY].worker[0], 0);
}

static void expect_nothing_at(int fd)
{
	assert_int_equal(poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 50), 0);
}

#define POST "POST /svc/a?b HTTP/1.1\r\nHost: h\r\nX-Own: 1\r\nContent-Length: 5\r\n\r\nhello"

static void a_copy_is_whole_and_marked(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->gateway_port), o, m;

	rig_send(c, POST);
	o = rig_accept(rig, 0);
	rig_read_until(o, "hello", text, sizeof(text));
	assert_null(strstr(text, "x-mesh-mirror"));
	m = rig_accept(rig, COPY);
	rig_read_until(m, "hello", text, sizeof(text));
	assert_memory_equal(text, "POST /a?b HTTP/1.1\r\n", 20);
	assert_non_null(strstr(text, "x-mesh-mirror: 1\r\n\r\nhello"));
	assert_non_null(strstr(text, "X-Own: 1\r\n"));
	assert_non_null(strstr(text, "x-request-id: "));
	rig_send(m, "HTTP/1.1 500 No\r\nContent-Length: 3\r\n\r\nbad");
	await_no_copies(rig);
	rig_send(o, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx");
	expect_answer(c, "200 OK", "x");
	assert_int_not_equal(rig->shared.ep_stats[COPY].ewma, 0);
	assert_int_equal(rig->shared.ep_stats[COPY].window[0], 0);
	assert_int_equal(rig->shared.ep_stats[COPY].consecutive, 0);
	close(c);
	close(o);
	close(m);
}

/* Where a header's value begins in a head. */
static const char *value(const char *head, const char *name)
{
	const char *at = strcasestr(head, name);

	assert_non_null(at);
	return at + strlen(name);
}

/* The trace of who called has what its answer took, and not what a copy calls. */
static void a_copy_is_no_part_of_the_trace(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->gateway_port), o, m;
	static char real[4096], copy[4096];

	rig_send(c, "GET /svc/a HTTP/1.1\r\nHost: h\r\n"
		    "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n"
		    "b3: 4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-d\r\n\r\n");
	o = rig_accept(rig, 0);
	rig_read_until(o, "\r\n\r\n", real, sizeof(real));
	m = rig_accept(rig, COPY);
	rig_read_until(m, "\r\n\r\n", copy, sizeof(copy));
	/* 00-, 32 digits, -, 16 digits, -, flags */
	assert_memory_equal(value(copy, "\r\ntraceparent: "), value(real, "\r\ntraceparent: "), 36);
	assert_memory_not_equal(value(copy, "\r\nx-span-id: "), value(real, "\r\nx-span-id: "), 16);
	assert_memory_equal(value(copy, "\r\ntraceparent: ") + 36, value(copy, "\r\nx-span-id: "),
			    16);
	assert_memory_equal(value(real, "\r\ntraceparent: ") + 52, "-01\r", 4);
	assert_memory_equal(value(copy, "\r\ntraceparent: ") + 52, "-00\r", 4);
	assert_memory_equal(value(real, "\r\nb3: ") + 49, "-d", 2);
	assert_memory_equal(value(copy, "\r\nb3: ") + 49, "-0", 2);
	rig_send(o, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx");
	expect_answer(c, "200 OK", "x");
	assert_true(rig_first_record(rig)->flags & RECORD_SAMPLED);
	close(c);
	close(o);
	close(m);
}

static void connections_of_copies_are_used_again(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->gateway_port), o, m;

	o = get_accepted(rig, c);
	m = rig_accept(rig, COPY);
	for (int i = 0; i < 3; i++) {
		serve(m,
		      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
		await_no_copies(rig);
		expect_served(o, c);
		rig_send(c, GET);
	}
	rig_read_until(m, "\r\n\r\n", text, sizeof(text));
	close(c);
	close(o);
	close(m);
}

static void nobody_waits_for_a_copy_that_hangs(void **state)
{
	struct rig *rig = *state;
	int c, o, m;

	rig->snapshot->route[0].timeouts.try = SHORT_MS;
	c = rig_connect(rig->gateway_port);
	o = get_accepted(rig, c);
	m = rig_accept(rig, COPY);
	expect_served(o, c);
	rig_read_until(m, NULL, text, sizeof(text)); /* cut off after the timeout of a try */
	await_no_copies(rig);
	assert_int_not_equal(rig->shared.ep_stats[COPY].ewma, 0);
	close(c);
	close(o);
	close(m);
}

static void a_copy_that_cannot_be_sent_hurts_nobody(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->gateway_port), o;

	close(rig->origin[COPY]);
	rig->origin[COPY] = -1;
	o = get_accepted(rig, c);
	for (int i = 0; i < 3; i++) {
		expect_served(o, c);
		rig_send(c, GET);
	}
	expect_served(o, c);
	await_no_copies(rig);
	close(c);
	close(o);
}

static void answers_that_are_no_http_are_dropped(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->gateway_port), o = get_accepted(rig, c), m = rig_accept(rig, COPY);

	serve(m, "HTTP/1.1 100 Continue\r\n\r\nSSH-2.0\r\n\r\n");
	await_no_copies(rig);
	expect_served(o, c);
	close(c);
	close(o);
	close(m);
}

static void the_callers_end_is_not_the_copys(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->gateway_port), o = get_accepted(rig, c), m = rig_accept(rig, COPY);

	expect_served(o, c);
	close(c);
	serve(m, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
	memset(text, 'x', 50000);
	text[50000] = '\0';
	rig_send(m, text);
	rig_send(m, text);
	await_no_copies(rig);
	close(o);
	close(m);
}

/* More than is kept for a second try. */
static void a_long_body_is_not_copied(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->gateway_port), o;

	rig_send(c, "POST /svc/a HTTP/1.1\r\nHost: h\r\nContent-Length: 60000\r\n\r\n");
	memset(text, 'x', 60000);
	text[60000] = '\0';
	rig_send(c, text);
	o = rig_accept(rig, 0);
	rig_read_until(o, "\r\n\r\n", text, sizeof(text));
	for (size_t n = 0; n < 60000;) {
		ssize_t r = recv(o, text, sizeof(text), 0);

		assert_true(r > 0);
		n += (size_t)r;
	}
	rig_send(o, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx");
	expect_answer(c, "200 OK", "x");
	expect_nothing_at(rig->origin[COPY]);
	close(c);
	close(o);
}

static void a_version_nobody_serves_gets_no_copy(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->gateway_port), o;

	rig->snapshot->route[0].mirror_version = 5;
	o = get_accepted(rig, c);
	expect_served(o, c);
	close(c);
	close(o);
}

static void there_is_an_end_to_the_number_of_copies(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->gateway_port), o = get_accepted(rig, c);
	volatile uint64_t *left_out = &rig->inside->mirrors_left_out;

	expect_served(o, c); /* nobody accepts at the other origin */
	for (int i = 0; i < 300; i++) {
		rig_send(c, GET);
		expect_served(o, c);
	}
	assert_int_equal(rig->inside->mirrors.used, 256);
	assert_int_equal(*left_out, 301 - 256);
	close(c);
	close(o);
}

static void await_pending(struct rig *rig, uint32_t n)
{
	volatile uint32_t *pending = &rig->shared.svc_inflight[0].worker[0].pending;

	for (int i = 0; i < RIG_WAIT_MS && *pending != n; i++)
		poll(NULL, 0, 1);
	assert_int_equal(*pending, n);
}

/* Where requests wait for a connection, the next one is theirs. */
static void a_copy_takes_no_connection_that_is_waited_for(void **state)
{
	struct rig *rig = *state;
	int upload = rig_connect(rig->gateway_port), first = rig_connect(rig->gateway_port),
	    waits = rig_connect(rig->gateway_port), o, o1, o2, m;

	rig->snapshot->service.bulkhead =
		(struct mesh_bulkhead_policy){.connections = 3, .pending = 1};
	rig_send(upload, "POST /svc/a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n");
	o = rig_accept(rig, 0);
	o1 = get_accepted(rig, first);
	m = rig_accept(rig, COPY);
	rig_read_until(m, "\r\n\r\n", text, sizeof(text));
	rig_send(waits, GET);
	await_pending(rig, 1);
	/* at once: the copy's connection is idle, and another copy is due */
	kill(rig->proxy, SIGSTOP);
	assert_int_equal(waitpid(rig->proxy, NULL, WUNTRACED), rig->proxy);
	rig_send(m, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	rig_send(upload, "hello");
	kill(rig->proxy, SIGCONT);
	o2 = rig_accept(rig, 0);
	expect_served(o2, waits);
	rig_read_until(o, "hello", text, sizeof(text));
	rig_send(o, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx");
	expect_answer(upload, "200 OK", "x");
	expect_served(o1, first);
	rig_expect_closed(m);
	await_no_copies(rig);
	close(o);
	close(o1);
	close(o2);
	close(m);
	close(upload);
	close(first);
	close(waits);
}

int main(void)
{
#define story(fn) cmocka_unit_test_setup_teardown(fn, set_up, stop)
	const struct CMUnitTest tests[] = {
		story(a_copy_is_whole_and_marked),
		story(a_copy_is_no_part_of_the_trace),
		story(connections_of_copies_are_used_again),
		story(nobody_waits_for_a_copy_that_hangs),
		story(a_copy_that_cannot_be_sent_hurts_nobody),
		story(answers_that_are_no_http_are_dropped),
		story(the_callers_end_is_not_the_copys),
		story(a_long_body_is_not_copied),
		story(a_version_nobody_serves_gets_no_copy),
		story(there_is_an_end_to_the_number_of_copies),
		story(a_copy_takes_no_connection_that_is_waited_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
