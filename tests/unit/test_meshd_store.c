/* SPDX-License-Identifier: Apache-2.0 */
/* What is answered is on disk: after a restart, after kill -9, and never half. */
#include "ctl/meshd/config.h"
#include "ctl/meshd/store.h"
#include "tests/unit/meshd_dir.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/wait.h>
/* after the types that it needs */
#include <cmocka.h>

static struct test_dir dir;

static int setup(void **state)
{
	test_dir_make(&dir);
	return 0;
}

static int teardown(void **state)
{
	test_dir_remove(&dir);
	return 0;
}

static struct store *open_store(void)
{
	struct store *s;
	char why[256];

	if (store_open(dir.path, &s, why, sizeof(why)))
		fail_msg("%s", why);
	return s;
}

static int change(struct store *s, const char *service, const char *text, uint64_t *revision)
{
	struct store_change c = {service, text, "test", text ? "put" : "delete", 1000};

	return store_config_change(s, &c, revision);
}

static void assert_config(struct store *s, const char *service, const char *want)
{
	uint64_t revision;
	char *text;
	int r = store_config_get(s, service, &text, &revision);

	if (!want) {
		assert_int_equal(r, -ENOENT);
		return;
	}
	assert_int_equal(r, 0);
	assert_string_equal(text, want);
	free(text);
}

static void everything_survives_a_reopen(void **state)
{
	struct store *s = open_store();
	char epoch[32], *text;
	uint64_t first, second;

	strcpy(epoch, store_epoch(s));
	assert_int_equal(strlen(epoch), 16);
	assert_int_equal(change(s, "a", "{\"x\":1}", &first), 0);
	assert_int_equal(change(s, "a", "{\"x\":2}", &second), 0);
	assert_true(second > first);
	assert_int_equal(store_registration_put(s, "r", "r-1", "{}"), 0);
	assert_int_equal(store_revision(s), second + 1);
	store_close(&s);

	s = open_store();
	assert_string_equal(store_epoch(s), epoch);
	assert_int_equal(store_revision(s), second + 1);
	assert_config(s, "a", "{\"x\":2}");
	assert_int_equal(store_history_get(s, "a", first, &text), 0);
	assert_string_equal(text, "{\"x\":1}");
	free(text);
	assert_int_equal(store_registration_delete(s, "r", "r-1"), 0);
	assert_int_equal(store_registration_delete(s, "r", "r-1"), -ENOENT);
	store_close(&s);
}

static void a_deletion_is_history_too(void **state)
{
	struct store *s = open_store();
	uint64_t first, gone, other;
	char *text;

	assert_int_equal(change(s, "a", NULL, &gone), -ENOENT);
	assert_int_equal(change(s, "a", "{}", &first), 0);
	assert_int_equal(change(s, "a", NULL, &gone), 0);
	assert_config(s, "a", NULL);
	assert_int_equal(store_history_get(s, "a", gone, &text), -ENOENT);
	assert_int_equal(store_history_get(s, "a", first, &text), 0);
	free(text);
	assert_int_equal(change(s, "b", "{}", &other), 0);
	assert_int_equal(other, gone + 1);
	store_close(&s);
}

static int count(void *arg, const struct store_change *c, uint64_t revision)
{
	++*(int *)arg;
	return 0;
}

static void history_has_a_limit(void **state)
{
	struct store *s = open_store();
	uint64_t revision, kept;
	char text[32], *old;
	int n = 0;

	assert_int_equal(store_begin(s), 0);
	for (int i = 0; i < STORE_HISTORY_PER_SERVICE + 20; i++) {
		snprintf(text, sizeof(text), "{\"n\":%d}", i);
		assert_int_equal(change(s, "a", text, &revision), 0);
	}
	assert_int_equal(store_commit(s), 0);
	assert_int_equal(store_history_each(s, "a", count, &n), 0);
	assert_int_equal(n, STORE_HISTORY_PER_SERVICE);
	kept = revision - STORE_HISTORY_PER_SERVICE + 1;
	assert_int_equal(store_history_get(s, "a", kept - 1, &old), -ENOENT);
	assert_int_equal(store_history_get(s, "a", kept, &old), 0);
	free(old);
	store_close(&s);
}

static void a_transaction_is_whole_or_nothing(void **state)
{
	struct store *s = open_store();
	uint64_t before = store_revision(s), revision;

	assert_int_equal(store_begin(s), 0);
	assert_int_equal(change(s, "a", "{}", &revision), 0);
	assert_int_equal(change(s, "b", "{}", &revision), 0);
	store_rollback(s);
	assert_int_equal(store_revision(s), before);
	assert_config(s, "a", NULL);
	assert_int_equal(change(s, "c", "{}", &revision), 0);
	assert_int_equal(revision, before + 1);
	store_close(&s);
}

static void too_much_configuration_is_refused(void **state)
{
	struct store *s = open_store();
	size_t len = STORE_TEXT_MAX / 2 + 1;
	char *text = malloc(len + 1);
	uint64_t revision, before;

	memset(text, 'x', len);
	text[len] = '\0';
	assert_int_equal(change(s, "a", text, &revision), 0);
	before = store_revision(s);
	assert_int_equal(change(s, "b", text, &revision), -ENOSPC);
	assert_int_equal(change(s, "a", text, &revision), 0); /* replacing counts once */
	assert_int_equal(revision, before + 1);
	assert_true(store_healthy(s));
	free(text);
	store_close(&s);
}

/* Writes for ever; says on fd what was acknowledged. */
static void writer(int fd)
{
	struct store *s;
	char why[256], text[64];
	uint64_t revision;

	if (store_open(dir.path, &s, why, sizeof(why)))
		_exit(1);
	for (uint64_t i = 1;; i++) {
		snprintf(text, sizeof(text), "{\"n\":%llu}", (unsigned long long)i);
		if (change(s, "a", text, &revision) || write(fd, &i, sizeof(i)) != sizeof(i))
			_exit(1);
	}
}

static void kill_9_loses_nothing_acknowledged(void **state)
{
	for (int round = 0; round < 5; round++) {
		uint64_t n = 0, last = 0, stored = 0, revision;
		int ends[2], status;
		struct store *s;
		char *text;
		pid_t pid;

		assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
		pid = fork();
		if (!pid)
			writer(ends[1]);
		close(ends[1]);
		while (last < 20u + (unsigned)round && read(ends[0], &n, sizeof(n)) == sizeof(n))
			last = n;
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		while (read(ends[0], &n, sizeof(n)) == sizeof(n))
			last = n;
		close(ends[0]);

		s = open_store();
		assert_int_equal(store_config_get(s, "a", &text, &revision), 0);
		assert_int_equal(sscanf(text, "{\"n\":%lu}", &stored), 1);
		free(text);
		/* one more may be on disk: killed between the commit and the word of it */
		assert_in_range(stored, last, last + 1);
		assert_int_equal(revision, store_revision(s));
		store_close(&s);
	}
}

static void a_second_process_is_told(void **state)
{
	struct store *s = open_store();
	int status;
	pid_t pid = fork();

	if (!pid) { /* POSIX locks are per process */
		struct store *other;
		char why[256] = "";
		int r = store_open(dir.path, &other, why, sizeof(why));

		_exit(r == -EIO && strstr(why, "another meshd uses it") ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	store_close(&s);
}

static void assert_refused(const char *want)
{
	struct store *s = NULL;
	char why[256] = "";

	assert_true(store_open(dir.path, &s, why, sizeof(why)) < 0);
	assert_null(s);
	if (!strstr(why, want))
		fail_msg("'%s', want '%s'", why, want);
}

static void set(const char *sql)
{
	char file[128];
	sqlite3 *db;

	snprintf(file, sizeof(file), "%s/meshd.db", dir.path);
	assert_int_equal(sqlite3_open(file, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
}

static void what_is_not_ours_is_refused(void **state)
{
	struct store *s;

	set("CREATE TABLE t(x)");
	assert_refused("not a database of meshd");
	test_dir_clear(&dir);

	test_dir_write(&dir, "meshd.db",
		       "this is no database, but it is long enough to be looked at");
	assert_refused("not a database");
	test_dir_clear(&dir);

	s = open_store();
	store_close(&s);
	set("PRAGMA user_version = 99");
	assert_refused("newer meshd");
}

static int count_drains(void *arg, const char *service, const char *endpoint, const char *author)
{
	assert_string_equal(author, "uid 7");
	(*(int *)arg)++;
	return 0;
}

static int drains_in(struct store *s)
{
	int n = 0;

	assert_int_equal(store_drain_each(s, count_drains, &n), 0);
	return n;
}

static void drains_and_starts_are_kept(void **state)
{
	struct store *s = open_store();
	uint64_t starts = store_starts(s), revision = store_revision(s);

	assert_int_equal(store_drain_put(s, "web", "web-1", "uid 7"), 0);
	assert_int_equal(store_drain_put(s, "web", "web-2", "uid 7"), 0);
	assert_int_equal(store_drain_delete(s, "web", "web-2"), 0);
	assert_int_equal(store_drain_delete(s, "web", "web-2"), -ENOENT);
	store_close(&s);
	s = open_store();
	assert_int_equal(drains_in(s), 1);
	assert_int_equal(store_starts(s), starts + 1);
	assert_int_equal(store_revision(s), revision); /* they are no configuration */
	store_close(&s);
}

static void the_first_form_is_brought_up_to_date(void **state)
{
	struct store *s = open_store();
	uint64_t revision;

	assert_int_equal(change(s, "web", "{\"service\":\"web\"}", &revision), 0);
	store_close(&s);
	set("DROP TABLE drain; ALTER TABLE meta DROP COLUMN starts; PRAGMA user_version = 1");
	s = open_store();
	assert_config(s, "web", "{\"service\":\"web\"}");
	assert_int_equal(store_revision(s), revision);
	assert_int_equal(store_starts(s), 1);
	assert_int_equal(store_drain_put(s, "web", "web-1", "uid 7"), 0);
	store_close(&s);
	s = open_store();
	assert_int_equal(drains_in(s), 1);
	store_close(&s);
}

/* Merging costs the square of an object's members: meshd must not stand still for it. */
static void a_patch_of_very_many_members_is_refused(void **state)
{
	struct store *s = open_store();
	cJSON *body = cJSON_CreateObject(), *split = cJSON_AddObjectToObject(body, "split");
	struct config_request q = {
		.verb = CONFIG_PATCH, .service = "web", .author = "test", .body = body};
	struct config_result result = {0};
	struct schema_error e;
	char key[16];

	for (int i = 0; i < 257; i++) {
		snprintf(key, sizeof(key), "v%d", i);
		cJSON_AddNumberToObject(split, key, 1);
	}
	assert_int_equal(config_apply(s, &q, &result, &e), -EINVAL);
	assert_non_null(strstr(e.text, "more than 256 members"));
	cJSON_Delete(body);
	store_close(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(everything_survives_a_reopen, setup, teardown),
		cmocka_unit_test_setup_teardown(a_deletion_is_history_too, setup, teardown),
		cmocka_unit_test_setup_teardown(history_has_a_limit, setup, teardown),
		cmocka_unit_test_setup_teardown(a_transaction_is_whole_or_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(too_much_configuration_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(kill_9_loses_nothing_acknowledged, setup, teardown),
		cmocka_unit_test_setup_teardown(a_second_process_is_told, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_not_ours_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(drains_and_starts_are_kept, setup, teardown),
		cmocka_unit_test_setup_teardown(the_first_form_is_brought_up_to_date, setup,
						teardown),
		cmocka_unit_test_setup_teardown(a_patch_of_very_many_members_is_refused, setup,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
