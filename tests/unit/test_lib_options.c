/* SPDX-License-Identifier: Apache-2.0 */
/* lib/options: flags, environment, defaults, words; usage errors end the process with 2 and one
 * line that names the flag. */
#include "lib/options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define ARGV(...) ((char *[]){"prog", __VA_ARGS__, NULL})

static const char *listen_at, *out_form;
static bool quiet;

static const struct option_spec specs[] = {
	{"listen", 0, "ADDR:PORT", "127.0.0.1:1", "where to listen", &listen_at, NULL},
	{"output-form", 'o', "FORM", NULL, "how to print", &out_form, NULL},
	{"quiet", 'q', NULL, NULL, "say less", NULL, &quiet},
	{0},
};

static const struct program program = {"prog", "[FLAGS] WORDS", "Does things.", specs};
static const struct program *under_test = &program;

static int count(char **argv)
{
	int n = 0;

	while (argv[n])
		n++;
	return n;
}

static int setup(void **state)
{
	unsetenv("MESH_LISTEN");
	unsetenv("MESH_OUTPUT_FORM");
	unsetenv("MESH_QUIET");
	return 0;
}

static void defaults_without_flags(void **state)
{
	assert_int_equal(options_parse(&program, 1, (char *[]){"prog", NULL}), 1);
	assert_string_equal(listen_at, "127.0.0.1:1");
	assert_null(out_form);
	assert_false(quiet);
}

static void flag_beats_environment_beats_default(void **state)
{
	char **argv = ARGV("--listen", "from-flag");

	setenv("MESH_LISTEN", "from-env", 1);
	setenv("MESH_OUTPUT_FORM", "", 1); /* empty is unset */
	setenv("MESH_QUIET", "true", 1);
	assert_int_equal(options_parse(&program, 1, argv), 1);
	assert_string_equal(listen_at, "from-env");
	assert_null(out_form);
	assert_true(quiet);
	assert_int_equal(options_parse(&program, 3, argv), 3);
	assert_string_equal(listen_at, "from-flag");
}

static void every_form_of_a_flag(void **state)
{
	assert_int_equal(options_parse(&program, 4, ARGV("--listen=a=b", "-q", "-ojson")), 4);
	assert_string_equal(listen_at, "a=b");
	assert_string_equal(out_form, "json");
	assert_true(quiet);
	assert_int_equal(options_parse(&program, 4, ARGV("-o", "-", "word")), 3);
	assert_string_equal(out_form, "-");
	assert_int_equal(options_parse(&program, 2, ARGV("--output-form=")), 2);
	assert_string_equal(out_form, "");
}

static void parsing_stops_at_the_first_word(void **state)
{
	assert_int_equal(options_parse(&program, 4, ARGV("-q", "run", "--unknown")), 2);
	assert_int_equal(options_parse(&program, 4, ARGV("-q", "--", "--unknown")), 3);
	assert_int_equal(options_parse(&program, 2, ARGV("-")), 1);
}

static void mixed_words_move_to_the_front(void **state)
{
	char **argv = ARGV("set", "-q", "svc", "--listen", "x", "v1=90", "--", "-q", "--listen");

	assert_int_equal(options_parse_mixed(&program, count(argv), argv), 5);
	assert_string_equal(argv[1], "set");
	assert_string_equal(argv[2], "svc");
	assert_string_equal(argv[3], "v1=90");
	assert_string_equal(argv[4], "-q");
	assert_string_equal(argv[5], "--listen");
	assert_string_equal(listen_at, "x");
	assert_true(quiet);
}

/* Exit status of a parse in a child; what it wrote on fd into out. */
static int parse_in_child(char **argv, int fd, char *out, size_t cap)
{
	int fds[2], status;
	size_t len = 0;
	ssize_t n;
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		if (dup2(fds[1], fd) < 0)
			_exit(99);
		options_parse_mixed(under_test, count(argv), argv);
		_exit(98);
	}
	close(fds[1]);
	while (len < cap - 1 && (n = read(fds[0], out + len, cap - 1 - len)) > 0)
		len += (size_t)n;
	out[len] = 0;
	close(fds[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void usage_errors_exit_2_and_name_the_flag(void **state)
{
	static char *const bad[] = {"--nope", "--listen", "--quiet=1", "-x", "--list", "---"};
	char text[512];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(parse_in_child(ARGV(bad[i]), STDERR_FILENO, text, sizeof(text)),
				 EXIT_USAGE);
		assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
		assert_non_null(strstr(text, "--help"));
		assert_memory_equal(text, "prog: ", 6);
	}
	assert_int_equal(parse_in_child(ARGV("--nope"), STDERR_FILENO, text, sizeof(text)),
			 EXIT_USAGE);
	assert_non_null(strstr(text, "--nope"));
	setenv("MESH_QUIET", "maybe", 1);
	assert_int_equal(parse_in_child(ARGV("word"), STDERR_FILENO, text, sizeof(text)),
			 EXIT_USAGE);
}

static void help_and_version_go_to_stdout(void **state)
{
	char text[4096];

	assert_int_equal(parse_in_child(ARGV("--help"), STDOUT_FILENO, text, sizeof(text)),
			 EXIT_OK);
	assert_non_null(strstr(text, "Usage: prog [FLAGS] WORDS"));
	assert_non_null(strstr(text, "--listen ADDR:PORT"));
	assert_non_null(strstr(text, "(127.0.0.1:1)"));
	assert_non_null(strstr(text, "-o, --output-form FORM"));
	assert_int_equal(parse_in_child(ARGV("--version"), STDOUT_FILENO, text, sizeof(text)),
			 EXIT_OK);
	assert_string_equal(text, "prog " MESH_VERSION "\n");
}

static void a_flag_of_the_table_hides_the_built_in_one(void **state)
{
	static const char *name;
	static const struct option_spec own[] = {
		{"version", 0, "NAME", NULL, "of what is run", &name, NULL},
		{0},
	};
	static const struct program runs = {"prog run", "[FLAGS]", "Runs things.", own};
	char text[4096];

	under_test = &runs;
	assert_int_equal(parse_in_child(ARGV("--help"), STDOUT_FILENO, text, sizeof(text)),
			 EXIT_OK);
	under_test = &program;
	assert_non_null(strstr(text, "      --version NAME  of what is run\n"));
	assert_null(strstr(text, "--version  "));
	assert_non_null(strstr(text, "  -h, --help          this help\n"));
	assert_int_equal(options_parse(&runs, 2, ARGV("--version=v2")), 2);
	assert_string_equal(name, "v2");
}

#define TEST(f) cmocka_unit_test_setup(f, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(defaults_without_flags),
		TEST(flag_beats_environment_beats_default),
		TEST(every_form_of_a_flag),
		TEST(parsing_stops_at_the_first_word),
		TEST(mixed_words_move_to_the_front),
		TEST(usage_errors_exit_2_and_name_the_flag),
		TEST(help_and_version_go_to_stdout),
		TEST(a_flag_of_the_table_hides_the_built_in_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
