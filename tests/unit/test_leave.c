/* SPDX-License-Identifier: Apache-2.0 */
/* An agent that is asked to leave by the next one: it goes and gives its lock, says that it stays,
 * or is not waited for. */
#include "agent/leave.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define ok(call)   assert_int_equal(call, 0)
#define DEADLINE_S 30

static char run_dir[] = "/tmp/test-leave.XXXXXX";

static struct leaver {
	struct loop loop;
	struct leave leave;
	int give;
	bool stays;
} leaver;

static bool on_asked(void *arg, int *fd)
{
	*fd = leaver.give;
	leaver.loop.stop = !leaver.stays;
	return !leaver.stays;
}

/* The running agent, in a process of its own; it is up when this returns. */
static pid_t leaver_start(bool stays)
{
	int up[2];
	char byte;
	pid_t pid;

	ok(pipe(up));
	pid = fork();
	if (!pid) {
		leaver.stays = stays;
		leaver.give = up[1];
		leaver.leave =
			(struct leave){.loop = &leaver.loop, .arg = &leaver, .asked = on_asked};
		if (loop_init(&leaver.loop) || leave_init(&leaver.leave, run_dir) ||
		    write(up[1], "u", 1) != 1)
			_exit(1);
		alarm(DEADLINE_S);
		loop_run(&leaver.loop);
		_exit(7);
	}
	assert_int_equal(read(up[0], &byte, 1), 1);
	close(up[0]);
	close(up[1]);
	return pid;
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void who_is_asked_leaves_and_gives_what_it_has(void **state)
{
	pid_t pid = leaver_start(false);
	int fd, status;

	ok(leave_ask(run_dir, 5000, &fd));
	assert_true(fd >= 0);
	assert_int_equal(waitpid(pid, &status, WNOHANG), pid); /* it has ended */
	assert_int_equal(WEXITSTATUS(status), 7);
	close(fd);
	assert_int_equal(leave_ask(run_dir, 5000, &fd), -ENOENT);
	assert_int_equal(fd, -1);
}

static void who_stays_says_so(void **state)
{
	pid_t pid = leaver_start(true);
	int fd;

	assert_int_equal(leave_ask(run_dir, 5000, &fd), -EBUSY);
	assert_int_equal(fd, -1);
	end(pid);
}

static void who_hangs_is_not_waited_for(void **state)
{
	pid_t pid = leaver_start(false);
	int fd;

	kill(pid, SIGSTOP);
	assert_int_equal(leave_ask(run_dir, 100, &fd), -ETIMEDOUT);
	end(pid);
}

static int make_run_dir(void **state)
{
	return mkdtemp(run_dir) ? 0 : -1;
}

/* Fails when anything is left in there. */
static int remove_run_dir(void **state)
{
	leave_remove(run_dir);
	return rmdir(run_dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_is_asked_leaves_and_gives_what_it_has),
		cmocka_unit_test(who_stays_says_so),
		cmocka_unit_test(who_hangs_is_not_waited_for),
	};

	return cmocka_run_group_tests(tests, make_run_dir, remove_run_dir);
}
