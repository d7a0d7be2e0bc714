/* SPDX-License-Identifier: Apache-2.0 */
/* Endpoints that shall not, or cannot, have requests for a while. */
#include "tests/e2e/harness.h"

static char service[32];
static unsigned services;
static struct instance *a, *b;
static struct client *c;

static void start_both(void)
{
	snprintf(service, sizeof(service), "sick%u", services++);
	c = two_origins(service, &a, &b);
}

/* Of n requests, all answered 200: how many by a. */
static int got_by_a(int n)
{
	int got = 0;

	for (int k = 0; k < n; k++) {
		assert_int_equal(get(c, "/%s/", service), 200);
		got += !strcmp(header(c, "x-instance-id"), "a");
	}
	return got;
}

static bool is(const char *id, const char *status)
{
	return !strcmp(endpoint_status(service, id), status);
}

static void check_health(void)
{
	/* by chance alone: who was slow once would get next to nothing for a while */
	configure(service, "{\"loadBalancer\":{\"policy\":\"random\"},"
			   "\"healthCheck\":{\"type\":\"http\",\"path\":\"/health\","
			   "\"interval\":\"400ms\",\"timeout\":\"400ms\",\"unhealthyAfter\":3,"
			   "\"healthyAfter\":2}}");
	eventually(5000, origin_stat(a, "checks") > 1 && origin_stat(b, "checks") > 1);
}

static void what_drains_gets_no_new_requests_and_finishes_its_own(void **state)
{
	struct client *r[4];
	long before;

	start_both();
	configure(service, "{\"timeouts\":{\"try\":\"60s\",\"request\":\"60s\"}}");
	before = origin_stat(a, "requests") + origin_stat(b, "requests");
	for (int k = 0; k < 4; k++) {
		r[k] = gateway();
		say(r[k], "GET /%s/?hold=1&len=5000 HTTP/1.1\r\nHost: g\r\n\r\n", service);
	}
	eventually(5000, origin_stat(a, "requests") + origin_stat(b, "requests") == before + 4);
	assert_int_equal(sh("meshctl drain %s a", service)->status, 0);
	eventually(10000, is("a", "draining"));
	before = origin_stat(a, "requests");
	assert_int_equal(got_by_a(100), 0);
	assert_int_equal(origin_stat(a, "requests"), before);
	origin_set(a, "");
	origin_set(b, "");
	for (int k = 0; k < 4; k++) {
		assert_int_equal(answer(r[k], "GET"), 200);
		assert_int_equal(r[k]->body_len, 5000);
	}
	assert_true(metric("mesh_endpoints", service, "status=\"draining\"", NULL) == 1);
	assert_int_equal(sh("meshctl drain %s a --undo", service)->status, 0);
	eventually(15000, got_by_a(20) > 0);
	assert_int_equal(sh("meshctl drain %s nobody", service)->status, 1);
}

static void what_its_check_calls_sick_gets_nothing_until_it_is_well(void **state)
{
	start_both();
	check_health();
	eventually(15000, got_by_a(20) > 0);
	origin_set(a, "health=503");
	eventually(10000, is("a", "unhealthy"));
	assert_int_equal(got_by_a(100), 0);
	/* pooled connections are closed: what is open is the question's */
	eventually(5000, origin_stat(a, "open") == 1);
	origin_set(a, "");
	eventually(10000, is("a", "healthy"));
	eventually(15000, got_by_a(20) > 0);
}

static void most_are_sick_and_all_are_used(void **state)
{
	start_both();
	check_health();
	origin_set(a, "health=503");
	origin_set(b, "health=503");
	eventually(10000, is("a", "unhealthy") && is("b", "unhealthy"));
	assert_in_range(got_by_a(60), 1, 59);
}

/* One that answers its checks too late is as sick as one that does not. */
static void a_callee_that_is_stopped_is_sick(void **state)
{
	uint64_t start;
	pid_t pid;

	start_both();
	check_health();
	configure(service, "{\"timeouts\":{\"try\":\"300ms\"},\"healthCheck\":{\"type\":\"tcp\","
			   "\"interval\":\"100ms\",\"timeout\":\"50ms\"}}");
	assert_true(is("a", "healthy")); /* connects: that is all that is asked */
	check_health();
	pid = instance_pid(a);
	kill(pid, SIGSTOP);
	eventually(10000, is("a", "unhealthy"));
	start = mono_ms();
	assert_int_equal(got_by_a(50), 0);
	assert_true(mono_ms() - start < 5000); /* a try of each second one would take 8 s */
	kill(pid, SIGCONT);
	eventually(10000, is("a", "healthy"));
}

static void an_endpoint_is_taken_out_and_in_by_hand(void **state)
{
	start_both();
	assert_int_equal(sh("meshctl breaker open %s a", service)->status, 0);
	eventually(10000, is("a", "ejected"));
	assert_int_equal(got_by_a(50), 0);
	assert_non_null(strstr(sh("meshctl breaker show %s", service)->out, "open"));
	assert_int_equal(sh("meshctl breaker close %s a", service)->status, 0);
	eventually(10000, is("a", "healthy"));
	eventually(15000, got_by_a(20) > 0);
	for (int k = 0; k < 60; k++) /* whatever fails */
		(void)get(c, "/%s/?status=500", service);
	assert_int_equal(sh("meshctl breaker reset %s", service)->status, 0);
	assert_true(is("a", "healthy"));
	assert_int_equal(sh("meshctl breaker reset %s a", service)->status, 0);
}

int main(void)
{
	const struct CMUnitTest stories[] = {
		STORY(what_drains_gets_no_new_requests_and_finishes_its_own),
		STORY(what_its_check_calls_sick_gets_nothing_until_it_is_well),
		STORY(most_are_sick_and_all_are_used),
		STORY(a_callee_that_is_stopped_is_sick),
		STORY(an_endpoint_is_taken_out_and_in_by_hand),
	};

	return RUN(stories);
}
