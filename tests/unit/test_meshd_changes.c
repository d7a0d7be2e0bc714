/* SPDX-License-Identifier: Apache-2.0 */
/* Changes in meshd: who waits for them is told, a restart keeps them, files bring them. */
#include "tests/unit/meshd_watch.h"

static void who_waits_is_told_of_every_change(void **state)
{
	struct waiting w = {0};
	struct http_client *hc;
	struct loop l;

	assert_int_equal(loop_init(&l), 0);
	assert_int_equal(http_client_new(&l, &hc), 0);
	for (int i = 0; i < 8; i++)
		watch_start(hc, revision(), serial(), &w);
	await_watchers(&l, 8);
	assert_int_equal(w.answered, 0);
	assert_int_equal(call("PUT", "/api/config/web", "{'failClosed':true}"), 200);
	run_until(&l, &w, 8, 5000);
	assert_int_equal(w.answered, 8);
	assert_int_equal(w.status, 200);
	assert_non_null(strstr(
		w.body,
		"\"services\":[{\"service\":\"web\",\"failClosed\":true}],\"endpoints\":[]"));

	/* behind: at once */
	w.answered = 0;
	assert_int_equal(call("POST", "/api/register", "{'name':'db','port':1}"), 200);
	watch_start(hc, revision() - 1, 0, &w);
	run_until(&l, &w, 1, 5000);
	assert_int_equal(w.answered, 1);
	assert_non_null(strstr(
		w.body,
		"\"endpoints\":[{\"service\":\"db\",\"id\":\"db-1\",\"address\":\"127.0.0.1\","
		"\"port\":1,\"version\":\"v1\",\"weight\":100}]"));
	assert_int_equal(call("GET", "/api/watch?revision=999999", NULL),
			 200); /* ahead: another store's */
	http_client_free(&hc);
	loop_done(&l);
}

static void who_waits_at_the_end_is_answered(void **state)
{
	struct waiting w = {0};
	struct http_client *hc;
	struct loop l;

	assert_int_equal(loop_init(&l), 0);
	assert_int_equal(http_client_new(&l, &hc), 0);
	watch_start(hc, revision(), serial(), &w);
	await_watchers(&l, 1);
	daemon_stop();
	run_until(&l, &w, 1, 5000);
	assert_int_equal(w.status, 200);
	http_client_free(&hc);
	loop_done(&l);
	daemon_start();
}

static void what_was_stored_is_there_after_a_restart(void **state)
{
	char epoch[64];
	uint64_t before;

	assert_int_equal(call("PUT", "/api/config/web", "{'failClosed':true}"), 200);
	assert_int_equal(call("POST", "/api/register", "{'name':'db','port':1}"), 200);
	before = revision();
	snprintf(epoch, sizeof(epoch), "%.40s", strstr(answer.body, "\"epoch\""));
	daemon_stop();
	daemon_start();
	assert_int_equal(revision(), before);
	assert_non_null(strstr(answer.body, epoch));
	assert_int_equal(call("GET", "/api/services/db", NULL), 200);
	assert_int_equal(call("GET", "/api/config/web", NULL), 200);
	assert_body("'failClosed':true");
}

static void reload(void)
{
	uint64_t end = clock_mono_ns() + 5000000000ULL;
	uint64_t before = revision();

	assert_int_equal(write(lifeline, "h", 1), 1);
	while (revision() == before && !strstr(answer.body, "\"configError\":\""))
		if (clock_mono_ns() > end)
			fail_msg("the reload changes nothing");
}

static void files_are_applied_whole_or_not_at_all(void **state)
{
	test_dir_write(&files, "a.json", "{\"service\":\"a\",\"failClosed\":true}");
	test_dir_write(&files, "bc.json", "[{\"service\":\"b\"},{\"service\":\"c\"}]");
	test_dir_write(&files, ".hidden.json", "{");
	test_dir_write(&files, "notes.txt", "{");
	reload();
	assert_int_equal(call("GET", "/api/config/c", NULL), 200);
	assert_int_equal(call("GET", "/api/config/a/history", NULL), 200);
	assert_body("'author':'file a.json','action':'file'");

	/* one bad file: nothing happens, not even for the good one */
	test_dir_write(&files, "a.json", "{\"service\":\"a\",\"failClosed\":false}");
	test_dir_write(&files, "bc.json",
		       "[{\"service\":\"b\"},{\"service\":\"c\",\"retry\":{\"attempts\":99}}]");
	reload();
	assert_body("'configError':'bc.json: [1].retry.attempts: must be between 0 and 10'");
	assert_int_equal(call("GET", "/api/config/a", NULL), 200);
	assert_body("'failClosed':true");
	assert_int_equal(call("GET", "/metrics", NULL), 200);
	assert_body("mesh_config_last_reload_successful 0\n");

	test_dir_write(&files, "bc.json", "[{\"service\":\"b\"},{\"service\":\"a\"}]");
	reload();
	assert_body("'configError':'bc.json: [1].service: \\'a\\' is also in a.json'");

	/* c is gone, a is changed */
	test_dir_write(&files, "bc.json", "{\"service\":\"b\"}");
	reload();
	assert_body("'configError':null");
	assert_int_equal(call("GET", "/api/config/a", NULL), 200);
	assert_body("'failClosed':false");
	assert_int_equal(call("GET", "/api/config/c", NULL), 404);
}

static void a_file_wins_only_when_it_has_changed(void **state)
{
	test_dir_write(&files, "a.json", "{\"service\":\"a\",\"failClosed\":true}");
	reload();
	assert_int_equal(call("PATCH", "/api/config/a", "{'failClosed':false}"), 200);
	test_dir_write(&files, "b.json", "{\"service\":\"b\"}");
	reload();
	assert_int_equal(call("GET", "/api/config/a", NULL), 200);
	assert_body("'failClosed':false");
	test_dir_write(&files, "a.json",
		       "{\"service\":\"a\",\"failClosed\":true,\"accelerate\":\"off\"}");
	reload();
	assert_int_equal(call("GET", "/api/config/a", NULL), 200);
	assert_body("'failClosed':true,'accelerate':'off'");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(who_waits_is_told_of_every_change),
		TEST(who_waits_at_the_end_is_answered),
		TEST(what_was_stored_is_there_after_a_restart),
		TEST(files_are_applied_whole_or_not_at_all),
		TEST(a_file_wins_only_when_it_has_changed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
