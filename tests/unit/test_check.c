/* SPDX-License-Identifier: Apache-2.0 */
/* Health checks against real sockets on loopback: a server of one thread that answers as it is
 * told. */
#include "agent/health/check.h"
#include "lib/addr.h"
#include "lib/clock.h"

#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define DEADLINE_NS 10000000000ULL

static struct loop l;
static struct checks *c;
static uint32_t turns, sockets, most, no_socket;
static bool healthy;
static char why_last[128];
static uint64_t netns_last;
static struct health_config config;

/* --- the server --- */

static struct {
	int fd;
	uint16_t port;
	pthread_t thread;
	const char *answer; /* NULL: says nothing */
	char asked[1024];   /* the last request */
	uint32_t accepted;
	int silent[256]; /* connections that are kept open */
	uint32_t nsilent;
} server = {.fd = -1};

static void *serve(void *arg)
{
	int fd;

	while ((fd = accept4(server.fd, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
		const char *answer = __atomic_load_n(&server.answer, __ATOMIC_ACQUIRE);
		ssize_t n;

		if (!answer && server.nsilent < 256) {
			server.silent[server.nsilent++] = fd;
		} else {
			n = recv(fd, server.asked, sizeof(server.asked) - 1, 0);
			server.asked[n > 0 ? n : 0] = 0;
			if (answer && n > 0)
				n = send(fd, answer, strlen(answer), MSG_NOSIGNAL);
			close(fd);
		}
		__atomic_fetch_add(&server.accepted, 1, __ATOMIC_RELEASE);
	}
	return NULL;
}

static void server_answers(const char *answer)
{
	__atomic_store_n(&server.answer, answer, __ATOMIC_RELEASE);
}

static void server_start(const char *answer)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
				.sin_port = htons(server.port),
				.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);
	int one = 1;

	server.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(server.fd >= 0);
	setsockopt(server.fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	assert_int_equal(bind(server.fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(server.fd, 256), 0);
	assert_int_equal(getsockname(server.fd, (struct sockaddr *)&a, &len), 0);
	server.port = ntohs(a.sin_port);
	server_answers(answer);
	assert_int_equal(pthread_create(&server.thread, NULL, serve, NULL), 0);
}

static void server_stop(void)
{
	if (server.fd < 0)
		return;
	shutdown(server.fd, SHUT_RDWR); /* ends accept() */
	pthread_join(server.thread, NULL);
	close(server.fd);
	server.fd = -1;
	while (server.nsilent)
		close(server.silent[--server.nsilent]);
}

/* --- the checks --- */

static int make_socket(void *arg, uint64_t netns, int family)
{
	struct checks_counts n;

	sockets++;
	netns_last = netns;
	checks_counts(c, &n);
	most = n.running + 1 > most ? n.running + 1 : most;
	if (no_socket)
		return -EMFILE;
	return socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

static void turned(void *arg, uint32_t endpoint, uint32_t gen, bool well, const char *why)
{
	turns++;
	healthy = well;
	snprintf(why_last, sizeof(why_last), "%s", why);
}

static int start(void **state)
{
	const struct checks_ops ops = {.socket = make_socket, .turned = turned};

	turns = sockets = most = no_socket = 0;
	healthy = true;
	server.port = 0;
	server.accepted = 0;
	*why_last = *server.asked = 0;
	memset(&config, 0, sizeof(config));
	config.interval_ms = 50;
	config.timeout_ms = 2000;
	config.unhealthy_after = 3;
	config.healthy_after = 2;
	strcpy(config.path, "/ready?x=1");
	return loop_init(&l) || checks_new(&l, &ops, &c);
}

static int finish(void **state)
{
	checks_free(&c);
	server_stop();
	loop_done(&l);
	return 0;
}

static struct check_target target(uint32_t endpoint, uint8_t type)
{
	struct check_target t = {.endpoint = endpoint,
				 .gen = 3,
				 .port = server.port,
				 .netns = 42,
				 .type = type,
				 .config = &config};

	assert_int_equal(addr_parse_ip("127.0.0.1", t.ip), 0);
	return t;
}

static void check(uint8_t type)
{
	struct check_target t = target(7, type);

	checks_begin(c);
	assert_int_equal(checks_target(c, &t), 0);
	checks_end(c);
}

static uint64_t bad_ones(void)
{
	struct checks_counts n;

	checks_counts(c, &n);
	return n.bad;
}

static uint64_t good_ones(void)
{
	struct checks_counts n;

	checks_counts(c, &n);
	return n.good;
}

#define until(condition)                                                                           \
	do {                                                                                       \
		uint64_t end_ns = clock_mono_ns() + DEADLINE_NS;                                   \
		while (!(condition)) {                                                             \
			assert_true(clock_mono_ns() < end_ns);                                     \
			assert_int_equal(loop_once(&l, 10), 0);                                    \
		}                                                                                  \
	} while (0)

static void http_is_asked_as_configured_and_2xx_and_3xx_are_well(void **state)
{
	server_start("HTTP/1.1 204 No Content\r\n\r\n");
	check(HEALTH_HTTP);
	until(good_ones() == 2);
	assert_int_equal(strncmp(server.asked, "GET /ready?x=1 HTTP/1.0\r\nHost: 127.0.0.1:", 41),
			 0);
	assert_non_null(strstr(server.asked, "\r\n\r\n"));
	server_answers("HTTP/1.0 302 Found\r\nLocation: /\r\n\r\n");
	until(good_ones() == 4);
	assert_int_equal(netns_last, 42);
	assert_int_equal(turns, 0);
	assert_int_equal(bad_ones(), 0);
}

static void three_bad_answers_turn_it_and_two_good_ones_back(void **state)
{
	server_start("HTTP/1.1 503 Service Unavailable\r\n\r\n");
	check(HEALTH_HTTP);
	until(bad_ones() == 2);
	assert_true(healthy);
	until(turns == 1);
	assert_false(healthy);
	assert_int_equal(bad_ones(), 3);
	assert_string_equal(why_last, "status is not 2xx or 3xx");
	server_answers("HTTP/1.1 200 OK\r\n\r\n");
	until(good_ones() == 1);
	assert_false(healthy);
	until(turns == 2);
	assert_true(healthy);
}

static void one_good_answer_in_between_starts_the_count_again(void **state)
{
	server_start("HTTP/1.1 500 x\r\n\r\n");
	check(HEALTH_HTTP);
	until(bad_ones() == 2);
	server_answers("HTTP/1.1 200 OK\r\n\r\n");
	until(good_ones() == 1);
	server_answers("HTTP/1.1 500 x\r\n\r\n");
	until(bad_ones() == 4);
	assert_int_equal(turns, 0);
	until(turns == 1);
	assert_int_equal(bad_ones(), 5);
}

static void what_is_no_http_is_ill(void **state)
{
	static const char *const answers[] = {"SSH-2.0-OpenSSH_9.2\r\n", "\r\n", "HTTP/1.1 abc\r\n",
					      "HTTP/1.1", "HTTP/1.1 999 x\r\n"};
	char *endless = malloc(65536);

	assert_non_null(endless);
	server_start(answers[0]);
	check(HEALTH_HTTP);
	for (size_t i = 0; i < sizeof(answers) / sizeof(*answers); i++) {
		uint64_t bad = bad_ones();

		server_answers(answers[i]);
		until(bad_ones() >= bad + 2);
	}
	memset(endless, 'x', 65535);
	endless[65535] = 0;
	server_answers(endless);
	{
		uint64_t bad = bad_ones();

		until(bad_ones() >= bad + 2);
	}
	assert_int_equal(good_ones(), 0);
	server_stop();
	free(endless);
}

static void who_does_not_answer_in_time_is_ill(void **state)
{
	server_start(NULL);
	config.timeout_ms = 30;
	check(HEALTH_HTTP);
	until(turns == 1);
	assert_string_equal(why_last, "no answer in time");
}

static void tcp_needs_no_more_than_a_connection(void **state)
{
	server_start(NULL);
	check(HEALTH_TCP);
	until(good_ones() == 3);
	server_stop();
	until(turns == 1);
	assert_false(healthy);
	assert_string_equal(why_last, "Connection refused");
	server_start(NULL); /* on the same port */
	until(turns == 2);
	assert_true(healthy);
}

static void what_fails_on_our_side_says_nothing(void **state)
{
	server_start(NULL);
	no_socket = 1;
	check(HEALTH_TCP);
	until(sockets >= 5);
	assert_int_equal(turns, 0);
	assert_int_equal(bad_ones(), 0);
	no_socket = 0;
	until(good_ones() == 1);
}

static void never_more_than_so_many_at_once_and_everybody_in_turn(void **state)
{
	struct checks_counts n;

	server_start(NULL);
	config.timeout_ms = 100;
	checks_begin(c);
	for (uint32_t i = 0; i < 150; i++) {
		struct check_target t = target(i, HEALTH_HTTP);

		assert_int_equal(checks_target(c, &t), 0);
	}
	checks_end(c);
	until(bad_ones() >= 150);
	assert_int_equal(most, CHECKS_AT_ONCE);
	checks_counts(c, &n);
	assert_int_equal(n.targets, 150);
	assert_int_equal(turns, 0); /* nobody three times before all others were once */
	checks_begin(c);
	checks_end(c);
	checks_counts(c, &n);
	assert_int_equal(n.targets + n.running + n.waiting, 0);
}

static void naming_it_again_changes_nothing_and_another_one_begins_anew(void **state)
{
	struct check_target t;

	server_start("HTTP/1.1 503 x\r\n\r\n");
	check(HEALTH_HTTP);
	until(bad_ones() == 2);
	check(HEALTH_HTTP);
	until(turns == 1);
	assert_int_equal(bad_ones(), 3);
	t = target(7, HEALTH_HTTP);
	t.gen = 4; /* the index was given to somebody else: healthy until proven ill */
	checks_begin(c);
	assert_int_equal(checks_target(c, &t), 0);
	checks_end(c);
	until(turns == 2);
	assert_int_equal(bad_ones(), 6);
}

#define story(fn) cmocka_unit_test_setup_teardown(fn, start, finish)

int main(void)
{
	const struct CMUnitTest tests[] = {
		story(http_is_asked_as_configured_and_2xx_and_3xx_are_well),
		story(three_bad_answers_turn_it_and_two_good_ones_back),
		story(one_good_answer_in_between_starts_the_count_again),
		story(what_is_no_http_is_ill),
		story(who_does_not_answer_in_time_is_ill),
		story(tcp_needs_no_more_than_a_connection),
		story(what_fails_on_our_side_says_nothing),
		story(never_more_than_so_many_at_once_and_everybody_in_turn),
		story(naming_it_again_changes_nothing_and_another_one_begins_anew),
	};

	return cmocka_run_group_tests_name("check", tests, NULL, NULL);
}
