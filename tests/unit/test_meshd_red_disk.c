/* SPDX-License-Identifier: Apache-2.0 */
/* telemetry.db: damage, full disks, years of data. None of it stops counting. */
#include "ctl/meshd/red/disk_impl.h"
#include "ctl/meshd/red/red_impl.h"
#include "tests/unit/red_rig.h"

#include <errno.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/resource.h>
#include <sys/stat.h>

static const char *file_of(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir.path, name);
	return path;
}

static bool there(const char *name)
{
	struct stat st;

	return stat(file_of(name), &st) == 0;
}

static void send_some(struct red *r, uint64_t *seq, unsigned batches, uint64_t now_ms)
{
	for (unsigned i = 0; i < batches; i++)
		assert_int_equal(model_send(r, "n", "e", ++*seq, now_ms / 1000, 10, true, now_ms),
				 0);
}

static void garbage_is_put_aside(void **state)
{
	uint64_t now_ms = START_S * 1000, seq = 0;
	struct red_counts c;
	struct red *r;

	test_dir_write(&dir, "telemetry.db",
		       "this is no database, and never was one. It is long "
		       "enough to be looked at, though: SQLite reads a hundred "
		       "bytes first.");
	r = open_red(now_ms);
	assert_string_equal(red_error(r), "");
	assert_true(there("telemetry.db") && there("telemetry.db.corrupt"));
	send_some(r, &seq, 5, now_ms);
	red_count(r, &c);
	assert_true(c.durable && !c.unwritten);
	red_free(&r);
	r = open_red(now_ms);
	model_compare_groups(r, 60, now_ms);
	red_free(&r);
}

static void of_another_form(void)
{
	sqlite3 *db;

	test_dir_write(&dir, "telemetry.db", NULL);
	assert_int_equal(sqlite3_open(file_of("telemetry.db"), &db), SQLITE_OK);
	assert_int_equal(
		sqlite3_exec(db, "PRAGMA user_version = 99; CREATE TABLE t(a)", NULL, NULL, NULL),
		SQLITE_OK);
	sqlite3_close(db);
}

/* After a downgrade; and what was put aside before stays what it is. */
static void nothing_that_was_put_aside_is_overwritten(void **state)
{
	static const char *const names[] = {"telemetry.db.other", "telemetry.db.other-2",
					    "telemetry.db.other-3", "telemetry.db.other-4"};
	struct red *r;

	test_dir_write(&dir, "telemetry.db.corrupt", "of old");
	for (int i = 0; i < 4; i++) {
		assert_false(there(names[i]));
		of_another_form();
		r = open_red(START_S * 1000);
		assert_string_equal(red_error(r), "");
		red_free(&r);
		assert_true(there(names[i]));
	}
	of_another_form();
	r = open_red(START_S * 1000);
	assert_non_null(strstr(red_error(r), "this version"));
	red_tick(r, START_S * 1000 + 100);
	assert_int_equal(unlink(file_of(names[1])), 0);
	for (int i = 1; i < 100; i++)
		red_tick(r, START_S * 1000 + (uint64_t)i * 100);
	assert_string_equal(red_error(r), "");
	assert_true(there(names[1]) && !there("telemetry.db.corrupt-2"));
	red_free(&r);
}

static void an_empty_file_is_as_good_as_none(void **state)
{
	struct red_disk *d;
	char why[256];

	test_dir_write(&dir, "telemetry.db", "");
	assert_int_equal(red_disk_open(dir.path, &d, why, sizeof(why)), 0);
	red_disk_close(&d);
	assert_false(there("telemetry.db.corrupt"));
}

/* Every page but the first is overwritten while it is open. */
static void damage_while_it_is_open_is_survived(void **state)
{
	uint64_t now_ms = START_S * 1000, seq = 0;
	struct red_window w = {.window_s = 86400, .service = "to-1"};
	struct red_query *q;
	char junk[4096];
	struct stat st;
	struct red *r = open_red(now_ms);
	FILE *f;

	send_some(r, &seq, 300, now_ms);
	red_free(&r); /* everything is in the file now */
	r = open_red(now_ms);
	memset(junk, 0xa5, sizeof(junk));
	f = fopen(file_of("telemetry.db"), "r+e");
	assert_true(f && fstat(fileno(f), &st) == 0 && st.st_size > 8192);
	assert_int_equal(fseek(f, 4096, SEEK_SET), 0);
	for (long at = 4096; at < st.st_size; at += 4096)
		assert_int_equal(fwrite(junk, sizeof(junk), 1, f), 1);
	assert_int_equal(fclose(f), 0);
	now_ms += 3600 * 1000;
	assert_int_equal(red_window_plan(r, &w, now_ms), 0);
	assert_int_equal(red_query_new(r, &w, &q), 0);
	while (red_query_step(q) > 0) /* may or may not notice */
		;
	red_query_free(&q);
	model.n = 0;
	for (int i = 0; i < 400; i++) {
		now_ms += 100;
		send_some(r, &seq, 1, now_ms);
		red_tick(r, now_ms);
	}
	assert_string_equal(red_error(r), "");
	assert_true(there("telemetry.db.corrupt"));
	model_compare_groups(r, 60, now_ms);
	red_free(&r);
	r = open_red(now_ms); /* the new file is whole */
	assert_string_equal(red_error(r), "");
	assert_true(red_seen(r, "n", "e", seq));
	red_free(&r);
}

static void limit_files(rlim_t bytes)
{
	struct rlimit l;

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &l), 0);
	l.rlim_cur = bytes < l.rlim_max ? bytes : l.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &l), 0);
}

static void a_full_disk_stops_nothing(void **state)
{
	uint64_t now_ms = START_S * 1000, seq = 0;
	struct red *r = open_red(now_ms);
	struct red_counts c;

	signal(SIGXFSZ, SIG_IGN);
	send_some(r, &seq, 20, now_ms);
	limit_files(8192);
	for (int i = 0; i < 900; i++) {
		now_ms += 100;
		send_some(r, &seq, 1, now_ms);
		red_tick(r, now_ms);
	}
	red_count(r, &c);
	assert_true(*red_error(r) && !c.durable && c.unwritten > 100);
	model_compare_groups(r, 300, now_ms);
	assert_int_equal(model_send(r, "n", "e", seq, now_ms / 1000, 3, false, now_ms), -EALREADY);
	limit_files(RLIM_INFINITY);
	for (int i = 0; i < 900; i++) { /* and all of it is written, once it can be */
		now_ms += 100;
		send_some(r, &seq, i % 10 == 0, now_ms);
		red_tick(r, now_ms);
	}
	red_count(r, &c);
	assert_string_equal(red_error(r), "");
	assert_true(c.durable && !c.dropped);
	model_compare_groups(r, 300, now_ms);
	red_free(&r);
	now_ms += 700 * 1000; /* beyond the seconds */
	r = open_red(now_ms);
	model_compare_groups(r, 3600, now_ms);
	model_compare_groups(r, 86400, now_ms);
	red_free(&r);
}

static void without_a_directory_it_is_in_memory_until_there_is_one(void **state)
{
	uint64_t now_ms = START_S * 1000, seq = 0;
	struct red_counts c;
	struct red *r;
	char path[128];

	snprintf(path, sizeof(path), "%s/later", dir.path);
	assert_int_equal(red_new(path, now_ms, &r), 0);
	assert_true(*red_error(r));
	send_some(r, &seq, 20, now_ms);
	model_compare_groups(r, 60, now_ms);
	assert_int_equal(mkdir(path, 0700), 0);
	for (int i = 0; i < 100; i++) {
		now_ms += 100;
		red_tick(r, now_ms);
	}
	send_some(r, &seq, 20, now_ms);
	assert_string_equal(red_error(r), "");
	red_count(r, &c);
	assert_true(c.durable);
	model_compare_groups(r, 60, now_ms);
	red_free(&r);
	assert_int_equal(red_new(path, now_ms, &r), 0);
	model_compare_groups(r, 3600, now_ms);
	red_free(&r);
	unlink(file_of("later/telemetry.db"));
	assert_int_equal(rmdir(path), 0);
}

static void years_go_by(void **state)
{
	uint64_t now_ms = START_S * 1000, seq = 0, first = 0;
	struct red *r = open_red(now_ms);
	struct red_counts c;

	r->disk->wal.max = UINT32_MAX; /* a slow disk has no years for it */
	for (unsigned day = 0; day < 3 * 365; day++) {
		model.n = 0;
		send_some(r, &seq, 2, now_ms);
		now_ms += 86400 * 1000;
		for (int i = 0; i < 72; i++) /* what is written when that is due, and cleaned up */
			red_tick(r, now_ms + (uint64_t)i * 1000);
		if (day != 365 && day != 3 * 365 - 1)
			continue;
		red_count(r, &c);
		assert_true(c.since_s[2] + RED_KEEP_S + 3 * 86400 > now_ms / 1000);
		assert_true(!c.since_s[1] || c.since_s[1] + 86400 > now_ms / 1000);
		assert_true(c.disk_bytes < 4u << 20);
		if (!first)
			first = c.disk_bytes;
		assert_true(c.disk_bytes <= first * 3 / 2);
		assert_string_equal(red_error(r), "");
	}
	assert_true(c.memory_bytes < 20u << 20);
	red_free(&r);
}

static int count_cells(void *arg, uint64_t start_s, const void *records, size_t len)
{
	(*(unsigned *)arg)++;
	return 0;
}

static void the_file_is_bounded_in_bytes_too(void **state)
{
	static const char records[10000] = {0};
	struct red_disk_keep k = {{0}};
	struct red_disk *d;
	char why[256];
	unsigned n = 0, newest = 0;
	uint64_t id;

	assert_int_equal(red_disk_open(dir.path, &d, why, sizeof(why)), 0);
	red_disk_limit(d, 3 << 20, 1 << 20);
	d->part_ns = UINT32_MAX; /* as long, and as much of a log, as a slow disk takes */
	d->wal.max = UINT32_MAX;
	for (unsigned i = 0; i < 2000; i++) {
		assert_int_equal(red_disk_begin(d), 0);
		assert_int_equal(
			red_disk_cell_put(d, 2, START_S + i, "b", records, sizeof(records)), 0);
		assert_int_equal(
			red_disk_journal_put(d, START_S + i, records, sizeof(records), &id), 0);
		assert_int_equal(red_disk_commit(d), 0);
		k.journal_id = id;
		assert_int_equal(red_disk_prune(d, &k), 0);
		assert_int_equal(red_disk_prune(d, &k), 0);
	}
	assert_true(red_disk_bytes(d) <= 4 << 20);
	assert_int_equal(red_disk_cells(d, 2, "b", 0, UINT32_MAX, count_cells, &n), 0);
	assert_true(n > 100 && n < 400);
	assert_int_equal(
		red_disk_cells(d, 2, NULL, START_S + 1999, UINT32_MAX, count_cells, &newest), 0);
	assert_int_equal(newest, 1); /* the oldest went */
	red_disk_close(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		RED_TEST(garbage_is_put_aside),
		RED_TEST(nothing_that_was_put_aside_is_overwritten),
		RED_TEST(an_empty_file_is_as_good_as_none),
		RED_TEST(damage_while_it_is_open_is_survived),
		RED_TEST(a_full_disk_stops_nothing),
		RED_TEST(without_a_directory_it_is_in_memory_until_there_is_one),
		RED_TEST(years_go_by),
		RED_TEST(the_file_is_bounded_in_bytes_too),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
