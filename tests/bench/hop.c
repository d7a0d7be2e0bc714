/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The least that any proxy in user space does: reads what came and sends it on, a connection to the
 * origin for each of a caller. No byte is looked at, so it balances, routes and counts nothing: a
 * wait, a read and a write for each message, edge-triggered, one thread. With tests/bench/floor it
 * says how near to no proxy a proxy can come. For benchmarks: who is slow to read is cut off.
 */
#include "lib/options.h"
#include "tests/bench/net.h"

#include <sys/epoll.h>

#define EVENTS 64
#define FDS    65536

static const char *opt_port, *opt_to;
static const struct option_spec options[] = {
	{"port", 'p', "N", "9003", "port to listen on", &opt_port},
	{"to", 't', "ADDR:PORT", NULL, "where all that comes in goes", &opt_to},
	{0},
};
static const struct program program = {"hop", "--to ADDR:PORT [flags]",
				       "the least that a proxy does", options};

static char bytes[64u << 10];
static int peer_of[FDS]; /* 0: not open */
static int ep;

/* Events of this round that name it still find it closed. */
static void end(int fd)
{
	int peer = peer_of[fd];

	peer_of[fd] = peer_of[peer] = 0;
	close(fd);
	close(peer);
}

/* Less than asked for: that was all. */
static void pass(int fd)
{
	ssize_t n = sizeof(bytes);

	while (n == sizeof(bytes) && peer_of[fd]) {
		n = recv(fd, bytes, sizeof(bytes), 0);
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0 || send(peer_of[fd], bytes, (size_t)n, MSG_NOSIGNAL) != n)
			end(fd);
	}
}

static int watch(int fd)
{
	struct epoll_event ev = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.fd = fd};

	return epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
}

static void take(int listener, const struct addr *to)
{
	int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), peer;

	if (fd < 0)
		return;
	peer = net_connect(to, SOCK_NONBLOCK);
	if (peer < 0 || fd >= FDS || peer >= FDS || watch(peer) || watch(fd)) {
		close(fd);
		if (peer >= 0)
			close(peer);
		return;
	}
	net_nodelay(fd);
	peer_of[fd] = peer;
	peer_of[peer] = fd;
}

int main(int argc, char **argv)
{
	struct epoll_event ev[EVENTS], in = {.events = EPOLLIN};
	struct addr a = {.ip = {[10] = 0xff, [11] = 0xff}}, to;
	int listener, n;

	(void)options_parse(&program, argc, argv);
	if (!opt_to)
		options_usage(&program, "--to is missing");
	to = net_addr(opt_to);
	a.port = (uint16_t)strtoul(opt_port, NULL, 10);
	net_raise_nofile();
	listener = net_listen(&a);
	ep = epoll_create1(EPOLL_CLOEXEC);
	in.data.fd = listener;
	if (listener < 0 || ep < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, listener, &in)) {
		perror("hop");
		return 1;
	}
	while ((n = epoll_wait(ep, ev, EVENTS, -1)) >= 0 || errno == EINTR) {
		for (int i = 0; i < n; i++) {
			if (ev[i].data.fd == listener)
				take(listener, &to);
			else
				pass(ev[i].data.fd);
		}
	}
	return 1;
}
