/* SPDX-License-Identifier: Apache-2.0 */
/* What meshctl stat and edges say of meshd's numbers. */
#include "ctl/meshctl/figures.h"
#include "ctl/meshctl/output.h"
#include "ctl/meshctl/stat.h"
#include "ctl/meshctl/words.h"
#include "lib/json.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static cJSON *parse(const char *text)
{
	cJSON *v = json_parse(text, strlen(text), NULL);

	assert_non_null(v);
	return v;
}

static void rates_shares_and_latencies_are_short(void **state)
{
	char t[FIGURE_MAX];

	assert_string_equal(figure_rate(0, t), "0/s");
	assert_string_equal(figure_rate(0.4, t), "0.40/s");
	assert_string_equal(figure_rate(9.999, t), "10.0/s");
	assert_string_equal(figure_rate(123.4, t), "123/s");
	assert_string_equal(figure_rate(51234, t), "51.2k/s");
	assert_string_equal(figure_rate(NAN, t), "-");
	assert_string_equal(figure_share(0, t), "0%");
	assert_string_equal(figure_share(0.00001, t), "<0.01%");
	assert_string_equal(figure_share(0.0005, t), "0.05%");
	assert_string_equal(figure_share(0.118, t), "11.8%");
	assert_string_equal(figure_share(0.9999, t), ">99.9%");
	assert_string_equal(figure_share(1, t), "100%");
	assert_string_equal(figure_ms(0.41, t), "0.41ms");
	assert_string_equal(figure_ms(12.34, t), "12.3ms");
	assert_string_equal(figure_ms(512, t), "512ms");
	assert_string_equal(figure_ms(999.9, t), "1.00s");
	assert_string_equal(figure_ms(303000, t), "5m3s");
	assert_string_equal(figure_ms(1e300, t), "1e+297s");
	assert_string_equal(figure_ms(NAN, t), "-");
}

static void figures_are_read_from_metrics_and_from_edges(void **state)
{
	cJSON *m = parse("{\"requests\":4,\"errors\":1,\"rate\":2,\"errorRate\":0.25,"
			 "\"p50Latency\":1,\"p95Latency\":2,\"p99Latency\":3}");
	cJSON *e = parse("{\"requests\":4,\"errors\":1,\"p99\":3}");
	cJSON *none = parse("{\"requests\":0,\"errors\":0,\"p50Latency\":0,\"p99Latency\":0}");
	struct figures f;

	figures_read(m, &f);
	assert_true(f.p50 == 1 && f.p95 == 2 && f.p99 == 3 && f.error_rate == 0.25);
	figures_read(e, &f);
	assert_true(isnan(f.p50) && f.p99 == 3 && f.error_rate == 0.25 && isnan(f.rate));
	figures_read(none, &f);
	assert_true(isnan(f.p50) && isnan(f.p99) && f.requests == 0);
	cJSON_Delete(m);
	cJSON_Delete(e);
	cJSON_Delete(none);
}

static const char graph_text[] =
	"{\"edges\":["
	"{\"source\":\"web\",\"destination\":\"api\",\"requests\":90,\"errors\":9,\"rate\":1.5,"
	"\"p50\":5,\"p95\":6,\"p99\":7,\"versions\":[{\"version\":\"v1\",\"requests\":60,"
	"\"errors\":0,"
	"\"p99\":3},{\"version\":\"v2\",\"requests\":30,\"errors\":9,\"p99\":7}]},"
	"{\"source\":\"cron\",\"destination\":\"api\",\"requests\":10,\"errors\":0,\"rate\":0.5,"
	"\"p50\":1,\"p95\":1,\"p99\":1,\"versions\":{\"v1\":{\"requests\":10,\"errors\":0,\"p99\":"
	"1}}},"
	"{\"source\":\"web\",\"destination\":\"db\",\"requests\":5,\"errors\":0,\"rate\":0.1}]}";

static const cJSON *item(const cJSON *top, const char *list, int i)
{
	return cJSON_GetArrayItem(words_get(top, list), i);
}

static void a_service_is_shown_by_source_and_version(void **state)
{
	cJSON *graph = parse(graph_text),
	      *metrics = parse("{\"requests\":100,\"errors\":9,\"rate\":2,\"p50Latency\":4}"),
	      *s = stat_of_service("api", NULL, metrics, graph);
	struct figures f;

	assert_true(json_num(s, "requests", 0) == 100);
	assert_true(json_num(s, "p50", 0) == 4);
	assert_int_equal(cJSON_GetArraySize(words_get(s, "sources")), 2);
	assert_string_equal(json_str(item(s, "sources", 0), "source", ""), "cron");
	assert_true(json_num(item(s, "sources", 1), "errorRate", 0) == 0.1);
	assert_int_equal(cJSON_GetArraySize(words_get(s, "versions")), 2);
	/* of v1 there are two callers: their quantiles do not add up */
	assert_true(json_num(item(s, "versions", 0), "requests", 0) == 70);
	assert_true(cJSON_IsNull(words_get(item(s, "versions", 0), "p99")));
	assert_true(json_num(item(s, "versions", 1), "p99", 0) == 7);
	cJSON_Delete(s);
	s = stat_of_service("api", "cron", metrics, graph);
	assert_int_equal(cJSON_GetArraySize(words_get(s, "sources")), 1);
	assert_int_equal(cJSON_GetArraySize(words_get(s, "versions")), 1);
	figures_read(metrics, &f);
	assert_int_equal(stat_set_figures(cJSON_GetArrayItem(words_get(s, "versions"), 0), &f), 0);
	assert_true(json_num(item(s, "versions", 0), "p50", 0) == 4);
	assert_string_equal(json_str(item(s, "versions", 0), "version", ""), "v1");
	cJSON_Delete(s);
	cJSON_Delete(metrics);
	cJSON_Delete(graph);
}

static void a_source_is_shown_by_what_it_calls(void **state)
{
	cJSON *graph = parse(graph_text), *s = stat_of_source("web", graph);

	assert_int_equal(cJSON_GetArraySize(words_get(s, "services")), 2);
	assert_string_equal(json_str(item(s, "services", 1), "service", ""), "db");
	cJSON_Delete(s);
	cJSON_Delete(graph);
}

static void nonsense_of_a_meshd_is_survived(void **state)
{
	static const char *const texts[] = {
		"{}",
		"[]",
		"null",
		"{\"edges\":{}}",
		"{\"edges\":[1,null,{}]}",
		"{\"edges\":[{\"destination\":\"api\",\"versions\":7}]}"};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		cJSON *graph = parse(texts[i]), *s = stat_of_service("api", NULL, graph, graph);

		assert_string_equal(json_str(s, "service", ""), "api");
		cJSON_Delete(s);
		s = stat_of_source("web", graph);
		assert_non_null(s);
		cJSON_Delete(s);
		cJSON_Delete(graph);
	}
}

static void numbers_end_below_each_other(void **state)
{
	static const char *const headers[] = {"SERVICE", "RATE", "ERRORS"};
	struct table t;
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	assert_non_null(f);
	table_init(&t, headers, 3);
	t.right = 6;
	table_row(&t, (const char *[]){"api", "9.00/s", "0%"});
	table_row(&t, (const char *[]){"db", "123/s", "100%"});
	assert_int_equal(table_print(&t, f, true), 0);
	fclose(f);
	assert_string_equal(text,
			    "\033[1mSERVICE\033[0m    \033[1mRATE\033[0m  \033[1mERRORS\033[0m\n"
			    "api      9.00/s      0%\n"
			    "db        123/s    \033[31m100%\033[0m\n");
	free(text);
	table_done(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rates_shares_and_latencies_are_short),
		cmocka_unit_test(figures_are_read_from_metrics_and_from_edges),
		cmocka_unit_test(a_service_is_shown_by_source_and_version),
		cmocka_unit_test(a_source_is_shown_by_what_it_calls),
		cmocka_unit_test(nonsense_of_a_meshd_is_survived),
		cmocka_unit_test(numbers_end_below_each_other),
	};

	return cmocka_run_group_tests_name("meshctl stat", tests, NULL, NULL);
}
