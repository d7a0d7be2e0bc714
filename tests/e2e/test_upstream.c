/* SPDX-License-Identifier: Apache-2.0 */
/* Origins that misbehave: what the caller gets, and that nothing is done twice. */
#include "tests/e2e/harness.h"

static struct instance *web;
static struct caller *who;

static struct client *open_web(const char *flags)
{
	char cmd[256];

	snprintf(cmd, sizeof(cmd), "origin --port 8000 %s", flags);
	web = instance_ready(instance_start("web", "web-1", "--netns --protocol http", cmd));
	who = caller_start("client", "--netns");
	return call(who, web->address);
}

static void assert_refused(struct client *c, int status, const char *cause)
{
	assert_int_equal(c->status, status);
	assert_string_equal(header(c, "x-mesh-cause"), cause);
}

/* Pooled connections that are closed at the moment they are used again. */
static void a_get_survives_a_pooled_connection_that_closes(void **state)
{
	struct client *c = open_web("--close-after 1");

	for (int i = 0; i < 200; i++)
		assert_int_equal(get(c, "/%d", i), 200);
	assert_int_equal(origin_stat(web, "requests"), 200);
}

static void a_get_survives_a_pooled_connection_that_is_reset(void **state)
{
	struct client *c = open_web("--reuse-reset");

	for (int i = 0; i < 50; i++)
		assert_int_equal(get(c, "/%d", i), 200);
}

static void a_post_is_never_made_twice(void **state)
{
	struct client *c = open_web("--reuse-reset");
	int sent = 0, ok = 0;

	for (int i = 0; i < 50; i++) {
		if (get(c, "/warm") < 0 || hung_up(c, 0))
			c = call(who, web->address);
		say(c, "POST /%d HTTP/1.1\r\nHost: w\r\nContent-Length: 2\r\n\r\nhi", i);
		sent++;
		if (answer(c, "POST") == 200)
			ok++;
		else
			assert_refused(c, 502, "upstream-reset");
		if (hung_up(c, 0))
			c = call(who, web->address);
	}
	printf("%d of %d answered 200\n", ok, sent);
	assert_int_equal(origin_stat(web, "posts"), sent);
}

static void idle_connections_that_the_origin_closes_cost_nothing(void **state)
{
	struct client *c = open_web("--idle-close 50");

	for (int i = 0; i < 5; i++) {
		assert_int_equal(get(c, "/"), 200);
		/* it has closed what was idle: only this question's connection is open */
		eventually(5000, origin_stat(web, "open") == 1);
		say(c, "POST / HTTP/1.1\r\nHost: w\r\nContent-Length: 2\r\n\r\nhi");
		assert_int_equal(answer(c, "POST"), 200);
	}
	assert_int_equal(origin_stat(web, "posts"), 5);
}

static void garbage_from_the_origin_becomes_502(void **state)
{
	static const char *const garbage[] = {
		"SSH-2.0-OpenSSH%0d%0a",
		"HTTP/1.1%20abc%20OK%0d%0a%0d%0a",
		"HTTP/"
		"1.1%20200%20OK%0d%0aContent-Length:%205%0d%0aContent-Length:%206%0d%0a%0d%0ahello",
		"HTTP/"
		"1.1%20200%20OK%0d%0aContent-Length:%205%0d%0aTransfer-Encoding:%20chunked%0d%0a%"
		"0d%0a0%0d%0a%0d%0a",
		"HTTP/1.1%20200%20OK%0d%0aX%20A:%20b%0d%0a%0d%0a",
		"HTTP/"
		"1.1%20200%20OK%0d%0aX-A:%20b%0aSet-Cookie:%20a%0d%0aContent-Length:%200%0d%0a%0d%"
		"0a",
		"%00%01%02%03",
	};
	struct client *c = open_web("");

	for (size_t i = 0; i < sizeof(garbage) / sizeof(garbage[0]); i++) {
		c = call(who, web->address);
		if (get(c, "/?raw=%s", garbage[i]) != 502 ||
		    strcmp(header(c, "x-mesh-cause"), "upstream-protocol"))
			fail_msg("%s: status %d, cause '%s'", garbage[i], c->status,
				 header(c, "x-mesh-cause"));
	}
}

static void an_origin_that_hangs_up_becomes_502(void **state)
{
	struct client *c = open_web("");

	say(c, "POST /?abort=1 HTTP/1.1\r\nHost: w\r\nContent-Length: 2\r\n\r\nhi");
	(void)answer(c, "POST");
	assert_refused(c, 502, "upstream-reset");
	assert_int_equal(origin_stat(web, "posts"), 1);
}

/* The head is out: all that is left is to make it plain that the body is not whole. */
static void a_body_cut_short_is_not_passed_as_whole(void **state)
{
	struct client *c = open_web("");

	assert_int_equal(get(c, "/?abort=2&len=10000"), 200);
	assert_false(c->whole);
	c = call(who, web->address);
	assert_int_equal(get(c, "/?abort=2&len=10000&chunked=100"), 200);
	assert_false(c->whole);
}

static void an_origin_that_takes_too_long_becomes_504(void **state)
{
	struct client *c = open_web("");
	uint64_t start;

	api("PUT", "/api/config/web",
	    "{\"service\":\"web\",\"timeouts\":{\"request\":\"600ms\",\"try\":\"300ms\"}}");
	assert_int_equal(api_status, 200);
	eventually(3000, (get(c, "/?delay=1000") == 504));
	start = mono_ms();
	say(c, "POST /?delay=10000 HTTP/1.1\r\nHost: w\r\nContent-Length: 0\r\n\r\n");
	assert_int_equal(answer(c, "POST"), 504);
	assert_non_null(strstr("try-timeout request-timeout", header(c, "x-mesh-cause")));
	assert_true(mono_ms() - start < 5000);
	api("DELETE", "/api/config/web", NULL);
}

static void nobody_listening_is_said_at_once(void **state)
{
	struct client *c = open_web("");
	char body[256];
	uint64_t start;

	/* registered by hand, nobody there: connection refused */
	snprintf(body, sizeof(body),
		 "{\"name\":\"void\",\"port\":9,\"address\":\"%s\",\"instance\":\"void-1\"}",
		 web->ip);
	api("POST", "/api/register", body);
	assert_in_range(api_status, 200, 201);
	c = gateway();
	/* first its name is known, then its endpoint */
	eventually(3000,
		   (get(c, "/void/") != 404 && strcmp(header(c, "x-mesh-cause"), "no-endpoint")));
	start = mono_ms();
	assert_int_equal(get(c, "/void/x"), 503);
	assert_string_equal(header(c, "x-mesh-cause"), "connect-failed");
	assert_true(mono_ms() - start < 5000); /* and not after the 15 s of a request */
	api("DELETE", "/api/register/void/void-1", NULL);
}

int main(void)
{
	const struct CMUnitTest stories[] = {
		STORY(a_get_survives_a_pooled_connection_that_closes),
		STORY(a_get_survives_a_pooled_connection_that_is_reset),
		STORY(a_post_is_never_made_twice),
		STORY(idle_connections_that_the_origin_closes_cost_nothing),
		STORY(garbage_from_the_origin_becomes_502),
		STORY(an_origin_that_hangs_up_becomes_502),
		STORY(a_body_cut_short_is_not_passed_as_whole),
		STORY(an_origin_that_takes_too_long_becomes_504),
		STORY(nobody_listening_is_said_at_once),
	};

	return RUN(stories);
}
