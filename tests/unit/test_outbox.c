/* SPDX-License-Identifier: Apache-2.0 */
/* What waits for meshd: batches have numbers that do not change, whatever was added is sent once or
 * counted as dropped, and nothing grows without an end. */
#include "agent/telemetry/outbox.h"
#include "lib/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* after the types that it needs */
#include <cmocka.h>

#define NOW 1763868000000ULL

static struct outbox *o;
static cJSON *batch; /* the last one, parsed */

static int setup(void **state)
{
	return outbox_new("n\"1", "e1", &o);
}

static int teardown(void **state)
{
	cJSON_Delete(batch);
	batch = NULL;
	outbox_free(&o);
	outbox_free(&o);
	return 0;
}

#define tale(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

static void add(enum outbox_kind k, uint64_t time_ms, const char *text, uint32_t n)
{
	outbox_add(o, k, time_ms, text, strlen(text), n);
}

static const cJSON *next(void)
{
	const char *text = outbox_batch(o, NOW, 3);

	assert_non_null(text);
	cJSON_Delete(batch);
	batch = json_parse(text, strlen(text), NULL);
	assert_non_null(batch);
	return batch;
}

static int number(const char *key)
{
	return cJSON_GetArraySize(cJSON_GetObjectItem(batch, key));
}

static double lost(const char *key)
{
	return json_num(cJSON_GetObjectItem(batch, "lost"), key, -1);
}

static void a_batch_has_all_that_waits(void **state)
{
	assert_false(outbox_waiting(o));
	add(OUTBOX_SERIES, NOW - 1000, "{\"requests\":1},{\"requests\":2}", 2);
	add(OUTBOX_SPANS, 0, "{\"id\":\"a\"}", 1);
	add(OUTBOX_SPANS, 0, "{\"id\":\"b\"}", 1);
	add(OUTBOX_TAPPED, 0, "{\"tap\":1}", 1);
	add(OUTBOX_WHYS, 0, "{\"id\":\"c\"}", 1);
	assert_true(outbox_waiting(o));
	next();
	assert_string_equal(json_str(batch, "node", ""), "n\"1");
	assert_string_equal(json_str(batch, "epoch", ""), "e1");
	assert_true(json_num(batch, "seq", 0) == 1);
	assert_true(json_num(batch, "time", 0) == NOW - 1000);
	assert_int_equal(number("series"), 2);
	assert_int_equal(number("spans"), 2);
	assert_int_equal(number("tapped"), 1);
	assert_int_equal(number("whys"), 1);
	assert_true(lost("ring") == 3 && lost("spans") == 0);
	outbox_answered(o, outbox_seq(o), OUTBOX_TAKEN);
	assert_false(outbox_waiting(o));
	assert_int_equal(outbox_counts(o)->sent[OUTBOX_SPANS], 2);
	assert_int_equal(outbox_counts(o)->sent[OUTBOX_SERIES], 2);
}

static void a_batch_goes_again_unchanged(void **state)
{
	char *first;

	add(OUTBOX_SPANS, 0, "{\"id\":\"a\"}", 1);
	first = strdup(outbox_batch(o, NOW, 0));
	add(OUTBOX_SPANS, 0, "{\"id\":\"b\"}", 1);
	outbox_lose(o, OUTBOX_SPANS, 7);
	outbox_answered(o, 1, OUTBOX_AGAIN);
	assert_int_equal(outbox_count(o, OUTBOX_SPANS), 2);
	assert_string_equal(outbox_batch(o, NOW + 5000, 9), first);
	assert_int_equal(outbox_seq(o), 1);
	outbox_answered(o, outbox_seq(o), OUTBOX_TAKEN);
	outbox_answered(o, outbox_seq(o), OUTBOX_TAKEN); /* harmless */
	next();
	outbox_answered(o, 1, OUTBOX_REFUSED); /* late, and not this one's */
	assert_int_equal(outbox_counts(o)->refused, 0);
	assert_int_equal(outbox_count(o, OUTBOX_SPANS), 1);
	assert_true(json_num(batch, "seq", 0) == 2);
	assert_string_equal(json_str(cJSON_GetObjectItem(batch, "spans")->child, "id", ""), "b");
	assert_true(lost("spans") == 7);
	assert_int_equal(outbox_counts(o)->again, 1);
	assert_int_equal(outbox_counts(o)->batches, 1);
	free(first);
}

static void one_that_is_refused_is_counted_and_the_next_one_goes(void **state)
{
	add(OUTBOX_SERIES, NOW, "{},{},{}", 3);
	add(OUTBOX_SPANS, 0, "{}", 1);
	next();
	outbox_answered(o, outbox_seq(o), OUTBOX_REFUSED);
	add(OUTBOX_SPANS, 0, "{\"id\":\"b\"}", 1);
	next();
	assert_true(json_num(batch, "seq", 0) == 2);
	assert_int_equal(number("series"), 0);
	assert_int_equal(number("spans"), 1);
	assert_true(lost("series") == 3 && lost("spans") == 1);
}

static void each_batch_has_one_second(void **state)
{
	for (uint64_t i = 0; i < 5; i++)
		add(OUTBOX_SERIES, NOW + i * 1000, "{}", 1);
	for (uint64_t i = 0; i < 5; i++) {
		assert_int_equal(outbox_behind(o), i < 4);
		next();
		assert_true(json_num(batch, "time", 0) == (double)(NOW + i * 1000));
		outbox_answered(o, outbox_seq(o), OUTBOX_TAKEN);
	}
	assert_false(outbox_waiting(o));
}

static void series_wait_for_two_minutes(void **state)
{
	for (uint64_t i = 0; i < 200; i++) {
		outbox_age(o, NOW + i * 1000);
		add(OUTBOX_SERIES, NOW + i * 1000, "{},{}", 2);
	}
	next();
	assert_true(json_num(batch, "time", 0) == (double)(NOW + (199 - 120) * 1000));
	assert_true(lost("series") == 2 * (199 - 120));
}

/* Of each kind, more than there is room for: dropped and sent are all that was added. */
static void what_waits_is_bounded(void **state)
{
	static char text[1000];
	uint64_t sent[OUTBOX_KINDS] = {0};

	memset(text, ' ', sizeof(text) - 1);
	text[0] = '{';
	text[sizeof(text) - 2] = '}';
	for (int i = 0; i < 12000; i++)
		for (int k = 0; k < OUTBOX_KINDS; k++)
			add(k, NOW + (uint64_t)i, text, 1);
	while (outbox_waiting(o)) {
		const char *body = outbox_batch(o, NOW, 0);

		assert_non_null(body);
		assert_true(strlen(body) < 4 << 20);
		next();
		for (int k = 0; k < OUTBOX_KINDS; k++)
			sent[k] += (uint64_t)number(outbox_kind_name(k));
		outbox_answered(o, outbox_seq(o), OUTBOX_TAKEN);
	}
	for (int k = 0; k < OUTBOX_KINDS; k++) {
		assert_int_equal(sent[k], outbox_counts(o)->sent[k]);
		assert_int_equal(sent[k] + outbox_counts(o)->dropped[k], 12000);
		assert_true(sent[k] > 0);
		assert_true(sent[k] < 12000);
	}
	assert_int_equal(sent[OUTBOX_WHYS], OUTBOX_WHYS_MAX);
	assert_true(sent[OUTBOX_SPANS] > 4000);
}

static void the_oldest_spans_are_dropped(void **state)
{
	static char text[8000];

	for (int i = 0; i < 1000; i++) {
		int n = snprintf(text, sizeof(text), "{\"id\":\"%d\",\"x\":\"%*s\"}", i, 6000, "");

		outbox_add(o, OUTBOX_SPANS, 0, text, (size_t)n, 1);
	}
	next();
	assert_true(lost("spans") > 0);
	assert_int_equal(atoi(json_str(cJSON_GetObjectItem(batch, "spans")->child, "id", "")),
			 (int)lost("spans"));
}

/* A note to a tap counts as nothing and is sent all the same. */
static void what_counts_as_nothing_is_sent(void **state)
{
	add(OUTBOX_TAPPED, 0, "{\"tap\":1,\"lost\":5}", 0);
	add(OUTBOX_TAPPED, 0, "{\"tap\":2,\"lost\":5}", 0);
	assert_true(outbox_waiting(o));
	next();
	assert_int_equal(number("tapped"), 2);
	outbox_answered(o, outbox_seq(o), OUTBOX_TAKEN);
	assert_int_equal(outbox_counts(o)->sent[OUTBOX_TAPPED], 0);
}

/* After an outage there are many, and meshd has others to answer meanwhile. */
static void a_batch_has_a_thousand_spans_at_most(void **state)
{
	unsigned sent = 0;

	for (int i = 0; i < 2500; i++)
		add(OUTBOX_SPANS, 0, "{}", 1);
	assert_true(outbox_behind(o));
	while (outbox_has(o, OUTBOX_SPANS)) {
		next();
		assert_true(number("spans") > 0 && number("spans") <= OUTBOX_BATCH_SPANS);
		sent += (unsigned)number("spans");
		outbox_answered(o, outbox_seq(o), OUTBOX_TAKEN);
	}
	assert_int_equal(sent, 2500);
	assert_int_equal(outbox_counts(o)->batches, 3);
	assert_false(outbox_behind(o));
}

static void what_becomes_of_a_batch(void **state)
{
	static const struct {
		int status;
		enum outbox_verdict v;
	} cases[] = {{200, OUTBOX_TAKEN},   {204, OUTBOX_TAKEN},   {0, OUTBOX_AGAIN},
		     {500, OUTBOX_AGAIN},   {503, OUTBOX_AGAIN},   {401, OUTBOX_AGAIN},
		     {403, OUTBOX_AGAIN},   {429, OUTBOX_AGAIN},   {400, OUTBOX_REFUSED},
		     {404, OUTBOX_REFUSED}, {413, OUTBOX_REFUSED}, {302, OUTBOX_AGAIN}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		assert_int_equal(outbox_verdict(cases[i].status), cases[i].v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		tale(a_batch_has_all_that_waits),
		tale(a_batch_goes_again_unchanged),
		tale(one_that_is_refused_is_counted_and_the_next_one_goes),
		tale(each_batch_has_one_second),
		tale(series_wait_for_two_minutes),
		tale(what_waits_is_bounded),
		tale(the_oldest_spans_are_dropped),
		tale(what_counts_as_nothing_is_sent),
		tale(a_batch_has_a_thousand_spans_at_most),
		tale(what_becomes_of_a_batch),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
