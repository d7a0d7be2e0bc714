/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long a request takes: keep-alive connections with one request at a time on each, epoll and
 * recv, as an ordinary event-driven client does it. In nanoseconds (wrk rounds to microseconds),
 * and as measured (wrk adds samples for the requests that it would have sent during a long one, so
 * its percentiles also change with the mean). Prints p50, p99, the longest and the number of
 * requests.
 */
#include "lib/clock.h"
#include "lib/options.h"
#include "tests/bench/h1.h"
#include "tests/bench/net.h"

#include <sys/epoll.h>

#define KEPT	    2000000
#define CONNECTIONS 1024
#define IN_MAX	    (64u << 10)

struct conn {
	int fd;
	uint64_t start;
	bool in_body;
	size_t have; /* of the head */
	struct h1_body body;
	char in[IN_MAX];
};

static const char *opt_to, *opt_path, *opt_seconds, *opt_connections;
static const struct option_spec options[] = {
	{"to", 't', "ADDR:PORT", NULL, "where the service is", &opt_to},
	{"path", 0, "PATH", "/", "what to ask for", &opt_path},
	{"seconds", 's', "N", "3", "how long; 0: one request", &opt_seconds},
	{"connections", 'c', "N", "1", "at once", &opt_connections},
	{0},
};
static const struct program program = {"lat", "--to ADDR:PORT [flags]", "latency of requests",
				       options};

static uint64_t took[KEPT];
static size_t taken;
static char request[1024];
static size_t request_len;

static int compare(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void ignore(void *arg, const char *p, size_t n)
{
}

static int ask(struct conn *c)
{
	c->start = clock_mono_ns();
	c->in_body = false;
	c->have = 0;
	return send(c->fd, request, request_len, MSG_NOSIGNAL) == (ssize_t)request_len ? 0 : -1;
}

/* Bytes of an answer. 1: it is whole, 0: more is to come, -1: it is none. */
static int digest(struct conn *c, size_t n)
{
	struct h1_head h;
	ssize_t head = 0;

	c->have += n;
	if (!c->in_body) {
		head = h1_head_parse(c->in, c->have, &h);
		if (head <= 0)
			return (int)head;
		if (h1_status(&h) != 200)
			return -1;
		h1_body_of(&c->body, &h, true);
		c->in_body = true;
	}
	if (h1_body_feed(&c->body, c->in + head, c->have - (size_t)head, ignore, NULL) < 0)
		return -1;
	c->have = 0;
	return c->body.done;
}

/* What can be read now. 0 or -1. */
static int advance(struct conn *c)
{
	ssize_t n = recv(c->fd, c->in + c->have, IN_MAX - c->have, 0);
	int did = n > 0 ? digest(c, (size_t)n) : n < 0 && errno == EAGAIN ? 0 : -1;

	if (did <= 0)
		return did;
	if (taken < KEPT)
		took[taken++] = clock_mono_ns() - c->start;
	return ask(c);
}

static int open_all(int ep, const struct addr *a, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct conn *c = malloc(sizeof(*c));
		struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
		struct pollfd p = {.events = POLLOUT};

		if (!c)
			return -1;
		c->fd = net_connect(a, SOCK_NONBLOCK);
		p.fd = c->fd;
		if (c->fd < 0 || poll(&p, 1, 5000) != 1 ||
		    epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &ev) || ask(c)) {
			fprintf(stderr, "lat: cannot connect to %s\n", opt_to);
			return -1;
		}
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct epoll_event ev[64];
	uint64_t end;
	struct addr a;
	size_t connections;
	int ep, n;

	(void)options_parse(&program, argc, argv);
	connections = strtoull(opt_connections, NULL, 10);
	if (!opt_to || !connections || connections > CONNECTIONS)
		options_usage(&program, "--to is missing, or --connections not 1 to 1024");
	a = net_addr(opt_to);
	request_len = (size_t)snprintf(request, sizeof(request),
				       "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", opt_path, opt_to);
	ep = epoll_create1(EPOLL_CLOEXEC);
	if (ep < 0 || request_len >= sizeof(request) || open_all(ep, &a, connections))
		return 1;
	end = clock_mono_ns() + strtoull(opt_seconds, NULL, 10) * 1000000000u;
	do {
		n = epoll_wait(ep, ev, 64, 5000);
		for (int i = 0; i < n; i++)
			if (advance(ev[i].data.ptr))
				n = -1;
		if (n <= 0) {
			fprintf(stderr, "lat: request %zu failed\n", taken);
			return 1;
		}
	} while (!taken || clock_mono_ns() < end);
	qsort(took, taken, sizeof(*took), compare);
	printf("p50 %.2f us, p99 %.2f us, max %.2f us, %zu requests\n",
	       (double)took[taken / 2] / 1e3, (double)took[taken * 99 / 100] / 1e3,
	       (double)took[taken - 1] / 1e3, taken);
	return 0;
}
