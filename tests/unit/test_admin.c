/* SPDX-License-Identifier: Apache-2.0 */
/* /metrics of the agent: made part by part while it is sent, and other work is done in between. */
#include "agent/telemetry/admin.h"
#include "lib/clock.h"

#include <arpa/inet.h>
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

#define PARTS	 400
#define PART_LEN 20000

static struct loop loop;
static struct admin *admin;
static struct sockaddr_in at;
static uint32_t made, begun, ended, fails_at;

static void *begin(void *arg, bool exemplars)
{
	begun++;
	made = 0;
	return &made;
}

static bool part(void *arg, void *text, struct buf *out)
{
	char line[PART_LEN];

	assert_ptr_equal(text, &made);
	memset(line, 'a' + (int)(made % 26), sizeof(line) - 1);
	line[sizeof(line) - 1] = '\n';
	buf_add(out, line, sizeof(line));
	out->failed |= ++made == fails_at;
	return made < PARTS;
}

static void end(void *text)
{
	ended++;
}

static bool ready(void *arg, const char **why)
{
	*why = "not yet";
	return false;
}

static int setup(void **state)
{
	struct admin_ops ops = {
		.metrics_begin = begin, .metrics_part = part, .metrics_end = end, .ready = ready};
	socklen_t len = sizeof(at);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	at = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	made = begun = ended = fails_at = 0;
	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) || listen(fd, 8) ||
	    getsockname(fd, (struct sockaddr *)&at, &len) || loop_init(&loop))
		return -1;
	return admin_new(&loop, fd, &ops, &admin);
}

static int teardown(void **state)
{
	admin_free(&admin);
	loop_done(&loop);
	return 0;
}

#define tale(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

/* --- a client: HTTP/1.0, where an answer ends with its connection --- */

static struct client {
	const char *request;
	char *data;
	size_t len, enough; /* goes away when it has so much */
	bool over;
} client;

static void *ask(void *arg)
{
	struct client *c = arg;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	size_t cap = 2 * PARTS * PART_LEN, len = strlen(c->request);
	ssize_t n = -1;

	if (fd >= 0 && !connect(fd, (struct sockaddr *)&at, sizeof(at)) &&
	    write(fd, c->request, len) == (ssize_t)len)
		while (c->len < c->enough && (n = read(fd, c->data + c->len, cap - c->len)) > 0)
			c->len += (size_t)n;
	close(fd);
	__atomic_store_n(&c->over, true, __ATOMIC_RELEASE);
	return NULL;
}

/* Runs the loop until the client is done. How many turns. */
static uint32_t serve(const char *request, size_t enough)
{
	uint64_t until = clock_mono_ns() + 20000000000ULL;
	uint32_t turns = 0;
	pthread_t t;

	client = (struct client){.request = request, .enough = enough};
	client.data = calloc(2, PARTS * PART_LEN);
	assert_non_null(client.data);
	assert_int_equal(pthread_create(&t, NULL, ask, &client), 0);
	while (!__atomic_load_n(&client.over, __ATOMIC_ACQUIRE) && clock_mono_ns() < until) {
		assert_int_equal(loop_once(&loop, 5), 0);
		turns++;
	}
	assert_int_equal(pthread_join(t, NULL), 0);
	return turns;
}

static const char *body(void)
{
	const char *p = strstr(client.data, "\r\n\r\n");

	assert_non_null(p);
	return p + 4;
}

static void a_large_text_comes_whole_and_others_have_their_turns(void **state)
{
	uint32_t turns = serve("GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n", SIZE_MAX);
	const char *p = body();

	assert_int_equal(client.data + client.len - p, PARTS * PART_LEN);
	for (int i = 0; i < PARTS; i++, p += PART_LEN) {
		assert_int_equal(*p, 'a' + i % 26);
		assert_memory_equal(p, p + 1, PART_LEN - 2);
		assert_int_equal(p[PART_LEN - 1], '\n');
	}
	assert_true(turns > PARTS / 8);
	assert_int_equal(begun, 1);
	assert_int_equal(ended, 1);
	free(client.data);
}

static void who_goes_away_leaves_nothing_behind(void **state)
{
	serve("GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n", 100000);
	free(client.data);
	serve("HEAD /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n", SIZE_MAX);
	assert_int_equal(*body(), 0);
	free(client.data);
	admin_free(&admin);
	assert_int_equal(begun, 2);
	assert_int_equal(ended, 2);
}

/* Who gets less than all must be able to see it: by HTTP/1.1 the last chunk is missing. */
static void a_text_that_fails_has_no_end(void **state)
{
	fails_at = 50;
	serve("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", SIZE_MAX);
	assert_non_null(strstr(client.data, "chunked"));
	assert_true(client.len < 5 || memcmp(client.data + client.len - 5, "0\r\n\r\n", 5) != 0);
	assert_int_equal(ended, 1);
	free(client.data);
}

static void who_is_not_ready_says_why(void **state)
{
	serve("GET /readyz HTTP/1.0\r\nHost: localhost\r\n\r\n", SIZE_MAX);
	assert_non_null(strstr(client.data, " 503 "));
	assert_string_equal(body(), "not yet\n");
	free(client.data);
	serve("GET /healthz HTTP/1.0\r\nHost: a.page\r\n\r\n", SIZE_MAX);
	assert_non_null(strstr(client.data, " 403 "));
	free(client.data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		tale(a_large_text_comes_whole_and_others_have_their_turns),
		tale(who_goes_away_leaves_nothing_behind),
		tale(a_text_that_fails_has_no_end),
		tale(who_is_not_ready_says_why),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
