/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel's word on connections that are too brief to skip TCP: when it comes, when it goes, and
 * that nothing else is in it. */
#include <mesh/brief.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* after the types that it needs */
#include <cmocka.h>

#define NOW_S 1000u

/* How many connections of so many messages it takes from `word` until the answer changes; -1: it
 * does not. */
static int until_other(uint64_t *word, uint64_t messages)
{
	int before = mesh_brief_is(*word, NOW_S);

	for (int n = 1; n < 10000; n++) {
		*word = mesh_brief_add(*word, messages, NOW_S);
		if (mesh_brief_is(*word, NOW_S) != before)
			return n;
	}
	return -1;
}

static void some_dozens_of_requests_say_so(void **state)
{
	uint64_t word = 0;

	assert_false(mesh_brief_is(word, NOW_S));
	assert_in_range(until_other(&word, 2), 32, 64);
	word = 0;
	assert_in_range(until_other(&word, 0), 32, 64);
}

static void who_carries_more_is_never_brief(void **state)
{
	uint64_t word = 0;

	assert_int_equal(until_other(&word, MESH_BRIEF_FEW), -1);
	assert_int_equal(until_other(&word, MESH_BRIEF_FEW + 1), -1);
	assert_int_equal(word, 0);
}

static void one_long_connection_outweighs_the_brief_ones(void **state)
{
	uint64_t word = 0;

	until_other(&word, 2);
	assert_int_equal(until_other(&word, 1024), 1);
	until_other(&word, 2);
	assert_in_range(until_other(&word, 40), 5, 10);
}

/* One in 20 is long: the mean counts, however they are mixed. */
static void the_mean_decides(void **state)
{
	uint64_t few = 0, many = 0;
	int said = 0;

	for (int i = 0; i < 2000; i++) {
		few = mesh_brief_add(few, i % 20 ? 2 : 40, NOW_S);    /* 3.9 */
		many = mesh_brief_add(many, i % 20 ? 2 : 120, NOW_S); /* 7.9 */
		if (i > 1000)
			said += mesh_brief_is(few, NOW_S) - mesh_brief_is(many, NOW_S);
	}
	assert_int_equal(said, 999);
}

static void it_does_not_flap(void **state)
{
	uint64_t word = 0;
	int changes = 0;

	for (int i = 0; i < 100000; i++) {
		uint64_t before = word;

		word = mesh_brief_add(word, i & 1 ? 2 : 2 * MESH_BRIEF_FEW - 2, NOW_S);
		changes += mesh_brief_is(before, NOW_S) != mesh_brief_is(word, NOW_S);
	}
	assert_true(changes <= 1);
}

static void whatever_the_word_it_ends(void **state)
{
	static const uint64_t words[] = {~0ULL, 1ULL << 63, MESH_BRIEF, 0xffffffff, 1ULL << 32};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		uint64_t word = mesh_brief_add(words[i], 2, NOW_S);

		assert_true((uint32_t)word <= MESH_BRIEF_TOP);
		assert_int_equal(word >> 33, NOW_S);
		assert_int_equal(mesh_brief_add(words[i], ~0ULL, NOW_S), 0);
	}
}

static void it_holds_back_no_less_than_the_supervisor(void **state)
{
	uint64_t brief = MESH_BRIEF_AT(NOW_S) | MESH_BRIEF;

	assert_int_equal(mesh_brief_hold_back(0, 10, NOW_S), 10);
	assert_int_equal(mesh_brief_hold_back(brief, 10, NOW_S), MESH_BRIEF_HOLD_BACK);
	assert_int_equal(mesh_brief_hold_back(brief, 990, NOW_S), 990);
	assert_int_equal(mesh_brief_hold_back(brief, 1000, NOW_S), 1000);
}

/* A burst says nothing of who comes later, nor does half of one count for the next. */
static void it_is_forgotten_when_none_come(void **state)
{
	uint64_t word = 0, half;

	until_other(&word, 2);
	assert_true(mesh_brief_is(word, NOW_S + MESH_BRIEF_STALE_S));
	assert_false(mesh_brief_is(word, NOW_S + MESH_BRIEF_STALE_S + 1));
	assert_int_equal(mesh_brief_hold_back(word, 10, NOW_S + MESH_BRIEF_STALE_S + 1), 10);
	half = mesh_brief_add(word, 2, NOW_S + MESH_BRIEF_STALE_S + 1);
	assert_false(mesh_brief_is(half, NOW_S + MESH_BRIEF_STALE_S + 1));
	assert_int_equal((uint32_t)half, MESH_BRIEF_FEW - 2);
	/* and for as long as they come it holds, however long that is */
	for (uint64_t s = NOW_S; s < NOW_S + 500; s += MESH_BRIEF_STALE_S) {
		assert_true(mesh_brief_is(word, s));
		word = mesh_brief_add(word, 2, s);
	}
}

/* 31 bits of seconds are 68 years, and an overflow is none. */
static void its_clock_may_wrap(void **state)
{
	uint64_t end = 0x7fffffff,
		 word = mesh_brief_add(MESH_BRIEF_AT(end) | MESH_BRIEF | 100, 2, end);

	assert_true(mesh_brief_is(word, end + 3));
	assert_false(mesh_brief_is(word, end + 20));
}

static void large_answers_are_one_message_and_streams_are_many(void **state)
{
	assert_int_equal(mesh_brief_by_tcp(1, 1, 600), 2);
	assert_int_equal(mesh_brief_by_tcp(1, 100, 150000), 2);
	assert_int_equal(mesh_brief_by_tcp(1, 3, 200), 2);
	assert_true(mesh_brief_by_tcp(500, 0, 64 << 20) > 40 * MESH_BRIEF_FEW);
	assert_int_equal(mesh_brief_by_tcp(~0U, ~0U, 0), 2ULL * ~0U);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(some_dozens_of_requests_say_so),
		cmocka_unit_test(who_carries_more_is_never_brief),
		cmocka_unit_test(one_long_connection_outweighs_the_brief_ones),
		cmocka_unit_test(the_mean_decides),
		cmocka_unit_test(it_does_not_flap),
		cmocka_unit_test(whatever_the_word_it_ends),
		cmocka_unit_test(it_is_forgotten_when_none_come),
		cmocka_unit_test(its_clock_may_wrap),
		cmocka_unit_test(it_holds_back_no_less_than_the_supervisor),
		cmocka_unit_test(large_answers_are_one_message_and_streams_are_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
