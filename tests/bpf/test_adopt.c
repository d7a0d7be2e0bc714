/* SPDX-License-Identifier: Apache-2.0 */
/* What an agent that is gone has left in the kernel, and the next one makes its own: maps and links
 * as they were, programs anew, without a moment at which nothing is attached. */
#include "tests/bpf/fixture.h"

#include <bpf/bpf.h>
#include <sys/mman.h>

static char dir[PATH_MAX], pins[80], old[96];
static struct kernel_config cfg = {.cgroup = dir, .pin_dir = pins};

/* A second mesh, on BASE/other. */
static int before(void **state)
{
	path_of("/other", dir);
	snprintf(pins, sizeof(pins), "%.60s-other", fx.pins);
	snprintf(old, sizeof(old), "%s-old", pins);
	return test_setup(state);
}

static void fill(struct kernel *k)
{
	struct mesh_workload w = {.id = 5, .service = 6};
	struct mesh_dest_key key = {.port = htons(80), .netns = 1};
	struct mesh_dest d = {.upstream = 7, .workload = 5};
	struct mesh_names n = {.service = "backend"};
	struct mesh_netns ns = {.listener4 = 8};

	ok(kernel_workload_set(k, 4711, &w));
	ok(kernel_dest_set(k, &key, &d));
	ok(kernel_names_set(k, 6, &n));
	ok(kernel_netns_set(k, 1, &ns));
	kernel_arrays(k)->endpoints[9].gen = 10;
}

/* An agent that does this and dies without a word. */
static void die_after(void (*fn)(struct kernel *k))
{
	char error[KERNEL_ERROR_MAX];
	struct kernel *k;
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		if (kernel_open(&cfg, &k, error))
			_exit(1);
		fn(k);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static struct kernel *next_agent(void)
{
	char error[KERNEL_ERROR_MAX] = "";
	struct kernel *k = NULL;

	if (kernel_open(&cfg, &k, error))
		fail_msg("%s", error);
	ok(kernel_verify(k, error));
	return k;
}

static uint32_t attached(enum bpf_attach_type type, uint32_t ids[8])
{
	__u32 n = 8;
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_true(fd >= 0);
	ok(bpf_prog_query(fd, type, 0, NULL, ids, &n));
	close(fd);
	return n;
}

static int pinned(const char *name)
{
	char path[256];

	snprintf(path, sizeof(path), "%.100s/%.100s", pins, name);
	return bpf_obj_get(path);
}

static void remove_pin(const char *name)
{
	char path[256];

	snprintf(path, sizeof(path), "%.100s/%.100s", pins, name);
	ok(unlink(path));
}

static void see(const void *key, const void *value, void *arg)
{
	*(uint64_t *)arg = *(const uint64_t *)key;
}

static void assert_filled(struct kernel *k)
{
	struct kernel_map_use use[16];
	struct mesh_names n;
	uint64_t cgroup = 0, netns = 0;

	assert_true(kernel_adopted(k));
	ok(kernel_each_workload(k, see, &cgroup));
	ok(kernel_each_netns(k, see, &netns));
	assert_int_equal(cgroup, 4711);
	assert_int_equal(netns, 1);
	ok(kernel_names_get(k, 6, &n));
	assert_string_equal(n.service, "backend");
	assert_int_equal(kernel_arrays(k)->endpoints[9].gen, 10);
	assert_int_equal(kernel_map_use(k, use, 16) > 2, true);
	for (int i = 0; i < 3; i++) /* workloads, dests, netns: counted */
		assert_int_equal(use[i].entries, 1);
}

static void assert_gone(void)
{
	uint32_t ids[8];

	assert_int_equal(attached(BPF_CGROUP_INET4_CONNECT, ids), 0);
	assert_int_equal(attached(BPF_CGROUP_SOCK_OPS, ids), 0);
	assert_int_equal(access(pins, F_OK), -1);
	assert_int_equal(access(old, F_OK), -1);
}

static void maps_stay_and_programs_are_replaced(void **state)
{
	uint32_t first[8], second[8];
	struct kernel *k;

	die_after(fill);
	assert_int_equal(attached(BPF_CGROUP_INET4_CONNECT, first), 1);
	k = next_agent();
	assert_filled(k);
	assert_int_equal(attached(BPF_CGROUP_INET4_CONNECT, second), 1);
	assert_int_not_equal(first[0], second[0]);
	kernel_close(&k);
	assert_gone();
}

static void an_agent_that_leaves_hands_on_everything(void **state)
{
	struct kernel *k = next_agent();
	uint32_t ids[8];

	assert_false(kernel_adopted(k));
	fill(k);
	kernel_leave(&k);
	assert_null(k);
	assert_int_equal(attached(BPF_CGROUP_INET6_CONNECT, ids), 1);
	k = next_agent();
	assert_filled(k);
	kernel_close(&k);
	assert_gone();
}

/* Links of tracepoints are made anew, and the old ones go; other agents on this machine have some
 * of the same name. */
static uint32_t link_id(const char *name)
{
	struct bpf_link_info info = {0};
	__u32 len = sizeof(info);
	int fd = pinned(name);

	assert_true(fd >= 0);
	ok(bpf_obj_get_info_by_fd(fd, &info, &len));
	close(fd);
	return info.id;
}

static bool link_exists(uint32_t id)
{
	int fd = bpf_link_get_fd_by_id(id);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static void tracepoints_are_neither_doubled_nor_lost(void **state)
{
	static const char *const names[] = {"link_mesh_exit", "link_mesh_set_state"};
	uint32_t id[2];
	struct kernel *k;

	die_after(fill);
	for (int i = 0; i < 2; i++)
		id[i] = link_id(names[i]);
	k = next_agent();
	for (int i = 0; i < 2; i++) {
		assert_int_not_equal(link_id(names[i]), id[i]);
		/* the kernel frees a link a moment after its last pin and descriptor have gone */
		eventually(!link_exists(id[i]));
	}
	kernel_close(&k);
	assert_gone();
}

static void lose_links(struct kernel *k)
{
	fill(k);
	remove_pin("link_mesh_connect6");
	remove_pin("link_mesh_exit");
}

static void a_missing_link_is_made_again(void **state)
{
	struct kernel *k;
	uint32_t ids[8];

	die_after(lose_links);
	k = next_agent();
	assert_filled(k);
	assert_int_equal(attached(BPF_CGROUP_INET6_CONNECT, ids), 1);
	close(pinned("link_mesh_connect6"));
	assert_true(pinned("link_mesh_exit") >= 0);
	kernel_close(&k);
	assert_gone();
}

static void be_foreign(struct kernel *k)
{
	fill(k);
	kernel_arrays(k)->ctl->abi = MESH_ABI_VERSION + 1;
}

/* Both are attached until ours are filled. */
static void another_version_goes_when_ours_stands(void **state)
{
	struct kernel *k;
	uint32_t ids[8];

	die_after(be_foreign);
	k = next_agent();
	assert_false(kernel_adopted(k));
	assert_int_equal(kernel_arrays(k)->endpoints[9].gen, 0);
	assert_int_equal(attached(BPF_CGROUP_INET4_CONNECT, ids), 2);
	ok(access(old, F_OK));
	kernel_settled(k);
	assert_int_equal(attached(BPF_CGROUP_INET4_CONNECT, ids), 1);
	assert_int_equal(attached(BPF_CGROUP_INET6_CONNECT, ids), 1);
	/* who has passed the hook before is still noted */
	assert_int_equal(attached(BPF_CGROUP_SOCK_OPS, ids), 2);
	ok(kernel_sweep(k));
	assert_int_equal(attached(BPF_CGROUP_SOCK_OPS, ids), 1);
	assert_int_equal(access(old, F_OK), -1);
	kernel_close(&k);
	assert_gone();
}

static void be_foreign_and_take_over(struct kernel *k)
{
	be_foreign(k);
	kernel_leave(&k);
	k = next_agent();
}

static void who_dies_between_two_versions_is_cleaned_up_after(void **state)
{
	struct kernel *k;
	uint32_t ids[8];

	die_after(be_foreign_and_take_over);
	assert_int_equal(attached(BPF_CGROUP_INET4_CONNECT, ids), 2);
	k = next_agent();
	assert_true(kernel_adopted(k));
	ok(kernel_sweep(k));
	assert_int_equal(attached(BPF_CGROUP_INET4_CONNECT, ids), 1);
	kernel_close(&k);
	assert_gone();
}

static void be_foreign_and_die_unfilled(struct kernel *k)
{
	be_foreign(k);
	kernel_leave(&k);
	k = next_agent();
	kernel_arrays(k)->ctl->abi = MESH_ABI_VERSION + 2;
}

static void be_foreign_and_die_filled(struct kernel *k)
{
	be_foreign(k);
	kernel_leave(&k);
	k = next_agent();
	fill(k);
	kernel_settled(k);
	kernel_arrays(k)->ctl->abi = MESH_ABI_VERSION + 2;
}

/* Three versions: what captures goes on until the third is filled, be it of the first or of the
 * second. */
static void of_two_that_have_gone_the_filled_one_stays(void **state)
{
	uint32_t before[8], ids[8];
	struct kernel *k;

	die_after(be_foreign_and_die_unfilled);
	assert_int_equal(attached(BPF_CGROUP_INET4_CONNECT, before), 2);
	k = next_agent();
	assert_false(kernel_adopted(k));
	assert_int_equal(attached(BPF_CGROUP_INET4_CONNECT, ids), 2);
	assert_int_equal(ids[0], before[0]);
	kernel_close(&k);
	assert_gone();

	die_after(be_foreign_and_die_filled);
	assert_int_equal(attached(BPF_CGROUP_INET4_CONNECT, before), 1);
	k = next_agent();
	assert_false(kernel_adopted(k));
	assert_int_equal(attached(BPF_CGROUP_INET4_CONNECT, ids), 2);
	assert_int_equal(ids[0], before[0]);
	assert_int_equal(attached(BPF_CGROUP_SOCK_OPS, ids), 2);
	kernel_settled(k);
	assert_int_equal(attached(BPF_CGROUP_INET4_CONNECT, ids), 1);
	kernel_close(&k);
	assert_gone();
}

static void lose_a_map(struct kernel *k)
{
	remove_pin("services");
}

static void a_directory_that_is_not_whole_is_replaced(void **state)
{
	struct kernel *k;
	uint32_t ids[8];

	die_after(lose_a_map);
	k = next_agent();
	assert_false(kernel_adopted(k));
	ok(kernel_sweep(k));
	assert_int_equal(attached(BPF_CGROUP_INET4_CONNECT, ids), 1);
	kernel_close(&k);
	assert_gone();
}

/* Callers of BASE/other meet a hook at every moment: one that is refused by it is refused always.
 */
static void nobody_meets_a_moment_without_hooks(void **state)
{
	struct {
		uint64_t calls, strays;
		bool stop;
	} * seen;
	struct kernel *k;
	pid_t caller;

	die_after(fill);
	seen = mmap(NULL, sizeof(*seen), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(seen != MAP_FAILED);
	caller = fork();
	if (!caller) {
		enter("/other");
		while (!__atomic_load_n(&seen->stop, __ATOMIC_RELAXED)) {
			int error, fd = try_connect("192.0.0.8", MESH_PROBE_PORT, &error);

			seen->calls++;
			seen->strays += error != -MESH_PROBE_UNKNOWN;
			close(fd);
		}
		_exit(0);
	}
	for (int i = 0; i < 5; i++) {
		k = next_agent();
		kernel_leave(&k);
	}
	__atomic_store_n(&seen->stop, true, __ATOMIC_RELAXED);
	waitpid(caller, NULL, 0);
	assert_true(seen->calls > 100);
	assert_int_equal(seen->strays, 0);
	munmap(seen, sizeof(*seen));
	k = next_agent();
	kernel_close(&k);
	assert_gone();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(maps_stay_and_programs_are_replaced, before),
		cmocka_unit_test_setup(an_agent_that_leaves_hands_on_everything, before),
		cmocka_unit_test_setup(tracepoints_are_neither_doubled_nor_lost, before),
		cmocka_unit_test_setup(a_missing_link_is_made_again, before),
		cmocka_unit_test_setup(another_version_goes_when_ours_stands, before),
		cmocka_unit_test_setup(who_dies_between_two_versions_is_cleaned_up_after, before),
		cmocka_unit_test_setup(of_two_that_have_gone_the_filled_one_stays, before),
		cmocka_unit_test_setup(a_directory_that_is_not_whole_is_replaced, before),
		cmocka_unit_test_setup(nobody_meets_a_moment_without_hooks, before),
	};

	return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
