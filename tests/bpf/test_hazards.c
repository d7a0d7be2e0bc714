/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The hazards of redirect between sockets, each with the cover that keeps it away: the trial passes
 * with the cover, and fails when it is left out. A hazard that this kernel does not have, or that
 * nothing covers, is said to be so. The numbers are those of the list in docs/architecture.md.
 */
#include "agent/kernel/qualify_netns.h"
#include "agent/kernel/qualify_rig.h"
#include "agent/kernel/trials_impl.h"
#include "lib/cgroup.h"
#include "tests/bpf/kernel_has.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
/* after the types that it needs */
#include <cmocka.h>

#define ok(call) assert_int_equal(call, 0)
#define OFTEN	 100

static struct {
	struct trial_env env;
	char home[PATH_MAX], dir[PATH_MAX];
	int cgroup;
	struct rig *rig;
	char why[TRIAL_WHY_MAX];
} fx;

static const enum mesh_splice_mode both[] = {MESH_SPLICE_REDIRECT, MESH_SPLICE_VERDICT};

/* New programs and maps, every connection enrolled in `mode`. */
static void enrol(enum mesh_splice_mode mode, uint32_t left_out)
{
	char error[RIG_ERROR_MAX];

	rig_close(&fx.rig);
	if (rig_open(fx.cgroup, &fx.rig, error))
		fail_msg("%s", error);
	ok(rig_mode(fx.rig, mode, left_out));
	fx.env.steer = rig_steer;
	fx.env.arg = fx.rig;
}

static enum trial_outcome outcome(const char *trial)
{
	const struct trial *t = trial_find(trial);

	assert_non_null(t);
	return trial_run(t, &fx.env, fx.why);
}

static void assert_passes(const char *trial)
{
	if (outcome(trial) != TRIAL_PASSED)
		fail_msg("%s: %s", trial, fx.why);
}

static void assert_fails(const char *trial)
{
	assert_int_equal(outcome(trial), TRIAL_FAILED);
	print_message("%s without its cover: %s\n", trial, fx.why);
}

/* Of what depends on who runs when: fails within so many times. */
static void assert_may_fail(const char *trial)
{
	enum trial_outcome o = outcome(trial);

	for (int i = 1; i < OFTEN && o == TRIAL_PASSED; i++)
		o = outcome(trial);
	assert_int_equal(o, TRIAL_FAILED);
	print_message("%s without its cover: %s\n", trial, fx.why);
}

static void assert_needs(const char *trial, enum mesh_splice_mode mode, uint32_t cover)
{
	enrol(mode, 0);
	assert_passes(trial);
	enrol(mode, cover);
	assert_fails(trial);
}

static void one_a_reader_that_does_not_read_stops_its_sender(void **state)
{
	for (int i = 0; i < 2; i++)
		assert_needs("pressure", both[i], MESH_COVER_LIMIT);
}

static void two_redirect_does_not_overtake_what_tcp_carries(void **state)
{
	assert_needs("order", MESH_SPLICE_REDIRECT, MESH_COVER_ORDER);
	for (int i = 0; i < 2; i++)
		assert_needs("early", both[i], MESH_COVER_ORDER);
}

/* The bytes of a SYN are read before the connection is in the map, or make its sequence numbers
 * differ: either way they are in front. */
static void two_fast_open_is_in_front(void **state)
{
	for (int i = 0; i < 2; i++) {
		enrol(both[i], 0);
		assert_passes("fast-open");
	}
}

static void three_fionread_is_right_with_the_verdict(void **state)
{
	enrol(MESH_SPLICE_VERDICT, 0);
	if (!kernel_counts_its_queue()) {
		print_message(
			"this kernel's FIONREAD knows TCP bytes only: it is not accelerated\n");
		assert_fails("fionread");
		return;
	}
	assert_passes("fionread");
	enrol(MESH_SPLICE_REDIRECT, 0);
	if (outcome("fionread") == TRIAL_PASSED) {
		print_message("this kernel does not have the bug of FIONREAD\n");
		skip();
	}
	print_message("fionread without the verdict: %s\n", fx.why);
}

/* Nothing shows splice(2) what was redirected: the cover is that who uses it is not enrolled. That
 * he is noticed is shown end to end (tests/e2e/test_qualify.c). */
static void four_splice_sees_nothing_of_an_enrolled_socket(void **state)
{
	for (int i = 0; i < 2; i++) {
		enrol(both[i], 0);
		assert_fails("splice-out");
		assert_passes("splice-in");
		assert_passes("sendfile");
	}
	ok(rig_mode(fx.rig, MESH_SPLICE_OFF, 0));
	fx.env.steer = NULL;
	assert_passes("splice-out");
}

/* No cover: the kernel sends no reset for what was redirected and not read. What is left is that
 * the writer learns by its second write at the latest, which is what the trial asks for. */
static void five_a_writer_learns_that_its_peer_has_gone(void **state)
{
	for (int i = 0; i < 2; i++) {
		enrol(both[i], 0);
		assert_passes("unread-close");
	}
}

static void six_and_nine_addresses_are_no_identity(void **state)
{
	if (fx.env.netns[1] < 0)
		skip();
	for (int i = 0; i < 2; i++) {
		assert_needs("twins-loopback", both[i], MESH_COVER_PROOF);
		assert_needs("twins-network", both[i], MESH_COVER_PROOF);
	}
}

static uint64_t cookie_of(int fd)
{
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);

	ok(getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len));
	return cookie;
}

static struct trial_run begin(void)
{
	return (struct trial_run){
		.env = &fx.env, .outcome = TRIAL_PASSED, .why = fx.why, .steered = -1};
}

static void end(struct trial_run *r)
{
	while (r->nfds)
		close(r->fd[--r->nfds]);
}

/* Off is a word; nobody takes a socket out of the map that may have bytes unread. */
static void seven_switching_off_loses_nothing(void **state)
{
	struct trial_run r = begin();
	struct trial_pair p;

	for (int i = 0; i < 2; i++) {
		enrol(both[i], 0);
		r.steered = -1;
		if (!trial_pair(&r, &p) || !trial_give(&r, &p.a, 5000, TRIAL_REDIRECT))
			fail_msg("%s", fx.why);
		ok(rig_mode(fx.rig, MESH_SPLICE_OFF, 0));
		if (!trial_give(&r, &p.a, 7000, TRIAL_ANY) || !trial_take(&r, &p.b, 12000))
			fail_msg("%s", fx.why);
		end(&r);
	}
}

static void seven_deleting_an_entry_loses_what_is_unread(void **state)
{
	struct trial_run r = begin();
	struct trial_pair p;
	uint64_t cookie;

	enrol(MESH_SPLICE_REDIRECT, 0);
	if (!trial_pair(&r, &p) || !trial_give(&r, &p.a, 5000, TRIAL_REDIRECT))
		fail_msg("%s", fx.why);
	cookie = cookie_of(p.b.fd);
	ok(bpf_map_delete_elem(rig_map(fx.rig, "splice_socks"), &cookie));
	assert_false(trial_take(&r, &p.b, 5000));
	end(&r);
}

/* Sockets in the map; they can only be asked for by key. */
static bool is_enrolled(int fd)
{
	uint64_t cookie = cookie_of(fd), value;

	return bpf_map_lookup_elem(rig_map(fx.rig, "splice_socks"), &cookie, &value) == 0;
}

/* Being in the map costs, whatever the programs do: who is not to be accelerated is not in it. (How
 * much it costs is measured by make bench.) */
static void eight_only_who_is_accelerated_is_enrolled(void **state)
{
	const struct mesh_splice_ctl known_only = {.mode = MESH_SPLICE_REDIRECT};
	struct trial_run r = begin();
	struct trial_pair p;
	uint32_t zero = 0;

	enrol(MESH_SPLICE_REDIRECT, 0);
	assert_true(trial_pair(&r, &p));
	assert_true(is_enrolled(p.a.fd) && is_enrolled(p.b.fd));
	fx.env.steer = NULL;
	ok(rig_mode(fx.rig, MESH_SPLICE_OFF, 0));
	assert_true(trial_pair(&r, &p));
	assert_false(is_enrolled(p.a.fd) || is_enrolled(p.b.fd));
	ok(bpf_map_update_elem(rig_map(fx.rig, "splice_ctl"), &zero, &known_only, BPF_ANY));
	assert_true(trial_pair(&r, &p)); /* of nobody that the mesh knows */
	assert_false(is_enrolled(p.a.fd) || is_enrolled(p.b.fd));
	end(&r);
}

/* Small messages one way are TCP's to merge, which it does once the reader has answered by it. */
static void eight_a_row_of_small_messages_is_answered_by_tcp(void **state)
{
	struct trial_run r = begin();
	struct trial_pair p;
	uint64_t before;

	enrol(MESH_SPLICE_REDIRECT, 0);
	assert_true(trial_pair(&r, &p));
	for (int i = 0; i < 40; i++)
		if (!trial_give(&r, &p.a, 64, TRIAL_ANY) || !trial_take(&r, &p.b, 64))
			fail_msg("%s", fx.why);
	assert_in_range(trial_tcp_bytes(p.a.fd), 10 * 64, 30 * 64);
	before = trial_tcp_bytes(p.b.fd);
	assert_true(trial_give(&r, &p.b, 100, TRIAL_ANY) && trial_take(&r, &p.a, 100));
	assert_int_equal(trial_tcp_bytes(p.b.fd) - before, 100);
	/* what follows may be redirected again, both ways */
	if (!trial_give(&r, &p.b, 100, TRIAL_REDIRECT) || !trial_take(&r, &p.a, 100) ||
	    !trial_give(&r, &p.a, 100, TRIAL_REDIRECT) || !trial_take(&r, &p.b, 100))
		fail_msg("%s", fx.why);
	end(&r);
}

static void ten_a_short_read_is_the_last_one_with_the_verdict(void **state)
{
	enrol(MESH_SPLICE_VERDICT, 0);
	assert_passes("short-read");
	enrol(MESH_SPLICE_REDIRECT, 0);
	assert_fails("short-read");
}

static void eleven_a_fixed_receive_buffer_is_not_overfilled(void **state)
{
	enrol(MESH_SPLICE_VERDICT, 0);
	assert_passes("window");
	enrol(MESH_SPLICE_VERDICT, MESH_COVER_WINDOW);
	if (outcome("window") == TRIAL_PASSED) {
		print_message("this kernel does not charge the reader for what is redirected\n");
		skip();
	}
	print_message("window without its cover: %s\n", fx.why);
}

/* What sleeps in recv() is not enrolled (MESH_COVER_STYLE, which trials leave out); this is why. */
static void twelve_what_sleeps_in_recv_is_for_tcp(void **state)
{
	static const char *const names[] = {"woken", "wait-all"};

	for (int i = 0; i < 2; i++)
		for (int j = 0; j < 2; j++) {
			enrol(both[i], 0);
			assert_may_fail(names[j]);
			ok(rig_mode(fx.rig, MESH_SPLICE_OFF, 0));
			fx.env.steer = NULL;
			assert_passes(names[j]);
		}
}

static void enter(const char *dir)
{
	char procs[PATH_MAX + 16];
	int fd;

	snprintf(procs, sizeof(procs), "%s/cgroup.procs", dir);
	fd = open(procs, O_WRONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "0", 1), 1);
	close(fd);
}

static int find_home(const char *root)
{
	char line[PATH_MAX / 2];
	FILE *f = fopen("/proc/self/cgroup", "re");
	int r = -1;

	while (f && fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = 0;
		if (strncmp(line, "0::", 3))
			continue;
		snprintf(fx.home, sizeof(fx.home), "%s%s", root, line + 3);
		r = 0;
	}
	if (f)
		fclose(f);
	return r;
}

static int setup(void **state)
{
	char root[PATH_MAX / 4];

	if (cgroup_root(root, sizeof(root)) || find_home(root))
		return -1;
	snprintf(fx.dir, sizeof(fx.dir), "%s/hazards-%d", root, getpid());
	if (mkdir(fx.dir, 0755) < 0)
		return -1;
	fx.cgroup = open(fx.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	enter(fx.dir);
	if (fx.cgroup < 0 || qualify_netns(&fx.env))
		return -1;
	fx.env.plain_queue = trial_plain_queue();
	return 0;
}

static int teardown(void **state)
{
	rig_close(&fx.rig);
	enter(fx.home);
	close(fx.cgroup);
	close(fx.env.netns[0]);
	close(fx.env.netns[1]);
	return rmdir(fx.dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_a_reader_that_does_not_read_stops_its_sender),
		cmocka_unit_test(two_redirect_does_not_overtake_what_tcp_carries),
		cmocka_unit_test(two_fast_open_is_in_front),
		cmocka_unit_test(three_fionread_is_right_with_the_verdict),
		cmocka_unit_test(four_splice_sees_nothing_of_an_enrolled_socket),
		cmocka_unit_test(five_a_writer_learns_that_its_peer_has_gone),
		cmocka_unit_test(six_and_nine_addresses_are_no_identity),
		cmocka_unit_test(seven_switching_off_loses_nothing),
		cmocka_unit_test(seven_deleting_an_entry_loses_what_is_unread),
		cmocka_unit_test(eight_only_who_is_accelerated_is_enrolled),
		cmocka_unit_test(eight_a_row_of_small_messages_is_answered_by_tcp),
		cmocka_unit_test(ten_a_short_read_is_the_last_one_with_the_verdict),
		cmocka_unit_test(eleven_a_fixed_receive_buffer_is_not_overfilled),
		cmocka_unit_test(twelve_what_sleeps_in_recv_is_for_tcp),
	};

	trial_patience = kernel_patience();
	return cmocka_run_group_tests_name("hazards", tests, setup, teardown);
}
