/* SPDX-License-Identifier: Apache-2.0 */
/* What is typed after meshctl split, and the merge patches that meshd gets for it. */
#include "ctl/meshctl/split.h"
#include "lib/name.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/quoted.h"

static char error[SPLIT_ERROR_MAX];

/* Words separated by spaces, as they stand on a command line. */
static int parse(const char *line, struct split_weights *w)
{
	char copy[512], *words[16], *save = NULL;
	int n = 0;

	snprintf(copy, sizeof(copy), "%s", line);
	for (char *p = strtok_r(copy, " ", &save); p; p = strtok_r(NULL, " ", &save))
		words[n++] = p;
	return split_parse(words, n, w, error);
}

static void assert_json(cJSON *v, const char *quoted)
{
	cJSON *expected = quoted_json(quoted);
	char *a = json_canonical(v), *b = json_canonical(expected);

	assert_non_null(v);
	assert_string_equal(a, b);
	free(a);
	free(b);
	cJSON_Delete(expected);
	cJSON_Delete(v);
}

static void weights_are_taken_as_they_are(void **state)
{
	struct split_weights w;

	assert_int_equal(parse("v1=90 v2=10", &w), 0);
	assert_int_equal(w.n, 2);
	assert_string_equal(w.version[1], "v2");
	assert_int_equal(w.weight[1], 10);
	assert_int_equal(parse("v1=100 v2=0", &w), 0);
	assert_int_equal(parse("a=12 b=12 c=12 d=12 e=13 f=13 g=13 h=13", &w), 0);
	assert_int_equal(w.n, MESH_SPLITS);
}

static void other_weights_are_refused_with_what_would_do(void **state)
{
	static const struct {
		const char *line, *error;
	} rows[] = {
		{"", "which weights? VERSION=PERCENT, as v1=90 v2=10"},
		{"v1", "v1 is no weight: VERSION=PERCENT, as v1=90"},
		{"v1=90 v1=10", "v1 is there twice"},
		{"v1=ninety", "v1=ninety: a weight is a whole number"},
		{"v1=-1", "v1=-1: a weight is a whole number"},
		{"v1=99.5 v2=0.5", "v1=99.5: a weight is a whole number"},
		{"v1=", "v1=: a weight is a whole number"},
		{"=90", " is no version: "},
		{"v/1=90", "v/1 is no version: "},
		{"a=1 b=1 c=1 d=1 e=1 f=1 g=1 h=1 i=92", "at most 8 versions can share"},
		{"v1=0 v2=0", "the weights sum to 0, not to 100"},
		{"v1=9 v2=1",
		 "the weights sum to 10, not to 100; in these proportions that is v1=90 v2=10"},
		{"v1=90", "the weights sum to 90, not to 100; in these proportions that is v1=100"},
		{"a=1 b=1 c=1", "the weights sum to 3, not to 100; in these proportions that is "
				"a=34 b=33 c=33"},
		{"v1=1000000 v2=1", "the weights sum to 1000001, not to 100; in these proportions "
				    "that is v1=100 v2=0"},
	};
	struct split_weights w = {.n = 77};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(parse(rows[i].line, &w), -EINVAL);
		if (strncmp(error, rows[i].error, strlen(rows[i].error)))
			fail_msg("%s: %s", rows[i].line, error);
	}
	assert_int_equal(w.n, 77);
}

static void scaled_weights_sum_to_100_and_keep_their_order(void **state)
{
	unsigned seed = 7;

	for (int round = 0; round < 5000; round++) {
		struct split_weights in = {.n = 1 + (unsigned)rand_r(&seed) % MESH_SPLITS}, out;
		uint64_t sum = 0;

		for (unsigned i = 0; i < in.n; i++)
			in.weight[i] = 1 + (uint64_t)rand_r(&seed) % (round % 2 ? 7 : 1000000);
		out = in;
		split_scale(&out);
		for (unsigned i = 0; i < in.n; i++) {
			sum += out.weight[i];
			for (unsigned j = 0; j < in.n; j++)
				if (in.weight[i] > in.weight[j])
					assert_true(out.weight[i] >= out.weight[j]);
		}
		assert_int_equal(sum, 100);
	}
}

static void a_new_split_replaces_the_old_one_whole(void **state)
{
	struct split_weights w;
	cJSON *old = quoted_json("{'service':'s','split':{'v1':50,'v3':50},'protocol':'http'}");
	cJSON *patch, *after;

	assert_int_equal(parse("v1=90 v2=10", &w), 0);
	assert_json(split_set_patch(NULL, &w), "{'split':{'v1':90,'v2':10}}");
	patch = split_set_patch(old, &w);
	after = json_merge_patch(old, patch);
	assert_json(after, "{'service':'s','split':{'v1':90,'v2':10},'protocol':'http'}");
	cJSON_Delete(patch);
	cJSON_Delete(old);
}

static void header(const char *word, const char *version, struct split_header *h)
{
	if (split_header_parse(word, version, h, error))
		fail_msg("%s: %s", word, error);
	assert_true(name_valid(h->route));
}

static void a_route_is_named_after_its_header(void **state)
{
	struct split_header h, other;
	char word[1200];

	header("X-User-Group=Beta", "v2", &h);
	assert_string_equal(h.name, "x-user-group");
	assert_string_equal(h.value, "Beta");
	assert_string_equal(h.route, "header-x-user-group-Beta");
	header("x=a=b", "v2", &h);
	assert_string_equal(h.value, "a=b");
	/* what no name can hold, or is too long, is kept apart from what looks alike */
	header("x=a/b", "v2", &h);
	header("x=a b", "v2", &other);
	assert_string_not_equal(h.route, other.route);
	memset(word, 'y', sizeof(word));
	memcpy(word, "x=", 2);
	word[1000] = '\0';
	header(word, "v2", &h);
	word[999] = 'z';
	header(word, "v2", &other);
	assert_string_not_equal(h.route, other.route);
	header("x=\xc3\xa4", "v2", &h);
}

static void what_is_no_header_is_refused(void **state)
{
	static const char *const words[] = {"x", "=y", "x y=z", "x:y=z", ""};
	struct split_header h;
	char word[1200];

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		assert_int_equal(split_header_parse(words[i], "v1", &h, error), -EINVAL);
	assert_int_equal(split_header_parse("x=y", "v/1", &h, error), -EINVAL);
	memset(word, 'y', sizeof(word));
	memcpy(word, "x=", 2);
	word[1199] = '\0';
	assert_int_equal(split_header_parse(word, "v1", &h, error), -EINVAL);
}

static void a_header_comes_before_all_other_routes(void **state)
{
	struct split_header h;
	cJSON *old = quoted_json("{'routes':[{'name':'api','match':{'path':{'prefix':'/api'}}}]}");

	header("x-group=beta", "v2", &h);
	assert_json(split_header_patch(NULL, &h),
		    "{'routes':[{'name':'header-x-group-beta',"
		    "'match':{'headers':{'x-group':'beta'}},'split':{'v2':100}}]}");
	assert_json(split_header_patch(old, &h),
		    "{'routes':[{'name':'header-x-group-beta',"
		    "'match':{'headers':{'x-group':'beta'}},'split':{'v2':100}},"
		    "{'name':'api','match':{'path':{'prefix':'/api'}}}]}");
	cJSON_Delete(old);
}

static void the_same_header_again_goes_elsewhere_and_keeps_the_rest(void **state)
{
	struct split_header h;
	cJSON *old = quoted_json("{'routes':[{'name':'api'},{'name':'header-x-group-beta',"
				 "'match':{'headers':{'x-group':'beta'}},'split':{'v2':100},"
				 "'retry':{'attempts':0}}]}");

	header("x-group=beta", "v3", &h);
	assert_json(split_header_patch(old, &h),
		    "{'routes':[{'name':'header-x-group-beta','retry':{'attempts':0},"
		    "'match':{'headers':{'x-group':'beta'}},'split':{'v3':100}},{'name':'api'}]}");
	cJSON_Delete(old);
}

static void clear_removes_what_split_made_and_nothing_else(void **state)
{
	struct split_header h;
	cJSON *both = quoted_json(
		"{'split':{'v1':100},'routes':["
		"{'name':'header-x-a','match':{'headers':{'x':'a'}},'split':{'v2':100}},"
		"{'name':'header-x-b','match':{'headers':{'x':'b'}},'split':{'v2':100}},"
		"{'name':'header-x','match':{'headers':{'x':'c'}},'split':{'v2':100}},"
		"{'name':'header-x-d','match':{'headers':{'x':'d'},'method':'GET'}},"
		"{'split':{'v2':100}}]}");
	cJSON *only = quoted_json("{'routes':[{'name':'header-x-a','match':{'headers':{'x':'a'}},"
				  "'split':{'v2':100}}]}");

	assert_json(split_clear_patch(both, NULL),
		    "{'split':null,'routes':["
		    "{'name':'header-x','match':{'headers':{'x':'c'}},'split':{'v2':100}},"
		    "{'name':'header-x-d','match':{'headers':{'x':'d'},'method':'GET'}},"
		    "{'split':{'v2':100}}]}");
	assert_json(split_clear_patch(only, NULL), "{'routes':null}");
	header("x=a", NULL, &h);
	assert_json(split_clear_patch(only, &h), "{'routes':null}");
	header("x=z", NULL, &h);
	assert_json(split_clear_patch(only, &h), "{}");
	assert_json(split_clear_patch(NULL, NULL), "{}");
	cJSON_Delete(both);
	cJSON_Delete(only);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(weights_are_taken_as_they_are),
		cmocka_unit_test(other_weights_are_refused_with_what_would_do),
		cmocka_unit_test(scaled_weights_sum_to_100_and_keep_their_order),
		cmocka_unit_test(a_new_split_replaces_the_old_one_whole),
		cmocka_unit_test(a_route_is_named_after_its_header),
		cmocka_unit_test(what_is_no_header_is_refused),
		cmocka_unit_test(a_header_comes_before_all_other_routes),
		cmocka_unit_test(the_same_header_again_goes_elsewhere_and_keeps_the_rest),
		cmocka_unit_test(clear_removes_what_split_made_and_nothing_else),
	};

	return cmocka_run_group_tests_name("meshctl split", tests, NULL, NULL);
}
