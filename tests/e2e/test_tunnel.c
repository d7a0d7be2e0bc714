/* SPDX-License-Identifier: Apache-2.0 */
/* Connections that are not HTTP pass byte by byte, without a declared protocol and without a wait.
 */
#include "tests/e2e/harness.h"
#include "tests/bench/pattern.h"

#include <sys/socket.h>

#define QUICK_MS 900 /* the timeout of connect is a second */

static struct instance *svc;
static struct caller *who;

static struct client *open_tcp(const char *cmd)
{
	svc = instance_ready(instance_start("tcp", "tcp-1", "--netns", cmd));
	who = caller_start("client", "--netns");
	return call(who, svc->address);
}

static void echo(struct client *c, const void *p, size_t n)
{
	char *back = malloc(n);

	assert_non_null(back);
	say_bytes(c, p, n);
	assert_int_equal(take(c, back, n), n);
	assert_memory_equal(back, p, n);
	free(back);
}

static void a_server_that_speaks_first_is_heard_at_once(void **state)
{
	char line[11] = "";

	(void)open_tcp("tcpserver --port 9000 --banner '220 hello'");
	for (int i = 0; i < 20;
	     i++) { /* the first decides what the port speaks, the others know it */
		uint64_t start = mono_ms();
		struct client *c = call(who, svc->address);

		assert_int_equal(take(c, line, 11), 11);
		assert_memory_equal(line, "220 hello\r\n", 11);
		assert_true(mono_ms() - start < QUICK_MS);
		echo(c, "EHLO me\r\n", 9);
		hang_up(c);
	}
}

static void binary_bytes_of_the_client_pass_at_once(void **state)
{
	struct client *c = open_tcp("tcpserver --port 9000");
	uint64_t start = mono_ms();

	echo(c, "\0\0\0\x08\x04\xd2\x16\x2f", 8); /* what a PostgreSQL client begins with */
	assert_true(mono_ms() - start < QUICK_MS);
	for (int i = 0; i < 256; i++) {
		char byte = (char)i;

		echo(c, &byte, 1);
	}
}

static void a_tls_hello_passes(void **state)
{
	struct client *c = open_tcp("tcpserver --port 9000");

	echo(c, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11);
	/* one byte alone is enough to see that it is not HTTP */
	echo(call(who, svc->address), "\x16", 1);
}

static void text_that_begins_like_http_but_is_not_passes(void **state)
{
	struct client *c = open_tcp("tcpserver --port 9000");

	echo(c, "PING\r\n", 6);
	echo(call(who, svc->address), "*1\r\n$4\r\nPING\r\n", 14);
}

static void a_declared_tcp_service_may_speak_anything(void **state)
{
	struct client *c;

	svc = instance_ready(
		instance_start("tcp", "tcp-1", "--netns --protocol tcp", "tcpserver --port 9000"));
	who = caller_start("client", "--netns");
	c = call(who, svc->address);
	echo(c, "GET / HTTP/1.1\r\n\r\n", 18);
}

static void half_close_passes(void **state)
{
	struct client *c = open_tcp("tcpserver --port 9000");
	char back[4];

	echo(c, "\x01one", 4);
	say_bytes(c, "last", 4);
	shutdown(c->fd, SHUT_WR);
	assert_int_equal(take(c, back, 4), 4);
	assert_true(hung_up(c, 5000));
}

static void sixteen_megabytes_come_back_unchanged(void **state)
{
	static char out[1 << 16], in[1 << 16];
	struct client *c = open_tcp("tcpserver --port 9000");
	uint64_t sent = 0, got = 0;
	const uint64_t size = 16u << 20;

	echo(c, "\x02", 1);
	while (got < size) {
		if (sent < size && sent - got < 4 * sizeof(out)) {
			pattern_fill(11, sent, out, sizeof(out));
			say_bytes(c, out, sizeof(out));
			sent += sizeof(out);
			continue;
		}
		assert_int_equal(take(c, in, sizeof(in)), sizeof(in));
		assert_true(pattern_check(11, got, in, sizeof(in)));
		got += sizeof(in);
	}
}

static void a_killed_server_ends_the_tunnel(void **state)
{
	struct client *c = open_tcp("tcpserver --port 9000");

	echo(c, "\x03", 1);
	instance_kill(svc);
	assert_true(hung_up(c, 2000));
}

static void a_caller_that_goes_ends_the_tunnel(void **state)
{
	struct client *c = open_tcp("tcpserver --port 9000");

	echo(c, "\x03", 1);
	hang_up(c);
	eventually(2000, sh("nsenter -t %d -n ss -H -t -n state established | grep -c :9000",
			    instance_pid(svc))
					 ->out[0] == '0');
}

int main(void)
{
	const struct CMUnitTest stories[] = {
		STORY(a_server_that_speaks_first_is_heard_at_once),
		STORY(binary_bytes_of_the_client_pass_at_once),
		STORY(a_tls_hello_passes),
		STORY(text_that_begins_like_http_but_is_not_passes),
		STORY(a_declared_tcp_service_may_speak_anything),
		STORY(half_close_passes),
		STORY(sixteen_megabytes_come_back_unchanged),
		STORY(a_killed_server_ends_the_tunnel),
		STORY(a_caller_that_goes_ends_the_tunnel),
	};

	return RUN(stories);
}
