/* SPDX-License-Identifier: Apache-2.0 */
/* Cgroups of instances, on a real cgroup2: below a directory of this test's own, nothing is
 * attached to it. */
#include "ctl/meshctl/run_cgroup.h"
#include "lib/cgroup.h"
#include "lib/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cmocka.h>

static char root[PATH_MAX];

static int make_root(void **state)
{
	char mount[PATH_MAX - 64];

	if (cgroup_root(mount, sizeof(mount)))
		return 0;
	snprintf(root, sizeof(root), "%s/meshctl-test-%d", mount, getpid());
	if (mkdir(root, 0755))
		root[0] = '\0';
	return 0;
}

static int remove_root(void **state)
{
	return root[0] ? rmdir(root) : 0;
}

static void need_root(void)
{
	if (root[0])
		return;
	print_message("skipped: no cgroup can be made here (needs root and a cgroup2)\n");
	skip();
}

static bool exists(const char *below)
{
	char path[PATH_MAX + 64];

	snprintf(path, sizeof(path), "%s%s", root, below);
	return !access(path, F_OK);
}

/* A process in the cgroup that ignores what can be ignored, and waits. */
static pid_t lodger(const char *path)
{
	char procs[PATH_MAX + 32], byte;
	int ready[2];
	pid_t pid;

	assert_int_equal(pipe(ready), 0);
	snprintf(procs, sizeof(procs), "%s/cgroup.procs", path);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		int fd = open(procs, O_WRONLY);

		signal(SIGTERM, SIG_IGN);
		if (fd < 0 || write(fd, "0", 1) != 1 || write(ready[1], "x", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	return pid;
}

static void names_that_the_kernel_keeps_are_no_instances(void **state)
{
	assert_true(run_cgroup_name_valid("web-1"));
	assert_true(run_cgroup_name_valid("cgroup"));
	assert_false(run_cgroup_name_valid("cgroup.procs"));
	assert_false(run_cgroup_name_valid(".."));
}

static void what_is_made_is_removed_with_its_parents(void **state)
{
	struct run_cgroup c;

	need_root();
	assert_int_equal(run_cgroup_create(&c, root, "web", "web-1"), 0);
	assert_true(exists("/mesh/web/web-1/cgroup.procs"));
	assert_int_equal(run_cgroup_destroy(&c), 0);
	assert_false(exists("/mesh"));
	assert_int_equal(run_cgroup_destroy(&c), 0);
}

static void parents_stay_while_another_instance_needs_them(void **state)
{
	struct run_cgroup a, b;

	need_root();
	assert_int_equal(run_cgroup_create(&a, root, "web", "a"), 0);
	assert_int_equal(run_cgroup_create(&b, root, "web", "b"), 0);
	assert_int_equal(run_cgroup_destroy(&a), 0);
	assert_false(exists("/mesh/web/a"));
	assert_true(exists("/mesh/web/b"));
	assert_int_equal(run_cgroup_destroy(&b), 0);
	assert_false(exists("/mesh"));
}

static void a_name_runs_once(void **state)
{
	struct run_cgroup a, b;

	need_root();
	assert_int_equal(run_cgroup_create(&a, root, "web", "a"), 0);
	assert_int_equal(run_cgroup_create(&b, root, "web", "a"), -EBUSY);
	assert_int_equal(run_cgroup_destroy(&b), 0);
	assert_true(exists("/mesh/web/a"));
	assert_int_equal(run_cgroup_destroy(&a), 0);
}

static void what_is_left_over_is_taken_down_and_made_anew(void **state)
{
	struct run_cgroup a, b;
	char nested[PATH_MAX + 16];
	uint64_t before, after;

	need_root();
	assert_int_equal(run_cgroup_create(&a, root, "web", "a"), 0);
	assert_int_equal(cgroup_id(a.path, &before), 0);
	snprintf(nested, sizeof(nested), "%s/nested", a.path);
	assert_int_equal(mkdir(nested, 0755), 0);
	close(a.fd); /* as if its owner had been killed */
	assert_int_equal(run_cgroup_create(&b, root, "web", "a"), 0);
	assert_int_equal(cgroup_id(b.path, &after), 0);
	assert_int_not_equal(before, after);
	assert_int_equal(run_cgroup_destroy(&b), 0);
	assert_false(exists("/mesh"));
}

static void a_name_whose_processes_still_run_is_busy(void **state)
{
	struct run_cgroup a, b;
	pid_t pid;

	need_root();
	assert_int_equal(run_cgroup_create(&a, root, "web", "a"), 0);
	pid = lodger(a.path);
	close(a.fd);
	assert_int_equal(run_cgroup_create(&b, root, "web", "a"), -EBUSY);
	a.fd = open(a.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(run_cgroup_destroy(&a), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void what_runs_in_it_or_below_ends_with_it(void **state)
{
	struct run_cgroup c;
	char nested[PATH_MAX + 16];
	pid_t pids[2];
	int status;

	need_root();
	assert_int_equal(run_cgroup_create(&c, root, "web", "a"), 0);
	snprintf(nested, sizeof(nested), "%s/deep", c.path);
	assert_int_equal(mkdir(nested, 0755), 0);
	pids[0] = lodger(c.path);
	pids[1] = lodger(nested);
	assert_int_equal(run_cgroup_destroy(&c), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_true(WIFSIGNALED(status));
		assert_int_equal(WTERMSIG(status), SIGKILL);
	}
	assert_false(exists("/mesh"));
}

static void only_a_cgroup_will_do(void **state)
{
	struct run_cgroup c;

	assert_int_equal(run_cgroup_create(&c, "/proc", "web", "a"), -EINVAL);
	assert_int_equal(run_cgroup_create(&c, "/nowhere", "web", "a"), -EINVAL);
	assert_int_equal(run_cgroup_destroy(&c), 0);
}

/* Many at once, all of the same service: parents appear and vanish under each other's feet. */
static void many_come_and_go_at_once(void **state)
{
	enum { PROCESSES = 8, ROUNDS = 50 };
	pid_t pids[PROCESSES];
	int status;

	need_root();
	for (int p = 0; p < PROCESSES; p++) {
		pids[p] = fork();
		if (pids[p])
			continue;
		for (int i = 0; i < ROUNDS; i++) {
			struct run_cgroup c;
			char name[16];

			snprintf(name, sizeof(name), "i%d", p);
			if (run_cgroup_create(&c, root, "web", name) || run_cgroup_destroy(&c))
				_exit(1);
		}
		_exit(0);
	}
	for (int p = 0; p < PROCESSES; p++) {
		assert_int_equal(waitpid(pids[p], &status, 0), pids[p]);
		assert_int_equal(status, 0);
	}
	assert_false(exists("/mesh"));
}

static void the_agents_mark_is_seen_at_once_or_waited_for(void **state)
{
	struct run_cgroup c;
	pid_t pid;
	int status;

	need_root();
	assert_int_equal(run_cgroup_create(&c, root, "web", "a"), 0);
	assert_int_equal(run_cgroup_wait_ready(c.path, 1), -ETIMEDOUT);
	pid = fork();
	if (!pid)
		_exit(run_cgroup_wait_ready(c.path, 10000) ? 1 : 0);
	assert_int_equal(setxattr(c.path, RUN_READY_ATTR, "1", 1, 0), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(run_cgroup_wait_ready(c.path, 0), 0);
	assert_int_equal(removexattr(c.path, RUN_READY_ATTR), 0);
	assert_int_equal(run_cgroup_wait_ready(c.path, 0), -ETIMEDOUT);
	assert_int_equal(run_cgroup_destroy(&c), 0);
}

static void a_program_knows_that_it_runs_in_an_instance(void **state)
{
	struct run_cgroup c;
	char procs[PATH_MAX + 32];
	int status = 0;
	pid_t pid;

	need_root();
	assert_false(run_cgroup_inside("web", "a"));
	assert_int_equal(run_cgroup_create(&c, root, "web", "a"), 0);
	snprintf(procs, sizeof(procs), "%s/cgroup.procs", c.path);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		int fd = open(procs, O_WRONLY);

		_exit(fd < 0 || write(fd, "0", 1) != 1 || !run_cgroup_inside("web", "a") ||
		      run_cgroup_inside("web", "b") || run_cgroup_inside("we", "b") ||
		      run_cgroup_inside("web", ""));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(run_cgroup_destroy(&c), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_that_the_kernel_keeps_are_no_instances),
		cmocka_unit_test(what_is_made_is_removed_with_its_parents),
		cmocka_unit_test(parents_stay_while_another_instance_needs_them),
		cmocka_unit_test(a_name_runs_once),
		cmocka_unit_test(what_is_left_over_is_taken_down_and_made_anew),
		cmocka_unit_test(a_name_whose_processes_still_run_is_busy),
		cmocka_unit_test(what_runs_in_it_or_below_ends_with_it),
		cmocka_unit_test(only_a_cgroup_will_do),
		cmocka_unit_test(a_program_knows_that_it_runs_in_an_instance),
		cmocka_unit_test(many_come_and_go_at_once),
		cmocka_unit_test(the_agents_mark_is_seen_at_once_or_waited_for),
	};

	return cmocka_run_group_tests_name("meshctl run", tests, make_root, remove_root);
}
