/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A worker that outlives its supervisor, and the one who comes next: the rendezvous, what is taken
 * over and what is not believed. The workers are real ones, or this program playing one that lies;
 * supervisors are this process, one after the other.
 */
#include "agent/supervisor_workers.h"
#include "agent/takeover.h"
#include "agent/worker.h"
#include "lib/clock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/pidfd.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
/* after the types that it needs */
#include <cmocka.h>

#define ok(call)   assert_int_equal(call, 0)
#define DEADLINE_S 30
#define FIND_MS	   3000

static char run_dir[] = "/tmp/test-takeover.XXXXXX";

static struct {
	struct loop loop;
	struct workers ws;
	struct timer timer;
	int arrays, died;
} fx;

/* --- a worker that lies ------------------------------------------------------------------------
 */

static void lie(int to, uint32_t id)
{
	int pipes[2], memory = memfd_create("ring", 0), s = socket(AF_INET, SOCK_STREAM, 0);
	struct ipc_msg m = {.kind = IPC_HELLO}, in;
	int fds[IPC_MAX_FDS];
	size_t n;

	if (pipe(pipes) || ftruncate(memory, RING_DATA + RING_SIZE))
		_exit(1);
	m.hello.version = IPC_VERSION;
	m.hello.worker = id;
	m.hello.listeners = UINT32_MAX;
	m.hello.ring_fd = memory; /* it could be made smaller */
	m.hello.ring_size = RING_DATA + RING_SIZE;
	if (ipc_send(to, &m, NULL, 0))
		_exit(1);
	for (int r; (r = ipc_recv(to, &in, fds, &n)) >= 0;) {
		struct pollfd p = {.fd = to, .events = POLLIN};

		if (!r) {
			poll(&p, 1, -1);
			continue;
		}
		m = (struct ipc_msg){.kind = IPC_HOLDS};
		m.holds.n = 4;
		m.holds.fd[0] = (uint32_t)pipes[0];
		m.holds.fd[1] = (uint32_t)s; /* does not listen */
		m.holds.fd[2] = 4711;
		m.holds.fd[3] = (uint32_t)memory | IPC_HOLDS_GATEWAY;
		if (in.holds.from > 100)
			m.holds.n = 0;
		ipc_send(to, &m, NULL, 0);
	}
}

static int be_a_liar(uint32_t id)
{
	int fds[IPC_MAX_FDS], to;
	struct pollfd p = {.fd = IPC_FD, .events = POLLIN};
	struct ipc_msg m;
	size_t n;

	if (poll(&p, 1, -1) < 0 || ipc_recv(IPC_FD, &m, fds, &n) != 1 || m.kind != IPC_INIT)
		return 1;
	ok(rendezvous_listen(fds[IPC_FD_RENDEZVOUS]));
	m = (struct ipc_msg){.kind = IPC_READY};
	ipc_send(IPC_FD, &m, NULL, 0);
	p.fd = fds[IPC_FD_RENDEZVOUS];
	if (poll(&p, 1, -1) < 0)
		return 1;
	to = rendezvous_accept(p.fd, geteuid());
	if (to >= 0)
		lie(to, id);
	for (;;)
		pause();
}

/* The sanitizer does more at the end than the worker's filter lets pass. */
static int play(const char *part)
{
	if (!strcmp(part, "liar"))
		return be_a_liar(3);
	if (!strcmp(part, "impostor"))
		return be_a_liar(UINT32_MAX);
	syscall(SYS_exit_group, worker_main());
	return 1;
}

/* --- supervisors -------------------------------------------------------------------------------
 */

static int on_started(void *arg, uint32_t worker, int pidfd)
{
	return 0;
}

static void on_died(void *arg, uint32_t worker)
{
	fx.died++;
}

static int on_socket(void *arg, uint64_t netns, int family)
{
	return -ENOENT;
}

static void on_record(const struct record *rec, void *arg)
{
}

static void on_counted(const struct tally_sum *sum, void *arg)
{
}

static void on_waiting(void *arg)
{
}

static void tick(struct timer *t)
{
	workers_tick(&fx.ws);
	timer_arm(&fx.loop, t, 10, tick);
}

static void supervisor_begin(void)
{
	memset(&fx, 0, sizeof(fx));
	alarm(DEADLINE_S); /* what hangs is ended: that is the failure looked for */
	ok(loop_init(&fx.loop));
	ok(loop_once(&fx.loop, 0));
	workers_init(&fx.ws);
	fx.ws.loop = &fx.loop;
	fx.ws.n = 1;
	fx.ws.snapshot_fd = -1;
	fx.ws.drain_ms = 5000;
	fx.ws.instance = clock_mono_ns();
	fx.ws.ops = (struct workers_ops){NULL,	    on_started, on_died,   on_socket,
					 on_record, on_counted, on_waiting};
	fx.ws.rendezvous = rendezvous_open(run_dir);
	assert_true(fx.ws.rendezvous >= 0);
	/* memory where a worker expects the kernel's arrays */
	fx.arrays = memfd_create("arrays", MFD_CLOEXEC);
	ok(ftruncate(fx.arrays, 64 << 20));
	for (size_t i = 0; i < WORKERS_MAP_FDS; i++)
		fx.ws.map_fds[i] = fx.arrays;
	timer_arm(&fx.loop, &fx.timer, 10, tick);
}

static void supervisor_end(void)
{
	timer_cancel(&fx.loop, &fx.timer);
	workers_done(&fx.ws);
	close(fx.arrays);
	close(fx.ws.rendezvous);
	loop_done(&fx.loop);
	alarm(0);
}

/* Its one worker, which is ready. */
static pid_t start_worker(const char *part)
{
	setenv("WORKER_PART", part, 1);
	ok(workers_start(&fx.ws));
	while (!workers_all_ready(&fx.ws))
		ok(loop_once(&fx.loop, 100));
	return fx.ws.w[0].pid;
}

/* A supervisor that dies does no more than close its descriptors. */
static void supervisor_dies(void)
{
	workers_leave(&fx.ws, 0);
	supervisor_end();
}

static void reap(pid_t pid)
{
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* The next supervisor finds the one worker that is there. */
static void find_the_one(struct takeover *t)
{
	supervisor_begin();
	ok(takeover_find(t, fx.ws.rendezvous, FIND_MS));
	assert_int_equal(t->nold, 1);
}

/* Nobody takes its place. */
static void adopt_the_one(struct takeover *t)
{
	ok(workers_adopt(&fx.ws, &t->old[0]));
	fx.ws.n = 0;
	t->nold = 0;
	takeover_done(t);
}

static void wait_for_the_old_ones(void)
{
	while (workers_old_ones(&fx.ws))
		ok(loop_once(&fx.loop, 100));
}

static int listen_on_loopback(struct sockaddr_in *at)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	socklen_t len = sizeof(*at);

	*at = (struct sockaddr_in){.sin_family = AF_INET};
	at->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	ok(bind(fd, (struct sockaddr *)at, len));
	ok(listen(fd, 16));
	ok(getsockname(fd, (struct sockaddr *)at, &len));
	return fd;
}

static int connect_to(const struct sockaddr_in *at)
{
	const struct timeval wait = {.tv_sec = 5};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ok(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)));
	ok(connect(fd, (const struct sockaddr *)at, sizeof(*at)));
	return fd;
}

/* Asks for what no service has; true when the answer is the mesh's, and in *closes whether it was
 * the last. */
static bool asks(int fd, bool *closes)
{
	static const char request[] = "GET /nobody/ HTTP/1.1\r\nHost: h\r\n\r\n";
	char in[4096] = "";
	ssize_t n;

	assert_int_equal(send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL), sizeof(request) - 1);
	n = recv(fd, in, sizeof(in) - 1, 0);
	*closes = strstr(in, "connection: close");
	return n > 0 && strstr(in, "x-mesh-cause: no-route");
}

static int sockets_there(void)
{
	DIR *d = fdopendir(openat(fx.ws.rendezvous, ".", O_RDONLY | O_DIRECTORY));
	struct dirent *e;
	int n = 0;

	assert_non_null(d);
	while ((e = readdir(d)))
		n += e->d_name[0] != '.';
	closedir(d);
	return n;
}

/* --- stories -----------------------------------------------------------------------------------
 */

/* An upgrade: its words mean something else. */
static void records_of_another_layout_are_left_alone(void **state)
{
	struct takeover t = {0};
	pid_t pid;

	supervisor_begin();
	pid = start_worker("real");
	fx.ws.w[0].ring->layout = RING_LAYOUT + 1;
	fx.ws.w[0].ring->lost = 7;
	fx.ws.w[0].ring->unsampled = 8;
	supervisor_dies();
	find_the_one(&t);
	adopt_the_one(&t);
	assert_int_equal(workers_old_ones(&fx.ws), 1);
	assert_int_equal(workers_drain_rings(&fx.ws), 0);
	assert_int_equal(workers_ring_lost(&fx.ws, 0), 0);
	assert_int_equal(workers_unsampled(&fx.ws), 0);
	workers_retire(&fx.ws);
	wait_for_the_old_ones();
	reap(pid);
	assert_int_equal(workers_ring_lost(&fx.ws, 0), 0);
	assert_int_equal(workers_unsampled(&fx.ws), 0);
	supervisor_end();
}

static void a_worker_serves_on_alone_and_is_taken_over(void **state)
{
	struct takeover t = {0};
	struct sockaddr_in at;
	struct addr where = {.port = 0};
	int listener = listen_on_loopback(&at), kept, fresh, fd;
	uint64_t netns;
	socklen_t len = sizeof(netns);
	bool closes;
	pid_t pid;

	ok(getsockopt(listener, SOL_SOCKET, SO_NETNS_COOKIE, &netns, &len));
	supervisor_begin();
	pid = start_worker("real");
	ok(workers_listener(&fx.ws, 7, IPC_GATEWAY, netns, listener));
	kept = connect_to(&at);
	assert_true(asks(kept, &closes));
	supervisor_dies();
	close(listener);
	fresh = connect_to(&at);
	assert_true(asks(kept, &closes) && !closes);
	assert_true(asks(fresh, &closes) && !closes);

	supervisor_begin();
	assert_int_equal(sockets_there(), 1);
	ok(takeover_find(&t, fx.ws.rendezvous, FIND_MS));
	assert_int_equal(t.nold, 1);
	assert_int_equal(t.old[0].pid, pid);
	assert_int_equal(t.old[0].id, 0);
	assert_true(t.old[0].ring_fd >= 0);
	assert_int_equal(t.nlisteners, 1);
	(void)addr_parse_ip("127.0.0.1", where.ip);
	where.port = ntohs(at.sin_port);
	assert_int_equal(takeover_listener(&t, false, netns, &where), -1);
	assert_int_equal(takeover_listener(&t, true, netns + 1, &where), -1);
	fd = takeover_listener(&t, true, netns, &where);
	assert_true(fd >= 0);
	assert_int_equal(takeover_listener(&t, true, netns, &where), -1); /* it is given away */
	adopt_the_one(&t);
	assert_int_equal(workers_old_ones(&fx.ws), 1);
	assert_true(asks(kept, &closes) && !closes);

	workers_retire(&fx.ws);
	while (!closes) { /* told with an answer, and not hung up on before */
		ok(loop_once(&fx.loop, 10));
		assert_true(asks(kept, &closes));
	}
	assert_true(asks(fresh, &closes) && closes);
	wait_for_the_old_ones();
	assert_int_equal(fx.died, 1);
	assert_int_equal(sockets_there(), 0);
	reap(pid);
	supervisor_end();
	close(kept);
	close(fresh);
	close(fd);
}

static void a_worker_that_was_told_to_wait_ends_when_nobody_comes(void **state)
{
	struct sockaddr_in at;
	int listener = listen_on_loopback(&at), kept;
	bool closes;
	pid_t pid;

	supervisor_begin();
	pid = start_worker("real");
	ok(workers_listener(&fx.ws, 1, IPC_GATEWAY, 1, listener));
	close(listener);
	kept = connect_to(&at);
	assert_true(asks(kept, &closes) && !closes);
	workers_leave(&fx.ws, 500);
	assert_true(asks(kept, &closes) && !closes);
	while (!closes)
		assert_true(asks(kept, &closes));
	reap(pid);
	close(kept);
	assert_int_equal(sockets_there(), 1);
	assert_int_equal(workers_running(&fx.ws), 0);
	supervisor_end();
}

static bool ends_within(pid_t pid, int ms)
{
	struct pollfd end = {.fd = pidfd_open(pid, 0), .events = POLLIN};
	int n;

	assert_true(end.fd >= 0);
	n = poll(&end, 1, ms);
	close(end.fd);
	return n != 0;
}

/* Who came looked for what there is, and failed before it was up. */
static void a_worker_ends_when_whoever_came_has_gone_again(void **state)
{
	struct takeover t = {0};
	struct sockaddr_in at;
	int listener = listen_on_loopback(&at);
	pid_t pid;

	supervisor_begin();
	pid = start_worker("real");
	ok(workers_listener(&fx.ws, 1, IPC_GATEWAY, 1, listener));
	close(listener);
	workers_leave(&fx.ws, 500);
	supervisor_end();
	find_the_one(&t);
	assert_int_equal(t.nlisteners, 1);
	adopt_the_one(&t);
	assert_false(ends_within(pid, 600)); /* by its time, while somebody is there */
	supervisor_end();
	alarm(DEADLINE_S);
	reap(pid);
	alarm(0);
}

/* The socket that it left is removed by whoever comes next. */
static void the_socket_of_a_dead_worker_is_removed(void **state)
{
	struct takeover t = {0};
	pid_t pid;

	supervisor_begin();
	pid = start_worker("real");
	supervisor_dies(); /* it held nothing that anybody would miss, so it ends */
	reap(pid);
	supervisor_begin();
	assert_true(sockets_there() > 0);
	ok(takeover_find(&t, fx.ws.rendezvous, FIND_MS));
	assert_int_equal(t.nold, 0);
	assert_int_equal(sockets_there(), 0);
	takeover_done(&t);
	supervisor_end();
}

static void a_worker_that_hangs_is_not_waited_for(void **state)
{
	struct takeover t = {0};
	struct sockaddr_in at;
	int listener = listen_on_loopback(&at);
	pid_t pid;

	supervisor_begin();
	pid = start_worker("real");
	ok(workers_listener(&fx.ws, 1, IPC_GATEWAY, 1, listener));
	close(listener);
	kill(pid, SIGSTOP);
	supervisor_dies();
	supervisor_begin();
	ok(takeover_find(&t, fx.ws.rendezvous, 100));
	assert_int_equal(t.nold, 0);
	assert_int_equal(sockets_there(), 0);
	reap(pid);
	takeover_done(&t);
	supervisor_end();
}

static void what_a_worker_says_of_its_descriptors_is_not_believed(void **state)
{
	struct takeover t = {0};
	pid_t pid;

	supervisor_begin();
	pid = start_worker("liar");
	supervisor_dies();
	find_the_one(&t);
	assert_int_equal(t.nlisteners, 0);
	adopt_the_one(&t);
	assert_null(fx.ws.w[3].ring);
	fx.ws.drain_ms = 100;
	workers_retire(&fx.ws); /* it does not listen to that either: it is killed */
	wait_for_the_old_ones();
	reap(pid);
	supervisor_end();
}

/* One that names a gauge that there is not, or another's, is watched and ended all the same. */
static void a_worker_that_lies_about_its_gauge_is_ended(void **state)
{
	struct takeover t = {0};
	pid_t pid;

	supervisor_begin();
	pid = start_worker("impostor");
	supervisor_dies();
	find_the_one(&t);
	adopt_the_one(&t);
	assert_int_equal(workers_old_ones(&fx.ws), 1);
	fx.ws.drain_ms = 100;
	workers_retire(&fx.ws);
	wait_for_the_old_ones();
	reap(pid);
	supervisor_end();
}

static void only_its_own_superior_is_heard(void **state)
{
	int dir = rendezvous_open(run_dir), fd = rendezvous_bind(dir, "test"), peer, pidfd;
	char byte;

	assert_true(fd >= 0);
	assert_int_equal(rendezvous_dial(dir, "test", &pidfd), -ECONNREFUSED);
	ok(rendezvous_listen(fd));
	assert_int_equal(rendezvous_accept(fd, geteuid()), -EAGAIN);
	peer = rendezvous_dial(dir, "test", &pidfd);
	assert_true(peer >= 0);
	assert_int_equal(rendezvous_accept(fd, geteuid() + 1), -EAGAIN);
	assert_int_equal(recv(peer, &byte, 1, 0), 0); /* hung up */
	close(peer);
	close(pidfd);
	peer = rendezvous_dial(dir, "test", &pidfd);
	assert_true(peer >= 0);
	close(peer);
	close(pidfd);
	peer = rendezvous_accept(fd, geteuid());
	assert_true(peer >= 0);
	close(peer);
	close(fd);
	rendezvous_remove(dir, "test");
	close(dir);
}

static void a_directory_of_others_is_not_used(void **state)
{
	char path[64];

	snprintf(path, sizeof(path), "%s/" RENDEZVOUS_DIR, run_dir);
	ok(chmod(path, 0755));
	assert_int_equal(rendezvous_open(run_dir), -EPERM);
	ok(chmod(path, 0700));
}

static int make_run_dir(void **state)
{
	return mkdtemp(run_dir) ? 0 : -1;
}

/* Fails when anything is left in there. */
static int remove_run_dir(void **state)
{
	rendezvous_sweep(run_dir);
	return rmdir(run_dir);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_worker_serves_on_alone_and_is_taken_over),
		cmocka_unit_test(records_of_another_layout_are_left_alone),
		cmocka_unit_test(a_worker_that_was_told_to_wait_ends_when_nobody_comes),
		cmocka_unit_test(a_worker_ends_when_whoever_came_has_gone_again),
		cmocka_unit_test(the_socket_of_a_dead_worker_is_removed),
		cmocka_unit_test(a_worker_that_hangs_is_not_waited_for),
		cmocka_unit_test(what_a_worker_says_of_its_descriptors_is_not_believed),
		cmocka_unit_test(a_worker_that_lies_about_its_gauge_is_ended),
		cmocka_unit_test(only_its_own_superior_is_heard),
		cmocka_unit_test(a_directory_of_others_is_not_used),
	};

	if (argc == 2 && !strcmp(argv[1], "worker"))
		return play(getenv("WORKER_PART"));
	return cmocka_run_group_tests(tests, make_run_dir, remove_run_dir);
}
