/* SPDX-License-Identifier: Apache-2.0 */
/* Taps: what fits a filter, what a slow reader loses, and the stream as a client of HTTP gets it.
 */
#include "lib/trace_id.h"
#include "tests/unit/meshd_stream.h"
#include "tests/unit/meshd_watch.h"
#include "tests/unit/quoted.h"

static struct loop loop;
static struct tap_hub *hub;
static unsigned told, ready;

static void on_told(void *arg)
{
	told++;
}

static void on_ready(void *arg)
{
	ready++;
}

static int hub_setup(void **state)
{
	told = ready = 0;
	return loop_init(&loop) || tap_hub_new(&loop, 7000000000, on_told, NULL, &hub);
}

static int hub_teardown(void **state)
{
	tap_hub_free(&hub);
	loop_done(&loop);
	return 0;
}

static struct tap *open_tap(const struct tap_filter *f)
{
	struct tap *t = NULL;

	assert_int_equal(tap_open(hub, f, on_ready, NULL, &t), 0);
	return t;
}

/* All that waits, as text. */
static const char *read_all(struct tap *t)
{
	static char text[TAP_BUFFER_MAX * 2];
	size_t len = 0;
	long n;

	while ((n = tap_read(t, text + len, 1000)) > 0)
		len += (size_t)n;
	text[len] = '\0';
	return text;
}

static void take(const char *text)
{
	cJSON *tapped = quoted_json(text);

	tap_take(hub, tapped);
	cJSON_Delete(tapped);
}

/* To every tap that there is, as agents that know of no filters do. */
static void take_span(const char *span)
{
	cJSON *list = cJSON_CreateArray(), *tap, *tapped = cJSON_CreateArray();

	tap_list(hub, list);
	cJSON_ArrayForEach (tap, list) {
		cJSON *v = cJSON_CreateObject();

		cJSON_AddNumberToObject(v, "tap", json_num(tap, "tap", 0));
		cJSON_AddItemToObject(v, "span", quoted_json(span));
		cJSON_AddItemToArray(tapped, v);
	}
	tap_take(hub, tapped);
	cJSON_Delete(tapped);
	cJSON_Delete(list);
}

static const char span[] =
	"{'service':'backend','source':'frontend','traceId':'4bf92f3577b34da6a3ce929d0e0e4736',"
	"'aliases':['order-17'],'error':true,'duration':99.5,'path':'/\\n\\ndata: x'}";

static void a_filter_lets_through_what_fits(void **state)
{
	static const struct {
		struct tap_filter filter;
		bool fits;
	} cases[] = {
		{{""}, true},
		{{.service = "backend"}, true},
		{{.service = "frontend"}, false},
		{{.source = "frontend"}, true},
		{{.source = "gateway"}, false},
		{{.error = true}, true},
		{{.min_ms = 99}, true},
		{{.min_ms = 100}, false},
		{{.trace = "order-17"}, true},
		{{.trace = "4bf92f3577b34da6a3ce929d0e0e4736"}, true},
		{{.trace = "4BF92F3577B34DA6A3CE929D0E0E4736"}, true},
		{{.trace = "order-1"}, false},
		{{.service = "backend", .source = "frontend", .error = true, .min_ms = 50}, true},
		{{.service = "backend", .source = "frontend", .error = true, .min_ms = 500}, false},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct tap *t = open_tap(&cases[i].filter);

		read_all(t);
		take_span(span);
		if (!!*read_all(t) != cases[i].fits)
			fail_msg("case %zu", i);
		tap_close(&t);
	}
}

/* The span of a hop whose caller sent only traceparent. */
static void a_filter_finds_what_a_name_stands_for(void **state)
{
	struct tap *t = open_tap(&(struct tap_filter){.trace = "order-17"});
	char digits[33] = "", one[200];
	uint8_t id[16];

	read_all(t);
	trace_id_bytes("order-17", 8, id);
	trace_hex(digits, id, sizeof(id));
	snprintf(one, sizeof(one), "{'service':'backend','traceId':'%s','aliases':[]}", digits);
	take_span(one);
	assert_non_null(strstr(read_all(t), digits));
	tap_close(&t);
}

/* A line feed in a path must not end an event and begin another. */
static void an_event_is_one_line(void **state)
{
	struct tap *t = open_tap(&(struct tap_filter){0});
	const char *text;

	assert_string_equal(read_all(t), "retry: 1000\n: open\n\n");
	take_span(span);
	text = read_all(t);
	assert_memory_equal(text, "data: {\"service\":\"backend\",", 27);
	assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 2);
	tap_close(&t);
}

static void readers_are_called_when_there_is_something(void **state)
{
	struct tap *t = open_tap(&(struct tap_filter){0});

	take_span(span);
	assert_int_equal(ready, 0); /* nobody has found it empty yet */
	read_all(t);
	take_span(span);
	take_span(span);
	assert_int_equal(ready, 1); /* once, until it is read */
	read_all(t);
	take_span(span);
	assert_int_equal(ready, 2);
	tap_close(&t);
}

static unsigned count_of(const char *text, const char *word)
{
	unsigned n = 0;

	for (; (text = strstr(text, word)); text++)
		n++;
	return n;
}

static void what_does_not_fit_is_counted_and_said(void **state)
{
	struct tap *slow = open_tap(&(struct tap_filter){0});
	struct tap *fast = open_tap(&(struct tap_filter){0});
	struct tap_stats s;
	const char *text;
	char number[64];
	unsigned kept;

	for (int i = 0; i < 10000; i++) {
		take_span(span);
		assert_int_equal(count_of(read_all(fast), "data: {\"service\""), 1);
	}
	tap_count(hub, &s);
	assert_int_equal(s.events + s.lost, 20000);
	assert_true(s.lost > 0);
	text = read_all(slow);
	kept = count_of(text, "data: {\"service\"");
	assert_int_equal(kept + s.lost, 10000);
	snprintf(number, sizeof(number), "event: lost\ndata: {\"count\":%u}\n\n", 10000 - kept);
	assert_string_equal(text + strlen(text) - strlen(number), number);
	take_span(span);
	assert_memory_equal(read_all(slow), "data: {\"service\"", 16);
	tap_close(&slow);
	tap_close(&fast);
}

static void what_agents_could_not_send_is_said(void **state)
{
	struct tap *t = open_tap(&(struct tap_filter){0});

	read_all(t);
	take("[{'tap':7000000001,'lost':12}]");
	tap_sweep(hub, 1000);
	assert_string_equal(read_all(t), "event: lost\ndata: {\"count\":12}\n\n");
	tap_close(&t);
}

static void a_span_that_is_too_long_is_lost(void **state)
{
	struct tap *t = open_tap(&(struct tap_filter){0});
	cJSON *tapped = quoted_json("[{'tap':7000000001,'span':{}}]");
	char *path = calloc(1, TAP_EVENT_MAX + 1);

	assert_non_null(path);
	memset(path, 'a', TAP_EVENT_MAX);
	cJSON_AddStringToObject(cJSON_GetObjectItem(cJSON_GetArrayItem(tapped, 0), "span"), "path",
				path);
	read_all(t);
	tap_take(hub, tapped);
	assert_string_equal(read_all(t), "event: lost\ndata: {\"count\":1}\n\n");
	free(path);
	cJSON_Delete(tapped);
	tap_close(&t);
}

static void garbage_is_passed_over(void **state)
{
	static const char *const garbage[] = {
		"{}",
		"7",
		"[]",
		"[1,null,'x',[]]",
		"[{'tap':'7000000001','span':{}}]",
		"[{'tap':-1,'span':{}},{'tap':1e300,'span':{}},{'tap':7000000002,'span':{}}]",
		"[{'tap':7000000001},{'tap':7000000001,'span':[]},{'tap':7000000001,'span':'x'}]",
		"[{'tap':7000000001,'lost':-5},{'tap':7000000001,'lost':1e300}]"};
	struct tap *t = open_tap(&(struct tap_filter){0});
	struct tap_stats s;

	read_all(t);
	tap_take(hub, NULL);
	for (size_t i = 0; i < sizeof(garbage) / sizeof(*garbage); i++)
		take(garbage[i]);
	assert_string_equal(read_all(t), "");
	tap_count(hub, &s);
	assert_int_equal(s.events + s.lost, 0);
	tap_close(&t);
}

static void quiet_streams_get_comments(void **state)
{
	struct tap *t = open_tap(&(struct tap_filter){0});

	read_all(t);
	for (uint64_t ms = 0; ms <= TAP_BEAT_MS + 1000; ms += 1000)
		tap_sweep(hub, ms);
	assert_string_equal(read_all(t), ":\n\n");
	tap_close(&t);
}

static void so_many_and_no_more(void **state)
{
	struct tap *t[TAP_MAX], *one_more;
	struct tap_stats s;

	for (int i = 0; i < TAP_MAX; i++)
		t[i] = open_tap(&(struct tap_filter){0});
	assert_int_equal(tap_open(hub, &(struct tap_filter){0}, on_ready, NULL, &one_more),
			 -ENOSPC);
	tap_close(&t[7]);
	t[7] = open_tap(&(struct tap_filter){0});
	tap_count(hub, &s);
	assert_int_equal(s.open, TAP_MAX);
	for (int i = 0; i < TAP_MAX; i++)
		tap_close(&t[i]);
}

static void the_list_says_the_filters(void **state)
{
	struct tap *all = open_tap(&(struct tap_filter){0});
	struct tap *one = open_tap(&(struct tap_filter){
		.service = "s", .source = "c", .trace = "t", .error = true, .min_ms = 100});
	cJSON *list = cJSON_CreateArray();
	cJSON *want = quoted_json("[{'tap':7000000002,'service':'s','source':'c','trace':'t',"
				  "'error':true,'minMs':100},"
				  "{'tap':7000000001,'error':false,'minMs':0}]");
	uint64_t serial = tap_serial(hub);

	tap_list(hub, list);
	assert_true(cJSON_Compare(list, want, 1));
	tap_close(&one);
	assert_int_not_equal(tap_serial(hub), serial);
	tap_close(&all);
	cJSON_Delete(list);
	cJSON_Delete(want);
}

static void many_opened_together_are_told_once(void **state)
{
	struct tap *t[3];
	uint64_t end = clock_mono_ns() + 5000000000ull;

	for (int i = 0; i < 3; i++)
		t[i] = open_tap(&(struct tap_filter){0});
	while (!told && clock_mono_ns() < end)
		assert_int_equal(loop_once(&loop, 100), 0);
	assert_int_equal(told, 1);
	for (int i = 0; i < 3; i++)
		tap_close(&t[i]);
}

static void at_the_end_readers_get_what_waits(void **state)
{
	struct tap *t = open_tap(&(struct tap_filter){0}), *late;
	char text[1024];

	read_all(t);
	take_span(span);
	tap_end(hub);
	assert_true(tap_read(t, text, sizeof(text)) > 0);
	assert_int_equal(tap_read(t, text, sizeof(text)), -1);
	assert_int_equal(tap_open(hub, &(struct tap_filter){0}, on_ready, NULL, &late), -ESHUTDOWN);
	tap_close(&t);
}

/* --- over HTTP ----------------------------------------------------------------------- */

static void assert_taps(unsigned n)
{
	uint64_t end = clock_mono_ns() + 5000000000ull;
	cJSON *v;
	unsigned there;

	do {
		assert_int_equal(call("GET", "/api/watch", NULL), 200);
		v = json_parse(answer.body, answer.len, NULL);
		there = (unsigned)cJSON_GetArraySize(cJSON_GetObjectItem(v, "taps"));
		cJSON_Delete(v);
		if (clock_mono_ns() > end)
			fail_msg("%u taps are open, not %u", there, n);
	} while (there != n);
}

static void post(uint64_t tap, const char *path)
{
	static int seq;
	char text[4096];

	snprintf(text, sizeof(text),
		 "{'node':'n1','epoch':'e1','seq':%d,'time':1763868000000,'tapped':[{'tap':%llu,'"
		 "span':"
		 "{'service':'backend','path':'%s'}}]}",
		 ++seq, (unsigned long long)tap, path);
	assert_int_equal(call("POST", "/api/telemetry", text), 200);
}

static void a_stream_shows_what_agents_send(void **state)
{
	int fd = open_stream("?service=backend");

	assert_true(stream_has(fd, "retry: 1000\n: open\n\n", 5000));
	assert_non_null(strstr(stream, "HTTP/1.1 200 OK\r\n"));
	assert_non_null(strstr(stream, "Content-Type: text/event-stream\r\n"));
	assert_non_null(strstr(stream, "Cache-Control: no-store\r\n"));
	post(tap_id(), "/one");
	assert_true(stream_has(fd, "data: {\"service\":\"backend\",\"path\":\"/one\"}\n\n", 5000));
	post(tap_id(), "/two");
	assert_true(stream_has(fd, "data: {\"service\":\"backend\",\"path\":\"/two\"}\n\n", 5000));
	assert_true(stream_has(fd, ":\n\n", TAP_BEAT_MS + 5000));
	close(fd);
	assert_taps(0);
}

static void a_client_that_goes_ends_its_tap(void **state)
{
	int fds[5];

	for (int i = 0; i < 5; i++) {
		fds[i] = open_stream("");
		assert_true(stream_has(fds[i], ": open", 5000));
	}
	assert_taps(5);
	close(fds[0]);
	assert_taps(4);
	shutdown(fds[1], SHUT_WR);
	assert_taps(3);
	for (int i = 1; i < 5; i++)
		close(fds[i]);
	assert_taps(0);
}

static void who_reads_nothing_holds_nobody_up(void **state)
{
	int slow = open_stream(""), fast;
	char path[3000];
	uint64_t id;

	assert_true(stream_has(slow, ": open", 5000));
	id = tap_id();
	memset(path, 'a', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	fast = open_stream("");
	assert_true(stream_has(fast, ": open", 5000));
	for (int i = 0; i < 200; i++)
		post(id, path);
	post(tap_id(), "/fast"); /* the newest is the first of the list */
	assert_true(stream_has(fast, "/fast", 5000));
	close(slow);
	close(fast);
	assert_taps(0);
}

static void filters_are_checked(void **state)
{
	static const char *const bad[] = {
		"service=", "service=a/b", "source=%00x", "error=1",   "min=100",
		"min=",	    "min=x",	   "trace=",	  "trace=a b", "other=1"};
	char path[200];

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		snprintf(path, sizeof(path), "/api/tap?%s", bad[i]);
		for (char *p = path; *p; p++)
			*p = *p == ' ' ? '+' : *p;
		assert_int_equal(call("GET", path, NULL), 400);
	}
	memset(path, 'a', sizeof(path));
	memcpy(path, "/api/tap?trace=", 15);
	path[15 + TAP_TRACE_MAX + 1] = '\0';
	assert_int_equal(call("GET", path, NULL), 400);
	assert_taps(0);
}

static void the_thirty_third_is_refused(void **state)
{
	int fds[TAP_MAX];

	for (int i = 0; i < TAP_MAX; i++) {
		fds[i] = open_stream("");
		assert_true(stream_has(fds[i], ": open", 5000));
	}
	assert_int_equal(call("GET", "/api/tap", NULL), 503);
	for (int i = 0; i < TAP_MAX; i++)
		close(fds[i]);
	assert_taps(0);
}

static void head_opens_nothing(void **state)
{
	assert_int_equal(call("HEAD", "/api/tap", NULL), 200);
	assert_taps(0);
}

/* An agent that waits hears of a new tap at once, and of none that it knows. */
static void agents_that_wait_are_told(void **state)
{
	struct http_client *hc;
	struct waiting w = {0};
	uint64_t rev = revision(), ser = serial(), taps;
	char path[128];
	struct loop l;
	int fd;

	assert_int_equal(loop_init(&l), 0);
	assert_int_equal(http_client_new(&l, &hc), 0);
	watch_start(hc, rev, ser, &w);
	await_watchers(&l, 1);
	fd = open_stream("?service=backend&min=5ms");
	run_until(&l, &w, 1, 5000);
	assert_int_equal(w.answered, 1);
	assert_non_null(strstr(w.body, "\"service\":\"backend\",\"error\":false,\"minMs\":5}]"));
	taps = strtoull(strstr(w.body, "\"tapSerial\":") + 12, NULL, 10);
	close(fd);
	assert_taps(0); /* which is another list */
	w.answered = 0;
	snprintf(path, sizeof(path), "/api/watch?revision=%llu&serial=%llu&taps=%llu",
		 (unsigned long long)rev, (unsigned long long)ser, (unsigned long long)taps);
	watch_path(hc, path, &w);
	run_until(&l, &w, 1, 5000);
	assert_int_equal(w.answered, 1);
	assert_non_null(strstr(w.body, "\"taps\":[],"));
	http_client_free(&hc);
	loop_done(&l);
}

/* teardown() stops the daemon, which must not wait for who follows a stream. */
static void streams_end_with_the_daemon(void **state)
{
	int fd = open_stream("");

	assert_true(stream_has(fd, ": open", 5000));
	daemon_stop();
	assert_false(stream_has(fd, "never", 5000));
	assert_non_null(strstr(stream, "\r\n0\r\n\r\n")); /* whole: the end is no accident */
	close(fd);
	daemon_start();
}

#define HUB(f) cmocka_unit_test_setup_teardown(f, hub_setup, hub_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		HUB(a_filter_lets_through_what_fits),
		HUB(a_filter_finds_what_a_name_stands_for),
		HUB(an_event_is_one_line),
		HUB(readers_are_called_when_there_is_something),
		HUB(what_does_not_fit_is_counted_and_said),
		HUB(what_agents_could_not_send_is_said),
		HUB(a_span_that_is_too_long_is_lost),
		HUB(garbage_is_passed_over),
		HUB(quiet_streams_get_comments),
		HUB(so_many_and_no_more),
		HUB(the_list_says_the_filters),
		HUB(many_opened_together_are_told_once),
		HUB(at_the_end_readers_get_what_waits),
		TEST(a_stream_shows_what_agents_send),
		TEST(a_client_that_goes_ends_its_tap),
		TEST(who_reads_nothing_holds_nobody_up),
		TEST(filters_are_checked),
		TEST(the_thirty_third_is_refused),
		TEST(head_opens_nothing),
		TEST(agents_that_wait_are_told),
		TEST(streams_end_with_the_daemon),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
