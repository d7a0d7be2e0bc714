/* SPDX-License-Identifier: Apache-2.0 */
/* What the agent makes of a meshd that refuses it: the log carries meshd's own reason, and a
 * token's file that is none stops nobody. meshd is a child process that answers every request
 * alike. */
#include "agent/control/session.h"

#include "lib/clock.h"
#include "lib/log.h"
#include "tests/unit/meshd_dir.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

struct rig {
	struct test_dir dir;
	struct loop loop;
	struct session *session;
	pid_t meshd;
	int stderr_before, log; /* our stderr, as a file */
	char control[64], token_file[128];
};

static void serve(int listener, const char *answer)
{
	char request[65536];

	for (;;) {
		int fd = accept(listener, NULL, NULL);

		if (fd < 0)
			_exit(1);
		if (recv(fd, request, sizeof(request), 0) > 0)
			(void)!write(fd, answer, strlen(answer));
		shutdown(fd, SHUT_WR);
		while (recv(fd, request, sizeof(request), 0) > 0)
			;
		close(fd);
	}
}

static void meshd_start(struct rig *r, const char *answer)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(in);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&in, len), 0);
	assert_int_equal(listen(fd, 16), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &len), 0);
	snprintf(r->control, sizeof(r->control), "http://127.0.0.1:%d", ntohs(in.sin_port));
	r->meshd = fork();
	assert_true(r->meshd >= 0);
	if (!r->meshd)
		serve(fd, answer);
	close(fd);
}

static void configure(void *arg, const struct configuration *c)
{
}

static char *state_text(void *arg)
{
	return strdup("{\"endpoints\":[]}");
}

/* A session with a meshd that answers so; log lines are kept from here on. */
static void rig_start(struct rig *r, const char *answer)
{
	const struct session_ops ops = {.configure = configure, .state = state_text};
	struct session_config config = {.node = "n1"};

	test_dir_make(&r->dir);
	meshd_start(r, answer);
	snprintf(r->token_file, sizeof(r->token_file), "%s/token", r->dir.path);
	assert_int_equal(mkfifo(r->token_file, 0600), 0); /* whoever waits for it waits for ever */
	r->log = memfd_create("log", MFD_CLOEXEC);
	r->stderr_before = dup(STDERR_FILENO);
	assert_int_equal(dup2(r->log, STDERR_FILENO), STDERR_FILENO);
	log_init("mesh-agent", false, LOG_LEVEL_INFO);
	assert_int_equal(loop_init(&r->loop), 0);
	config.control = r->control;
	config.run_dir = r->dir.path;
	config.token_file = r->token_file;
	assert_int_equal(session_new(&r->loop, &config, &ops, &r->session), 0);
}

static void rig_stop(struct rig *r)
{
	session_free(&r->session);
	loop_done(&r->loop);
	kill(r->meshd, SIGKILL);
	waitpid(r->meshd, NULL, 0);
	close(r->log);
	test_dir_remove(&r->dir);
}

/* Runs until `last` is in the log; all of the log into text. */
static void run_until_said(struct rig *r, const char *last, char *text, size_t cap)
{
	uint64_t deadline = clock_mono_ns() + 10000000000ULL;
	ssize_t n;

	do {
		assert_int_equal(loop_once(&r->loop, 10), 0);
		n = pread(r->log, text, cap - 1, 0);
		text[n > 0 ? n : 0] = '\0';
	} while (!strstr(text, last) && clock_mono_ns() < deadline);
	dup2(r->stderr_before, STDERR_FILENO);
	close(r->stderr_before);
	if (!strstr(text, last))
		fail_msg("'%s' is not in '%s'", last, text);
}

#define ANSWER(status, body) "HTTP/1.1 " status "\r\nConnection: close\r\n\r\n" body

static void the_log_says_what_meshd_says(void **state)
{
	static const struct {
		const char *answer, *said;
		bool token; /* is it about the token? */
	} cases[] = {
		{ANSWER("403 Forbidden", "{\"error\":\"this Host is not served\"}"),
		 "answers 403 to our state: this Host is not served\n", false},
		{ANSWER("401 Unauthorized", "{\"error\":\"a write needs the token\"}"),
		 "answers 401 to our state: a write needs the token; is --token-file right?\n",
		 true},
		{ANSWER("400 Bad Request", "{\"error\":\"a\\u001b[2J\\nb\"}"),
		 "answers 400 to our state: a\\x1b[2J\\x0ab\n", false},
		{ANSWER("404 Not Found", "<html>"),
		 "answers 404 to our state: without a reason; is it a meshd?\n", false},
		{ANSWER("404 Not Found", ""),
		 "answers 404 to our state: without a reason; is it a meshd?\n", false},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct rig r = {0};
		char text[16384];

		rig_start(&r, cases[i].answer);
		run_until_said(&r, cases[i].said, text, sizeof(text));
		assert_int_equal(strstr(text, "is --token-file right?") != NULL, cases[i].token);
		assert_non_null(strstr(text, "cannot use the token file"));
		rig_stop(&r);
	}
}

static void a_long_reason_is_cut(void **state)
{
	char answer[8192] = ANSWER("400 Bad Request", "{\"error\":\""), text[16384];
	size_t len = strlen(answer);
	struct rig r = {0};

	memset(answer + len, 'x', 4000);
	strcpy(answer + len + 4000, "\"}");
	rig_start(&r, answer);
	run_until_said(&r, "to our state: xxx", text, sizeof(text));
	assert_null(strstr(text, "state: without"));
	assert_in_range(strspn(strstr(text, "xxx"), "x"), 100, 300);
	rig_stop(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_log_says_what_meshd_says),
		cmocka_unit_test(a_long_reason_is_cut),
	};

	return cmocka_run_group_tests_name("session", tests, NULL, NULL);
}
