/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TCP without HTTP, one connection at a time, with sockets that do not block and epoll, or
 * (--block, on both ends) with sockets that do. `--serve PORT` is the other end of all modes; a
 * client names one mode and prints one line per size:
 *
 *   ping     SIZE P50-US P99-US COUNT            a message there and back
 *   stream   SIZE MB-PER-S CPU-NS-PER-MESSAGE    messages one way, until the server has read the
 *            last; CPU of both ends
 *   refused  P50-US P99-US MAX-US COUNT          connect() that must fail with ECONNREFUSED
 *
 * Before the timed part a megabyte, or 64 messages, are compared byte by byte; in it only the ends
 * of what each call returned, and the number of all bytes. A wrong byte ends the run with status 1.
 */
#include "lib/clock.h"
#include "lib/options.h"
#include "tests/bench/net.h"
#include "tests/bench/pattern.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>

#define SIZE_MAX_BYTES (1u << 20)
#define CHECKED_BYTES  (1u << 20)
#define CHECKED_PINGS  64
#define KEPT	       4000000
#define PORTS_MAX      64
#define PATIENCE_MS    10000 /* nothing for so long is a stall: the run fails */

enum mode { PING, STREAM };

/* The first bytes of a connection. */
struct hello {
	uint32_t mode, size;
	uint64_t checked; /* bytes that are to be compared and acknowledged before the stream */
	char cc[16];	  /* congestion control, both ends; empty: the default */
};

/* What the server says when it has read the checked part, and again at the end of a stream. */
struct result {
	uint64_t bytes, wrong, cpu_ns;
};

static const char *opt_serve, *opt_ports, *opt_listen, *opt_to, *opt_mode, *opt_sizes, *opt_ms,
	*opt_cc;
static bool opt_nagle, opt_block;
static const struct option_spec options[] = {
	{"serve", 0, "PORT", NULL, "be the server", &opt_serve},
	{"ports", 0, "N", "1", "with --serve: so many from PORT on, 64 at most", &opt_ports},
	{"listen", 0, "IP", "0.0.0.0", "where the server listens", &opt_listen},
	{"to", 't', "ADDR:PORT", NULL, "be a client", &opt_to},
	{"mode", 'm', "NAME", "ping", "ping, stream or refused", &opt_mode},
	{"sizes", 0, "N,N", "64", "bytes of a message, 8 to 1048576", &opt_sizes},
	{"ms", 0, "N", "250", "how long each size takes", &opt_ms},
	{"cc", 0, "NAME", "", "congestion control of both ends", &opt_cc},
	{"block", 0, NULL, NULL, "sleep in recv() and send(), not in epoll_wait()", NULL,
	 &opt_block},
	{"nagle", 0, NULL, NULL, "the client leaves TCP_NODELAY off", NULL, &opt_nagle},
	{0},
};
static const struct program program = {"tcpbench", "--serve PORT | --to ADDR:PORT [flags]",
				       "round trips and streams over TCP", options};

static char in[2 * SIZE_MAX_BYTES], out[SIZE_MAX_BYTES];
/* A stream repeats one message: doubled, every window of up to its size lies in one piece. */
static char twice[2 * SIZE_MAX_BYTES];
static uint64_t took[KEPT];
static int ep; /* has the one connection there is */

__attribute__((noreturn)) static void fail(const char *what)
{
	fprintf(stderr, "tcpbench: %s: %s\n", what, errno ? strerror(errno) : "wrong bytes");
	exit(1);
}

static uint64_t cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Until there is something to read, or the other end is taken to be stuck. 0 or -1. */
static int await_in(void)
{
	struct epoll_event ev;

	errno = ETIMEDOUT;
	return epoll_wait(ep, &ev, 1, PATIENCE_MS) == 1 ? 0 : -1;
}

/* The same for room to send. */
static int await_out(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLOUT};

	errno = ETIMEDOUT;
	return poll(&p, 1, PATIENCE_MS) == 1 ? 0 : -1;
}

/* 0 or -1: the connection broke or ended. */
static int send_all(int fd, const void *p, size_t n)
{
	for (size_t at = 0; at < n;) {
		ssize_t did = send(fd, (const char *)p + at, n - at, MSG_NOSIGNAL);

		if (did > 0)
			at += (size_t)did;
		else if (opt_block || errno != EAGAIN || await_out(fd))
			return -1;
	}
	return 0;
}

/* Waits for something: > 0, 0 at the end, or -1. */
static ssize_t recv_some(int fd, void *p, size_t room)
{
	for (;;) {
		ssize_t n = recv(fd, p, room, 0);

		if (n >= 0 || opt_block || errno != EAGAIN)
			return n;
		if (await_in())
			return -1;
	}
}

static int recv_all(int fd, void *p, size_t n)
{
	for (size_t at = 0; at < n;) {
		ssize_t did = recv_some(fd, (char *)p + at, n - at);

		if (did <= 0)
			return -1;
		at += (size_t)did;
	}
	return 0;
}

/* As an event loop does it, which does not ask before it is told. */
static int recv_message(int fd, void *p, size_t n)
{
	return !opt_block && await_in() ? -1 : recv_all(fd, p, n);
}

static int congestion(int fd, const char *cc)
{
	return *cc ? setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, cc, strlen(cc)) : 0;
}

static int socket_prepare(int fd)
{
	const struct timeval t = {.tv_sec = PATIENCE_MS / 1000};
	struct epoll_event ev = {.events = EPOLLIN};

	if (!opt_block)
		return fcntl(fd, F_SETFL, O_NONBLOCK) | epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
	return setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t)) |
	       setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof(t));
}

/* --- the server --- */

static void serve_pings(int fd, size_t size)
{
	while (!recv_message(fd, in, size) && !send_all(fd, in, size))
		;
}

/* Are the first and last bytes of p[0..n), which begin at byte `at` of the stream, as sent? */
static bool ends_right(const char *p, size_t n, uint64_t at, size_t size)
{
	size_t k = n < 8 ? n : 8;

	return !memcmp(p, twice + at % size, k) &&
	       !memcmp(p + n - k, twice + (at + n - k) % size, k);
}

static void serve_stream(int fd, const struct hello *h)
{
	struct result r = {.cpu_ns = cpu_ns()};
	size_t room = h->size < (64u << 10) ? 64u << 10 : h->size;
	ssize_t n;

	while (r.bytes < h->checked) {
		uint64_t left = h->checked - r.bytes;

		n = recv_some(fd, in, left < room ? left : room);
		if (n <= 0)
			return;
		for (ssize_t i = 0; i < n; i++)
			r.wrong += in[i] != twice[(r.bytes + (uint64_t)i) % h->size];
		r.bytes += (uint64_t)n;
	}
	if (send_all(fd, &r, sizeof(r)))
		return;
	r.bytes = 0;
	r.cpu_ns = cpu_ns();
	while ((n = recv_some(fd, in, room)) > 0) {
		r.wrong += !ends_right(in, (size_t)n, h->checked + r.bytes, h->size);
		r.bytes += (uint64_t)n;
	}
	r.cpu_ns = cpu_ns() - r.cpu_ns;
	if (!n)
		(void)send_all(fd, &r, sizeof(r));
}

static void message_fill(size_t size)
{
	pattern_fill(size, 0, twice, size);
	memcpy(twice + size, twice, size);
}

static void serve_one(int fd)
{
	struct hello h;

	net_nodelay(fd);
	if (socket_prepare(fd) || recv_all(fd, &h, sizeof(h)) || h.size < 8 ||
	    h.size > SIZE_MAX_BYTES || h.cc[sizeof(h.cc) - 1] || congestion(fd, h.cc))
		return;
	message_fill(h.size);
	if (h.mode == PING)
		serve_pings(fd, h.size);
	else
		serve_stream(fd, &h);
}

static int listen_at(uint16_t port)
{
	struct addr a = {.port = port};
	int l;

	if (addr_parse_ip(opt_listen, a.ip))
		options_usage(&program, "--listen: not an address");
	l = net_listen(&a);
	if (l < 0) {
		errno = -l;
		fail("cannot listen");
	}
	return l;
}

static int serve(void)
{
	int n = atoi(opt_ports), fd;
	struct pollfd p[PORTS_MAX];

	if (n < 1 || n > PORTS_MAX)
		options_usage(&program, "--ports: 1 to 64");
	for (int i = 0; i < n; i++)
		p[i] = (struct pollfd){.fd = listen_at((uint16_t)(atoi(opt_serve) + i)),
				       .events = POLLIN};
	for (;;) {
		if (poll(p, (nfds_t)n, -1) < 0)
			continue;
		for (int i = 0; i < n; i++) {
			if (!p[i].revents || (fd = accept4(p[i].fd, NULL, NULL, SOCK_CLOEXEC)) < 0)
				continue;
			serve_one(fd);
			close(fd);
		}
	}
}

/* --- the client --- */

static int compare(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static double sorted_us(size_t n, unsigned percent)
{
	return (double)took[n * percent / 100 - (percent == 100)] / 1e3;
}

static int client_connect(const struct addr *to, const struct hello *h)
{
	int zero = 0, fd = net_connect(to, opt_block ? 0 : SOCK_NONBLOCK);

	if (fd < 0 || (!opt_block && await_out(fd))) {
		errno = fd < 0 ? -fd : errno;
		fail("cannot connect");
	}
	if ((opt_nagle && setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &zero, sizeof(zero))) ||
	    congestion(fd, opt_cc) || socket_prepare(fd) || send_all(fd, h, sizeof(*h)))
		fail("a new connection");
	return fd;
}

/* One message with a number of its own. The whole answer is compared if `checked`, else its ends.
 */
static void ping(int fd, size_t size, uint64_t number, bool checked)
{
	if (checked)
		pattern_fill(number, 0, out, size);
	memcpy(out, &number, sizeof(number));
	if (send_all(fd, out, size) || recv_message(fd, in, size))
		fail("a round trip");
	errno = 0;
	if (checked ? memcmp(in, out, size)
		    : memcmp(in, out, 8) || memcmp(in + size - 8, out + size - 8, 8))
		fail("a round trip");
}

static void run_ping(const struct addr *to, const struct hello *h, uint64_t ns)
{
	uint64_t start, end;
	size_t n = 0;
	int fd = client_connect(to, h);

	for (uint64_t i = 0; i < CHECKED_PINGS; i++)
		ping(fd, h->size, i, true);
	end = clock_mono_ns() + ns;
	while (n < KEPT && (start = clock_mono_ns()) < end) {
		ping(fd, h->size, n, false);
		took[n++] = clock_mono_ns() - start;
	}
	close(fd);
	if (!n)
		fail("no round trip in the given time");
	qsort(took, n, sizeof(*took), compare);
	printf("%u %.2f %.2f %zu\n", h->size, sorted_us(n, 50), sorted_us(n, 99), n);
}

/* A first connection: from it the mesh learns that sockets of this program do not block. */
static void introduce(const struct addr *to)
{
	const struct hello h = {.mode = PING, .size = 64};
	int fd = client_connect(to, &h);

	for (uint64_t i = 0; i < CHECKED_PINGS; i++)
		ping(fd, h.size, i, true);
	close(fd);
}

static void run_stream(const struct addr *to, const struct hello *h, uint64_t ns)
{
	uint64_t start, cpu, sent = 0;
	struct result r;
	int fd = client_connect(to, h);

	message_fill(h->size);
	for (uint64_t i = 0; i < h->checked; i += h->size)
		if (send_all(fd, twice, h->size))
			fail("the checked part");
	if (recv_all(fd, &r, sizeof(r)) || r.wrong || r.bytes != h->checked)
		fail("the checked part");
	cpu = cpu_ns();
	start = clock_mono_ns();
	while (clock_mono_ns() < start + ns)
		for (int i = 0; i < 16; i++, sent += h->size)
			if (send_all(fd, twice, h->size))
				fail("a stream");
	if (shutdown(fd, SHUT_WR) || recv_all(fd, &r, sizeof(r)))
		fail("the end of a stream");
	ns = clock_mono_ns() - start;
	cpu = cpu_ns() - cpu + r.cpu_ns;
	errno = 0;
	if (r.wrong || r.bytes != sent)
		fail("a stream");
	close(fd);
	printf("%u %.1f %.1f\n", h->size, (double)sent * 1e3 / (double)ns,
	       (double)cpu / ((double)sent / h->size));
}

static int run_refused(const struct addr *to, uint64_t ns)
{
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(to, &ss);
	uint64_t start, end = clock_mono_ns() + ns;
	size_t n = 0;

	while (n < KEPT && clock_mono_ns() < end) {
		int fd = socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

		if (fd < 0)
			fail("socket");
		start = clock_mono_ns();
		if (!connect(fd, (struct sockaddr *)&ss, len) || errno != ECONNREFUSED) {
			fprintf(stderr, "tcpbench: connect() number %zu was not refused\n", n);
			return 1;
		}
		took[n++] = clock_mono_ns() - start;
		close(fd);
	}
	if (!n)
		fail("no connect() in the given time");
	qsort(took, n, sizeof(*took), compare);
	printf("%.2f %.2f %.2f %zu\n", sorted_us(n, 50), sorted_us(n, 99), sorted_us(n, 100), n);
	return 0;
}

int main(int argc, char **argv)
{
	struct hello h = {0};
	struct addr to;
	uint64_t ns;

	(void)options_parse(&program, argc, argv);
	signal(SIGPIPE, SIG_IGN);
	ep = epoll_create1(EPOLL_CLOEXEC);
	if (ep < 0)
		fail("epoll_create1");
	if (opt_serve)
		return serve();
	if (!opt_to)
		options_usage(&program, "--serve or --to is needed");
	to = net_addr(opt_to);
	ns = strtoull(opt_ms, NULL, 10) * 1000000u;
	if (!strcmp(opt_mode, "refused"))
		return run_refused(&to, ns);
	if ((strcmp(opt_mode, "ping") && strcmp(opt_mode, "stream")) ||
	    strlen(opt_cc) >= sizeof(h.cc))
		options_usage(&program, "--mode or --cc is not known");
	h.mode = strcmp(opt_mode, "ping") ? STREAM : PING;
	memcpy(h.cc, opt_cc, strlen(opt_cc));
	introduce(&to);
	for (const char *p = opt_sizes; *p; p += strcspn(p, ","), p += *p == ',') {
		h.size = (uint32_t)strtoul(p, NULL, 10);
		if (h.size < 8 || h.size > SIZE_MAX_BYTES)
			options_usage(&program, "--sizes: 8 to 1048576");
		h.checked = (CHECKED_BYTES + h.size - 1) / h.size * h.size;
		(h.mode == PING ? run_ping : run_stream)(&to, &h, ns);
	}
	return 0;
}
