/* SPDX-License-Identifier: Apache-2.0 */
/* What waits for meshd: batches have numbers that do not change, whatever was added is sent once or
 * counted as dropped, and nothing grows without an end. */
#include "agent/telemetry/outbox.h"
#include "tests/unit/records_json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* after the types that it needs */
#include <cmocka.h>

#define NOW  1763868000000ULL
#define WALL 1763867000000000000LL

static struct outbox *o;
static cJSON *batch; /* the last one, parsed, its records among the spans */
static size_t json_len, record_bytes;

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

static struct {
	struct record r;
	char text[RECORD_TEXT_MAX];
} whole;

/* One with that number for its id, and a path of so many bytes. */
static void add_long_span(uint64_t number, uint16_t path)
{
	static const struct span_names names = {
		.source = "frontend", .service = "backend", .instance = "b-1", .version = ""};

	memset(&whole, 'p', sizeof(whole));
	whole.r = (struct record){.kind = RECORD_REQUEST,
				  .size = (uint32_t)(sizeof(whole.r) + path + 7) & ~7u,
				  .flags = RECORD_TRACED | RECORD_SAMPLED,
				  .start_ns = 1000000000000,
				  .status = 200,
				  .path_len = path};
	for (int i = 0; i < 8; i++)
		whole.r.span_id[i] = (uint8_t)(number >> (56 - 8 * i));
	outbox_record(o, &whole.r, &names);
}

static void add_span(uint64_t number)
{
	add_long_span(number, 0);
}

/* The ids of spans that next() has found. */
static uint64_t id_of(const cJSON *span)
{
	return strtoull(json_str(span, "id", ""), NULL, 16);
}

static void take_records(const struct iovec *piece, cJSON *spans)
{
	struct record_batch_view v;

	assert_int_equal(record_batch_check(piece->iov_base, piece->iov_len, &v), 0);
	assert_int_equal(v.head->size, piece->iov_len);
	assert_string_equal(record_batch_node(&v), "n\"1");
	records_json(&v, spans);
	record_bytes += piece->iov_len;
}

static const cJSON *next(void)
{
	const struct iovec *body;
	size_t n = outbox_batch(o, NOW, 3, &body);
	const char *text;
	cJSON *spans;

	assert_true(n > 0);
	text = body->iov_base;
	json_len = strlen(text);
	cJSON_Delete(batch);
	batch = json_parse(text, json_len, NULL);
	assert_non_null(batch);
	spans = cJSON_GetObjectItem(batch, "spans");
	assert_true(n == 1 ? body->iov_len == json_len
			   : !spans->child && body->iov_len % 8 == 0 && body->iov_len > json_len &&
				     body->iov_len <= json_len + 8);
	record_bytes = 0;
	for (size_t i = 1; i < n; i++)
		take_records(&body[i], spans);
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
	add_span(1);
	add_span(2);
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

static char *body_text(uint64_t now_ms, uint64_t ring_lost)
{
	const struct iovec *body;

	assert_int_equal(outbox_batch(o, now_ms, ring_lost, &body), 1);
	return strdup(body->iov_base);
}

static void a_batch_goes_again_unchanged(void **state)
{
	char *first, *again;

	add_span(1);
	first = body_text(NOW, 0);
	add_span(2);
	outbox_meshd_takes(o, true);
	outbox_lose(o, OUTBOX_SPANS, 7);
	outbox_answered(o, 1, OUTBOX_AGAIN);
	assert_int_equal(outbox_count(o, OUTBOX_SPANS), 2);
	again = body_text(NOW + 5000, 9);
	assert_string_equal(again, first);
	assert_int_equal(outbox_seq(o), 1);
	outbox_answered(o, outbox_seq(o), OUTBOX_TAKEN);
	outbox_answered(o, outbox_seq(o), OUTBOX_TAKEN); /* harmless */
	next();
	outbox_answered(o, 1, OUTBOX_REFUSED); /* late, and not this one's */
	assert_int_equal(outbox_counts(o)->refused, 0);
	assert_int_equal(outbox_count(o, OUTBOX_SPANS), 1);
	assert_true(json_num(batch, "seq", 0) == 2);
	assert_int_equal(id_of(cJSON_GetObjectItem(batch, "spans")->child), 2);
	assert_true(record_bytes > 0);
	assert_true(lost("spans") == 7);
	assert_int_equal(outbox_counts(o)->again, 1);
	assert_int_equal(outbox_counts(o)->batches, 1);
	free(first);
	free(again);
}

static void one_that_is_refused_is_counted_and_the_next_one_goes(void **state)
{
	add(OUTBOX_SERIES, NOW, "{},{},{}", 3);
	add_span(1);
	outbox_meshd_takes(o, true);
	next();
	assert_true(record_bytes > 0);
	outbox_answered(o, outbox_seq(o), OUTBOX_REFUSED);
	assert_true(outbox_waiting(o));
	add_span(2);
	next(); /* it may be an older meshd in place of another */
	assert_int_equal(record_bytes, 0);
	assert_true(json_num(batch, "seq", 0) == 1);
	assert_int_equal(number("series"), 3);
	assert_int_equal(number("spans"), 0);
	assert_int_equal(outbox_count(o, OUTBOX_SPANS), 1);
	outbox_answered(o, outbox_seq(o), OUTBOX_REFUSED);
	next();
	assert_int_equal(record_bytes, 0);
	assert_true(json_num(batch, "seq", 0) == 2);
	assert_int_equal(number("series"), 0);
	assert_int_equal(number("spans"), 1);
	assert_true(lost("series") == 3 && lost("spans") == 1);
	assert_int_equal(outbox_counts(o)->refused, 2);
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
static void all_is_bounded(bool records)
{
	const int many = 60000;
	static char text[1000];
	uint64_t sent[OUTBOX_KINDS] = {0};

	memset(text, ' ', sizeof(text) - 1);
	text[0] = '{';
	text[sizeof(text) - 2] = '}';
	outbox_meshd_takes(o, records);
	for (int i = 0; i < many; i++) {
		add_long_span((uint64_t)i, 200);
		for (int k = 0; k < OUTBOX_KINDS; k++)
			if (k != OUTBOX_SPANS)
				add(k, NOW + (uint64_t)i, text, 1);
	}
	while (outbox_waiting(o)) {
		next();
		assert_true(json_len < 4 << 20);
		assert_true(record_bytes <= OUTBOX_BATCH_RECORDS);
		for (int k = 0; k < OUTBOX_KINDS; k++)
			sent[k] += (uint64_t)number(outbox_kind_name(k));
		outbox_answered(o, outbox_seq(o), OUTBOX_TAKEN);
	}
	for (int k = 0; k < OUTBOX_KINDS; k++) {
		assert_int_equal(sent[k], outbox_counts(o)->sent[k]);
		assert_int_equal(sent[k] + outbox_counts(o)->dropped[k], many);
		assert_true(sent[k] > 0);
		assert_true(sent[k] < (uint64_t)many);
	}
	assert_int_equal(sent[OUTBOX_WHYS], OUTBOX_WHYS_MAX);
	assert_true(sent[OUTBOX_SPANS] > OUTBOX_RECORDS_MAX / sizeof(whole));
}

static void what_waits_is_bounded(void **state)
{
	all_is_bounded(true);
}

static void what_waits_is_bounded_as_json(void **state)
{
	all_is_bounded(false);
}

static void the_oldest_spans_are_dropped(void **state)
{
	for (uint64_t i = 0; i < 30000; i++)
		add_long_span(i, 800);
	next();
	assert_true(lost("spans") > 0);
	assert_int_equal(id_of(cJSON_GetObjectItem(batch, "spans")->child), (int)lost("spans"));
}

/* A batch that is not full takes as much memory as one that is. */
static void memory_is_what_counts(void **state)
{
	for (uint64_t i = 0; i < 200; i++) {
		for (uint64_t k = 0; k < 80; k++)
			add_long_span(i * 80 + k, 800);
		outbox_seal(o, 0);
	}
	assert_in_range(outbox_count(o, OUTBOX_SPANS), 60 * 80,
			OUTBOX_RECORDS_MAX / RECORD_BATCH_SIZE * 80);
}

/* Whoever is told in the middle of it: each span once, in their order. */
static void what_meshd_takes_may_change_at_any_time(void **state)
{
	uint64_t added = 0, seen = 0;
	bool mixed[2] = {false, false};

	for (int turn = 0; turn < 40; turn++) {
		const cJSON *span;

		for (int i = 0; i < 700; i++)
			add_span(added++);
		outbox_meshd_takes(o, turn % 3);
		next();
		cJSON_ArrayForEach (span, cJSON_GetObjectItem(batch, "spans"))
			assert_int_equal(id_of(span), seen++);
		mixed[record_bytes > 0] = true;
		outbox_answered(o, outbox_seq(o), OUTBOX_TAKEN);
		assert_int_equal(outbox_count(o, OUTBOX_SPANS), added - seen);
	}
	while (outbox_waiting(o)) {
		next();
		seen += (uint64_t)number("spans");
		outbox_answered(o, outbox_seq(o), OUTBOX_TAKEN);
	}
	assert_int_equal(seen, added);
	assert_int_equal(outbox_counts(o)->sent[OUTBOX_SPANS], added);
	assert_true(mixed[0] && mixed[1]);
}

/* Each with the clock that was in force when it came. */
static void a_clock_that_is_put_right_moves_no_older_span(void **state)
{
	const cJSON *spans;

	outbox_meshd_takes(o, true);
	for (int i = 0; i < 3; i++) {
		outbox_seal(o, WALL + i * 5000000000LL);
		add_span((uint64_t)i);
	}
	next();
	spans = cJSON_GetObjectItem(batch, "spans");
	for (int i = 0; i < 3; i++)
		assert_true(json_num(cJSON_GetArrayItem(spans, i), "startTime", 0) ==
			    (double)(WALL / 1000000 + 1000000 + 5000 * i));
}

/* meshd was away for long: a batch each tenth of a second. */
static void a_batch_has_so_many_pieces_at_most(void **state)
{
	const struct iovec *body;
	uint64_t sent = 0;

	outbox_meshd_takes(o, true);
	for (int i = 0; i < 1000; i++) {
		outbox_seal(o, WALL);
		add_span((uint64_t)i);
	}
	while (outbox_waiting(o)) {
		assert_in_range(outbox_batch(o, NOW, 0, &body), 2, 100);
		next();
		sent += (uint64_t)number("spans");
		outbox_answered(o, outbox_seq(o), OUTBOX_TAKEN);
	}
	assert_int_equal(sent, 1000);
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
static void a_batch_has_a_thousand_spans_at_most_as_json(void **state)
{
	unsigned sent = 0;

	for (int i = 0; i < 2500; i++)
		add_span((uint64_t)i);
	outbox_seal(o, 0);
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
		tale(what_waits_is_bounded_as_json),
		tale(the_oldest_spans_are_dropped),
		tale(memory_is_what_counts),
		tale(what_counts_as_nothing_is_sent),
		tale(what_meshd_takes_may_change_at_any_time),
		tale(a_clock_that_is_put_right_moves_no_older_span),
		tale(a_batch_has_so_many_pieces_at_most),
		tale(a_batch_has_a_thousand_spans_at_most_as_json),
		tale(what_becomes_of_a_batch),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
