/* SPDX-License-Identifier: Apache-2.0 */
/* Server and client of `meshctl check`'s request. Plain blocking sockets, as an application without
 * any mesh code has. */
#include "ctl/meshctl/meshctl.h"
#include "ctl/meshctl/probe.h"
#include "ctl/meshctl/text.h"
#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/name.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define IO_TIMEOUT_MS 1000
#define RETRY_MS      20

struct outcome {
	bool captured;
	char instance[NAME_LEN_MAX + 1], error[128];
	double millis;
};

static int listen_anywhere(uint16_t *port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&a, len) || listen(fd, 16) ||
	    getsockname(fd, (struct sockaddr *)&a, &len)) {
		int rc = -errno;

		close(fd);
		return rc;
	}
	*port = ntohs(a.sin_port);
	return fd;
}

static void set_timeouts(int fd)
{
	struct timeval t = {.tv_sec = IO_TIMEOUT_MS / 1000};

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof(t));
}

/* One request a connection: read its head, answer, close. */
static void serve(int fd)
{
	static const char answer[] =
		"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n";
	char head[8192];
	size_t len = 0;

	set_timeouts(fd);
	while (len < sizeof(head) - 1) {
		ssize_t n = recv(fd, head + len, sizeof(head) - 1 - len, 0);

		if (n <= 0)
			return;
		len += n;
		head[len] = '\0';
		if (strstr(head, "\r\n\r\n"))
			break;
	}
	send(fd, answer, sizeof(answer) - 1, MSG_NOSIGNAL);
}

int cmd_probe_server(struct cli *cli)
{
	struct pollfd p[2] = {{.fd = -1, .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};
	uint16_t port = 0;

	p[0].fd = listen_anywhere(&port);
	if (p[0].fd < 0)
		return cli_fail("cannot listen on 127.0.0.1: %s", strerror(-p[0].fd));
	printf("%u\n", port);
	fflush(stdout);
	while (!p[1].revents) {
		int fd;

		if (poll(p, 2, -1) < 0 && errno != EINTR)
			break;
		if (!(p[0].revents & POLLIN))
			continue;
		fd = accept4(p[0].fd, NULL, NULL, SOCK_CLOEXEC);
		if (fd >= 0) {
			serve(fd);
			close(fd);
		}
	}
	close(p[0].fd);
	return EXIT_OK;
}

static void find_instance(char *head, struct outcome *o)
{
	static const char name[] = "x-instance-id:";
	char *save = NULL;

	for (char *l = strtok_r(head, "\r\n", &save); l; l = strtok_r(NULL, "\r\n", &save)) {
		if (strncasecmp(l, name, sizeof(name) - 1))
			continue;
		l += sizeof(name) - 1;
		l += strspn(l, " \t");
		snprintf(o->instance, sizeof(o->instance), "%s", l);
		o->captured = true;
		return;
	}
}

static int exchange(int fd, uint16_t port, struct outcome *o)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
				.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
				.sin_port = htons(port)};
	char request[128], head[8192];
	size_t len = 0;
	ssize_t n;

	if (connect(fd, (struct sockaddr *)&a, sizeof(a)))
		return -errno;
	n = snprintf(request, sizeof(request),
		     "GET /check HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nConnection: close\r\n\r\n",
		     port);
	if (send(fd, request, n, MSG_NOSIGNAL) != n)
		return -errno;
	while (len < sizeof(head) - 1 && (n = recv(fd, head + len, sizeof(head) - 1 - len, 0)) > 0)
		len += n;
	if (n < 0)
		return -errno;
	head[len] = '\0';
	if (strncmp(head, "HTTP/1.1 200", 12)) {
		snprintf(o->error, sizeof(o->error), "the answer was: %.*s",
			 len ? (int)strcspn(head, "\r\n") : 7, len ? head : "nothing");
		return -EPROTO;
	}
	find_instance(head, o);
	return 0;
}

static void ask(uint16_t port, struct outcome *o)
{
	uint64_t begin = clock_mono_ns();
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), rc;

	*o = (struct outcome){0};
	if (fd < 0) {
		snprintf(o->error, sizeof(o->error), "socket: %s", strerror(errno));
		return;
	}
	set_timeouts(fd);
	rc = exchange(fd, port, o);
	close(fd);
	if (rc && !o->error[0])
		snprintf(o->error, sizeof(o->error), "%s", strerror(-rc));
	o->millis = (clock_mono_ns() - begin) / 1e6;
}

static void print_outcome(struct outcome *o)
{
	struct buf b;

	buf_init(&b, 4096);
	buf_printf(&b,
		   "{\"captured\":%s,\"millis\":%.3f,\"instance\":", o->captured ? "true" : "false",
		   o->millis);
	buf_json(&b, o->instance, strlen(o->instance));
	buf_str(&b, ",\"error\":");
	buf_json(&b, o->error, strlen(o->error));
	buf_char(&b, '}');
	puts(b.data ? b.data : "");
	buf_done(&b);
}

int cmd_probe_client(struct cli *cli)
{
	uint64_t until = clock_mono_ns() + PROBE_CAPTURED_WITHIN_MS * 1000000ull, port;
	struct timespec pause = {.tv_nsec = RETRY_MS * 1000000};
	struct outcome o;

	if (text_number(cli->argv[0], 1, 65535, &port))
		return cli_usage(cli, "%s is no port", cli->argv[0]);
	for (;;) {
		ask(port, &o);
		if ((o.captured && !o.error[0]) || clock_mono_ns() >= until)
			break;
		nanosleep(&pause, NULL);
	}
	print_outcome(&o);
	return EXIT_OK;
}
