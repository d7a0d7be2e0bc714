/* SPDX-License-Identifier: Apache-2.0 */
/*
 * New connections per second: each makes one request, reads the answer to its end and is closed;
 * --connections at a time. The request says `Connection: close`, so that the far side closes first
 * and no port of ours stays in TIME_WAIT.
 */
#include "lib/clock.h"
#include "lib/loop.h"
#include "lib/options.h"
#include "tests/bench/net.h"

#include <string.h>

struct conn {
	struct watch w;
	bool sent, answered;
};

static const char *opt_to, *opt_path, *opt_seconds, *opt_connections;
static const struct option_spec options[] = {
	{"to", 't', "ADDR:PORT", NULL, "where the service is", &opt_to},
	{"path", 0, "PATH", "/", "what to ask for", &opt_path},
	{"seconds", 's', "N", "3", "how long", &opt_seconds},
	{"connections", 'c', "N", "32", "at once", &opt_connections},
	{0},
};
static const struct program program = {"connrate", "--to ADDR:PORT [flags]",
				       "new connections per second", options};

static struct loop loop;
static struct addr target;
static char request[1024];
static size_t request_len;
static uint64_t done, failed;

static void on_events(struct watch *w, uint32_t events);

static void conn_start(struct conn *c)
{
	int fd = net_connect(&target, SOCK_NONBLOCK);

	c->sent = c->answered = false;
	if (fd < 0 || loop_add(&loop, &c->w, fd, EPOLLOUT, on_events)) {
		fprintf(stderr, "connrate: cannot connect: %s\n", strerror(fd < 0 ? -fd : EIO));
		exit(1);
	}
}

static void conn_end(struct conn *c)
{
	int fd = c->w.fd;

	*(c->answered ? &done : &failed) += 1;
	loop_del(&loop, &c->w);
	close(fd);
	conn_start(c);
}

static void on_events(struct watch *w, uint32_t events)
{
	struct conn *c = (struct conn *)w;
	char in[16384];
	ssize_t n;

	if (!c->sent) {
		c->sent = send(w->fd, request, request_len, MSG_NOSIGNAL) == (ssize_t)request_len;
		if (!c->sent || loop_mod(&loop, w, EPOLLIN))
			conn_end(c);
		return;
	}
	while ((n = recv(w->fd, in, sizeof(in), 0)) > 0)
		if (!c->answered)
			c->answered = n > 12 && !memcmp(in, "HTTP/1.1 200", 12);
	if (n == 0 || errno != EAGAIN)
		conn_end(c);
}

int main(int argc, char **argv)
{
	uint64_t start, ns = 1, length;
	int err;

	(void)options_parse(&program, argc, argv);
	if (!opt_to)
		options_usage(&program, "--to is missing");
	target = net_addr(opt_to);
	request_len = (size_t)snprintf(request, sizeof(request),
				       "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n",
				       opt_path, opt_to);
	err = loop_init(&loop);
	for (long i = 0; !err && i < strtol(opt_connections, NULL, 10); i++) {
		struct conn *c = calloc(1, sizeof(*c));

		if (!c)
			return 1;
		conn_start(c);
	}
	length = strtoull(opt_seconds, NULL, 10) * 1000000000u;
	start = clock_mono_ns();
	while (!err && (ns = clock_mono_ns() - start) < length)
		err = loop_once(&loop, 100);
	printf("%.0f connections/s, %lu failed\n", (double)done * 1e9 / (double)ns, failed);
	return err || failed ? 1 : 0;
}
