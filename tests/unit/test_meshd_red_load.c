/* SPDX-License-Identifier: Apache-2.0 */
/* meshd/red with a database that fails once, at any point of its start or of a question: nothing is
 * missing afterwards, nothing is there twice, and no answer leaves out what could not be read. */
#include "tests/unit/red_model.h"

#include <sqlite3.h>
#include <sys/wait.h>
#include <unistd.h>

#define START_S 1763868000ull
#define BATCHES 60

/* --- a database that fails ----------------------------------------------------------- */

static struct {
	unsigned left; /* steps until the one that fails; 0: none does */
	bool failed;
} disk;

static int step(void *arg)
{
	if (!disk.left || --disk.left)
		return 0;
	disk.failed = true;
	return 1;
}

static sqlite3 *opened; /* last */

static int on_open(sqlite3 *db, char **error, const void *routines)
{
	opened = db;
	sqlite3_progress_handler(db, 10, step, NULL);
	return SQLITE_OK;
}

static int group_setup(void **state)
{
	return sqlite3_auto_extension((void (*)(void))on_open);
}

/* --- files --------------------------------------------------------------------------- */

static struct test_dir dir;

static void copy(const char *from, const char *to)
{
	char path[128], text[65536];
	FILE *in, *out;
	size_t n;

	snprintf(path, sizeof(path), "%s/%s", dir.path, from);
	in = fopen(path, "re");
	snprintf(path, sizeof(path), "%s/%s", dir.path, to);
	out = fopen(path, "we");
	assert_true(in && out);
	while ((n = fread(text, 1, sizeof(text), in)) > 0)
		assert_int_equal(fwrite(text, 1, n, out), n);
	assert_int_equal(fclose(in), 0);
	assert_int_equal(fclose(out), 0);
}

static void restore(void)
{
	char path[128];

	copy("saved", "telemetry.db");
	copy("saved-wal", "telemetry.db-wal");
	snprintf(path, sizeof(path), "%s/telemetry.db-shm", dir.path);
	unlink(path);
}

/* What a process has left that was killed: a part is in the tiers, all of it in the journal. */
static void leave_some(bool take)
{
	struct red *r = NULL;

	model.n = 0;
	model.random = 42;
	if (take)
		assert_int_equal(red_new(dir.path, START_S * 1000, &r), 0);
	for (unsigned i = 0; i < BATCHES; i++) {
		uint64_t now_ms = START_S * 1000 + i * 500;

		if (!take) {
			struct red *none;

			assert_int_equal(red_new(NULL, now_ms, &none), 0);
			assert_int_equal(
				model_send(none, "n", "e", 1, now_ms / 1000, 16, true, now_ms), 0);
			red_free(&none);
			continue;
		}
		assert_int_equal(model_send(r, "n", "e", i + 1, now_ms / 1000, 16, false, now_ms),
				 0);
		red_tick(r, now_ms);
	}
}

static void begin(void)
{
	pid_t child;
	int status;

	test_dir_make(&dir);
	child = fork();
	if (!child) {
		leave_some(true);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	leave_some(false); /* for the model */
	copy("telemetry.db", "saved");
	copy("telemetry.db-wal", "saved-wal");
}

static void end(void)
{
	char path[128];

	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/saved%s", dir.path, i ? "-wal" : "");
		assert_int_equal(unlink(path), 0);
	}
	test_dir_remove(&dir);
}

/* --- the test ------------------------------------------------------------------------ */

static void go_on(struct red *r, uint64_t *now_ms, uint64_t *seq)
{
	for (int i = 0; i < 20; i++) {
		*now_ms += 500;
		if (i % 2)
			assert_int_equal(
				model_send(r, "n", "e", ++*seq, *now_ms / 1000, 5, true, *now_ms),
				0);
		red_tick(r, *now_ms);
	}
}

static void a_failure_at_the_start_loses_nothing_and_doubles_nothing(void **state)
{
	size_t before;
	unsigned n = 0;

	begin();
	before = model.n;
	do {
		uint64_t now_ms = START_S * 1000 + BATCHES * 500, seq = BATCHES;
		struct red *r;

		restore();
		model.n = before;
		disk.failed = false;
		disk.left = n += 1 + n / 8;
		assert_int_equal(red_new(dir.path, now_ms, &r), 0);
		disk.left = 0;
		go_on(r, &now_ms, &seq);
		assert_string_equal(red_error(r), "");
		assert_true(red_seen(r, "n", "e", seq));
		model_compare_groups(r, 60, now_ms);
		model_compare_groups(r, 86400, now_ms);
		red_free(&r);
		assert_int_equal(red_new(dir.path, now_ms, &r), 0);
		model_compare_groups(r, 60, now_ms);
		model_compare_groups(r, 86400, now_ms);
		red_free(&r);
	} while (disk.failed);
	assert_true(n > 30);
	end();
}

/* What is five hours old is in the file, and there in the coarsest tier only. */
static void a_question_fails_rather_than_leave_out_what_cannot_be_read(void **state)
{
	struct red_window w = {.window_s = 7 * 86400, .step_s = 7 * 86400};
	uint64_t later_ms = START_S * 1000 + 5 * 3600000, want = 0;
	struct red *r;
	unsigned n = 0, failures = 0;

	begin();
	for (size_t i = 0; i < model.n; i++)
		want += model.entry[i].requests;
	assert_int_equal(red_new(dir.path, later_ms, &r), 0);
	for (int i = 0; i < 200; i++)
		red_tick(r, later_ms + (uint64_t)i * 1500);
	sqlite3_progress_handler(opened, 1, step, NULL);
	assert_int_equal(red_window_plan(r, &w, later_ms + 300000), 0);
	do {
		struct red_query *q;
		int more;

		disk.failed = false;
		disk.left = n += 1 + n / 8;
		assert_int_equal(red_query_new(r, &w, &q), 0);
		while ((more = red_query_step(q)) > 0)
			;
		disk.left = 0;
		failures += more < 0;
		if (!more) {
			size_t groups;
			uint64_t requests = 0;
			const struct red_group *g = red_query_groups(q, &groups);

			for (size_t i = 0; i < groups; i++)
				requests += g[i].sum.requests;
			assert_int_equal(requests, want);
		}
		red_query_free(&q);
	} while (disk.failed);
	assert_true(failures > 10);
	red_free(&r);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_failure_at_the_start_loses_nothing_and_doubles_nothing),
		cmocka_unit_test(a_question_fails_rather_than_leave_out_what_cannot_be_read),
	};

	return cmocka_run_group_tests(tests, group_setup, NULL);
}
