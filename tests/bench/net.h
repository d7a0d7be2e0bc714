/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets for test tools: listen, connect. Addresses as "1.2.3.4:80" or "[::1]:80". */
#ifndef TESTS_BENCH_NET_H
#define TESTS_BENCH_NET_H

#include "lib/addr.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static inline void net_nodelay(int fd)
{
	int one = 1;

	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

/* Parses an address or ends the program with a message. */
static inline struct addr net_addr(const char *text)
{
	struct addr a;

	if (addr_parse(text, &a)) {
		fprintf(stderr, "bad address: %s\n", text);
		exit(2);
	}
	return a;
}

/* A non-blocking listening socket or -errno. */
static inline int net_listen(const struct addr *a)
{
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(a, &ss);
	int one = 1, err, fd = socket(ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) ||
	    bind(fd, (struct sockaddr *)&ss, len) || listen(fd, 4096)) {
		err = -errno;
		close(fd);
		return err;
	}
	return fd;
}

/* A connection by that protocol (0: TCP), bound to that device (NULL: none): the socket or -errno.
 */
static inline int net_connect_by(const struct addr *a, int flags, int protocol, const char *device)
{
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(a, &ss);
	int err, fd = socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC | flags, protocol);

	if (fd < 0)
		return -errno;
	net_nodelay(fd);
	if ((device &&
	     setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device, (socklen_t)strlen(device) + 1)) ||
	    (connect(fd, (struct sockaddr *)&ss, len) && errno != EINPROGRESS)) {
		err = -errno;
		close(fd);
		return err;
	}
	return fd;
}

/* Starts (flags: SOCK_NONBLOCK) or makes (0) a connection: the socket or -errno. */
static inline int net_connect(const struct addr *a, int flags)
{
	return net_connect_by(a, flags, 0, NULL);
}

/* As many descriptors as the system lets us have. */
static inline void net_raise_nofile(void)
{
	struct rlimit r;

	if (!getrlimit(RLIMIT_NOFILE, &r)) {
		r.rlim_cur = r.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &r);
	}
}

#endif
