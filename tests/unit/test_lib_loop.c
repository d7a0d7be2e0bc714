/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lib/loop: timers are never early and at most a tick late, also beyond one turn of the wheel;
 * handlers may cancel, re-arm and free anything, themselves included; events of a watch that is
 * gone are not delivered.
 */
#include "lib/clock.h"
#include "lib/loop.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

struct probe {
	struct timer timer;
	struct loop *loop;
	struct probe *other;
	int fired, again;
	uint64_t at_ns;
};

static int setup(void **state)
{
	struct loop *l = malloc(sizeof(*l));

	assert_non_null(l);
	assert_int_equal(loop_init(l), 0);
	*state = l;
	return 0;
}

static int teardown(void **state)
{
	loop_done(*state);
	free(*state);
	return 0;
}

static void run_for(struct loop *l, unsigned ms)
{
	uint64_t end = clock_mono_ns() + ms * 1000000ull;

	while (clock_mono_ns() < end)
		assert_int_equal(loop_once(l, 2), 0);
}

static void fired(struct timer *t)
{
	struct probe *p = (struct probe *)t;

	p->fired++;
	p->at_ns = clock_mono_ns();
	if (p->again-- > 0)
		timer_arm(p->loop, t, 0, fired);
}

static void timer_is_never_early(void **state)
{
	struct probe p[40] = {0};
	struct loop *l = *state;
	uint64_t start = clock_mono_ns();

	l->now_ns = start;
	for (unsigned i = 0; i < 40; i++)
		timer_arm(l, &p[i].timer, i, fired);
	assert_int_equal(l->armed, 40);
	while (l->armed)
		assert_int_equal(loop_once(l, -1), 0);
	for (unsigned i = 0; i < 40; i++) {
		assert_int_equal(p[i].fired, 1);
		assert_true(p[i].at_ns - start >= i * 1000000ull);
	}
}

/* The clock is set by hand: one turn of the wheel takes eight seconds. */
static void advance(struct loop *l, uint64_t ms)
{
	uint64_t fake = l->now_ns - ms * 1000000;

	/* the same as if `ms` had passed: everything recorded so far moves into the past */
	l->tick -= ms / LOOP_TICK_MS;
	for (unsigned i = 0; i < LOOP_WHEEL; i++)
		for (struct timer *t = l->wheel[i]; t; t = t->next)
			t->when_ms -= ms;
	l->now_ns = fake;
	assert_int_equal(loop_once(l, 0), 0);
}

static void timer_beyond_one_turn_waits_for_its_turn(void **state)
{
	const uint64_t turn = LOOP_WHEEL * LOOP_TICK_MS;
	struct loop *l = *state;
	struct probe p = {0};

	assert_int_equal(loop_once(l, 0), 0);
	timer_arm(l, &p.timer, 2 * turn + 100, fired);
	advance(l, turn);
	assert_int_equal(p.fired, 0);
	advance(l, turn);
	assert_int_equal(p.fired, 0);
	run_for(l, 130);
	assert_int_equal(p.fired, 1);
	assert_int_equal(l->armed, 0);
}

static void timers_fire_after_a_pause_longer_than_the_wheel(void **state)
{
	struct loop *l = *state;
	struct probe p[3] = {0};

	assert_int_equal(loop_once(l, 0), 0);
	timer_arm(l, &p[0].timer, 10, fired);
	timer_arm(l, &p[1].timer, 8000, fired);
	timer_arm(l, &p[2].timer, 100000, fired);
	advance(l, 3 * LOOP_WHEEL * LOOP_TICK_MS);
	assert_int_equal(p[0].fired, 1);
	assert_int_equal(p[1].fired, 1);
	assert_int_equal(p[2].fired, 0);
}

static void rearmed_timer_fires_once_at_the_new_time(void **state)
{
	struct loop *l = *state;
	struct probe p = {0};
	uint64_t start = clock_mono_ns();

	l->now_ns = start;
	timer_arm(l, &p.timer, 1, fired);
	timer_arm(l, &p.timer, 60, fired);
	assert_int_equal(l->armed, 1);
	run_for(l, 90);
	assert_int_equal(p.fired, 1);
	assert_true(p.at_ns - start >= 60000000);
}

static void cancelled_timer_stays_silent(void **state)
{
	struct loop *l = *state;
	struct probe p = {0};

	timer_cancel(l, &p.timer);
	timer_arm(l, &p.timer, 5, fired);
	timer_cancel(l, &p.timer);
	timer_cancel(l, &p.timer);
	assert_int_equal(l->armed, 0);
	run_for(l, 30);
	assert_int_equal(p.fired, 0);
}

static void cancel_other(struct timer *t)
{
	struct probe *p = (struct probe *)t;

	p->fired++;
	timer_cancel(p->loop, &p->other->timer);
}

static void handler_cancels_a_timer_of_the_same_slot(void **state)
{
	struct loop *l = *state;
	struct probe a = {.loop = l}, b = {.loop = l, .other = &a}, c = {.loop = l};

	a.other = &b;
	timer_arm(l, &a.timer, 3, cancel_other);
	timer_arm(l, &c.timer, 3, fired);
	timer_arm(l, &b.timer, 3, cancel_other);
	run_for(l, 30);
	assert_int_equal(a.fired + b.fired, 1);
	assert_int_equal(c.fired, 1);
	assert_int_equal(l->armed, 0);
}

static void handler_that_rearms_at_once_does_not_starve_the_loop(void **state)
{
	struct loop *l = *state;
	struct probe p = {.loop = l, .again = 3};

	timer_arm(l, &p.timer, 0, fired);
	while (l->armed)
		assert_int_equal(loop_once(l, -1), 0);
	assert_int_equal(p.fired, 4);
}

static void free_self(struct timer *t)
{
	((struct probe *)t)->other->fired++;
	free(t);
}

static void handler_frees_its_own_timer(void **state)
{
	struct probe keep = {0}, *p = calloc(1, sizeof(*p));
	struct loop *l = *state;

	assert_non_null(p);
	p->other = &keep;
	timer_arm(l, &p->timer, 2, free_self);
	run_for(l, 30);
	assert_int_equal(keep.fired, 1);
}

struct end {
	struct watch watch;
	struct loop *loop;
	struct end *other;
	int fds[2], events;
};

static void end_open(struct end *e, struct loop *l, void (*fn)(struct watch *, uint32_t))
{
	e->loop = l;
	e->events = 0;
	assert_int_equal(pipe(e->fds), 0);
	assert_int_equal(loop_add(l, &e->watch, e->fds[0], EPOLLIN, fn), 0);
}

static void end_close(struct end *e)
{
	loop_del(e->loop, &e->watch);
	close(e->fds[0]);
	close(e->fds[1]);
}

static void readable(struct watch *w, uint32_t events)
{
	struct end *e = (struct end *)w;
	char byte;

	assert_true(events & EPOLLIN);
	assert_int_equal(read(w->fd, &byte, 1), 1);
	e->events++;
}

/* A wait without end that ends at once; timers that are far are no reason to set the alarm anew. */
static void round_with_an_event(struct loop *l, struct end *e)
{
	assert_int_equal(write(e->fds[1], "x", 1), 1);
	assert_int_equal(loop_once(l, -1), 0);
}

static void alarm_stays_set_over_many_rounds(void **state)
{
	struct loop *l = *state;
	struct probe far = {0}, farther = {0};
	struct end e;
	uint64_t set;

	end_open(&e, l, readable);
	timer_arm(l, &far.timer, 4000, fired);
	round_with_an_event(l, &e);
	set = l->alarm_ms;
	assert_true(set >= far.timer.when_ms);
	timer_arm(l, &farther.timer, 5000, fired);
	timer_cancel(l, &far.timer);
	for (int i = 0; i < 3; i++)
		round_with_an_event(l, &e);
	assert_int_equal(l->alarm_ms, set);
	timer_cancel(l, &farther.timer);
	end_close(&e);
}

static void alarm_is_set_earlier_for_an_earlier_timer(void **state)
{
	struct loop *l = *state;
	struct probe far = {0}, soon = {0};
	struct end e;

	end_open(&e, l, readable);
	timer_arm(l, &far.timer, 7000, fired);
	round_with_an_event(l, &e);
	timer_arm(l, &soon.timer, 20, fired);
	while (!soon.fired)
		assert_int_equal(loop_once(l, -1), 0);
	assert_int_equal(far.fired, 0);
	timer_cancel(l, &far.timer);
	end_close(&e);
}

static void alarm_rings_in_vain_for_a_cancelled_timer_and_then_for_the_next(void **state)
{
	struct loop *l = *state;
	struct probe gone = {0}, next = {0};
	struct end e;

	end_open(&e, l, readable);
	timer_arm(l, &gone.timer, 20, fired);
	round_with_an_event(l, &e);
	timer_cancel(l, &gone.timer);
	timer_arm(l, &next.timer, 100, fired);
	while (!next.fired)
		assert_int_equal(loop_once(l, -1), 0);
	assert_int_equal(gone.fired, 0);
	end_close(&e);
}

static void delete_other(struct watch *w, uint32_t events)
{
	struct end *e = (struct end *)w;

	readable(w, events);
	loop_del(e->loop, &e->other->watch);
}

static void event_of_a_watch_deleted_in_the_same_round_is_not_delivered(void **state)
{
	struct loop *l = *state;
	struct end a, b;

	end_open(&a, l, delete_other);
	end_open(&b, l, delete_other);
	a.other = &b;
	b.other = &a;
	assert_int_equal(write(a.fds[1], "x", 1), 1);
	assert_int_equal(write(b.fds[1], "x", 1), 1);
	assert_int_equal(loop_once(l, 0), 0);
	assert_int_equal(a.events + b.events, 1);
	end_close(&a);
	end_close(&b);
}

static void free_end(struct watch *w, uint32_t events)
{
	struct end *e = (struct end *)w;

	e->other->events++;
	end_close(e);
	free(e);
}

static void handler_frees_its_own_watch(void **state)
{
	struct end keep = {0}, *e = calloc(1, sizeof(*e));
	struct loop *l = *state;

	assert_non_null(e);
	end_open(e, l, free_end);
	e->other = &keep;
	assert_int_equal(write(e->fds[1], "x", 1), 1);
	assert_int_equal(loop_once(l, 0), 0);
	assert_int_equal(loop_once(l, 0), 0);
	assert_int_equal(keep.events, 1);
}

static void modified_watch_follows_its_new_events(void **state)
{
	struct loop *l = *state;
	struct end e;

	end_open(&e, l, readable);
	assert_int_equal(loop_mod(l, &e.watch, 0), 0);
	assert_int_equal(write(e.fds[1], "x", 1), 1);
	assert_int_equal(loop_once(l, 0), 0);
	assert_int_equal(e.events, 0);
	assert_int_equal(loop_mod(l, &e.watch, EPOLLIN), 0);
	assert_int_equal(loop_once(l, 0), 0);
	assert_int_equal(e.events, 1);
	end_close(&e);
	loop_del(l, &e.watch);
}

static void watching_a_closed_descriptor_is_an_error(void **state)
{
	struct watch w = {.fd = -1};

	assert_int_equal(loop_add(*state, &w, 9999, EPOLLIN, readable), -EBADF);
	loop_del(*state, &w);
}

static int rounds;

static void count_round(struct loop *l)
{
	if (++rounds == 3)
		l->stop = true;
}

static void loop_runs_until_it_is_stopped(void **state)
{
	struct loop *l = *state;
	struct probe p = {.loop = l, .again = 1000};

	rounds = 0;
	l->after = count_round;
	timer_arm(l, &p.timer, 0, fired);
	assert_int_equal(loop_run(l), 0);
	assert_int_equal(rounds, 3);
	timer_cancel(l, &p.timer);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(timer_is_never_early),
		TEST(timer_beyond_one_turn_waits_for_its_turn),
		TEST(timers_fire_after_a_pause_longer_than_the_wheel),
		TEST(rearmed_timer_fires_once_at_the_new_time),
		TEST(cancelled_timer_stays_silent),
		TEST(handler_cancels_a_timer_of_the_same_slot),
		TEST(handler_that_rearms_at_once_does_not_starve_the_loop),
		TEST(handler_frees_its_own_timer),
		TEST(alarm_stays_set_over_many_rounds),
		TEST(alarm_is_set_earlier_for_an_earlier_timer),
		TEST(alarm_rings_in_vain_for_a_cancelled_timer_and_then_for_the_next),
		TEST(event_of_a_watch_deleted_in_the_same_round_is_not_delivered),
		TEST(handler_frees_its_own_watch),
		TEST(modified_watch_follows_its_new_events),
		TEST(watching_a_closed_descriptor_is_an_error),
		TEST(loop_runs_until_it_is_stopped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
