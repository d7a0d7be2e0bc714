/* SPDX-License-Identifier: Apache-2.0 */
/* How spans get to a receiver that may refuse, hang, break off, or not be there at all. */
#include "tests/unit/otlp_rig.h"

/* Full ones go at once, however long a span may wait for others. */
static void batches_have_512_spans_by_resource(void **state)
{
	receiver_bind();
	receiver_listen(takes, 1);
	start_with((struct otlp_config){.batch_ms = 3600000});
	for (unsigned i = 0; i < 2 * OTLP_BATCH; i++)
		offer_number(i);
	settle();
	assert_all_right();
	assert_int_equal(stats().exported, 2 * OTLP_BATCH);
	assert_int_equal(receiver.n, 2);
	for (unsigned i = 0; i < receiver.n; i++) {
		assert_int_equal(spans_in(i), OTLP_BATCH);
		assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(receiver.got[i].body,
									"resourceSpans")),
				 3);
	}
	stop();
}

static void assert_same_body(unsigned a, unsigned b)
{
	assert_true(cJSON_Compare(receiver.got[a].body, receiver.got[b].body, 1));
}

static void retry_after_in_seconds_is_waited_for(void **state)
{
	static const struct scripted script[] = {
		{ANSWER, "429 Too Many Requests", "Retry-After: 1\r\n"}, {ANSWER}};

	START(script);
	offer_number(1);
	settle();
	assert_int_equal(receiver.n, 2);
	assert_in_range(receiver.got[1].ms - receiver.got[0].ms, 999, 10000);
	assert_same_body(0, 1);
	assert_int_equal(stats().exported, 1);
	assert_int_equal(stats().retries, 1);
	stop();
}

static void retry_after_as_a_date_is_waited_for(void **state)
{
	static char header[128];
	static struct scripted script[] = {{ANSWER, "503 Service Unavailable", header}, {ANSWER}};
	time_t at = time(NULL) + 3; /* whole seconds: two at least */
	struct tm tm;

	strftime(header, sizeof(header), "Retry-After: %a, %d %b %Y %H:%M:%S GMT\r\n",
		 gmtime_r(&at, &tm));
	START(script);
	offer_number(1);
	settle();
	assert_int_equal(receiver.n, 2);
	assert_in_range(receiver.got[1].ms - receiver.got[0].ms, 1500, 10000);
	stop();
}

static void a_date_that_has_passed_and_nonsense_do_no_harm(void **state)
{
	static const struct scripted script[] = {
		{ANSWER, "503 Service Unavailable",
		 "Retry-After: Wed, 21 Oct 2015 07:28:00 GMT\r\n"},
		{ANSWER, "503 Service Unavailable", "Retry-After: -5\r\n"},
		{ANSWER, "503 Service Unavailable", "Retry-After: soon\r\n"},
		{ANSWER}};

	START(script);
	offer_number(1);
	settle();
	assert_int_equal(receiver.n, 4);
	assert_int_equal(stats().exported, 1);
	stop();
}

static void what_passes_is_tried_again(void **state)
{
	static const struct scripted script[] = {{ANSWER, "502 Bad Gateway"},
						 {ANSWER, "503 Service Unavailable"},
						 {ANSWER, "504 Gateway Timeout"},
						 {CLOSE_AT_ONCE},
						 {CLOSE_IN_ANSWER},
						 {ANSWER}};

	START(script);
	offer_number(1);
	settle();
	assert_int_equal(receiver.n, 6);
	assert_same_body(0, 5);
	assert_int_equal(stats().exported, 1);
	assert_int_equal(stats().failed, 0);
	stop();
}

static void what_is_refused_is_not_sent_again(void **state)
{
	static const struct scripted script[] = {
		{ANSWER, "400 Bad Request"},
		{ANSWER, "500 Internal Server Error", "Retry-After: 1\r\n"},
		{ANSWER, "404 Not Found"},
		{ANSWER, "302 Found", "Location: /v1/traces\r\n"},
		{ANSWER}};

	START(script);
	for (unsigned i = 0; i < 5; i++) {
		offer_number(i);
		settle();
		assert_int_equal(receiver.n, i + 1);
	}
	assert_int_equal(stats().failed, 4);
	assert_int_equal(stats().exported, 1);
	assert_int_equal(stats().retries, 0);
	stop();
}

static void a_batch_is_given_up_in_the_end(void **state)
{
	static const struct scripted script[] = {{ANSWER, "503 Service Unavailable"}};

	receiver_bind();
	receiver_listen(script, 1);
	start_with((struct otlp_config){.backoff_ms = 1});
	offer_number(1);
	settle();
	assert_int_equal(receiver.n, OTLP_TRIES);
	assert_int_equal(stats().failed, 1);
	stop();
}

static void spans_refused_one_by_one_are_counted(void **state)
{
	static const struct scripted script[] = {
		{ANSWER,
		 .body = "{\"partialSuccess\":{\"rejectedSpans\":\"2\",\"errorMessage\":\"old\"}}"},
		{ANSWER, .body = "{\"partialSuccess\":{\"rejectedSpans\":1}}"},
		{ANSWER, .body = "{\"partialSuccess\":{\"rejectedSpans\":\"999999\"}}"},
		{ANSWER,
		 .body = "{\"partialSuccess\":{\"rejectedSpans\":\"-3\",\"errorMessage\":7}}"},
		{ANSWER, .body = "thanks"}};

	START(script);
	for (unsigned i = 0; i < 5; i++) {
		for (unsigned n = 0; n < 3; n++)
			offer_number(n);
		settle();
	}
	assert_int_equal(receiver.n, 5);
	assert_int_equal(stats().rejected, 2 + 1 + 3);
	assert_int_equal(stats().exported, 15 - 6);
	stop();
}

static void who_hangs_is_left_and_asked_again(void **state)
{
	static const struct scripted script[] = {{HANG}, {ANSWER}};

	receiver_bind();
	receiver_listen(script, 2);
	start_with((struct otlp_config){.call_ms = 200});
	offer_number(1);
	settle();
	assert_int_equal(receiver.n, 2);
	assert_int_equal(stats().exported, 1);
	stop();
}

static void nobody_there_is_waited_for(void **state)
{
	receiver_bind();
	start_with((struct otlp_config){.backoff_ms = 50});
	offer_number(1);
	while (!stats().retries)
		poll(NULL, 0, 1);
	receiver_listen(takes, 1);
	settle();
	assert_int_equal(stats().exported, 1);
	stop();
}

static void the_queue_is_bounded(void **state)
{
	static const struct scripted script[] = {{HANG}};

	START(script);
	for (unsigned i = 0; i < OTLP_QUEUE_MAX + 1000; i++)
		offer_number(i);
	assert_int_equal(stats().dropped, 1000);
	assert_int_equal(stats().queued, OTLP_QUEUE_MAX);
	stop();
}

static void what_waits_is_sent_at_the_end(void **state)
{
	receiver_bind();
	receiver_listen(takes, 1);
	start_with((struct otlp_config){.batch_ms = 60000});
	for (unsigned i = 0; i < 700; i++)
		offer_number(i);
	otlp_free(&otlp);
	assert_int_equal(receiver_count(), 2);
	assert_int_equal(spans_in(0) + spans_in(1), 700);
	assert_all_right();
	stop();
}

/* Two seconds are the contract; four leave room for a machine that is busy. */
static void the_end_does_not_wait_for_who_hangs(void **state)
{
	static const struct scripted hangs[] = {{HANG}};
	static const struct scripted later[] = {
		{ANSWER, "503 Service Unavailable", "Retry-After: 100\r\n"}};
	uint64_t from;

	for (int i = 0; i < 2; i++) {
		start(i ? later : hangs, 1);
		offer_number(1);
		while (!receiver_count())
			poll(NULL, 0, 1);
		from = clock_mono_ns();
		otlp_free(&otlp);
		assert_in_range((clock_mono_ns() - from) / 1000000, 0, OTLP_FLUSH_MS + 2000);
		stop();
	}
}

static int try_new(const char *endpoint, const char *headers)
{
	struct otlp_config c = {.endpoint = endpoint, .headers = headers};
	struct otlp *o = NULL;
	char why[256];
	int r = otlp_new(&c, &o, why, sizeof(why));

	if (r)
		assert_true(*why);
	otlp_free(&o);
	return r;
}

static void endpoints_and_headers_are_checked(void **state)
{
	static const char *const bad[] = {"",
					  "collector",
					  "ftp://h/",
					  "unix:/run/x",
					  "http://",
					  "http://h:99999",
					  "http://h/?a=b",
					  "http://h/#x",
					  "http://h\r\nX: y"};
	static const char *const bad_headers[] = {"x", "=y", "a b=c", "a=b\r\nc: d", ",", "a=b,c"};

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_int_equal(try_new(bad[i], NULL), -EINVAL);
	for (size_t i = 0; i < sizeof(bad_headers) / sizeof(*bad_headers); i++)
		assert_int_equal(try_new("http://127.0.0.1:1", bad_headers[i]), -EINVAL);
	assert_int_equal(try_new("https://collector.example/", "a=b"), 0);
}

static void a_base_url_may_have_a_path_and_headers_are_sent(void **state)
{
	struct otlp_config c = {.headers = "authorization=Bearer x y=, x-scope = a ",
				.batch_ms = 10};
	char url[64], why[256];

	receiver_bind();
	receiver_listen(takes, 1);
	snprintf(url, sizeof(url), "http://127.0.0.1:%d/otlp/", receiver.port);
	c.endpoint = url;
	assert_int_equal(otlp_new(&c, &otlp, why, sizeof(why)), 0);
	offer_number(1);
	settle();
	assert_non_null(strstr(receiver.got[0].head, "POST /otlp/v1/traces HTTP/1.1\r\n"));
	assert_non_null(strstr(receiver.got[0].head, "authorization: Bearer x y=\r\n"));
	assert_non_null(strstr(receiver.got[0].head, "x-scope: a\r\n"));
	stop();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(batches_have_512_spans_by_resource),
		cmocka_unit_test(retry_after_in_seconds_is_waited_for),
		cmocka_unit_test(retry_after_as_a_date_is_waited_for),
		cmocka_unit_test(a_date_that_has_passed_and_nonsense_do_no_harm),
		cmocka_unit_test(what_passes_is_tried_again),
		cmocka_unit_test(what_is_refused_is_not_sent_again),
		cmocka_unit_test(a_batch_is_given_up_in_the_end),
		cmocka_unit_test(spans_refused_one_by_one_are_counted),
		cmocka_unit_test(who_hangs_is_left_and_asked_again),
		cmocka_unit_test(nobody_there_is_waited_for),
		cmocka_unit_test(the_queue_is_bounded),
		cmocka_unit_test(what_waits_is_sent_at_the_end),
		cmocka_unit_test(the_end_does_not_wait_for_who_hangs),
		cmocka_unit_test(endpoints_and_headers_are_checked),
		cmocka_unit_test(a_base_url_may_have_a_path_and_headers_are_sent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
