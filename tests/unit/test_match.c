/* SPDX-License-Identifier: Apache-2.0 */
/* Which requests a route is for: tables of what matches and what does not. */
#include "agent/proxy/match.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void paths(void **state)
{
	static const struct {
		enum snap_path kind;
		const char *pattern, *path;
		bool yes;
	} cases[] = {
		{SNAP_PATH_EXACT, "/api", "/api", true},
		{SNAP_PATH_EXACT, "/api", "/api/", false},
		{SNAP_PATH_EXACT, "/api", "/ap", false},
		{SNAP_PATH_EXACT, "/api", "/API", false},
		{SNAP_PATH_EXACT, "/", "/", true},
		{SNAP_PATH_EXACT, "/a%20b", "/a%20b", true},
		{SNAP_PATH_EXACT, "/a%2fb", "/a%2Fb", false},
		{SNAP_PATH_PREFIX, "/", "/", true},
		{SNAP_PATH_PREFIX, "/", "/x", true},
		{SNAP_PATH_PREFIX, "/api", "/api", true},
		{SNAP_PATH_PREFIX, "/api", "/api/", true},
		{SNAP_PATH_PREFIX, "/api", "/api/x/y", true},
		{SNAP_PATH_PREFIX, "/api", "/apix", false},
		{SNAP_PATH_PREFIX, "/api", "/ap", false},
		{SNAP_PATH_PREFIX, "/api", "/x/api", false},
		{SNAP_PATH_PREFIX, "/api/", "/api/", true},
		{SNAP_PATH_PREFIX, "/api/", "/api/x", true},
		{SNAP_PATH_PREFIX, "/api/", "/api", false},
		{SNAP_PATH_PREFIX, "/", "*", false},
		{SNAP_PATH_TEMPLATE, "/users/{id}", "/users/7", true},
		{SNAP_PATH_TEMPLATE, "/users/{id}", "/users/", false},
		{SNAP_PATH_TEMPLATE, "/users/{id}", "/users", false},
		{SNAP_PATH_TEMPLATE, "/users/{id}", "/users/7/", false},
		{SNAP_PATH_TEMPLATE, "/users/{id}", "/users/7/x", false},
		{SNAP_PATH_TEMPLATE, "/users/{id}", "/userz/7", false},
		{SNAP_PATH_TEMPLATE, "/users/{id}/", "/users/7/", true},
		{SNAP_PATH_TEMPLATE, "/users/{id}/", "/users/7", false},
		{SNAP_PATH_TEMPLATE, "/{a}/b/{c}", "/1/b/2", true},
		{SNAP_PATH_TEMPLATE, "/{a}/b/{c}", "/1/bb/2", false},
		{SNAP_PATH_TEMPLATE, "/{a}/b/{c}", "//b/2", false},
		{SNAP_PATH_TEMPLATE, "/", "/", true},
		{SNAP_PATH_TEMPLATE, "/", "/a", false},
		{SNAP_PATH_TEMPLATE, "/**", "/", true},
		{SNAP_PATH_TEMPLATE, "/**", "/a/b", true},
		{SNAP_PATH_TEMPLATE, "/users/{id}/files/**", "/users/7/files/", true},
		{SNAP_PATH_TEMPLATE, "/users/{id}/files/**", "/users/7/files/a/b", true},
		{SNAP_PATH_TEMPLATE, "/users/{id}/files/**", "/users/7/files", false},
		{SNAP_PATH_TEMPLATE, "/users/{id}/files/**", "/users//files/a", false},
		{SNAP_PATH_TEMPLATE, "/a", "*", false},
		{SNAP_PATH_ANY, "", "*", true},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		if (match_path(cases[i].kind, cases[i].pattern, cases[i].path,
			       strlen(cases[i].path)) != cases[i].yes)
			fail_msg("%s of %s", cases[i].path, cases[i].pattern);
}

static void queries(void **state)
{
	static const struct {
		const char *query, *name, *value;
		bool yes;
	} cases[] = {
		{"a=1", "a", "1", true},       {"a=1", "a", "2", false},
		{"a=1", "b", "1", false},      {"a=12", "a", "1", false},
		{"a=1", "a", "12", false},     {"x=2&a=1", "a", "1", true},
		{"a=2&a=1", "a", "1", true},   {"aa=1", "a", "1", false},
		{"a=", "a", "", true},	       {"a", "a", "", true},
		{"a&b=1", "a", "", true},      {"a", "a", "1", false},
		{"", "a", "", false},	       {"&&", "a", "", false},
		{"a=%31", "a", "1", true},     {"%61=1", "a", "1", true},
		{"a=x%20y", "a", "x y", true}, {"a=x+y", "a", "x y", false},
		{"a=x+y", "a", "x+y", true},   {"a=%c3%A9", "a", "\xc3\xa9", true},
		{"a=%26%3D", "a", "&=", true}, {"a=b=c", "a", "b=c", true},
		{"a=%", "a", "%", true},       {"a=%3", "a", "%3", true},
		{"a=%zz", "a", "%zz", true},   {"a=1%00", "a", "1", false},
		{"a=%00", "a", "", false},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		if (match_query(cases[i].query, strlen(cases[i].query), cases[i].name,
				cases[i].value) != cases[i].yes)
			fail_msg("%s: %s=%s", cases[i].query, cases[i].name, cases[i].value);
}

/* One service with two routes; the second one is for all that the first is not. */
static struct {
	struct snapshot head;
	struct snap_service service;
	struct snap_route route[2];
	struct snap_pair header[2], query[2];
	char path[16], method[8], names[4][16], values[4][16];
} block;

#define OFFSET(member) ((uint32_t)offsetof(__typeof__(block), member))

static struct snap_match *first_route(void)
{
	memset(&block, 0, sizeof(block));
	block.service.nroutes = 2;
	block.service.routes = OFFSET(route);
	block.route[0].match.headers = OFFSET(header);
	block.route[0].match.queries = OFFSET(query);
	for (uint32_t i = 0; i < 2; i++) {
		block.header[i] = (struct snap_pair){OFFSET(names[i]), OFFSET(values[i])};
		block.query[i] = (struct snap_pair){OFFSET(names[2 + i]), OFFSET(values[2 + i])};
	}
	return &block.route[0].match;
}

/* Is a request with that request line and those fields on the first route? */
static bool taken(const char *line, const char *fields, uint32_t skip)
{
	static struct http1_head h;
	const struct snap_route *r;
	char text[512];
	int n = snprintf(text, sizeof(text), "%s HTTP/1.1\r\nHost: h\r\n%s\r\n", line, fields);

	http1_head_init(&h);
	assert_int_equal(http1_request_parse(&h, text, (size_t)n, sizeof(text)), HTTP1_DONE);
	r = match_route(&block.head, &block.service, &h, text, skip);
	assert_non_null(r);
	return r == &block.route[0];
}

static void without_routes_there_is_none(void **state)
{
	static const struct http1_head h;

	first_route();
	block.service.nroutes = 0;
	assert_null(match_route(&block.head, &block.service, &h, "", 0));
}

static void a_route_without_conditions_takes_all(void **state)
{
	first_route();
	assert_true(taken("GET /", "", 0));
	assert_true(taken("OPTIONS *", "", 0));
}

static void the_path_is_the_callees(void **state)
{
	struct snap_match *m = first_route();

	m->path_kind = SNAP_PATH_EXACT;
	m->path = OFFSET(path);
	strcpy(block.path, "/a");
	assert_true(taken("GET /a", "", 0));
	assert_true(taken("GET /a?b=/c", "", 0));
	assert_true(taken("GET http://h/a", "", 0));
	assert_true(taken("GET /svc/a", "", 4));
	assert_false(taken("GET /svc/a", "", 0));
	assert_false(taken("GET /b", "", 0));
	strcpy(block.path, "/");
	assert_true(taken("GET /svc", "", 4));
	assert_true(taken("GET /svc?x", "", 4));
	assert_true(taken("GET http://h", "", 0));
}

static void the_method_is_the_method(void **state)
{
	struct snap_match *m = first_route();

	m->method = OFFSET(method);
	strcpy(block.method, "PATCH");
	assert_true(taken("PATCH /", "Content-Length: 0\r\n", 0));
	assert_false(taken("PUT /", "Content-Length: 0\r\n", 0));
	assert_false(taken("PATCHY /", "", 0));
}

static void all_headers_must_be_there(void **state)
{
	struct snap_match *m = first_route();

	m->nheaders = 2;
	strcpy(block.names[0], "x-group");
	strcpy(block.values[0], "beta");
	strcpy(block.names[1], "accept");
	strcpy(block.values[1], "");
	assert_true(taken("GET /", "X-GROUP: beta \r\nAccept:\r\n", 0));
	assert_true(taken("GET /", "x-group: alpha\r\naccept: \r\nx-group: beta\r\n", 0));
	assert_false(taken("GET /", "x-group: beta\r\n", 0));
	assert_false(taken("GET /", "x-group: Beta\r\naccept:\r\n", 0));
	assert_false(taken("GET /", "x-group: beta2\r\naccept:\r\n", 0));
	assert_false(taken("GET /", "x-group: beta\r\naccept: a\r\n", 0));
	assert_false(taken("GET /", "x-groups: beta\r\naccept:\r\n", 0));
}

static void all_parameters_must_be_there(void **state)
{
	struct snap_match *m = first_route();

	m->nqueries = 2;
	strcpy(block.names[2], "v");
	strcpy(block.values[2], "a b");
	strcpy(block.names[3], "debug");
	assert_true(taken("GET /?debug&v=a%20b", "", 0));
	assert_true(taken("GET /svc?debug=&v=a%20b", "", 4));
	assert_false(taken("GET /?v=a%20b", "", 0));
	assert_false(taken("GET /", "", 0));
	assert_false(taken("GET /v=a%20b&debug", "", 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(paths),
		cmocka_unit_test(queries),
		cmocka_unit_test(without_routes_there_is_none),
		cmocka_unit_test(a_route_without_conditions_takes_all),
		cmocka_unit_test(the_path_is_the_callees),
		cmocka_unit_test(the_method_is_the_method),
		cmocka_unit_test(all_headers_must_be_there),
		cmocka_unit_test(all_parameters_must_be_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
