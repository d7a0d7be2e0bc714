/* SPDX-License-Identifier: Apache-2.0 */
/* Messages with descriptors between supervisor and worker, over a real socket pair. */
#include "agent/ipc.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static int pair[2];

static int open_pair(void **state)
{
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair);
}

static int close_pair(void **state)
{
	for (int i = 0; i < 2; i++)
		if (pair[i] >= 0)
			close(pair[i]);
	return 0;
}

static void a_message_arrives_whole(void **state)
{
	struct ipc_msg out = {.kind = IPC_SOCKET}, in;
	int fds[IPC_MAX_FDS];
	size_t n = 99;

	out.socket.request = 0x1122334455667788;
	out.socket.netns = 42;
	out.socket.error = -ENOENT;
	assert_int_equal(ipc_send(pair[0], &out, NULL, 0), 0);
	assert_int_equal(ipc_recv(pair[1], &in, fds, &n), 1);
	assert_int_equal(n, 0);
	assert_memory_equal(&in, &out, sizeof(in));
}

static void nothing_there_is_no_error(void **state)
{
	struct ipc_msg in;
	int fds[IPC_MAX_FDS];
	size_t n;

	assert_int_equal(ipc_recv(pair[1], &in, fds, &n), 0);
}

static void descriptors_come_along_in_order_and_close_on_exec(void **state)
{
	struct ipc_msg out = {.kind = IPC_INIT}, in;
	int pipes[IPC_INIT_FDS][2], give[IPC_INIT_FDS], got[IPC_MAX_FDS];
	size_t n;
	char c;

	for (int i = 0; i < IPC_INIT_FDS; i++) {
		assert_int_equal(pipe(pipes[i]), 0);
		give[i] = pipes[i][0];
	}
	assert_int_equal(ipc_send(pair[0], &out, give, IPC_INIT_FDS), 0);
	assert_int_equal(ipc_recv(pair[1], &in, got, &n), 1);
	assert_int_equal(n, IPC_INIT_FDS);
	for (int i = 0; i < IPC_INIT_FDS; i++) {
		char mark = (char)('a' + i);

		assert_int_equal(write(pipes[i][1], &mark, 1), 1);
		assert_int_equal(read(got[i], &c, 1), 1);
		assert_int_equal(c, mark);
		assert_true(fcntl(got[i], F_GETFD) & FD_CLOEXEC);
		close(got[i]);
		close(pipes[i][0]);
		close(pipes[i][1]);
	}
}

static void a_packet_of_another_size_is_refused_and_its_descriptors_closed(void **state)
{
	struct ipc_msg in;
	int fds[IPC_MAX_FDS], before = dup(0), after;
	size_t n;

	close(before);
	for (size_t len = 1; len < sizeof(in) + 8; len += sizeof(in) + 3 - 1) {
		char junk[sizeof(in) + 8] = {0};
		struct iovec iov = {.iov_base = junk, .iov_len = len};
		union {
			struct cmsghdr align;
			char space[CMSG_SPACE(sizeof(int))];
		} c = {0};
		struct msghdr h = {.msg_iov = &iov,
				   .msg_iovlen = 1,
				   .msg_control = c.space,
				   .msg_controllen = sizeof(c.space)};
		struct cmsghdr *cm = CMSG_FIRSTHDR(&h);
		int zero = 0;

		cm->cmsg_level = SOL_SOCKET;
		cm->cmsg_type = SCM_RIGHTS;
		cm->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(cm), &zero, sizeof(int));
		assert_int_equal(sendmsg(pair[0], &h, 0), (ssize_t)len);
		assert_int_equal(ipc_recv(pair[1], &in, fds, &n), -EPROTO);
	}
	after = dup(0);
	assert_int_equal(after, before); /* nothing leaked */
	close(after);
}

static void the_end_of_the_peer_is_seen_on_both_sides(void **state)
{
	struct ipc_msg m = {.kind = IPC_READY};
	int fds[IPC_MAX_FDS];
	size_t n;

	close(pair[1]);
	pair[1] = -1;
	assert_int_equal(ipc_send(pair[0], &m, NULL, 0), -EPIPE);
	assert_int_equal(ipc_recv(pair[0], &m, fds, &n), -EPIPE);
}

/* Its end is a reset when it has not read all, which must not overtake what it said. */
static void the_last_words_of_a_peer_are_heard(void **state)
{
	struct ipc_msg m = {.kind = IPC_HOLD_ON}, in;
	int fds[IPC_MAX_FDS];
	size_t n;

	assert_int_equal(ipc_send(pair[0], &m, NULL, 0), 0);
	assert_int_equal(ipc_send(pair[1], &m, NULL, 0), 0);
	close(pair[1]);
	pair[1] = -1;
	assert_int_equal(ipc_recv(pair[0], &in, fds, &n), 1);
	assert_int_equal(in.kind, IPC_HOLD_ON);
	assert_int_equal(ipc_recv(pair[0], &in, fds, &n), -EPIPE);
}

static void a_full_queue_says_so_and_empties_again(void **state)
{
	struct ipc_msg m = {.kind = IPC_LISTENER_GONE}, in;
	int fds[IPC_MAX_FDS], err = 0;
	uint32_t sent = 0;
	size_t n;

	while (sent < 100000 && !(err = ipc_send(pair[0], &m, NULL, 0)))
		m.listener.id = ++sent;
	assert_int_equal(err, -EAGAIN);
	for (uint32_t i = 0; i < sent; i++) {
		assert_int_equal(ipc_recv(pair[1], &in, fds, &n), 1);
		assert_int_equal(in.listener.id, i);
	}
	assert_int_equal(ipc_send(pair[0], &m, NULL, 0), 0);
}

static void too_many_descriptors_are_refused(void **state)
{
	struct ipc_msg m = {.kind = IPC_INIT};
	int fds[IPC_MAX_FDS + 1] = {0};

	assert_int_equal(ipc_send(pair[0], &m, fds, IPC_MAX_FDS + 1), -EINVAL);
}

#define story(fn) cmocka_unit_test_setup_teardown(fn, open_pair, close_pair)

int main(void)
{
	const struct CMUnitTest tests[] = {
		story(a_message_arrives_whole),
		story(nothing_there_is_no_error),
		story(descriptors_come_along_in_order_and_close_on_exec),
		story(a_packet_of_another_size_is_refused_and_its_descriptors_closed),
		story(the_end_of_the_peer_is_seen_on_both_sides),
		story(the_last_words_of_a_peer_are_heard),
		story(a_full_queue_says_so_and_empties_again),
		story(too_many_descriptors_are_refused),
	};

	return cmocka_run_group_tests_name("ipc", tests, NULL, NULL);
}
