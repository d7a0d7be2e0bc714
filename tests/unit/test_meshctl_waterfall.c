/* SPDX-License-Identifier: Apache-2.0 */
/* A trace as a waterfall: order, widths, and whatever the spans say of their parents. */
#include "ctl/meshctl/api.h"
#include "ctl/meshctl/text.h"
#include "ctl/meshctl/trace_tree.h"
#include "ctl/meshctl/waterfall.h"
#include "ctl/meshctl/words.h"
#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char four[] =
	"{\"traceId\":\"4bf92f3577b34da6a3ce929d0e0e4736\",\"aliases\":[\"order-17\"],\"spans\":["
	"{\"id\":\"d\",\"parentId\":\"b\",\"service\":\"cache\",\"operation\":\"GET /get\","
	"\"startTime\":1005,\"duration\":1,\"statusCode\":200,\"error\":false},"
	"{\"id\":\"c\",\"parentId\":\"b\",\"service\":\"database\",\"operation\":\"GET /rows\","
	"\"startTime\":1002,\"duration\":2,\"statusCode\":503,\"error\":true,\"cause\":\"upstream-"
	"reset\","
	"\"tries\":2,\"events\":[{\"name\":\"try\",\"time\":0,\"duration\":1,\"endpoint\":"
	"\"database-1\","
	"\"statusCode\":0,\"cause\":\"upstream-reset\"},{\"name\":\"try\",\"time\":1,\"duration\":"
	"1,"
	"\"endpoint\":\"database-2\",\"statusCode\":503,\"cause\":\"\"}]},"
	"{\"id\":\"a\",\"parentId\":null,\"service\":\"frontend\",\"operation\":\"GET /\","
	"\"startTime\":1000,\"duration\":10,\"statusCode\":200,\"error\":false,"
	"\"events\":[{\"name\":\"try\",\"time\":0,\"duration\":10}]},"
	"{\"id\":\"b\",\"parentId\":\"a\",\"service\":\"backend\",\"operation\":\"GET /items\","
	"\"startTime\":1001,\"duration\":8,\"statusCode\":200,\"error\":false}]}";

static char *drawn(cJSON *trace, struct waterfall_style style)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	assert_non_null(f);
	api_mask(trace);
	assert_int_equal(waterfall_print(trace, &style, f), 0);
	fclose(f);
	return text;
}

static char *drawn_text(const char *json, struct waterfall_style style)
{
	cJSON *trace = json_parse(json, strlen(json), NULL);
	char *text;

	assert_non_null(trace);
	text = drawn(trace, style);
	cJSON_Delete(trace);
	return text;
}

static void a_trace_reads_from_the_root_down(void **state)
{
	char *text = drawn_text(four, (struct waterfall_style){.width = 80});

	assert_string_equal(
		text,
		"Trace 4bf92f3577b34da6a3ce929d0e0e4736, also order-17\n"
		"4 spans of 4 services in 10.0ms, began 1970-01-01T00:00:01.000Z, 1 error\n"
		"\n"
		"SPAN                                                     OFFSET DURATION  STATUS\n"
		"frontend GET /                ########################   0.00ms   10.0ms  200\n"
		"`-backend GET /items            ####################     1.00ms   8.00ms  200\n"
		"  |-database GET /rows            ######                 2.00ms   2.00ms  503\n"
		"  |   upstream-reset\n"
		"  |   try 1 database-1 upstr~     ----                   2.00ms   1.00ms  none\n"
		"  |   try 2 database-2               ---                 3.00ms   1.00ms  503\n"
		"  `-cache GET /get                        ###            5.00ms   1.00ms  200\n");
	free(text);
}

static void the_same_in_unicode_and_colour(void **state)
{
	char *text = drawn_text(
		four, (struct waterfall_style){.width = 80, .utf8 = true, .colour = true});

	assert_non_null(strstr(text, "\xe2\x94\x94 \033["));
	assert_non_null(strstr(text, "\xe2\x96\x88"));
	assert_non_null(strstr(text, "\033[31mdatabase\033[0m"));
	assert_null(strstr(text, "\033[31mbackend\033[0m"));
	free(text);
}

/* Every line but those of the head fits. */
static void check_widths(const char *text, unsigned width)
{
	const char *line = strstr(text, "\n\n") + 2;
	char copy[2048];

	for (const char *end; (end = strchr(line, '\n')); line = end + 1) {
		assert_in_range(end - line, 0, sizeof(copy) - 1);
		snprintf(copy, sizeof(copy), "%.*s", (int)(end - line), line);
		if (text_columns(copy) > width)
			fail_msg("%u columns of %u: %s", text_columns(copy), width, copy);
	}
}

static cJSON *deep(int spans, int depth)
{
	struct buf b;
	cJSON *v;

	buf_init(&b, 4 << 20);
	buf_str(&b, "{\"traceId\":\"deep\",\"spans\":[");
	for (int i = 0; i < spans; i++)
		buf_printf(&b,
			   "%s{\"id\":\"s%d\",\"parentId\":\"s%d\",\"service\":\"service-%d\","
			   "\"operation\":\"GET /a/long/path/of/some/kind/%d\",\"startTime\":%d,"
			   "\"duration\":%d,\"statusCode\":%d,\"error\":false,\"tries\":2,"
			   "\"cause\":\"no-"
			   "healthy-endpoint\",\"events\":[{\"name\":\"try\",\"endpoint\":\"some-"
			   "endpoint-4711\"}]}",
			   i ? "," : "", i, i % depth ? i - 1 : -1, i % 7, i, 1000 + i, spans - i,
			   200);
	buf_str(&b, "]}");
	v = json_parse(b.data, b.len, NULL);
	assert_non_null(v);
	buf_done(&b);
	return v;
}

static void it_fits_whatever_the_width(void **state)
{
	static const unsigned widths[] = {WATERFALL_WIDTH_MIN, 60, 80, 120, 200, 400};
	cJSON *trace = deep(300, 100);

	for (size_t i = 0; i < sizeof(widths) / sizeof(widths[0]); i++) {
		for (int utf8 = 0; utf8 < 2; utf8++) {
			char *text = drawn(
				trace, (struct waterfall_style){.width = widths[i], .utf8 = utf8});

			check_widths(text, widths[i]);
			free(text);
		}
	}
	cJSON_Delete(trace);
}

static void two_thousand_spans_are_soon_drawn(void **state)
{
	cJSON *trace = deep(2000, 2000);
	struct trace_tree tree;
	char *text;

	assert_int_equal(trace_tree_build(words_get(trace, "spans"), &tree), 0);
	assert_int_equal(tree.n, 2000);
	for (unsigned i = 0; i < tree.n; i++)
		assert_int_equal(tree.rows[i].depth, i);
	trace_tree_done(&tree);
	text = drawn(trace, (struct waterfall_style){.width = 80});
	assert_non_null(strstr(text, "(1999) service-"));
	free(text);
	cJSON_Delete(trace);
}

static void every_span_is_there_once_whoever_its_parent_is(void **state)
{
	unsigned seed = 5;

	for (int round = 0; round < 300; round++) {
		int n = 1 + rand_r(&seed) % 40;
		struct trace_tree tree;
		cJSON *spans = cJSON_CreateArray();

		for (int i = 0; i < n; i++) {
			cJSON *s = cJSON_CreateObject();
			char id[16], parent[16];

			snprintf(id, sizeof(id), "%d", rand_r(&seed) % n);
			snprintf(parent, sizeof(parent), "%d", rand_r(&seed) % (n + 3));
			cJSON_AddStringToObject(s, "id", id);
			cJSON_AddStringToObject(s, "parentId", parent);
			cJSON_AddNumberToObject(s, "startTime", 1000 + rand_r(&seed) % 50);
			cJSON_AddItemToArray(spans, s);
		}
		assert_int_equal(trace_tree_build(spans, &tree), 0);
		assert_int_equal(tree.n, n);
		for (size_t i = 0; i < tree.n; i++)
			for (size_t k = 0; k < i; k++)
				assert_ptr_not_equal(tree.rows[i].span, tree.rows[k].span);
		for (size_t i = 1; i < tree.n; i++)
			assert_in_range(tree.rows[i].depth, 0, tree.rows[i - 1].depth + 1);
		trace_tree_done(&tree);
		cJSON_Delete(spans);
	}
}

static void nonsense_and_control_characters_are_survived(void **state)
{
	static const char *const texts[] = {
		"{}",
		"{\"spans\":{}}",
		"{\"traceId\":7,\"aliases\":[1],\"spans\":[1,null,\"x\",{}]}",
		"{\"spans\":[{\"id\":\"a\",\"parentId\":\"a\",\"startTime\":-5,\"duration\":1e300}]"
		"}",
		"{\"spans\":[{\"id\":\"a\",\"service\":\"\\u001b[2J\",\"operation\":\"GET "
		"/\\u009b\\u202e\\r\\n\","
		"\"cause\":\"\\u0007\",\"tries\":9,\"events\":[{\"name\":\"\\u001b\"},{\"name\":"
		"\"try\","
		"\"time\":-1e300,\"duration\":1e300},7]}]}",
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		char *text =
			drawn_text(texts[i], (struct waterfall_style){.width = 80, .wide = true});

		for (const char *p = text; *p; p++)
			assert_true((*p >= 0x20 && *p < 0x7f) || *p == '\n');
		free(text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_trace_reads_from_the_root_down),
		cmocka_unit_test(the_same_in_unicode_and_colour),
		cmocka_unit_test(it_fits_whatever_the_width),
		cmocka_unit_test(two_thousand_spans_are_soon_drawn),
		cmocka_unit_test(every_span_is_there_once_whoever_its_parent_is),
		cmocka_unit_test(nonsense_and_control_characters_are_survived),
	};

	return cmocka_run_group_tests_name("meshctl waterfall", tests, NULL, NULL);
}
