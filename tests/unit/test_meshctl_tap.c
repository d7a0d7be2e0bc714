/* SPDX-License-Identifier: Apache-2.0 */
/* Server-sent events in pieces of any size, and requests as lines. */
#include "ctl/meshctl/request_line.h"
#include "ctl/meshctl/sse.h"
#include "ctl/meshctl/api.h"
#include "lib/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

struct got {
	char text[4096];
	int stop_after, n;
};

static int on_event(const char *event, const char *data, size_t len, void *arg)
{
	struct got *g = arg;
	size_t at = strlen(g->text);

	assert_in_range(strlen(data), 0, len);
	snprintf(g->text + at, sizeof(g->text) - at, "[%s|%.100s]", event, data);
	return ++g->n == g->stop_after ? 7 : 0;
}

static const char stream[] =
	"retry: 1000\n: open\n\ndata: {\"a\":1}\n\nevent: lost\r\ndata:{\"count\":2}\r\n\r\n"
	"data: one\rdata:  two\r\rdata\n\nid: 7\nevent: x\n\n: beat\n\ndata: cut off";
static const char events[] = "[message|{\"a\":1}][lost|{\"count\":2}][message|one\n two][message|]";

static void events_are_the_same_in_pieces_of_any_size(void **state)
{
	for (size_t step = 1; step < sizeof(stream); step++) {
		struct got g = {0};
		struct sse s;

		sse_init(&s, on_event, &g);
		for (size_t at = 0; at < sizeof(stream) - 1; at += step) {
			size_t left = sizeof(stream) - 1 - at;

			assert_int_equal(sse_feed(&s, stream + at, left < step ? left : step), 0);
		}
		assert_string_equal(g.text, events);
		sse_done(&s);
	}
}

static void a_callback_can_end_it(void **state)
{
	struct got g = {.stop_after = 2};
	struct sse s;

	sse_init(&s, on_event, &g);
	assert_int_equal(sse_feed(&s, stream, sizeof(stream) - 1), 7);
	assert_int_equal(g.n, 2);
	sse_done(&s);
}

static void half_an_event_is_forgotten_with_its_connection(void **state)
{
	struct got g = {0};
	struct sse s;

	sse_init(&s, on_event, &g);
	sse_feed(&s, "event: lost\ndata: old\nda", 24);
	sse_reset(&s);
	sse_feed(&s, "data: new\n\n", 11);
	assert_string_equal(g.text, "[message|new]");
	sse_done(&s);
}

static void an_event_without_end_is_dropped_and_counted(void **state)
{
	static char junk[65536];
	struct got g = {0};
	struct sse s;

	memset(junk, 'x', sizeof(junk));
	sse_init(&s, on_event, &g);
	sse_feed(&s, "data: ", 6);
	for (int i = 0; i < 32; i++)
		sse_feed(&s, junk, sizeof(junk));
	assert_in_range(s.line.cap, 0, 2 * SSE_EVENT_MAX + 64);
	sse_feed(&s, "\n\ndata: next\n\n", 14);
	assert_string_equal(g.text, "[message|next]");
	assert_int_equal(s.dropped, 1);
	sse_done(&s);
}

static void random_bytes_are_survived(void **state)
{
	static const char *const tokens[] = {"data:", "data", "event:", "\n", "\r",
					     "\n\n",  " x",   ":",	"e"};
	unsigned seed = 11;
	struct got g = {0};
	struct sse s;

	sse_init(&s, on_event, &g);
	for (int i = 0; i < 20000; i++) {
		const char *t = tokens[(size_t)rand_r(&seed) % 9];

		sse_feed(&s, t, strlen(t) + (rand_r(&seed) % 16 == 0)); /* its NUL, too */
		g.text[0] = '\0';
	}
	assert_int_not_equal(g.n, 0);
	sse_done(&s);
}

static char *line_of(const char *json, struct request_style *style)
{
	cJSON *span = json_parse(json, strlen(json), NULL);
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	assert_non_null(span);
	assert_non_null(f);
	api_mask(span);
	request_line(span, style, f);
	fclose(f);
	cJSON_Delete(span);
	return text;
}

static void expect(const char *json, struct request_style style, const char *line)
{
	char *text = line_of(json, &style);

	assert_string_equal(text, line);
	free(text);
}

static void a_request_is_a_line(void **state)
{
	expect("{\"startTime\":3723004.5,\"duration\":0.412,\"statusCode\":200,\"source\":\"web\","
	       "\"service\":\"api\",\"method\":\"GET\",\"path\":\"/items\",\"instance\":\"api-1\","
	       "\"error\":false,\"cause\":\"\",\"tries\":1,\"traceId\":\"t1\"}",
	       (struct request_style){0},
	       "01:02:03.004  200    0.41ms  web -> api  GET /items  api-1\n");
	expect("{\"startTime\":3723004,\"duration\":1500,\"statusCode\":503,\"source\":\"web\","
	       "\"service\":\"api\",\"method\":\"GET\",\"path\":\"/\",\"error\":true,"
	       "\"cause\":\"breaker-open\",\"tries\":2,\"traceId\":\"t1\"}",
	       (struct request_style){.who_width = 12},
	       "01:02:03.004  503     1.50s  web -> api    GET /  breaker-open  2 tries  trace "
	       "t1\n");
}

static void a_client_cannot_steer_the_terminal(void **state)
{
	struct request_style style = {0};
	char *text = line_of("{\"method\":\"GET\",\"path\":\"/\\u001b[2J\\u009b1m\\u202eabc\\n\","
			     "\"service\":\"\\u0007\"}",
			     &style);

	for (const char *p = text; p[0] && p[1]; p++)
		assert_true((unsigned char)*p >= 0x20 && (unsigned char)*p < 0x7f);
	free(text);
}

static void anything_is_a_line(void **state)
{
	static const char *const texts[] = {
		"{}", "[]", "1", "{\"startTime\":1e300,\"duration\":-1}",
		"{\"startTime\":\"x\",\"statusCode\":1e99,\"tries\":1e99}"};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct request_style style = {.wide = true, .colour = true, .date = true};
		char *text = line_of(texts[i], &style);

		assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
		free(text);
	}
}

static int in_utc(void **state)
{
	setenv("TZ", "UTC", 1);
	tzset();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(events_are_the_same_in_pieces_of_any_size),
		cmocka_unit_test(a_callback_can_end_it),
		cmocka_unit_test(half_an_event_is_forgotten_with_its_connection),
		cmocka_unit_test(an_event_without_end_is_dropped_and_counted),
		cmocka_unit_test(random_bytes_are_survived),
		cmocka_unit_test(a_request_is_a_line),
		cmocka_unit_test(a_client_cannot_steer_the_terminal),
		cmocka_unit_test(anything_is_a_line),
	};

	return cmocka_run_group_tests_name("meshctl tap", tests, in_utc, NULL);
}
