/* SPDX-License-Identifier: Apache-2.0 */
/* What meshctl prints: tables, JSON, differences. */
#include "ctl/meshctl/linediff.h"
#include "ctl/meshctl/output.h"
#include "lib/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *const headers[] = {"NAME", "STATUS", "AGE"};

static char *printed(const struct table *t, bool colour)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	assert_non_null(f);
	assert_int_equal(table_print(t, f, colour), 0);
	fclose(f);
	return text;
}

static void a_table_is_aligned_and_sorted(void **state)
{
	struct table t;
	char *text;

	table_init(&t, headers, 3);
	table_row(&t, (const char *[]){"cache-10", "healthy", "5s"});
	table_row(&t, (const char *[]){"b\xc3\xa4r", "", "1m"});
	table_row(&t, (const char *[]){"cache-9", "unhealthy", NULL});
	table_sort(&t);
	text = printed(&t, false);
	assert_string_equal(text, "NAME      STATUS     AGE\n"
				  "b\xc3\xa4r       -          1m\n"
				  "cache-9   unhealthy  -\n"
				  "cache-10  healthy    5s\n");
	free(text);
	table_done(&t);
}

static void many_rows_are_kept(void **state)
{
	struct table t;
	char name[16], *text;
	size_t lines = 0;

	table_init(&t, headers, 1);
	for (int i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "s%d", i);
		table_row(&t, (const char *[]){name});
	}
	table_sort(&t);
	text = printed(&t, false);
	for (const char *p = text; *p; p++)
		lines += *p == '\n';
	assert_int_equal(lines, 1001);
	assert_non_null(strstr(text, "\ns9\ns10\n"));
	free(text);
	table_done(&t);
}

static void only_states_are_coloured_and_widths_do_not_count_colours(void **state)
{
	struct table t;
	char *text;

	table_init(&t, headers, 3);
	table_row(&t, (const char *[]){"a", "healthy", "1s"});
	text = printed(&t, true);
	assert_string_equal(text, "\033[1mNAME\033[0m  \033[1mSTATUS\033[0m   \033[1mAGE\033[0m\n"
				  "a     \033[32mhealthy\033[0m  1s\n");
	free(text);
	table_done(&t);
}

static void a_cell_cannot_steer_the_terminal(void **state)
{
	struct table t;
	char *text;

	table_init(&t, headers, 1);
	table_row(&t, (const char *[]){"x\033[2J\ny"});
	text = printed(&t, false);
	assert_string_equal(text, "NAME\nx?[2J?y\n");
	free(text);
	table_done(&t);
}

static void json_is_indented_by_two_spaces(void **state)
{
	const char *in = "{\"a\":[1,{\"b\\n\":null}],\"c\":{},\"d\":[],\"e\":\"x\\\"\"}";
	cJSON *v = json_parse(in, strlen(in), NULL);
	char *text = output_json_text(v);

	assert_string_equal(text, "{\n"
				  "  \"a\": [\n"
				  "    1,\n"
				  "    {\n"
				  "      \"b\\n\": null\n"
				  "    }\n"
				  "  ],\n"
				  "  \"c\": {},\n"
				  "  \"d\": [],\n"
				  "  \"e\": \"x\\\"\"\n"
				  "}\n");
	free(text);
	cJSON_Delete(v);
}

static void check_diff(const char *a, const char *b, const char *expected)
{
	struct buf out;

	buf_init(&out, 1 << 20);
	assert_int_equal(linediff(&out, "a", a, "b", b), *expected != '\0');
	assert_string_equal(out.data ? out.data : "", expected);
	buf_done(&out);
}

static void a_difference_reads_as_from_diff_u(void **state)
{
	check_diff("", "", "");
	check_diff("x\ny\n", "x\ny\n", "");
	check_diff("", "x\n", "--- a\n+++ b\n@@ -0,0 +1,1 @@\n+x\n");
	check_diff("x\n", "", "--- a\n+++ b\n@@ -1,1 +0,0 @@\n-x\n");
	check_diff("1\n2\n3\n4\n5\n6\n7\n8\n", "1\n2\n3\n4\nfive\n6\n7\n8\n",
		   "--- a\n+++ b\n@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n");
	check_diff("1\n2\n3\n", "0\n1\n2\n3\n4\n",
		   "--- a\n+++ b\n@@ -1,3 +1,5 @@\n+0\n 1\n 2\n 3\n+4\n");
	check_diff("x", "y", "--- a\n+++ b\n@@ -1,1 +1,1 @@\n-x\n+y\n");
}

static void changes_far_apart_are_two_hunks(void **state)
{
	check_diff("a\n1\n2\n3\n4\n5\n6\n7\nb\n", "A\n1\n2\n3\n4\n5\n6\n7\nB\n",
		   "--- a\n+++ b\n@@ -1,4 +1,4 @@\n-a\n+A\n 1\n 2\n 3\n"
		   "@@ -6,4 +6,4 @@\n 5\n 6\n 7\n-b\n+B\n");
	check_diff("a\n1\n2\n3\n4\n5\n6\nb\n", "A\n1\n2\n3\n4\n5\n6\nB\n",
		   "--- a\n+++ b\n@@ -1,8 +1,8 @@\n-a\n+A\n 1\n 2\n 3\n 4\n 5\n 6\n-b\n+B\n");
}

/* Applies a full script back: what is kept and removed is a, what is kept and added is b. */
static void a_difference_of_random_texts_leads_from_one_to_the_other(void **state)
{
	unsigned seed = 7;

	for (int round = 0; round < 500; round++) {
		char a[64] = "", b[64] = "", left[64] = "", right[64] = "";
		struct buf out;
		int different;

		for (int i = 0; i < 6; i++) {
			if (rand_r(&seed) % 4)
				strcat(a, (char[]){(char)('p' + rand_r(&seed) % 3), '\n', 0});
			if (rand_r(&seed) % 4)
				strcat(b, (char[]){(char)('p' + rand_r(&seed) % 3), '\n', 0});
		}
		buf_init(&out, 1 << 20);
		different = linediff(&out, "a", a, "b", b);
		assert_int_equal(different, strcmp(a, b) != 0);
		if (different) {
			const char *p = strstr(out.data, "@@\n") + 3;

			for (; *p; p += 3) {
				if (*p != '+')
					strncat(left, p + 1, 2);
				if (*p != '-')
					strncat(right, p + 1, 2);
			}
			/* texts are so short that all of them is context, or equal lines are left
			 * out at an end */
			assert_non_null(strstr(a, left));
			assert_non_null(strstr(b, right));
			assert_int_equal(strlen(a) - strlen(left), strlen(b) - strlen(right));
		}
		buf_done(&out);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_table_is_aligned_and_sorted),
		cmocka_unit_test(many_rows_are_kept),
		cmocka_unit_test(only_states_are_coloured_and_widths_do_not_count_colours),
		cmocka_unit_test(a_cell_cannot_steer_the_terminal),
		cmocka_unit_test(json_is_indented_by_two_spaces),
		cmocka_unit_test(a_difference_reads_as_from_diff_u),
		cmocka_unit_test(changes_far_apart_are_two_hunks),
		cmocka_unit_test(a_difference_of_random_texts_leads_from_one_to_the_other),
	};

	return cmocka_run_group_tests_name("meshctl output", tests, NULL, NULL);
}
