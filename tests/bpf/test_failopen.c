/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Workers that are killed while callers connect without a pause: whoever calls connect() after that
 * gets through, whatever the moment; of those that are under way, all but the very few that the
 * kill meets between hook and SYN. The workers here are processes that accept and beat; nobody but
 * them has the listeners, so that these close with the last of them.
 */
#include "tests/bpf/fixture.h"

#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define WORKERS 2
#define CALLERS 2
#define KILLS	400
#define ROUNDS	3000 /* at most, where the point is that it does fail */

struct tally {
	uint64_t connects, failed, captured;
	uint64_t caught; /* of those that failed: begun before the kill was done */
	int last;	 /* errno */
};

static struct shared {
	struct tally caller[CALLERS];
	bool stop;
	uint32_t begun, done; /* kills */
} * shared;

static void be_child(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_TIMERSLACK, 1);
}

static void accept_all(int listener)
{
	int fd;

	while ((fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0)
		close(fd);
}

/* Never returns. */
static void be_worker(uint32_t id, int listener)
{
	__u64 *beat = &kernel_arrays(fx.k)->beats->worker[id], last = 0, now;
	struct pollfd p = {.fd = listener, .events = POLLIN};

	be_child();
	for (;;) {
		now = clock_mono_ns(); /* as agent/worker.c does it */
		if (__atomic_compare_exchange_n(beat, &last, now, false, __ATOMIC_RELAXED,
						__ATOMIC_RELAXED))
			last = now;
		poll(&p, 1, MESH_BEAT_MS);
		accept_all(listener);
	}
}

/* The service itself: what is called when the hook lets it pass. */
static void be_server(void)
{
	struct pollfd p = {.fd = fx.server4, .events = POLLIN};

	be_child();
	for (;;) {
		poll(&p, 1, -1);
		accept_all(fx.server4);
	}
}

static void be_caller(struct tally *t)
{
	struct linger reset = {.l_onoff = 1};

	be_child();
	enter("/app");
	while (!__atomic_load_n(&shared->stop, __ATOMIC_RELAXED)) {
		uint32_t done = __atomic_load_n(&shared->done, __ATOMIC_SEQ_CST);
		int error, fd = try_connect("127.0.0.1", fx.port4, &error);

		t->connects++;
		if (error) {
			t->failed++;
			t->caught += __atomic_load_n(&shared->begun, __ATOMIC_SEQ_CST) > done;
			t->last = -error;
		}
		/* no TIME_WAIT: the ports would run out */
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		close(fd);
	}
	_exit(0);
}

static void reap(pid_t pid)
{
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

static pid_t start_worker(uint32_t id, int listener, bool told)
{
	pid_t pid = fork();
	int pidfd;

	assert_true(pid >= 0);
	if (!pid)
		be_worker(id, listener);
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	assert_true(pidfd >= 0);
	if (told)
		ok(kernel_worker_started(fx.k, pidfd, id));
	close(pidfd);
	return pid;
}

/* One life of all workers, and their sudden end. */
static void live_and_die(uint32_t round, bool told)
{
	int listener = listen_on("127.0.0.1", fx.worker_port, false);
	struct mesh_beats *b = kernel_arrays(fx.k)->beats;
	uint64_t captured = counter(MESH_C_CAPTURED),
		 until = clock_mono_ns() + WAIT_MS * 1000000ULL;
	pid_t pid[WORKERS];

	for (uint32_t i = 0; i < WORKERS; i++)
		pid[i] = start_worker(i, listener, told);
	set_netns(cookie_of(listener, SO_COOKIE), 0);
	close(listener);
	while (counter(MESH_C_CAPTURED) < captured + 3) {
		assert_true(clock_mono_ns() < until);
		usleep(50 + round * 37 % 1000);
	}
	__atomic_add_fetch(&shared->begun, 1, __ATOMIC_SEQ_CST);
	for (uint32_t i = 0; i < WORKERS; i++)
		kill(pid[i], SIGKILL);
	__atomic_add_fetch(&shared->done, 1, __ATOMIC_SEQ_CST);
	for (uint32_t i = 0; i < WORKERS; i++) {
		reap(pid[i]);
		if (told)
			assert_int_equal(__atomic_load_n(&b->worker[i], __ATOMIC_RELAXED), 0);
		b->worker[i] = 0;
	}
}

static struct tally sum(void)
{
	struct tally all = {0};

	for (int i = 0; i < CALLERS; i++) {
		all.connects += shared->caller[i].connects;
		all.failed += shared->caller[i].failed;
		all.caught += shared->caller[i].caught;
		all.last = shared->caller[i].last ? shared->caller[i].last : all.last;
	}
	return all;
}

/* kills: how often; until_failed: no more often than it takes. */
static struct tally kill_under_load(uint32_t kills, bool told, bool until_failed)
{
	uint64_t captured = counter(MESH_C_CAPTURED);
	struct mesh_beats *b = kernel_arrays(fx.k)->beats;
	pid_t server, caller[CALLERS];
	struct tally all = {0};

	memset(shared, 0, sizeof(*shared));
	memset(b, 0, sizeof(*b));
	close(fx.worker4);
	server = fork();
	if (!server)
		be_server();
	for (int i = 0; i < CALLERS; i++) {
		caller[i] = fork();
		if (!caller[i])
			be_caller(&shared->caller[i]);
	}
	for (uint32_t i = 0; i < kills && !(until_failed && sum().failed); i++)
		live_and_die(i, told);
	__atomic_store_n(&shared->stop, true, __ATOMIC_RELAXED);
	for (int i = 0; i < CALLERS; i++)
		reap(caller[i]);
	kill(server, SIGKILL);
	reap(server);
	close(fx.worker6);
	open_workers();
	all = sum();
	all.captured = counter(MESH_C_CAPTURED) - captured;
	return all;
}

static void killed_workers_fail_no_connect(void **state)
{
	struct tally t = kill_under_load(KILLS, true, false);

	print_message("%llu connects, %llu captured, %u kills of all workers: %llu failed (%s), "
		      "%llu of them begun before the kill\n",
		      (unsigned long long)t.connects, (unsigned long long)t.captured, KILLS,
		      (unsigned long long)t.failed, t.failed ? strerror(t.last) : "none",
		      (unsigned long long)t.caught);
	assert_true(t.captured >= KILLS);
	assert_int_equal(t.failed - t.caught, 0);
	/* Microseconds lie between the hook and the SYN, where the machine is not emulated. */
	if (!getenv("MESH_EMULATED"))
		assert_in_range(t.caught, 0, KILLS / 20);
}

static void without_the_kernels_clearing_connects_fail(void **state)
{
	struct tally t = kill_under_load(ROUNDS, false, true);

	print_message("%llu connects until one failed (%s)\n", (unsigned long long)t.connects,
		      t.failed ? strerror(t.last) : "none");
	assert_true(t.failed > 0);
}

/* Not when the process comes to it: a connect() made after kill() has returned is safe. */
static void a_killed_worker_has_no_beat_when_kill_returns(void **state)
{
	__u64 *beat = &kernel_arrays(fx.k)->beats->worker[3];

	for (int i = 0; i < 200; i++) {
		pid_t pid = fork();
		int pidfd;

		assert_true(pid >= 0);
		if (!pid)
			for (be_child();;)
				(void)clock_mono_ns();
		pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
		ok(kernel_worker_started(fx.k, pidfd, 3));
		close(pidfd);
		*beat = clock_mono_ns();
		kill(pid, SIGUSR1 * (i % 2)); /* 0: none; others end it too, in their time */
		if (i % 2)
			reap(pid);
		else
			kill(pid, SIGKILL);
		assert_int_equal(__atomic_load_n(beat, __ATOMIC_RELAXED), 0);
		if (i % 2 == 0)
			reap(pid);
	}
}

static int share(void **state)
{
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	return shared == MAP_FAILED ? -1 : fixture_setup(state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(killed_workers_fail_no_connect, test_setup),
		cmocka_unit_test_setup(a_killed_worker_has_no_beat_when_kill_returns, test_setup),
		cmocka_unit_test_setup(without_the_kernels_clearing_connects_fail, test_setup),
	};

	return cmocka_run_group_tests(tests, share, fixture_teardown);
}
