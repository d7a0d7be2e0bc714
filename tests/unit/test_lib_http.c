/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lib/http, blocking and on a loop, against a small server of its own (one child process per test:
 * it answers each connection with a fixed text, after reading one request head, which it can hand
 * back).
 */
#include "lib/http.h"

#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum behaviour { ANSWER, ECHO, SILENT, HANG_UP, FLOOD };

struct server {
	pid_t pid;
	char base[64], dir[32], path[64];
};

static void send_all(int fd, const char *data, size_t len)
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
static size_t read_request(int fd, char *buf, size_t cap)
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

static void serve_one(int fd, enum behaviour how, const char *text)
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

static void server_start(struct server *s, bool local, enum behaviour how, const char *text)
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

static void server_stop(struct server *s)
{
	kill(s->pid, SIGKILL);
	assert_int_equal(waitpid(s->pid, NULL, 0), s->pid);
	if (s->path[0]) {
		unlink(s->path);
		rmdir(s->dir);
	}
}

static int call(const struct server *s, const char *method, const char *path, struct http_answer *a)
{
	const struct http_call c = {
		.method = method, .base = s->base, .path = path, .timeout_ms = 5000};

	return http_call(&c, a);
}

static void answer_has_status_body_and_etag(void **state)
{
	struct http_answer a;
	struct server s;

	server_start(&s, false, ANSWER,
		     "HTTP/1.1 404 Not Found\r\nETag:  \"7\" \r\nContent-Length: 5\r\nConnection: "
		     "close\r\n\r\nhello");
	assert_int_equal(call(&s, "GET", "/x", &a), 0);
	assert_int_equal(a.status, 404);
	assert_string_equal(a.body, "hello");
	assert_int_equal(a.len, 5);
	assert_string_equal(a.etag, "\"7\"");
	http_answer_done(&a);
	server_stop(&s);
}

static void empty_answer_has_an_empty_body(void **state)
{
	struct http_answer a;
	struct server s;

	server_start(&s, false, ANSWER, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
	assert_int_equal(call(&s, "DELETE", "/x", &a), 0);
	assert_int_equal(a.status, 204);
	assert_string_equal(a.body, "");
	assert_string_equal(a.etag, "");
	http_answer_done(&a);
	server_stop(&s);
}

static void redirect_is_not_followed(void **state)
{
	struct http_answer a;
	struct server s;

	server_start(&s, false, ANSWER,
		     "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: "
		     "0\r\nConnection: close\r\n\r\n");
	assert_int_equal(call(&s, "GET", "/", &a), 0);
	assert_int_equal(a.status, 302);
	http_answer_done(&a);
	server_stop(&s);
}

static void request_carries_body_token_and_etag_over_a_unix_socket(void **state)
{
	struct http_answer a;
	struct server s;
	struct http_call c = {.method = "PUT",
			      .path = "/api/config/a%2Fb?dryRun=true",
			      .token = "secret",
			      .if_match = "\"3\"",
			      .body = "{\"a\":1}xxx",
			      .body_len = 7};

	server_start(&s, true, ECHO, NULL);
	c.base = s.base;
	assert_int_equal(http_call(&c, &a), 0);
	assert_memory_equal(a.body, "PUT /api/config/a%2Fb?dryRun=true HTTP/1.1\r\n", 44);
	assert_non_null(strstr(a.body, "Host: localhost\r\n"));
	assert_non_null(strstr(a.body, "Authorization: Bearer secret\r\n"));
	assert_non_null(strstr(a.body, "If-Match: \"3\"\r\n"));
	assert_non_null(strstr(a.body, "Content-Type: application/json\r\n"));
	assert_null(strstr(a.body, "Expect:"));
	assert_non_null(strstr(a.body, "\r\n\r\n{\"a\":1}"));
	assert_null(strstr(a.body, "xxx"));
	http_answer_done(&a);
	server_stop(&s);
}

static void a_body_may_come_in_pieces_of_any_bytes(void **state)
{
	static char big[5000];
	const struct iovec pieces[] = {{"{\"a\":1}\0", 8}, {big, sizeof(big)}, {"", 0}, {"end", 3}};
	struct http_answer a;
	struct server s;
	struct http_call c = {.method = "POST", .path = "/x", .pieces = pieces, .npieces = 4};
	const char *body;

	memset(big, 7, sizeof(big));
	big[0] = 0;
	server_start(&s, true, ECHO, NULL);
	c.base = s.base;
	assert_int_equal(http_call(&c, &a), 0);
	assert_non_null(strstr(a.body, "Content-Type: application/json\r\n"));
	assert_non_null(strstr(a.body, "Content-Length: 5011\r\n"));
	assert_null(strstr(a.body, "Expect:"));
	body = strstr(a.body, "\r\n\r\n") + 4;
	assert_int_equal(a.len - (size_t)(body - a.body), 5011);
	assert_memory_equal(body, "{\"a\":1}", 8);
	assert_memory_equal(body + 8, big, sizeof(big));
	assert_memory_equal(body + 5008, "end", 3);
	http_answer_done(&a);
	server_stop(&s);
}

static void post_without_a_body_says_so(void **state)
{
	struct http_answer a;
	struct server s;

	server_start(&s, false, ECHO, NULL);
	assert_int_equal(call(&s, "POST", "/x", &a), 0);
	assert_memory_equal(a.body, "POST /x HTTP/1.1\r\n", 18);
	assert_non_null(strstr(a.body, "Content-Length: 0\r\n"));
	http_answer_done(&a);
	server_stop(&s);
}

static void proxy_from_the_environment_is_ignored(void **state)
{
	struct http_answer a;
	struct server s;

	setenv("http_proxy", "http://127.0.0.1:1", 1);
	server_start(&s, false, ECHO, NULL);
	assert_int_equal(call(&s, "GET", "/x", &a), 0);
	http_answer_done(&a);
	server_stop(&s);
	unsetenv("http_proxy");
}

static void failures_have_an_errno(void **state)
{
	struct http_answer a;
	struct http_call c = {.method = "GET", .base = "http://127.0.0.1:1", .path = "/"};
	struct server s;

	assert_int_equal(http_call(&c, &a), -ECONNREFUSED);
	assert_null(a.body);
	http_answer_done(&a);

	c.base = "unix:/nonexistent/sock";
	assert_int_equal(http_call(&c, &a), -ENOENT);

	server_start(&s, true, HANG_UP, NULL);
	assert_int_equal(call(&s, "GET", "/", &a), -ECONNRESET);
	kill(s.pid, SIGKILL);
	/* the socket file is still there, but nobody behind it */
	assert_int_equal(waitid(P_PID, (id_t)s.pid, NULL, WEXITED | WNOWAIT), 0);
	assert_int_equal(call(&s, "GET", "/", &a), -ECONNREFUSED);
	server_stop(&s);

	server_start(&s, false, ANSWER, "SSH-2.0-x\r\n\r\n");
	assert_int_equal(call(&s, "GET", "/", &a), -EPROTO);
	server_stop(&s);
}

static void silent_server_is_a_timeout(void **state)
{
	struct http_answer a;
	struct server s;
	struct http_call c = {.method = "GET", .path = "/", .timeout_ms = 50};

	server_start(&s, false, SILENT, NULL);
	c.base = s.base;
	assert_int_equal(http_call(&c, &a), -ETIMEDOUT);
	server_stop(&s);
}

static void oversized_answer_is_refused(void **state)
{
	struct http_answer a;
	struct server s;

	server_start(&s, false, FLOOD, NULL);
	assert_int_equal(call(&s, "GET", "/", &a), -EMSGSIZE);
	assert_null(a.body);
	server_stop(&s);
	server_start(&s, false, ANSWER, "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n");
	assert_int_equal(call(&s, "GET", "/", &a), -EMSGSIZE);
	server_stop(&s);
}

static void request_that_could_smuggle_is_refused(void **state)
{
	struct http_answer a;
	struct http_call c = {.method = "GET", .base = "http://127.0.0.1:1", .path = "/a b"};

	assert_int_equal(http_call(&c, &a), -EINVAL);
	c.path = "/\r\nX: y";
	assert_int_equal(http_call(&c, &a), -EINVAL);
	c.path = "no-slash";
	assert_int_equal(http_call(&c, &a), -EINVAL);
	c.path = "/";
	c.token = "a\r\nX: y";
	assert_int_equal(http_call(&c, &a), -EINVAL);
	c.token = NULL;
	c.base = "ftp://127.0.0.1";
	assert_int_equal(http_call(&c, &a), -EINVAL);
}

static void path_segments_are_escaped(void **state)
{
	char out[16];

	assert_int_equal(http_escape("a/b c~", out, sizeof(out)), 0);
	assert_string_equal(out, "a%2Fb%20c~");
	assert_int_equal(http_escape("", out, sizeof(out)), 0);
	assert_string_equal(out, "");
	assert_int_equal(http_escape("\xff\xff\xff\xff\xff", out, sizeof(out)), 0);
	assert_int_equal(http_escape("\xff\xff\xff\xff\xff\xff", out, sizeof(out)), -ENOBUFS);
}

/* --- on a loop ----------------------------------------------------------------------- */

struct outcome {
	struct http_client **client;
	const struct server *again; /* start one more call from the callback */
	int calls, error, status;
	bool free_client;
};

static void on_answer(const struct http_answer *a, void *arg)
{
	struct outcome *o = arg;
	struct http_call c = {.method = "GET", .path = "/again"};

	o->calls++;
	o->error = a->error;
	o->status = a->status;
	if (!a->error)
		assert_non_null(a->body);
	if (o->again) {
		c.base = o->again->base;
		o->again = NULL;
		assert_int_equal(http_client_start(*o->client, &c, on_answer, o), 0);
	}
	if (o->free_client)
		http_client_free(o->client);
}

static void run_until(struct loop *l, const int *calls, int wanted)
{
	for (int i = 0; i < 500 && *calls < wanted; i++)
		assert_int_equal(loop_once(l, 20), 0);
	assert_int_equal(*calls, wanted);
}

static void async_calls_answer_from_the_loop(void **state)
{
	struct http_client *hc;
	struct outcome o[3] = {0};
	struct server good, local;
	struct http_call c = {.method = "GET", .path = "/"};
	struct loop l;

	server_start(&good, false, ECHO, NULL);
	server_start(&local, true, ECHO, NULL);
	assert_int_equal(loop_init(&l), 0);
	assert_int_equal(http_client_new(&l, &hc), 0);
	o[0].client = &hc;
	o[0].again = &local;
	c.base = good.base;
	assert_int_equal(http_client_start(hc, &c, on_answer, &o[0]), 0);
	c.base = "http://127.0.0.1:1";
	assert_int_equal(http_client_start(hc, &c, on_answer, &o[1]), 0);
	c.path = "bad";
	assert_int_equal(http_client_start(hc, &c, on_answer, &o[2]), -EINVAL);
	assert_int_equal(o[0].calls + o[1].calls, 0); /* never from inside the start */
	run_until(&l, &o[0].calls, 2);
	run_until(&l, &o[1].calls, 1);
	assert_int_equal(o[0].status, 200);
	assert_int_equal(o[1].error, -ECONNREFUSED);
	assert_int_equal(o[2].calls, 0);
	http_client_free(&hc);
	assert_null(hc);
	loop_done(&l);
	server_stop(&good);
	server_stop(&local);
}

static void async_timeout_fires(void **state)
{
	struct http_client *hc;
	struct outcome o = {0};
	struct server s;
	struct http_call c = {.method = "GET", .path = "/", .timeout_ms = 50};
	struct loop l;

	server_start(&s, false, SILENT, NULL);
	assert_int_equal(loop_init(&l), 0);
	assert_int_equal(http_client_new(&l, &hc), 0);
	c.base = s.base;
	assert_int_equal(http_client_start(hc, &c, on_answer, &o), 0);
	run_until(&l, &o.calls, 1);
	assert_int_equal(o.error, -ETIMEDOUT);
	http_client_free(&hc);
	loop_done(&l);
	server_stop(&s);
}

static void calls_are_cancelled_by_their_arg(void **state)
{
	struct http_client *hc;
	struct outcome o[2] = {0}, other = {0};
	struct server silent, good;
	struct http_call c = {.method = "GET", .path = "/"};
	struct loop l;

	server_start(&silent, false, SILENT, NULL);
	server_start(&good, false, ECHO, NULL);
	assert_int_equal(loop_init(&l), 0);
	assert_int_equal(http_client_new(&l, &hc), 0);
	c.base = silent.base;
	assert_int_equal(http_client_start(hc, &c, on_answer, &o[0]), 0);
	assert_int_equal(loop_once(&l, 20), 0);
	c.base = good.base;
	assert_int_equal(http_client_start(hc, &c, on_answer, &o[0]), 0);
	assert_int_equal(http_client_start(hc, &c, on_answer, &other), 0);
	http_client_cancel(hc, &o[0]);
	http_client_cancel(hc, &o[1]); /* has none */
	run_until(&l, &other.calls, 1);
	assert_int_equal(o[0].calls, 0);
	http_client_free(&hc);
	loop_done(&l);
	server_stop(&silent);
	server_stop(&good);
}

static void freeing_the_client_cancels_what_is_under_way(void **state)
{
	struct http_client *hc;
	struct outcome o = {0}, last = {.client = &hc, .free_client = true};
	struct server silent, good;
	struct http_call c = {.method = "GET", .path = "/"};
	struct loop l;

	server_start(&silent, false, SILENT, NULL);
	server_start(&good, false, ECHO, NULL);
	assert_int_equal(loop_init(&l), 0);
	assert_int_equal(http_client_new(&l, &hc), 0);
	c.base = silent.base;
	assert_int_equal(http_client_start(hc, &c, on_answer, &o), 0);
	c.base = good.base;
	assert_int_equal(http_client_start(hc, &c, on_answer, &last), 0);
	run_until(&l, &last.calls, 1); /* its callback frees the client */
	assert_null(hc);
	assert_int_equal(loop_once(&l, 20), 0);
	assert_int_equal(o.calls, 0);
	assert_int_equal(l.armed, 0);
	http_client_free(&hc);
	loop_done(&l);
	server_stop(&silent);
	server_stop(&good);
}

/* What is taken while it comes. */
struct taken {
	size_t bytes, stop_at; /* stop_at 0: never */
};

static int take(const char *data, size_t len, void *arg)
{
	struct taken *t = arg;

	t->bytes += len;
	return t->stop_at && t->bytes >= t->stop_at;
}

static int stream(enum behaviour how, const char *text, int stop_fd, struct taken *t,
		  struct http_answer *a)
{
	struct http_taker taker = {.take = take, .arg = t, .stop_fd = stop_fd, .idle_ms = 1000};
	struct http_call c = {.method = "GET", .path = "/s"};
	struct server s;
	int r;

	server_start(&s, false, how, text);
	c.base = s.base;
	r = http_stream(&c, &taker, a);
	server_stop(&s);
	assert_int_equal(a->error, r);
	return r;
}

static void a_stream_may_be_larger_than_any_answer(void **state)
{
	struct taken t = {0};
	struct http_answer a;

	assert_int_equal(stream(FLOOD, NULL, -1, &t, &a), 0);
	assert_int_equal(a.status, 200);
	assert_true(t.bytes > HTTP_ANSWER_MAX);
	assert_int_equal(a.len, 0);
	http_answer_done(&a);
}

static void who_takes_a_stream_can_end_it(void **state)
{
	struct taken t = {.stop_at = 1};
	struct http_answer a;

	assert_int_equal(stream(FLOOD, NULL, -1, &t, &a), -ECANCELED);
	assert_true(t.bytes > 0 && t.bytes <= HTTP_ANSWER_MAX);
	http_answer_done(&a);
}

static void a_byte_from_elsewhere_ends_a_stream(void **state)
{
	struct taken t = {0};
	struct http_answer a;
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	assert_int_equal(write(fds[1], "x", 1), 1);
	assert_int_equal(stream(SILENT, NULL, fds[0], &t, &a), -ECANCELED);
	assert_int_equal(t.bytes, 0);
	http_answer_done(&a);
	close(fds[0]);
	close(fds[1]);
}

static void a_silent_stream_is_a_timeout(void **state)
{
	struct taken t = {0};
	struct http_answer a;

	assert_int_equal(stream(SILENT, NULL, -1, &t, &a), -ETIMEDOUT);
	http_answer_done(&a);
}

static void a_refusal_is_no_stream(void **state)
{
	struct taken t = {0};
	struct http_answer a;

	assert_int_equal(
		stream(ANSWER, "HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\n{}", -1, &t, &a), 0);
	assert_int_equal(a.status, 503);
	assert_string_equal(a.body, "{}");
	assert_int_equal(t.bytes, 0);
	http_answer_done(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answer_has_status_body_and_etag),
		cmocka_unit_test(empty_answer_has_an_empty_body),
		cmocka_unit_test(redirect_is_not_followed),
		cmocka_unit_test(request_carries_body_token_and_etag_over_a_unix_socket),
		cmocka_unit_test(a_body_may_come_in_pieces_of_any_bytes),
		cmocka_unit_test(post_without_a_body_says_so),
		cmocka_unit_test(proxy_from_the_environment_is_ignored),
		cmocka_unit_test(failures_have_an_errno),
		cmocka_unit_test(silent_server_is_a_timeout),
		cmocka_unit_test(oversized_answer_is_refused),
		cmocka_unit_test(request_that_could_smuggle_is_refused),
		cmocka_unit_test(path_segments_are_escaped),
		cmocka_unit_test(a_stream_may_be_larger_than_any_answer),
		cmocka_unit_test(who_takes_a_stream_can_end_it),
		cmocka_unit_test(a_byte_from_elsewhere_ends_a_stream),
		cmocka_unit_test(a_silent_stream_is_a_timeout),
		cmocka_unit_test(a_refusal_is_no_stream),
		cmocka_unit_test(async_calls_answer_from_the_loop),
		cmocka_unit_test(async_timeout_fires),
		cmocka_unit_test(calls_are_cancelled_by_their_arg),
		cmocka_unit_test(freeing_the_client_cancels_what_is_under_way),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
