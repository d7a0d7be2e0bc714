/* SPDX-License-Identifier: Apache-2.0 */
/* Time that a request may take: who says how much, who is told what is left, what ends with it. */
#include "tests/e2e/harness.h"

#include <sys/socket.h>

static char service[32];
static unsigned services;
static struct instance *web;
static struct client *c;

static void start_web(void)
{
	snprintf(service, sizeof(service), "timed%u", services++);
	web = instance_ready(instance_start(service, service, "--netns", "origin --port 8000"));
	c = gateway();
	eventually(2000, get(c, "/%s/", service) == 200);
}

#define LATE_MS                                                                                    \
	2000 /* what a busy machine may add; far below what would come without a timeout           \
	      */

/* A request with that header, to a path of the service; how long it took. */
static uint64_t timed(const char *header_line, const char *path)
{
	uint64_t start = mono_ms();
	char target[256];

	snprintf(target, sizeof(target), "/%s%s", service, path);
	(void)get_with(c, header_line, target);
	return mono_ms() - start;
}

static void assert_timeout(const char *cause)
{
	assert_int_equal(c->status, 504);
	assert_string_equal(header(c, "x-mesh-cause"), cause);
}

/* Of the request as it arrived, which reflect=1 answers; -1 without that header. */
static long arrived_with(const char *name)
{
	char line[64];
	const char *at;

	snprintf(line, sizeof(line), "\r\n%s:", name);
	at = c->status == 200 ? strcasestr(c->body, line) : NULL;
	return at ? atol(at + strlen(line)) : -1;
}

static void a_caller_can_shorten_but_not_lengthen(void **state)
{
	start_web();
	assert_in_range(timed("x-request-timeout-ms: 300", "/?delay=5000"), 290, 300 + LATE_MS);
	assert_timeout("request-timeout");
	assert_in_range(timed("grpc-timeout: 300m", "/?delay=5000"), 290, 300 + LATE_MS);
	assert_timeout("request-timeout");
	configure(service, "{\"timeouts\":{\"request\":\"300ms\"}}");
	assert_in_range(timed("x-request-timeout-ms: 5000", "/?delay=5000"), 290, 300 + LATE_MS);
	assert_timeout("request-timeout");
	eventually(5000, (timed("x-request-timeout-ms: 5000", "/"), c->status == 200));
}

static void a_route_has_other_timeouts_than_its_service(void **state)
{
	start_web();
	configure(service, "{\"timeouts\":{\"request\":\"4s\"},\"retry\":{\"attempts\":0},"
			   "\"routes\":["
			   "{\"match\":{\"path\":{\"prefix\":\"/quick\"}},"
			   "\"timeouts\":{\"try\":\"200ms\"}},"
			   "{\"match\":{\"path\":{\"prefix\":\"/short\"}},"
			   "\"timeouts\":{\"request\":\"200ms\"}}]}");
	assert_in_range(timed("x-a: b", "/quick?delay=3000"), 190, 200 + LATE_MS);
	assert_timeout("try-timeout");
	assert_in_range(timed("x-a: b", "/short?delay=3000"), 190, 200 + LATE_MS);
	assert_timeout("request-timeout");
	assert_in_range(timed("x-a: b", "/?delay=600"), 600, 600 + LATE_MS);
	assert_int_equal(c->status, 200);
}

/* Three services in a row, the one in the middle slow by a fault. */
static void the_time_left_is_known_three_hops_down(void **state)
{
	struct instance *middle, *front;
	char cmd[128];
	long left;

	start_web();
	snprintf(cmd, sizeof(cmd), "relay --port 8000 --to %s", web->address);
	middle = instance_ready(
		instance_start("middle", "middle-1", "--netns --protocol http", cmd));
	snprintf(cmd, sizeof(cmd), "relay --port 8000 --to %s", middle->address);
	front = instance_ready(instance_start("front", "front-1", "--netns --protocol http", cmd));
	configure("middle", "{\"routes\":[{\"fault\":{\"delay\":{\"percent\":100,"
			    "\"duration\":\"300ms\"}}}]}");
	c = call(caller_start("client", "--netns"), front->address);
	assert_int_equal(get_with(c, "x-request-timeout-ms: 4000", "/?reflect=1"), 200);
	left = arrived_with("x-request-timeout-ms");
	printf("%ld of 4000 ms left\n", left);
	assert_in_range(left, 1000, 3700);
	/* without one, what the nearest service is given is what is left */
	assert_int_equal(get(c, "/?reflect=1"), 200);
	left = arrived_with("x-request-timeout-ms");
	assert_in_range(left, 12000, 14700);
	assert_int_equal(get_with(c, "grpc-timeout: 4S", "/?reflect=1"), 200);
	assert_true(arrived_with("grpc-timeout") > 0);
	assert_in_range(arrived_with("x-request-timeout-ms"), 1000, 3700);
	/* and nobody works on what nobody waits for */
	assert_int_equal(get_with(c, "x-request-timeout-ms: 1500", "/?delay=9000"), 504);
	eventually(3000, origin_stat(web, "cancelled") == 1);
}

static void what_timed_out_is_cancelled_upstream(void **state)
{
	start_web();
	(void)timed("x-request-timeout-ms: 700", "/?hang=1"); /* time to arrive */
	assert_timeout("request-timeout");
	eventually(3000, origin_stat(web, "cancelled") == 1);
	configure(service, "{\"timeouts\":{\"try\":\"700ms\"},\"retry\":{\"attempts\":1,"
			   "\"on\":[\"try-timeout\"]}}");
	(void)timed("x-a: b", "/?hang=1");
	assert_timeout("try-timeout");
	assert_string_equal(header(c, "x-mesh-tries"), "2");
	eventually(3000, origin_stat(web, "cancelled") == 3);
}

/* A caller that has only ended its sending may still wait; one that resets does not. */
static void what_a_caller_leaves_is_cancelled_upstream(void **state)
{
	const struct linger now = {.l_onoff = 1};
	long before;

	start_web();
	before = origin_stat(web, "requests");
	say(c, "GET /%s/?hang=1 HTTP/1.1\r\nHost: g\r\n\r\n", service);
	eventually(3000, origin_stat(web, "requests") == before + 1);
	assert_return_code(setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), errno);
	hang_up(c);
	eventually(3000, origin_stat(web, "cancelled") == 1);
}

/* A retry that could not come to an end in time is not made. */
static void no_try_begins_that_the_time_does_not_suffice_for(void **state)
{
	long before;

	start_web();
	configure(service,
		  "{\"retry\":{\"attempts\":5,\"backoff\":\"1ms\",\"on\":[\"503\"],"
		  "\"budget\":{\"percent\":100}},\"circuitBreaker\":{\"minRequests\":1000}}");
	for (int k = 0; k < 2; k++) /* it is known to take 800 ms */
		(void)timed("x-a: b", "/?delay=800");
	before = origin_stat(web, "requests");
	/* a second one would end the request by its time */
	(void)timed("x-request-timeout-ms: 1400", "/?delay=800&status=503");
	assert_int_equal(c->status, 503);
	assert_string_equal(header(c, "x-mesh-tries"), "1");
	assert_int_equal(origin_stat(web, "requests"), before + 1);
}

int main(void)
{
	const struct CMUnitTest stories[] = {
		STORY(a_caller_can_shorten_but_not_lengthen),
		STORY(a_route_has_other_timeouts_than_its_service),
		STORY(the_time_left_is_known_three_hops_down),
		STORY(what_timed_out_is_cancelled_upstream),
		STORY(what_a_caller_leaves_is_cancelled_upstream),
		STORY(no_try_begins_that_the_time_does_not_suffice_for),
	};

	return RUN(stories);
}
