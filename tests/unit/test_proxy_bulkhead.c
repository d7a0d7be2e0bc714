/* SPDX-License-Identifier: Apache-2.0 */
/* What a worker lets in of a service at once, who waits, and that nothing of it is ever lost. */
#include "bulkhead_rig.h"

static void as_many_requests_as_there_may_be(void **state)
{
	struct rig *rig = *state;
	int c, o;

	limits(rig)->requests = 2;
	set(&gauges(rig, 1)->requests, 1); /* another worker's */
	two_workers(rig);
	c = rig_connect(rig->gateway_port);
	o = get_accepted(rig, c);
	expect_full(rig, asked(rig), 0, MESH_BULKHEAD_REQUESTS);
	expect_served(o, c);
	expect_gauge(&gauges(rig, 0)->requests, 0);
	rig_send(c, GET);
	expect_served(o, c);
	close(c);
	expect_nothing_held(rig);
	close(o);
}

static void sum_up(const struct tally_sum *s, void *arg)
{
	struct tally_sum *sum = arg;
	uint64_t n = sum->n;

	*sum = *s;
	sum->n += n;
}

/* Nobody reads the ring: what is known of them is their number, and what kind of answer it was. */
static void requests_that_find_no_room_in_the_ring_are_counted(void **state)
{
	struct rig *rig = *state;
	struct tally *tally = ring_tally(rig->ring);
	struct tally_sum sum = {0};

	limits(rig)->requests = 2;
	set(&gauges(rig, 1)->requests, 2); /* another worker's */
	two_workers(rig);
	__atomic_store_n(&rig->ring->head, RING_SIZE, __ATOMIC_RELEASE);
	for (int i = 0; i < 3; i++) {
		int c = asked(rig);

		expect_refusal(c, "503", "bulkhead-full");
		close(c);
	}
	for (int i = 0; i < RIG_WAIT_MS && sum.n < 3; i++) {
		poll(NULL, 0, 1);
		tally_take(tally, sum_up, &sum);
	}
	assert_int_equal(sum.n, 3);
	assert_int_equal(sum.status, 503);
	assert_int_equal(sum.cause, CAUSE_BULKHEAD_FULL);
	assert_int_equal(sum.bulkhead, MESH_BULKHEAD_REQUESTS);
	assert_int_equal(sum.flags & RECORD_GATEWAY, RECORD_GATEWAY);
	assert_int_equal(sum.service, 0);
	assert_int_equal(rig->ring->lost, 3);
}

static void one_caller_leaves_the_others_their_part(void **state)
{
	struct rig *rig = *state;
	int first, o, c, o2;

	limits(rig)->per_source = 1;
	rig->upstreams[0].protocol = MESH_PROTO_HTTP;
	first = rig_connect(rig->capture_port);
	rig_send(first, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
	o = rig_accept(rig, 0);
	rig_read_until(o, "\r\n\r\n", text, sizeof(text));
	assert_int_equal(from_all_callers(rig), 1);
	c = rig_connect(rig->capture_port);
	rig_send(c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
	expect_full(rig, c, 0, MESH_BULKHEAD_SOURCE);
	c = rig_connect(rig->gateway_port); /* which is another caller */
	o2 = get_accepted(rig, c);
	assert_int_equal(from_all_callers(rig), 2);
	expect_full(rig, asked(rig), 1, MESH_BULKHEAD_SOURCE);
	expect_served(o2, c);
	rig_send(o, OK200);
	expect_answer(first, "200 OK", "x");
	close(first);
	close(c);
	expect_nothing_held(rig);
	close(o);
	close(o2);
}

static void who_comes_first_is_served_first(void **state)
{
	struct rig *rig = *state;
	int c[4], o;

	limits(rig)->connections = 1;
	limits(rig)->pending = 3;
	c[0] = rig_connect(rig->gateway_port);
	o = get_accepted(rig, c[0]);
	for (uint32_t i = 1; i < 4; i++)
		c[i] = waits(rig, i);
	for (unsigned i = 0; i < 4; i++) {
		expect_served(o, c[i]);
		expect_gauge(&gauges(rig, 0)->pending, i < 3 ? 2 - i : 0);
		assert_int_equal(gauges(rig, 0)->connections, 1);
	}
	assert_false(is_ready(rig->origin[0]));
	for (unsigned i = 0; i < 4; i++)
		close(c[i]);
	expect_nothing_held(rig);
	close(o);
	expect_gauge(&gauges(rig, 0)->connections, 0);
}

static void a_full_queue_refuses(void **state)
{
	struct rig *rig = *state;
	int c, o, second;

	limits(rig)->connections = 1;
	limits(rig)->pending = 1;
	c = rig_connect(rig->gateway_port);
	o = get_accepted(rig, c);
	second = waits(rig, 1);
	expect_full(rig, asked(rig), 0, MESH_BULKHEAD_PENDING);
	expect_served(o, c);
	expect_served(o, second);
	limits(rig)->pending = 0; /* nobody waits */
	rig_send(c, GET);
	rig_read_until(o, "\r\n\r\n", text, sizeof(text));
	expect_full(rig, asked(rig), 3, MESH_BULKHEAD_PENDING);
	close(c);
	close(second);
	expect_nothing_held(rig);
	close(o);
}

static void the_end_of_a_connection_makes_room(void **state)
{
	struct rig *rig = *state;
	int c, o, second, o2;

	limits(rig)->connections = limits(rig)->pending = 1;
	c = rig_connect(rig->gateway_port);
	o = get_accepted(rig, c);
	second = waits(rig, 1);
	serve(o, LAST);
	expect_answer(c, "200 OK", "x");
	o2 = rig_accept(rig, 0);
	expect_served(o2, second);
	close(c);
	close(second);
	expect_nothing_held(rig);
	close(o);
	close(o2);
}

static void who_waits_for_too_long_is_told(void **state)
{
	struct rig *rig = *state;
	int c, o;

	limits(rig)->connections = limits(rig)->pending = 1;
	rig->snapshot->service.timeouts.request = 300;
	c = rig_connect(rig->gateway_port);
	o = get_accepted(rig, c);
	rig->snapshot->service.timeouts.request = 50;
	expect_refusal(asked(rig), "504", "request-timeout");
	assert_non_null(strstr(text, "x-mesh-cause"));
	expect_gauge(&gauges(rig, 0)->pending, 0);
	assert_int_equal(record_at(rig, 0).tries, 0);
	assert_int_equal(rig->shared.svc_stats[0].window[0] | rig->shared.svc_stats[0].window[1] |
				 rig->shared.svc_stats[0].window[2] |
				 rig->shared.svc_stats[0].window[3] |
				 rig->shared.svc_stats[0].window[4],
			 0);
	close(c);
	close(o);
}

static void who_leaves_the_queue_holds_up_nobody(void **state)
{
	struct linger now = {.l_onoff = 1};
	struct rig *rig = *state;
	int c, o, second, third;

	limits(rig)->connections = 1;
	limits(rig)->pending = 2;
	c = rig_connect(rig->gateway_port);
	o = get_accepted(rig, c);
	second = waits(rig, 1);
	third = waits(rig, 2);
	setsockopt(second, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(second);
	expect_gauge(&gauges(rig, 0)->pending, 1);
	expect_served(o, c);
	expect_served(o, third);
	close(c);
	close(third);
	expect_nothing_held(rig);
	close(o);
}

static void an_idle_connection_is_used_whoever_it_leads_to(void **state)
{
	struct rig *rig = *state;
	int c, o;

	limits(rig)->connections = 1;
	rig->upstreams[0].policy = MESH_LB_ROUND_ROBIN;
	c = rig_connect(rig->gateway_port);
	o = get_accepted(rig, c);
	expect_served(o, c);
	rig_use(rig, 2);
	rig->shared.up_stats[0].cursor = 1; /* the other one's turn */
	for (int i = 0; i < 3; i++) {
		rig_send(c, GET);
		expect_served(o, c);
	}
	assert_false(is_ready(rig->origin[1]));
	close(c);
	close(o);
}

static void an_idle_connection_that_is_of_no_use_makes_room(void **state)
{
	struct rig *rig = *state;
	int c, o, o1;

	limits(rig)->connections = 1;
	c = rig_connect(rig->gateway_port);
	o = get_accepted(rig, c);
	expect_served(o, c);
	for (unsigned i = 0; i < MESH_SLOTS; i++)
		rig->slots->ep[i] = 1;
	rig_send(c, GET);
	rig_expect_closed(o);
	o1 = rig_accept(rig, 1);
	expect_served(o1, c);
	assert_int_equal(gauges(rig, 0)->connections, 1);
	close(o);
	close(o1);
	close(c);
}

static void tunnels_hold_a_connection_and_a_request(void **state)
{
	struct rig *rig = *state;
	int c, o, second;
	struct record r;

	limits(rig)->connections = 1;
	limits(rig)->pending = 9;
	limits(rig)->requests = 1;
	rig->upstreams[0].protocol = MESH_PROTO_TCP;
	c = rig_connect(rig->capture_port);
	o = rig_accept(rig, 0);
	expect_gauge(&gauges(rig, 0)->requests, 1);
	expect_gauge(&gauges(rig, 0)->connections, 1);
	second = rig_connect(rig->capture_port);
	rig_expect_closed(second);
	r = record_at(rig, 0);
	assert_int_equal(r.cause, CAUSE_BULKHEAD_FULL);
	assert_int_equal(r.bulkhead, MESH_BULKHEAD_PENDING);
	close(second);
	close(o);
	rig_expect_closed(c);
	close(c);
	expect_nothing_held(rig);
	expect_gauge(&gauges(rig, 0)->connections, 0);
}

/* Waiting is for the first try and for all that follow. */
static void a_retry_waits_too(void **state)
{
	struct rig *rig = *state;
	int c, o, o1, second;

	snap_retry_add_status(&rig->snapshot->service.retry, 503);
	limits(rig)->connections = limits(rig)->pending = 1;
	c = rig_connect(rig->gateway_port);
	o = get_accepted(rig, c);
	second = waits(rig, 1);
	limits(rig)->pending = 2;
	serve(o, "HTTP/1.1 503 Busy\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
	o1 = rig_accept(rig, 0);
	expect_served(o1, second);
	serve(o1, OK200);
	expect_answer(c, "x-mesh-tries: 2\r\n", "x");
	close(c);
	close(second);
	expect_nothing_held(rig);
	close(o);
	close(o1);
}

/* While it waits another version comes, and with it another table. */
static void who_has_waited_looks_who_is_there(void **state)
{
	struct rig *rig = *state;
	int c, o, second, o1;

	limits(rig)->connections = limits(rig)->pending = 1;
	c = rig_connect(rig->gateway_port);
	o = get_accepted(rig, c);
	second = waits(rig, 1);
	rig_version(rig, 1, 1);
	rig->upstreams[0].split[0].subset = rig->upstreams[0].version[0] =
		rig->upstreams[0].version[1];
	rig_use(rig, 0);
	expect_served(o, c);
	rig_expect_closed(o); /* it leads to nobody who is in the table */
	o1 = rig_accept(rig, 1);
	expect_served(o1, second);
	close(c);
	close(second);
	expect_nothing_held(rig);
	close(o);
	close(o1);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, start, stop)
	const struct CMUnitTest tests[] = {
		T(as_many_requests_as_there_may_be),
		T(requests_that_find_no_room_in_the_ring_are_counted),
		T(one_caller_leaves_the_others_their_part),
		T(who_comes_first_is_served_first),
		T(a_full_queue_refuses),
		T(the_end_of_a_connection_makes_room),
		T(who_waits_for_too_long_is_told),
		T(who_leaves_the_queue_holds_up_nobody),
		T(an_idle_connection_is_used_whoever_it_leads_to),
		T(an_idle_connection_that_is_of_no_use_makes_room),
		T(tunnels_hold_a_connection_and_a_request),
		T(a_retry_waits_too),
		T(who_has_waited_looks_who_is_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
