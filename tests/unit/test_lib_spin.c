/* SPDX-License-Identifier: Apache-2.0 */
/* lib/spin and its use in lib/loop: hits keep looking cheap, misses make it rare. */
#include "lib/loop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static uint32_t sleeps_until_wanted(struct spin *s)
{
	uint32_t n = 0;

	while (!spin_wanted(s))
		n++;
	return n;
}

static void each_miss_makes_the_rest_longer(void **state)
{
	static const uint32_t rests[] = {4, 16, 64, 256, 1024, 4096, 4096};
	struct spin s = {0};

	for (unsigned i = 0; i < sizeof(rests) / sizeof(*rests); i++) {
		assert_int_equal(sleeps_until_wanted(&s), i ? rests[i - 1] : 0);
		spin_missed(&s);
	}
	assert_int_equal(sleeps_until_wanted(&s), SPIN_REST_MAX);
}

static void hits_are_forgiving(void **state)
{
	struct spin s = {0};

	for (int i = 0; i < 20; i++)
		spin_missed(&s);
	sleeps_until_wanted(&s);
	for (int i = 0; i < 8; i++) {
		assert_true(spin_wanted(&s));
		spin_hit(&s);
	}
	spin_missed(&s);
	assert_int_equal(sleeps_until_wanted(&s), SPIN_REST_MAX >> 8);
}

/* With a fifth of misses it goes on looking more often than not; with a half it all but stops. */
static void a_mixture_settles(void **state)
{
	static const struct {
		uint32_t miss_every, least, most; /* of 1000 occasions */
	} table[] = {{5, 400, 1000}, {2, 0, 100}, {1, 0, 20}};

	for (unsigned i = 0; i < sizeof(table) / sizeof(*table); i++) {
		struct spin s = {0};
		uint32_t looked = 0;

		for (int n = 0; n < 1000; n++) {
			if (!spin_wanted(&s))
				continue;
			if (++looked % table[i].miss_every)
				spin_hit(&s);
			else
				spin_missed(&s);
		}
		assert_in_range(looked, table[i].least, table[i].most);
	}
}

static int ends[2];

static void on_byte(struct watch *w, uint32_t events)
{
	char c;

	assert_true(events & EPOLLIN);
	assert_int_equal(read(w->fd, &c, 1), 1);
}

static void the_loop_looks_and_then_sleeps(void **state)
{
	struct watch w = {.fd = -1};
	struct loop l;

	assert_int_equal(loop_init(&l), 0);
	l.spins = true;
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(loop_add(&l, &w, ends[0], EPOLLIN, on_byte), 0);
	assert_int_equal(loop_once(&l, 1), 0); /* a miss, then a sleep that ends without an event */
	assert_int_equal(l.nready, 0);
	assert_int_equal(l.spin.rest, SPIN_REST_MIN);
	for (int i = 0; i <= SPIN_REST_MIN; i++) { /* resting, then looking: found either way */
		assert_int_equal(write(ends[1], "x", 1), 1);
		assert_int_equal(loop_once(&l, -1), 0);
		assert_int_equal(l.nready, 1);
	}
	assert_int_equal(l.spin.rest, 0);
	assert_int_equal(l.spin.penalty, SPIN_REST_MIN * 4 / 2);
	close(ends[0]);
	close(ends[1]);
	loop_done(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_miss_makes_the_rest_longer),
		cmocka_unit_test(hits_are_forgiving),
		cmocka_unit_test(a_mixture_settles),
		cmocka_unit_test(the_loop_looks_and_then_sleeps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
