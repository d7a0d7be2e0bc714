/* SPDX-License-Identifier: Apache-2.0 */
/* What HTTP/1.1 asks of a proxy, between a caller and an origin that both know nothing of it. */
#include "tests/e2e/harness.h"
#include "tests/bench/pattern.h"

#include <sys/socket.h>

static struct instance *web;
static struct caller *who;

/* A caller's connection to an origin that runs with these flags. */
static struct client *open_web(const char *flags)
{
	char cmd[256];

	snprintf(cmd, sizeof(cmd), "origin --port 8000 %s", flags);
	web = instance_ready(instance_start("web", "web-1", "--netns", cmd));
	who = caller_start("client", "--netns");
	return call(who, web->address);
}

static void a_call_is_answered_and_says_by_whom(void **state)
{
	struct client *c = open_web("");

	assert_int_equal(get(c, "/hello"), 200);
	assert_int_equal(c->body_len, 128);
	assert_string_equal(header(c, "x-instance-id"), "web-1");
	assert_string_equal(header(c, "x-origin"), "web-1");
	assert_string_equal(header(c, "x-mesh-cause"), "");
}

static void a_connection_serves_many_requests(void **state)
{
	struct client *c = open_web("");

	for (int i = 0; i < 100; i++)
		assert_int_equal(get(c, "/?len=%d&seed=%d", i * 10, i), 200);
	assert_int_equal(origin_stat(web, "requests"), 100);
	/* over about as many connections to the origin as there are workers, and again as many
	 * while it gets known (upconn_put); one more is this question */
	assert_in_range(origin_stat(web, "connections"), 1, 10);
}

static void many_connections_share_few_upstream(void **state)
{
	struct client *c = open_web("");

	assert_int_equal(get(c, "/"), 200);
	for (int i = 0; i < 50; i++) {
		c = call(who, web->address);
		assert_int_equal(get(c, "/"), 200);
		hang_up(c);
	}
	assert_true(origin_stat(web, "connections") <= 10);
}

static void pipelined_requests_are_answered_in_order(void **state)
{
	struct client *c = open_web("");
	char all[8192] = "";

	for (int i = 0; i < 20; i++)
		sprintf(all + strlen(all), "%s /%d?seed=%d&len=%d HTTP/1.1\r\nHost: w\r\n\r\n",
			i % 5 == 4 ? "HEAD" : "GET", i, i, i * 7);
	say_bytes(c, all, strlen(all));
	for (int i = 0; i < 20; i++) {
		assert_int_equal(answer(c, i % 5 == 4 ? "HEAD" : "GET"), 200);
		assert_int_equal(atoi(header(c, "x-seed")), i);
		assert_int_equal(c->body_len, i % 5 == 4 ? 0 : i * 7);
	}
}

static void bodies_arrive_whole_both_ways_in_both_forms(void **state)
{
	static char body[200000];
	struct client *c = open_web("");

	pattern_fill(77, 0, body, sizeof(body));
	for (int chunked = 0; chunked < 2; chunked++) {
		say(c, "POST /?bseed=77&seed=5&len=300000&chunked=%d HTTP/1.1\r\nHost: w\r\n",
		    chunked * 1000);
		if (chunked) {
			say(c, "Transfer-Encoding: chunked\r\n\r\n");
			for (size_t at = 0; at < sizeof(body); at += 5000) {
				say(c, "1388;ext=\"a;b\"\r\n");
				say_bytes(c, body + at, 5000);
				say(c, "\r\n");
			}
			say(c, "0\r\n\r\n");
		} else {
			say(c, "Content-Length: %zu\r\n\r\n", sizeof(body));
			say_bytes(c, body, sizeof(body));
		}
		assert_int_equal(answer(c, "POST"), 200);
		assert_string_equal(header(c, "x-body-ok"), "1");
		assert_string_equal(header(c, "x-body-bytes"), "200000");
		assert_true(c->whole);
		assert_int_equal(c->body_len, 300000);
		assert_true(pattern_check(5, 0, c->body, c->body_len));
	}
}

static void a_head_may_come_byte_by_byte(void **state)
{
	static const char text[] =
		"POST /?echo=1 HTTP/1.1\r\nHost: web\r\nContent-Length: 5\r\n\r\nhello";
	struct client *c = open_web("");

	for (size_t i = 0; i < sizeof(text) - 1; i++)
		say_bytes(c, text + i, 1);
	assert_int_equal(answer(c, "POST"), 200);
	assert_string_equal(c->body, "hello");
}

static void trailers_pass(void **state)
{
	struct client *c = open_web("");

	assert_int_equal(get(c, "/?len=1000&chunked=100&trailers=1&seed=42"), 200);
	assert_non_null(strcasestr(c->b.trailer, "x-trail: 42"));
	assert_int_equal(get(c, "/"), 200);
}

static void head_204_and_304_have_no_body(void **state)
{
	struct client *c = open_web("");

	say(c, "HEAD /?len=5000 HTTP/1.1\r\nHost: w\r\n\r\n");
	assert_int_equal(answer(c, "HEAD"), 200);
	assert_string_equal(header(c, "content-length"), "5000");
	assert_int_equal(get(c, "/?status=204"), 204);
	assert_int_equal(get(c, "/?status=304"), 304);
	assert_int_equal(get(c, "/?seed=3&len=3"), 200); /* and nothing is left in between */
	assert_string_equal(header(c, "x-seed"), "3");
}

static void interim_answers_pass(void **state)
{
	struct client *c = open_web("");

	assert_int_equal(get(c, "/?interim=1"), 200);
	assert_int_equal(c->interims, 1);
	assert_int_equal(c->body_len, 128);
}

static void expect_100_continue_is_answered_by_the_origin(void **state)
{
	struct client *c = open_web("");
	char line[26] = "";

	say(c, "POST /?echo=1 HTTP/1.1\r\nHost: w\r\nContent-Length: 4\r\nExpect: "
	       "100-continue\r\n\r\n");
	assert_int_equal(take(c, line, 25), 25);
	assert_string_equal(line, "HTTP/1.1 100 Continue\r\n\r\n");
	say(c, "body");
	assert_int_equal(answer(c, "POST"), 200);
	assert_string_equal(c->body, "body");

	/* refused: the body is never sent */
	c = call(who, web->address);
	say(c, "POST /?refuse=1 HTTP/1.1\r\nHost: w\r\nContent-Length: 4\r\nExpect: "
	       "100-continue\r\n\r\n");
	assert_int_equal(answer(c, "POST"), 417);
	assert_int_equal(c->interims, 0);
}

static void upgrade_becomes_a_tunnel(void **state)
{
	struct client *c = open_web("");
	char back[11] = "";

	say(c, "GET /chat HTTP/1.1\r\nHost: w\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
	       "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n");
	assert_int_equal(answer(c, "GET"), 101);
	assert_string_equal(header(c, "upgrade"), "websocket");
	assert_non_null(strcasestr(header(c, "connection"), "upgrade"));
	for (int i = 0; i < 50; i++) {
		say_bytes(c, "\x81\x05\r\n\r\n\0GET", 10);
		assert_int_equal(take(c, back, 10), 10);
		assert_memory_equal(back, "\x81\x05\r\n\r\n\0GET", 10);
	}
	shutdown(c->fd, SHUT_WR);
	assert_true(hung_up(c, 5000));
}

static void a_half_closed_caller_gets_its_answer(void **state)
{
	struct client *c = open_web("");

	say(c, "GET /?delay=100&seed=9&len=100000 HTTP/1.1\r\nHost: w\r\n\r\n");
	shutdown(c->fd, SHUT_WR);
	assert_int_equal(answer(c, "GET"), 200);
	assert_int_equal(c->body_len, 100000);
	assert_true(hung_up(c, 5000));
}

static void connection_close_is_honoured(void **state)
{
	struct client *c = open_web("");

	say(c, "GET / HTTP/1.1\r\nHost: w\r\nConnection: close\r\n\r\n");
	assert_int_equal(answer(c, "GET"), 200);
	assert_non_null(strcasestr(header(c, "connection"), "close"));
	assert_true(hung_up(c, 5000));
	/* the origin's wish to close is about its own connection: the caller's may live */
	c = call(who, web->address);
	assert_int_equal(get(c, "/?close=1"), 200);
	c = call(who, web->address);
	say(c, "GET / HTTP/1.0\r\nHost: w\r\n\r\n");
	assert_int_equal(answer(c, "GET"), 200);
	assert_int_equal(c->body_len, 128);
	assert_true(hung_up(c, 5000));
}

static void a_body_that_ends_with_the_connection_arrives_whole(void **state)
{
	struct client *c = open_web("");

	assert_int_equal(get(c, "/?eof=1&len=70000&seed=8"), 200);
	assert_true(c->whole);
	assert_int_equal(c->body_len, 70000);
	assert_true(pattern_check(8, 0, c->body, c->body_len));
}

static void hop_by_hop_headers_stay_on_their_hop(void **state)
{
	struct client *c = open_web("");

	say(c, "GET /?reflect=1 HTTP/1.1\r\nHost: web.example:81\r\nConnection: keep-alive, "
	       "X-Private\r\n"
	       "Keep-Alive: timeout=5\r\nX-Private: secret\r\nProxy-Connection: keep-alive\r\n"
	       "X-Public: yes\r\nTE: trailers\r\n\r\n");
	assert_int_equal(answer(c, "GET"), 200);
	assert_null(strcasestr(c->body, "secret"));
	assert_null(strcasestr(c->body, "keep-alive:"));
	assert_null(strcasestr(c->body, "proxy-connection"));
	assert_non_null(strcasestr(c->body, "x-public: yes\r\n"));
	assert_non_null(strcasestr(c->body, "host: web.example:81\r\n"));
}

static void the_origin_learns_where_the_request_comes_from(void **state)
{
	struct client *c = open_web("");

	say(c,
	    "GET /?reflect=1 HTTP/1.1\r\nHost: web.example\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n");
	assert_int_equal(answer(c, "GET"), 200);
	assert_non_null(strcasestr(c->body, "x-forwarded-for: 192.0.2.7, 10.201."));
	assert_non_null(strcasestr(c->body, "x-forwarded-proto: http\r\n"));
	assert_non_null(strcasestr(c->body, "x-forwarded-host: web.example\r\n"));
	assert_non_null(strcasestr(c->body, "x-request-id: "));
	say(c, "GET /?reflect=1 HTTP/1.1\r\nHost: w\r\nX-Request-Id: mine-1\r\n\r\n");
	assert_int_equal(answer(c, "GET"), 200);
	assert_non_null(strcasestr(c->body, "x-request-id: mine-1\r\n"));
}

static long rss_kib(pid_t pid)
{
	char path[64], line[256];
	long kib = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		(void)sscanf(line, "VmRSS: %ld", &kib);
	if (f)
		fclose(f);
	return kib;
}

static long workers_rss_kib(void)
{
	pid_t pids[16];
	long sum = 0;

	for (int i = agent_workers(pids, 16); i-- > 0;)
		sum += rss_kib(pids[i]);
	return sum;
}

/* 64 MiB for a caller that does not read: it waits at the origin, not in the proxy. */
static void a_slow_reader_holds_the_origin_back(void **state)
{
	static char sink[1 << 16];
	struct client *c = open_web("");
	const uint64_t size = 64u << 20;
	long before;
	uint64_t got = 0;

	assert_int_equal(get(c, "/"), 200);
	before = workers_rss_kib();
	say(c, "GET /?seed=4&len=%lu HTTP/1.1\r\nHost: w\r\n\r\n", size);
	usleep(500000); /* as much as can flow, flows; there is no event for "nothing more comes" */
	assert_true(workers_rss_kib() - before < 8192);
	while (!memmem(c->in + c->at, c->len - c->at, "\r\n\r\n", 4)) {
		ssize_t n = recv(c->fd, c->in + c->len, 1, 0);

		assert_int_equal(n, 1);
		c->len++;
	}
	while (got < size) {
		ssize_t n = recv(c->fd, sink, sizeof(sink), 0);

		assert_true(n > 0);
		assert_true(pattern_check(4, got, sink, (size_t)n));
		got += (uint64_t)n;
	}
	assert_true(workers_rss_kib() - before < 8192);
}

static void a_slow_origin_holds_the_caller_back(void **state)
{
	static char block[1 << 20];
	struct client *c = open_web("");
	size_t sent = 0, size = 64u << 20;
	uint64_t until;
	long before;

	assert_int_equal(get(c, "/"), 200);
	before = workers_rss_kib();
	until = mono_ms() + 500; /* before the origin's 700 begin */
	say(c, "POST /?bseed=6&stall=700 HTTP/1.1\r\nHost: w\r\nContent-Length: %zu\r\n\r\n", size);
	while (mono_ms() < until && sent < size) {
		ssize_t n;

		pattern_fill(6, sent, block, sizeof(block));
		n = send(c->fd, block, size - sent < sizeof(block) ? size - sent : sizeof(block),
			 MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n > 0)
			sent += (size_t)n;
		else
			usleep(10000);
	}
	assert_true(sent < 32u << 20);
	assert_true(workers_rss_kib() - before < 8192);
	while (sent < size) {
		size_t n = size - sent < sizeof(block) ? size - sent : sizeof(block);

		pattern_fill(6, sent, block, n);
		say_bytes(c, block, n);
		sent += n;
	}
	assert_int_equal(answer(c, "POST"), 200);
	assert_string_equal(header(c, "x-body-ok"), "1");
}

int main(void)
{
	const struct CMUnitTest stories[] = {
		STORY(a_call_is_answered_and_says_by_whom),
		STORY(a_connection_serves_many_requests),
		STORY(many_connections_share_few_upstream),
		STORY(pipelined_requests_are_answered_in_order),
		STORY(bodies_arrive_whole_both_ways_in_both_forms),
		STORY(a_head_may_come_byte_by_byte),
		STORY(trailers_pass),
		STORY(head_204_and_304_have_no_body),
		STORY(interim_answers_pass),
		STORY(expect_100_continue_is_answered_by_the_origin),
		STORY(upgrade_becomes_a_tunnel),
		STORY(a_half_closed_caller_gets_its_answer),
		STORY(connection_close_is_honoured),
		STORY(a_body_that_ends_with_the_connection_arrives_whole),
		STORY(hop_by_hop_headers_stay_on_their_hop),
		STORY(the_origin_learns_where_the_request_comes_from),
		STORY(a_slow_reader_holds_the_origin_back),
		STORY(a_slow_origin_holds_the_caller_back),
	};

	return RUN(stories);
}
