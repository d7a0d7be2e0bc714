/* SPDX-License-Identifier: Apache-2.0 */
/* When a connection of the proxy is read again. */
#include "agent/proxy/conn.h"
#include "agent/proxy/proxy.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

struct rig {
	struct mesh_ctl ctl;
	struct proxy *proxy;
	struct conn conn;
	int peer;
};

static int setup(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));
	int fds[2];

	assert_non_null(r);
	r->proxy = calloc(1, sizeof(*r->proxy));
	assert_non_null(r->proxy);
	r->proxy->shared.ctl = &r->ctl;
	assert_int_equal(loop_init(&r->proxy->loop), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
	conn_init(&r->conn, r->proxy);
	r->conn.connecting = false;
	assert_int_equal(conn_open(&r->conn, fds[0], NULL), 0);
	r->peer = fds[1];
	*state = r;
	return 0;
}

static int teardown(void **state)
{
	struct rig *r = *state;

	conn_close(&r->conn, false);
	close(r->peer);
	loop_done(&r->proxy->loop);
	free(r->proxy->bufs.free); /* the one buffer, kept for the next */
	free(r->proxy);
	free(r);
	return 0;
}

/* One message comes and is read. */
static void take_one(struct rig *r)
{
	assert_int_equal(send(r->peer, "x", 1, 0), 1);
	assert_int_equal(conn_fill(&r->conn), 1);
}

static void a_short_read_is_the_last_one(void **state)
{
	struct rig *r = *state;

	take_one(r);
	assert_false(r->conn.readable);
}

static void with_two_queues_it_is_not(void **state)
{
	struct rig *r = *state;

	r->ctl.splice_bare = 1;
	take_one(r);
	assert_true(r->conn.readable);
	assert_int_equal(conn_fill(&r->conn), -EAGAIN);
	assert_false(r->conn.readable);
}

static void after_the_end_was_announced_it_is_not(void **state)
{
	struct rig *r = *state;

	conn_note(&r->conn, EPOLLRDHUP);
	take_one(r);
	assert_true(r->conn.readable);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_short_read_is_the_last_one, setup, teardown),
		cmocka_unit_test_setup_teardown(with_two_queues_it_is_not, setup, teardown),
		cmocka_unit_test_setup_teardown(after_the_end_was_announced_it_is_not, setup,
						teardown),
	};

	return cmocka_run_group_tests_name("conn", tests, NULL, NULL);
}
