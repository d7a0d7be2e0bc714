/* SPDX-License-Identifier: Apache-2.0 */
/* What an endpoint's latency is made of: its own time, and nothing that a caller or the length of a
 * body decides. */
#include "lib/clock.h"
#include "proxy_rig.h"

#include <mesh/ewma.h>

#define SLOW_MS 800 /* what others take */

static uint64_t latency_ms(const struct rig *rig)
{
	return mesh_ewma_read(__atomic_load_n(&rig->shared.ep_stats[0].ewma, __ATOMIC_RELAXED),
			      clock_mono_ns()) /
	       1000000;
}

/* POST on a new connection, of which the origin has the first byte of two. */
static int begin_upload(struct rig *rig, int *origin)
{
	int c = rig_connect(rig->gateway_port);

	rig_send(c, "POST /svc/a HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n1");
	*origin = rig_accept(rig, 0);
	rig_read_until(*origin, "\r\n\r\n1", text, sizeof(text));
	return c;
}

static void the_time_of_an_upload_is_the_callers(void **state)
{
	struct rig *rig = *state;
	int o, c = begin_upload(rig, &o);

	poll(NULL, 0, SLOW_MS);
	rig_send(c, "2");
	rig_read_until(o, "2", text, sizeof(text));
	rig_send(o, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx");
	expect_answer(c, "200 OK", "x");
	close(c);
	assert_true(latency_ms(rig) < SLOW_MS / 2);
	assert_true(rig_first_record(rig)->upstream_ns < SLOW_MS / 2 * 1000000ull);
	assert_true(rig->shared.ep_stats[0].ewma != 0);
	close(o);
}

static void an_answer_before_the_end_of_the_upload_has_no_time(void **state)
{
	struct rig *rig = *state;
	int o, c = begin_upload(rig, &o);

	poll(NULL, 0, SLOW_MS);
	rig_send(o, "HTTP/1.1 401 No\r\nContent-Length: 1\r\n\r\nx");
	expect_answer(c, "401 No", "x");
	close(c);
	assert_int_equal(rig_first_record(rig)->upstream_ns, 0);
	assert_int_equal(rig->shared.ep_stats[0].ewma, 0);
	close(o);
}

static void a_failure_in_the_middle_of_an_upload_has_no_time(void **state)
{
	struct rig *rig = *state;
	int o, c = begin_upload(rig, &o);

	poll(NULL, 0, SLOW_MS);
	close(o);
	expect_refusal(c, "502", "upstream-reset");
	assert_in_range(latency_ms(rig), 1, MESH_EWMA_FAIL_FLOOR_NS / 1000000);
	close(c);
}

static void the_time_of_a_body_that_is_cut_does_not_count(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->gateway_port), o = get_accepted(rig, c);

	serve(o, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx");
	expect_answer(c, "200 OK", "x");
	poll(NULL, 0, SLOW_MS);
	close(o);
	rig_expect_closed(c);
	assert_true(latency_ms(rig) < SLOW_MS / 2);
	close(c);
}

static void a_silent_endpoint_is_as_slow_as_it_was_waited_for(void **state)
{
	struct rig *rig = *state;
	int c, o;

	rig->snapshot->service.timeouts.try = SLOW_MS;
	c = rig_connect(rig->gateway_port);
	o = get_accepted(rig, c);
	expect_refusal(c, "504", "try-timeout");
	assert_true(latency_ms(rig) > SLOW_MS / 2);
	close(o);
	close(c);
}

/* As the supervisor does it. */
static void give_the_index_to_another(struct rig *rig)
{
	rig->shared.ep_stats[0].ewma = 0;
	rig->shared.ep_inflight[0].worker[0] = 0;
	rig->endpoints[0].gen++;
}

static void what_outlives_its_endpoint_says_nothing_of_the_next(void **state)
{
	struct rig *rig = *state;
	int old = rig_connect(rig->gateway_port), old_o = get_accepted(rig, old);
	int cut = rig_connect(rig->gateway_port), cut_o = get_accepted(rig, cut);
	int c = rig_connect(rig->gateway_port), o;

	rig_read_until(cut_o, "\r\n\r\n", text, sizeof(text));
	give_the_index_to_another(rig);
	o = get_accepted(rig, c); /* the new one's */
	close(cut_o);
	expect_refusal(cut, "502", "upstream-reset");
	expect_served(old_o, old);
	rig_send(old,
		 "GET / HTTP/1.1\r\nHost: h\r\n\r\n"); /* whose answer comes when that is over */
	expect_refusal(old, "404", "no-route");
	assert_int_equal(rig->shared.ep_stats[0].ewma, 0);
	assert_int_equal(rig->shared.ep_inflight[0].worker[0], 1);
	expect_served(o, c);
	rig_send(c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
	expect_refusal(c, "404", "no-route");
	assert_true(rig->shared.ep_stats[0].ewma != 0);
	assert_int_equal(rig->shared.ep_inflight[0].worker[0], 0);
	close(old);
	close(old_o);
	close(cut);
	close(c);
	close(o);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, start, stop)
	const struct CMUnitTest tests[] = {
		T(the_time_of_an_upload_is_the_callers),
		T(an_answer_before_the_end_of_the_upload_has_no_time),
		T(a_failure_in_the_middle_of_an_upload_has_no_time),
		T(the_time_of_a_body_that_is_cut_does_not_count),
		T(a_silent_endpoint_is_as_slow_as_it_was_waited_for),
		T(what_outlives_its_endpoint_says_nothing_of_the_next),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
