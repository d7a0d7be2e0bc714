/* SPDX-License-Identifier: Apache-2.0 */
/* A record as a span: the same one that its JSON would be, whatever is in it. */
#include "ctl/meshd/traces/recorder.h"
#include "ctl/meshd/traces/span.h"
#include "tests/unit/random.h"
#include "tests/unit/records_rig.h"
#include "tests/unit/traces_rig.h"

static int setup_store(void **state)
{
	seed = 1;
	setup_dir(state);
	store_start(0, 0);
	return 0;
}

static const char *some_text(void)
{
	static const char *const texts[] = {
		"/",	     "/items?x=1",	  "/\xff\xfe", "/\"quoted\"\\",
		"/\x01\x1f", "/\xc3\xa9\xe2\x82", "/a b"};

	return texts[below(7)];
}

static struct rec some_record(void)
{
	static const char *const traces[] = {"order-17", "4BF92F3577B34DA6A3CE929D0E0E4736",
					     "4bf92f3577b34da6a3ce929d0e0e4736", "a3ce929d0e0e4736",
					     "x.y"};
	static const char *const aliases[] = {NULL, "y", "a,b", "a,order-17,,b c", "a,b,c"};
	static const char *const parents[] = {NULL, "span-1", "not usable", ""};
	static const int status[] = {0, -1, 404, 500, 101, 302};
	static const char *const services[] = {"backend", "none", "-bad", "cache"};

	return (struct rec){.trace = traces[below(5)],
			    .id = below(1000),
			    .parent = below(2) ? below(1000) : 0,
			    .parent_text = parents[below(4)],
			    .alias = aliases[below(5)],
			    .service = services[below(4)],
			    .path = some_text(),
			    .start_us = 1763868000000000ull + below(2000000000),
			    .took_us = below(4) ? below(100000) : below(3000000),
			    .status = status[below(6)],
			    .flags = (below(2) ? RECORD_ROOT : 0) | (below(4) ? 0 : RECORD_SLOW) |
				     (below(4) ? 0 : RECORD_CLIENT_GONE),
			    .cause = (uint8_t)(below(2) ? 0 : below(CAUSE_MAX + 2)),
			    .ntries = (uint8_t)below(4),
			    .kind = below(8) ? RECORD_REQUEST : RECORD_TUNNEL,
			    .unsampled = below(2),
			    .untraced = !below(20)};
}

static cJSON *body_of(const struct span *s)
{
	struct buf b;
	cJSON *v;

	buf_init(&b, 2 * SPAN_BODY_MAX);
	assert_int_equal(span_body(s, &b), 0);
	assert_int_equal(b.data[0], ',');
	b.data[0] = '{';
	buf_char(&b, '}');
	v = json_parse(b.data, b.len, NULL);
	assert_non_null(v);
	buf_done(&b);
	return v;
}

static void same_span(const struct span *a, const struct span *b)
{
	cJSON *x = body_of(a), *y = body_of(b);

	assert_memory_equal(a->key, b->key, 16);
	assert_string_equal(a->trace, b->trace);
	assert_string_equal(a->id, b->id);
	assert_string_equal(a->parent, b->parent);
	assert_string_equal(a->service, b->service);
	assert_string_equal(a->source, b->source);
	assert_string_equal(a->node, b->node);
	assert_int_equal(a->naliases, b->naliases);
	for (unsigned i = 0; i < a->naliases; i++)
		assert_string_equal(a->aliases[i], b->aliases[i]);
	assert_int_equal(a->start_us, b->start_us);
	assert_int_equal(a->duration_us, b->duration_us);
	assert_int_equal(a->status, b->status);
	assert_int_equal(a->error, b->error);
	assert_int_equal(a->sampled, b->sampled);
	assert_int_equal(a->slow, b->slow);
	assert_int_equal(a->cut_off, b->cut_off);
	assert_true(cJSON_Compare(x, y, true));
	cJSON_Delete(x);
	cJSON_Delete(y);
}

static void a_record_is_the_span_that_its_json_would_be(void **state)
{
	int valid = 0;

	for (int i = 0; i < 5000; i++) {
		struct rec one = some_record();
		struct record_batch_view v;
		struct span_room room;
		struct span a, b;
		const struct record *rec;
		uint32_t at = 0;
		size_t len;
		void *data = rec_batch(&one, 1, &len);
		cJSON *json;
		bool kept;

		assert_int_equal(record_batch_check(data, len, &v), 0);
		rec = record_batch_next(&v, &at);
		json = span_of_record_json(&v, rec);
		assert_non_null(json);
		assert_int_equal(span_of_record(&v, rec, &room, &a), span_read(json, "n", &b));
		if (b.id && *b.id && !span_read(json, "n", &b)) {
			kept = recorded_flags(rec) & RECORDED_KEPT;
			same_span(&a, &b);
			assert_int_equal(kept, span_keeps_trace(&a));
			valid++;
		}
		cJSON_Delete(json);
		free(data);
	}
	assert_in_range(valid, 2000, 4500);
}

/* A WebSocket lives for long, and is slow when its beginning was (docs/telemetry.md, "A span"). */
static void a_stream_is_as_slow_as_its_beginning(void **state)
{
	static const struct {
		uint64_t took_us;
		bool slow;
	} cases[] = {{600000, false}, {1050000, false}, {1200000, true}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct rec one = {.trace = "s", .id = 1, .status = 101, .service = "backend"};
		struct record_batch_view v;
		const struct record *rec;
		struct span_room room;
		struct span of_record, of_json;
		uint32_t at = 0;
		size_t len;
		void *data;
		cJSON *json;

		one.took_us = cases[i].took_us; /* nine tenths of it to the head */
		data = rec_batch(&one, 1, &len);
		assert_int_equal(record_batch_check(data, len, &v), 0);
		rec = record_batch_next(&v, &at);
		assert_int_equal(!!(recorded_flags(rec) & RECORDED_URGENT), cases[i].slow);
		assert_int_equal(span_of_record(&v, rec, &room, &of_record), 0);
		assert_int_equal(of_record.slow, cases[i].slow);
		json = span_of_record_json(&v, rec);
		assert_int_equal(span_read(json, "n", &of_json), 0);
		assert_int_equal(of_json.slow, cases[i].slow);
		cJSON_Delete(json);
		free(data);
	}
}

/* Batches that are nearly right: what passes the check is taken, shown and listed, and nothing
 * breaks (ASan, UBSan). */
static void whatever_passes_the_check_is_taken(void **state)
{
	struct traces_filter f = {.error = -1, .until_ms = INT64_MAX, .limit = 1000};
	int taken = 0;
	struct buf b;
	cJSON *v;

	for (int i = 0; i < 20000; i++) {
		struct rec all[2] = {some_record(), some_record()};
		struct record_batch_view view;
		size_t len;
		char *data = rec_batch(all, 2, &len);

		for (unsigned k = below(3); k; k--)
			data[below((unsigned)len)] = (char)below(256);
		if (!record_batch_check(data, len, &view)) {
			assert_int_equal(traces_take_records(store, &view, 1, 1000 + (uint64_t)i),
					 0);
			(void)traces_list_due(store, 1000 + (uint64_t)i);
			taken++;
		}
		free(data);
	}
	assert_in_range(taken, 3000, 19000);
	assert_true(counts().listed > 100);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(i ? traces_list(store, &f, &b) : traces_logs(store, &f, &b), 0);
		v = json_parse(b.data, b.len, NULL);
		assert_non_null(v);
		cJSON_Delete(v);
		buf_done(&b);
	}
	assert_true(spans_of("order-17") > 100);
	assert_null(traces_error(store));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup_store, teardown_dir)
	const struct CMUnitTest tests[] = {
		T(a_record_is_the_span_that_its_json_would_be),
		T(a_stream_is_as_slow_as_its_beginning),
		T(whatever_passes_the_check_is_taken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
