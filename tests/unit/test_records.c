/* SPDX-License-Identifier: Apache-2.0 */
/* Records in shared memory: written only when they change, since whoever reads a half written one
 * finds nobody. */
#include "agent/proxy/shared.h"
#include "agent/records.h"

#include <errno.h>
#include <mesh/alive.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
/* after the types that it needs */
#include <cmocka.h>

static struct mesh_endpoint there[2]; /* as workers see them */
static struct mesh_upstream up[1];
static const struct shared shared = {.endpoints = there, .upstreams = up};

/* One that listens on so many sockets, on all of which it stands. */
static struct mesh_endpoint an_endpoint(uint32_t sockets)
{
	struct mesh_endpoint e = {.gen = 1,
				  .flags = MESH_EP_USED | sockets << 16,
				  .service = 3,
				  .port = 80,
				  .weight = 100,
				  .id = "web-1"};

	records_put_endpoint(&there[0], &e, true);
	for (uint32_t i = 0; i < sockets; i++)
		there[0].flags = mesh_alive_more(there[0].flags);
	return e;
}

static int clear(void **state)
{
	(void)state;
	memset(there, 0, sizeof(there));
	memset(up, 0, sizeof(up));
	return 0;
}

static void a_fresh_endpoint_stands_on_nothing_yet(void **state)
{
	struct mesh_endpoint e = {.gen = 2, .flags = MESH_EP_USED | 5u << 16}, out;

	(void)state;
	there[0] = (struct mesh_endpoint){.seq = 8, .gen = 1, .flags = MESH_EP_USED | 7u << 16};
	records_put_endpoint(&there[0], &e, true);
	assert_int_equal(there[0].seq, 10);
	assert_true(shared_endpoint(&shared, 0, &out));
	assert_int_equal(out.gen, 2);
	assert_int_equal(out.flags, MESH_EP_USED);
}

static void what_says_the_same_is_left_alone(void **state)
{
	struct mesh_endpoint e = an_endpoint(2), before = there[0];

	(void)state;
	records_put_endpoint(&there[0], &e, false);
	assert_memory_equal(&there[0], &before, sizeof(before));
	assert_int_equal(before.seq, 2);
}

/* They are one word: whoever reads has those before or those after. */
static void flags_change_without_a_gap(void **state)
{
	struct mesh_endpoint e = an_endpoint(2);

	(void)state;
	e.flags |= MESH_EP_DRAINING;
	records_put_endpoint(&there[0], &e, false);
	assert_int_equal(there[0].seq, 2);
	assert_int_equal(there[0].flags,
			 MESH_EP_USED | MESH_EP_ALIVE | MESH_EP_DRAINING | 2u << 16);
}

static void whatever_else_changes_is_written(void **state)
{
	struct mesh_endpoint e = an_endpoint(1), out;

	(void)state;
	e.gen++;
	records_put_endpoint(&there[0], &e, false);
	assert_int_equal(there[0].seq, 4);
	e.weight = 7; /* behind the flags */
	records_put_endpoint(&there[0], &e, false);
	assert_int_equal(there[0].seq, 6);
	assert_true(shared_endpoint(&shared, 0, &out));
	assert_int_equal(out.gen, 2);
	assert_int_equal(out.weight, 7);
	assert_true(out.flags & MESH_EP_ALIVE);
}

static void one_that_a_writer_died_in_is_absent_until_it_is_written_again(void **state)
{
	struct mesh_endpoint e = an_endpoint(1), out;

	(void)state;
	there[0].seq |= 1;
	assert_false(shared_endpoint(&shared, 0, &out));
	records_put_endpoint(&there[0], &e, false);
	assert_int_equal(there[0].seq, 4);
	assert_true(shared_endpoint(&shared, 0, &out));
}

static void upstreams_are_written_when_they_change(void **state)
{
	struct mesh_upstream u = {.service = 3, .nsplit = 1}, out;

	(void)state;
	assert_false(shared_upstream(&shared, 0, &out));
	records_put_upstream(&up[0], &u);
	records_put_upstream(&up[0], &u);
	assert_int_equal(up[0].seq, 2);
	u.primary = 1;
	records_put_upstream(&up[0], &u);
	assert_int_equal(up[0].seq, 4);
	up[0].seq |= 1;
	assert_false(shared_upstream(&shared, 0, &out));
	records_put_upstream(&up[0], &u);
	assert_true(shared_upstream(&shared, 0, &out));
	assert_int_equal(out.primary, 1);
}

/* One that was never used, and is to say so. */
static void an_empty_record_is_written_once(void **state)
{
	const struct mesh_upstream none = {.service = MESH_NONE};
	const struct mesh_endpoint nobody = {0};

	(void)state;
	records_put_upstream(&up[0], &none);
	records_put_endpoint(&there[1], &nobody, false);
	assert_int_equal(up[0].seq, 2);
	assert_int_equal(there[1].seq, 2);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup(name, clear)
	const struct CMUnitTest tests[] = {
		T(a_fresh_endpoint_stands_on_nothing_yet),
		T(what_says_the_same_is_left_alone),
		T(flags_change_without_a_gap),
		T(whatever_else_changes_is_written),
		T(one_that_a_writer_died_in_is_absent_until_it_is_written_again),
		T(upstreams_are_written_when_they_change),
		T(an_empty_record_is_written_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
