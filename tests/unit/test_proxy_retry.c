/* SPDX-License-Identifier: Apache-2.0 */
/* When a worker asks again, whom, how often, and what the caller is told of it. */
#include "lib/clock.h"
#include "proxy_rig.h"

#include <mesh/ewma.h>

#define OK200 "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"
#define BUSY  "HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy"
#define ANY   (0x3ffu & ~(1u << HTTP1_OTHER))

static struct snap_retry *retries(struct rig *rig)
{
	return &rig->snapshot->service.retry;
}

/* Origin i is the only one in the table. */
static void only(struct rig *rig, unsigned i)
{
	for (unsigned k = 0; k < MESH_SLOTS; k++)
		rig->slots->ep[k] = (uint16_t)i;
}

/* Origin 0 is drawn first, 1 is found when 0 is to be avoided. */
static void first_0_then_1(struct rig *rig)
{
	only(rig, 0);
	rig->slots->ep[255] = 1;
	rig->upstreams[0].policy = MESH_LB_ROUND_ROBIN; /* the first slot is the first drawn */
	rig->slots->nendpoints = 2;
}

static int start_with_two(void **state)
{
	struct rig *rig = rig_start();

	first_0_then_1(rig);
	retries(rig)->causes = 1u << CAUSE_CONNECT_FAILED | 1u << CAUSE_UPSTREAM_RESET;
	snap_retry_add_status(retries(rig), 503);
	retries(rig)->methods = ANY & ~(1u << HTTP1_POST | 1u << HTTP1_PATCH);
	*state = rig;
	return 0;
}

static void expect_tries(unsigned n)
{
	char line[32];

	snprintf(line, sizeof(line), "x-mesh-tries: %u\r\n", n);
	assert_non_null(strstr(text, line));
}

static void expect_answered(int c, const char *status, const char *body, unsigned tries)
{
	rig_read_until(c, "\r\n\r\n", text, sizeof(text));
	if (!strstr(text, status))
		fail_msg("%s", text);
	expect_tries(tries);
	rig_read_until(c, body, text, sizeof(text));
	assert_string_equal(text, body);
}

static void a_status_of_the_list_is_asked_for_again_elsewhere(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->gateway_port), o = get_accepted(rig, c), o1;

	serve(o, BUSY);
	o1 = rig_accept(rig, 1);
	serve(o1, OK200);
	expect_answered(c, " 200 ", "x", 2);
	/* the first connection was read to the end of its answer, and serves again */
	rig_send(c, GET);
	serve(o, OK200);
	expect_answered(c, " 200 ", "x", 1);
	assert_int_equal(rig->snapshot->service.retry.attempts, 2);
	close(o);
	close(o1);
	close(c);
}

static void other_statuses_are_passed_on(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->gateway_port), o = get_accepted(rig, c);

	serve(o, "HTTP/1.1 500 No\r\nX-Mesh-Tries: 9\r\nContent-Length: 2\r\n\r\nno");
	expect_answered(c, " 500 No", "no", 1);
	assert_null(strstr(text, "Tries: 9"));
	close(o);
	close(c);
}

static void what_is_not_here_of_an_answer_is_not_waited_for(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->gateway_port), o = get_accepted(rig, c), o1;

	serve(o, "HTTP/1.1 503 Busy\r\nContent-Length: 100\r\n\r\nbus");
	o1 = rig_accept(rig, 1);
	rig_expect_closed(o);
	serve(o1, OK200);
	expect_answered(c, " 200 ", "x", 2);
	close(o);
	close(o1);
	close(c);
}

static void other_methods_are_not_asked_again(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->gateway_port), o;

	rig_send(c, "POST /svc/ HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc");
	o = rig_accept(rig, 0);
	rig_read_until(o, "abc", text, sizeof(text));
	rig_send(o, BUSY);
	expect_answered(c, " 503 Busy", "busy", 1);
	rig_send(c, "FETCH /svc/ HTTP/1.1\r\nHost: h\r\n\r\n");
	serve(o, BUSY);
	expect_answered(c, " 503 Busy", "busy", 1);
	close(o);
	close(c);
}

static void a_body_that_is_kept_is_sent_again(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->gateway_port), o, o1;

	rig_send(c, "PUT /svc/ HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\nabc");
	o = rig_accept(rig, 0);
	rig_read_until(o, "abc", text, sizeof(text));
	rig_send(o, "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"); /* has not seen the end */
	rig_expect_closed(o);
	o1 = rig_accept(rig, 1);
	rig_read_until(o1, "abc", text, sizeof(text));
	rig_send(c, "def");
	rig_read_until(o1, "def", text, sizeof(text));
	rig_send(o1, OK200);
	expect_answered(c, " 200 ", "x", 2);
	close(o);
	close(o1);
	close(c);
}

static void a_body_that_was_not_kept_is_not(void **state)
{
	static char body[4 * BUF_SIZE];
	struct rig *rig = *state;
	int c = rig_connect(rig->gateway_port), o;

	memset(body, 'b', sizeof(body) - 2);
	body[sizeof(body) - 2] = 'e';
	snprintf(text, sizeof(text), "PUT /svc/ HTTP/1.1\r\nHost: h\r\nContent-Length: %zu\r\n\r\n",
		 sizeof(body) - 1);
	rig_send(c, text);
	rig_send(c, body);
	o = rig_accept(rig, 0);
	for (char last = 0; last != 'e';) {
		ssize_t n = recv(o, text, sizeof(text), 0);

		assert_true(n > 0);
		last = text[n - 1];
	}
	rig_send(o, BUSY);
	expect_answered(c, " 503 Busy", "busy", 1);
	close(o);
	close(c);
}

static void a_lost_connection_is_made_elsewhere(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->gateway_port), o = get_accepted(rig, c), o1;

	rig_read_until(o, "\r\n\r\n", text, sizeof(text));
	close(o);
	o1 = rig_accept(rig, 1);
	serve(o1, OK200);
	expect_answered(c, " 200 ", "x", 2);
	close(o1);
	retries(rig)->causes = 0;
	rig->upstreams[1].policy = 0;
	only(rig, 2);
	rig_send(c, GET);
	o = rig_accept(rig, 2);
	rig_read_until(o, "\r\n\r\n", text, sizeof(text));
	close(o);
	expect_refusal(c, "502", "upstream-reset");
	expect_tries(1);
	close(c);
}

static void who_failed_is_asked_again_when_there_is_nobody_else(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->gateway_port), o;

	only(rig, 0);
	o = get_accepted(rig, c);
	for (int i = 0; i < 3; i++)
		serve(o, BUSY);
	expect_answered(c, " 503 Busy", "busy", 3); /* the last one's own words */
	close(o);
	close(c);
}

static void all_that_failed_are_avoided(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->gateway_port), o[3];
	struct pollfd p[2] = {{.fd = rig->origin[1], .events = POLLIN},
			      {.fd = rig->origin[2], .events = POLLIN}};
	unsigned second, third;

	rig->slots->ep[128] = 2;
	rig_send(c, GET);
	o[0] = rig_accept(rig, 0);
	serve(o[0], BUSY);
	assert_true(poll(p, 2, RIG_WAIT_MS) > 0);
	second = p[0].revents ? 1 : 2;
	third = 3 - second;
	o[second] = rig_accept(rig, second);
	serve(o[second], BUSY);
	o[third] = rig_accept(rig, third);
	serve(o[third], OK200);
	expect_answered(c, " 200 ", "x", 3);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(mesh_window_sum(rig->shared.ep_stats[i].window,
						 mesh_window_turn(10000, clock_mono_ns() / 1000000),
						 MESH_WINDOW)
					 .failed,
				 i != third);
		assert_int_equal(rig->shared.ep_stats[i].consecutive, i != third);
		close(o[i]);
	}
	close(c);
}

static void without_budget_the_answer_is_passed_on(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->gateway_port), o;
	const struct record *r;

	rig->snapshot->service.budget = (struct mesh_budget_policy){.percent_pm = 0};
	rig->shared.svc_stats[0].budget = 0;
	o = get_accepted(rig, c);
	serve(o, BUSY);
	expect_answered(c, " 503 Busy", "busy", 1);
	close(c);
	r = rig_first_record(rig);
	assert_int_equal(r->flags & (RECORD_NO_BUDGET | RECORD_LOCAL), RECORD_NO_BUDGET);
	assert_int_equal(r->tries, 1);
	close(o);
}

static void retries_cost_what_requests_have_earned(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->gateway_port), o, tries = 0;

	only(rig, 0);
	retries(rig)->attempts = 1;
	rig->snapshot->service.budget = (struct mesh_budget_policy){.percent_pm = 2000};
	o = get_accepted(rig, c);
	for (int i = 0; i < 50; i++) {
		rig_read_until(o, "\r\n\r\n", text, sizeof(text));
		rig_send(o, BUSY);
		tries++;
		for (struct pollfd p[2] = {{.fd = o, .events = POLLIN},
					   {.fd = c, .events = POLLIN}};
		     ;) {
			assert_true(poll(p, 2, RIG_WAIT_MS) > 0);
			if (p[1].revents)
				break;
			rig_read_until(o, "\r\n\r\n", text, sizeof(text));
			rig_send(o, BUSY);
			tries++;
		}
		rig_read_until(c, "\r\n\r\nbusy", text, sizeof(text));
		rig_send(c, GET);
	}
	assert_int_equal(tries, 60); /* a fifth more */
	close(o);
	close(c);
}

static void the_wait_before_another_try_ends(void **state)
{
	struct rig *rig = *state;
	int c, o, o1;

	retries(rig)->backoff_ms = retries(rig)->max_backoff_ms = 200;
	c = rig_connect(rig->gateway_port);
	o = get_accepted(rig, c);
	serve(o, BUSY);
	o1 = rig_accept(rig, 1);
	serve(o1, OK200);
	expect_answered(c, " 200 ", "x", 2);
	close(o);
	close(o1);
	close(c);
}

static void who_leaves_while_it_waits_is_not_asked_for(void **state)
{
	struct linger now = {.l_onoff = 1};
	struct rig *rig = *state;
	int c, o;

	only(rig, 0);
	retries(rig)->backoff_ms = retries(rig)->max_backoff_ms = 3600000;
	rig->snapshot->service.timeouts.request = 0;
	c = rig_connect(rig->gateway_port);
	o = get_accepted(rig, c);
	serve(o, BUSY);
	/* back in the pool: it is decided */
	for (int i = 0; !rig->inside->idle_oldest && i < RIG_WAIT_MS; i++)
		poll(NULL, 0, 1);
	setsockopt(c, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(c);
	assert_int_equal(rig_first_record(rig)->flags & RECORD_CLIENT_GONE, RECORD_CLIENT_GONE);
	assert_int_equal(rig->inside->exchanges.used, 0);
	close(o);
}

static void no_try_is_made_without_time_for_it(void **state)
{
	struct rig *rig = *state;
	int c, o;

	rig->snapshot->service.timeouts.request = 4000;
	rig->shared.ep_stats[1].ewma =
		mesh_ewma_update(0, 60000000000ULL, clock_mono_ns(), 0); /* usually takes 60 s */
	c = rig_connect(rig->gateway_port);
	o = get_accepted(rig, c);
	serve(o, BUSY);
	expect_answered(c, " 503 Busy", "busy", 1);
	close(o);
	close(c);
}

static void a_wait_beyond_the_timeout_is_not_begun(void **state)
{
	struct rig *rig = *state;
	int c, o;

	retries(rig)->backoff_ms = retries(rig)->max_backoff_ms = 100000000;
	rig->snapshot->service.timeouts.request = 500;
	c = rig_connect(rig->gateway_port);
	o = get_accepted(rig, c);
	serve(o, BUSY);
	expect_answered(c, " 503 Busy", "busy", 1);
	close(o);
	close(c);
}

static void a_stale_connection_is_no_try(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->gateway_port), o;

	only(rig, 0);
	retries(rig)->attempts = 0;
	o = get_accepted(rig, c);
	expect_served(o, c);
	rig_send(c, GET);
	rig_read_until(o, "\r\n\r\n", text, sizeof(text));
	close(o);
	o = rig_accept(rig, 0);
	serve(o, OK200);
	expect_answered(c, " 200 ", "x", 1);
	assert_int_equal(rig->shared.ep_stats[0].consecutive, 0);
	close(o);
	close(c);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, start_with_two, stop)
	const struct CMUnitTest tests[] = {
		T(a_status_of_the_list_is_asked_for_again_elsewhere),
		T(other_statuses_are_passed_on),
		T(what_is_not_here_of_an_answer_is_not_waited_for),
		T(other_methods_are_not_asked_again),
		T(a_body_that_is_kept_is_sent_again),
		T(a_body_that_was_not_kept_is_not),
		T(a_lost_connection_is_made_elsewhere),
		T(who_failed_is_asked_again_when_there_is_nobody_else),
		T(all_that_failed_are_avoided),
		T(without_budget_the_answer_is_passed_on),
		T(retries_cost_what_requests_have_earned),
		T(the_wait_before_another_try_ends),
		T(who_leaves_while_it_waits_is_not_asked_for),
		T(no_try_is_made_without_time_for_it),
		T(a_wait_beyond_the_timeout_is_not_begun),
		T(a_stale_connection_is_no_try),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
