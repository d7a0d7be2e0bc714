/* SPDX-License-Identifier: Apache-2.0 */
/* Records behind the JSON of POST /api/telemetry: taken once, all or nothing, and what is wrong
 * with them is said. */
#include "ctl/meshd/telemetry_records.h"
#include "lib/record_batch.h"
#include "tests/unit/meshd_rig.h"
#include "tests/unit/records_rig.h"

#include <sqlite3.h>

static char body[256 << 10];
static size_t body_len;

static void put_json(const char *json)
{
	snprintf(body, sizeof(body) - 8, "%s", json);
	for (char *p = body; *p; p++)
		if (*p == '\'')
			*p = '"';
	body_len = strlen(body) / 8 * 8 + 8;
	memset(body + strlen(body), 0, body_len - strlen(body));
}

static void put_records(const struct rec *all, size_t n)
{
	size_t len;
	void *data = rec_batch(all, n, &len);

	memcpy(body + body_len, data, len);
	body_len += len;
	free(data);
}

static int post(void)
{
	return call_full(&(struct http_call){.method = "POST",
					     .base = local,
					     .path = "/api/telemetry",
					     .body = body,
					     .body_len = body_len,
					     .timeout_ms = 5000});
}

static struct rec one(const char *trace, uint64_t id)
{
	return (struct rec){.trace = trace,
			    .id = id,
			    .start_us = clock_wall_ms() * 1000,
			    .took_us = 1500,
			    .path = "/items?secret=1"};
}

static void a_record_becomes_a_span(void **state)
{
	struct rec first = one("order-17", 1), second = one("other", 2);

	put_json("{'node':'n','epoch':'e','seq':1,'time':1}");
	put_records(&first, 1);
	put_records(&second, 1);
	assert_int_equal(post(), 200);
	assert_body("'records':1");
	assert_body("'duplicate':false");
	assert_int_equal(call("GET", "/api/traces/order-17", NULL), 200);
	assert_body("'operation':'GET /items?secret=1'");
	assert_body("'node':'n'");
	assert_body("'service':'backend'");
	assert_int_equal(call("GET", "/api/traces/other", NULL), 200);
	assert_int_equal(call("GET", "/metrics", NULL), 200);
	assert_body("mesh_spans_received_total{result='stored'} 2");
	assert_body("mesh_spans_recorded_total 2");
	assert_body("mesh_spans_listed_total 2");
	assert_body("mesh_spans_overwritten_total 0");
}

static void a_batch_is_taken_once(void **state)
{
	struct rec first = one("order-17", 1);

	for (int i = 0; i < 2; i++) {
		put_json("{'node':'n','epoch':'e','seq':7,'time':1}");
		put_records(&first, 1);
		assert_int_equal(post(), 200);
	}
	assert_body("'duplicate':true");
	assert_int_equal(call("GET", "/metrics", NULL), 200);
	assert_body("mesh_spans_recorded_total 1");
}

static void without_records_it_is_as_before(void **state)
{
	assert_int_equal(call("POST", "/api/telemetry", "{'node':'n'}"), 200);
	assert_body("'records':1");
	put_json("{'node':'n'}"); /* NULs, and nothing behind them */
	assert_int_equal(post(), 200);
}

/* While another program writes to traces.db nothing can be listed: a trace that cannot be looked at
 * may have the name that is asked for. */
static void why_knows_nothing_of_what_it_cannot_look_at(void **state)
{
	struct rec first = one("order-17", 1);
	char path[160];
	sqlite3 *db;

	snprintf(path, sizeof(path), "%s/traces.db", dir.path);
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
	put_json("{'node':'n'}");
	put_records(&first, 1);
	assert_int_equal(post(), 200);
	assert_int_equal(call("GET", "/api/why/order-17", NULL), 503);
	assert_body("ask again");
	assert_int_equal(call("GET", "/api/traces/order-17", NULL), 503);
	assert_int_equal(call("GET", "/api/why/none", NULL), 404);
	assert_int_equal(sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
	assert_int_equal(call("GET", "/api/why/order-17", NULL), 404);
	assert_body("made no answer of its own");
}

static void refused(const char *why)
{
	assert_int_equal(post(), 400);
	assert_body("'field':'records'");
	assert_body(why);
	assert_int_equal(call("GET", "/api/traces/order-17", NULL), 404);
	assert_int_equal(call("GET", "/api/why/w1", NULL), 404);
}

/* Where the second batch begins. */
static char *put_two(void)
{
	struct rec first = one("order-17", 1);
	size_t at;

	put_json("{'node':'n','whys':[{'id':'w1'}]}");
	put_records(&first, 1);
	at = body_len;
	put_records(&first, 1);
	return body + at;
}

static void a_body_has_so_many_batches(void **state)
{
	struct rec first = one("order-17", 1);

	put_json("{'node':'n','whys':[{'id':'w1'}]}");
	for (int i = 0; i <= TELEMETRY_BATCHES_MAX; i++)
		put_records(&first, 1);
	refused("there are more than 256 batches of them");
}

static void one_without_records_is_refused(void **state)
{
	struct record_batch_head *h = (void *)put_two();
	uint32_t n = h->at_names - (uint32_t)sizeof(*h);

	memmove(h + 1, (char *)(h + 1) + n, h->size - h->at_names);
	h->size -= n;
	h->at_names -= n;
	h->records = 0;
	body_len -= n;
	refused("batch 2 of them has a record or a name that makes no sense");
}

static void whatever_is_wrong_with_one_is_said_and_nothing_is_taken(void **state)
{
	struct record_batch_head *h;

	h = (void *)put_two();
	h->magic++;
	refused("batch 2 of them does not begin as one");
	h = (void *)put_two();
	h->layout++;
	h->size += 8; /* more than is there */
	refused("batch 2 of them has ");
	h = (void *)put_two();
	((struct record *)(h + 1))->status = 1000;
	refused("batch 2 of them has a record or a name that makes no sense");
	put_two();
	body_len -= 8;
	refused("batch 2 of them has ");
	put_two();
	memset(body + body_len, 'x', 8);
	body_len += 8;
	refused("batch 3 of them does not begin as one: 8 bytes are left");
	put_two();
	memmove(body + 1, body, body_len++);
	body[0] = ' '; /* all of it is at an odd place */
	assert_int_equal(post(), 400);
	put_two();
	memcpy(body, "{\"node\":\"m\"", 11);
	refused("batch 1 of them is of node n, not of m");
	put_json("{'node':'n','series':1}");
	assert_int_equal(post(), 400);
	assert_body("'field':'series'");
}

/* After an upgrade of either side: what cannot be read is counted, and keeps nothing else away. */
static void a_batch_of_another_layout_is_passed_over(void **state)
{
	struct rec all[2] = {one("order-17", 1), one("order-17", 2)};
	struct record_batch_head *h;

	put_json("{'node':'n','epoch':'e','seq':1,'time':1,'whys':[{'id':'w1'}]}");
	h = (void *)(body + body_len);
	put_records(all, 2);
	memset(h + 1, 0xff, h->size - sizeof(*h));
	h->layout++;
	put_records(all, 1);
	assert_int_equal(post(), 200);
	assert_body("'kept':1");
	assert_int_equal(call("GET", "/api/traces/order-17", NULL), 200);
	assert_int_equal(call("GET", "/metrics", NULL), 200);
	assert_body("mesh_spans_received_total{result='stored'} 1");
	assert_body("mesh_spans_received_total{result='failed'} 2");
}

static void query_strings_are_taken_out_when_they_are_to_be(void **state)
{
	struct rec first = one("order-17", 1);

	first.alias = "kept-alias";
	put_json("{'node':'n'}");
	put_records(&first, 1);
	assert_int_equal(post(), 200);
	assert_int_equal(call("GET", "/api/traces/kept-alias", NULL), 200);
	assert_body("'operation':'GET /items'");
	assert_body("'path':'/items'");
	assert_body("'host':'backend:80'");
	assert_null(strstr(answer.body, "secret"));
}

static int setup_strips(void **state)
{
	rig_strips = true;
	return setup(state);
}

static int teardown_strips(void **state)
{
	rig_strips = false;
	return teardown(state);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(a_record_becomes_a_span),
		T(a_batch_is_taken_once),
		T(without_records_it_is_as_before),
		T(a_body_has_so_many_batches),
		T(one_without_records_is_refused),
		T(whatever_is_wrong_with_one_is_said_and_nothing_is_taken),
		T(why_knows_nothing_of_what_it_cannot_look_at),
		T(a_batch_of_another_layout_is_passed_over),
		cmocka_unit_test_setup_teardown(query_strings_are_taken_out_when_they_are_to_be,
						setup_strips, teardown_strips),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
