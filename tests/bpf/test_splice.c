/* SPDX-License-Identifier: Apache-2.0 */
/* Who is enrolled and who is not. What becomes of their bytes: test_splice_bytes.c; the hazards of
 * the redirect itself: test_hazards.c. */
#include "tests/bpf/splice_rig.h"

static void a_caller_and_a_worker_skip_tcp(void **state)
{
	enter("/app");
	assert_enrolled("127.0.0.1", fx.port4, fx.worker4);
	assert_enrolled("::1", fx.port6, fx.worker6);
	assert_enrolled("::ffff:127.0.0.1", fx.port4, fx.worker4);
}

static void a_worker_and_an_endpoint_skip_tcp(void **state)
{
	enter("/other");
	assert_enrolled("127.0.0.1", fx.port4, fx.server4);
	assert_enrolled("::1", fx.port6, fx.server6);
}

static void strangers_are_left_alone(void **state)
{
	struct mesh_splice_ctl c = usual;

	c.cgroup = id_of("/app");
	switch_to(&c);
	enter("/other");
	assert_left_alone("127.0.0.1", fx.port4, fx.server4, false, MESH_ACCEL_GROUPS);
}

/* The same cgroup, but another user: a health check, for one. */
static void who_shares_the_workers_cgroup_is_left_alone(void **state)
{
	struct mesh_splice_ctl c = usual;

	c.uid++;
	switch_to(&c);
	enter("/other");
	assert_left_alone("127.0.0.1", fx.port4, fx.server4, false, MESH_ACCEL_GROUPS);
}

static void off_enrolls_nobody(void **state)
{
	switch_to(&(struct mesh_splice_ctl){.mode = MESH_SPLICE_OFF});
	enter("/app");
	assert_left_alone("127.0.0.1", fx.port4, fx.worker4, false, MESH_ACCEL_GROUPS);
}

static void who_is_held_back_is_counted_as_control(void **state)
{
	const struct mesh_splice_steer nobody = {.hold_back = 1000};

	enter("/app");
	meet("127.0.0.1", fx.port4, fx.worker4);
	ok(kernel_splice_steer(fx.k, UPSTREAM, &nobody));
	assert_left_alone("127.0.0.1", fx.port4, fx.worker4, false, MESH_ACCEL_CONTROL);
}

static uint64_t word_of(enum mesh_splice_hop hop)
{
	struct mesh_accel a;

	ok(kernel_splice_accel(fx.k, UPSTREAM, &a));
	return a.brief[hop];
}

static bool is_brief(enum mesh_splice_hop hop)
{
	return mesh_brief_is(word_of(hop), clock_mono_ns() / 1000000000);
}

/* So many connections to a worker with so many requests on each. Returns how many were enrolled. */
static uint64_t connect_often(int connections, int requests)
{
	uint64_t before = opened(MESH_ACCEL_ENROLLED), redirected, tcp;

	for (int i = 0; i < connections; i++) {
		struct pair p = pair_up("127.0.0.1", fx.port4, fx.worker4, false);

		talk(&p, requests, &redirected, &tcp);
	}
	return opened(MESH_ACCEL_ENROLLED) - before;
}

/* Without a word of the supervisor's: some dozens say so, and some dozens take it back. */
static void brief_connections_are_held_back_until_others_come(void **state)
{
	uint64_t control;

	enter("/app");
	meet("127.0.0.1", fx.port4, fx.worker4);
	assert_int_equal(connect_often(30, 1), 30);
	assert_false(is_brief(MESH_TO_WORKER));
	connect_often(40, 1);
	assert_true(is_brief(MESH_TO_WORKER));
	assert_int_equal(word_of(MESH_TO_ENDPOINT), 0);
	control = opened(MESH_ACCEL_CONTROL);
	assert_in_range(connect_often(200, 1), 0, 40); /* 12 on average */
	assert_in_range(opened(MESH_ACCEL_CONTROL) - control, 160, 200);
	for (int i = 0; i < 500 && is_brief(MESH_TO_WORKER); i++)
		connect_often(1, 20);
	assert_int_equal(connect_often(10, 1), 10);
}

static void nothing_of_another_upstream_holds_for_the_next(void **state)
{
	enter("/app");
	meet("127.0.0.1", fx.port4, fx.worker4);
	connect_often(80, 1);
	assert_true(is_brief(MESH_TO_WORKER));
	ok(kernel_splice_upstream(fx.k, UPSTREAM));
	assert_int_equal(connect_often(10, 1), 10);
}

/* One that lives for long tells while it does. */
static void a_long_connection_is_heard_before_its_end(void **state)
{
	struct pair p;

	enter("/app");
	meet("127.0.0.1", fx.port4, fx.worker4);
	p = pair_up("127.0.0.1", fx.port4, fx.worker4, false);
	for (int i = 0; i < 20; i++) {
		struct pair brief = pair_up("127.0.0.1", fx.port4, fx.worker4, false);

		close(brief.client);
		close(brief.server);
	}
	assert_true(word_of(MESH_TO_WORKER) > 0);
	for (int i = 0; i < MESH_SPLICE_TELL; i++) {
		pass_on(p.client, p.server, SMALL);
		pass_on(p.server, p.client, SMALL);
	}
	assert_int_equal(word_of(MESH_TO_WORKER), 0);
	part(&p);
}

static void a_service_can_opt_out_and_in(void **state)
{
	const struct mesh_service out = {.flags = MESH_SVC_USED | MESH_SVC_ACCEL_OFF},
				  in = {.flags = MESH_SVC_USED | MESH_SVC_ACCEL_ON};
	const struct mesh_splice_steer nobody = {.hold_back = 1000};
	uint64_t before;

	enter("/app");
	meet("127.0.0.1", fx.port4, fx.worker4);
	before = opened(MESH_ACCEL_ENROLLED);
	ok(kernel_service_set(fx.k, 0, &out));
	assert_left_alone("127.0.0.1", fx.port4, fx.worker4, false, MESH_ACCEL_GROUPS);
	ok(kernel_service_set(fx.k, 0, &in));
	ok(kernel_splice_steer(fx.k, UPSTREAM, &nobody));
	for (int i = 0; i < 20; i++) { /* one in a hundred is of the control group */
		struct pair p = pair_up("127.0.0.1", fx.port4, fx.worker4, false);

		part(&p);
	}
	assert_in_range(opened(MESH_ACCEL_ENROLLED), before + 14, before + 20);
	assert_left_alone("127.0.0.1", fx.port4, fx.worker4, true, MESH_ACCEL_UNFIT);
}

static void a_workload_can_be_left_to_tcp_at_once(void **state)
{
	struct mesh_accel before, after;
	struct pair p;

	enter("/app");
	meet("127.0.0.1", fx.port4, fx.worker4);
	p = pair_up("127.0.0.1", fx.port4, fx.worker4, false);
	pass_on(p.client, p.server, SMALL);
	ok(kernel_splice_total(fx.k, &before));
	ok(kernel_splice_task(fx.k, APP, true));
	pass_on(p.client, p.server, SMALL);
	pass_on(p.server, p.client, SMALL);
	part(&p);
	ok(kernel_splice_total(fx.k, &after));
	assert_int_equal(after.group[1].redirected - before.group[1].redirected, SMALL);
	assert_int_equal(after.group[1].tcp - before.group[1].tcp, 2 * SMALL);
	assert_left_alone("127.0.0.1", fx.port4, fx.worker4, false, MESH_ACCEL_GROUPS);
}

/* --- who blocks --- */

static void a_caller_that_blocks_stays_with_tcp(void **state)
{
	struct mesh_splice_ctl c = usual;
	uint64_t before;
	struct pair p;

	enter("/app");
	assert_left_alone("127.0.0.1", fx.port4, fx.worker4, true, MESH_ACCEL_UNFIT);
	c.left_out = MESH_COVER_STYLE;
	switch_to(&c);
	before = opened(MESH_ACCEL_ENROLLED);
	p = pair_up("127.0.0.1", fx.port4, fx.worker4, true);
	assert_int_equal(opened(MESH_ACCEL_ENROLLED), before + 1);
	part(&p);
}

/* As libraries do that want a limit of time for connect(): not to block meanwhile says nothing. */
static void a_caller_that_blocks_once_it_is_connected_stays_with_tcp(void **state)
{
	enter("/app");
	for (int i = 0; i < 3; i++) {
		uint64_t before = opened(MESH_ACCEL_UNFIT), redirected, tcp;
		struct pair p = pair_up("127.0.0.1", fx.port4, fx.worker4, false);

		assert_int_equal(opened(MESH_ACCEL_UNFIT), before + 1);
		set_blocking(p.client, true);
		talk(&p, 2, &redirected, &tcp);
	}
}

/* A program that does both. */
static void a_caller_that_comes_to_block_is_not_enrolled_again(void **state)
{
	uint64_t redirected, tcp;
	struct pair p;

	enter("/app");
	meet("127.0.0.1", fx.port4, fx.worker4);
	assert_left_alone("127.0.0.1", fx.port4, fx.worker4, true, MESH_ACCEL_UNFIT);
	p = pair_up("127.0.0.1", fx.port4, fx.worker4, false);
	set_blocking(p.client, true);
	talk(&p, 2, &redirected, &tcp);
	assert_left_alone("127.0.0.1", fx.port4, fx.worker4, false, MESH_ACCEL_UNFIT);
}

static void a_callee_that_blocks_is_never_enrolled(void **state)
{
	enter("/other");
	for (int i = 0; i < 3; i++) {
		uint64_t before = opened(MESH_ACCEL_UNFIT), redirected, tcp;
		struct pair p = pair_up("127.0.0.1", fx.port4, fx.server4, false);

		assert_int_equal(opened(MESH_ACCEL_UNFIT), before + 1);
		set_blocking(p.server, true);
		talk(&p, 2, &redirected, &tcp);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(a_caller_and_a_worker_skip_tcp, splice_setup),
		cmocka_unit_test_setup(a_worker_and_an_endpoint_skip_tcp, splice_setup),
		cmocka_unit_test_setup(strangers_are_left_alone, splice_setup),
		cmocka_unit_test_setup(who_shares_the_workers_cgroup_is_left_alone, splice_setup),
		cmocka_unit_test_setup(off_enrolls_nobody, splice_setup),
		cmocka_unit_test_setup(who_is_held_back_is_counted_as_control, splice_setup),
		cmocka_unit_test_setup(brief_connections_are_held_back_until_others_come,
				       splice_setup),
		cmocka_unit_test_setup(nothing_of_another_upstream_holds_for_the_next,
				       splice_setup),
		cmocka_unit_test_setup(a_long_connection_is_heard_before_its_end, splice_setup),
		cmocka_unit_test_setup(a_service_can_opt_out_and_in, splice_setup),
		cmocka_unit_test_setup(a_workload_can_be_left_to_tcp_at_once, splice_setup),
		cmocka_unit_test_setup(a_caller_that_blocks_stays_with_tcp, splice_setup),
		cmocka_unit_test_setup(a_caller_that_blocks_once_it_is_connected_stays_with_tcp,
				       splice_setup),
		cmocka_unit_test_setup(a_caller_that_comes_to_block_is_not_enrolled_again,
				       splice_setup),
		cmocka_unit_test_setup(a_callee_that_blocks_is_never_enrolled, splice_setup),
	};

	return cmocka_run_group_tests(tests, group_setup, fixture_teardown);
}
