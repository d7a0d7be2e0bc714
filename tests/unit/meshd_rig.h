/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole daemon in a child process, asked over its unix socket and over TCP as meshctl and
 * agents do. Header only, for tests of meshd that need it running.
 */
#ifndef TESTS_MESHD_RIG_H
#define TESTS_MESHD_RIG_H

#include "ctl/meshd/meshd.h"
#include "ctl/meshd/startup.h"
#include "lib/clock.h"
#include "lib/http.h"
#include "lib/json.h"
#include "tests/unit/meshd_dir.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/wait.h>
/* after the types that it needs */
#include <cmocka.h>

static struct test_dir dir, files;
static char local[128], tcp[64];
static int port, lifeline = -1; /* closing it ends the daemon */
static pid_t daemon_pid;
static bool rig_strips;		  /* it runs with --trace-query strip */
static struct http_answer answer; /* the last one */

struct lifeline {
	struct watch watch; /* the first member */
	bool ready;
};

static inline void on_lifeline(struct watch *w, uint32_t events)
{
	((struct lifeline *)w)->ready = true;
}

/* As main.c does, but for flags and signals: a byte on the line is SIGHUP, its end is SIGTERM. */
static inline void daemon_run(int line, int tcp_fd)
{
	struct identity nobody_else = {0};
	struct meshd_options o = {.config_dir = files.path,
				  .state_dir = dir.path,
				  .tcp_fd = tcp_fd,
				  .strip_queries = rig_strips};
	struct lifeline life = {0};
	char why[256], byte;
	struct loop loop;
	struct meshd *m;

	if (auth_token_load(&o.auth, dir.path, (gid_t)-1, why, sizeof(why)) || loop_init(&loop) ||
	    store_open(dir.path, &o.store, why, sizeof(why)) ||
	    (o.unix_fd = startup_unix(local + 5, &nobody_else, why, sizeof(why))) < 0 ||
	    meshd_new(&loop, &o, &m, why, sizeof(why)) ||
	    loop_add(&loop, &life.watch, line, EPOLLIN, on_lifeline))
		_exit(1);
	for (;;) {
		if (loop_once(&loop, -1))
			_exit(1);
		if (!life.ready)
			continue;
		life.ready = false;
		if (read(line, &byte, 1) != 1)
			break;
		meshd_reload(m);
	}
	loop_del(&loop, &life.watch);
	meshd_free(&m);
	loop_done(&loop);
	close(line);
	exit(0); /* with the leak check */
}

static inline int listen_anywhere(void)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(in);

	assert_int_equal(bind(fd, (struct sockaddr *)&in, len), 0);
	assert_int_equal(listen(fd, 64), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &len), 0);
	port = ntohs(in.sin_port);
	return fd;
}

static inline int call_full(const struct http_call *c)
{
	http_answer_done(&answer);
	http_call(c, &answer);
	return answer.error ? answer.error : answer.status;
}

/* The status of a call over the unix socket. Single quotes in the body stand for double ones. */
static inline int call(const char *method, const char *path, const char *body)
{
	char text[4096] = "";
	struct http_call c = {.method = method, .base = local, .path = path, .timeout_ms = 5000};

	if (body) {
		snprintf(text, sizeof(text), "%s", body);
		for (char *p = text; *p; p++)
			if (*p == '\'')
				*p = '"';
		c.body = text;
		c.body_len = strlen(text);
	}
	return call_full(&c);
}

static inline void daemon_start(void)
{
	int ends[2], tcp_fd = listen_anywhere();
	uint64_t deadline = clock_mono_ns() + 10000000000ULL;

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	daemon_pid = fork();
	if (!daemon_pid) {
		close(ends[1]);
		daemon_run(ends[0], tcp_fd);
	}
	close(ends[0]);
	close(tcp_fd);
	lifeline = ends[1];
	snprintf(tcp, sizeof(tcp), "http://127.0.0.1:%d", port);
	while (call("GET", "/health", NULL) != 200)
		if (clock_mono_ns() > deadline)
			fail_msg("the daemon does not start");
}

static inline void daemon_stop(void)
{
	int status;

	close(lifeline);
	assert_int_equal(waitpid(daemon_pid, &status, 0), daemon_pid);
	assert_int_equal(status, 0);
}

static inline int setup(void **state)
{
	test_dir_make(&dir);
	test_dir_make(&files);
	snprintf(local, sizeof(local), "unix:%s/sock", dir.path);
	daemon_start();
	return 0;
}

static inline int teardown(void **state)
{
	daemon_stop();
	http_answer_done(&answer);
	test_dir_remove(&files);
	test_dir_remove(&dir);
	return 0;
}

static inline void assert_body(const char *part)
{
	char text[1024];

	snprintf(text, sizeof(text), "%s", part);
	for (char *p = text; *p; p++)
		if (*p == '\'')
			*p = '"';
	if (!strstr(answer.body ? answer.body : "", text))
		fail_msg("'%s' is not in '%s'", text, answer.body ? answer.body : "");
}

static inline uint64_t revision(void)
{
	uint64_t n;
	cJSON *v;

	assert_int_equal(call("GET", "/health", NULL), 200);
	v = json_parse(answer.body, answer.len, NULL);
	n = (uint64_t)json_num(v, "revision", 0);
	cJSON_Delete(v);
	return n;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

#endif
