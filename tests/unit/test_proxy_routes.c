/* SPDX-License-Identifier: Apache-2.0 */
/* What the configuration says of single requests: routes, versions, deadlines, injected faults. */
#include "lib/clock.h"
#include "proxy_rig.h"

#define SHORT_MS 200
#define LONG_MS	 60000 /* must not matter */
#define ANSWER	 "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"

static struct snap_split all_to(uint32_t version)
{
	return (struct snap_split){.n = 1, .to = {{version, SNAP_ALL}}};
}

static int ask(struct rig *rig, const char *path, const char *fields)
{
	int c = rig_connect(rig->gateway_port);
	char request[512];

	snprintf(request, sizeof(request), "GET /svc%s HTTP/1.1\r\nHost: h\r\n%s\r\n", path,
		 fields);
	rig_send(c, request);
	return c;
}

/* That origin is the one that is asked; its answer arrives. What it was asked is in text. */
static void expect_asked(struct rig *rig, unsigned origin, int c)
{
	static char asked[sizeof(text)];
	int o = rig_accept(rig, origin);

	rig_read_until(o, "\r\n\r\n", text, sizeof(text));
	strcpy(asked, text);
	rig_send(o, ANSWER);
	expect_answer(c, "200 OK", "x");
	strcpy(text, asked);
	close(o);
	close(c);
}

/* The value of a field of a head in text, as a number. */
static long field(const char *name)
{
	const char *at = strstr(text, name);

	assert_non_null(at);
	return strtol(at + strlen(name), NULL, 10);
}

/* --- routes and versions -------------------------------------------------------------------------
 */

static void the_first_route_that_matches_decides(void **state)
{
	struct rig *rig = *state;

	rig_version(rig, 1, 1);
	rig_version(rig, 2, 2);
	rig_route(rig, "/one")->split = all_to(1);
	rig_route(rig, "/one/two")->split = all_to(2);
	rig_route(rig, "/two")->split = all_to(2);
	expect_asked(rig, 1, ask(rig, "/one/two", ""));
	expect_asked(rig, 2, ask(rig, "/two", ""));
	expect_asked(rig, 0, ask(rig, "/three", ""));
}

static void a_connection_made_early_serves_no_other_version(void **state)
{
	struct rig *rig = *state;
	int c, early;

	rig_version(rig, 1, 1);
	rig_route(rig, "/svc")->split = all_to(1);
	c = rig_connect(rig->capture_port);
	early = rig_accept(rig, 0);
	rig_send(c, GET);
	expect_asked(rig, 1, c);
	assert_int_equal(rig_first_record(rig)->tries, 1);
	close(early);
}

static void a_connection_that_failed_early_decides_no_version(void **state)
{
	struct rig *rig = *state;
	int c;

	rig_version(rig, 1, 1);
	rig_route(rig, "/svc")->split = all_to(1);
	close(rig->origin[0]); /* refuses */
	rig->origin[0] = -1;
	c = rig_connect(rig->capture_port);
	for (int i = 0; i < RIG_WAIT_MS && !rig->shared.ep_stats[0].ewma; i++)
		poll(NULL, 0, 1);
	rig_send(c, GET);
	expect_asked(rig, 1, c);
}

static void a_version_nobody_serves_falls_back_or_fails(void **state)
{
	struct rig *rig = *state;
	struct snap_route *r = rig_route(rig, "/");
	int c;

	r->split = all_to(3);
	expect_asked(rig, 0, ask(rig, "/", ""));
	r->fallback = SNAP_FALLBACK_NONE;
	c = ask(rig, "/", "");
	expect_refusal(c, "503", "no-healthy-endpoint");
	close(c);
}

static void a_second_try_goes_to_another_version_if_need_be(void **state)
{
	struct rig *rig = *state;

	rig_use(rig, 2);
	rig_version(rig, 1, 0);
	rig_route(rig, "/")->split = all_to(1);
	close(rig->origin[0]); /* refuses */
	rig->origin[0] = -1;
	expect_asked(rig, 1, ask(rig, "/", ""));
}

static void who_drains_or_is_not_well_is_passed_over(void **state)
{
	struct rig *rig = *state;

	rig_use(rig, 3);
	rig->endpoints[0].flags |= MESH_EP_DRAINING;
	rig->endpoints[1].flags |= MESH_EP_UNHEALTHY;
	for (int i = 0; i < 5; i++)
		expect_asked(rig, 2, ask(rig, "/", ""));
	rig->endpoints[2].flags &= (uint16_t)~MESH_EP_ALIVE;
	expect_asked(rig, 1, ask(rig, "/", "")); /* nobody is well */
}

/* GET on a connection that stays, to an origin whose connection is idle after that. */
static int ask_and_keep(struct rig *rig, int *origin)
{
	int c = rig_connect(rig->gateway_port);

	*origin = get_accepted(rig, c);
	expect_served(*origin, c);
	return c;
}

static void a_connection_to_who_is_not_well_any_more_is_closed(void **state)
{
	struct rig *rig = *state;
	int o, c = ask_and_keep(rig, &o);

	rig->endpoints[0].flags |= MESH_EP_UNHEALTHY;
	rig_expect_closed(o);
	close(o);
	close(c);
}

static void a_connection_to_who_is_gone_is_closed(void **state)
{
	struct rig *rig = *state;
	int o, c = ask_and_keep(rig, &o);

	rig->endpoints[0].gen++;
	rig_expect_closed(o);
	close(o);
	close(c);
}

static void a_connection_is_not_used_once_its_end_is_not_well(void **state)
{
	struct rig *rig = *state;
	int o, c = ask_and_keep(rig, &o), other;

	rig->endpoints[0].flags |= MESH_EP_UNHEALTHY;
	other = get_accepted(rig, c); /* nobody else is there: a new one */
	expect_served(other, c);
	close(other);
	close(o);
	close(c);
}

static void what_runs_at_who_drains_is_finished(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->gateway_port), o = get_accepted(rig, c);

	rig->endpoints[0].flags |= MESH_EP_DRAINING;
	expect_served(o, c);
	rig_send(c, GET);
	expect_refusal(c, "503", "no-healthy-endpoint");
	close(o);
	close(c);
}

static void a_route_has_timeouts_of_its_own(void **state)
{
	struct rig *rig = *state;
	int c, o;

	rig_route(rig, "/slow")->timeouts.try = SHORT_MS;
	c = ask(rig, "/slow", "");
	o = rig_accept(rig, 0);
	expect_refusal(c, "504", "try-timeout");
	close(c);
	close(o);
}

/* --- deadlines -----------------------------------------------------------------------------------
 */

static void the_time_left_is_told(void **state)
{
	struct rig *rig = *state;

	expect_asked(rig, 0, ask(rig, "/", ""));
	assert_in_range(field("x-request-timeout-ms: "), 10000, 15000);
	assert_null(strstr(text, "grpc-timeout"));
}

static void the_caller_can_only_shorten_it(void **state)
{
	struct rig *rig = *state;

	expect_asked(rig, 0, ask(rig, "/", "X-Request-Timeout-Ms: 9000\r\n"));
	assert_in_range(field("x-request-timeout-ms: "), 4000, 9000);
	assert_null(strstr(text, "X-Request-Timeout-Ms"));
}

static void more_than_there_is_changes_nothing(void **state)
{
	struct rig *rig = *state;

	expect_asked(rig, 0, ask(rig, "/", "x-request-timeout-ms: 99000\r\n"));
	assert_in_range(field("x-request-timeout-ms: "), 10000, 15000);
}

static void what_makes_no_sense_changes_nothing(void **state)
{
	struct rig *rig = *state;

	expect_asked(rig, 0, ask(rig, "/", "x-request-timeout-ms: 1s\r\ngrpc-timeout: -1S\r\n"));
	assert_in_range(field("x-request-timeout-ms: "), 10000, 15000);
}

static void grpc_callers_are_understood(void **state)
{
	struct rig *rig = *state;

	expect_asked(rig, 0, ask(rig, "/", "grpc-timeout: 9S\r\n"));
	assert_in_range(field("x-request-timeout-ms: "), 4000, 9000);
	assert_in_range(field("grpc-timeout: "), 4000, 9000);
	assert_null(strstr(text, "grpc-timeout: 9S"));
}

static void without_any_limit_nothing_is_said(void **state)
{
	struct rig *rig = *state;

	rig->snapshot->service.timeouts.request = 0;
	expect_asked(rig, 0, ask(rig, "/", ""));
	assert_null(strstr(text, "x-request-timeout-ms"));
}

static void the_deadline_is_kept(void **state)
{
	struct rig *rig = *state;
	int c = ask(rig, "/", "x-request-timeout-ms: 200\r\n"), o = rig_accept(rig, 0);

	expect_refusal(c, "504", "request-timeout");
	rig_read_until(o, NULL, text, sizeof(text)); /* its work is cancelled */
	close(c);
	close(o);
}

static void who_has_no_time_left_asks_nobody(void **state)
{
	struct rig *rig = *state;
	int c = ask(rig, "/", "grpc-timeout: 0n\r\n");

	expect_refusal(c, "504", "request-timeout");
	assert_int_equal(rig_first_record(rig)->tries, 0);
	close(c);
}

/* --- faults --------------------------------------------------------------------------------------
 */

static void an_injected_fault_is_answered(void **state)
{
	struct rig *rig = *state;
	int c;

	rig_route(rig, "/bad")->fault =
		(struct snap_fault){.abort_share = SNAP_ALL, .abort_status = 418};
	c = ask(rig, "/bad", "");
	expect_refusal(c, "418", "fault-injected");
	assert_int_equal(rig_first_record(rig)->flags & (RECORD_ABORTED | RECORD_LOCAL),
			 RECORD_ABORTED | RECORD_LOCAL);
	assert_int_equal(rig_first_record(rig)->tries, 0);
	close(c);
	expect_asked(rig, 0, ask(rig, "/good", ""));
}

static void an_injected_status_without_content_has_none(void **state)
{
	struct rig *rig = *state;
	int c;

	rig->snapshot->service.fault =
		(struct snap_fault){.abort_share = SNAP_ALL, .abort_status = 204};
	c = ask(rig, "/", "");
	rig_read_until(c, "\r\n\r\n", text, sizeof(text));
	assert_memory_equal(text, "HTTP/1.1 204", 12);
	assert_null(strstr(text, "content-length"));
	rig->snapshot->service.fault.abort_status = 500;
	rig_send(c, GET); /* the connection goes on */
	expect_refusal(c, "500", "fault-injected");
	close(c);
}

static uint64_t now_ms(void)
{
	return clock_mono_ns() / 1000000;
}

static void a_delay_comes_before_the_try(void **state)
{
	struct rig *rig = *state;
	uint64_t before = now_ms();
	int c;

	rig->snapshot->service.fault =
		(struct snap_fault){.delay_share = SNAP_ALL, .delay_ms = SHORT_MS};
	c = ask(rig, "/", "");
	expect_asked(rig, 0, c);
	assert_true(now_ms() - before >= SHORT_MS);
	assert_in_range(field("x-request-timeout-ms: "), 10000, 15000 - SHORT_MS);
	assert_true(rig_first_record(rig)->flags & RECORD_DELAYED);
}

static void a_delay_may_end_in_a_fault(void **state)
{
	struct rig *rig = *state;
	uint64_t before = now_ms();
	int c;

	rig_route(rig, "/")->fault =
		(struct snap_fault){.delay_share = SNAP_ALL, .delay_ms = SHORT_MS};
	rig->snapshot->service.fault =
		(struct snap_fault){.abort_share = SNAP_ALL, .abort_status = 503};
	c = ask(rig, "/", "");
	expect_refusal(c, "503", "fault-injected");
	assert_true(now_ms() - before >= SHORT_MS);
	close(c);
}

static void the_request_timeout_ends_a_delay(void **state)
{
	struct rig *rig = *state;
	int c;

	rig->snapshot->service.fault =
		(struct snap_fault){.delay_share = SNAP_ALL, .delay_ms = LONG_MS};
	c = ask(rig, "/", "x-request-timeout-ms: 200\r\n");
	expect_refusal(c, "504", "request-timeout");
	assert_int_equal(rig_first_record(rig)->tries, 0);
	close(c);
}

static void a_caller_that_leaves_ends_a_delay(void **state)
{
	struct rig *rig = *state;
	struct linger now = {.l_onoff = 1};
	int c;

	rig->snapshot->service.fault =
		(struct snap_fault){.delay_share = SNAP_ALL, .delay_ms = LONG_MS};
	c = ask(rig, "/", "");
	for (int i = 0; i < RIG_WAIT_MS && !*(volatile uint32_t *)&rig->inside->exchanges.used; i++)
		poll(NULL, 0, 1);
	setsockopt(c, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(c);
	assert_true(rig_first_record(rig)->flags & RECORD_CLIENT_GONE);
	assert_int_equal(rig_first_record(rig)->status, 0);
}

static void a_fault_that_is_over_is_over(void **state)
{
	struct rig *rig = *state;

	rig->snapshot->service.fault = (struct snap_fault){
		.abort_share = SNAP_ALL, .abort_status = 503, .until_ms = now_ms() - 1};
	expect_asked(rig, 0, ask(rig, "/", ""));
}

static void a_share_of_half_is_about_half(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->gateway_port), o = -1, faults = 0;

	rig->snapshot->service.fault =
		(struct snap_fault){.abort_share = SNAP_ALL / 2, .abort_status = 503};
	for (int i = 0; i < 200; i++) {
		struct pollfd p[2] = {{.fd = c, .events = POLLIN}, {.events = POLLIN}};

		rig_send(c, GET);
		p[1].fd = o < 0 ? rig->origin[0] : o;
		assert_true(poll(p, 2, RIG_WAIT_MS) > 0);
		if (p[0].revents) {
			expect_refusal(c, "503", "fault-injected");
			faults++;
			continue;
		}
		if (o < 0)
			o = rig_accept(rig, 0);
		expect_served(o, c);
	}
	assert_in_range(faults, 50, 150); /* seven standard deviations */
	close(c);
	close(o);
}

int main(void)
{
#define story(fn) cmocka_unit_test_setup_teardown(fn, start, stop)
	const struct CMUnitTest tests[] = {
		story(the_first_route_that_matches_decides),
		story(a_connection_made_early_serves_no_other_version),
		story(a_connection_that_failed_early_decides_no_version),
		story(a_version_nobody_serves_falls_back_or_fails),
		story(a_second_try_goes_to_another_version_if_need_be),
		story(who_drains_or_is_not_well_is_passed_over),
		story(a_connection_to_who_is_not_well_any_more_is_closed),
		story(a_connection_to_who_is_gone_is_closed),
		story(a_connection_is_not_used_once_its_end_is_not_well),
		story(what_runs_at_who_drains_is_finished),
		story(a_route_has_timeouts_of_its_own),
		story(the_time_left_is_told),
		story(the_caller_can_only_shorten_it),
		story(more_than_there_is_changes_nothing),
		story(what_makes_no_sense_changes_nothing),
		story(grpc_callers_are_understood),
		story(without_any_limit_nothing_is_said),
		story(the_deadline_is_kept),
		story(who_has_no_time_left_asks_nobody),
		story(an_injected_fault_is_answered),
		story(an_injected_status_without_content_has_none),
		story(a_delay_comes_before_the_try),
		story(a_delay_may_end_in_a_fault),
		story(the_request_timeout_ends_a_delay),
		story(a_caller_that_leaves_ends_a_delay),
		story(a_fault_that_is_over_is_over),
		story(a_share_of_half_is_about_half),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
