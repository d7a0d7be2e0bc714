/* SPDX-License-Identifier: Apache-2.0 */
/* From records to spans; the ring of those that nobody sampled; which records a tap wants; the wall
 * clock for all of them. */
#include "lib/span_json.h"
#include "agent/telemetry/tail.h"
#include "agent/telemetry/taps.h"
#include "agent/telemetry/walltime.h"
#include "lib/json.h"
#include "lib/trace_id.h"

#include <mesh/abi.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* after the types that it needs */
#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define SECOND	 1000000000ULL

struct whole {
	struct record r;
	struct record_try tries[2];
	char text[RECORD_TEXT_MAX];
};

struct texts {
	const char *method, *path, *host, *id, *trace, *alias, *parent;
};

static void fill_text(struct whole *w, const struct texts *t)
{
	struct {
		const char *s;
		uint16_t *len;
	} all[] = {{t->method, &w->r.method_len}, {t->path, &w->r.path_len},
		   {t->host, &w->r.host_len},	  {t->id, &w->r.request_id_len},
		   {t->trace, &w->r.trace_len},	  {t->alias, &w->r.alias_len},
		   {t->parent, &w->r.parent_len}};
	char *p = w->text;

	for (size_t i = 0; i < COUNT(all); i++) {
		*all[i].len = all[i].s ? (uint16_t)strlen(all[i].s) : 0;
		if (all[i].s)
			memcpy(p, all[i].s, *all[i].len);
		p += *all[i].len;
	}
}

static struct whole some(uint16_t status, uint64_t duration_ns, const struct texts *t)
{
	struct whole w = {.r = {.size = sizeof(w),
				.kind = RECORD_REQUEST,
				.tries = 2,
				.ntries = 2,
				.flags = RECORD_TRACED | RECORD_SAMPLED,
				.duration_ns = duration_ns,
				.start_ns = 5 * SECOND,
				.head_ns = 11900000,
				.upstream_ns = 11200000,
				.bytes_in = 1,
				.bytes_out = 512,
				.status = status}};

	memset(w.r.trace_id, 0xab, 16);
	memset(w.r.span_id, 0xcd, 8);
	memset(w.r.parent_id, 0xef, 8);
	w.tries[0] = (struct record_try){.endpoint = MESH_NONE, .cause = CAUSE_CONNECT_FAILED};
	w.tries[1] = (struct record_try){.endpoint = 3,
					 .gen = 9,
					 .start_us = 102,
					 .duration_us = 11200,
					 .status = 200,
					 .reused = 1};
	fill_text(&w, t);
	return w;
}

static const char *endpoint(void *arg, uint32_t id, uint32_t gen)
{
	return id == 3 && gen == 9 ? "backend-1" : "?";
}

static cJSON *span_of(const struct whole *w)
{
	struct span_names n = {.source = "frontend",
			       .service = "backend",
			       .instance = "backend-1",
			       .version = "v1",
			       .node = "host1",
			       .endpoint = endpoint};
	struct buf b;
	cJSON *v;

	buf_init(&b, SPAN_MAX);
	span_json(&w->r, &n, 1763868000123456789ULL, &b);
	assert_false(b.failed);
	v = json_parse(b.data, b.len, NULL);
	assert_non_null(v);
	buf_done(&b);
	return v;
}

static void a_span_says_all_of_its_record(void **state)
{
	struct whole w =
		some(200, 12345678,
		     &(struct texts){"GET", "/items", "backend:80", "id-1", NULL, NULL, NULL});
	const cJSON *e;
	cJSON *v;

	v = span_of(&w);
	assert_string_equal(json_str(v, "id", ""), "cdcdcdcdcdcdcdcd");
	assert_string_equal(json_str(v, "parentId", ""), "efefefefefefefef");
	assert_string_equal(json_str(v, "traceId", ""), "abababababababababababababababab");
	assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(v, "aliases")), 0);
	assert_string_equal(json_str(v, "service", ""), "backend");
	assert_string_equal(json_str(v, "source", ""), "frontend");
	assert_string_equal(json_str(v, "operation", ""), "GET /items");
	assert_string_equal(json_str(v, "host", ""), "backend:80");
	assert_string_equal(json_str(v, "requestId", ""), "id-1");
	assert_string_equal(json_str(v, "node", ""), "host1");
	assert_string_equal(json_str(v, "kind", ""), "request");
	assert_true(json_num(v, "startTime", 0) == 1763868000123.456);
	assert_true(json_num(v, "duration", 0) == 12.345);
	assert_true(json_num(v, "statusCode", 0) == 200);
	assert_false(json_bool(v, "error", 1));
	assert_true(json_bool(v, "sampled", 0));
	assert_true(json_num(v, "bytesOut", 0) == 512 && json_num(v, "upstream", 0) == 11.2);
	e = cJSON_GetObjectItem(v, "events");
	assert_int_equal(cJSON_GetArraySize(e), 2);
	assert_string_equal(json_str(e->child, "cause", ""), "connect-failed");
	assert_string_equal(json_str(e->child, "endpoint", "?"), "");
	e = e->child->next;
	assert_string_equal(json_str(e, "endpoint", ""), "backend-1");
	assert_true(json_num(e, "time", 0) == 0.102 && json_num(e, "duration", 0) == 11.2);
	assert_true(json_bool(e, "reused", 0));
	cJSON_Delete(v);
}

static void ids_are_as_the_caller_chose_them(void **state)
{
	struct whole w = some(
		200, 1,
		&(struct texts){.trace = "order-17", .alias = "4bf9,x.y", .parent = "caller-span"});
	const cJSON *list;
	cJSON *v = span_of(&w);

	assert_string_equal(json_str(v, "traceId", ""), "order-17");
	assert_string_equal(json_str(v, "parentId", ""), "caller-span");
	list = cJSON_GetObjectItem(v, "aliases");
	assert_int_equal(cJSON_GetArraySize(list), 3);
	assert_string_equal(list->child->valuestring, "abababababababababababababababab");
	assert_string_equal(list->child->next->valuestring, "4bf9");
	assert_string_equal(list->child->next->next->valuestring, "x.y");
	cJSON_Delete(v);
	w.r.flags |= RECORD_ROOT;
	v = span_of(&w);
	assert_true(cJSON_IsNull(cJSON_GetObjectItem(v, "parentId")));
	cJSON_Delete(v);
	w = some(200, 1, &(struct texts){0});
	memset(w.r.parent_id, 0, 8);
	v = span_of(&w);
	assert_true(cJSON_IsNull(cJSON_GetObjectItem(v, "parentId")));
	cJSON_Delete(v);
}

/* Bytes of a client come out as text of JSON, whatever they are, and no longer than SPAN_MAX. */
static void whatever_a_client_sends_is_escaped(void **state)
{
	char junk[257], path[257];
	cJSON *v;

	for (int round = 0; round < 300; round++) {
		struct whole w;

		for (int i = 0; i < 256; i++) {
			junk[i] = (char)(1 + rand() % 255);
			path[i] = round % 2 ? '\x01' : (char)(1 + rand() % 255);
		}
		junk[rand() % 90] = path[256] = 0;
		w = some(500, 1, &(struct texts){"G\"T", path, junk, junk, "t\\", ",,a,", "p\n"});
		v = span_of(&w);
		assert_string_equal(json_str(v, "method", ""), "G\"T");
		assert_string_equal(json_str(v, "traceId", ""), "t\\");
		assert_string_equal(json_str(v, "parentId", ""), "p\n");
		cJSON_Delete(v);
	}
}

static void what_is_an_error_and_what_is_kept(void **state)
{
	static const struct {
		uint16_t status;
		uint64_t ns;
		bool error, matters;
		uint16_t flags;
		uint8_t cause;
	} cases[] = {{200, 1, false, false},
		     {404, 1, true, false},
		     {500, 1, true, true},
		     {503, 1, true, true},
		     {0, 1, true, true},
		     {101, 1, false, false},
		     {200, SECOND, false, false},
		     {200, SECOND + 1, false, true},
		     /* cut off in its middle: not when its caller left, nor what we answered */
		     {200, 1, false, true, 0, CAUSE_UPSTREAM_RESET},
		     {200, 1, false, false, RECORD_CLIENT_GONE, CAUSE_UPSTREAM_RESET},
		     {404, 1, true, false, RECORD_LOCAL, CAUSE_NO_ROUTE},
		     /* a stream's life is no slowness; the time to its beginning was 11.9 ms */
		     {101, 100 * SECOND, false, false}};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct whole w = some(cases[i].status, cases[i].ns, &(struct texts){0});

		w.r.flags |= cases[i].flags;
		w.r.cause = cases[i].cause;
		assert_int_equal(span_error(&w.r), cases[i].error);
		assert_int_equal(span_matters(&w.r, SECOND), cases[i].matters);
		w.r.kind = RECORD_TUNNEL; /* has no status, and takes its time */
		w.r.status = 0;
		w.r.cause = CAUSE_NONE;
		assert_false(span_error(&w.r));
		assert_false(span_matters(&w.r, SECOND));
	}
}

/* --- the ring of those that nobody sampled --- */

static uint64_t found[64];
static uint32_t nfound;

static void on_found(const struct record *rec, void *arg)
{
	assert_true(nfound < COUNT(found));
	found[nfound++] = rec->bytes_in;
}

static void on_any(const struct record *rec, void *arg)
{
	++*(uint32_t *)arg;
}

static void trace_of(uint8_t id[16], uint32_t n)
{
	char text[32];

	snprintf(text, sizeof(text), "trace-%u", n);
	trace_id_bytes(text, strlen(text), id);
}

static void put(struct tail *t, uint32_t trace, uint64_t number, uint64_t now_ns)
{
	struct whole w = some(200, 1, &(struct texts){"GET", "/"});

	trace_of(w.r.trace_id, trace);
	w.r.bytes_in = number;
	w.r.size = (uint32_t)(sizeof(struct record) + 2 * sizeof(struct record_try) +
			      8 * (number % 7 + 1));
	tail_put(t, &w.r, now_ns);
}

static uint32_t take(struct tail *t, uint32_t trace, uint64_t now_ns)
{
	uint8_t id[16];

	trace_of(id, trace);
	nfound = 0;
	return tail_take(t, id, now_ns, on_found, NULL);
}

static void what_is_wanted_is_found_once(void **state)
{
	struct tail *t;

	assert_int_equal(tail_new(&t), 0);
	assert_false(tail_in_use(t));
	assert_int_equal(take(t, 1, SECOND), 0);
	put(t, 1, 11, SECOND);
	put(t, 2, 21, SECOND);
	put(t, 1, 12, 2 * SECOND);
	assert_int_equal(take(t, 3, 3 * SECOND), 0);
	assert_int_equal(take(t, 1, 3 * SECOND), 2);
	assert_int_equal(found[0], 12);
	assert_int_equal(found[1], 11);
	assert_int_equal(take(t, 1, 3 * SECOND), 0);
	put(t, 1, 13, 3 * SECOND);
	assert_int_equal(take(t, 1, 3 * SECOND), 1);
	assert_int_equal(take(t, 2, 12 * SECOND), 0); /* too old */
	assert_true(tail_in_use(t));
	tail_beat(t, 14 * SECOND);
	assert_false(tail_in_use(t));
	assert_int_equal(take(t, 2, 3 * SECOND), 0);
	put(t, 2, 22, 20 * SECOND);
	assert_int_equal(take(t, 2, 20 * SECOND), 1);
	tail_free(&t);
	tail_free(&t);
}

/* Many times its size goes through: of each trace there is found what was put last, or nothing. */
static void the_oldest_are_overwritten(void **state)
{
	static uint64_t last[20000];
	uint32_t there = 0;
	struct tail *t;

	assert_int_equal(tail_new(&t), 0);
	for (uint64_t i = 1; i < 200000; i++) {
		uint32_t trace = (uint32_t)rand() % COUNT(last);

		put(t, trace, i, i);
		last[trace] = i;
		if (i % 5000 == 0) {
			uint32_t n = take(t, trace, i);

			assert_true(n >= 1);
			assert_int_equal(found[0], i);
		}
	}
	for (uint32_t i = 0; i < COUNT(last); i++) {
		uint32_t n = take(t, i, 200000);

		there += n > 0;
		if (n)
			assert_true(found[0] <= last[i]);
	}
	assert_true(there > 5000);
	tail_free(&t);
}

/* All that was put last is there, however much was put since somebody asked. */
static void what_was_not_overwritten_is_found_whenever_it_is_asked_for(void **state)
{
	uint32_t put_by_now = 0;
	unsigned seed = 5;
	struct tail *t;

	assert_int_equal(tail_new(&t), 0);
	for (int round = 0; round < 12; round++) {
		uint32_t n = 1 + (uint32_t)rand_r(&seed) % 40000, most = 16500;

		for (uint32_t i = 0; i < n; i++, put_by_now++)
			put(t, put_by_now, put_by_now, SECOND);
		for (uint32_t i = 0; i < n && i < most; i++) {
			assert_int_equal(take(t, put_by_now - 1 - i, SECOND), 1);
			assert_int_equal(found[0], put_by_now - 1 - i);
		}
	}
	tail_free(&t);
}

/* Whoever chooses trace ids, with equal halves or whatever else, chooses no bucket; and of one
 * trace there may be any number. */
static void callers_cannot_make_a_take_long(void **state)
{
	struct whole w = some(200, 1, &(struct texts){"GET", "/"});
	uint32_t taken = 0;
	struct tail *t;

	w.r.size = (uint32_t)(sizeof(struct record) + 2 * sizeof(struct record_try) + 8);
	assert_int_equal(tail_new(&t), 0);
	for (uint64_t i = 1; i <= 20000; i++) {
		memcpy(w.r.trace_id, &i, 8);
		memcpy(w.r.trace_id + 8, &i, 8);
		tail_put(t, &w.r, SECOND);
	}
	for (uint64_t i = 18001; i <= 20000; i++) {
		memcpy(w.r.trace_id, &i, 8);
		memcpy(w.r.trace_id + 8, &i, 8);
		nfound = 0;
		taken += tail_take(t, w.r.trace_id, SECOND, on_found, NULL);
	}
	assert_int_equal(taken, 2000);
	assert_true(tail_looked(t) < 10 * 2000);
	for (int i = 0; i < 3 * TAIL_LOOK_MAX; i++)
		tail_put(t, &w.r, SECOND);
	tail_take(t, w.r.trace_id, SECOND, on_any, &taken);
	assert_int_equal(taken, 2000 + TAIL_LOOK_MAX);
	tail_free(&t);
}

/* --- taps --- */

static void taps_of(struct taps *t, const char *answer, uint64_t now_ns)
{
	cJSON *v = json_parse(answer, strlen(answer), NULL);

	assert_non_null(v);
	taps_answered(t, v, now_ns);
	cJSON_Delete(v);
}

static void a_tap_takes_what_fits(void **state)
{
	static const struct {
		const char *filter;
		bool fits;
	} cases[] = {
		{"{\"tap\":1}", true},
		{"{\"tap\":1,\"service\":\"backend\",\"source\":\"frontend\"}", true},
		{"{\"tap\":1,\"service\":\"other\"}", false},
		{"{\"tap\":1,\"source\":\"other\"}", false},
		{"{\"tap\":1,\"error\":true}", false},
		{"{\"tap\":1,\"error\":false,\"minMs\":100}", true},
		{"{\"tap\":1,\"minMs\":100.5}", false},
		{"{\"tap\":1,\"trace\":\"order-17\"}", true},
		{"{\"tap\":1,\"trace\":\"abababababababababababababababab\"}", true},
		{"{\"tap\":1,\"trace\":\"ABababababababababababababababab\"}", true},
		{"{\"tap\":1,\"trace\":\"alias-2\"}", true},
		{"{\"tap\":1,\"trace\":\"alias\"}", false},
	};
	struct whole w = some(200, 100000000,
			      &(struct texts){.trace = "order-17", .alias = "alias-1,alias-2"});

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct taps t = {0};
		char answer[200];

		snprintf(answer, sizeof(answer), "{\"taps\":[%s]}", cases[i].filter);
		taps_of(&t, answer, SECOND);
		assert_int_equal(t.n, 1);
		assert_int_equal(taps_fits(&t.filter[0], &w.r, "backend", "frontend"),
				 cases[i].fits);
	}
}

/* A hop whose caller sent only traceparent has never seen the name. */
static void a_tap_finds_a_trace_by_what_its_name_stands_for(void **state)
{
	struct whole w = some(200, 1, &(struct texts){.method = "GET"});
	struct taps t = {0};

	trace_id_bytes("order-17", 8, w.r.trace_id);
	taps_of(&t,
		"{\"taps\":[{\"tap\":1,\"trace\":\"order-17\"},{\"tap\":2,\"trace\":\"order-1\"}]}",
		SECOND);
	assert_int_equal(t.n, 2);
	assert_true(taps_fits(&t.filter[0], &w.r, "backend", "frontend"));
	assert_false(taps_fits(&t.filter[1], &w.r, "backend", "frontend"));
	w.r.flags = 0; /* without a trace */
	assert_false(taps_fits(&t.filter[0], &w.r, "backend", "frontend"));
}

static void a_list_of_taps_lasts_while_it_is_repeated(void **state)
{
	struct taps t = {0};

	taps_of(&t, "{\"taps\":[{\"tap\":1},{\"tap\":2},{\"no\":1},7,{\"tap\":-1}]}", SECOND);
	assert_int_equal(t.n, 2);
	t.filter[1].lost = 5;
	taps_of(&t, "{\"taps\":[{\"tap\":2},{\"tap\":3}]}", 3 * SECOND);
	assert_int_equal(t.n, 2);
	assert_int_equal(t.filter[0].lost, 5); /* of the same tap */
	taps_of(&t, "{\"success\":true}", 4 * SECOND);
	taps_beat(&t, 8 * SECOND);
	assert_int_equal(t.n, 2);
	taps_beat(&t, 8 * SECOND + 1);
	assert_int_equal(t.n, 0);
	taps_of(&t, "{\"taps\":[{\"tap\":2}]}", 9 * SECOND);
	taps_of(&t, "{\"taps\":[]}", 9 * SECOND);
	assert_int_equal(t.n, 0);
}

static void an_older_list_does_not_replace_a_newer_one(void **state)
{
	cJSON *list = json_parse("[{\"tap\":7}]", 11, NULL);
	struct taps t = {0};

	taps_polled(&t, list, 12, SECOND);
	taps_of(&t, "{\"taps\":[],\"tapSerial\":11}", SECOND);
	assert_int_equal(t.n, 1);
	taps_of(&t, "{\"taps\":[],\"tapSerial\":12}", SECOND);
	assert_int_equal(t.n, 0);
	taps_polled(&t, list, 13, SECOND);
	assert_int_equal(t.n, 1);
	taps_polled(&t, NULL, 14, SECOND);
	assert_int_equal(t.n, 0);
	cJSON_Delete(list);
}

static void taps_are_bounded(void **state)
{
	struct taps t = {0};
	int sent = 0;
	struct buf b;

	buf_init(&b, 1 << 16);
	buf_str(&b, "{\"taps\":[");
	for (int i = 1; i < 100; i++)
		buf_printf(&b, "%s{\"tap\":%d}", i > 1 ? "," : "", i);
	buf_str(&b, "]}");
	taps_of(&t, b.data, SECOND);
	assert_int_equal(t.n, TAPS_MAX);
	for (int i = 0; i < 2000; i++)
		sent += taps_may_send(&t, 5 * SECOND + (uint64_t)i);
	assert_int_equal(sent, TAPS_A_SECOND);
	assert_true(taps_may_send(&t, 6 * SECOND));
	buf_done(&b);
}

/* --- the clock --- */

static void small_corrections_are_followed_slowly_and_jumps_at_once(void **state)
{
	uint64_t real = 1763868000 * SECOND, mono = 5 * SECOND;
	struct walltime w = {0};

	walltime_look(&w, mono, real);
	assert_int_equal(walltime_ns(&w, mono), real);
	walltime_look(&w, mono + 1000, real + 1000 + 3000000); /* 3 ms ahead */
	assert_int_equal(walltime_ns(&w, mono), real + WALLTIME_STEP_NS);
	for (int i = 0; i < 3000000 / WALLTIME_STEP_NS; i++)
		walltime_look(&w, mono, real + 3000000);
	assert_int_equal(walltime_ns(&w, mono), real + 3000000);
	walltime_look(&w, mono, real - 3600 * SECOND); /* somebody set it back */
	assert_int_equal(walltime_ns(&w, mono), real - 3600 * SECOND);
	walltime_look(&w, 0, 0);
	assert_true(walltime_ns(&w, mono) != real);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_span_says_all_of_its_record),
		cmocka_unit_test(ids_are_as_the_caller_chose_them),
		cmocka_unit_test(whatever_a_client_sends_is_escaped),
		cmocka_unit_test(what_is_an_error_and_what_is_kept),
		cmocka_unit_test(what_is_wanted_is_found_once),
		cmocka_unit_test(the_oldest_are_overwritten),
		cmocka_unit_test(what_was_not_overwritten_is_found_whenever_it_is_asked_for),
		cmocka_unit_test(callers_cannot_make_a_take_long),
		cmocka_unit_test(a_tap_takes_what_fits),
		cmocka_unit_test(a_tap_finds_a_trace_by_what_its_name_stands_for),
		cmocka_unit_test(a_list_of_taps_lasts_while_it_is_repeated),
		cmocka_unit_test(an_older_list_does_not_replace_a_newer_one),
		cmocka_unit_test(taps_are_bounded),
		cmocka_unit_test(small_corrections_are_followed_slowly_and_jumps_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
