/* SPDX-License-Identifier: Apache-2.0 */
/* The tree of cgroups, on plain directories: inotify and names are the same there. */
#include "agent/discovery/cgroups.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
/* after the types that it needs */
#include <cmocka.h>

#define ok(call) assert_int_equal(call, 0)
#define NESTED	 2000 /* as deep as PATH_MAX allows */

static struct loop loop;
static struct cgroups tree;
static char dir[] = "/tmp/cgroups-XXXXXX";
static uint32_t found, gone;

static void on_changed(void *arg, struct cgroup *c)
{
	found++;
}

static void on_gone(void *arg, struct cgroup *c)
{
	gone++;
}

static int make(void **state)
{
	found = gone = 0;
	strcpy(dir, "/tmp/cgroups-XXXXXX");
	tree = (struct cgroups){.changed = on_changed, .gone = on_gone};
	return !mkdtemp(dir) || loop_init(&loop);
}

static int drop(void **state)
{
	loop_done(&loop);
	return rmdir(dir);
}

static void make_dir(const char *name)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	ok(mkdir(path, 0755));
}

static void remove_dir(const char *name)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	ok(rmdir(path));
}

/* a/a/a/...; whoever was given a cgroup of his own may make this. */
static void nest(bool make_them)
{
	char name[2 * NESTED + 1];

	for (int i = 0; i < NESTED; i++)
		memcpy(name + 2 * i, "a/", 3);
	for (int i = 1; i <= NESTED; i++) {
		int depth = make_them ? i : NESTED + 1 - i;

		name[2 * depth - 1] = 0;
		if (make_them)
			make_dir(name);
		else
			remove_dir(name);
		name[2 * depth - 1] = '/';
	}
}

static void thousands_of_levels_are_not_followed(void **state)
{
	nest(true);
	ok(cgroups_init(&tree, &loop, dir));
	assert_int_equal(tree.count, CGROUPS_DEPTH + 1);
	assert_int_equal(found, CGROUPS_DEPTH + 1);
	cgroups_done(&tree);
	assert_int_equal(gone, CGROUPS_DEPTH + 1);
	nest(false);
}

static void what_comes_and_goes_is_seen(void **state)
{
	ok(cgroups_init(&tree, &loop, dir));
	make_dir("one");
	make_dir("one/two");
	cgroups_catch_up(&tree);
	assert_int_equal(tree.count, 3);
	remove_dir("one/two");
	remove_dir("one");
	cgroups_catch_up(&tree);
	assert_int_equal(tree.count, 1);
	cgroups_done(&tree);
}

static void a_name_made_again_is_another_one(void **state)
{
	make_dir("one");
	ok(cgroups_init(&tree, &loop, dir));
	remove_dir("one");
	make_dir("one");
	cgroups_catch_up(&tree);
	assert_int_equal(tree.count, 2);
	assert_int_equal(gone, 1);
	remove_dir("one");
	cgroups_done(&tree);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(thousands_of_levels_are_not_followed, make, drop),
		cmocka_unit_test_setup_teardown(what_comes_and_goes_is_seen, make, drop),
		cmocka_unit_test_setup_teardown(a_name_made_again_is_another_one, make, drop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
