/* SPDX-License-Identifier: Apache-2.0 */
/*
 * demo/vhost, on which everything else here relies: it passes the status on, its root is a cgroup2
 * root of its own, and nothing is left of it, however it ends. (It runs inside another one.)
 */
#include "lib/cgroup.h"

#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define NAME "story"

/* Starts CMD (a line for sh) on a virtual host; *out: where its stdout can be read. */
static pid_t start(const char *cmd, int *out)
{
	int fds[2];
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		if (dup2(fds[1], STDOUT_FILENO) < 0)
			_exit(99);
		close(fds[0]);
		close(fds[1]);
		execl("demo/vhost", "vhost", "run", "--name", NAME, "--", "sh", "-c", cmd, NULL);
		_exit(99);
	}
	close(fds[1]);
	*out = fds[0];
	return pid;
}

static int finish(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* Reads one line, waiting for it. */
static void read_line(int fd, char *line, size_t cap)
{
	size_t n = 0;

	while (n < cap - 1 && read(fd, line + n, 1) == 1 && line[n] != '\n')
		n++;
	line[n] = 0;
}

/* True when stdout of everything inside is closed, that is, when all processes are gone. */
static bool all_gone(int fd)
{
	char rest[256];

	while (read(fd, rest, sizeof(rest)) > 0)
		;
	close(fd);
	return true;
}

static int cgroups_left(void)
{
	char root[4096];
	struct dirent *e;
	int n = 0;
	DIR *d;

	assert_int_equal(cgroup_root(root, sizeof(root)), 0);
	d = opendir(root);
	assert_non_null(d);
	while ((e = readdir(d)))
		n += !strncmp(e->d_name, "vhost-" NAME ".", strlen("vhost-" NAME "."));
	closedir(d);
	return n;
}

static void status_of_the_command_is_passed_on(void **state)
{
	int out;
	pid_t pid = start("exit 7", &out);

	assert_int_equal(finish(pid), 7);
	assert_true(all_gone(out));
	assert_int_equal(cgroups_left(), 0);
}

static void has_a_cgroup_root_and_a_network_of_its_own(void **state)
{
	char line[256];
	int out;
	pid_t pid = start("mkdir -p /sys/fs/cgroup/mesh/x/y && echo $$ > "
			  "/sys/fs/cgroup/mesh/x/y/cgroup.procs && "
			  "grep ^0: /proc/self/cgroup; hostname; ls /sys/class/net; ls -A "
			  "/sys/fs/bpf | grep -vc debug",
			  &out);

	read_line(out, line, sizeof(line));
	assert_string_equal(line, "0::/mesh/x/y");
	read_line(out, line, sizeof(line));
	assert_string_equal(line, NAME);
	read_line(out, line, sizeof(line));
	assert_string_equal(line, "lo");
	read_line(out, line, sizeof(line));
	assert_string_equal(line, "0");
	finish(pid);
	assert_true(all_gone(out));
	assert_int_equal(cgroups_left(), 0);
}

static void what_the_command_leaves_behind_is_removed(void **state)
{
	int out;
	pid_t pid = start("mkdir -p /sys/fs/cgroup/mesh/a/b; setsid sleep 1000 & "
			  "echo $! > /sys/fs/cgroup/mesh/a/b/cgroup.procs; exit 3",
			  &out);

	assert_int_equal(finish(pid), 3);
	assert_true(all_gone(out));
	assert_int_equal(cgroups_left(), 0);
}

static void a_signal_reaches_the_command_and_its_answer_counts(void **state)
{
	char line[16];
	int out;
	pid_t pid = start("trap 'exit 5' TERM; sleep 1000 & echo up; wait", &out);

	read_line(out, line, sizeof(line));
	assert_string_equal(line, "up");
	assert_int_equal(kill(pid, SIGTERM), 0);
	assert_int_equal(finish(pid), 5);
	assert_true(all_gone(out));
	assert_int_equal(cgroups_left(), 0);
}

static void when_the_tool_is_killed_everything_in_it_dies(void **state)
{
	char line[16];
	int out;
	pid_t pid = start("setsid sleep 1000 & echo up; wait", &out);

	read_line(out, line, sizeof(line));
	assert_string_equal(line, "up");
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(finish(pid), -SIGKILL);
	assert_true(all_gone(out));
	assert_int_equal(cgroups_left(), 1);
	/* the next run tidies up */
	assert_int_equal(finish(start("exit 0", &out)), 0);
	assert_true(all_gone(out));
	assert_int_equal(cgroups_left(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(status_of_the_command_is_passed_on),
		cmocka_unit_test(has_a_cgroup_root_and_a_network_of_its_own),
		cmocka_unit_test(what_the_command_leaves_behind_is_removed),
		cmocka_unit_test(a_signal_reaches_the_command_and_its_answer_counts),
		cmocka_unit_test(when_the_tool_is_killed_everything_in_it_dies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
