/* SPDX-License-Identifier: Apache-2.0 */
/* lib/http, blocking, against a small server of its own. */
#include "lib/http.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
/* after the types that it needs */
#include "tests/unit/http_server.h"

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
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
