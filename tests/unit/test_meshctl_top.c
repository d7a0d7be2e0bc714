/* SPDX-License-Identifier: Apache-2.0 */
/* meshctl top: what is drawn, whatever the size of the terminal. */
#include "ctl/meshctl/screen.h"
#include "ctl/meshctl/telemetry.h"
#include "ctl/meshctl/top_view.h"
#include "lib/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char graph[] = "{\"nodes\":[{\"name\":\"gateway\",\"kind\":\"gateway\",\"rate\":99},"
			    "{\"name\":\"cron\",\"kind\":\"caller\",\"rate\":9},"
			    "{\"name\":\"api\",\"kind\":\"service\",\"status\":\"healthy\","
			    "\"endpoints\":2,\"healthy\":2,"
			    "\"breaker\":\"closed\",\"requests\":100,\"errors\":5,\"rate\":10,"
			    "\"errorRate\":0.05,\"p50\":1,"
			    "\"p95\":2,\"p99\":3},"
			    "{\"name\":\"db\",\"kind\":\"service\",\"requests\":300,\"errors\":0,"
			    "\"rate\":30,\"errorRate\":0,"
			    "\"p50\":5,\"p95\":6,\"p99\":7},"
			    "{\"name\":\"idle\",\"kind\":\"service\",\"requests\":0,\"errors\":0,"
			    "\"rate\":0,\"errorRate\":0,"
			    "\"p50\":0,\"p95\":0,\"p99\":0}]}";

static cJSON *services(void)
{
	cJSON *g = json_parse(graph, strlen(graph), NULL), *s;

	assert_non_null(g);
	s = telemetry_services(g);
	cJSON_Delete(g);
	assert_non_null(s);
	return s;
}

/* The names in the order of the rows, by blanks. */
static void expect_order(struct top_view v, const char *names, unsigned hidden)
{
	cJSON *s = services();
	char *text = NULL, got[128] = "", *line;
	size_t len = 0;
	unsigned left;
	FILE *f = open_memstream(&text, &len);

	assert_non_null(f);
	assert_int_equal(top_print(s, &v, f, &left), 0);
	fclose(f);
	assert_int_equal(left, hidden);
	line = strchr(text, '\n') + 1;
	for (char *end; (end = strchr(line, '\n')); line = end + 1) {
		size_t at = strlen(got);

		snprintf(got + at, sizeof(got) - at, "%s%.*s", at ? " " : "",
			 (int)strcspn(line, " "), line);
	}
	assert_string_equal(got, names);
	free(text);
	cJSON_Delete(s);
}

static void services_are_sorted_by_a_key(void **state)
{
	expect_order((struct top_view){.sort = 'n'}, "api db idle", 0);
	expect_order((struct top_view){.sort = 'n', .reverse = true}, "idle db api", 0);
	expect_order((struct top_view){.sort = 'r'}, "db api idle", 0);
	expect_order((struct top_view){.sort = 'r', .reverse = true}, "idle api db", 0);
	expect_order((struct top_view){.sort = 'e'}, "api db idle", 0);
	expect_order((struct top_view){.sort = '9'}, "db api idle", 0);
}

static void what_does_not_fit_is_scrolled(void **state)
{
	expect_order((struct top_view){.sort = 'n', .rows = 2}, "api db", 1);
	expect_order((struct top_view){.sort = 'n', .rows = 2, .first = 1}, "db idle", 0);
	expect_order((struct top_view){.sort = 'n', .rows = 1, .first = 99}, "idle", 0);
	expect_order((struct top_view){.sort = 'n', .rows = 50, .first = 99}, "api db idle", 0);
}

static void all_together_is_said(void **state)
{
	char text[96];
	cJSON *s = services();

	assert_string_equal(top_total(s, text), "3 services, 40.0/s, 1.2% errors");
	cJSON_Delete(s);
	assert_string_equal(top_total(NULL, text), "0 services, 0/s, 0% errors");
}

static void expect_screen(const char *text, unsigned columns, unsigned rows, const char *expected)
{
	char *out = screen_text(text, columns, rows);

	assert_string_equal(out, expected);
	free(out);
}

static void a_screen_is_cut_where_it_ends(void **state)
{
	expect_screen("abcdef\nx\nz\n", 4, 2, "\033[Habcd\033[0m\033[K\r\nx\033[0m\033[K\033[J");
	expect_screen("\033[31mab\033[0mcd\n", 3, 5, "\033[H\033[31mab\033[0mc\033[0m\033[K\033[J");
	expect_screen("\xc3\xa4\xc3\xb6x\n", 2, 5, "\033[H\xc3\xa4\xc3\xb6\033[0m\033[K\033[J");
	expect_screen("", 80, 24, "\033[H\033[J");
	expect_screen("a", 0, 1, "\033[H\033[0m\033[K\033[J");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(services_are_sorted_by_a_key),
		cmocka_unit_test(what_does_not_fit_is_scrolled),
		cmocka_unit_test(all_together_is_said),
		cmocka_unit_test(a_screen_is_cut_where_it_ends),
	};

	return cmocka_run_group_tests_name("meshctl top", tests, NULL, NULL);
}
