/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes connections on behalf of a test: started by `meshctl run`, it is a workload; the test sends
 * it an address over a unix socket (SOCK_SEQPACKET, at --socket) and gets back the connected
 * descriptor, or the error as a number. "mptcp ADDRESS" and "device ADDRESS" (bound to eth0) are
 * connections that the mesh cannot take; "nonblock ADDRESS" does not block while it connects, nor
 * later. So the test holds a socket that was opened by a managed
 * caller, in that caller's network namespace.
 */
#include "lib/clock.h"
#include "lib/options.h"
#include "tests/bench/dialer.h"
#include "tests/bench/net.h"

#include <poll.h>
#include <string.h>
#include <sys/un.h>

static const char *opt_socket;
static const struct option_spec options[] = {
	{"socket", 's', "PATH", NULL, "the test's socket", &opt_socket},
	{0},
};
static const struct program program = {"dialer", "--socket PATH", "connects on behalf of a test",
				       options};

/* The answer: 0 or -errno and when connect() was called, and the descriptor when it is 0. */
static int answer(int to, int err, uint64_t began_ns, int fd)
{
	struct dialed d = {.err = err, .began_ns = began_ns};
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct iovec iov = {&d, sizeof(d)};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	struct cmsghdr *c = (struct cmsghdr *)control.room;

	if (!err) {
		msg.msg_control = control.room;
		msg.msg_controllen = sizeof(control.room);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	}
	return sendmsg(to, &msg, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

/* Until it is connected. Takes fd over; fd or -errno. */
static int await(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLOUT};
	int err = 0;
	socklen_t len = sizeof(err);

	if (poll(&p, 1, -1) < 0 || getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len))
		err = errno;
	if (err)
		close(fd);
	return err ? -err : fd;
}

static int dial(const char *text)
{
	static const struct {
		const char *word, *device;
		int protocol, flags;
	} ways[] = {{"mptcp ", NULL, IPPROTO_MPTCP, 0},
		    {"device ", "eth0", 0, 0},
		    {"nonblock ", NULL, 0, SOCK_NONBLOCK},
		    {"", NULL, 0, 0}};
	struct addr a;
	size_t i = 0;
	int fd;

	while (strncmp(text, ways[i].word, strlen(ways[i].word)))
		i++;
	if (addr_parse(text + strlen(ways[i].word), &a))
		return -EINVAL;
	fd = net_connect_by(&a, ways[i].flags, ways[i].protocol, ways[i].device);
	return fd < 0 ? fd : await(fd);
}

int main(int argc, char **argv)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	char text[128];
	ssize_t n;
	int s;

	(void)options_parse(&program, argc, argv);
	if (!opt_socket || strlen(opt_socket) >= sizeof(un.sun_path))
		options_usage(&program, "--socket is missing or too long");
	strcpy(un.sun_path, opt_socket);
	s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (s < 0 || connect(s, (struct sockaddr *)&un, sizeof(un))) {
		perror("dialer");
		return 1;
	}
	while ((n = recv(s, text, sizeof(text) - 1, 0)) > 0) {
		uint64_t began_ns = clock_mono_ns();
		int fd;

		text[n] = 0;
		fd = dial(text);
		if (answer(s, fd < 0 ? fd : 0, began_ns, fd))
			return 1;
		if (fd >= 0)
			close(fd);
	}
	return 0;
}
