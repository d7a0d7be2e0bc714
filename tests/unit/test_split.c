/* SPDX-License-Identifier: Apache-2.0 */
/* Which version a request goes to: shares, versions that nobody serves, and what happens then. */
#include "agent/proxy/split.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define SUBSETS 8
#define ALL	7 /* the subset of everybody */
#define DRAWS	65536

static _Alignas(8) char tables[SUBSETS * sizeof(struct mesh_slots)];
static struct shared shared = {.slots = (const void *)tables};
static struct mesh_upstream up;
static struct snap_split split;

static void serve(uint32_t subset, bool served)
{
	((struct mesh_slots *)shared_slots(&shared, subset))->n = served;
}

/* Versions 1, 2 and 3 are served by subsets of those numbers; the split is 70, 20, 10. */
static int prepare(void **state)
{
	static const uint32_t weights[] = {700000, 200000, 100000};
	uint32_t sum = 0;

	up = (struct mesh_upstream){.nsplit = 3};
	split.n = 3;
	up.version[0] = ALL;
	serve(ALL, true);
	for (uint32_t v = 1; v < MESH_VERSIONS; v++)
		up.version[v] = v <= 3 ? v : MESH_NONE;
	for (uint32_t i = 0; i < 3; i++) {
		serve(i + 1, true);
		split.to[i].version = i + 1;
		split.to[i].weight = weights[i];
		sum += weights[i];
		up.split[i].subset = i + 1;
		up.split[i].upto = (uint32_t)((uint64_t)sum * 65536 / SNAP_ALL);
	}
	return 0;
}

static const struct snap_split none;

static uint32_t reversed(uint32_t x)
{
	uint32_t r = 0;

	for (int i = 0; i < 16; i++)
		r |= (x >> i & 1) << (15 - i);
	return r;
}

/* Draws evenly over both halves of the word (the points of Hammersley); how many thousandths go
 * where. MESH_NONE is in [SUBSETS]. */
static void shares(const struct snap_split *s, uint32_t fallback, uint32_t out[SUBSETS + 1])
{
	memset(out, 0, (SUBSETS + 1) * sizeof(*out));
	for (uint32_t i = 0; i < DRAWS; i++) {
		uint32_t to = split_choose(&shared, &up, s, fallback, reversed(i) << 16 | i);

		out[to == MESH_NONE ? SUBSETS : to]++;
	}
	for (uint32_t i = 0; i <= SUBSETS; i++)
		out[i] = (out[i] * 1000 + DRAWS / 2) / DRAWS;
}

static void expect(const struct snap_split *s, uint32_t fallback, uint32_t one, uint32_t two,
		   uint32_t three, uint32_t all, uint32_t nobody)
{
	uint32_t got[SUBSETS + 1];

	shares(s, fallback, got);
	assert_in_range(got[1], one ? one - 1 : 0, one + 1);
	assert_in_range(got[2], two ? two - 1 : 0, two + 1);
	assert_in_range(got[3], three ? three - 1 : 0, three + 1);
	assert_in_range(got[ALL], all ? all - 1 : 0, all + 1);
	assert_in_range(got[SUBSETS], nobody ? nobody - 1 : 0, nobody + 1);
}

static void shares_are_those_of_the_split(void **state)
{
	expect(&none, SNAP_FALLBACK_SPLIT, 700, 200, 100, 0, 0);
	expect(&none, SNAP_FALLBACK_NONE, 700, 200, 100, 0, 0);
	expect(&split, SNAP_FALLBACK_SPLIT, 700, 200, 100, 0, 0);
	expect(&split, SNAP_FALLBACK_NONE, 700, 200, 100, 0, 0);
}

static void a_routes_split_goes_before_the_services(void **state)
{
	split.n = 1;
	split.to[0].version = 2;
	split.to[0].weight = SNAP_ALL;
	expect(&split, SNAP_FALLBACK_SPLIT, 0, 1000, 0, 0, 0);
}

static void a_weight_of_nothing_gets_nothing(void **state)
{
	split.to[0].weight = 0;
	split.to[1].weight = 0;
	expect(&split, SNAP_FALLBACK_SPLIT, 0, 0, 1000, 0, 0);
	expect(&split, SNAP_FALLBACK_NONE, 0, 0, 1000, 0, 0);
}

static void who_is_not_served_gives_its_share_to_the_others(void **state)
{
	up.version[1] = MESH_NONE;
	expect(&split, SNAP_FALLBACK_SPLIT, 0, 667, 333, 0, 0);
	expect(&split, SNAP_FALLBACK_NONE, 0, 200, 100, 0, 700);
}

static void a_version_that_takes_no_requests_is_not_served(void **state)
{
	serve(1, false);
	expect(&split, SNAP_FALLBACK_SPLIT, 0, 667, 333, 0, 0);
	expect(&none, SNAP_FALLBACK_SPLIT, 0, 667, 333, 0, 0);
	expect(&none, SNAP_FALLBACK_NONE, 700, 200, 100, 0, 0);
}

static void when_no_version_is_served_everybody_is_asked(void **state)
{
	for (uint32_t i = 1; i <= 3; i++)
		serve(i, false);
	expect(&split, SNAP_FALLBACK_SPLIT, 0, 0, 0, 1000, 0);
	expect(&none, SNAP_FALLBACK_SPLIT, 0, 0, 0, 1000, 0);
	expect(&split, SNAP_FALLBACK_NONE, 700, 200, 100, 0, 0);
}

static void without_endpoints_there_is_nobody(void **state)
{
	up.nsplit = 0;
	expect(&split, SNAP_FALLBACK_SPLIT, 0, 0, 0, 0, 1000);
	expect(&none, SNAP_FALLBACK_SPLIT, 0, 0, 0, 0, 1000);
}

static void a_service_that_wants_no_other_version_gets_none(void **state)
{
	up.split[1].subset = MESH_NONE;
	expect(&none, SNAP_FALLBACK_NONE, 700, 0, 100, 0, 200);
}

static void falling_back_is_to_everybody_once(void **state)
{
	assert_int_equal(split_fall_back(&up, 2, SNAP_FALLBACK_SPLIT), ALL);
	assert_int_equal(split_fall_back(&up, ALL, SNAP_FALLBACK_SPLIT), MESH_NONE);
	assert_int_equal(split_fall_back(&up, 2, SNAP_FALLBACK_NONE), MESH_NONE);
	assert_true(split_holds(&up, 2));
	assert_true(split_holds(&up, ALL));
	assert_false(split_holds(&up, 5));
}

int main(void)
{
#define story(fn) cmocka_unit_test_setup(fn, prepare)
	const struct CMUnitTest tests[] = {
		story(shares_are_those_of_the_split),
		story(a_routes_split_goes_before_the_services),
		story(a_weight_of_nothing_gets_nothing),
		story(who_is_not_served_gives_its_share_to_the_others),
		story(a_version_that_takes_no_requests_is_not_served),
		story(when_no_version_is_served_everybody_is_asked),
		story(without_endpoints_there_is_nobody),
		story(a_service_that_wants_no_other_version_gets_none),
		story(falling_back_is_to_everybody_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
