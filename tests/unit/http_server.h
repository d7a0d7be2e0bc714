/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small HTTP server for tests of lib/http, a child process: it answers each connection in one
 * way, after reading one request, which it can hand back. Header only; after cmocka.h.
 */
#ifndef TESTS_HTTP_SERVER_H
#define TESTS_HTTP_SERVER_H

#include "lib/http.h"

#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum behaviour { ANSWER, ECHO, SILENT, HANG_UP, FLOOD };

struct server {
	pid_t pid;
	char base[64], dir[32], path[64];
};

static inline void send_all(int fd, const char *data, size_t len)
{
	while (len) {
		ssize_t n = send(fd, data, len, MSG_NOSIGNAL);

		if (n <= 0)
			return;
		data += n;
		len -= (size_t)n;
	}
}

/* Reads until the end of the head and of a Content-Length body. */
static inline size_t read_request(int fd, char *buf, size_t cap)
{
	size_t len = 0, want = 0;
	char *end = NULL, *length;
	ssize_t n;

	while ((!end || len < want) && len < cap - 1) {
		n = recv(fd, buf + len, cap - 1 - len, 0);
		if (n <= 0)
			break;
		len += (size_t)n;
		buf[len] = 0;
		end = strstr(buf, "\r\n\r\n");
		length = strcasestr(buf, "content-length:");
		if (end)
			want = (size_t)(end + 4 - buf) + (length ? (size_t)atol(length + 15) : 0);
	}
	return len;
}

static inline void serve_one(int fd, enum behaviour how, const char *text)
{
	char request[8192], head[128];
	size_t n = read_request(fd, request, sizeof(request));

	switch (how) {
	case ANSWER:
		send_all(fd, text, strlen(text));
		break;
	case ECHO:
		snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", n);
		send_all(fd, head, strlen(head));
		send_all(fd, request, n);
		break;
	case SILENT:
		pause();
		break;
	case HANG_UP:
		break;
	case FLOOD: /* more than the client's limit, without saying so before */
		send_all(fd, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", 38);
		memset(request, 'x', sizeof(request));
		for (size_t sent = 0; sent <= HTTP_ANSWER_MAX; sent += sizeof(request))
			send_all(fd, request, sizeof(request));
		break;
	}
}

static inline void server_start(struct server *s, bool local, enum behaviour how, const char *text)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	socklen_t len = sizeof(in);
	int fd = socket(local ? AF_UNIX : AF_INET, SOCK_STREAM, 0), c;

	memset(s, 0, sizeof(*s));
	assert_true(fd >= 0);
	if (local) {
		snprintf(s->dir, sizeof(s->dir), "/tmp/http-test.XXXXXX");
		assert_non_null(mkdtemp(s->dir));
		snprintf(s->path, sizeof(s->path), "%s/sock", s->dir);
		memcpy(un.sun_path, s->path, sizeof(s->path));
		assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof(un)), 0);
		snprintf(s->base, sizeof(s->base), "unix:%.58s", s->path);
	} else {
		assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof(in)), 0);
		assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &len), 0);
		snprintf(s->base, sizeof(s->base), "http://127.0.0.1:%u", ntohs(in.sin_port));
	}
	assert_int_equal(listen(fd, 16), 0);
	s->pid = fork();
	assert_true(s->pid >= 0);
	if (!s->pid) {
		if (prctl(PR_SET_PDEATHSIG, SIGKILL) <
		    0) /* also when a failed assertion ends the test */
			_exit(1);
		while ((c = accept(fd, NULL, NULL)) >= 0) {
			serve_one(c, how, text);
			close(c);
		}
		_exit(0);
	}
	close(fd);
}

static inline void server_stop(struct server *s)
{
	kill(s->pid, SIGKILL);
	assert_int_equal(waitpid(s->pid, NULL, 0), s->pid);
	if (s->path[0]) {
		unlink(s->path);
		rmdir(s->dir);
	}
}

#endif
