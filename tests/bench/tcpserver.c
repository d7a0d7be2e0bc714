/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server that does not speak HTTP: says --banner first when there is one, then echoes every byte,
 * from connection --splice on by splice(2) as proxies do; half-close is answered by half-close. For
 * tests of tunnels and of acceleration.
 */
#include "lib/loop.h"
#include "lib/options.h"
#include "tests/bench/net.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>

#define ROOM (64u << 10)

struct conn {
	struct watch w;
	bool out;
	bool splice;
	int pipe[2]; /* with splice: what is from at to len is in it */
	size_t at, len;
	char data[ROOM];
};

static const char *opt_port, *opt_banner, *opt_listen, *opt_splice;
static const struct option_spec options[] = {
	{"port", 'p', "N", "9000", "port to listen on", &opt_port},
	{"listen", 0, "IP", "0.0.0.0", "address to listen on", &opt_listen},
	{"banner", 'b', "TEXT", "", "what to say first", &opt_banner},
	{"splice", 0, "N", "0", "from the Nth connection on, echo by splice(2); 0: never",
	 &opt_splice},
	{0},
};
static const struct program program = {"tcpserver", "[flags]", "greets and echoes", options};

static struct loop loop;
static int accepted;

static void conn_free(struct conn *c)
{
	int fd = c->w.fd;

	loop_del(&loop, &c->w);
	close(fd);
	for (int i = 0; c->splice && i < 2; i++)
		close(c->pipe[i]);
	free(c);
}

static ssize_t write_some(struct conn *c)
{
	if (c->splice)
		return splice(c->pipe[0], NULL, c->w.fd, NULL, c->len - c->at, SPLICE_F_NONBLOCK);
	return send(c->w.fd, c->data + c->at, c->len - c->at, MSG_NOSIGNAL);
}

static ssize_t read_some(struct conn *c)
{
	if (c->splice)
		return splice(c->w.fd, NULL, c->pipe[1], NULL, ROOM, SPLICE_F_NONBLOCK);
	return recv(c->w.fd, c->data, ROOM, 0);
}

/* false when the connection is over. */
static bool echo(struct conn *c)
{
	for (;;) {
		ssize_t n;

		while (c->at < c->len) {
			n = write_some(c);
			if (n < 0)
				return errno == EAGAIN;
			c->at += (size_t)n;
		}
		c->at = c->len = 0;
		n = read_some(c);
		if (n <= 0)
			return n < 0 && errno == EAGAIN;
		c->len = (size_t)n;
	}
}

static void on_events(struct watch *w, uint32_t events)
{
	struct conn *c = (struct conn *)w;
	bool out;

	if (!echo(c)) {
		conn_free(c);
		return;
	}
	out = c->at < c->len;
	if (out != c->out && !loop_mod(&loop, w, out ? EPOLLOUT : EPOLLIN))
		c->out = out;
}

static void on_accept(struct watch *w, uint32_t events)
{
	for (int fd; (fd = accept4(w->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
		struct conn *c = malloc(sizeof(*c));

		accepted++;
		if (c)
			c->splice = atoi(opt_splice) && accepted >= atoi(opt_splice);
		if (c && c->splice && pipe2(c->pipe, O_NONBLOCK | O_CLOEXEC) < 0) {
			free(c);
			c = NULL;
		}
		if (!c || loop_add(&loop, &c->w, fd, EPOLLIN, on_events)) {
			close(fd);
			free(c);
			continue;
		}
		net_nodelay(fd);
		c->out = false;
		c->at = 0;
		c->len = (size_t)snprintf(c->data, ROOM, "%s%s", opt_banner,
					  *opt_banner ? "\r\n" : "");
		if (c->splice && write(c->pipe[1], c->data, c->len) != (ssize_t)c->len)
			c->len = 0;
		/* who splices waits for the first bytes: noticed before them, it does no harm */
		if (!c->splice || c->len)
			on_events(&c->w, 0);
	}
}

int main(int argc, char **argv)
{
	static struct watch listener;
	struct addr a = {0};
	int fd, err;

	(void)options_parse(&program, argc, argv);
	if (addr_parse_ip(opt_listen, a.ip))
		options_usage(&program, "--listen: not an address");
	a.port = (uint16_t)atoi(opt_port);
	net_raise_nofile();
	signal(SIGPIPE, SIG_IGN);
	err = loop_init(&loop);
	fd = err ? err : net_listen(&a);
	err = fd < 0 ? fd : loop_add(&loop, &listener, fd, EPOLLIN, on_accept);
	if (!err)
		err = loop_run(&loop);
	if (err)
		fprintf(stderr, "tcpserver: %s\n", strerror(-err));
	return err ? 1 : 0;
}
