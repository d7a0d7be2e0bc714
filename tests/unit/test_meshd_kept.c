/* SPDX-License-Identifier: Apache-2.0 */
/* What meshd keeps for a while has an end and a limit: faults, drains, breaker orders, whys. */
#include "ctl/meshd/drains.h"
#include "ctl/meshd/faults.h"
#include "ctl/meshd/hands.h"
#include "ctl/meshd/whys.h"
#include "lib/json.h"
#include "tests/unit/meshd_dir.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* after the types that it needs */
#include <cmocka.h>

static char said[256];

static void say(const char *service, const char *kind)
{
	size_t len = strlen(said);

	snprintf(said + len, sizeof(said) - len, "%s %s;", service, kind);
}

static void put(struct faults *f, const char *service, const char *body, uint64_t now_ms)
{
	cJSON *v = cJSON_Parse(body);
	struct schema_error e;

	assert_int_equal(faults_put(f, service, v, now_ms, &e), 0);
	cJSON_Delete(v);
}

static const char *told(const struct faults *f, uint64_t now_ms)
{
	static char text[1024];
	struct buf b;

	buf_init(&b, sizeof(text) - 1);
	faults_tell(f, now_ms, &b);
	assert_false(b.failed);
	strcpy(text, b.data);
	buf_done(&b);
	return text;
}

static void each_kind_of_a_fault_has_its_own_end(void **state)
{
	struct faults f = {0};

	said[0] = '\0';
	assert_true(faults_next(&f) == UINT64_MAX);
	put(&f, "web", "{\"delay\":{\"duration\":\"1s\"},\"for\":\"10s\"}", 1000);
	put(&f, "web", "{\"abort\":{\"status\":429},\"for\":\"5s\"}", 2000);
	put(&f, "api", "{\"abort\":{\"percent\":1},\"for\":\"1s\"}", 2000);
	assert_int_equal(f.number, 2);
	assert_int_equal(faults_next(&f), 3000);
	assert_string_equal(
		told(&f, 2500),
		"[{\"service\":\"api\",\"abort\":{\"percent\":1,\"status\":503},\"leftMs\":500},"
		"{\"service\":\"web\",\"delay\":{\"percent\":100,\"durationMs\":1000},"
		"\"abort\":{\"percent\":100,\"status\":429},\"leftMs\":4500}]");
	assert_int_equal(faults_sweep(&f, 2999, say), 0);
	assert_int_equal(faults_sweep(&f, 3000, say), 1);
	assert_int_equal(faults_next(&f), 7000);
	assert_int_equal(faults_sweep(&f, 7000, say), 1);
	assert_string_equal(told(&f, 7000), "[{\"service\":\"web\",\"delay\":{\"percent\":100,"
					    "\"durationMs\":1000},\"leftMs\":4000}]");
	/* set again, the end moves, in both directions */
	put(&f, "web", "{\"delay\":{\"duration\":\"1ms\"},\"for\":\"1s\"}", 7000);
	assert_int_equal(faults_next(&f), 8000);
	assert_int_equal(faults_sweep(&f, 9000, say), 1);
	assert_int_equal(f.number, 0);
	assert_string_equal(said, "api abort;web abort;web delay;");
	faults_done(&f);
}

static void faults_have_a_limit(void **state)
{
	struct faults f = {0};
	struct schema_error e;
	char name[16];
	cJSON *v = cJSON_Parse("{\"abort\":{}}");

	for (int i = 0; i < FAULTS_MAX; i++) {
		snprintf(name, sizeof(name), "s%d", i);
		assert_int_equal(faults_put(&f, name, v, 0, &e), 0);
	}
	assert_int_equal(faults_put(&f, "more", v, 0, &e), -ENOSPC);
	assert_int_equal(faults_put(&f, "s7", v, 0, &e), 0); /* it is there already */
	assert_int_equal(faults_delete(&f, NULL), FAULTS_MAX);
	cJSON_Delete(v);
}

static void a_drain_ends_a_minute_after_its_endpoint(void **state)
{
	struct endpoint there[] = {{.service = "web", .id = "web-1"},
				   {.service = "web", .id = "x"}};
	struct test_dir dir;
	struct store *s;
	struct drains d;
	char why[128];
	bool changed;

	test_dir_make(&dir);
	assert_int_equal(store_open(dir.path, &s, why, sizeof(why)), 0);
	assert_int_equal(drains_init(&d, s), 0);
	assert_int_equal(drains_add(&d, "web", "web-1", "uid 0", &changed), 0);
	assert_true(changed);
	assert_int_equal(drains_sweep(&d, there, 2, 1000), 0);
	assert_int_equal(drains_sweep(&d, there + 1, 1, 2000), 0);
	assert_int_equal(drains_sweep(&d, there + 1, 1, 61999), 0);
	assert_int_equal(drains_sweep(&d, there, 2, 61999), 0); /* it is back: the minute is over */
	assert_int_equal(drains_sweep(&d, there, 0, 62000), 0);
	assert_int_equal(drains_sweep(&d, there, 0, 122000), 1);
	assert_int_equal(d.number, 0);
	assert_int_equal(drains_remove(&d, "web", "web-1"), -ENOENT);
	drains_done(&d);
	assert_int_equal(drains_init(&d, s), 0);
	assert_int_equal(d.number, 0); /* neither is it in the store */
	drains_done(&d);
	store_close(&s);
	test_dir_remove(&dir);
}

static void what_is_held_is_not_pushed_out(void **state)
{
	struct hands h = {0};
	char name[16];
	uint64_t serial = 1;

	for (int i = 0; i < HANDS_MAX; i++) {
		snprintf(name, sizeof(name), "s%d", i);
		assert_int_equal(
			hands_add(&h, name, NULL, i % 2 ? HAND_RESET : HAND_OPEN, serial++), 0);
	}
	for (int i = 0; i < HANDS_MAX / 2; i++) {
		snprintf(name, sizeof(name), "t%d", i);
		assert_int_equal(hands_add(&h, name, NULL, HAND_CLOSE, serial++), 0);
	}
	assert_int_equal(h.number, HANDS_MAX);
	assert_int_equal(hands_add(&h, "one-more", NULL, HAND_OPEN, serial), -ENOSPC);
	assert_true(hands_held(&h, "s0", NULL));
	assert_false(hands_held(&h, "s1", NULL));
	assert_false(hands_held(&h, "s0", "e"));
	assert_int_equal(hands_add(&h, "s0", NULL, HAND_RESET, serial++), 0);
	assert_false(hands_held(&h, "s0", NULL));
	assert_int_equal(hands_add(&h, "one-more", NULL, HAND_OPEN, serial), 0);
	assert_int_equal(h.number, HANDS_MAX);
}

static void an_order_for_an_endpoint_goes_with_it(void **state)
{
	struct endpoint there = {.service = "web", .id = "web-1"};
	struct hands h = {0};

	assert_int_equal(hands_add(&h, "web", "web-1", HAND_OPEN, 1), 0);
	assert_int_equal(hands_add(&h, "web", NULL, HAND_OPEN, 2), 0);
	assert_int_equal(hands_sweep(&h, &there, 1, 1000), 0);
	assert_int_equal(hands_sweep(&h, NULL, 0, 2000), 0);
	assert_int_equal(hands_sweep(&h, NULL, 0, 62000), 1);
	assert_true(hands_held(&h, "web", NULL));
	assert_false(hands_held(&h, "web", "web-1"));
}

static int add(struct whys *w, const char *id, size_t size, uint64_t now_ms)
{
	cJSON *v = cJSON_CreateObject();
	char *text = malloc(size + 1);
	int r;

	memset(text, 'x', size);
	text[size] = '\0';
	cJSON_AddStringToObject(v, "id", id);
	cJSON_AddStringToObject(v, "text", text);
	r = whys_add(w, v, now_ms);
	cJSON_Delete(v);
	free(text);
	return r;
}

static void whys_end_after_a_quarter_of_an_hour(void **state)
{
	struct whys *w;

	assert_int_equal(whys_new(&w), 0);
	assert_int_equal(add(w, "a", 1, 1000), 0);
	assert_int_equal(add(w, "b", 1, 2000), 0);
	assert_non_null(whys_find(w, "a", 900999));
	assert_null(whys_find(w, "a", 901000));
	whys_sweep(w, 901000);
	assert_int_equal(whys_number(w), 1);
	assert_int_equal(add(w, "b", 2, 901000), 0); /* again: the new one counts */
	assert_int_equal(whys_number(w), 1);
	assert_string_equal(whys_find(w, "b", 902000), "{\"id\":\"b\",\"text\":\"xx\"}");
	whys_free(&w);
}

static void whys_have_a_limit_in_number_and_size(void **state)
{
	char id[WHY_ID_MAX + 2], name[16];
	struct whys *w;
	unsigned big;

	assert_int_equal(whys_new(&w), 0);
	memset(id, 'i', sizeof(id) - 1);
	id[sizeof(id) - 1] = '\0';
	assert_int_equal(add(w, id, 1, 0), -EMSGSIZE);
	assert_int_equal(add(w, "", 1, 0), -EMSGSIZE);
	assert_int_equal(add(w, "big", WHY_TEXT_MAX, 0), -EMSGSIZE);
	for (int i = 0; i < WHYS_MAX + 10; i++) {
		snprintf(name, sizeof(name), "r%d", i);
		assert_int_equal(add(w, name, 1, 0), 0);
	}
	assert_int_equal(whys_number(w), WHYS_MAX);
	assert_null(whys_find(w, "r9", 0));
	assert_non_null(whys_find(w, "r10", 0));
	for (int i = 0; i < WHYS_MAX; i++) {
		snprintf(name, sizeof(name), "b%d", i);
		assert_int_equal(add(w, name, WHY_TEXT_MAX - 64, 0), 0);
	}
	big = whys_number(w);
	assert_in_range(big, 1000, WHYS_BYTES / (WHY_TEXT_MAX - 64));
	whys_free(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_kind_of_a_fault_has_its_own_end),
		cmocka_unit_test(faults_have_a_limit),
		cmocka_unit_test(a_drain_ends_a_minute_after_its_endpoint),
		cmocka_unit_test(what_is_held_is_not_pushed_out),
		cmocka_unit_test(an_order_for_an_endpoint_goes_with_it),
		cmocka_unit_test(whys_end_after_a_quarter_of_an_hour),
		cmocka_unit_test(whys_have_a_limit_in_number_and_size),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
