/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A service that calls another: every connection accepted is joined to a new connection to --to,
 * byte by byte, with back-pressure and half-close. Between two services of the mesh it makes a
 * second hop.
 */
#include "lib/loop.h"
#include "lib/options.h"
#include "tests/bench/net.h"

#include <signal.h>
#include <string.h>

#define PIPE_MAX (64u << 10)

struct side {
	struct watch w;
	struct pair *pair;
	bool eof;	     /* nothing more will be read here */
	char data[PIPE_MAX]; /* read here, to be written to the other side */
	size_t at, len;
	uint32_t events;
};

struct pair {
	struct side s[2];
};

static const char *opt_port, *opt_to;
static const struct option_spec options[] = {
	{"port", 'p', "N", "9000", "port to listen on", &opt_port},
	{"to", 't', "ADDR:PORT", NULL, "where to connect to", &opt_to},
	{0},
};
static const struct program program = {"relay", "--to ADDR:PORT [flags]",
				       "joins connections to another service", options};

static struct loop loop;
static struct addr target;

static void pair_free(struct pair *p)
{
	for (int i = 0; i < 2; i++) {
		int fd = p->s[i].w.fd;

		loop_del(&loop, &p->s[i].w);
		if (fd >= 0)
			close(fd);
	}
	free(p);
}

/* Moves what can be moved from a to b. false when a socket broke. */
static bool pump(struct side *a, struct side *b)
{
	for (;;) {
		ssize_t n;

		while (a->at < a->len) {
			n = send(b->w.fd, a->data + a->at, a->len - a->at, MSG_NOSIGNAL);
			if (n < 0)
				return errno == EAGAIN;
			a->at += (size_t)n;
		}
		a->at = a->len = 0;
		if (a->eof)
			return true;
		n = recv(a->w.fd, a->data, PIPE_MAX, 0);
		if (n < 0)
			return errno == EAGAIN;
		if (!n) {
			a->eof = true;
			return !shutdown(b->w.fd, SHUT_WR) || errno == ENOTCONN;
		}
		a->len = (size_t)n;
	}
}

static bool want(struct side *a, const struct side *b)
{
	uint32_t events = (a->eof || a->len ? 0 : EPOLLIN) | (b->len ? EPOLLOUT : 0);

	if (events == a->events)
		return true;
	a->events = events;
	return !loop_mod(&loop, &a->w, events);
}

static void on_events(struct watch *w, uint32_t events)
{
	struct side *me = (struct side *)w;
	struct pair *p = me->pair;
	struct side *a = &p->s[0], *b = &p->s[1];

	if ((events & EPOLLERR) || !pump(a, b) || !pump(b, a) || !want(a, b) || !want(b, a) ||
	    (a->eof && b->eof && !a->len && !b->len))
		pair_free(p);
}

/* A connection that could not be joined is reset, so that its peer does not take it for an answer.
 */
static void reset(int fd)
{
	struct linger now = {.l_onoff = 1};

	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(fd);
}

static void on_accept(struct watch *w, uint32_t events)
{
	for (int fd; (fd = accept4(w->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
		struct pair *p = malloc(sizeof(*p));
		int up = p ? net_connect(&target, SOCK_NONBLOCK) : -ENOMEM;

		if (up < 0) {
			free(p);
			reset(fd);
			continue;
		}
		net_nodelay(fd);
		for (int i = 0; i < 2; i++) {
			p->s[i].pair = p;
			p->s[i].eof = false;
			p->s[i].at = p->s[i].len = 0;
			p->s[i].w.fd = -1;
			p->s[i].events = i ? EPOLLOUT : EPOLLIN;
		}
		if (loop_add(&loop, &p->s[0].w, fd, EPOLLIN, on_events)) {
			close(up);
			reset(fd);
			free(p);
		} else if (loop_add(&loop, &p->s[1].w, up, EPOLLOUT, on_events)) {
			close(up);
			pair_free(p);
		}
	}
}

int main(int argc, char **argv)
{
	static struct watch listener;
	struct addr a = {0};
	int fd, err;

	(void)options_parse(&program, argc, argv);
	if (!opt_to)
		options_usage(&program, "--to is missing");
	target = net_addr(opt_to);
	(void)addr_parse_ip("0.0.0.0", a.ip);
	a.port = (uint16_t)atoi(opt_port);
	net_raise_nofile();
	signal(SIGPIPE, SIG_IGN);
	err = loop_init(&loop);
	fd = err ? -1 : net_listen(&a);
	if (!err && fd < 0)
		err = fd;
	if (!err)
		err = loop_add(&loop, &listener, fd, EPOLLIN, on_accept);
	if (!err)
		err = loop_run(&loop);
	if (err)
		fprintf(stderr, "relay: %s\n", strerror(-err));
	return err ? 1 : 0;
}
