/* SPDX-License-Identifier: Apache-2.0 */
/* The file of records from outside: of another kind, cut, moved or on a full disk; and what is in
 * it no longer. */
#include "tests/unit/recorder_rig.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

static void a_file_of_another_kind_begins_anew(void **state)
{
	static const uint32_t other = 99;

	add_one(1, 1);
	recorder_close(&ring);
	spoil(20, &other, sizeof(other)); /* the layout */
	start();
	assert_int_equal(records(), 0);
	add_one(1, 1);
	recorder_close(&ring);
	test_dir_write(&home, RECORDER_FILE, "something else");
	start();
	add_one(1, 1);
	restart();
	assert_int_equal(records(), 1);
}

/* What was not listed is lost with it, and is said to be. */
static void a_file_of_another_size_begins_anew(void **state)
{
	struct rec all[] = {
		{.id = 1}, {.id = 2}, {.id = 3, .unsampled = true}, {.id = 4, .untraced = true}};
	uint32_t first = add(all, 4, 1);
	struct recorder_counts n;

	recorder_set_listed(ring, first);
	recorder_save(ring);
	recorder_close(&ring);
	for (unsigned i = 0; i < 2; i++) {
		recorder_close(&ring);
		assert_int_equal(recorder_open(home.path, 2 * SIZE, true, &ring), 0);
		recorder_count(ring, &n);
		assert_int_equal(n.records, 0);
		assert_int_equal(n.kept_lost, !i);
		assert_int_equal(n.other_lost, !i);
	}
}

static void without_a_file_there_is_none_unless_it_is_to_be_made(void **state)
{
	recorder_close(&ring);
	unlink(file());
	assert_int_equal(recorder_open(home.path, SIZE, false, &ring), -ENOENT);
	assert_null(ring);
	assert_int_equal(recorder_open("/nowhere/at/all", SIZE, true, &ring), -ENOENT);
	assert_int_equal(symlink("/dev/null", file()), 0);
	assert_int_equal(recorder_open(home.path, SIZE, true, &ring), -ELOOP);
	unlink(file());
	start();
}

static void a_file_that_is_cut_under_it_is_an_error_and_no_signal(void **state)
{
	uint32_t first = add_one(1, 1);

	for (uint64_t i = 2; i < 300; i++)
		add_one(i, i);
	assert_false(recorder_moved(ring));
	assert_int_equal(truncate(file(), 5000), 0);
	assert_true(recorder_moved(ring));
	assert_int_equal(id_at(first + 290), 0);
	restart();
	assert_int_equal(records(), 0);
	assert_int_equal(unlink(file()), 0);
	assert_true(recorder_moved(ring));
}

static void a_full_disk_is_said_and_leaves_no_file(void **state)
{
	struct rlimit before, small = {SIZE / 2, RLIM_INFINITY};

	recorder_close(&ring);
	unlink(file());
	getrlimit(RLIMIT_FSIZE, &before);
	signal(SIGXFSZ, SIG_IGN);
	small.rlim_max = before.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	assert_int_equal(recorder_open(home.path, SIZE, true, &ring), -EFBIG);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	assert_int_equal(access(file(), F_OK), -1);
	start();
}

static void a_write_that_fails_is_said_and_the_next_may_go_well(void **state)
{
	struct rec one = {.trace = "t", .id = 1};
	struct rlimit before, small = {.rlim_cur = 4200};
	struct record_batch_view v;
	uint32_t first, n;
	size_t len;
	void *data = rec_batch(&one, 1, &len);

	assert_int_equal(record_batch_check(data, len, &v), 0);
	getrlimit(RLIMIT_FSIZE, &before);
	signal(SIGXFSZ, SIG_IGN);
	small.rlim_max = before.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	assert_int_equal(recorder_add(ring, &v, 1, &first), -EIO); /* a part of it */
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	assert_int_equal(records(), 0);
	first = add_one(2, 2);
	assert_int_equal(id_at(first), 2);
	restart();
	recorder_range(ring, &first, &n);
	assert_int_equal(n - first, 1);
	assert_int_equal(id_at(first), 2);
	free(data);
}

static void a_file_that_was_moved_is_ours_no_more(void **state)
{
	char elsewhere[160];

	snprintf(elsewhere, sizeof(elsewhere), "%s.x", file());
	assert_int_equal(rename(file(), elsewhere), 0);
	assert_true(recorder_moved(ring));
	assert_int_equal(rename(elsewhere, file()), 0);
	assert_false(recorder_moved(ring));
}

/* How often it stands in the file. */
static unsigned in_file(const char *text)
{
	static char all[SIZE];
	int fd = open(file(), O_RDONLY | O_CLOEXEC);
	unsigned n = 0;

	assert_int_equal(read(fd, all, SIZE), SIZE);
	close(fd);
	for (const char *p = all; (p = memmem(p, (size_t)(all + SIZE - p), text, strlen(text)));
	     p++)
		n++;
	return n;
}

static void add_paths(const char *path, unsigned n, uint64_t came_ms)
{
	for (unsigned i = 0; i < n; i++) {
		struct rec one = {.trace = "t", .id = i + 1, .path = path};

		add(&one, 1, came_ms);
	}
}

static void what_is_too_old_is_overwritten(void **state)
{
	add_paths("/old", 10, 1000);
	add_paths("/young", 10, 2000);
	assert_int_equal(in_file("/old"), 10);
	recorder_forget(ring, 1001, 1); /* it cannot be read any more, and is there */
	assert_int_equal(records(), 20);
	recorder_forget(ring, 1001, 1 << 20);
	assert_int_equal(records(), 10);
	assert_int_equal(in_file("/old"), 0);
	assert_int_equal(in_file("/young"), 10);
	restart();
	assert_int_equal(records(), 10);
}

/* Of entries whose place was taken only in part the rest is older still. */
static void what_made_room_for_others_is_overwritten_with_them(void **state)
{
	char path[1001] = "/old";
	unsigned round = 0;

	memset(path + 4, 'x', sizeof(path) - 5);
	do {
		add_paths(path, 1, 1000 + round);
		add_paths("/young", 1, 1000 + round);
	} while (++round < 3 * SIZE / sizeof(path));
	for (unsigned i = 0; i < 2; i++) {
		recorder_forget(ring, 1000 + round - 3, SIZE);
		assert_int_equal(records(), 6);
		assert_int_equal(in_file("/oldx"), 3);
		assert_int_equal(in_file("/young"), 3);
		restart();
	}
	recorder_forget(ring, UINT64_MAX, SIZE);
	assert_int_equal(records(), 0);
	assert_int_equal(in_file("xx") + in_file("/young"), 0);
	add_paths("/young", 3, 1);
	restart();
	assert_int_equal(records(), 3);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(a_file_of_another_kind_begins_anew),
		T(a_file_of_another_size_begins_anew),
		T(without_a_file_there_is_none_unless_it_is_to_be_made),
		T(a_file_that_is_cut_under_it_is_an_error_and_no_signal),
		T(a_full_disk_is_said_and_leaves_no_file),
		T(a_write_that_fails_is_said_and_the_next_may_go_well),
		T(a_file_that_was_moved_is_ours_no_more),
		T(what_is_too_old_is_overwritten),
		T(what_made_room_for_others_is_overwritten_with_them),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
