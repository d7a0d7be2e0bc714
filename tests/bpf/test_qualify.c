/* SPDX-License-Identifier: Apache-2.0 */
/* The sandbox of the trials as the agent runs it: what it finds out on this kernel, and that
 * nothing stays behind, however it ends. */
#include "agent/kernel/qualify_sandbox.h"
#include "agent/kernel/trials.h"
#include "lib/cgroup.h"
#include "lib/clock.h"

#include "tests/bpf/kernel_has.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
/* after the types that it needs */
#include <cmocka.h>

#define ok(call)  assert_int_equal(call, 0)
#define NOTICED	  (TRIAL_FOR_SPLICERS | TRIAL_FOR_BLOCKERS)
#define WAIT_MS	  20000
#define BUDGET_MS 5000 /* this machine may be busy */

static char base[PATH_MAX / 2];

/* Directories below the test's cgroup. */
static unsigned cgroups(void)
{
	DIR *d = opendir(base);
	struct dirent *e;
	unsigned n = 0;

	assert_non_null(d);
	while ((e = readdir(d)))
		n += e->d_type == DT_DIR && e->d_name[0] != '.';
	closedir(d);
	return n;
}

static void await(struct sandbox *s, struct qualify_result *q)
{
	struct pollfd p = {.fd = sandbox_fd(s), .events = POLLIN};

	do
		assert_int_equal(poll(&p, 1, WAIT_MS * (int)trial_patience), 1);
	while (!sandbox_take(s, q));
}

static void this_kernel_is_judged(void **state)
{
	static struct qualify_result q;
	char why[QUALIFY_WHY_MAX];
	struct sandbox *s;

	ok(sandbox_start(base, BUDGET_MS * trial_patience, &s));
	await(s, &q);
	sandbox_free(&s);
	assert_string_equal(q.error, "");
	assert_true(q.done);
	for (size_t i = 0; i < trials_count; i++)
		printf("%-16s %-8s %-8s %s\n", trials[i].name,
		       qualify_outcome_name(q.outcome[MESH_SPLICE_REDIRECT][i]),
		       qualify_outcome_name(q.outcome[MESH_SPLICE_VERDICT][i]),
		       q.why[MESH_SPLICE_VERDICT][i]);
	printf("%s, %u ms; %s\n", qualify_mode_name(qualify_choose(&q, NOTICED, why)), q.ms, why);
	if (kernel_counts_its_queue()) {
		assert_int_equal(qualify_choose(&q, NOTICED, why), MESH_SPLICE_VERDICT);
	} else {
		assert_int_equal(qualify_choose(&q, NOTICED, why), MESH_SPLICE_OFF);
		assert_non_null(strstr(why, "fionread"));
	}
	assert_int_equal(cgroups(), 0);
}

static void trials_out_of_time_leave_it_off(void **state)
{
	static struct qualify_result q;
	char why[QUALIFY_WHY_MAX];
	struct sandbox *s;

	ok(sandbox_start(base, 0, &s));
	await(s, &q);
	sandbox_free(&s);
	assert_false(q.done);
	assert_int_equal(qualify_choose(&q, NOTICED, why), MESH_SPLICE_OFF);
	assert_non_null(strstr(why, "came no further"));
	assert_int_equal(cgroups(), 0);
}

static void ended_half_way_it_leaves_nothing(void **state)
{
	struct sandbox *s;

	for (int i = 0; i < 10; i++) {
		ok(sandbox_start(base, BUDGET_MS * trial_patience, &s));
		poll(NULL, 0, 7 * i); /* another moment each time */
		sandbox_free(&s);
		assert_null(s);
		assert_int_equal(cgroups(), 0);
	}
}

static void its_death_is_a_result(void **state)
{
	static struct qualify_result q;
	char path[PATH_MAX], why[QUALIFY_WHY_MAX];
	struct sandbox *s;
	int pid = 0;
	FILE *f;

	ok(sandbox_start(base, BUDGET_MS * trial_patience, &s));
	snprintf(path, sizeof(path), "%s/mesh-trials-%d/cgroup.procs", base, getpid());
	for (uint64_t end = clock_mono_ns() + WAIT_MS * 1000000ull; !pid;) {
		assert_true(clock_mono_ns() < end);
		f = fopen(path, "re");
		assert_non_null(f);
		if (fscanf(f, "%d", &pid) != 1)
			pid = 0;
		fclose(f);
	}
	ok(kill(pid, SIGKILL));
	await(s, &q);
	sandbox_free(&s);
	assert_string_not_equal(q.error, "");
	assert_int_equal(qualify_choose(&q, NOTICED, why), MESH_SPLICE_OFF);
	assert_string_equal(why, q.error);
	assert_int_equal(cgroups(), 0);
}

/* The agent itself is killed: its trials end with it, and the next agent removes the directory. */
static void parents_death_ends_it(void **state)
{
	struct sandbox *s;
	uint64_t end = clock_mono_ns() + WAIT_MS * 1000000ull;
	char dir[PATH_MAX];
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (!pid) {
		if (sandbox_start(base, BUDGET_MS * trial_patience, &s))
			_exit(1);
		raise(SIGKILL);
	}
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	snprintf(dir, sizeof(dir), "%s/mesh-trials-%d", base, pid);
	assert_int_equal(cgroups(), 1);
	do {
		assert_true(clock_mono_ns() < end);
		ok(sandbox_start(base, BUDGET_MS * trial_patience, &s));
		sandbox_free(&s);
	} while (access(dir, F_OK) == 0);
	assert_int_equal(cgroups(), 0);
}

static int setup(void **state)
{
	char root[PATH_MAX / 4];

	if (cgroup_root(root, sizeof(root)))
		return -1;
	snprintf(base, sizeof(base), "%s/qualify-%d", root, getpid());
	return mkdir(base, 0755);
}

static int teardown(void **state)
{
	return rmdir(base);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(this_kernel_is_judged),
		cmocka_unit_test(trials_out_of_time_leave_it_off),
		cmocka_unit_test(ended_half_way_it_leaves_nothing),
		cmocka_unit_test(its_death_is_a_result),
		cmocka_unit_test(parents_death_ends_it),
	};

	trial_patience = 5 * (unsigned)kernel_patience(); /* other programs want the CPUs, too */
	return cmocka_run_group_tests_name("qualification", tests, setup, teardown);
}
