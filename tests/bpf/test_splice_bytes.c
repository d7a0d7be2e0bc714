/* SPDX-License-Identifier: Apache-2.0 */
/* What becomes of the bytes of those who are enrolled, however they are sent and whatever is
 * switched meanwhile. Who that is: test_splice.c. */
#include "tests/bpf/splice_rig.h"

#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <linux/sockios.h>

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
		cmocka_unit_test_setup(bbr_is_not_for_what_stays_on_the_host, splice_setup),
		cmocka_unit_test_setup(nothing_is_lost_when_it_is_switched, splice_setup),
		cmocka_unit_test_setup(a_socket_that_connects_again_starts_anew, splice_setup),
		cmocka_unit_test_setup(a_socket_that_listens_next_is_out_of_the_map, splice_setup),
		cmocka_unit_test_setup(what_is_sent_twice_arrives_once, splice_setup),
	};

	return cmocka_run_group_tests(tests, group_setup, fixture_teardown);
}
