/* SPDX-License-Identifier: Apache-2.0 */
/* A directory for telemetry.db, on top of red_model.h, and a model that knows nothing yet. Header
 * only. */
#ifndef TESTS_RED_RIG_H
#define TESTS_RED_RIG_H

#include "tests/unit/red_model.h"

#define START_S 1763868000ull

static struct test_dir dir;

static inline int setup(void **state)
{
	(void)state;
	test_dir_make(&dir);
	model.n = 0;
	model.random = 42;
	return 0;
}

static inline int teardown(void **state)
{
	(void)state;
	test_dir_remove(&dir);
	return 0;
}

/* As after a start, whatever is there. */
static inline struct red *open_red(uint64_t now_ms)
{
	struct red *r;

	assert_int_equal(red_new(dir.path, now_ms, &r), 0);
	return r;
}

#define RED_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

#endif
