/* SPDX-License-Identifier: Apache-2.0 */
/* What meshctl takes in: configuration files; and which address a new namespace gets. */
#include "ctl/meshctl/config_file.h"
#include "ctl/meshctl/run_netns.h"
#include "lib/json.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void one_object_and_a_list_are_both_lists(void **state)
{
	static const char *const texts[] = {"{\"service\":\"a\"}", " [{\"service\":\"a\"}] \n"};
	char error[512];

	for (int i = 0; i < 2; i++) {
		cJSON *list = NULL;

		assert_int_equal(config_file_parse("f", texts[i], strlen(texts[i]), &list, error),
				 0);
		assert_int_equal(cJSON_GetArraySize(list), 1);
		assert_string_equal(json_str(cJSON_GetArrayItem(list, 0), "service", ""), "a");
		cJSON_Delete(list);
	}
}

static void a_bad_file_is_refused_with_the_place(void **state)
{
	static const struct {
		const char *text, *error;
	} rows[] = {
		{"", "f:1:1: this is not JSON"},
		{"{\"service\":\"a\",\n \"x\": tru}", "f:2:"},
		{"[]", "f: the list is empty"},
		{"[{\"service\":\"a\"},{}]", "f: object 2 has no valid \"service\""},
		{"[1]", "f: object 1 has no valid \"service\""},
		{"\"a\"", "f: object 1 has no valid \"service\""},
		{"{\"service\":\"a/b\"}", "f: object 1 has no valid \"service\""},
		{"[{\"service\":\"a\"},{\"service\":\"b\"},{\"service\":\"a\"}]",
		 "f: a is there twice"},
	};
	char error[512];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		cJSON *list = NULL;

		assert_int_equal(
			config_file_parse("f", rows[i].text, strlen(rows[i].text), &list, error),
			-EINVAL);
		assert_null(list);
		assert_memory_equal(error, rows[i].error, strlen(rows[i].error));
	}
}

static void a_missing_file_is_named(void **state)
{
	char error[512];
	cJSON *list = NULL;

	assert_int_equal(config_file_load("/nowhere/x.json", &list, error), -ENOENT);
	assert_string_equal(error, "cannot read /nowhere/x.json: No such file or directory");
}

static void addresses_go_round_before_one_is_used_again(void **state)
{
	const uint16_t used[] = {2, 3, 5, NETNS_LAST};

	assert_int_equal(run_netns_next_free(NULL, 0, 0), NETNS_FIRST);
	assert_int_equal(run_netns_next_free(used, 4, 0), 4);
	assert_int_equal(run_netns_next_free(used, 4, 4), 6);
	assert_int_equal(run_netns_next_free(used, 4, 5), 6);
	assert_int_equal(run_netns_next_free(used, 4, NETNS_LAST - 1), 4);
	assert_int_equal(run_netns_next_free(used, 4, 1000000), 4);
}

static void a_full_network_has_no_address(void **state)
{
	static uint16_t used[NETNS_LAST - NETNS_FIRST + 1];
	const size_t n = sizeof(used) / sizeof(used[0]);

	for (size_t i = 0; i < n; i++)
		used[i] = NETNS_FIRST + i;
	assert_int_equal(run_netns_next_free(used, n, 17), 0);
	used[100] = NETNS_FIRST;
	assert_int_equal(run_netns_next_free(used, n, 17), NETNS_FIRST + 100);
}

static void only_addresses_of_the_bridge_have_a_number(void **state)
{
	assert_int_equal(run_netns_number("10.201.0.2"), 2);
	assert_int_equal(run_netns_number("10.201.3.7"), 3 * 256 + 7);
	assert_int_equal(run_netns_number("10.201.255.254"), NETNS_LAST);
	assert_int_equal(run_netns_number("10.202.0.2"), 0);
	assert_int_equal(run_netns_number("10.201.0.2/16"), 0);
	assert_int_equal(run_netns_number("10.201.256.1"), 0);
	assert_int_equal(run_netns_number("eth0"), 0);
	assert_int_equal(run_netns_number(""), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_object_and_a_list_are_both_lists),
		cmocka_unit_test(a_bad_file_is_refused_with_the_place),
		cmocka_unit_test(a_missing_file_is_named),
		cmocka_unit_test(addresses_go_round_before_one_is_used_again),
		cmocka_unit_test(a_full_network_has_no_address),
		cmocka_unit_test(only_addresses_of_the_bridge_have_a_number),
	};

	return cmocka_run_group_tests_name("meshctl input", tests, NULL, NULL);
}
