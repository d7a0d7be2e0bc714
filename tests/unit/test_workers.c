/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The supervisor's side of workers, against workers that mean harm or have too much to do: this
 * program, executed again as the supervisor does it, plays them, or is a worker in truth. What a
 * worker says must never stop the supervisor's loop nor take what others need.
 */
#include "agent/supervisor_workers.h"
#include "agent/worker.h"
#include "lib/clock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
/* after the types that it needs */
#include <cmocka.h>

#define ok(call)    assert_int_equal(call, 0)
#define DEADLINE_S  20
#define DESCRIPTORS 48	/* that a worker in truth may have here */
#define OPEN_MOST   600 /* descriptors of a supervisor with one worker that asks for all */

static int say(uint32_t kind, const int *fds, size_t nfds)
{
	struct ipc_msg m = {.kind = kind};

	m.socket.family = AF_INET;
	return ipc_send(IPC_FD, &m, fds, nfds);
}

/* --- the workers --- */

static void ask_for_sockets_and_read_nothing(void)
{
	while (say(IPC_WANT_SOCKET, NULL, 0) != -EPIPE)
		;
}

/* A socket with unsent bytes that its last close() would wait for. */
static void give_a_socket_that_lingers(void)
{
	struct sockaddr_in to = {.sin_family = AF_INET};
	int l = socket(AF_INET, SOCK_STREAM, 0), s = socket(AF_INET, SOCK_STREAM, 0);
	struct linger linger = {1, 3600};
	static char bytes[65536];
	socklen_t len = sizeof(to);

	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (bind(l, (struct sockaddr *)&to, len) < 0 || listen(l, 1) < 0 ||
	    getsockname(l, (struct sockaddr *)&to, &len) < 0 ||
	    connect(s, (struct sockaddr *)&to, len) < 0 || fcntl(s, F_SETFL, O_NONBLOCK) < 0 ||
	    setsockopt(s, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)) < 0)
		_exit(1);
	while (write(s, bytes, sizeof(bytes)) > 0)
		;
	if (!say(IPC_READY, &s, 1))
		close(s); /* now the supervisor's is the last one */
	say(IPC_READY, NULL, 0);
	for (;;)
		pause();
}

static void wait_for_message(void)
{
	struct pollfd p = {.fd = IPC_FD, .events = POLLIN};

	poll(&p, 1, -1);
}

/* What it is told of listeners it says as the number of a snapshot. */
static void say_when_it_begins(const struct ipc_msg *l)
{
	struct ipc_msg m = {.kind = IPC_SNAPSHOT_USED};

	m.snapshot.generation = l->listener.after_ms;
	ipc_send(IPC_FD, &m, NULL, 0);
}

/* Answers each ping when it comes to it: of what it asks for there is always something to read. */
static void be_busy(int asking)
{
	struct ipc_msg m;
	int fds[IPC_MAX_FDS], r;
	size_t n;

	say(IPC_READY, NULL, 0);
	while (asking--)
		say(IPC_WANT_SOCKET, NULL, 0);
	while ((r = ipc_recv(IPC_FD, &m, fds, &n)) >= 0) {
		if (!r) {
			wait_for_message();
			continue;
		}
		while (n)
			close(fds[--n]);
		if (m.kind == IPC_SOCKET) {
			usleep(2000); /* its work */
			say(IPC_WANT_SOCKET, NULL, 0);
		}
		if (m.kind == IPC_LISTENER)
			say_when_it_begins(&m);
		if (m.kind == IPC_PING)
			say(IPC_PING, NULL, 0);
	}
}

/* The sanitizer does more at the end than the worker's filter lets pass. */
static void be_a_worker_with_few_descriptors(void)
{
	const struct rlimit few = {DESCRIPTORS, DESCRIPTORS};

	if (setrlimit(RLIMIT_NOFILE, &few) < 0)
		_exit(1);
	syscall(SYS_exit_group, worker_main());
}

static int play(const char *part)
{
	if (!strcmp(part, "busy"))
		be_busy(64);
	if (!strcmp(part, "quiet"))
		be_busy(0);
	if (!strcmp(part, "real"))
		be_a_worker_with_few_descriptors();

	if (!strcmp(part, "greedy"))
		ask_for_sockets_and_read_nothing();
	if (!strcmp(part, "lingering"))
		give_a_socket_that_lingers();
	return 1;
}

/* --- the supervisor --- */

static char run_dir[] = "/tmp/test-workers.XXXXXX";

static struct {
	struct loop loop;
	struct workers ws;
	struct timer timer;
	int ticks, sockets, calls;
} fx;

static int on_started(void *arg, uint32_t worker, int pidfd)
{
	return 0;
}

static void on_died(void *arg, uint32_t worker)
{
}

static int on_socket(void *arg, uint64_t netns, int family)
{
	fx.sockets++;
	return socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

static void on_record(const struct record *rec, void *arg)
{
}

static uint64_t ncounted;

static void on_counted(const struct tally_sum *sum, void *arg)
{
	ncounted += sum->n;
}

static void on_waiting(void *arg)
{
	fx.calls++;
}

static void tick(struct timer *t)
{
	fx.ticks++;
	workers_tick(&fx.ws);
	timer_arm(&fx.loop, t, 1, tick);
}

/* Memory where a worker expects the kernel's arrays. */
static int memory(void)
{
	int fd = memfd_create("arrays", MFD_CLOEXEC);

	assert_true(fd >= 0);
	ok(ftruncate(fd, 64 << 20));
	return fd;
}

static void begin(const char *part)
{
	int arrays = memory();

	setenv("WORKER_PART", part, 1);
	memset(&fx, 0, sizeof(fx));
	ok(loop_init(&fx.loop));
	workers_init(&fx.ws);
	fx.ws.loop = &fx.loop;
	fx.ws.n = 1;
	fx.ws.snapshot_fd = -1;
	fx.ws.ops = (struct workers_ops){NULL,	    on_started, on_died,   on_socket,
					 on_record, on_counted, on_waiting};
	fx.ws.rendezvous = rendezvous_open(run_dir);
	assert_true(fx.ws.rendezvous >= 0);
	for (size_t i = 0; i < WORKERS_MAP_FDS; i++)
		fx.ws.map_fds[i] = arrays;
	alarm(DEADLINE_S); /* what hangs is ended: that is the failure looked for */
	ok(workers_start(&fx.ws));
	close(arrays);
	timer_arm(&fx.loop, &fx.timer, 1, tick);
}

static void end(void)
{
	timer_cancel(&fx.loop, &fx.timer);
	workers_done(&fx.ws);
	close(fx.ws.rendezvous);
	loop_done(&fx.loop);
	alarm(0);
}

static int open_files(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static void worker_that_talks_without_end_stops_nothing(void **state)
{
	begin("greedy");
	while (fx.ticks < 20 || fx.sockets < 100) {
		ok(loop_once(&fx.loop, 100));
		assert_in_range(open_files(), 0, OPEN_MOST);
	}
	end();
}

static void worker_that_reads_no_answer_is_replaced(void **state)
{
	begin("greedy");
	while (!fx.ws.restarts) {
		ok(loop_once(&fx.loop, 100));
		assert_in_range(open_files(), 0, OPEN_MOST);
	}
	end();
}

static void descriptor_from_a_worker_holds_nothing_up(void **state)
{
	int s = socket(AF_UNIX, SOCK_SEQPACKET, 0), none = 0;
	bool refused = !setsockopt(s, SOL_SOCKET, 83 /* SO_PASSRIGHTS */, &none, sizeof(none));

	close(s);
	if (!refused) {
		print_message("SKIPPED: before Linux 6.16 the worker's filter alone does this\n");
		skip();
	}
	begin("lingering");
	while (!fx.ws.w[0].ready || fx.ticks < 5)
		ok(loop_once(&fx.loop, 100));
	end();
}

/* Rounds of the loop until the worker has said something n times more. */
static void hear_it(int n)
{
	uint64_t last = fx.ws.w[0].answered_ns;

	while (n && !fx.ws.restarts) {
		ok(loop_once(&fx.loop, 100));
		n -= fx.ws.w[0].answered_ns != last;
		last = fx.ws.w[0].answered_ns;
	}
	assert_int_equal(fx.ws.restarts, 0);
}

static void worker_with_answers_to_read_is_not_silent(void **state)
{
	uint64_t until;

	begin("busy");
	while (!fx.ws.w[0].ready)
		ok(loop_once(&fx.loop, 100));
	until = clock_mono_ns() + 2 * MESH_BEAT_MAX_NS;
	while (clock_mono_ns() < until) {
		ok(loop_once(&fx.loop, 100));
		assert_int_equal(workers_answering(&fx.ws), 1);
	}
	assert_true(fx.sockets > 64);
	end();
}

static void worker_that_stands_still_is_noticed(void **state)
{
	uint64_t start;

	begin("quiet");
	hear_it(5);
	assert_int_equal(workers_answering(&fx.ws), 1);
	kill(fx.ws.w[0].pid, SIGSTOP);
	for (int i = 0; i < 2; i++) /* what it has said before */
		ok(loop_once(&fx.loop, 0));
	start = fx.loop.now_ns;
	while (workers_answering(&fx.ws)) {
		assert_true(fx.loop.now_ns - start < MESH_BEAT_MAX_NS);
		ok(loop_once(&fx.loop, 100));
	}
	kill(fx.ws.w[0].pid, SIGCONT);
	hear_it(1);
	assert_int_equal(workers_answering(&fx.ws), 1);
	end();
}

static void worker_ends_when_its_supervisor_says_so_and_not_by_signals_to_all(void **state)
{
	static const int signals[] = {SIGTERM, SIGINT, SIGHUP};

	begin("quiet");
	hear_it(1);
	for (size_t i = 0; i < sizeof(signals) / sizeof(*signals); i++)
		kill(fx.ws.w[0].pid, signals[i]);
	hear_it(5);
	end();
}

static int listen_on_loopback(struct sockaddr_in *at)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	socklen_t len = sizeof(*at);

	*at = (struct sockaddr_in){.sin_family = AF_INET};
	at->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_true(fd >= 0);
	ok(bind(fd, (struct sockaddr *)at, len));
	ok(listen(fd, 2 * DESCRIPTORS));
	ok(getsockname(fd, (struct sockaddr *)at, &len));
	return fd;
}

/* Others empty the queues first, whoever of ours it is that waits for them. */
static void worker_that_is_replaced_begins_no_sooner(void **state)
{
	struct sockaddr_in at;
	int fd = listen_on_loopback(&at);

	begin("quiet");
	fx.ws.holding_back = true;
	ok(workers_listener(&fx.ws, 1, IPC_CAPTURE, 1, fd));
	workers_release(&fx.ws, 15000);
	while (!fx.ws.w[0].generation)
		ok(loop_once(&fx.loop, 100));
	assert_in_range(fx.ws.w[0].generation, 14000, 15001);
	fx.ws.w[0].ring->unsampled = 5;
	ncounted = 0;
	tally_add(ring_tally(fx.ws.w[0].ring), &(struct tally_sum){.status = 200});
	ring_tally(fx.ws.w[0].ring)->busy = 1; /* it dies at the next */
	fx.ws.w[0].ring->whys_skipped = 6;
	kill(fx.ws.w[0].pid, SIGKILL);
	while (!fx.ws.restarts || !fx.ws.w[0].generation)
		ok(loop_once(&fx.loop, 100));
	assert_in_range(fx.ws.w[0].generation, 5000, 15000);
	assert_int_equal(fx.ws.w[0].ring->layout, RING_LAYOUT); /* its records are read, too */
	assert_int_equal(workers_unsampled(&fx.ws), 5);
	assert_int_equal(ncounted, 1);
	assert_int_equal(ring_tally(fx.ws.w[0].ring)->busy, 0);
	assert_int_equal(workers_whys_skipped(&fx.ws), 6);
	end();
	close(fd);
}

/* What the worker missed it would never learn. */
static void worker_that_lost_a_message_is_replaced(void **state)
{
	struct sockaddr_in at;
	int fd = listen_on_loopback(&at);

	begin("real");
	while (!fx.ws.w[0].ready)
		ok(loop_once(&fx.loop, 100));
	for (uint32_t i = 0; i < DESCRIPTORS; i++)
		ok(workers_listener(&fx.ws, i, IPC_CAPTURE, 1, fd));
	while (!fx.ws.restarts)
		ok(loop_once(&fx.loop, 100));
	end();
	close(fd);
}

/* How many descriptors of the worker are these; NULL: any. */
static int descriptors(const char *what)
{
	char dir[64], path[400], link[64];
	struct dirent *e;
	int n = 0;
	DIR *d;

	snprintf(dir, sizeof(dir), "/proc/%d/fd", (int)fx.ws.w[0].pid);
	d = opendir(dir);
	while (d && (e = readdir(d))) {
		ssize_t len;

		snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
		len = readlink(path, link, sizeof(link) - 1);
		link[len > 0 ? len : 0] = 0;
		n += len > 0 && (!what || !strcmp(link, what));
	}
	if (d)
		closedir(d);
	return n;
}

/* Clients take every descriptor there is; a message with one comes all the same. */
static void worker_full_of_clients_hears_its_supervisor(void **state)
{
	int client[2 * DESCRIPTORS], first, second;
	struct sockaddr_in at, other;
	char path[64], link[64] = "";

	first = listen_on_loopback(&at);
	second = listen_on_loopback(&other);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", second);
	assert_true(readlink(path, link, sizeof(link) - 1) > 0);
	begin("real");
	while (!fx.ws.w[0].ready)
		ok(loop_once(&fx.loop, 100));
	ok(workers_listener(&fx.ws, 1, IPC_GATEWAY, 1, first));
	for (int i = 0; i < 2 * DESCRIPTORS; i++) {
		client[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		ok(connect(client[i], (struct sockaddr *)&at, sizeof(at)));
		assert_int_equal(send(client[i], "GET ", 4, 0), 4);
	}
	while (descriptors(NULL) < DESCRIPTORS)
		ok(loop_once(&fx.loop, 100));
	ok(workers_listener(&fx.ws, 2, IPC_GATEWAY, 1, second));
	while (!descriptors(link) && !fx.ws.restarts)
		ok(loop_once(&fx.loop, 100));
	hear_it(3);
	assert_int_equal(descriptors(link), 1);
	end();
	for (int i = 0; i < 2 * DESCRIPTORS; i++)
		close(client[i]);
	close(first);
	close(second);
}

/* In the worker's ring, as if it had written that. */
static void fill_ring(struct ring *r)
{
	const uint32_t size = (sizeof(struct record) + 7) & ~7u;

	while (ring_used(r) < RING_CALL) {
		struct record *rec = ring_reserve(r, size);

		assert_non_null(rec);
		memset(rec, 0, size);
		rec->size = size;
		rec->kind = RECORD_REQUEST;
		ring_commit(r, size);
	}
}

/* Who reads now and then would come too late, and the rest of the ring is for the way here. */
static void worker_calls_when_its_ring_fills_up_and_once_each_time(void **state)
{
	begin("real");
	while (!fx.ws.w[0].ready)
		ok(loop_once(&fx.loop, 100));
	for (int time = 1; time <= 3; time++) {
		fill_ring(fx.ws.w[0].ring);
		while (fx.calls < time)
			ok(loop_once(&fx.loop, 100));
		hear_it(3);
		assert_int_equal(fx.calls, time);
		assert_true(workers_drain_rings(&fx.ws) > 0);
		hear_it(3);
		assert_int_equal(fx.calls, time);
	}
	assert_int_equal(workers_ring_lost(&fx.ws, 0), 0);
	end();
}

static int make_run_dir(void **state)
{
	return mkdtemp(run_dir) ? 0 : -1;
}

/* Fails when a socket was left in there. */
static int remove_run_dir(void **state)
{
	char sub[64];

	snprintf(sub, sizeof(sub), "%s/" RENDEZVOUS_DIR, run_dir);
	return rmdir(sub) || rmdir(run_dir);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(worker_that_talks_without_end_stops_nothing),
		cmocka_unit_test(worker_that_reads_no_answer_is_replaced),
		cmocka_unit_test(descriptor_from_a_worker_holds_nothing_up),
		cmocka_unit_test(worker_with_answers_to_read_is_not_silent),
		cmocka_unit_test(worker_that_stands_still_is_noticed),
		cmocka_unit_test(worker_ends_when_its_supervisor_says_so_and_not_by_signals_to_all),
		cmocka_unit_test(worker_that_is_replaced_begins_no_sooner),
		cmocka_unit_test(worker_that_lost_a_message_is_replaced),
		cmocka_unit_test(worker_full_of_clients_hears_its_supervisor),
		cmocka_unit_test(worker_calls_when_its_ring_fills_up_and_once_each_time),
	};

	if (argc == 2 && !strcmp(argv[1], "worker"))
		return play(getenv("WORKER_PART"));
	return cmocka_run_group_tests(tests, make_run_dir, remove_run_dir);
}
