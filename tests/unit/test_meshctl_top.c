/* SPDX-License-Identifier: Apache-2.0 */
/* meshctl top: what is drawn, whatever the size of the terminal. */
#include "ctl/meshctl/screen.h"
#include "ctl/meshctl/telemetry.h"
#include "ctl/meshctl/top_view.h"
#include "lib/json.h"

#include <poll.h>
#include <pty.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <cmocka.h>

static const char graph[] = "{\"nodes\":[{\"name\":\"gateway\",\"kind\":\"gateway\",\"rate\":99},"
			    "{\"name\":\"cron\",\"kind\":\"caller\",\"rate\":9},"
			    "{\"name\":\"api\",\"kind\":\"service\",\"status\":\"healthy\","
			    "\"endpoints\":2,\"healthy\":2,"
			    "\"breaker\":\"closed\",\"requests\":100,\"errors\":5,\"rate\":10,"
			    "\"errorRate\":0.05,\"p50\":1,"
			    "\"p95\":2,\"p99\":3},"
			    "{\"name\":\"db\",\"kind\":\"service\",\"requests\":300,\"errors\":0,"
			    "\"rate\":30,\"errorRate\":0,"
			    "\"p50\":5,\"p95\":6,\"p99\":7},"
			    "{\"name\":\"idle\",\"kind\":\"service\",\"requests\":0,\"errors\":0,"
			    "\"rate\":0,\"errorRate\":0,"
			    "\"p50\":0,\"p95\":0,\"p99\":0}]}";

static cJSON *services(void)
{
	cJSON *g = json_parse(graph, strlen(graph), NULL), *s;

	assert_non_null(g);
	s = telemetry_services(g);
	cJSON_Delete(g);
	assert_non_null(s);
	return s;
}

/* The names in the order of the rows, by blanks. */
static void expect_order(struct top_view v, const char *names, unsigned hidden)
{
	cJSON *s = services();
	char *text = NULL, got[128] = "", *line;
	size_t len = 0;
	unsigned left;
	FILE *f = open_memstream(&text, &len);

	assert_non_null(f);
	assert_int_equal(top_print(s, &v, f, &left), 0);
	fclose(f);
	assert_int_equal(left, hidden);
	line = strchr(text, '\n') + 1;
	for (char *end; (end = strchr(line, '\n')); line = end + 1) {
		size_t at = strlen(got);

		snprintf(got + at, sizeof(got) - at, "%s%.*s", at ? " " : "",
			 (int)strcspn(line, " "), line);
	}
	assert_string_equal(got, names);
	free(text);
	cJSON_Delete(s);
}

static void services_are_sorted_by_a_key(void **state)
{
	expect_order((struct top_view){.sort = 'n'}, "api db idle", 0);
	expect_order((struct top_view){.sort = 'n', .reverse = true}, "idle db api", 0);
	expect_order((struct top_view){.sort = 'r'}, "db api idle", 0);
	expect_order((struct top_view){.sort = 'r', .reverse = true}, "idle api db", 0);
	expect_order((struct top_view){.sort = 'e'}, "api db idle", 0);
	expect_order((struct top_view){.sort = '9'}, "db api idle", 0);
}

static void what_does_not_fit_is_scrolled(void **state)
{
	expect_order((struct top_view){.sort = 'n', .rows = 2}, "api db", 1);
	expect_order((struct top_view){.sort = 'n', .rows = 2, .first = 1}, "db idle", 0);
	expect_order((struct top_view){.sort = 'n', .rows = 1, .first = 99}, "idle", 0);
	expect_order((struct top_view){.sort = 'n', .rows = 50, .first = 99}, "api db idle", 0);
}

static void all_together_is_said(void **state)
{
	char text[96];
	cJSON *s = services();

	assert_string_equal(top_total(s, text), "3 services, 40.0/s, 1.2% errors");
	cJSON_Delete(s);
	assert_string_equal(top_total(NULL, text), "0 services, 0/s, 0% errors");
}

static void expect_screen(const char *text, unsigned columns, unsigned rows, const char *expected)
{
	char *out = screen_text(text, columns, rows);

	assert_string_equal(out, expected);
	free(out);
}

static void a_screen_is_cut_where_it_ends(void **state)
{
	expect_screen("abcdef\nx\nz\n", 4, 2, "\033[Habcd\033[0m\033[K\r\nx\033[0m\033[K\033[J");
	expect_screen("\033[31mab\033[0mcd\n", 3, 5, "\033[H\033[31mab\033[0mc\033[0m\033[K\033[J");
	expect_screen("\xc3\xa4\xc3\xb6x\n", 2, 5, "\033[H\xc3\xa4\xc3\xb6\033[0m\033[K\033[J");
	expect_screen("", 80, 24, "\033[H\033[J");
	expect_screen("a", 0, 1, "\033[H\033[0m\033[K\033[J");
}

/* A program on a terminal of its own that shows "hello" until q is pressed. */
struct terminal {
	pid_t pid;
	int fd;
	char text[4096];
	size_t len;
};

static void terminal_start(struct terminal *t)
{
	struct winsize size = {.ws_col = 80, .ws_row = 24};
	int key;

	*t = (struct terminal){0};
	t->pid = forkpty(&t->fd, NULL, NULL, &size);
	assert_true(t->pid >= 0);
	if (t->pid)
		return;
	setenv("TERM", "xterm", 1);
	if (screen_open())
		_exit(9);
	do {
		screen_draw("hello\n");
		key = screen_wait(10000);
	} while (key != 'q' && key != SCREEN_END);
	screen_close();
	_exit(7);
}

/* Reads until it has said that; false: it did not for 5 s, or ended before. */
static bool terminal_says(struct terminal *t, const char *text)
{
	struct pollfd p = {.fd = t->fd, .events = POLLIN};

	while (!strstr(t->text, text)) {
		ssize_t n = poll(&p, 1, 5000) > 0
				    ? read(t->fd, t->text + t->len, sizeof(t->text) - 1 - t->len)
				    : -1;

		if (n <= 0)
			return false;
		t->len += (size_t)n;
		t->text[t->len] = '\0';
	}
	return true;
}

static bool terminal_waits_for_lines(const struct terminal *t)
{
	struct termios now;

	assert_int_equal(tcgetattr(t->fd, &now), 0);
	return now.c_lflag & ICANON && now.c_lflag & ECHO;
}

/* How it ended; the terminal must be as it was. */
static int terminal_end(struct terminal *t)
{
	int status;

	assert_true(terminal_says(t, "\033[?25h\033[?1049l"));
	assert_int_equal(waitpid(t->pid, &status, 0), t->pid);
	assert_true(terminal_waits_for_lines(t));
	close(t->fd);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void a_key_ends_it_and_the_terminal_is_as_before(void **state)
{
	struct terminal t;

	terminal_start(&t);
	assert_true(terminal_says(&t, "hello"));
	assert_memory_equal(t.text, "\033[?1049h", 8);
	assert_false(terminal_waits_for_lines(&t));
	assert_int_equal(write(t.fd, "q", 1), 1);
	assert_int_equal(terminal_end(&t), 7);
}

static void a_signal_ends_it_and_the_terminal_is_as_before(void **state)
{
	struct terminal t;

	terminal_start(&t);
	assert_true(terminal_says(&t, "hello"));
	assert_int_equal(write(t.fd, "\003", 1), 1); /* Ctrl-C */
	assert_int_equal(terminal_end(&t), 0);
	terminal_start(&t);
	assert_true(terminal_says(&t, "hello"));
	assert_int_equal(kill(t.pid, SIGTERM), 0);
	assert_int_equal(terminal_end(&t), 128 + SIGTERM);
}

static void ctrl_z_gives_the_terminal_back_for_a_while(void **state)
{
	struct terminal t;
	int status;

	terminal_start(&t);
	assert_true(terminal_says(&t, "hello"));
	assert_int_equal(kill(t.pid, SIGTSTP), 0);
	assert_int_equal(waitpid(t.pid, &status, WUNTRACED), t.pid);
	assert_true(WIFSTOPPED(status));
	assert_true(terminal_waits_for_lines(&t));
	assert_int_equal(kill(t.pid, SIGCONT), 0);
	t.len = 0;
	t.text[0] = '\0';
	assert_true(terminal_says(&t, "hello"));
	assert_int_equal(write(t.fd, "q", 1), 1);
	assert_int_equal(terminal_end(&t), 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(services_are_sorted_by_a_key),
		cmocka_unit_test(what_does_not_fit_is_scrolled),
		cmocka_unit_test(all_together_is_said),
		cmocka_unit_test(a_screen_is_cut_where_it_ends),
		cmocka_unit_test(a_key_ends_it_and_the_terminal_is_as_before),
		cmocka_unit_test(a_signal_ends_it_and_the_terminal_is_as_before),
		cmocka_unit_test(ctrl_z_gives_the_terminal_back_for_a_while),
	};

	return cmocka_run_group_tests_name("meshctl top", tests, NULL, NULL);
}
