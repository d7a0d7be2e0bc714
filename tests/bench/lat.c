/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One keep-alive connection, one request at a time: how long a request takes. epoll and recv, as an
 * ordinary event-driven client does it, in nanoseconds (wrk rounds to microseconds). Prints p50,
 * p99 and the number of requests.
 */
#include "lib/clock.h"
#include "lib/options.h"
#include "tests/bench/h1.h"
#include "tests/bench/net.h"

#include <sys/epoll.h>

#define KEPT 2000000

static const char *opt_to, *opt_path, *opt_seconds;
static const struct option_spec options[] = {
	{"to", 't', "ADDR:PORT", NULL, "where the service is", &opt_to},
	{"path", 0, "PATH", "/", "what to ask for", &opt_path},
	{"seconds", 's', "N", "3", "how long", &opt_seconds},
	{0},
};
static const struct program program = {"lat", "--to ADDR:PORT [flags]", "latency of one connection",
				       options};

static uint64_t took[KEPT];

static int compare(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void ignore(void *arg, const char *p, size_t n)
{
}

/* What there is to read once the socket has something: > 0, or -1. */
static ssize_t fill(int fd, int ep, char *to, size_t room)
{
	struct epoll_event ev;
	ssize_t n = epoll_wait(ep, &ev, 1, 5000) == 1 ? recv(fd, to, room, 0) : -1;

	return n ? n : -1;
}

/* One request and its whole answer. 0 or -1. */
static int ask(int fd, int ep, const char *request, size_t len)
{
	static char in[1 << 16];
	struct h1_head h;
	struct h1_body body;
	size_t have = 0, at;
	ssize_t head, n;

	if (send(fd, request, len, MSG_NOSIGNAL) != (ssize_t)len)
		return -1;
	do {
		n = fill(fd, ep, in + have, sizeof(in) - have);
		if (n < 0)
			return -1;
		have += (size_t)n;
		head = h1_head_parse(in, have, &h);
	} while (!head);
	if (head < 0 || h1_status(&h) != 200)
		return -1;
	h1_body_of(&body, &h, true);
	for (at = (size_t)head;; at = 0) {
		if (h1_body_feed(&body, in + at, have - at, ignore, NULL) < 0)
			return -1;
		if (body.done)
			return 0;
		n = fill(fd, ep, in, sizeof(in));
		if (n < 0)
			return -1;
		have = (size_t)n;
	}
}

int main(int argc, char **argv)
{
	struct epoll_event ev = {.events = EPOLLIN};
	char request[1024];
	uint64_t end, start;
	struct addr a;
	size_t n = 0;
	int fd, len, ep;

	(void)options_parse(&program, argc, argv);
	if (!opt_to)
		options_usage(&program, "--to is missing");
	a = net_addr(opt_to);
	fd = net_connect(&a, 0);
	ep = epoll_create1(EPOLL_CLOEXEC);
	if (fd < 0 || ep < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev)) {
		fprintf(stderr, "lat: cannot connect to %s\n", opt_to);
		return 1;
	}
	len = snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", opt_path,
		       opt_to);
	end = clock_mono_ns() + strtoull(opt_seconds, NULL, 10) * 1000000000u;
	while ((start = clock_mono_ns()) < end && n < KEPT) {
		if (ask(fd, ep, request, (size_t)len)) {
			fprintf(stderr, "lat: request %zu failed\n", n);
			return 1;
		}
		took[n++] = clock_mono_ns() - start;
	}
	qsort(took, n, sizeof(*took), compare);
	printf("p50 %.2f us, p99 %.2f us, %zu requests\n", (double)took[n / 2] / 1e3,
	       (double)took[n * 99 / 100] / 1e3, n);
	return 0;
}
