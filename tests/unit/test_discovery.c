/* SPDX-License-Identifier: Apache-2.0 */
/* Who a process is: what its cgroup's path and its environment say, and what is not believed. */
#include "agent/discovery/identity.h"

#include "lib/name.h"
#include "lib/weight.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static void the_path_that_meshctl_makes_names_service_and_instance(void **state)
{
	static const struct {
		const char *path, *service, *instance;
	} cases[] = {
		{"/mesh/backend/b-1", "backend", "b-1"},
		{"mesh/backend/b-1", "backend", "b-1"},
		{"/mesh/_backend/b-1", NULL, NULL},
		{"/mesh/backend/-1", NULL, NULL},
		{"/user.slice/mesh/a/b", "a", "b"},
		{"/mesh/mesh/x/y", "x", "y"},
		{"/mesh/a", NULL, NULL},
		{"/mesh/a/b/c", NULL, NULL},
		{"/mesh//b", NULL, NULL},
		{"/mesh/a/", NULL, NULL},
		{"/other/a/b", NULL, NULL},
		{"/xmesh/a/b", NULL, NULL},
		{"/mesh/a b/c", NULL, NULL},
		{"/mesh/.a/c", NULL, NULL},
		{"", NULL, NULL},
		{"/", NULL, NULL},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct identity id = {0};
		bool found = identity_from_path(cases[i].path, &id);

		assert_int_equal(found, cases[i].service != NULL);
		if (found) {
			assert_string_equal(id.service, cases[i].service);
			assert_string_equal(id.instance, cases[i].instance);
		}
	}
}

static void a_path_is_shown_without_what_steers_a_terminal(void **state)
{
	static const struct {
		const char *path, *shown;
	} cases[] = {
		{"/mesh/a/b", "/mesh/a/b"},
		{"/a\033[2J\t\x7f", "/a?[2J??"},
		{"/\xff\xc3", "/??"},
		{"/\xc2\x9b[1", "/??[1"},
		{"/\xc3\xa4", "/\xc3\xa4"},
		{"/12345678901\xc3\xa4", "/12345678901\xc3\xa4"},
		{"/123456789012\xc3\xa4", "/123456789012?"}, /* the rest is cut off */
		{"/12345678901234567890", "/1234567890123"},
		{"", ""},
	};
	char out[15];

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		identity_path_text(cases[i].path, out, sizeof(out));
		assert_string_equal(out, cases[i].shown);
	}
}

#define environment(text, id) identity_from_environ(text, sizeof(text), id)

static void the_environment_names_the_rest(void **state)
{
	struct identity id = {0};

	assert_true(environment("PATH=/bin\0MESH_SERVICE=cart\0MESH_INSTANCE=c-7\0MESH_VERSION=v3\0"
				"MESH_PROTOCOL=http\0MESH_PORT=8080\0MESH_WEIGHT=250",
				&id));
	assert_string_equal(id.service, "cart");
	assert_string_equal(id.instance, "c-7");
	assert_string_equal(id.version, "v3");
	assert_int_equal(id.protocol, MESH_PROTO_HTTP);
	assert_int_equal(id.port, 8080);
	assert_int_equal(id.weight, 250);
}

static void a_weight_is_a_whole_number_from_1_to_1000(void **state)
{
	static const struct {
		const char *text;
		uint32_t weight;
	} cases[] = {
		{"1", 1},    {"100", 100},	{"1000", 1000},
		{"007", 7},  {"", 0},		{"0", 0},
		{"1001", 0}, {"-1", 0},		{"+1", 0},
		{" 1", 0},   {"1 ", 0},		{"1.5", 0},
		{"1e2", 0},  {"0x10", 0},	{"99999999999999999999999", 0},
		{"many", 0}, {"4294967396", 0},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		assert_int_equal(weight_parse(cases[i].text), cases[i].weight);
}

static void values_that_make_no_sense_are_as_if_not_said(void **state)
{
	struct identity id = {0};

	assert_false(environment("MESH_SERVICE=a/"
				 "b\0MESH_INSTANCE=\"\0MESH_PORT=80x\0MESH_PROTOCOL=smtp\0MESH_"
				 "WEIGHT=1001\0XMESH_SERVICE=a",
				 &id));
	assert_string_equal(id.instance, "");
	assert_int_equal(id.port, 0);
	assert_int_equal(id.protocol, MESH_PROTO_AUTO);
	assert_int_equal(id.weight, 0);
	assert_false(environment("MESH_SERVICE=\nx", &id));
	assert_false(
		environment("MESH_SERVICE=_x\0MESH_SERVICE=-x", &id)); /* meshd takes neither */
	assert_false(environment("MESH_PORT=65536\0MESH_SERVICE", &id));
	assert_int_equal(id.port, 0);
}

static void a_block_that_is_cut_off_is_read_up_to_there(void **state)
{
	static const char text[] = "MESH_VERSION=v1\0MESH_SERVICE=cart";
	struct identity id = {0};

	for (size_t len = 0; len < sizeof(text); len++) {
		char *copy = malloc(len ? len : 1); /* its exact size, for the sanitizer */

		memset(&id, 0, sizeof(id));
		assert_non_null(copy);
		memcpy(copy, text, len);
		assert_false(identity_from_environ(copy, len, &id));
		free(copy);
	}
	assert_true(identity_from_environ(text, sizeof(text), &id));
}

static void the_path_has_the_last_word(void **state)
{
	struct identity path = {.service = "cart", .instance = "c1"}, env = {.service = "cart",
									     .instance = "other",
									     .version = "v2",
									     .port = 80,
									     .weight = 7};
	struct identity none = {0}, out;

	assert_true(identity_merge(&path, &env, 9, &out));
	assert_string_equal(out.instance, "c1");
	assert_string_equal(out.version, "v2");
	assert_int_equal(out.port, 80);
	assert_int_equal(out.weight, 7);
	strcpy(env.service, "shop"); /* inherited from elsewhere: nothing of it counts */
	assert_true(identity_merge(&path, &env, 9, &out));
	assert_string_equal(out.service, "cart");
	assert_string_equal(out.version, "v1");
	assert_int_equal(out.port, 0);
	assert_int_equal(out.weight, 0);
	assert_true(identity_merge(&none, &env, 9, &out));
	assert_string_equal(out.service, "shop");
	assert_false(identity_merge(&none, &none, 9, &out));
}

static void an_instance_without_a_name_gets_one_that_fits(void **state)
{
	struct identity none = {0}, env = {.service = "s"}, out;

	assert_true(identity_merge(&none, &env, 1234, &out));
	assert_string_equal(out.instance, "s-1234");
	assert_string_equal(out.version, "v1");
	memset(env.service, 'x', MESH_NAME_MAX - 1);
	assert_true(identity_merge(&none, &env, 4194304, &out));
	assert_true(name_valid(out.instance));
}

static void the_environment_of_a_real_process_is_read(void **state)
{
	struct identity id = {0};
	int gate[2];
	pid_t pid;
	char c;

	assert_int_equal(pipe(gate), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		dup2(gate[1], 1);
		close(gate[0]);
		execle("/bin/sh", "sh", "-c", "echo; read x < /dev/null; exec sleep 100", NULL,
		       (char *[]){"MESH_SERVICE=real", "MESH_VERSION=v9", NULL});
		_exit(1);
	}
	close(gate[1]);
	assert_int_equal(read(gate[0], &c, 1), 1);
	close(gate[0]);
	/* in the middle of an exec there is nothing to be read */
	for (int i = 0; i < 2000 && !identity_read_environ(pid, &id); i++)
		usleep(1000);
	assert_string_equal(id.service, "real");
	assert_string_equal(id.version, "v9");
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	assert_false(identity_read_environ(pid, &(struct identity){0}));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_path_that_meshctl_makes_names_service_and_instance),
		cmocka_unit_test(a_path_is_shown_without_what_steers_a_terminal),
		cmocka_unit_test(the_environment_names_the_rest),
		cmocka_unit_test(a_weight_is_a_whole_number_from_1_to_1000),
		cmocka_unit_test(values_that_make_no_sense_are_as_if_not_said),
		cmocka_unit_test(a_block_that_is_cut_off_is_read_up_to_there),
		cmocka_unit_test(the_path_has_the_last_word),
		cmocka_unit_test(an_instance_without_a_name_gets_one_that_fits),
		cmocka_unit_test(the_environment_of_a_real_process_is_read),
	};

	return cmocka_run_group_tests_name("discovery", tests, NULL, NULL);
}
