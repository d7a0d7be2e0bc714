/* SPDX-License-Identifier: Apache-2.0 */
/* What one workload can make wait for a worker is bounded, so that it cannot push out what the
 * kernel has noted for others. */
#include "tests/bpf/fixture.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define FDS (MESH_MAX_WAITING + 16)

static int fds[FDS];
static int nfds;

static uint32_t waiting(void)
{
	struct mesh_coverage c;

	ok(kernel_coverage(fx.k, id_of("/app"), &c));
	return c.waiting;
}

/* The worker accepts no more: who connects has sent a SYN, and waits. */
static void go_deaf(void)
{
	ok(listen(fx.worker4, 0));
	enter("/app");
}

/* Without waiting for what becomes of it. */
static int begin(void)
{
	struct sockaddr_storage ss;
	socklen_t len = address("127.0.0.1", fx.port4, false, &ss);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	if (connect(fd, (struct sockaddr *)&ss, len) < 0)
		assert_int_equal(errno, EINPROGRESS);
	return fd;
}

static void end_all(void)
{
	while (nfds)
		close(fds[--nfds]);
	close(fx.worker4);
	close(fx.worker6);
	open_workers();
}

static void one_workload_cannot_make_all_wait(void **state)
{
	uint64_t crowded = counter(MESH_C_PASSED_CROWDED), captured = counter(MESH_C_CAPTURED);
	int error, fd, accepted;

	go_deaf();
	while (nfds < MESH_MAX_WAITING)
		fds[nfds++] = begin();
	while (waiting() < MESH_MAX_WAITING && nfds < FDS) /* one or two are in the queue */
		fds[nfds++] = begin();
	assert_in_range(nfds, MESH_MAX_WAITING, MESH_MAX_WAITING + 4);
	assert_int_equal(counter(MESH_C_CAPTURED), captured + (uint64_t)nfds);
	assert_int_equal(counter(MESH_C_PASSED_CROWDED), crowded);
	fd = try_connect("127.0.0.1", fx.port4, &error); /* reaches the server itself */
	assert_int_equal(error, 0);
	accepted = accept_within(fx.server4, WAIT_MS);
	assert_true(accepted >= 0);
	close(accepted);
	close(fd);
	assert_int_equal(counter(MESH_C_PASSED_CROWDED), crowded + 1);
	set_workload("/app/sub", SUB); /* nobody keeps others away */
	enter("/app/sub");
	close(begin());
	assert_int_equal(counter(MESH_C_PASSED_CROWDED), crowded + 1);
	assert_int_equal(counter(MESH_C_CAPTURED), captured + (uint64_t)nfds + 1);
	enter("/app");
	close(fds[--nfds]);
	assert_int_equal(waiting(), MESH_MAX_WAITING - 1);
	fds[nfds++] = begin();
	assert_int_equal(waiting(), MESH_MAX_WAITING);
	assert_int_equal(counter(MESH_C_PASSED_CROWDED), crowded + 1);
	end_all();
	assert_int_equal(waiting(), 0);
	ok(kernel_workload_delete(fx.k, id_of("/app/sub")));
}

static void each_is_counted_once_however_it_ends(void **state)
{
	const struct sockaddr nowhere = {.sa_family = AF_UNSPEC};
	int error, fd, accepted;

	enter("/app");
	fd = try_connect("127.0.0.1", fx.port4, &error); /* established */
	assert_int_equal(error, 0);
	assert_int_equal(waiting(), 0);
	accepted = accept_within(fx.worker4, WAIT_MS);
	close(accepted);
	close(fd);
	assert_int_equal(waiting(), 0);

	go_deaf();
	while (waiting() < 2 && nfds < 8)
		fds[nfds++] = begin();
	assert_int_equal(waiting(), 2);
	fd = begin();
	assert_int_equal(waiting(), 3);
	ok(connect(fd, &nowhere, sizeof(nowhere))); /* used again */
	assert_int_equal(waiting(), 2);
	close(fd);
	assert_int_equal(waiting(), 2);
	fd = begin();
	ok(kernel_coverage_reset(fx.k)); /* the next agent's counts begin, the sockets stay */
	assert_int_equal(waiting(), 3);
	close(fd);
	assert_int_equal(waiting(), 2);
	end_all();
	assert_int_equal(waiting(), 0);
}

/* An entry that was written anew at such a moment kept a count that was over, or lost one. */
static void an_agent_that_begins_takes_no_count_away(void **state)
{
	pid_t other = fork();

	assert_true(other >= 0);
	while (!other)
		if (kernel_coverage_reset(fx.k))
			_exit(1);
	go_deaf();
	for (int i = 0; i < 2000; i++) {
		for (int k = 0; k < 8; k++)
			fds[nfds++] = begin();
		while (nfds)
			close(fds[--nfds]);
	}
	ok(kill(other, SIGKILL));
	assert_int_equal(waitpid(other, NULL, 0), other);
	end_all();
	assert_int_equal(waiting(), 0);
}

static int setup(void **state)
{
	struct rlimit l;

	ok(getrlimit(RLIMIT_NOFILE, &l));
	l.rlim_cur = l.rlim_max;
	if (l.rlim_max < MESH_MAX_WAITING + 256)
		l.rlim_cur = l.rlim_max = MESH_MAX_WAITING + 256;
	ok(setrlimit(RLIMIT_NOFILE, &l));
	return fixture_setup(state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(one_workload_cannot_make_all_wait, test_setup),
		cmocka_unit_test_setup(each_is_counted_once_however_it_ends, test_setup),
		cmocka_unit_test_setup(an_agent_that_begins_takes_no_count_away, test_setup),
	};

	return cmocka_run_group_tests(tests, setup, fixture_teardown);
}
