/* SPDX-License-Identifier: Apache-2.0 */
/* The file of spans: limits, age, kill -9, full and broken disks, and how it is searched. */
#include "ctl/meshd/traces/db.h"
#include "tests/unit/traces_rig.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

static char pad[1500];

/* n spans of as many traces, a thousand a call. 0 or the first error. */
static int fill(int from, int n)
{
	char trace[32];
	int r = 0;

	memset(pad, 'x', sizeof(pad) - 1);
	for (int i = from; i < from + n && !r;) {
		cJSON *list = cJSON_CreateArray();

		for (int k = 0; k < 1000 && i < from + n; k++, i++) {
			snprintf(trace, sizeof(trace), "t%d", i);
			cJSON_AddItemToArray(list, span_made(&(struct made){
							   .trace = trace, .id = "1", .pad = pad}));
		}
		r = traces_take(store, list, "n", 1000);
		cJSON_Delete(list);
	}
	return r;
}

static void a_trace_of_any_length_has_a_limit(void **state)
{
	char id[32];

	store_start(0, 0);
	for (int i = 0; i < 100; i++) {
		cJSON *list = cJSON_CreateArray();

		for (int k = 0; k < 1000; k++) {
			snprintf(id, sizeof(id), "%d", i * 1000 + k);
			cJSON_AddItemToArray(list,
					     span_made(&(struct made){
						     .trace = "long", .id = id, .parent = "0"}));
		}
		assert_int_equal(traces_take(store, list, "n", 1000), i < 2 ? 0 : 1000);
		cJSON_Delete(list);
	}
	assert_int_equal(spans_of("long"), TRACES_SPANS_MAX);
	assert_int_equal(counts().stored, TRACES_SPANS_MAX);
	assert_int_equal(counts().too_many, 100000 - TRACES_SPANS_MAX);
}

static void a_span_of_any_size_has_a_limit(void **state)
{
	static char large[64 << 10];

	memset(large, 'x', sizeof(large) - 1);
	store_start(0, 0);
	assert_int_equal(TAKE(.trace = "t", .id = "1", .pad = large), 1);
	assert_int_equal(TAKE(.trace = "t", .id = "2"), 0);
	assert_int_equal(counts().too_many, 1);
	assert_int_equal(spans_of("t"), 1);
}

/* The number of rows of a statement. */
static int rows(const char *sql)
{
	char path[128];
	sqlite3_stmt *st;
	sqlite3 *db;
	int n = 0;

	snprintf(path, sizeof(path), "%s/traces.db", home.path);
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &st, NULL), SQLITE_OK);
	while (sqlite3_step(st) == SQLITE_ROW)
		n++;
	sqlite3_finalize(st);
	sqlite3_close(db);
	return n;
}

/* A row of a trace whose only span was refused had tags that stayed when it got others. */
static void a_trace_begins_with_a_span_that_is_kept(void **state)
{
	static char large[64 << 10];

	memset(large, 'x', sizeof(large) - 1);
	store_start(0, 0);
	assert_int_equal(TAKE(.trace = "t", .id = "1", .start = 1e12, .pad = large), 1);
	assert_int_equal(spans_of("t"), -1);
	assert_int_equal(counts().traces, 0);
	assert_int_equal(rows("SELECT 1 FROM trace"), 0);
	assert_int_equal(TAKE(.trace = "t", .id = "2", .start = 1e12 + 5000), 0);
	assert_int_equal(TAKE(.trace = "t", .id = "3", .start = 1e12 + 1000, .duration = 2000), 0);
	assert_int_equal(rows("SELECT 1 FROM found WHERE tag = ''"), 1);
	assert_int_equal(rows("SELECT 1 FROM found WHERE tag = 'backend'"), 1);
	assert_int_equal(counts().traces, 1);
}

static void the_file_keeps_its_size_and_the_oldest_go(void **state)
{
	const uint64_t size = 4 << 20;

	store_start(size, 0);
	for (int i = 0; i < 20; i++) { /* some 30 MB */
		assert_int_equal(fill(i * 1000, 1000), 0);
		/* a call prunes for as long as nobody notices: how often depends on the machine */
		for (int k = 0; k < 1000 && counts().bytes >= size + (2 << 20); k++)
			traces_sweep(store, 1000);
		assert_true(counts().bytes < size + (2 << 20));
	}
	assert_int_equal(spans_of("t0"), -1);
	assert_int_equal(spans_of("t19999"), 1);
	assert_true(counts().pruned_traces > 15000);
	assert_int_equal(counts().traces + counts().pruned_traces, 20000);
	assert_true(file_size("traces.db-wal") < 80 << 20);
}

static void a_smaller_limit_shrinks_the_file(void **state)
{
	store_start(64 << 20, 0);
	assert_int_equal(fill(0, 5000), 0);
	traces_free(&store);
	assert_true(file_size("traces.db") > 6 << 20);
	store_start(2 << 20, 0);
	for (int i = 0; i < 200; i++)
		traces_sweep(store, 1000);
	assert_true(counts().bytes < 3 << 20);
	assert_int_equal(spans_of("t4999"), 1);
	traces_free(&store);
	assert_true(file_size("traces.db") < 3 << 20);
}

static void what_is_too_old_goes(void **state)
{
	uint64_t end = clock_mono_ns() + 5000000000ull;

	store_start(0, 20);
	assert_int_equal(TAKE(.trace = "t", .id = "1", .start = 1), 0);
	assert_int_equal(spans_of("t"), 1); /* as old as it came in, not as old as it says */
	while (spans_of("t") >= 0 && clock_mono_ns() < end)
		traces_sweep(store, 1000);
	assert_int_equal(spans_of("t"), -1);
	assert_int_equal(counts().traces, 0);
	assert_int_equal(counts().pruned_traces, 1);
}

/* Stores spans until it is killed; says so after each call. */
static void store_for_ever(int out)
{
	store_start(0, 0);
	for (int i = 0;; i += 50)
		if (fill(i, 50) || write(out, &i, sizeof(i)) != sizeof(i))
			_exit(1);
}

static void what_was_acknowledged_survives_a_kill(void **state)
{
	int ends[2], said = -1, last = -1, status;
	char trace[32];
	pid_t pid;

	for (int round = 0; round < 5; round++) {
		assert_int_equal(pipe(ends), 0);
		pid = fork();
		if (!pid)
			store_for_ever(ends[1]);
		close(ends[1]);
		for (int i = 0; i < 4 + 3 * round; i++)
			assert_int_equal(read(ends[0], &said, sizeof(said)), sizeof(said));
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		while (read(ends[0], &said, sizeof(said)) == sizeof(said))
			;
		close(ends[0]);
		last = said > last ? said : last;
		store_start(0, 0);
		assert_null(traces_error(store));
		for (int i = 0; i < last + 50; i++) {
			snprintf(trace, sizeof(trace), "t%d", i);
			assert_int_equal(spans_of(trace), 1);
		}
		traces_free(&store);
	}
}

static void a_broken_file_is_put_aside(void **state)
{
	static const char *const names[] = {"traces.db", "traces.db-wal", "traces.db-shm"};

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		for (size_t k = 0; k < sizeof(names) / sizeof(*names); k++)
			test_dir_write(&home, names[k], NULL);
		test_dir_write(&home, names[i],
			       "this is no database, but a text that is long "
			       "enough to be looked at as one");
		store_start(0, 0);
		assert_int_equal(TAKE(.trace = "t", .id = "1"), 0);
		assert_int_equal(spans_of("t"), 1);
		if (!i)
			assert_non_null(strstr(traces_error(store), "traces.db.corrupt"));
		traces_free(&store);
	}
	assert_true(file_size("traces.db.corrupt") > 0);
}

static void what_was_put_aside_before_is_not_overwritten(void **state)
{
	static const char *const aside[] = {"traces.db.corrupt", "traces.db.corrupt-2",
					    "traces.db.corrupt-3", "traces.db.corrupt-4"};
	static const char rubbish[] = "this is no database, but a text that is long enough to be "
				      "looked at as one";

	for (size_t i = 0; i < 4; i++)
		test_dir_write(&home, aside[i], i < 3 ? "of old" : NULL);
	for (int round = 0; round < 2; round++) {
		test_dir_write(&home, "traces.db-wal", NULL);
		test_dir_write(&home, "traces.db-shm", NULL);
		test_dir_write(&home, "traces.db", rubbish);
		store_start(0, 0);
		for (size_t i = 0; i < 3; i++)
			assert_int_equal(file_size(aside[i]), 6);
		assert_int_equal(file_size(aside[3]), sizeof(rubbish) - 1);
		assert_non_null(strstr(traces_error(store),
				       round ? "cannot be put aside" : "traces.db.corrupt-4"));
		traces_free(&store);
	}
	assert_int_equal(file_size("traces.db"), sizeof(rubbish) - 1);
}

/* The head is as it should be, what is behind it is not: that shows only when it is read. */
static void a_file_that_turns_out_broken_is_put_aside(void **state)
{
	char path[128], rubbish[4096];
	off_t size;
	FILE *f;

	store_start(0, 0);
	assert_int_equal(fill(0, 3000), 0);
	traces_free(&store);
	snprintf(path, sizeof(path), "%s/traces.db", home.path);
	size = file_size("traces.db");
	memset(rubbish, 0xa5, sizeof(rubbish));
	f = fopen(path, "r+");
	assert_non_null(f);
	for (off_t at = 4096; at < size; at += 4096) {
		assert_int_equal(fseek(f, at, SEEK_SET), 0);
		assert_int_equal(fwrite(rubbish, sizeof(rubbish), 1, f), 1);
	}
	fclose(f);
	store_start(0, 0);
	for (int i = 0; i < 3; i++) {
		TAKE(.trace = "t", .id = "1"); /* may fail: it is found out here */
		traces_sweep(store, 1000);
	}
	assert_int_equal(spans_of("t"), 1);
	assert_non_null(strstr(traces_error(store), "traces.db.corrupt"));
}

static void a_full_disk_loses_spans_and_nothing_else(void **state)
{
	struct rlimit before, small;
	int failed = 0;

	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	store_start(0, 0);
	assert_int_equal(fill(0, 100), 0);
	small = before;
	small.rlim_cur = 1 << 20;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	for (int i = 1; i < 100 && !failed; i++)
		failed = fill(i * 100, 100);
	assert_int_equal(failed, -EIO);
	assert_non_null(traces_error(store));
	assert_true(counts().failed > 0);
	assert_int_equal(spans_of("t0"), 1); /* what is there can be read */
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	assert_int_equal(TAKE(.trace = "after", .id = "1"), 0);
	assert_null(traces_error(store));
	assert_int_equal(spans_of("after"), 1);
}

static void who_reads_for_ever_does_not_fill_the_disk(void **state)
{
	char path[128];
	int failed = 0;
	uint64_t end;
	sqlite3 *db;

	store_start(0, 0);
	assert_int_equal(fill(0, 1000), 0);
	snprintf(path, sizeof(path), "%s/traces.db", home.path);
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "BEGIN; SELECT * FROM trace LIMIT 1", NULL, NULL, NULL),
			 SQLITE_OK);
	for (int i = 1; i < 100 && !failed; i++) {
		failed = fill(i * 1000, 1000);
		traces_sweep(store, 1000);
	}
	assert_int_equal(failed, -EIO);
	assert_in_range(file_size("traces.db-wal"), 64 << 20, 72 << 20);
	assert_non_null(strstr(traces_error(store), "another program reads it"));
	assert_int_equal(counts().failed, 1000);
	assert_int_equal(TAKE(.trace = "t", .id = "1"), -EIO);
	assert_int_equal(spans_of("t0"), 1);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
	end = clock_mono_ns() + 60000000000ull; /* a disk may be slow */
	while (traces_error(store) && clock_mono_ns() < end) {
		usleep(10000); /* the log's thread tries it every second */
		traces_sweep(store, 1000);
	}
	assert_null(traces_error(store));
	assert_int_equal(TAKE(.trace = "t", .id = "1"), 0);
	assert_true(file_size("traces.db-wal") < 1 << 20);
}

static void a_file_that_is_removed_is_made_again(void **state)
{
	store_start(0, 0);
	assert_int_equal(TAKE(.trace = "before", .id = "1"), 0);
	test_dir_clear(&home);
	traces_sweep(store, 1000);
	assert_int_equal(spans_of("before"), -1);
	assert_int_equal(counts().traces, 0);
	assert_int_equal(TAKE(.trace = "after", .id = "1"), 0);
	traces_free(&store);
	store_start(0, 0);
	assert_int_equal(spans_of("after"), 1);
}

static void without_a_directory_spans_are_counted(void **state)
{
	struct traces_options o = {.dir = "/nonexistent/nowhere"};
	struct buf b;

	assert_int_equal(traces_new(&o, &store), 0);
	assert_non_null(traces_error(store));
	assert_int_equal(TAKE(.trace = "t", .id = "1"), -EIO);
	assert_int_equal(counts().failed, 1);
	assert_int_equal(traces_show(store, "t", &b), -EIO);
	traces_sweep(store, 1000000);
	assert_non_null(traces_error(store));
}

/* No statement goes through a whole table, and none sorts, but for the count at the start. */
static void every_search_has_an_index(void **state)
{
	char path[128], sql[2048];
	sqlite3_stmt *st;
	sqlite3 *db;

	store_start(0, 0);
	assert_int_equal(fill(0, 10), 0);
	snprintf(path, sizeof(path), "%s/traces.db", home.path);
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	for (int i = 0; i < DB_STATEMENTS; i++) {
		if (i == DB_TRACE_COUNT || !strncmp(db_statements[i], "PRAGMA", 6))
			continue;
		snprintf(sql, sizeof(sql), "EXPLAIN QUERY PLAN %s", db_statements[i]);
		assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &st, NULL), SQLITE_OK);
		while (sqlite3_step(st) == SQLITE_ROW) {
			const char *plan = (const char *)sqlite3_column_text(st, 3);

			/* the oldest: the first by rowid, one row */
			if (strstr(plan, "TEMP B-TREE") ||
			    (strstr(plan, "SCAN") && i != DB_TRACE_OLDEST))
				fail_msg("%s: %s", db_statements[i], plan);
		}
		sqlite3_finalize(st);
	}
	sqlite3_close(db);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup_dir, teardown_dir)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_trace_of_any_length_has_a_limit),
		T(a_span_of_any_size_has_a_limit),
		T(a_trace_begins_with_a_span_that_is_kept),
		T(the_file_keeps_its_size_and_the_oldest_go),
		T(a_smaller_limit_shrinks_the_file),
		T(what_is_too_old_goes),
		T(what_was_acknowledged_survives_a_kill),
		T(a_broken_file_is_put_aside),
		T(what_was_put_aside_before_is_not_overwritten),
		T(a_file_that_turns_out_broken_is_put_aside),
		T(a_full_disk_loses_spans_and_nothing_else),
		T(who_reads_for_ever_does_not_fill_the_disk),
		T(a_file_that_is_removed_is_made_again),
		T(without_a_directory_spans_are_counted),
		T(every_search_has_an_index),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
