/* SPDX-License-Identifier: Apache-2.0 */
/* Breakers of services and endpoints as one worker keeps them: what is counted, who is let in. */
#include "lib/clock.h"
#include "proxy_rig.h"

#define ANSWER(status) "HTTP/1.1 " status "\r\nContent-Length: 1\r\n\r\nx"
#define OPEN_MS	       300

static struct mesh_svc_stat *svc(struct rig *rig)
{
	return &rig->shared.svc_stats[0];
}

static struct mesh_ep_stat *ep(struct rig *rig, unsigned i)
{
	return &rig->shared.ep_stats[i];
}

static uint64_t load(const __u64 *word)
{
	return __atomic_load_n(word, __ATOMIC_RELAXED);
}

static uint64_t now_ms(void)
{
	return clock_mono_ns() / 1000000;
}

static struct mesh_tally tally(const __u64 window[MESH_WINDOW])
{
	return mesh_window_sum(window, mesh_window_turn(10000, now_ms()), MESH_WINDOW);
}

/* The word changes before the exchange is over for others: waits for it. */
static void expect_state(const __u64 *word, uint32_t state)
{
	for (int i = 0; mesh_breaker_state(load(word)) != state; i++) {
		assert_true(i < RIG_WAIT_MS);
		poll(NULL, 0, 1);
	}
}

static int start_sensitive(void **state)
{
	struct rig *rig = rig_start();

	rig->snapshot->service.breaker = (struct mesh_breaker_policy){.error_pm = 5000,
								      .min_requests = 4,
								      .window_ms = 10000,
								      .open_ms = OPEN_MS,
								      .half_open = 1,
								      .probe_ms = 2000};
	*state = rig;
	return 0;
}

static int get(struct rig *rig, int c, const char *answer)
{
	int o;

	rig_send(c, "GET /svc/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
	o = rig_accept(rig, 0);
	serve(o, answer);
	close(o);
	rig_read_until(c, NULL, text, sizeof(text));
	return atoi(text + 9);
}

static int ask(struct rig *rig, const char *answer)
{
	int c = rig_connect(rig->gateway_port), status = get(rig, c, answer);

	close(c);
	return status;
}

static void expect_refused(struct rig *rig)
{
	int c = rig_connect(rig->gateway_port);

	rig_send(c, GET);
	expect_refusal(c, "503", "breaker-open");
	assert_non_null(strstr(text, "x-circuit-status: open\r\n"));
	assert_non_null(strstr(text, "x-mesh-tries: 0\r\n"));
	assert_non_null(strstr(text, "{\"error\":\"Service unavailable\",\"circuit\":\"open\","
				     "\"service\":\"svc\",\"cause\":\"breaker-open\"}\n"));
	close(c);
}

#define CLOSE "\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx"

static void trip(struct rig *rig)
{
	for (int i = 0; i < 4; i++)
		assert_int_equal(ask(rig, "HTTP/1.1 500 No" CLOSE), 500);
	expect_state(&svc(rig)->breaker, MESH_OPEN);
}

static void too_many_failures_open_it(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(ask(rig, "HTTP/1.1 200 OK" CLOSE), 200);
	assert_int_equal(ask(rig, "HTTP/1.1 404 OK" CLOSE), 404);
	assert_int_equal(ask(rig, "HTTP/1.1 500 No" CLOSE), 500);
	assert_int_equal(mesh_breaker_state(load(&svc(rig)->breaker)), MESH_CLOSED);
	assert_int_equal(ask(rig, "HTTP/1.1 503 No" CLOSE), 503);
	expect_state(&svc(rig)->breaker, MESH_OPEN);
	assert_int_equal(tally(svc(rig)->window).total, 4);
	assert_int_equal(tally(svc(rig)->window).failed, 2);
	expect_refused(rig);
	assert_int_equal(tally(svc(rig)->window).total, 4); /* refusals are no requests */
	assert_int_equal(svc(rig)->went[MESH_OPEN], 1);
	assert_int_equal(mesh_breaker_state(load(&ep(rig, 0)->breaker)), MESH_CLOSED);
	assert_int_equal(tally(ep(rig, 0)->window).failed, 2);
	assert_int_equal(ep(rig, 0)->consecutive, 2);
}

static void no_answer_is_a_failure(void **state)
{
	struct rig *rig = *state;

	for (int i = 0; i < 4; i++) {
		int c = rig_connect(rig->gateway_port), o = get_accepted(rig, c);

		rig_read_until(o, "\r\n\r\n", text, sizeof(text));
		if (i == 3) /* half of one is none */
			rig_send(o, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx");
		close(o);
		rig_read_until(c, i == 3 ? NULL : "}\n", text, sizeof(text));
		close(c);
	}
	expect_state(&svc(rig)->breaker, MESH_OPEN);
	assert_int_equal(ep(rig, 0)->consecutive, 4);
}

/* Waits until a probe is let in; it is the request on the returned connection. */
static int probe(struct rig *rig, int *origin)
{
	for (uint64_t end = now_ms() + RIG_WAIT_MS; now_ms() < end;) {
		int c = rig_connect(rig->gateway_port);
		struct pollfd p[2] = {{.fd = c, .events = POLLIN},
				      {.fd = rig->origin[0], .events = POLLIN}};

		rig_send(c, GET);
		assert_true(poll(p, 2, RIG_WAIT_MS) > 0);
		if (p[1].revents) {
			*origin = rig_accept(rig, 0);
			return c;
		}
		close(c);
		poll(NULL, 0, 5);
	}
	fail_msg("no probe was let in");
	return -1;
}

static void one_probe_closes_it(void **state)
{
	struct rig *rig = *state;
	int c, o;

	trip(rig);
	c = probe(rig, &o);
	expect_state(&svc(rig)->breaker, MESH_HALF_OPEN);
	for (int i = 0; i < 3; i++)
		expect_refused(rig);
	expect_served(o, c);
	expect_state(&svc(rig)->breaker, MESH_CLOSED);
	for (int i = 0; i < 3; i++)
		assert_int_equal(svc(rig)->went[i], 1);
	close(o);
	close(c);
	assert_int_equal(ask(rig, "HTTP/1.1 200 OK" CLOSE), 200);
	/* what made it open does not do so again */
	assert_int_equal(ask(rig, "HTTP/1.1 500 OK" CLOSE), 500);
	assert_int_equal(mesh_breaker_state(load(&svc(rig)->breaker)), MESH_CLOSED);
}

static void a_probe_that_fails_opens_it_for_longer(void **state)
{
	struct rig *rig = *state;
	int c, o;

	snap_retry_add_status(&rig->snapshot->service.retry, 500);
	rig->snapshot->service.retry.attempts = 0;
	trip(rig);
	rig->snapshot->service.retry.attempts = 2; /* of one probe nothing is made but one try */
	c = probe(rig, &o);
	serve(o, ANSWER("500 No"));
	expect_answer(c, "x-mesh-tries: 1\r\n", "x");
	expect_state(&svc(rig)->breaker, MESH_OPEN);
	assert_int_equal(mesh_breaker_level(load(&svc(rig)->breaker)), 1);
	expect_refused(rig);
	close(o);
	close(c);
}

static void a_probe_whose_caller_leaves_is_given_back(void **state)
{
	struct linger now = {.l_onoff = 1};
	struct rig *rig = *state;
	int c, o;

	trip(rig);
	c = probe(rig, &o);
	rig_read_until(o, "\r\n\r\n", text, sizeof(text));
	setsockopt(c, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(c);
	rig_expect_closed(o);
	close(o);
	assert_int_equal(tally(svc(rig)->window).total, 4);
	c = probe(rig, &o); /* the next one may go at once */
	expect_served(o, c);
	expect_state(&svc(rig)->breaker, MESH_CLOSED);
	close(o);
	close(c);
}

static void what_is_ours_does_not_count(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->gateway_port);

	rig_use(rig, 0);
	for (int i = 0; i < 6; i++) {
		rig_send(c, GET);
		expect_refusal(c, "503", "no-healthy-endpoint");
	}
	rig_use(rig, 1);
	assert_int_equal(get(rig, c, "HTTP/1.1 200 OK" CLOSE), 200);
	assert_int_equal(tally(svc(rig)->window).total, 1);
	assert_int_equal(tally(svc(rig)->window).failed, 0);
	close(c);
}

static void held_open_by_hand_it_stays_so(void **state)
{
	struct rig *rig = *state;

	__atomic_store_n(&svc(rig)->breaker, mesh_breaker_hand(MESH_HAND_OPEN, 1),
			 __ATOMIC_RELAXED);
	expect_refused(rig);
	__atomic_store_n(&svc(rig)->breaker, mesh_breaker_hand(MESH_HAND_CLOSE, 1),
			 __ATOMIC_RELAXED);
	for (int i = 0; i < 6; i++)
		assert_int_equal(ask(rig, "HTTP/1.1 500 No" CLOSE), 500);
}

/* --- endpoints --- */

static void who_is_ejected_is_passed_over(void **state)
{
	struct rig *rig = *state;

	rig_use(rig, 2);
	ep(rig, 1)->breaker = mesh_breaker_word(MESH_OPEN, 0, 0, 0, now_ms() + 50000);
	for (int i = 0; i < 10; i++)
		assert_int_equal(ask(rig, "HTTP/1.1 200 OK" CLOSE), 200);
	assert_int_equal(tally(ep(rig, 1)->window).total, 0);
}

static void when_all_are_ejected_one_is_asked(void **state)
{
	struct rig *rig = *state;
	int c;

	ep(rig, 0)->breaker = mesh_breaker_word(MESH_OPEN, 0, 0, 0, now_ms() + 50000);
	assert_int_equal(ask(rig, "HTTP/1.1 200 OK" CLOSE), 200);
	assert_int_equal(tally(ep(rig, 0)->window).total, 1);
	__atomic_store_n(&ep(rig, 0)->breaker, mesh_breaker_hand(MESH_HAND_OPEN, 1),
			 __ATOMIC_RELAXED); /* but not by hand */
	c = rig_connect(rig->gateway_port);
	rig_send(c, GET);
	expect_refusal(c, "503", "no-healthy-endpoint");
	close(c);
}

/* The one who is well must not get all of the load. */
static void in_panic_all_are_asked(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->gateway_port), o;

	rig_use(rig, 2);
	rig->slots->panic = 1;
	rig->upstreams[0].policy = MESH_LB_ROUND_ROBIN;
	ep(rig, 1)->breaker = mesh_breaker_word(MESH_OPEN, 0, 0, 0, now_ms() + 50000);
	rig->endpoints[1].flags |= MESH_EP_UNHEALTHY;
	rig->shared.up_stats[0].cursor = 1;
	rig_send(c, GET);
	o = rig_accept(rig, 1);
	rig_read_until(o, "\r\n\r\n", text, sizeof(text));
	rig_send(o, ANSWER("200 OK"));
	expect_answer(c, "200 OK", "x");
	assert_int_equal(ask(rig, "HTTP/1.1 200 OK" CLOSE), 200); /* the next in turn */
	assert_int_equal(tally(ep(rig, 0)->window).total, 1);
	assert_int_equal(tally(ep(rig, 1)->window).total, 1);
	expect_state(&ep(rig, 1)->breaker, MESH_OPEN); /* no probe is needed for that */
	close(o);
	close(c);
}

static void who_was_ejected_for_long_enough_gets_one_probe(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->gateway_port), o1;

	rig_use(rig, 2);
	rig->upstreams[0].policy = MESH_LB_ROUND_ROBIN;
	ep(rig, 1)->breaker = mesh_breaker_word(MESH_OPEN, 0, 0, 0, now_ms() - OPEN_MS);
	ep(rig, 1)->consecutive = 7;
	rig->shared.up_stats[0].cursor = 1;
	rig_send(c, GET);
	o1 = rig_accept(rig, 1);
	rig_read_until(o1, "\r\n\r\n", text, sizeof(text));
	assert_int_equal(mesh_breaker_state(load(&ep(rig, 1)->breaker)), MESH_HALF_OPEN);
	for (int i = 0; i < 6; i++)
		assert_int_equal(ask(rig, "HTTP/1.1 200 OK" CLOSE), 200);
	rig_send(o1, ANSWER("200 OK"));
	expect_answer(c, "200 OK", "x");
	expect_state(&ep(rig, 1)->breaker, MESH_CLOSED);
	assert_int_equal(load(&ep(rig, 1)->consecutive), 0);
	__atomic_store_n(&ep(rig, 1)->breaker,
			 mesh_breaker_word(MESH_OPEN, 0, 0, 0, now_ms() - OPEN_MS),
			 __ATOMIC_RELAXED);
	rig->shared.up_stats[0].cursor = 1;
	rig_send(c, GET);
	serve(o1, ANSWER("500 No"));
	expect_answer(c, "500 No", "x");
	expect_state(&ep(rig, 1)->breaker, MESH_OPEN);
	assert_int_equal(mesh_breaker_level(load(&ep(rig, 1)->breaker)), 1);
	close(o1);
	close(c);
}

/* Callers may set deadlines shorter than any endpoint could keep. */
static void impatience_is_no_failure(void **state)
{
	struct rig *rig = *state;
	int c, o;

	rig->snapshot->service.timeouts.request = 30;
	rig->shared.ep_stats[0].ewma = 0xffffffffULL << 32 | (uint32_t)(clock_mono_ns() >> 20);
	c = rig_connect(rig->gateway_port);
	o = get_accepted(rig, c);
	expect_refusal(c, "504", "request-timeout");
	close(c);
	rig_first_record(rig);
	assert_int_equal(tally(svc(rig)->window).total, 0);
	assert_int_equal(tally(ep(rig, 0)->window).total, 0);
	rig->shared.ep_stats[0].ewma = 0;
	close(o);
	c = rig_connect(rig->gateway_port);
	o = get_accepted(rig, c);
	rig_read_until(o, "\r\n\r\n", text, sizeof(text));
	expect_refusal(c, "504", "request-timeout");
	rig_expect_closed(o);
	for (int i = 0; !tally(svc(rig)->window).failed && i < RIG_WAIT_MS; i++)
		poll(NULL, 0, 1);
	assert_int_equal(tally(svc(rig)->window).failed, 1);
	assert_int_equal(tally(ep(rig, 0)->window).failed, 1);
	close(o);
	close(c);
}

/* --- tunnels --- */

static void a_tunnel_is_a_request_and_its_connection_the_answer(void **state)
{
	struct rig *rig = *state;
	int c, o;

	rig->upstreams[0].protocol = MESH_PROTO_TCP;
	c = rig_connect(rig->capture_port);
	o = rig_accept(rig, 0);
	rig_send(o, "hello");
	rig_read_until(c, "hello", text, sizeof(text));
	assert_int_equal(tally(svc(rig)->window).total, 1); /* although it is not over */
	assert_int_equal(tally(ep(rig, 0)->window).total, 1);
	close(o);
	close(c);
	rig->endpoints[0].port = htons(1);
	for (int i = 0; i < 3; i++) {
		c = rig_connect(rig->capture_port);
		rig_expect_closed(c);
		close(c);
	}
	expect_state(&svc(rig)->breaker, MESH_OPEN);
	rig->endpoints[0].port = htons(rig->origin_port[0]);
	c = rig_connect(rig->capture_port);
	rig_expect_closed(c);
	close(c);
	assert_int_equal(tally(svc(rig)->window).total, 4);
	assert_int_equal(tally(svc(rig)->window).failed, 3);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, start_sensitive, stop)
	const struct CMUnitTest tests[] = {
		T(too_many_failures_open_it),
		T(no_answer_is_a_failure),
		T(one_probe_closes_it),
		T(a_probe_that_fails_opens_it_for_longer),
		T(a_probe_whose_caller_leaves_is_given_back),
		T(what_is_ours_does_not_count),
		T(held_open_by_hand_it_stays_so),
		T(who_is_ejected_is_passed_over),
		T(when_all_are_ejected_one_is_asked),
		T(in_panic_all_are_asked),
		T(who_was_ejected_for_long_enough_gets_one_probe),
		T(impatience_is_no_failure),
		T(a_tunnel_is_a_request_and_its_connection_the_answer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
