/* SPDX-License-Identifier: Apache-2.0 */
/* Who is enrolled and who is not, and what becomes of the bytes of those who are. The hazards of
 * the redirect itself are tried in test_hazards.c. */
#include "agent/kernel/splice.h"
#include "tests/bpf/fixture.h"

#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>

#define SMALL 100

struct pair {
	int client, server;
};

static struct mesh_splice_ctl usual = {.mode = MESH_SPLICE_VERDICT};

static void switch_to(const struct mesh_splice_ctl *c)
{
	char error[KERNEL_ERROR_MAX];

	if (kernel_splice_set(fx.k, c, error))
		fail_msg("%s", error);
}

static uint64_t opened(enum mesh_accel_which group)
{
	struct mesh_accel a;

	ok(kernel_splice_total(fx.k, &a));
	return a.group[group].opened;
}

static void set_blocking(int fd, bool blocking)
{
	int flags = fcntl(fd, F_GETFL);

	ok(fcntl(fd, F_SETFL, blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK));
}

/* As an event-driven program does it, or (blocking) as a simple one. */
static int connect_as(const char *ip, uint16_t port, bool blocking)
{
	struct sockaddr_storage ss;
	bool v6 = strchr(ip, ':');
	socklen_t len = address(ip, port, v6, &ss);
	int fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
	struct pollfd p = {.fd = fd, .events = POLLOUT};

	assert_true(fd >= 0);
	ok(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)));
	set_blocking(fd, blocking);
	if (connect(fd, (struct sockaddr *)&ss, len) < 0)
		assert_int_equal(errno, EINPROGRESS);
	assert_int_equal(poll(&p, 1, WAIT_MS), 1);
	return fd;
}

static struct pair pair_up(const char *ip, uint16_t port, int listener, bool blocking)
{
	struct pair p = {.client = connect_as(ip, port, blocking)};

	p.server = accept_within(listener, WAIT_MS);
	assert_true(p.server >= 0);
	set_blocking(p.server, false);
	return p;
}

static void part(struct pair *p)
{
	close(p->client);
	close(p->server);
	eventually(!kernel_splice_pairs(fx.k));
}

static void pass_on(int from, int to, size_t n)
{
	char sent[4096], got[4096];
	struct pollfd p = {.fd = to, .events = POLLIN};

	for (size_t i = 0; i < n; i++)
		sent[i] = (char)rand();
	assert_int_equal(send(from, sent, n, MSG_NOSIGNAL), n);
	for (size_t at = 0; at < n;) {
		ssize_t r;

		assert_int_equal(poll(&p, 1, WAIT_MS), 1);
		r = recv(to, got + at, n - at, 0);
		assert_true(r > 0);
		at += (size_t)r;
	}
	assert_memory_equal(sent, got, n);
}

/* Both ways; what was redirected and what went by TCP meanwhile, the connection closed. */
static void talk(struct pair *p, int times, uint64_t *redirected, uint64_t *tcp)
{
	struct mesh_accel before, after;
	const struct mesh_accel_group *b = &before.group[MESH_ACCEL_ENROLLED],
				      *a = &after.group[MESH_ACCEL_ENROLLED];

	ok(kernel_splice_total(fx.k, &before));
	for (int i = 0; i < times; i++) {
		pass_on(p->client, p->server, SMALL);
		pass_on(p->server, p->client, SMALL);
	}
	part(p);
	ok(kernel_splice_total(fx.k, &after));
	*redirected = a->redirected - b->redirected;
	*tcp = a->tcp - b->tcp;
	assert_int_equal(a->messages - b->messages, *redirected || *tcp ? 2 * times : 0);
	assert_int_equal(a->turns - b->turns, *redirected || *tcp ? 2 * times : 0);
}

/* The first connection of two workloads: with TCP, and both are known afterwards. */
static void meet(const char *ip, uint16_t port, int listener)
{
	struct pair p = pair_up(ip, port, listener, false);
	uint64_t redirected, tcp;

	talk(&p, 2, &redirected, &tcp);
}

static void assert_enrolled(const char *ip, uint16_t port, int listener)
{
	uint64_t before, redirected, tcp;
	struct pair p;

	meet(ip, port, listener);
	before = opened(MESH_ACCEL_ENROLLED);
	p = pair_up(ip, port, listener, false);
	assert_int_equal(opened(MESH_ACCEL_ENROLLED), before + 1);
	assert_int_equal(kernel_splice_pairs(fx.k), 1);
	talk(&p, 3, &redirected, &tcp);
	assert_int_equal(redirected, 6 * SMALL);
	assert_int_equal(tcp, 0);
}

/* In which group it counts; MESH_ACCEL_GROUPS: in none. */
static void assert_left_alone(const char *ip, uint16_t port, int listener, bool blocking,
			      enum mesh_accel_which group)
{
	uint64_t enrolled = opened(MESH_ACCEL_ENROLLED),
		 before = group < MESH_ACCEL_GROUPS ? opened(group) : 0, redirected, tcp;
	struct pair p = pair_up(ip, port, listener, blocking);

	assert_int_equal(opened(MESH_ACCEL_ENROLLED), enrolled);
	if (group < MESH_ACCEL_GROUPS)
		assert_int_equal(opened(group), before + 1);
	talk(&p, 2, &redirected, &tcp);
	assert_int_equal(redirected + tcp, 0);
}

static int splice_setup(void **state)
{
	const struct mesh_service plain = {.flags = MESH_SVC_USED};
	struct mesh_upstream *u = &kernel_arrays(fx.k)->upstreams[UPSTREAM];

	test_setup(state);
	u->service = 0;
	ok(kernel_service_set(fx.k, 0, &plain));
	ok(kernel_splice_upstream(fx.k, UPSTREAM));
	for (uint32_t w = APP; w <= SUB; w++)
		ok(kernel_splice_forget(fx.k, w));
	usual.cgroup = id_of("/other");
	usual.uid = getuid();
	switch_to(&usual);
	return 0;
}

/* Workers where a hook sees them, too; and the mode that this kernel has. */
static int group_setup(void **state)
{
	char error[KERNEL_ERROR_MAX];

	if (fixture_setup(state))
		return -1;
	if (kernel_splice_set(fx.k, &usual, error)) {
		print_message("redirect alone: %s\n", error);
		usual.mode = MESH_SPLICE_REDIRECT;
	}
	close(fx.worker4);
	close(fx.worker6);
	enter("/other");
	fx.worker4 = listen_on("127.0.0.1", fx.worker_port, false);
	fx.worker6 = listen_on("::1", fx.worker_port, true);
	set_netns(cookie_of(fx.worker4, SO_COOKIE), cookie_of(fx.worker6, SO_COOKIE));
	return 0;
}

static void a_caller_and_a_worker_skip_tcp(void **state)
{
	enter("/app");
	assert_enrolled("127.0.0.1", fx.port4, fx.worker4);
	assert_enrolled("::1", fx.port6, fx.worker6);
	assert_enrolled("::ffff:127.0.0.1", fx.port4, fx.worker4);
}

static void a_worker_and_an_endpoint_skip_tcp(void **state)
{
	enter("/other");
	assert_enrolled("127.0.0.1", fx.port4, fx.server4);
	assert_enrolled("::1", fx.port6, fx.server6);
}

static void strangers_are_left_alone(void **state)
{
	struct mesh_splice_ctl c = usual;

	c.cgroup = id_of("/app");
	switch_to(&c);
	enter("/other");
	assert_left_alone("127.0.0.1", fx.port4, fx.server4, false, MESH_ACCEL_GROUPS);
}

/* The same cgroup, but another user: a health check, for one. */
static void who_shares_the_workers_cgroup_is_left_alone(void **state)
{
	struct mesh_splice_ctl c = usual;

	c.uid++;
	switch_to(&c);
	enter("/other");
	assert_left_alone("127.0.0.1", fx.port4, fx.server4, false, MESH_ACCEL_GROUPS);
}

static void off_enrolls_nobody(void **state)
{
	switch_to(&(struct mesh_splice_ctl){.mode = MESH_SPLICE_OFF});
	enter("/app");
	assert_left_alone("127.0.0.1", fx.port4, fx.worker4, false, MESH_ACCEL_GROUPS);
}

static void who_is_held_back_is_counted_as_control(void **state)
{
	const struct mesh_splice_steer nobody = {.hold_back = 1000};

	enter("/app");
	meet("127.0.0.1", fx.port4, fx.worker4);
	ok(kernel_splice_steer(fx.k, UPSTREAM, &nobody));
	assert_left_alone("127.0.0.1", fx.port4, fx.worker4, false, MESH_ACCEL_CONTROL);
}

static uint64_t word_of(enum mesh_splice_hop hop)
{
	struct mesh_accel a;

	ok(kernel_splice_accel(fx.k, UPSTREAM, &a));
	return a.brief[hop];
}

static bool is_brief(enum mesh_splice_hop hop)
{
	return mesh_brief_is(word_of(hop), clock_mono_ns() / 1000000000);
}

/* So many connections to a worker with so many requests on each. Returns how many were enrolled. */
static uint64_t connect_often(int connections, int requests)
{
	uint64_t before = opened(MESH_ACCEL_ENROLLED), redirected, tcp;

	for (int i = 0; i < connections; i++) {
		struct pair p = pair_up("127.0.0.1", fx.port4, fx.worker4, false);

		talk(&p, requests, &redirected, &tcp);
	}
	return opened(MESH_ACCEL_ENROLLED) - before;
}

/* Without a word of the supervisor's: some dozens say so, and some dozens take it back. */
static void brief_connections_are_held_back_until_others_come(void **state)
{
	uint64_t control;

	enter("/app");
	meet("127.0.0.1", fx.port4, fx.worker4);
	assert_int_equal(connect_often(30, 1), 30);
	assert_false(is_brief(MESH_TO_WORKER));
	connect_often(40, 1);
	assert_true(is_brief(MESH_TO_WORKER));
	assert_int_equal(word_of(MESH_TO_ENDPOINT), 0);
	control = opened(MESH_ACCEL_CONTROL);
	assert_in_range(connect_often(200, 1), 0, 40); /* 12 on average */
	assert_in_range(opened(MESH_ACCEL_CONTROL) - control, 160, 200);
	for (int i = 0; i < 500 && is_brief(MESH_TO_WORKER); i++)
		connect_often(1, 20);
	assert_int_equal(connect_often(10, 1), 10);
}

static void nothing_of_another_upstream_holds_for_the_next(void **state)
{
	enter("/app");
	meet("127.0.0.1", fx.port4, fx.worker4);
	connect_often(80, 1);
	assert_true(is_brief(MESH_TO_WORKER));
	ok(kernel_splice_upstream(fx.k, UPSTREAM));
	assert_int_equal(connect_often(10, 1), 10);
}

/* One that lives for long tells while it does. */
static void a_long_connection_is_heard_before_its_end(void **state)
{
	struct pair p;

	enter("/app");
	meet("127.0.0.1", fx.port4, fx.worker4);
	p = pair_up("127.0.0.1", fx.port4, fx.worker4, false);
	for (int i = 0; i < 20; i++) {
		struct pair brief = pair_up("127.0.0.1", fx.port4, fx.worker4, false);

		close(brief.client);
		close(brief.server);
	}
	assert_true(word_of(MESH_TO_WORKER) > 0);
	for (int i = 0; i < MESH_SPLICE_TELL; i++) {
		pass_on(p.client, p.server, SMALL);
		pass_on(p.server, p.client, SMALL);
	}
	assert_int_equal(word_of(MESH_TO_WORKER), 0);
	part(&p);
}

static void a_service_can_opt_out_and_in(void **state)
{
	const struct mesh_service out = {.flags = MESH_SVC_USED | MESH_SVC_ACCEL_OFF},
				  in = {.flags = MESH_SVC_USED | MESH_SVC_ACCEL_ON};
	const struct mesh_splice_steer nobody = {.hold_back = 1000};
	uint64_t before;

	enter("/app");
	meet("127.0.0.1", fx.port4, fx.worker4);
	before = opened(MESH_ACCEL_ENROLLED);
	ok(kernel_service_set(fx.k, 0, &out));
	assert_left_alone("127.0.0.1", fx.port4, fx.worker4, false, MESH_ACCEL_GROUPS);
	ok(kernel_service_set(fx.k, 0, &in));
	ok(kernel_splice_steer(fx.k, UPSTREAM, &nobody));
	for (int i = 0; i < 20; i++) { /* one in a hundred is of the control group */
		struct pair p = pair_up("127.0.0.1", fx.port4, fx.worker4, false);

		part(&p);
	}
	assert_in_range(opened(MESH_ACCEL_ENROLLED), before + 16, before + 20);
	assert_left_alone("127.0.0.1", fx.port4, fx.worker4, true, MESH_ACCEL_UNFIT);
}

static void a_workload_can_be_left_to_tcp_at_once(void **state)
{
	struct mesh_accel before, after;
	struct pair p;

	enter("/app");
	meet("127.0.0.1", fx.port4, fx.worker4);
	p = pair_up("127.0.0.1", fx.port4, fx.worker4, false);
	pass_on(p.client, p.server, SMALL);
	ok(kernel_splice_total(fx.k, &before));
	ok(kernel_splice_task(fx.k, APP, true));
	pass_on(p.client, p.server, SMALL);
	pass_on(p.server, p.client, SMALL);
	part(&p);
	ok(kernel_splice_total(fx.k, &after));
	assert_int_equal(after.group[1].redirected - before.group[1].redirected, SMALL);
	assert_int_equal(after.group[1].tcp - before.group[1].tcp, 2 * SMALL);
	assert_left_alone("127.0.0.1", fx.port4, fx.worker4, false, MESH_ACCEL_GROUPS);
}

/* --- who blocks --- */

static void a_caller_that_blocks_stays_with_tcp(void **state)
{
	struct mesh_splice_ctl c = usual;
	uint64_t before;
	struct pair p;

	enter("/app");
	assert_left_alone("127.0.0.1", fx.port4, fx.worker4, true, MESH_ACCEL_UNFIT);
	c.left_out = MESH_COVER_STYLE;
	switch_to(&c);
	before = opened(MESH_ACCEL_ENROLLED);
	p = pair_up("127.0.0.1", fx.port4, fx.worker4, true);
	assert_int_equal(opened(MESH_ACCEL_ENROLLED), before + 1);
	part(&p);
}

/* As libraries do that want a limit of time for connect(): not to block meanwhile says nothing. */
static void a_caller_that_blocks_once_it_is_connected_stays_with_tcp(void **state)
{
	enter("/app");
	for (int i = 0; i < 3; i++) {
		uint64_t before = opened(MESH_ACCEL_UNFIT), redirected, tcp;
		struct pair p = pair_up("127.0.0.1", fx.port4, fx.worker4, false);

		assert_int_equal(opened(MESH_ACCEL_UNFIT), before + 1);
		set_blocking(p.client, true);
		talk(&p, 2, &redirected, &tcp);
	}
}

/* A program that does both. */
static void a_caller_that_comes_to_block_is_not_enrolled_again(void **state)
{
	uint64_t redirected, tcp;
	struct pair p;

	enter("/app");
	meet("127.0.0.1", fx.port4, fx.worker4);
	assert_left_alone("127.0.0.1", fx.port4, fx.worker4, true, MESH_ACCEL_UNFIT);
	p = pair_up("127.0.0.1", fx.port4, fx.worker4, false);
	set_blocking(p.client, true);
	talk(&p, 2, &redirected, &tcp);
	assert_left_alone("127.0.0.1", fx.port4, fx.worker4, false, MESH_ACCEL_UNFIT);
}

static void a_callee_that_blocks_is_never_enrolled(void **state)
{
	enter("/other");
	for (int i = 0; i < 3; i++) {
		uint64_t before = opened(MESH_ACCEL_UNFIT), redirected, tcp;
		struct pair p = pair_up("127.0.0.1", fx.port4, fx.server4, false);

		assert_int_equal(opened(MESH_ACCEL_UNFIT), before + 1);
		set_blocking(p.server, true);
		talk(&p, 2, &redirected, &tcp);
	}
}

/* --- bytes --- */

static void assert_congestion(int fd, const char *want)
{
	char name[16] = "";
	socklen_t len = sizeof(name);

	ok(getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &len));
	assert_string_equal(name, want);
}

/* What is left to TCP on an enrolled connection is not paced as if a network were in between. */
static void bbr_is_not_for_what_stays_on_the_host(void **state)
{
	const struct mesh_splice_steer nobody = {.hold_back = 1000};
	struct pair p;

	if (setsockopt(fx.worker4, IPPROTO_TCP, TCP_CONGESTION, "bbr", 3)) {
		print_message("this kernel has no bbr\n");
		skip();
	}
	enter("/app");
	meet("127.0.0.1", fx.port4, fx.worker4);
	p = pair_up("127.0.0.1", fx.port4, fx.worker4, false);
	assert_congestion(p.server, "reno");
	part(&p);
	ok(kernel_splice_steer(fx.k, UPSTREAM, &nobody));
	p = pair_up("127.0.0.1", fx.port4, fx.worker4, false);
	assert_congestion(p.server, "bbr");
	part(&p);
}

/* Switched on and off all the time: every byte arrives, once and in its place. */
static void nothing_is_lost_when_it_is_switched(void **state)
{
	struct mesh_splice_ctl off = {.mode = MESH_SPLICE_OFF};
	uint64_t sent = 0, got = 0, round = 0;
	static uint8_t out[70000], in[70000];
	struct pair p;

	enter("/app");
	meet("127.0.0.1", fx.port4, fx.worker4);
	p = pair_up("127.0.0.1", fx.port4, fx.worker4, false);
	while (got < 32u << 20) {
		size_t n = 1 + (size_t)rand() % sizeof(out);
		ssize_t r;

		for (size_t i = 0; i < n; i++)
			out[i] = (uint8_t)((sent + i) * 31 >> 3);
		r = sent < 32u << 20 ? send(p.client, out, n, MSG_NOSIGNAL) : 0;
		sent += r > 0 ? (uint64_t)r : 0;
		if (++round % 7 == 0)
			switch_to(round % 2 ? &off : &usual);
		if (round % 5 == 0 && sent < 32u << 20)
			continue;
		while ((r = recv(p.server, in, sizeof(in), 0)) > 0)
			for (ssize_t i = 0; i < r; i++, got++)
				if (in[i] != (uint8_t)(got * 31 >> 3))
					fail_msg("byte %llu is not what was sent",
						 (unsigned long long)got);
	}
	assert_int_equal(got, sent);
	switch_to(&usual);
	part(&p);
}

/* What the first connection has left unread is not the second one's. */
static void a_socket_that_connects_again_starts_anew(void **state)
{
	const struct sockaddr nowhere = {.sa_family = AF_UNSPEC};
	uint64_t before, redirected, tcp;
	struct sockaddr_storage ss;
	struct pollfd out = {.events = POLLOUT};
	struct pair p;
	socklen_t len;

	enter("/app");
	meet("127.0.0.1", fx.port4, fx.worker4);
	before = opened(MESH_ACCEL_ENROLLED);
	len = address("127.0.0.1", fx.port4, false, &ss);
	p = pair_up("127.0.0.1", fx.port4, fx.worker4, false);
	pass_on(p.server, p.client, SMALL);
	assert_int_equal(send(p.server, "stale", 5, MSG_NOSIGNAL), 5);
	ok(connect(p.client, &nowhere, sizeof(nowhere)));
	close(p.server);
	if (connect(p.client, (struct sockaddr *)&ss, len) < 0)
		assert_int_equal(errno, EINPROGRESS);
	out.fd = p.client;
	assert_int_equal(poll(&out, 1, WAIT_MS), 1);
	p.server = accept_within(fx.worker4, WAIT_MS);
	assert_true(p.server >= 0);
	set_blocking(p.server, false);
	assert_int_equal(opened(MESH_ACCEL_ENROLLED), before + 2);
	talk(&p, 3, &redirected, &tcp);
	assert_int_equal(redirected, 6 * SMALL);
	assert_int_equal(tcp, 0);
}

static bool is_in_the_map(uint64_t cookie)
{
	char path[128];
	uint64_t value;
	int map, r;

	snprintf(path, sizeof(path), "%s/splice_socks", fx.pins);
	map = bpf_obj_get(path);
	assert_true(map >= 0);
	r = bpf_map_lookup_elem(map, &cookie, &value);
	close(map);
	return !r;
}

/* A listener is nobody's other end. */
static void a_socket_that_listens_next_is_out_of_the_map(void **state)
{
	const struct sockaddr nowhere = {.sa_family = AF_UNSPEC};
	struct pair p, other;
	uint64_t cookie;

	enter("/app");
	meet("127.0.0.1", fx.port4, fx.worker4);
	p = pair_up("127.0.0.1", fx.port4, fx.worker4, false);
	cookie = cookie_of(p.client, SO_COOKIE);
	pass_on(p.server, p.client, SMALL);
	assert_true(is_in_the_map(cookie));
	assert_int_equal(send(p.server, "stale", 5, MSG_NOSIGNAL), 5);
	ok(connect(p.client, &nowhere, sizeof(nowhere)));
	ok(listen(p.client, 1));
	assert_false(is_in_the_map(cookie));
	other.client = connect_as("127.0.0.1", local_port(p.client), false);
	other.server = accept_within(p.client, WAIT_MS);
	assert_true(other.server >= 0);
	pass_on(other.client, other.server, SMALL);
	part(&other);
	part(&p);
}

/* --- what TCP sends twice --- */

/* Packets of the cgroup that are at least lo and less than hi bytes long do not arrive. */
struct lossy {
	uint32_t lo, hi;
	uint32_t lost; /* so many since */
};
static int lossy_map;

static void lose(uint32_t lo, uint32_t hi)
{
	struct lossy l = {.lo = lo, .hi = hi};
	uint32_t zero = 0;

	ok(bpf_map_update_elem(lossy_map, &zero, &l, BPF_ANY));
}

static uint32_t lost(void)
{
	struct lossy l;
	uint32_t zero = 0;

	ok(bpf_map_lookup_elem(lossy_map, &zero, &l));
	return l.lost;
}

/* All that the socket has sent was acknowledged. */
static bool is_acknowledged(int fd)
{
	int n;

	ok(ioctl(fd, SIOCOUTQ, &n));
	return !n;
}

#define INSN(c, d, s, o, i)                                                                        \
	((struct bpf_insn){.code = c, .dst_reg = d, .src_reg = s, .off = o, .imm = i})

static int lossy_attach(int cgroup)
{
	struct bpf_insn insns[] = {
		INSN(BPF_LDX | BPF_MEM | BPF_W, 2, 1, offsetof(struct __sk_buff, len), 0),
		INSN(BPF_LD | BPF_DW | BPF_IMM, 3, BPF_PSEUDO_MAP_VALUE, 0, lossy_map),
		INSN(0, 0, 0, 0, 0),
		INSN(BPF_LDX | BPF_MEM | BPF_W, 4, 3, 0, 0),
		INSN(BPF_LDX | BPF_MEM | BPF_W, 5, 3, 4, 0),
		INSN(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 1),
		INSN(BPF_JMP | BPF_JLT | BPF_X, 2, 4, 3, 0),
		INSN(BPF_JMP | BPF_JGE | BPF_X, 2, 5, 2, 0),
		INSN(BPF_STX | BPF_ATOMIC | BPF_W, 3, 0, offsetof(struct lossy, lost),
		     BPF_ADD), /* 1 */
		INSN(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0),
		INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
	};
	int prog = bpf_prog_load(BPF_PROG_TYPE_CGROUP_SKB, "lossy", "GPL", insns,
				 sizeof(insns) / sizeof(insns[0]), NULL),
	    link;

	assert_true(prog >= 0);
	link = bpf_link_create(prog, cgroup, BPF_CGROUP_INET_INGRESS, NULL);
	assert_true(link >= 0);
	close(prog);
	return link;
}

/*
 * The first segment arrives and its acknowledgement does not; the second is lost. What is sent
 * again then is both in one, and the reader has had the beginning. Returns whether it got it once.
 */
static bool arrives_once(uint32_t left_out)
{
	struct mesh_splice_ctl c = usual;
	struct pollfd in;
	char sent[2000], got[4000];
	size_t at = 0;
	struct pair p;
	ssize_t r;

	c.left_out = left_out;
	switch_to(&c);
	p = pair_up("127.0.0.1", fx.port4, fx.worker4, false);
	for (int i = 0; i < 32; i++) /* small ones in a row are left to TCP */
		pass_on(p.client, p.server, SMALL);
	for (size_t i = 0; i < sizeof(sent); i++)
		sent[i] = (char)(i / 7);
	eventually(is_acknowledged(p.client));
	lose(0, 500);
	assert_int_equal(send(p.client, sent, 1000, 0), 1000);
	eventually(lost() > 0); /* its acknowledgement, which comes late */
	lose(0, UINT32_MAX);
	assert_int_equal(send(p.client, sent + 1000, 1000, 0), 1000);
	eventually(lost() > 0);
	lose(0, 0);
	in = (struct pollfd){.fd = p.server, .events = POLLIN};
	do { /* what is too much comes before the end of the stream */
		if (at >= sizeof(sent))
			shutdown(p.client, SHUT_WR);
		assert_int_equal(poll(&in, 1, WAIT_MS), 1);
		r = recv(p.server, got + at, sizeof(got) - at, 0);
		assert_true(r >= 0);
		at += (size_t)r;
	} while (r);
	part(&p);
	return at == sizeof(sent) && !memcmp(sent, got, sizeof(sent));
}

static void what_is_sent_twice_arrives_once(void **state)
{
	int cgroup, link;

	if (usual.mode != MESH_SPLICE_VERDICT) {
		print_message("no verdict, nothing to take off\n");
		skip();
	}
	cgroup = open(fx.base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	lossy_map = bpf_map_create(BPF_MAP_TYPE_ARRAY, "lossy", 4, sizeof(struct lossy), 1, NULL);
	assert_true(cgroup >= 0 && lossy_map >= 0);
	link = lossy_attach(cgroup);
	/* a probe for the tail would send the second segment alone */
	ok(system("echo 0 > /proc/sys/net/ipv4/tcp_early_retrans"));
	enter("/app");
	assert_true(arrives_once(0));
	assert_false(arrives_once(MESH_COVER_TRIM));
	close(link);
	close(lossy_map);
	close(cgroup);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(a_caller_and_a_worker_skip_tcp, splice_setup),
		cmocka_unit_test_setup(a_worker_and_an_endpoint_skip_tcp, splice_setup),
		cmocka_unit_test_setup(strangers_are_left_alone, splice_setup),
		cmocka_unit_test_setup(who_shares_the_workers_cgroup_is_left_alone, splice_setup),
		cmocka_unit_test_setup(off_enrolls_nobody, splice_setup),
		cmocka_unit_test_setup(who_is_held_back_is_counted_as_control, splice_setup),
		cmocka_unit_test_setup(brief_connections_are_held_back_until_others_come,
				       splice_setup),
		cmocka_unit_test_setup(nothing_of_another_upstream_holds_for_the_next,
				       splice_setup),
		cmocka_unit_test_setup(a_long_connection_is_heard_before_its_end, splice_setup),
		cmocka_unit_test_setup(a_service_can_opt_out_and_in, splice_setup),
		cmocka_unit_test_setup(a_workload_can_be_left_to_tcp_at_once, splice_setup),
		cmocka_unit_test_setup(a_caller_that_blocks_stays_with_tcp, splice_setup),
		cmocka_unit_test_setup(a_caller_that_blocks_once_it_is_connected_stays_with_tcp,
				       splice_setup),
		cmocka_unit_test_setup(a_caller_that_comes_to_block_is_not_enrolled_again,
				       splice_setup),
		cmocka_unit_test_setup(a_callee_that_blocks_is_never_enrolled, splice_setup),
		cmocka_unit_test_setup(bbr_is_not_for_what_stays_on_the_host, splice_setup),
		cmocka_unit_test_setup(nothing_is_lost_when_it_is_switched, splice_setup),
		cmocka_unit_test_setup(a_socket_that_connects_again_starts_anew, splice_setup),
		cmocka_unit_test_setup(a_socket_that_listens_next_is_out_of_the_map, splice_setup),
		cmocka_unit_test_setup(what_is_sent_twice_arrives_once, splice_setup),
	};

	return cmocka_run_group_tests(tests, group_setup, fixture_teardown);
}
