/* SPDX-License-Identifier: Apache-2.0 */
/* Who is waited for, for how long, and what is said of whom when the time is over. */
#include "proxy_rig.h"

#define SHORT_MS 400
#define LONG_MS	 60000 /* must not matter */

static void a_slow_endpoint_is_given_up(void **state)
{
	struct rig *rig = *state;
	int c, o;

	rig->snapshot->service.timeouts.try = 50;
	c = rig_connect(rig->gateway_port);
	o = get_accepted(rig, c);
	expect_refusal(c, "504", "try-timeout");
	rig_read_until(o, NULL, text, sizeof(text)); /* its work is cancelled */
	close(o);
	close(c);
}

static void a_silent_body_is_given_up_but_not_a_slow_one(void **state)
{
	struct rig *rig = *state;
	int c, o;

	rig->snapshot->service.timeouts =
		(struct snap_timeouts){.connect = 1000, .try = 1000, .request = 1000, .idle = 1500};
	c = rig_connect(rig->gateway_port);
	o = get_accepted(rig, c);
	serve(o, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n");
	rig_read_until(c, "\r\n\r\n", text, sizeof(text));
	for (int i = 0; i < 5; i++) {
		assert_int_equal(poll(&(struct pollfd){.fd = c, .events = POLLIN}, 1, 400), 0);
		rig_send(o, "x");
		rig_read_until(c, "x", text, sizeof(text));
	}
	assert_int_equal(recv(c, text, 1, 0), -1);
	assert_int_equal(errno, ECONNRESET);
	close(o);
	close(c);
}

static void expect_record(const struct rig *rig, uint16_t status, uint8_t cause, uint8_t flags)
{
	const struct record *r = rig_first_record(rig);

	assert_int_equal(r->status, status);
	assert_string_equal(cause_name(r->cause), cause_name(cause));
	assert_int_equal(r->flags & (RECORD_LOCAL | RECORD_CLIENT_GONE), flags);
}

/* A request whose body the endpoint is asked for first; the origin has its head. */
static int ask_to_upload(struct rig *rig, int *origin)
{
	int c = rig_connect(rig->gateway_port);

	rig_send(c, "POST /svc/a HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: "
		    "100-continue\r\n\r\n");
	*origin = rig_accept(rig, 0);
	rig_read_until(*origin, "\r\n\r\n", text, sizeof(text));
	return c;
}

static void who_waits_for_100_continue_waits_for_the_endpoint(void **state)
{
	struct rig *rig = *state;
	int c, o;

	rig->snapshot->service.timeouts =
		(struct snap_timeouts){.try = SHORT_MS, .request = LONG_MS, .idle = LONG_MS};
	c = ask_to_upload(rig, &o);
	expect_refusal(c, "504", "try-timeout");
	expect_record(rig, 504, CAUSE_TRY_TIMEOUT, RECORD_LOCAL);
	close(c);
	close(o);
}

static void who_sends_nothing_after_100_continue_is_told(void **state)
{
	struct rig *rig = *state;
	int c, o;

	rig->snapshot->service.timeouts =
		(struct snap_timeouts){.try = LONG_MS, .request = LONG_MS, .idle = SHORT_MS};
	c = ask_to_upload(rig, &o);
	rig_send(o, "HTTP/1.1 100 Continue\r\n\r\n");
	rig_read_until(c, "\r\n\r\n", text, sizeof(text));
	expect_refusal(c, "408", "request-timeout");
	close(c);
	close(o);
}

static void a_caller_that_stops_in_its_upload_is_told(void **state)
{
	struct rig *rig = *state;
	int c, o;

	rig->snapshot->service.timeouts =
		(struct snap_timeouts){.try = LONG_MS, .request = LONG_MS, .idle = SHORT_MS};
	c = rig_connect(rig->gateway_port);
	rig_send(c, "POST /svc/a HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n1");
	o = rig_accept(rig, 0);
	expect_refusal(c, "408", "request-timeout");
	assert_non_null(strstr(text, "connection: close\r\n"));
	rig_expect_closed(c);
	rig_read_until(o, NULL, text, sizeof(text)); /* nobody takes the half for the whole */
	expect_record(rig, 408, CAUSE_REQUEST_TIMEOUT, RECORD_LOCAL);
	assert_int_equal(rig->shared.ep_stats[0].ewma, 0);
	close(c);
	close(o);
}

/* Sends until nothing more is taken. */
static void fill(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLOUT};

	memset(text, 'x', sizeof(text));
	while (poll(&p, 1, SHORT_MS / 2) == 1 && p.revents == POLLOUT)
		assert_true(send(fd, text, sizeof(text), MSG_DONTWAIT | MSG_NOSIGNAL) > 0);
}

static void an_endpoint_that_stops_taking_the_upload_is_given_up(void **state)
{
	struct rig *rig = *state;
	int c, o;

	rig->snapshot->service.timeouts =
		(struct snap_timeouts){.try = LONG_MS, .request = LONG_MS, .idle = 4 * SHORT_MS};
	c = rig_connect(rig->gateway_port);
	rig_send(c, "POST /svc/a HTTP/1.1\r\nHost: h\r\nContent-Length: 1073741824\r\n\r\n");
	o = rig_accept(rig, 0);
	fill(c);
	expect_refusal(c, "504", "try-timeout");
	expect_record(rig, 504, CAUSE_TRY_TIMEOUT, RECORD_LOCAL);
	close(c);
	close(o);
}

static void a_caller_that_stops_reading_is_the_one_who_left(void **state)
{
	struct rig *rig = *state;
	int c, o;

	rig->snapshot->service.timeouts =
		(struct snap_timeouts){.try = LONG_MS, .request = LONG_MS, .idle = 4 * SHORT_MS};
	c = rig_connect(rig->gateway_port);
	o = get_accepted(rig, c);
	serve(o, "HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n");
	fill(o);
	rig_expect_closed(o);
	expect_record(rig, 200, CAUSE_NONE, RECORD_CLIENT_GONE);
	close(c);
	close(o);
}

static void an_endpoint_that_stops_in_its_answer_is_the_one_who_left(void **state)
{
	struct rig *rig = *state;
	int c, o;

	rig->snapshot->service.timeouts =
		(struct snap_timeouts){.try = LONG_MS, .request = LONG_MS, .idle = SHORT_MS};
	c = rig_connect(rig->gateway_port);
	o = get_accepted(rig, c);
	serve(o, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
	expect_answer(c, "200", "half");
	assert_int_equal(recv(c, text, 1, 0), -1);
	assert_int_equal(errno, ECONNRESET);
	expect_record(rig, 200, CAUSE_UPSTREAM_RESET, 0);
	close(c);
	close(o);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, start, stop)
	const struct CMUnitTest tests[] = {
		T(a_slow_endpoint_is_given_up),
		T(a_silent_body_is_given_up_but_not_a_slow_one),
		T(who_waits_for_100_continue_waits_for_the_endpoint),
		T(who_sends_nothing_after_100_continue_is_told),
		T(a_caller_that_stops_in_its_upload_is_told),
		T(an_endpoint_that_stops_taking_the_upload_is_given_up),
		T(a_caller_that_stops_reading_is_the_one_who_left),
		T(an_endpoint_that_stops_in_its_answer_is_the_one_who_left),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
