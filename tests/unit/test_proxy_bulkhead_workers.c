/* SPDX-License-Identifier: Apache-2.0 */
/* The limits of a service hold for all workers together: places are counted over all of them, and
 * what is idle in one is given up for who waits in another. */
#include "bulkhead_rig.h"

#include <sched.h>

/* What is idle in another worker will be given up: it is somebody's who waits. */
static void an_idle_connection_elsewhere_is_a_seat(void **state)
{
	struct rig *rig = *state;
	int c[3], o, o2;

	limits(rig)->connections = 2;
	limits(rig)->pending = 1;
	set(&gauges(rig, 1)->connections, 1);
	two_workers(rig);
	c[0] = rig_connect(rig->gateway_port);
	o = get_accepted(rig, c[0]);
	c[1] = waits(rig, 1);
	c[2] = waits(rig, 2);
	expect_gauge(&gauges(rig, 0)->seats, 3);
	expect_full(rig, asked(rig), 0, MESH_BULKHEAD_PENDING);
	set(&gauges(rig, 1)->connections, 0);
	o2 = rig_accept(rig, 0);
	expect_served(o2, c[1]);
	expect_served(o, c[0]);
	rig_read_until(o2, "\r\n\r\n", text, sizeof(text));
	rig_send(o2, OK200);
	expect_answer(c[2], "200 OK", "x");
	for (unsigned i = 0; i < 3; i++)
		close(c[i]);
	expect_nothing_held(rig);
	close(o);
	close(o2);
}

static void seats_are_counted_over_all_workers(void **state)
{
	struct rig *rig = *state;
	int c, o;

	limits(rig)->connections = limits(rig)->pending = 2;
	set(&gauges(rig, 1)->seats, 3);
	two_workers(rig);
	c = rig_connect(rig->gateway_port);
	o = get_accepted(rig, c);
	expect_full(rig, asked(rig), 0, MESH_BULKHEAD_PENDING);
	expect_served(o, c);
	close(c);
	expect_nothing_held(rig);
	close(o);
}

#define ROUNDS 5000

/* Two that want the last place at the same time, again and again. */
static void contend(struct proxy *p, uint32_t rounds[2], uint32_t got[ROUNDS])
{
	uint32_t id = p->id, other = 1 - id;

	for (uint32_t i = 1; i <= ROUNDS; i++) {
		struct bulkhead_seat seat = {0};

		__atomic_store_n(&rounds[id], 2 * i - 1, __ATOMIC_SEQ_CST);
		while (__atomic_load_n(&rounds[other], __ATOMIC_SEQ_CST) < 2 * i - 1)
			sched_yield();
		if (bulkhead_sit(p, 0, &seat))
			__atomic_fetch_add(&got[i - 1], 1, __ATOMIC_SEQ_CST);
		__atomic_store_n(&rounds[id], 2 * i, __ATOMIC_SEQ_CST);
		while (__atomic_load_n(&rounds[other], __ATOMIC_SEQ_CST) < 2 * i)
			sched_yield();
		bulkhead_rise(p, &seat);
	}
}

static void the_last_seat_is_one_workers(void **state)
{
	struct rig *rig = *state;
	uint32_t *rounds = rig_shared(2 * sizeof(*rounds)),
		 *got = rig_shared(ROUNDS * sizeof(*got));
	struct proxy *p[2];
	int status;
	pid_t child;

	limits(rig)->connections = 1;
	limits(rig)->pending = 0;
	for (uint32_t i = 0; i < 2; i++) {
		p[i] = calloc(1, sizeof(*p[i]));
		assert_non_null(p[i]);
		p[i]->shared = rig->shared;
		p[i]->snapshot = &rig->snapshot->head;
		p[i]->workers = 2;
		p[i]->id = i;
	}
	child = fork();
	assert_true(child >= 0);
	if (!child) {
		contend(p[1], rounds, got);
		_exit(0);
	}
	contend(p[0], rounds, got);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	for (unsigned i = 0; i < ROUNDS; i++)
		assert_int_equal(got[i], 1);
	free(p[0]);
	free(p[1]);
	munmap(rounds, 2 * sizeof(*rounds));
	munmap(got, ROUNDS * sizeof(*got));
}

static void what_another_worker_gives_back_is_noticed(void **state)
{
	struct rig *rig = *state;
	int c, o;

	limits(rig)->connections = limits(rig)->pending = 1;
	two_workers(rig);
	set(&gauges(rig, 1)->connections, 1);
	c = waits(rig, 1);
	set(&gauges(rig, 1)->connections, 0);
	o = rig_accept(rig, 0);
	expect_served(o, c);
	close(c);
	expect_nothing_held(rig);
	close(o);
}

static void nobody_keeps_idle_what_another_worker_waits_for(void **state)
{
	struct rig *rig = *state;
	int c, o;

	limits(rig)->connections = 1;
	two_workers(rig);
	c = rig_connect(rig->gateway_port);
	o = get_accepted(rig, c);
	set(&gauges(rig, 1)->pending, 1);
	expect_served(o, c);
	rig_expect_closed(o);
	close(o);
	set(&gauges(rig, 1)->pending, 0);
	rig_send(c, GET);
	o = rig_accept(rig, 0);
	expect_served(o, c);
	assert_false(is_ready(o));
	set(&gauges(rig, 1)->pending, 1); /* while it is idle, which it may be for a minute */
	rig_expect_closed(o);
	expect_gauge(&gauges(rig, 0)->connections, 0);
	close(o);
	close(c);
}

/* Even when our own wait, too: a share is a share. */
static void workers_take_turns(void **state)
{
	struct rig *rig = *state;
	int c, o, second;

	limits(rig)->connections = 1;
	limits(rig)->pending = 9;
	two_workers(rig);
	c = rig_connect(rig->gateway_port);
	o = get_accepted(rig, c);
	second = waits(rig, 1);
	set(&gauges(rig, 1)->pending, 1);
	expect_served(o, c);
	rig_expect_closed(o);
	close(o);
	o = rig_accept(rig, 0); /* it was not taken */
	expect_served(o, second);
	close(o);
	close(c);
	close(second);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, start, stop)
	const struct CMUnitTest tests[] = {
		T(an_idle_connection_elsewhere_is_a_seat),
		T(seats_are_counted_over_all_workers),
		T(the_last_seat_is_one_workers),
		T(what_another_worker_gives_back_is_noticed),
		T(nobody_keeps_idle_what_another_worker_waits_for),
		T(workers_take_turns),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
