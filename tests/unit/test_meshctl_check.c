/* SPDX-License-Identifier: Apache-2.0 */
/* What `meshctl check` makes of an agent's report on connections that go past the mesh. */
#include "ctl/meshctl/check.h"
#include "lib/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct check c;

/* In place of check.c's, which is linked with all else that is checked. */
bool check_add(struct check *to, const char *name, enum check_result result, const char *hint,
	       const char *fmt, ...)
{
	struct check_line *l = &to->lines[to->count++];
	va_list ap;

	assert_true(to->count <= CHECK_LINES);
	l->name = name;
	l->result = result;
	snprintf(l->hint, sizeof(l->hint), "%s", hint ? hint : "");
	va_start(ap, fmt);
	vsnprintf(l->detail, sizeof(l->detail), fmt, ap);
	va_end(ap);
	return result != CHECK_FAILED;
}

static void look_at(const char *agent)
{
	cJSON *v = json_parse(agent, strlen(agent), NULL);

	assert_non_null(v);
	memset(&c, 0, sizeof(c));
	check_coverage(&c, v);
	cJSON_Delete(v);
}

#define ESCAPING(reason)                                                                           \
	"{\"coverage\":{\"escaping\":[{\"service\":\"web\",\"instance\":\"web-1\",\"reasons\":[{"  \
	"\"reason\":" reason "}]}],\"strangers\":[]}}"

static void what_escapes_is_named_with_its_reason(void **state)
{
	static const struct {
		const char *agent, *says;
		enum check_result result;
	} cases[] = {
		/* the mesh is to blame, and just now: a failure; what is over is a note */
		{ESCAPING("\"no-worker\",\"open\":0,\"connects\":2,\"agoMs\":3000,\"to\":\"api\""),
		 "web/web-1: 2 connections, the last one 3s ago, to api past the mesh: no worker",
		 CHECK_FAILED},
		{ESCAPING("\"no-worker\",\"open\":1,\"connects\":2,\"agoMs\":10000,\"to\":\"api\""),
		 "web/web-1: 1 open connection to api past the mesh: no worker", CHECK_NOTED},
		{ESCAPING("\"memory\",\"open\":0,\"connects\":1,\"agoMs\":9999"),
		 "web/web-1: 1 connection, the last one 9s ago, past the mesh: the kernel had no "
		 "memory",
		 CHECK_FAILED},
		/* a program is */
		{ESCAPING("\"device\",\"open\":2,\"connects\":2,\"agoMs\":0,\"to\":\"api\""),
		 "web/web-1: 2 open connections to api past the mesh: their sockets are bound",
		 CHECK_NOTED},
		{ESCAPING("\"mptcp\",\"open\":1,\"connects\":1,\"agoMs\":0,\"to\":\"api\""),
		 "they are MPTCP", CHECK_NOTED},
		{ESCAPING("\"unseen\",\"open\":1,\"to\":\"api\""), "older than the agent",
		 CHECK_NOTED},
		{ESCAPING("\"of tomorrow\",\"open\":1,\"to\":\"api\""),
		 "a reason that this meshctl does not know", CHECK_NOTED},
		{"{\"coverage\":{\"strangers\":[{\"cgroup\":\"/stray\",\"id\":7,\"connects\":3,"
		 "\"open\":0,\"to\":\"api\"}]}}",
		 "cgroup /stray is no workload: 3 connections to api past the mesh", CHECK_NOTED},
		{"{\"coverage\":{\"strangers\":[{\"id\":7,\"connects\":3,\"open\":1}]}}",
		 "id 7) is no workload: 1 open connection past the mesh", CHECK_NOTED},
		{"{\"coverage\":{\"error\":\"no sock_diag\"}}", "cannot be looked at: no sock_diag",
		 CHECK_NOTED},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		look_at(cases[i].agent);
		assert_int_equal(c.count, 1);
		assert_string_equal(c.lines[0].name, "coverage");
		if (!strstr(c.lines[0].detail, cases[i].says))
			fail_msg("'%s' is not in '%s'", cases[i].says, c.lines[0].detail);
		assert_int_equal(c.lines[0].result, cases[i].result);
		assert_true(*c.lines[0].hint);
	}
}

static void nothing_escapes(void **state)
{
	look_at("{\"coverage\":{\"escaping\":[],\"strangers\":[]}}");
	assert_int_equal(c.count, 1);
	assert_int_equal(c.lines[0].result, CHECK_PASSED);
	look_at("{}"); /* of an older agent nothing is known */
	assert_int_equal(c.count, 0);
}

/* Eight lines, then how many more there are: those beyond, and those that the agent left out. */
static void of_many_the_first_are_shown(void **state)
{
	char text[4096];
	int n = snprintf(text, sizeof(text), "{\"coverage\":{\"more\":5,\"escaping\":[");

	for (int i = 0; i < 7; i++)
		n += snprintf(text + n, sizeof(text) - (size_t)n,
			      "%s{\"service\":\"s\",\"instance\":\"i%d\",\"reasons\":[{\"reason\":"
			      "\"mptcp\",\"open\":1}]}",
			      i ? "," : "", i);
	snprintf(text + n, sizeof(text) - (size_t)n,
		 "],\"strangers\":[{\"cgroup\":\"/a\"},{\"cgroup\":\"/b\"},{\"cgroup\":\"/c\"}]}}");
	look_at(text);
	assert_int_equal(c.count, 9);
	assert_non_null(strstr(c.lines[6].detail, "s/i6"));
	assert_non_null(strstr(c.lines[7].detail, "cgroup /a"));
	assert_string_equal(c.lines[8].detail, "7 more");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_escapes_is_named_with_its_reason),
		cmocka_unit_test(nothing_escapes),
		cmocka_unit_test(of_many_the_first_are_shown),
	};

	return cmocka_run_group_tests_name("meshctl check", tests, NULL, NULL);
}
