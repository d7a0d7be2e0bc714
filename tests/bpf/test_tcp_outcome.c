/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel learns from the connections that it sends to endpoints. */
#include "tests/bpf/tcp_rig.h"

/* --- passive health --- */

static void refused_connects_count_until_one_succeeds(void **state)
{
	int fd, accepted;

	serve_one();
	stop_serving(0);
	enter("/app");
	for (uint32_t i = 1; i <= 3; i++) {
		assert_int_equal(dial(ASKED), -ECONNREFUSED);
		assert_int_equal(in_a_row(0), i);
		assert_tally(endpoint_tally(0), i, i);
		assert_tally(service_tally(), i, i);
	}
	assert_true(mesh_ewma_read(arrays->ep_stats[0].ewma, clock_mono_ns()) > 90000000);
	serve_again(0);
	fd = dial(ASKED);
	assert_true(fd >= 0);
	assert_int_equal(in_a_row(0), 0);
	assert_tally(endpoint_tally(0), 4, 3);
	assert_tally(service_tally(), 4, 3);
	who_has(&accepted);
	close(fd);
	close(accepted);
	eventually(!open_at(0));
	assert_tally(service_tally(), 4, 3);
}

static void reset_before_the_first_byte_turns_good_into_failed(void **state)
{
	serve_one();
	enter("/app");
	for (uint32_t i = 1; i <= 3; i++) {
		int fd = dial(ASKED), accepted;
		char c;

		assert_true(fd >= 0);
		who_has(&accepted);
		reset(accepted);
		assert_int_equal(read(fd, &c, 1), -1);
		close(fd);
		eventually(!open_at(0));
		assert_int_equal(in_a_row(0), i);
		assert_tally(endpoint_tally(0), i, i);
		assert_tally(service_tally(), i, i);
	}
}

static void reset_in_the_middle_is_the_endpoints_alone(void **state)
{
	int fd, accepted;
	char c;

	serve_one();
	enter("/app");
	fd = dial(ASKED);
	who_has(&accepted);
	assert_int_equal(write(accepted, "x", 1), 1);
	assert_int_equal(read(fd, &c, 1), 1);
	reset(accepted);
	assert_int_equal(read(fd, &c, 1), -1);
	close(fd);
	eventually(!open_at(0));
	assert_int_equal(in_a_row(0), 1);
	assert_tally(endpoint_tally(0), 1, 1);
	assert_tally(service_tally(), 1, 0);
}

static void reset_by_the_caller_says_nothing(void **state)
{
	int fd, accepted;

	serve_one();
	enter("/app");
	fd = dial(ASKED);
	who_has(&accepted);
	reset(fd);
	eventually(!open_at(0));
	close(accepted);
	assert_int_equal(in_a_row(0), 0);
	assert_tally(endpoint_tally(0), 1, 0);
}

static void connect_given_up_counts_as_failed_when_it_took_long(void **state)
{
	int filler[2], error, fd;

	serve_one();
	go_deaf(0, filler);
	fd = dial_nonblocking(&error);
	assert_int_equal(error, -EINPROGRESS);
	assert_int_equal(open_at(0), 1);
	close(fd);
	assert_int_equal(open_at(0), 0);
	assert_tally(endpoint_tally(0), 0, 0);
	rig.service.connect_ms = 30;
	put_service();
	fd = dial_nonblocking(&error);
	usleep(50000); /* what is measured is that time */
	close(fd);
	assert_tally(endpoint_tally(0), 1, 1);
	assert_tally(service_tally(), 1, 1);
	assert_int_equal(in_a_row(0), 1);
	hear_again(0, filler);
}

/* --- other namespaces --- */

#define ABROAD (fx.netns + 1)

/* Endpoint 0 is here, 1 elsewhere, at `ip`. */
static void serve_here_and_abroad(const char *ip)
{
	const uint16_t ids[] = {0, 1};

	serve(0, "127.0.0.1", MESH_EP_LOOPBACK);
	serve(1, OUTER, 0);
	put_endpoint(1, ip, rig.port[1], 0, ABROAD);
	put_slots(SUBSET, ids + 1, 1);
	enter("/app");
}

static void namespace_that_no_route_leads_to_is_left_to_a_worker(void **state)
{
	const uint16_t ids[] = {0, 1};
	uint32_t got[ENDPOINTS];
	int fd;

	serve_here_and_abroad("172.31.0.1");
	assert_int_equal(dial(ASKED), -ENETUNREACH);
	arrays->beats->worker[0] = clock_mono_ns() + 3600 * 1000000000ULL;
	fd = dial(ASKED);
	assert_true(fd >= 0);
	came_to(fx.worker4);
	close(fd);
	put_slots(SUBSET, ids, 2);
	spread(50, got);
	assert_int_equal(got[0], 50);
	assert_tally(endpoint_tally(1), 0, 0);
}

static void namespace_is_blamed_only_once_it_was_reached(void **state)
{
	int filler[2], error, fd, accepted;

	rig.service.connect_ms = 30;
	put_service();
	serve_here_and_abroad(OUTER);
	put_endpoint(1, OUTER, rig.port[1], 0, ABROAD + 1);
	go_deaf(1, filler);
	fd = dial_nonblocking(&error);
	assert_int_equal(error, -EINPROGRESS);
	usleep(50000); /* what is measured is that time */
	close(fd);
	assert_tally(endpoint_tally(1), 0, 0);
	assert_tally(service_tally(), 0, 0);
	hear_again(1, filler);
	/* a namespace that answers: here another one, since the first is not tried again so soon */
	put_endpoint(1, OUTER, rig.port[1], 0, ABROAD + 2);
	fd = dial(ASKED);
	assert_true(fd >= 0);
	who_has(&accepted);
	close(fd);
	close(accepted);
	go_deaf(1, filler);
	fd = dial_nonblocking(&error);
	usleep(50000);
	close(fd);
	assert_tally(endpoint_tally(1), 2, 1);
	assert_tally(service_tally(), 2, 1);
	hear_again(1, filler);
}

/* Only who is reached refuses. */
static void namespace_that_refuses_is_blamed(void **state)
{
	serve_here_and_abroad(OUTER);
	put_endpoint(1, OUTER, rig.port[1], 0, ABROAD + 4);
	stop_serving(1);
	for (uint32_t i = 1; i <= 2; i++) {
		assert_int_equal(dial(ASKED), -ECONNREFUSED);
		assert_int_equal(in_a_row(1), i);
		assert_tally(endpoint_tally(1), i, i);
		assert_tally(service_tally(), i, i);
	}
}

static void one_given_up_early_lets_the_next_try(void **state)
{
	int filler[2], error, fd;

	serve_here_and_abroad(OUTER);
	put_endpoint(1, OUTER, rig.port[1], 0, ABROAD + 3);
	go_deaf(1, filler);
	fd = dial_nonblocking(&error);
	assert_int_equal(open_at(1), 1);
	close(dial_nonblocking(&error)); /* meanwhile nobody else: it passes, there is no worker */
	assert_int_equal(open_at(1), 1);
	close(fd);
	fd = dial_nonblocking(&error);
	assert_int_equal(open_at(1), 1);
	close(fd);
	hear_again(1, filler);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(refused_connects_count_until_one_succeeds),
		T(reset_before_the_first_byte_turns_good_into_failed),
		T(reset_in_the_middle_is_the_endpoints_alone),
		T(reset_by_the_caller_says_nothing),
		T(connect_given_up_counts_as_failed_when_it_took_long),
		T(namespace_that_no_route_leads_to_is_left_to_a_worker),
		T(namespace_is_blamed_only_once_it_was_reached),
		T(namespace_that_refuses_is_blamed),
		T(one_given_up_early_lets_the_next_try),
	};

	return cmocka_run_group_tests_name("tcp outcome", tests, group_setup, fixture_teardown);
}
