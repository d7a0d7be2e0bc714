/* SPDX-License-Identifier: Apache-2.0 */
/* Who may read and write, as a table; and the token's file. */
#include "ctl/meshd/auth.h"
#include "tests/unit/meshd_dir.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/stat.h>
/* after the types that it needs */
#include <cmocka.h>

#define TOKEN "0123456789abcdef0123456789abcdef"

static void the_table_of_who_may(void **state)
{
	static const struct {
		const char *what;
		struct auth_facts f; /* local, peer_loopback, write, host, origin, authorization,
					site, page */
		bool insecure;
		unsigned want;
	} cases[] = {
		{"read by address", {0, 1, 0, "127.0.0.1:15000"}, false, 0},
		{"read by IPv6 address", {0, 1, 0, "[::1]:15000"}, false, 0},
		{"read by localhost", {0, 1, 0, "localhost"}, false, 0},
		{"read by LOCALHOST", {0, 1, 0, "LocalHost:15000"}, false, 0},
		{"read without Host (HTTP/1.0)", {0, 1, 0, NULL}, false, 0},
		{"read by an allowed name", {0, 1, 0, "meshd:15000"}, false, 0},
		{"read by the other allowed name", {0, 1, 0, "Mesh.example"}, false, 0},
		{"rebinding", {0, 1, 0, "evil.example:15000"}, false, 403},
		{"a name that begins like an allowed one", {0, 1, 0, "mesh"}, false, 403},
		{"a name that contains localhost", {0, 1, 0, "localhost.evil.example"}, false, 403},
		{"an address with a tail", {0, 1, 0, "127.0.0.1.evil.example"}, false, 403},
		{"an empty Host", {0, 1, 0, ""}, false, 403},
		{"an unclosed bracket", {0, 1, 0, "[::1"}, false, 403},
		{"rubbish behind the bracket", {0, 1, 0, "[::1]x"}, false, 403},
		{"a port that is none", {0, 1, 0, "localhost:x"}, false, 403},
		{"an empty port", {0, 1, 0, "localhost:"}, false, 403},
		{"read from a page of another origin",
		 {0, 1, 0, "localhost", "http://evil.example"},
		 false,
		 403},
		{"read from another port",
		 {0, 1, 0, "localhost:15000", "http://localhost:8000"},
		 false,
		 403},
		{"read from our own page",
		 {0, 1, 0, "localhost:15000", "http://localhost:15000", NULL, "same-origin"},
		 false,
		 0},
		{"read from our own page behind TLS",
		 {0, 1, 0, "mesh.example", NULL, NULL, "same-origin"},
		 false,
		 0},
		{"typed in", {0, 1, 0, "localhost", NULL, NULL, "none"}, false, 0},
		{"an image of another page",
		 {0, 1, 0, "localhost", NULL, NULL, "cross-site"},
		 false,
		 403},
		{"an image of another port's page",
		 {0, 1, 0, "localhost", NULL, NULL, "same-site"},
		 false,
		 403},
		{"a link to the page",
		 {0, 1, 0, "localhost", NULL, NULL, "cross-site", true},
		 false,
		 0},
		{"rebinding the page",
		 {0, 1, 0, "evil.example", NULL, NULL, "cross-site", true},
		 false,
		 403},
		{"write to the page's address",
		 {0, 1, 1, "localhost", NULL, "Bearer " TOKEN, "cross-site", true},
		 false,
		 403},
		{"write without a token", {0, 1, 1, "localhost"}, false, 401},
		{"write with the token", {0, 1, 1, "localhost", NULL, "Bearer " TOKEN}, false, 0},
		{"scheme in small letters",
		 {0, 1, 1, "localhost", NULL, "bearer " TOKEN},
		 false,
		 0},
		{"write from afar with the token",
		 {0, 0, 1, "192.0.2.1", NULL, "Bearer " TOKEN},
		 false,
		 0},
		{"token cut short",
		 {0, 1, 1, "localhost", NULL, "Bearer 0123456789abcdef0123456789abcde"},
		 false,
		 401},
		{"token too long", {0, 1, 1, "localhost", NULL, "Bearer " TOKEN "0"}, false, 401},
		{"token twice", {0, 1, 1, "localhost", NULL, "Bearer " TOKEN TOKEN}, false, 401},
		{"no token behind the scheme", {0, 1, 1, "localhost", NULL, "Bearer "}, false, 401},
		{"another scheme", {0, 1, 1, "localhost", NULL, "Basic " TOKEN}, false, 401},
		{"bare token", {0, 1, 1, "localhost", NULL, TOKEN}, false, 401},
		{"insecure: loopback", {0, 1, 1, "localhost"}, true, 0},
		{"insecure: from afar", {0, 0, 1, "192.0.2.1"}, true, 401},
		{"insecure: rebinding", {0, 1, 1, "evil.example"}, true, 403},
		{"insecure: another origin",
		 {0, 1, 1, "localhost:15000", "http://evil.example"},
		 true,
		 403},
		{"insecure: no origin to speak of",
		 {0, 1, 1, "localhost:15000", "null"},
		 true,
		 403},
		{"insecure: another port",
		 {0, 1, 1, "localhost:15000", "http://localhost:8000"},
		 true,
		 403},
		{"insecure: another scheme",
		 {0, 1, 1, "localhost:15000", "https://localhost:15000"},
		 true,
		 403},
		{"insecure: our own page",
		 {0, 1, 1, "localhost:15000", "http://localhost:15000"},
		 true,
		 0},
		{"another origin with the token",
		 {0, 1, 1, "localhost", "http://evil.example", "Bearer " TOKEN},
		 false,
		 403},
		{"unix socket", {1, 0, 1, "anything"}, false, 0},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct auth a = {.token = TOKEN,
				 .insecure_writes = cases[i].insecure,
				 .allow_hosts = "meshd,mesh.example"};
		const char *why = NULL;
		unsigned got = auth_judge(&a, &cases[i].f, &why);

		if (got != cases[i].want || (got && !why))
			fail_msg("%s: %u, want %u", cases[i].what, got, cases[i].want);
	}
}

static void a_meshd_without_a_token_lets_nobody_write(void **state)
{
	const struct auth a = {.token = ""};
	const struct auth_facts f = {
		.write = true, .host = "localhost", .authorization = "Bearer "};
	const char *why;

	assert_int_equal(auth_judge(&a, &f, &why), 401);
}

static void the_token_is_made_once_and_kept(void **state)
{
	struct auth a = {0}, b = {0};
	struct test_dir dir;
	char file[128], why[256];
	struct stat st;

	test_dir_make(&dir);
	snprintf(file, sizeof(file), "%s/token", dir.path);
	assert_int_equal(auth_token_load(&a, dir.path, (gid_t)-1, why, sizeof(why)), 0);
	assert_int_equal(strlen(a.token), 64);
	assert_int_equal(strspn(a.token, "0123456789abcdef"), 64);
	assert_int_equal(stat(file, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	assert_int_equal(auth_token_load(&b, dir.path, (gid_t)-1, why, sizeof(why)), 0);
	assert_string_equal(a.token, b.token);
	test_dir_remove(&dir);
}

static void a_token_of_ones_own_is_taken_or_refused(void **state)
{
	static const struct {
		const char *text;
		int want;
	} cases[] = {
		{"my-own-token-of-2026\n", 0},
		{"my-own-token-of-2026", 0},
		{"", -EINVAL},
		{"\n", -EINVAL},
		{"tooshort\n", -EINVAL},
		{"with a space in the middle\n", -EINVAL},
		{"two-lines-of-text\nmore\n", -EINVAL},
	};
	struct test_dir dir;
	char why[256];

	test_dir_make(&dir);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct auth a = {0};

		test_dir_write(&dir, "token", cases[i].text);
		assert_int_equal(auth_token_load(&a, dir.path, (gid_t)-1, why, sizeof(why)),
				 cases[i].want);
		if (!cases[i].want)
			assert_string_equal(a.token, "my-own-token-of-2026");
	}
	test_dir_remove(&dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_table_of_who_may),
		cmocka_unit_test(a_meshd_without_a_token_lets_nobody_write),
		cmocka_unit_test(the_token_is_made_once_and_kept),
		cmocka_unit_test(a_token_of_ones_own_is_taken_or_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
