/* SPDX-License-Identifier: Apache-2.0 */
/* What the hook counts of each workload's connections, and what the sockets that exist tell of
 * them. */
#include "tests/bpf/fixture.h"

#include "agent/kernel/connections.h"

#include <linux/io_uring.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define MANY 400 /* connections: several portions of the list */

static uint64_t way(const char *sub, enum mesh_coverage_way w)
{
	struct mesh_coverage c;

	ok(kernel_coverage(fx.k, id_of(sub), &c));
	return c.n[w];
}

static void call_server(void)
{
	int error, fd = try_connect("127.0.0.1", fx.port4, &error);

	assert_int_equal(error, 0);
	close(fd);
}

/* One connect() of the app, counted once and nowhere else. */
static void assert_counted(enum mesh_coverage_way w, void (*fn)(void))
{
	struct mesh_coverage before, after;

	ok(kernel_coverage(fx.k, id_of("/app"), &before));
	enter("/app");
	fn();
	ok(kernel_coverage(fx.k, id_of("/app"), &after));
	for (int i = 0; i < MESH_COV_WAYS; i++)
		assert_int_equal(after.n[i], before.n[i] + (i == (int)w));
}

static void call_elsewhere(void)
{
	int error, other = listen_on("127.0.0.1", 0, false),
		   fd = try_connect("127.0.0.1", local_port(other), &error);

	assert_int_equal(error, 0);
	close(fd);
	close(other);
}

static void call_by_mptcp(void)
{
	struct sockaddr_storage ss;
	socklen_t len = address("127.0.0.1", fx.port4, false, &ss);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_MPTCP);

	assert_true(fd >= 0);
	ok(connect(fd, (struct sockaddr *)&ss, len));
	close(fd);
}

static void each_way_is_counted_once(void **state)
{
	assert_counted(MESH_COV_WORKER, call_server);
	assert_counted(MESH_COV_OTHER, call_elsewhere);
	set_netns(0, 0);
	assert_counted(MESH_COV_NOBODY, call_server);
	set_netns(cookie_of(fx.worker4, SO_COOKIE), cookie_of(fx.worker6, SO_COOKIE));
	set_dest("127.0.0.1", fx.port4, true, APP);
	assert_counted(MESH_COV_SELF, call_server);
	set_dest("127.0.0.1", fx.port4, true, SERVER);
}

static void mptcp_is_counted(void **state)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_MPTCP);

	if (fd < 0)
		skip();
	close(fd);
	assert_counted(MESH_COV_PROTOCOL, call_by_mptcp);
}

static void below_a_workload_it_is_the_workload_that_counts(void **state)
{
	uint64_t before = way("/app", MESH_COV_WORKER);

	enter("/app/sub/sub");
	call_server();
	assert_int_equal(way("/app", MESH_COV_WORKER), before + 1);
}

static void a_workload_that_changes_keeps_its_counts(void **state)
{
	uint64_t before;

	enter("/app");
	call_server();
	before = way("/app", MESH_COV_WORKER);
	set_workload("/app", APP);
	assert_int_equal(way("/app", MESH_COV_WORKER), before);
}

static uint64_t stranger_n;

static void on_stranger(uint64_t cgroup, const struct mesh_stranger *s, void *arg)
{
	if (cgroup == *(uint64_t *)arg)
		stranger_n = s->n;
}

static uint64_t strangers_calls(const char *sub)
{
	uint64_t id = id_of(sub);

	stranger_n = 0;
	ok(kernel_strangers(fx.k, on_stranger, &id));
	return stranger_n;
}

static void strangers_are_counted_by_cgroup(void **state)
{
	uint64_t before = counter(MESH_C_STRANGER);

	enter("/other");
	call_elsewhere();
	assert_int_equal(strangers_calls("/other"), 0);
	call_server();
	call_server();
	assert_int_equal(strangers_calls("/other"), 2);
	assert_int_equal(counter(MESH_C_STRANGER), before + 2);
}

static void the_agents_own_cgroup_is_no_stranger(void **state)
{
	uint64_t before = strangers_calls("/other");

	kernel_arrays(fx.k)->ctl->agent_cgroup = id_of("/other");
	enter("/other");
	call_server();
	kernel_arrays(fx.k)->ctl->agent_cgroup = 0;
	assert_int_equal(strangers_calls("/other"), before);
}

/* --- the connections that exist --- */

struct found {
	uint16_t port; /* of the client's end */
	struct kernel_connection c;
	unsigned n;
};

static void on_connection(const struct kernel_connection *c, void *arg)
{
	struct found *f = arg;

	if (ntohs(c->local_port) == f->port) {
		f->c = *c;
		f->n++;
	}
}

/* The connection with this client socket, as the kernel's list shows it. */
static struct kernel_connection listed(int fd)
{
	struct found f = {.port = local_port(fd)};
	struct kernel_dump *d;
	int r;

	ok(kernel_dump_begin(fx.k, -1, &d));
	assert_int_equal(kernel_dump_netns(d), fx.netns);
	while ((r = kernel_dump_next(d, on_connection, &f)) > 0)
		;
	assert_int_equal(r, 0);
	kernel_dump_end(&d);
	assert_int_equal(f.n, 1);
	return f.c;
}

static void a_captured_connection_is_ours(void **state)
{
	struct kernel_connection c;
	int error, fd, fd6;

	enter("/app");
	fd = try_connect("127.0.0.1", fx.port4, &error);
	fd6 = try_connect("::1", fx.port6, &error);
	c = listed(fd);
	assert_true(c.ours);
	assert_int_equal(c.cgroup, id_of("/app"));
	assert_int_equal(ntohs(c.remote_port), fx.worker_port);
	assert_true(listed(fd6).ours);
	close(fd);
	close(fd6);
}

static void a_connection_that_escapes_says_why(void **state)
{
	struct kernel_connection c;
	int error, fd;

	set_netns(0, 0);
	enter("/app");
	fd = try_connect("127.0.0.1", fx.port4, &error);
	c = listed(fd);
	assert_false(c.ours);
	assert_int_equal(c.escape, MESH_COV_NOBODY);
	assert_int_equal(ntohs(c.remote_port), fx.port4);
	set_netns(cookie_of(fx.worker4, SO_COOKIE), cookie_of(fx.worker6, SO_COOKIE));
	close(fd);
}

static void a_connection_that_no_hook_judged_says_nothing(void **state)
{
	int error, fd;

	enter("/other");
	fd = try_connect("127.0.0.1", fx.port4, &error);
	assert_false(listed(fd).ours);
	assert_int_equal(listed(fd).escape, MESH_NONE);
	close(fd);
}

/* The hooks of a socket are those of the cgroup it was made in, whoever connects with it. */
static void a_socket_from_outside_is_seen_by_no_hook(void **state)
{
	struct sockaddr_storage ss;
	socklen_t len = address("127.0.0.1", fx.port4, false, &ss);
	struct mesh_coverage before, after;
	struct kernel_connection c;
	int fd;

	enter(NULL);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	ok(kernel_coverage(fx.k, id_of("/app"), &before));
	enter("/app");
	ok(connect(fd, (struct sockaddr *)&ss, len));
	ok(kernel_coverage(fx.k, id_of("/app"), &after));
	assert_memory_equal(&before, &after, sizeof(before));
	c = listed(fd);
	assert_false(c.ours);
	assert_int_equal(c.escape, MESH_NONE);
	assert_int_not_equal(c.cgroup, id_of("/app"));
	assert_int_equal(ntohs(c.remote_port), fx.port4);
	close(fd);
}

/* connect() by io_uring: its result, or -ENOSYS when this kernel has none for us. */
static int connect_by_uring(int fd, const struct sockaddr_storage *ss, socklen_t len)
{
	struct io_uring_params p = {0};
	int ring = (int)syscall(SYS_io_uring_setup, 1, &p), result;
	size_t sq_size = p.sq_off.array + p.sq_entries * sizeof(unsigned),
	       cq_size = p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe);
	struct io_uring_sqe *sqe;
	char *sq, *cq;

	if (ring < 0)
		return -ENOSYS;
	sq = mmap(NULL, sq_size, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
	cq = mmap(NULL, cq_size, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_CQ_RING);
	sqe = mmap(NULL, sizeof(*sqe), PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQES);
	assert_true(sq != MAP_FAILED && cq != MAP_FAILED && sqe != MAP_FAILED);
	*sqe = (struct io_uring_sqe){
		.opcode = IORING_OP_CONNECT, .fd = fd, .addr = (uintptr_t)ss, .off = len};
	*(unsigned *)(sq + p.sq_off.array) = 0;
	__atomic_store_n((unsigned *)(sq + p.sq_off.tail), 1, __ATOMIC_RELEASE);
	assert_int_equal(syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0),
			 1);
	result = ((struct io_uring_cqe *)(cq + p.cq_off.cqes))->res;
	munmap(sq, sq_size);
	munmap(cq, cq_size);
	munmap(sqe, sizeof(*sqe));
	close(ring);
	return result;
}

static void io_uring_is_no_way_around(void **state)
{
	uint64_t before = way("/app", MESH_COV_WORKER);
	struct sockaddr_storage ss;
	socklen_t len = address("127.0.0.1", fx.port4, false, &ss);
	int fd, result;

	enter("/app");
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	result = connect_by_uring(fd, &ss, len);
	if (result == -ENOSYS)
		skip();
	assert_int_equal(result, 0);
	assert_int_equal(way("/app", MESH_COV_WORKER), before + 1);
	assert_true(listed(fd).ours);
	close(fd);
}

/* Many portions: none is lost and none comes twice. */
static void a_long_list_is_whole(void **state)
{
	int error, fds[MANY], worker[MANY], left;

	while ((left = accept_within(fx.worker4, 0)) >= 0)
		close(left);
	enter("/app");
	for (int i = 0; i < MANY; i++) {
		fds[i] = try_connect("127.0.0.1", fx.port4, &error);
		worker[i] = accept_within(fx.worker4, WAIT_MS);
		assert_true(worker[i] >= 0);
	}
	for (int i = 0; i < MANY; i += MANY / 8)
		assert_true(listed(fds[i]).ours);
	for (int i = 0; i < MANY; i++) {
		close(fds[i]);
		close(worker[i]);
	}
}

static void every_reader_ends_when_there_is_nothing(void **state)
{
	struct kernel_dump *none = NULL;

	kernel_dump_end(&none);
	ok(kernel_coverage_reset(fx.k));
	assert_int_equal(way("/app", MESH_COV_WORKER), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(fn) cmocka_unit_test_setup(fn, test_setup)
		TEST(each_way_is_counted_once),
		TEST(mptcp_is_counted),
		TEST(below_a_workload_it_is_the_workload_that_counts),
		TEST(a_workload_that_changes_keeps_its_counts),
		TEST(strangers_are_counted_by_cgroup),
		TEST(the_agents_own_cgroup_is_no_stranger),
		TEST(a_captured_connection_is_ours),
		TEST(a_connection_that_escapes_says_why),
		TEST(a_connection_that_no_hook_judged_says_nothing),
		TEST(a_socket_from_outside_is_seen_by_no_hook),
		TEST(io_uring_is_no_way_around),
		TEST(a_long_list_is_whole),
		TEST(every_reader_ends_when_there_is_nothing),
	};

	return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
