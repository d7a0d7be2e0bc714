/* SPDX-License-Identifier: Apache-2.0 */
/* The token's file lies in a directory that is somebody else's: what may stand there, and what is
 * not even looked at. */
#include "lib/token.h"
#include "tests/unit/meshd_dir.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <sys/stat.h>

#include <cmocka.h>

#define TOKEN "my-own-token-of-2026"

static struct test_dir dir;
static char file[128], other[128];

static int setup(void **state)
{
	test_dir_make(&dir);
	snprintf(file, sizeof(file), "%s/token", dir.path);
	snprintf(other, sizeof(other), "%s/other", dir.path);
	return 0;
}

static int teardown(void **state)
{
	test_dir_remove(&dir);
	return 0;
}

static void assert_read(int want)
{
	char out[TOKEN_MAX + 1] = "as before";

	assert_int_equal(token_read(file, out), want);
	assert_string_equal(out, want ? "" : TOKEN);
	if (want)
		assert_true(*token_error(want));
}

static void one_line_of_visible_characters_is_a_token(void **state)
{
	static const struct {
		const char *text;
		int want;
	} cases[] = {
		{TOKEN, 0},
		{TOKEN "\n", 0},
		{TOKEN "\r\n", 0},
		{"", -EINVAL},
		{"\n", -EINVAL},
		{"tooshort\n", -EINVAL},
		{"\n" TOKEN, -EINVAL},
		{TOKEN " \n", -EINVAL},
		{TOKEN "\nmore\n", -EINVAL},
		{TOKEN "\x01", -EINVAL},
		{TOKEN "\xc3\xa4", -EINVAL},
	};

	assert_read(-ENOENT);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		test_dir_write(&dir, "token", cases[i].text);
		assert_read(cases[i].want);
	}
}

static void a_token_has_a_longest_form_and_nothing_behind_it(void **state)
{
	char text[4096], out[TOKEN_MAX + 1];
	int fd;

	memset(text, 'x', sizeof(text));
	text[TOKEN_MAX] = '\0';
	test_dir_write(&dir, "token", text);
	assert_int_equal(token_read(file, out), 0);
	assert_string_equal(out, text);
	text[TOKEN_MAX] = 'x';
	text[TOKEN_MAX + 1] = '\0';
	test_dir_write(&dir, "token", text);
	assert_read(-EINVAL);
	text[TOKEN_MAX + 1] = 'x';
	text[sizeof(text) - 1] = '\0';
	test_dir_write(&dir, "token", text);
	assert_read(-EINVAL);

	fd = open(file, O_WRONLY | O_TRUNC | O_CLOEXEC);
	assert_int_equal(write(fd, TOKEN "\0hidden", sizeof(TOKEN "\0hidden")),
			 sizeof(TOKEN "\0hidden"));
	close(fd);
	assert_read(-EINVAL);
}

/* Each would have root read, or wait for, what the owner of the directory chose. */
static void only_a_file_of_its_own_is_read(void **state)
{
	test_dir_write(&dir, "other", TOKEN "\n");
	assert_int_equal(symlink(other, file), 0);
	assert_read(-ELOOP);
	unlink(file);
	assert_int_equal(link(other, file), 0);
	assert_read(-ELOOP);
	unlink(file);
	assert_int_equal(mkfifo(file, 0600), 0);
	assert_read(-ELOOP);
	unlink(file);
	assert_int_equal(mkdir(file, 0700), 0);
	assert_read(-ELOOP);
	rmdir(file);
	assert_int_equal(rename(other, file), 0);
	assert_read(0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(one_line_of_visible_characters_is_a_token),
		T(a_token_has_a_longest_form_and_nothing_behind_it),
		T(only_a_file_of_its_own_is_read),
	};

	return cmocka_run_group_tests_name("token", tests, NULL, NULL);
}
