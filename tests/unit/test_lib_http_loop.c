/* SPDX-License-Identifier: Apache-2.0 */
/* lib/http on a loop: calls answer from it, time out and are cancelled. */
#include "lib/http.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
/* after the types that it needs */
#include "tests/unit/http_server.h"

struct outcome {
	struct http_client **client;
	const struct server *again; /* start one more call from the callback */
	int calls, error, status;
	bool free_client;
};

static void on_answer(const struct http_answer *a, void *arg)
{
	struct outcome *o = arg;
	struct http_call c = {.method = "GET", .path = "/again"};

	o->calls++;
	o->error = a->error;
	o->status = a->status;
	if (!a->error)
		assert_non_null(a->body);
	if (o->again) {
		c.base = o->again->base;
		o->again = NULL;
		assert_int_equal(http_client_start(*o->client, &c, on_answer, o), 0);
	}
	if (o->free_client)
		http_client_free(o->client);
}

static void run_until(struct loop *l, const int *calls, int wanted)
{
	for (int i = 0; i < 500 && *calls < wanted; i++)
		assert_int_equal(loop_once(l, 20), 0);
	assert_int_equal(*calls, wanted);
}

static void async_calls_answer_from_the_loop(void **state)
{
	struct http_client *hc;
	struct outcome o[3] = {0};
	struct server good, local;
	struct http_call c = {.method = "GET", .path = "/"};
	struct loop l;

	server_start(&good, false, ECHO, NULL);
	server_start(&local, true, ECHO, NULL);
	assert_int_equal(loop_init(&l), 0);
	assert_int_equal(http_client_new(&l, &hc), 0);
	o[0].client = &hc;
	o[0].again = &local;
	c.base = good.base;
	assert_int_equal(http_client_start(hc, &c, on_answer, &o[0]), 0);
	c.base = "http://127.0.0.1:1";
	assert_int_equal(http_client_start(hc, &c, on_answer, &o[1]), 0);
	c.path = "bad";
	assert_int_equal(http_client_start(hc, &c, on_answer, &o[2]), -EINVAL);
	assert_int_equal(o[0].calls + o[1].calls, 0); /* never from inside the start */
	run_until(&l, &o[0].calls, 2);
	run_until(&l, &o[1].calls, 1);
	assert_int_equal(o[0].status, 200);
	assert_int_equal(o[1].error, -ECONNREFUSED);
	assert_int_equal(o[2].calls, 0);
	http_client_free(&hc);
	assert_null(hc);
	loop_done(&l);
	server_stop(&good);
	server_stop(&local);
}

static void async_timeout_fires(void **state)
{
	struct http_client *hc;
	struct outcome o = {0};
	struct server s;
	struct http_call c = {.method = "GET", .path = "/", .timeout_ms = 50};
	struct loop l;

	server_start(&s, false, SILENT, NULL);
	assert_int_equal(loop_init(&l), 0);
	assert_int_equal(http_client_new(&l, &hc), 0);
	c.base = s.base;
	assert_int_equal(http_client_start(hc, &c, on_answer, &o), 0);
	run_until(&l, &o.calls, 1);
	assert_int_equal(o.error, -ETIMEDOUT);
	http_client_free(&hc);
	loop_done(&l);
	server_stop(&s);
}

/* A client on a loop, a server that never answers and one that does. */
static struct {
	struct server silent, good;
	struct loop loop;
	struct http_client *client;
} two;

static void start(const struct server *to, struct outcome *o)
{
	struct http_call c = {.method = "GET", .path = "/", .base = to->base};

	assert_int_equal(http_client_start(two.client, &c, on_answer, o), 0);
}

static int two_servers(void **state)
{
	server_start(&two.silent, false, SILENT, NULL);
	server_start(&two.good, false, ECHO, NULL);
	return loop_init(&two.loop) || http_client_new(&two.loop, &two.client);
}

static int two_servers_end(void **state)
{
	http_client_free(&two.client);
	loop_done(&two.loop);
	server_stop(&two.silent);
	server_stop(&two.good);
	return 0;
}

static void calls_are_cancelled_by_their_arg(void **state)
{
	struct outcome o[2] = {0}, other = {0};

	start(&two.silent, &o[0]);
	assert_int_equal(loop_once(&two.loop, 20), 0);
	start(&two.good, &o[0]);
	start(&two.good, &other);
	http_client_cancel(two.client, &o[0]);
	http_client_cancel(two.client, &o[1]); /* has none */
	run_until(&two.loop, &other.calls, 1);
	assert_int_equal(o[0].calls, 0);
}

static void freeing_the_client_cancels_what_is_under_way(void **state)
{
	struct outcome o = {0}, last = {.client = &two.client, .free_client = true};

	start(&two.silent, &o);
	start(&two.good, &last);
	run_until(&two.loop, &last.calls, 1); /* its callback frees the client */
	assert_null(two.client);
	assert_int_equal(loop_once(&two.loop, 20), 0);
	assert_int_equal(o.calls, 0);
	assert_int_equal(two.loop.armed, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(async_calls_answer_from_the_loop),
		cmocka_unit_test(async_timeout_fires),
		cmocka_unit_test_setup_teardown(calls_are_cancelled_by_their_arg, two_servers,
						two_servers_end),
		cmocka_unit_test_setup_teardown(freeing_the_client_cancels_what_is_under_way,
						two_servers, two_servers_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
