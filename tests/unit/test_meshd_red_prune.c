/* SPDX-License-Identifier: Apache-2.0 */
/* telemetry.db does not grow: the journal and the tiers are cleaned up as fast as they fill, and a
 * long journal does not make that slow. */
#include "ctl/meshd/red/disk_impl.h"
#include "ctl/meshd/red/red_impl.h"
#include "tests/unit/red_rig.h"

#include <sys/stat.h>
#include <unistd.h>

#define ROWS 20000

/* A journal of so many rows, 40 of each second. */
static struct red_disk *open_journal(uint64_t *last_id)
{
	static const char records[100] = {0};
	struct red_disk *d;
	char why[256];

	assert_int_equal(red_disk_open(dir.path, &d, why, sizeof(why)), 0);
	assert_int_equal(red_disk_begin(d), 0);
	for (unsigned i = 0; i < ROWS; i++)
		assert_int_equal(red_disk_journal_put(d, START_S + i / 40, records, sizeof(records),
						      last_id),
				 0);
	assert_int_equal(red_disk_commit(d), 0);
	return d;
}

static int count_entry(void *arg, uint64_t id, uint64_t second_s, const void *records, size_t len)
{
	(*(unsigned *)arg)++;
	return 0;
}

static unsigned entries(struct red_disk *d)
{
	unsigned n = 0;

	assert_int_equal(red_disk_journal(d, 0, count_entry, &n), 0);
	return n;
}

static int work_of_all(struct red_disk *d)
{
	int n = 0;

	for (int i = 0; i < DISK_STATEMENTS; i++)
		n += sqlite3_stmt_status(d->stmt[i], SQLITE_STMTSTATUS_VM_STEP, 1);
	return n;
}

/* Steps of SQLite's machine, which are the same on every machine of ours. */
static void what_is_due_is_found_without_looking_at_the_rest(void **state)
{
	struct red_disk_keep k = {.journal_s = START_S + 1};
	struct red_disk *d = open_journal(&k.journal_id);

	d->part_ns = UINT32_MAX; /* as long as it takes */
	(void)work_of_all(d);
	assert_int_equal(red_disk_prune(d, &k), 0);
	assert_int_equal(entries(d), ROWS - 40);
	assert_true(work_of_all(d) < ROWS * 12); /* most of it is the counting here */
	for (int i = 0; i < 8; i++) {
		assert_int_equal(red_disk_prune(d, &k), 0); /* nothing is due */
		assert_true(work_of_all(d) < 32 * 30);
	}
	assert_int_equal(entries(d), ROWS - 40);
	k.journal_id = 60; /* a shard is behind: time alone does not let go */
	k.journal_s = START_S + 100;
	assert_int_equal(red_disk_prune(d, &k), 0);
	assert_int_equal(entries(d), ROWS - 60);
	red_disk_close(&d);
}

static void a_row_that_is_not_due_holds_back_no_other(void **state)
{
	struct red_disk_keep k = {.journal_s = START_S};
	struct red_disk *d;
	char why[256];
	uint64_t id;

	assert_int_equal(red_disk_open(dir.path, &d, why, sizeof(why)), 0);
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(red_disk_journal_put(d, START_S - 1 + i % 2, "x", 1, &id), 0);
	k.journal_id = id;
	assert_int_equal(red_disk_prune(d, &k), 0);
	assert_int_equal(entries(d), 10);
	red_disk_close(&d);
}

static void pruning_keeps_pace(void **state)
{
	struct red_disk_keep k = {.journal_s = START_S + ROWS};
	struct red_disk *d = open_journal(&k.journal_id);

	d->part_ns = UINT32_MAX;
	assert_int_equal(red_disk_prune(d, &k), 0); /* not 32 rows and the rest another time */
	assert_int_equal(entries(d), 0);
	assert_int_equal(d->journal_bytes, 0);
	assert_int_equal(d->journal_from_s, START_S + ROWS / 40);
	red_disk_close(&d);
}

static int count_cell(void *arg, uint64_t start_s, const void *records, size_t len)
{
	(*(unsigned *)arg)++;
	return 0;
}

static void a_full_journal_does_not_keep_the_rest_from_being_pruned(void **state)
{
	struct red_disk_keep k = {.cells_s = {0, START_S, START_S}};
	struct red_disk *d;
	unsigned n = 0;
	char why[256];
	uint64_t id;

	assert_int_equal(red_disk_open(dir.path, &d, why, sizeof(why)), 0);
	red_disk_limit(d, RED_DISK_BYTES, 10);
	for (unsigned i = 0; i < 500; i++) {
		assert_int_equal(red_disk_journal_put(d, START_S, "0123456789", 10, &id), 0);
		assert_int_equal(red_disk_cell_put(d, 1 + i % 2, START_S - 1, "b", "x", 1), 0);
	}
	for (int i = 0; i < 800; i++) /* none of the journal may go: k.journal_id is 0 */
		assert_int_equal(red_disk_prune(d, &k), 0);
	assert_int_equal(entries(d), 500);
	assert_int_equal(red_disk_cells(d, 1, NULL, 0, UINT32_MAX, count_cell, &n), 0);
	assert_int_equal(red_disk_cells(d, 2, NULL, 0, UINT32_MAX, count_cell, &n), 0);
	assert_int_equal(n, 0);
	red_disk_close(&d);
}

/* In bytes: few rows may be many bytes. */
static void the_journal_keeps_to_its_limit(void **state)
{
	uint64_t now_ms = START_S * 1000, most = 0;
	struct red *r;

	r = open_red(now_ms);
	red_disk_limit(r->disk, RED_DISK_BYTES, 20000);
	for (unsigned i = 0; i < 500; i++) {
		assert_int_equal(model_send(r, "n", "e", i + 1, now_ms / 1000, 16, true, now_ms),
				 0);
		now_ms += RED_TICK_MS;
		red_tick(r, now_ms);
		most = r->disk->journal_bytes > most ? r->disk->journal_bytes : most;
	}
	assert_true(most > 20000 && most < 100000);
	model_compare_groups(r, 86400, now_ms);
	red_free(&r);
	r = open_red(now_ms);
	model_compare_groups(r, 86400, now_ms);
	red_free(&r);
}

static off_t log_length(void)
{
	struct stat st;
	char path[128];

	snprintf(path, sizeof(path), "%s/telemetry.db-wal", dir.path);
	return stat(path, &st) ? 0 : st.st_size;
}

static void send_and_tick(struct red *r, unsigned n, uint64_t *seq, uint64_t *now_ms)
{
	for (unsigned i = 0; i < n; i++) {
		*now_ms += RED_TICK_MS;
		assert_int_equal(model_send(r, "n", "e", ++*seq, *now_ms / 1000, 16, true, *now_ms),
				 0);
		red_tick(r, *now_ms);
	}
}

/* Another program has a transaction open: the log cannot begin anew, and must not grow for ever. */
static void who_reads_for_ever_does_not_fill_the_disk(void **state)
{
	uint64_t now_ms = START_S * 1000, seq = 0;
	sqlite3 *reader;
	char path[128];
	struct red *r;

	r = open_red(now_ms);
	r->disk->wal.max = 1 << 20;
	send_and_tick(r, 1, &seq, &now_ms);
	snprintf(path, sizeof(path), "%s/telemetry.db", dir.path);
	assert_int_equal(sqlite3_open(path, &reader), SQLITE_OK);
	assert_int_equal(sqlite3_exec(reader, "BEGIN; SELECT * FROM journal", NULL, NULL, NULL),
			 SQLITE_OK);
	send_and_tick(r, 1500, &seq, &now_ms);
	assert_non_null(strstr(red_error(r), "log is full"));
	assert_true(log_length() > 1 << 20 && log_length() < 2 << 20);
	sqlite3_close(reader);
	for (int i = 0; i < 200 && *red_error(r); i++) {
		usleep(50000); /* the thread's turn */
		now_ms += 5000;
		send_and_tick(r, 1, &seq, &now_ms);
	}
	assert_string_equal(red_error(r), "");
	assert_true(log_length() < 1 << 20);
	model_compare_groups(r, 86400, now_ms);
	red_free(&r);
	r = open_red(now_ms);
	model_compare_groups(r, 86400, now_ms);
	red_free(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		RED_TEST(what_is_due_is_found_without_looking_at_the_rest),
		RED_TEST(a_row_that_is_not_due_holds_back_no_other),
		RED_TEST(pruning_keeps_pace),
		RED_TEST(a_full_journal_does_not_keep_the_rest_from_being_pruned),
		RED_TEST(the_journal_keeps_to_its_limit),
		RED_TEST(who_reads_for_ever_does_not_fill_the_disk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
