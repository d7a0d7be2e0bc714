/* SPDX-License-Identifier: Apache-2.0 */
/* Events of the kernel: listeners that come and go, captured sockets that close; and the life of
 * the attachment itself: what is refused, what a dead agent leaves, what is left at the end. */
#include "tests/bpf/fixture.h"

#include "agent/kernel/sockdiag.h"

#include <bpf/bpf.h>
#include <sys/prctl.h>

#define EVENTS 256

static struct loop loop;
static struct mesh_event seen[EVENTS];
static size_t nseen;

static uint64_t slow_ns; /* that the reader takes for each: more than it takes to make one */

static void on_event(const struct mesh_event *e, void *arg)
{
	uint64_t until = clock_mono_ns() + slow_ns;

	assert_ptr_equal(arg, &loop);
	if (nseen < EVENTS)
		seen[nseen++] = *e;
	while (slow_ns && clock_mono_ns() < until)
		;
}

/* The first event of that kind about that socket; waits for the loop to deliver it. */
static const struct mesh_event *await_event(enum mesh_event_kind kind, uint64_t cookie)
{
	uint64_t deadline = clock_mono_ns() + WAIT_MS * 1000000ULL;
	size_t i = 0;

	do {
		for (; i < nseen; i++)
			if (seen[i].kind == kind && seen[i].cookie == cookie)
				return &seen[i];
		ok(loop_once(&loop, 20));
		assert_true(kernel_events_drain(fx.k) >= 0);
	} while (clock_mono_ns() < deadline);
	fail_msg("no event of kind %d", kind);
	return NULL;
}

static void assert_listener(const struct mesh_event *e, const char *sub, const char *ip,
			    uint16_t port)
{
	uint8_t want[16];

	ok(addr_parse_ip(ip, want));
	assert_int_equal(e->cgroup, id_of(sub));
	assert_int_equal(e->netns, fx.netns);
	assert_memory_equal(e->ip, want, 16);
	assert_int_equal(ntohs(e->port), port);
}

static int setup(void **state)
{
	if (fixture_setup(state))
		return -1;
	ok(loop_init(&loop));
	return kernel_events_start(fx.k, &loop, on_event, &loop);
}

static int teardown(void **state)
{
	if (fixture_teardown(state))
		return -1;
	loop_done(&loop);
	return 0;
}

static int before(void **state)
{
	assert_true(kernel_events_drain(fx.k) >= 0); /* what the test before left */
	nseen = 0;
	return test_setup(state);
}

static void listen_and_close_are_reported(void **state)
{
	static const struct {
		const char *ip;
		bool v6only;
	} cases[] = {{"127.0.0.1", false},
		     {"0.0.0.0", false},
		     {"::1", true},
		     {"::", false},
		     {"::", true}};

	enter("/app/sub");
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int fd = listen_on(cases[i].ip, 0, cases[i].v6only);
		uint64_t cookie = cookie_of(fd, SO_COOKIE);
		const struct mesh_event *e = await_event(MESH_EV_LISTEN, cookie);
		uint16_t port = local_port(fd);

		assert_listener(e, "/app/sub", cases[i].ip, port);
		assert_int_equal(e->v6only, cases[i].v6only);
		close(fd);
		assert_listener(await_event(MESH_EV_UNLISTEN, cookie), "/app/sub", cases[i].ip,
				port);
	}
}

static void listener_of_a_killed_process_is_reported(void **state)
{
	uint64_t cookie;
	int fd, status;
	pid_t pid;

	enter("/server");
	fd = listen_on("127.0.0.1", 0, false);
	cookie = cookie_of(fd, SO_COOKIE);
	await_event(MESH_EV_LISTEN, cookie);
	pid = fork();
	if (pid == 0) {
		pause();
		_exit(0);
	}
	close(fd);
	ok(kill(pid, SIGKILL));
	await_event(MESH_EV_UNLISTEN, cookie);
	assert_int_equal(waitpid(pid, &status, 0), pid);
}

/* Others than the reader of events have to have their turn. */
static void who_listens_without_end_does_not_keep_the_reader(void **state)
{
	pid_t pid;
	int r, status;

	slow_ns = 1000000;
	enter("/other");
	pid = fork();
	if (pid == 0)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (pid == 0)
		close(listen_on("127.0.0.1", 0, false));
	alarm(30); /* what never returns is ended: that is the failure looked for */
	do
		r = kernel_events_drain(fx.k);
	while (r >= 0 && r < 2); /* it is under way; how far a round gets is the machine's affair */
	assert_true(r > 0);
	ok(loop_once(&loop, WAIT_MS));
	alarm(0);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	slow_ns = 0;
	while (kernel_events_drain(fx.k) > 0)
		;
}

static void what_a_round_leaves_comes_in_the_next_ones(void **state)
{
	enum { MANY = 60 };
	uint64_t cookie[MANY];

	slow_ns = 1000000;
	enter("/app");
	for (int i = 0; i < MANY; i++) {
		int fd = listen_on("127.0.0.1", 0, false);

		cookie[i] = cookie_of(fd, SO_COOKIE);
		close(fd);
	}
	assert_in_range(kernel_events_drain(fx.k), 1, 2 * MANY - 1);
	while (nseen < 2 * MANY)
		ok(loop_once(&loop, WAIT_MS));
	for (size_t i = 0; i < 2 * MANY; i++) {
		assert_int_equal(seen[i].kind, i % 2 ? MESH_EV_UNLISTEN : MESH_EV_LISTEN);
		assert_int_equal(seen[i].cookie, cookie[i / 2]);
	}
	slow_ns = 0;
}

static void listener_outside_is_not_reported(void **state)
{
	uint64_t cookie;
	int outside, inside;

	outside = listen_on("127.0.0.1", 0, false);
	cookie = cookie_of(outside, SO_COOKIE);
	close(outside);
	enter("/app");
	inside = listen_on("127.0.0.1", 0, false);
	await_event(MESH_EV_LISTEN, cookie_of(inside, SO_COOKIE));
	for (size_t i = 0; i < nseen; i++)
		assert_int_not_equal(seen[i].cookie, cookie);
	close(inside);
}

struct found {
	uint64_t cookie;
	struct mesh_listener l;
	unsigned total, times;
};

static void on_listener(uint64_t cookie, const struct mesh_listener *l, void *arg)
{
	struct found *f = arg;

	f->total++;
	if (cookie == f->cookie) {
		f->l = *l;
		f->times++;
	}
}

static void find_listener(int netns_fd, struct found *f)
{
	int r;

	f->total = f->times = 0;
	while ((r = sockdiag_listeners(netns_fd, on_listener, f)) == -EINTR)
		f->total = f->times = 0;
	ok(r);
}

static void scan_finds_what_is_older_and_its_end_is_reported(void **state)
{
	struct found f = {.cookie = cookie_of(fx.server4, SO_COOKIE)};
	const struct mesh_event *e;
	uint8_t want[16];

	find_listener(-1, &f);
	assert_int_equal(f.times, 1);
	assert_int_equal(f.total, 4); /* two servers, two workers */
	assert_int_equal(f.l.cgroup, id_of("/server"));
	assert_int_equal(f.l.netns, fx.netns);
	assert_int_equal(ntohs(f.l.port), fx.port4);
	ok(addr_parse_ip("127.0.0.1", want));
	assert_memory_equal(f.l.ip, want, 16);

	ok(kernel_listener_add(fx.k, f.cookie, &f.l));
	assert_int_equal(kernel_listener_add(fx.k, f.cookie, &f.l), -EEXIST);
	close(fx.server4);
	e = await_event(MESH_EV_UNLISTEN, f.cookie);
	assert_listener(e, "/server", "127.0.0.1", fx.port4);
	assert_int_equal(kernel_listener_delete(fx.k, f.cookie), -ENOENT);
	enter("/server");
	fx.server4 = listen_on("127.0.0.1", fx.port4, false);
}

static void scan_looks_into_another_namespace(void **state)
{
	int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), other, fd;
	struct found f = {0};

	assert_true(home >= 0);
	ok(unshare(CLONE_NEWNET));
	other = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	fd = listen_on("::", 0, true);
	f.cookie = cookie_of(fd, SO_COOKIE);
	ok(setns(home, CLONE_NEWNET));

	find_listener(other, &f);
	assert_int_equal(f.total, 1);
	assert_int_equal(f.times, 1);
	assert_int_equal(f.l.v6only, 1);
	assert_int_equal(f.l.netns, cookie_of(fd, SO_NETNS_COOKIE));
	assert_int_not_equal(f.l.netns, fx.netns);
	find_listener(-1, &f); /* and is back home */
	assert_int_equal(f.times, 0);
	close(fd);
	close(other);
	close(home);
}

static void transfer(int from, int to, size_t n)
{
	char buf[4096] = {0};

	for (size_t got = 0; n > 0; n -= got) {
		got = n < sizeof(buf) ? n : sizeof(buf);
		assert_int_equal(send(from, buf, got, 0), got);
		assert_int_equal(recv(to, buf, got, MSG_WAITALL), got);
	}
}

static void close_reports_bytes_and_times(void **state)
{
	const struct mesh_event *e;
	uint64_t cookie, closed = counter(MESH_C_CLOSED);
	int error, fd, accepted;
	uint8_t want[16];

	for (int client_first = 0; client_first < 2; client_first++) {
		enter("/app");
		fd = try_connect("127.0.0.1", fx.port4, &error);
		assert_int_equal(error, 0);
		cookie = cookie_of(fd, SO_COOKIE);
		accepted = accept_within(fx.worker4, WAIT_MS);
		transfer(fd, accepted, 1000);
		transfer(accepted, fd, 250000);
		close(client_first ? fd : accepted);
		close(client_first ? accepted : fd);
		e = await_event(MESH_EV_CLOSE, cookie);
		assert_int_equal(e->bytes_sent, 1000);
		assert_int_equal(e->bytes_received, 250000);
		assert_int_equal(e->error, 0);
		assert_int_equal(e->upstream, UPSTREAM);
		assert_int_equal(e->workload, APP);
		assert_int_equal(e->endpoint, MESH_NONE);
		assert_int_equal(e->netns, fx.netns);
		assert_int_equal(ntohs(e->port), fx.port4);
		ok(addr_parse_ip("127.0.0.1", want));
		assert_memory_equal(e->ip, want, 16);
		assert_true(e->connect_ns > 0 && e->connect_ns <= e->duration_ns);
	}
	assert_int_equal(counter(MESH_C_CLOSED), closed + 2);
}

static void close_reports_a_reset(void **state)
{
	struct linger reset = {.l_onoff = 1};
	int error, fd, accepted;
	uint64_t cookie;

	enter("/app");
	fd = try_connect("::1", fx.port6, &error);
	assert_int_equal(error, 0);
	cookie = cookie_of(fd, SO_COOKIE);
	accepted = accept_within(fx.worker6, WAIT_MS);
	ok(setsockopt(accepted, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)));
	close(accepted);
	assert_int_equal(await_event(MESH_EV_CLOSE, cookie)->error, ECONNRESET);
	close(fd);
}

/* CLOSE wakes nobody up; what comes behind it in the ring must all the same. */
static void listen_wakes_the_reader_behind_a_close(void **state)
{
	uint64_t deadline = clock_mono_ns() + WAIT_MS * 1000000ULL;
	uint64_t closed = counter(MESH_C_CLOSED);
	int error, fd, accepted;

	enter("/app");
	fd = try_connect("127.0.0.1", fx.port4, &error);
	accepted = accept_within(fx.worker4, WAIT_MS);
	close(accepted);
	close(fd);
	eventually(counter(MESH_C_CLOSED) > closed); /* in the ring, and nobody was woken */
	fd = listen_on("127.0.0.1", 0, false);
	while (nseen < 2 && clock_mono_ns() < deadline)
		ok(loop_once(&loop, WAIT_MS));
	assert_int_equal(nseen, 2);
	assert_int_equal(seen[0].kind, MESH_EV_CLOSE);
	assert_int_equal(seen[1].kind, MESH_EV_LISTEN);
	close(fd);
}

/* A server that listens with MPTCP (Go does by default) is one all the same: its subflow is what
 * listens. */
static void mptcp_listener_is_reported(void **state)
{
	struct sockaddr_storage ss;
	socklen_t len = address("127.0.0.1", 0, false, &ss);
	struct mesh_event listening;
	int fd;

	enter("/server");
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_MPTCP);
	if (fd < 0) {
		print_message("this kernel has no MPTCP: nothing to report\n");
		skip();
	}
	ok(bind(fd, (struct sockaddr *)&ss, len));
	ok(listen(fd, 8));
	while (!nseen)
		ok(loop_once(&loop, WAIT_MS));
	listening = seen[0];
	assert_int_equal(listening.kind, MESH_EV_LISTEN);
	assert_listener(&listening, "/server", "127.0.0.1", local_port(fd));
	close(fd);
	await_event(MESH_EV_UNLISTEN, listening.cookie);
}

static void unmanaged_socket_closes_without_an_event(void **state)
{
	int error, fd, accepted;

	enter("/other");
	fd = try_connect("127.0.0.1", fx.port4, &error);
	accepted = accept_within(fx.server4, WAIT_MS);
	close(fd);
	close(accepted);
	enter("/app");
	fd = listen_on("127.0.0.1", 0, false);
	await_event(MESH_EV_LISTEN, cookie_of(fd, SO_COOKIE));
	for (size_t i = 0; i < nseen; i++)
		assert_int_not_equal(seen[i].kind, MESH_EV_CLOSE);
	close(fd);
}

static void worker_descriptor_of_origdst_is_read_only(void **state)
{
	struct mesh_origdst_key key = {.port = 1};
	struct mesh_origdst value = {0};
	int fds[KERNEL_WORKER_FDS];

	kernel_worker_fds(fx.k, fds);
	assert_int_equal(bpf_map_update_elem(fds[KERNEL_WORKER_FDS - 1], &key, &value, BPF_ANY),
			 -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(bpf_map_delete_elem(fds[KERNEL_WORKER_FDS - 1], &key), -1);
	assert_int_equal(errno, EPERM);
}

static unsigned attached_to(const char *sub)
{
	__u32 ids[64], n = 64;
	char dir[PATH_MAX];
	int fd;

	path_of(sub, dir);
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	ok(bpf_prog_query(fd, BPF_CGROUP_INET4_CONNECT, 0, NULL, ids, &n));
	close(fd);
	return n;
}

/* A second mesh, on BASE/other, whose agent dies without a word: its pins keep it attached until
 * the next agent comes, which takes its place. */
static void next_agent_replaces_a_dead_one(void **state)
{
	char dir[PATH_MAX], pins[80], error[KERNEL_ERROR_MAX];
	struct kernel_config cfg = {.cgroup = dir, .pin_dir = pins};
	struct kernel *k;
	int status;
	pid_t pid;

	path_of("/other", dir);
	snprintf(pins, sizeof(pins), "%.60s-other", fx.pins);
	pid = fork();
	if (pid == 0)
		_exit(kernel_open(&cfg, &k, error) ? 1 : 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	assert_int_equal(attached_to("/other"), 1);

	ok(kernel_open(&cfg, &k, error));
	assert_int_equal(attached_to("/other"), 1);
	assert_int_equal(kernel_arrays(k)->ctl->abi, MESH_ABI_VERSION);
	ok(kernel_verify(k, error));
	kernel_close(&k);
	assert_null(k);
	assert_int_equal(attached_to("/other"), 0);
	assert_int_equal(access(pins, F_OK), -1);
}

/* Whoever comes second must not detach the programs of the first, and must say who is in the way.
 */
static void second_agent_leaves_a_living_one_alone(void **state)
{
	struct kernel_config cfg = {.cgroup = fx.base, .pin_dir = fx.pins};
	char error[KERNEL_ERROR_MAX] = "";
	struct kernel *k = NULL;

	assert_int_equal(kernel_open(&cfg, &k, error), -EBUSY);
	assert_null(k);
	assert_non_null(strstr(error, fx.pins));
	ok(kernel_verify(fx.k, error));
	assert_int_equal(attached_to(""), 1);
}

static void what_is_no_cgroup_is_refused_and_leaves_nothing(void **state)
{
	struct kernel_config cfg = {.cgroup = "/tmp", .pin_dir = "/sys/fs/bpf/hooks-refused"};
	char error[KERNEL_ERROR_MAX] = "";
	struct kernel *k = NULL;

	assert_int_equal(kernel_open(&cfg, &k, error), -EINVAL);
	assert_null(k);
	assert_non_null(strstr(error, "--cgroup"));
	assert_int_equal(access(cfg.pin_dir, F_OK), -1);
}

static void foreign_directory_is_not_emptied(void **state)
{
	char dir[] = "/tmp/hooks-XXXXXX", file[64], error[KERNEL_ERROR_MAX] = "";
	struct kernel_config cfg = {.cgroup = fx.base, .pin_dir = dir};
	struct kernel *k = NULL;

	assert_non_null(mkdtemp(dir));
	snprintf(file, sizeof(file), "%s/precious", dir);
	close(open(file, O_CREAT | O_WRONLY, 0600));
	assert_true(kernel_open(&cfg, &k, error) < 0);
	ok(access(file, F_OK));
	ok(unlink(file));
	ok(rmdir(dir));
}

static void detaching_is_noticed(void **state)
{
	char error[KERNEL_ERROR_MAX] = "", link[128];
	struct bpf_link_info info = {0};
	__u32 len = sizeof(info);
	int fd;

	ok(kernel_verify(fx.k, error));
	snprintf(link, sizeof(link), "%s/link_mesh_connect4", fx.pins);
	fd = bpf_obj_get(link);
	assert_true(fd >= 0);
	ok(bpf_obj_get_info_by_fd(fd, &info, &len));
	ok(bpf_link_detach(fd));
	assert_int_equal(kernel_verify(fx.k, error), -ENOTCONN);
	assert_non_null(strstr(error, "mesh_connect4"));
	close(fd);
}

static void this_machine_qualifies(void **state)
{
	struct kernel_check c[KERNEL_CHECKS];
	size_t n = kernel_qualify(fx.base, c);

	assert_in_range(n, 8, KERNEL_CHECKS);
	for (size_t i = 0; i < n; i++)
		if (!c[i].ok)
			fail_msg("%s: %s", c[i].name, c[i].missing);
	n = kernel_qualify("/tmp", c);
	for (size_t i = 0; i < n; i++)
		if (!strcmp(c[i].name, "cgroup2"))
			assert_false(c[i].ok || !*c[i].remedy || !*c[i].missing);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(listen_and_close_are_reported, before),
		cmocka_unit_test_setup(listener_of_a_killed_process_is_reported, before),
		cmocka_unit_test_setup(who_listens_without_end_does_not_keep_the_reader, before),
		cmocka_unit_test_setup(what_a_round_leaves_comes_in_the_next_ones, before),
		cmocka_unit_test_setup(listener_outside_is_not_reported, before),
		cmocka_unit_test_setup(scan_finds_what_is_older_and_its_end_is_reported, before),
		cmocka_unit_test_setup(scan_looks_into_another_namespace, before),
		cmocka_unit_test_setup(close_reports_bytes_and_times, before),
		cmocka_unit_test_setup(close_reports_a_reset, before),
		cmocka_unit_test_setup(listen_wakes_the_reader_behind_a_close, before),
		cmocka_unit_test_setup(mptcp_listener_is_reported, before),
		cmocka_unit_test_setup(unmanaged_socket_closes_without_an_event, before),
		cmocka_unit_test_setup(worker_descriptor_of_origdst_is_read_only, before),
		cmocka_unit_test_setup(next_agent_replaces_a_dead_one, before),
		cmocka_unit_test_setup(second_agent_leaves_a_living_one_alone, before),
		cmocka_unit_test_setup(what_is_no_cgroup_is_refused_and_leaves_nothing, before),
		cmocka_unit_test_setup(foreign_directory_is_not_emptied, before),
		cmocka_unit_test_setup(this_machine_qualifies, before),
		cmocka_unit_test_setup(detaching_is_noticed, before),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
