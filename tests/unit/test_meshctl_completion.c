/* SPDX-License-Identifier: Apache-2.0 */
/* meshctl completion: the script for bash, in a real bash, with a table of commands of its own and
 * a meshctl that only names things. */
#include "ctl/meshctl/meshctl.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static const struct option_spec drain_flags[] = {
	{"undo", 0, NULL, NULL, "undo", NULL, NULL},
	{"for", 'F', "TIME", NULL, "how long; it isn't much", NULL, NULL},
	{0},
};
static const struct command table[] = {
	{"get", "", "list things", NULL, "services endpoints,@services", 1, 2, NULL, NULL, false},
	{"drain", "", "it's a summary", NULL, "@services,@endpoints", 2, 2, NULL, drain_flags,
	 false},
	{"draw", "", "to be drawn", NULL, NULL, 0, 0, NULL, NULL, false, "dot svg"},
	{"__secret", "", "", NULL, "hidden", 0, 0, NULL, NULL, true},
	{0},
};

static char script[] = "/tmp/meshctl-completion-XXXXXX";

/* What cmd_completion() prints goes to the file. */
static void write_script(const char *shell)
{
	char *argv[] = {(char *)shell, NULL};
	struct cli cli = {.command = table, .commands = table, .argc = 1, .argv = argv};
	int out = dup(STDOUT_FILENO), fd;

	fflush(stdout);
	assert_non_null(freopen(script, "w", stdout));
	assert_int_equal(cmd_completion(&cli), EXIT_OK);
	fflush(stdout);
	fd = dup2(out, STDOUT_FILENO);
	assert_int_equal(fd, STDOUT_FILENO);
	close(out);
}

static int make_script(void **state)
{
	int fd = mkstemp(script);

	return fd < 0 ? -1 : close(fd);
}

static int remove_script(void **state)
{
	return unlink(script);
}

/* What is offered for the last of these words, which is being typed. */
static void offers(const char *words, const char *expected)
{
	static const char run[] = "bash --norc -c '"
				  "meshctl() { case \"$*\" in "
				  "\"get services -o name\") printf \"api\\nweb\\n\" ;; "
				  "\"get endpoints web -o name\") printf \"web-1\\nweb-2\\n\" ;; "
				  "esac; }; "
				  "source %s; COMP_WORDS=(meshctl %s); "
				  "COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _meshctl; "
				  "echo \"${COMPREPLY[*]}\"'";
	char line[1024], got[1024] = "";
	FILE *p;

	snprintf(line, sizeof(line), run, script, words);
	p = popen(line, "r");
	assert_non_null(p);
	if (!fgets(got, sizeof(got), p))
		got[0] = '\0';
	got[strcspn(got, "\n")] = '\0';
	assert_int_equal(pclose(p), 0);
	if (strcmp(got, expected))
		fail_msg("meshctl %s: '%s', not '%s'", words, got, expected);
}

static void every_place_has_its_own_words(void **state)
{
	write_script("bash");
	offers("\"\"", "get drain draw");
	offers("drai", "drain");
	offers("get \"\"", "services endpoints");
	offers("get services \"\"", "api web");
	offers("get services api \"\"", "");
	offers("drain \"\"", "api web");
	offers("drain w", "web");
	offers("drain web \"\"", "web-1 web-2");
	offers("drain api \"\"", "");
	offers("__secret \"\"", "");
}

static void flags_and_their_values_take_no_place(void **state)
{
	write_script("bash");
	offers("-o json drain web \"\"", "web-1 web-2");
	offers("drain --undo web \"\"", "web-1 web-2");
	offers("drain --for 5s web \"\"", "web-1 web-2");
	offers("drain -F 5s web \"\"", "web-1 web-2");
	offers("drain --for = 5s web \"\"", "web-1 web-2"); /* as bash cuts --for=5s */
	offers("drain --u", "--undo");
	offers("drain web --f", "--for");
	offers("drain -o \"\"", "table wide json name");
	offers("drain -- \"\"", "");
	offers("draw -o \"\"", "dot svg");
}

static void the_others_name_every_command(void **state)
{
	static const char *const shells[] = {"zsh", "fish"};
	char text[16384];

	for (int i = 0; i < 2; i++) {
		FILE *f;

		write_script(shells[i]);
		f = fopen(script, "r");
		assert_non_null(f);
		text[fread(text, 1, sizeof(text) - 1, f)] = '\0';
		fclose(f);
		assert_non_null(strstr(text, "drain"));
		assert_non_null(strstr(text, "get endpoints"));
		assert_non_null(strstr(text, "undo"));
		assert_null(strstr(text, "__secret"));
	}
	assert_non_null(strstr(text, "-d 'it\\'s a summary'"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_place_has_its_own_words),
		cmocka_unit_test(flags_and_their_values_take_no_place),
		cmocka_unit_test(the_others_name_every_command),
	};

	return cmocka_run_group_tests_name("meshctl completion", tests, make_script, remove_script);
}
