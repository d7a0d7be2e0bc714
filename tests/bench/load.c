/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Load at a fixed rate over a fixed number of keep-alive connections, used in turn: a request is
 * due at its time whatever became of the others, and its latency counts from then. With --fresh
 * each has a connection of its own, and its START is the moment before connect(). For --seconds or
 * until SIGTERM; then writes one line a request to --out, in the order of the answers:
 *
 *   START-US LATENCY-US STATUS TRIES CAUSE INSTANCE     (CLOCK_MONOTONIC; 0: no answer; -: none)
 */
#include "lib/clock.h"
#include "lib/loop.h"
#include "lib/options.h"
#include "tests/bench/h1.h"
#include "tests/bench/net.h"

#include <signal.h>

#define IN_MAX	  (16u << 10)
#define SHOTS	  (1u << 20)
#define LINGER_MS 20000 /* for what is still to be answered in the end */

struct shot {
	uint64_t due_us, took_us;
	int status, tries;
	char cause[24], instance[32];
};

struct conn {
	struct watch w;
	struct conn *next; /* of the idle ones */
	struct shot shot;
	char in[IN_MAX];
	size_t len;
	bool busy, has_head, close;
	struct h1_body body;
};

static const char *opt_to, *opt_path, *opt_rate, *opt_connections, *opt_seconds, *opt_header,
	*opt_out;
static bool fresh;
static const struct option_spec options[] = {
	{"to", 't', "ADDR:PORT", NULL, "where the service is", &opt_to},
	{"path", 0, "PATH", "/", "what to ask for", &opt_path},
	{"rate", 'r', "N", "1000", "requests a second", &opt_rate},
	{"connections", 'c', "N", "32", "at most so many at once", &opt_connections},
	{"seconds", 's', "N", "600", "how long", &opt_seconds},
	{"header", 0, "NAME: VALUE", "x-load: 1", "another header", &opt_header},
	{"fresh", 0, NULL, NULL, "a connection for each request", NULL, &fresh},
	{"out", 'o', "FILE", NULL, "where to write what became of them", &opt_out},
	{0},
};
static const struct program program = {"load", "--to ADDR:PORT --out FILE [flags]",
				       "requests at a fixed rate", options};

static struct loop loop;
static struct addr target;
static struct conn *idle_first, **idle_last = &idle_first;
static struct shot *shots;
static size_t nshots, busy;
static char request[4096];
static size_t request_len;
static volatile sig_atomic_t stopped;

static void on_events(struct watch *w, uint32_t events);

static uint64_t now_us(void)
{
	return clock_mono_ns() / 1000;
}

static void rest(struct conn *c)
{
	c->busy = false;
	c->next = NULL;
	*idle_last = c;
	idle_last = &c->next;
}

static void conn_open(struct conn *c)
{
	int fd = net_connect(&target, SOCK_NONBLOCK);

	c->len = 0;
	c->has_head = c->close = false;
	if (fd < 0 || loop_add(&loop, &c->w, fd, EPOLLIN, on_events)) {
		fprintf(stderr, "load: cannot connect\n");
		exit(1);
	}
}

static void conn_close(struct conn *c)
{
	const struct linger reset = {.l_onoff = 1};
	int fd = c->w.fd;

	loop_del(&loop, &c->w);
	if (fresh) /* no TIME_WAIT: the ports would run out */
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(fd);
	c->w.fd = -1;
}

static void finish(struct conn *c)
{
	c->shot.took_us = now_us() - c->shot.due_us;
	if (nshots < SHOTS)
		shots[nshots++] = c->shot;
	busy--;
	if ((c->close || fresh) && c->w.fd >= 0)
		conn_close(c);
	c->has_head = false;
	rest(c);
}

/* The connection ended, or what came is no answer. */
static void broken(struct conn *c)
{
	conn_close(c);
	if (!c->busy)
		return;
	c->shot.status = 0;
	finish(c);
}

static void copy_header(const struct h1_head *h, const char *name, char *out, size_t cap)
{
	const struct h1_slice *v = h1_find(h, name);

	snprintf(out, cap, "%.*s", v && v->n ? (int)v->n : 1, v && v->n ? v->p : "-");
}

static void take_head(struct conn *c, const struct h1_head *h)
{
	char tries[16];

	c->shot.status = h1_status(h);
	copy_header(h, "x-mesh-cause", c->shot.cause, sizeof(c->shot.cause));
	copy_header(h, "x-instance-id", c->shot.instance, sizeof(c->shot.instance));
	copy_header(h, "x-mesh-tries", tries, sizeof(tries));
	c->shot.tries = atoi(tries);
	c->close = h1_has(h, "connection", "close");
	c->has_head = true;
	h1_body_of(&c->body, h, true);
}

static void ignore(void *arg, const char *p, size_t n)
{
}

/* What has come in. -1: it is no answer. */
static int digest(struct conn *c)
{
	struct h1_head h;
	ssize_t n;

	if (!c->has_head) {
		n = h1_head_parse(c->in, c->len, &h);
		if (n <= 0)
			return n < 0 || c->len == IN_MAX ? -1 : 0;
		take_head(c, &h);
		c->len -= (size_t)n;
		memmove(c->in, c->in + n, c->len);
	}
	n = h1_body_feed(&c->body, c->in, c->len, ignore, NULL);
	if (n < 0 || (size_t)n < c->len) /* nothing is pipelined */
		return -1;
	c->len = 0;
	if (c->body.done)
		finish(c);
	return 0;
}

static void on_events(struct watch *w, uint32_t events)
{
	struct conn *c = (struct conn *)w;
	ssize_t n = recv(w->fd, c->in + c->len, IN_MAX - c->len, 0);

	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0 || !c->busy) {
		broken(c);
		return;
	}
	c->len += (size_t)n;
	if (digest(c))
		broken(c);
}

/* Sends what was due then; false while all connections are busy. */
static bool shoot(uint64_t due_us)
{
	struct conn *c = idle_first;

	if (!c)
		return false;
	idle_first = c->next;
	if (!idle_first)
		idle_last = &idle_first;
	c->shot = (struct shot){.due_us = fresh ? now_us() : due_us, .cause = "-", .instance = "-"};
	if (c->w.fd < 0)
		conn_open(c);
	c->busy = true;
	c->len = 0;
	busy++;
	while (send(c->w.fd, request, request_len, MSG_NOSIGNAL) < 0) {
		struct pollfd p = {.fd = c->w.fd, .events = POLLOUT};

		if (errno != EAGAIN) { /* on_events will see it too, if it comes to that */
			broken(c);
			break;
		}
		(void)poll(&p, 1, 1000); /* not connected yet */
	}
	return true;
}

static int run(uint64_t rate, uint64_t seconds)
{
	uint64_t start = now_us(), end = start + seconds * 1000000, sent = 0, due;

	while (!stopped && now_us() < end) {
		while ((due = start + sent * 1000000 / rate) <= now_us() && shoot(due))
			sent++;
		if (loop_once(&loop, 1) < 0)
			return 1;
	}
	for (end = now_us() + LINGER_MS * 1000; busy && now_us() < end;)
		if (loop_once(&loop, 10) < 0)
			return 1;
	return 0;
}

static int write_out(void)
{
	FILE *f = fopen(opt_out, "we");

	if (!f) {
		perror(opt_out);
		return 1;
	}
	for (size_t i = 0; i < nshots; i++)
		fprintf(f, "%lu %lu %d %d %s %s\n", shots[i].due_us, shots[i].took_us,
			shots[i].status, shots[i].tries, shots[i].cause, shots[i].instance);
	return fclose(f) ? 1 : 0;
}

static void on_signal(int sig)
{
	stopped = 1;
}

int main(int argc, char **argv)
{
	const struct sigaction stop = {.sa_handler = on_signal};
	size_t n;

	(void)options_parse(&program, argc, argv);
	if (!opt_to || !opt_out)
		options_usage(&program, "--to and --out are needed");
	target = net_addr(opt_to);
	request_len = (size_t)snprintf(request, sizeof(request),
				       "GET %s HTTP/1.1\r\nHost: %s\r\n%s\r\n\r\n", opt_path,
				       opt_to, opt_header);
	shots = calloc(SHOTS, sizeof(*shots));
	n = strtoull(opt_connections, NULL, 10);
	net_raise_nofile();
	signal(SIGPIPE, SIG_IGN);
	sigaction(SIGTERM, &stop, NULL);
	if (!shots || request_len >= sizeof(request) || loop_init(&loop))
		return 1;
	for (size_t i = 0; i < n; i++) {
		struct conn *c = calloc(1, sizeof(*c));

		if (!c)
			return 1;
		c->w.fd = -1;
		if (!fresh)
			conn_open(c);
		rest(c);
	}
	n = strtoull(opt_rate, NULL, 10);
	return run(n ? n : 1, strtoull(opt_seconds, NULL, 10)) || write_out();
}
