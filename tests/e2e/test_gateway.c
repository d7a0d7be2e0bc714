/* SPDX-License-Identifier: Apache-2.0 */
/* How a request that comes from outside finds its service. */
#include "tests/e2e/harness.h"

static void start_two(void)
{
	struct instance *a = instance_start("alpha", "alpha-1", "--netns", "origin --port 8000");
	struct instance *b = instance_start("beta", "beta-1", "--netns", "origin --port 8000");

	instance_ready(a);
	instance_ready(b);
	eventually(5000, get(gateway(), "/alpha/") == 200 && get(gateway(), "/beta/") == 200);
}

/* The request line as the origin saw it, behind the method. */
static bool arrived_as(const struct client *c, const char *target)
{
	size_t n = strlen(target);

	return c->status == 200 && !strncmp(c->body, "GET ", 4) &&
	       !strncmp(c->body + 4, target, n) && c->body[4 + n] == ' ';
}

static void the_first_part_of_the_path_names_the_service(void **state)
{
	struct client *c = gateway();

	start_two();
	assert_int_equal(get(c, "/alpha/some/where?reflect=1"), 200);
	assert_string_equal(header(c, "x-instance-id"), "alpha-1");
	assert_true(arrived_as(c, "/some/where?reflect=1"));
	assert_int_equal(get(c, "/beta/?reflect=1"), 200);
	assert_string_equal(header(c, "x-instance-id"), "beta-1");
	assert_true(arrived_as(c, "/?reflect=1"));
	assert_int_equal(get(c, "/alpha?reflect=1"), 200);
	assert_true(arrived_as(c, "/?reflect=1"));
}

static void an_api_prefix_is_passed_over(void **state)
{
	struct client *c = gateway();

	start_two();
	assert_int_equal(get(c, "/api/beta/x?reflect=1"), 200);
	assert_string_equal(header(c, "x-instance-id"), "beta-1");
	assert_true(arrived_as(c, "/x?reflect=1"));
	assert_int_equal(get(c, "/api/nobody/x"), 404);
}

static void the_host_names_the_service(void **state)
{
	struct client *c = gateway();

	start_two();
	say(c, "GET /p?reflect=1 HTTP/1.1\r\nHost: alpha.mesh\r\n\r\n");
	assert_int_equal(answer(c, "GET"), 200);
	assert_string_equal(header(c, "x-instance-id"), "alpha-1");
	assert_true(arrived_as(c, "/p?reflect=1"));
	say(c, "GET /p?reflect=1 HTTP/1.1\r\nHost: BETA.mesh:8080\r\n\r\n");
	assert_int_equal(answer(c, "GET"), 200);
	assert_string_equal(header(c, "x-instance-id"), "beta-1");
}

static void what_names_nobody_is_404(void **state)
{
	struct client *c = gateway();

	assert_int_equal(get(c, "/nobody/x"), 404);
	assert_string_equal(header(c, "x-mesh-cause"), "no-route");
	assert_int_equal(get(c, "/"), 404);
	say(c, "GET / HTTP/1.1\r\nHost: nobody.mesh\r\n\r\n");
	assert_int_equal(answer(c, "GET"), 404);
	assert_string_equal(header(c, "x-mesh-cause"), "no-route");
}

static void a_default_service_takes_the_rest(void **state)
{
	struct client *c;

	start_two();
	agent_stop(SIGTERM);
	agent_start("--gateway-default beta");
	c = gateway();
	/* the registry may have them from the agent of before */
	eventually(5000, get(c, "/alpha/") == 200 && get(c, "/beta/") == 200);
	assert_int_equal(get(c, "/what/ever?reflect=1"), 200);
	assert_string_equal(header(c, "x-instance-id"), "beta-1");
	assert_true(arrived_as(c, "/what/ever?reflect=1"));
	assert_int_equal(get(c, "/alpha/x?reflect=1"), 200);
	assert_string_equal(header(c, "x-instance-id"), "alpha-1");
	agent_stop(SIGTERM);
}

static void a_service_without_instances_is_503(void **state)
{
	struct client *c = gateway();
	struct instance *i;

	start_two();
	i = instance_ready(instance_start("gone", "gone-1", "--netns", "origin --port 8000"));
	eventually(5000, get(c, "/gone/") == 200);
	instance_kill(i);
	eventually(5000, get(c, "/gone/") == 503 || c->status == 404);
	if (c->status == 503)
		assert_non_null(
			strstr("no-endpoint no-healthy-endpoint", header(c, "x-mesh-cause")));
}

static void one_connection_reaches_many_services_pipelined(void **state)
{
	struct client *c = gateway();

	start_two();
	say(c,
	    "GET /alpha/?seed=1 HTTP/1.1\r\nHost: g\r\n\r\nGET /nobody/ HTTP/1.1\r\nHost: g\r\n\r\n"
	    "GET /beta/?seed=2 HTTP/1.1\r\nHost: g\r\n\r\n");
	assert_int_equal(answer(c, "GET"), 200);
	assert_string_equal(header(c, "x-origin"), "alpha-1");
	assert_int_equal(answer(c, "GET"), 404);
	assert_int_equal(answer(c, "GET"), 200);
	assert_string_equal(header(c, "x-origin"), "beta-1");
}

static void what_is_not_http_is_refused(void **state)
{
	struct client *c = gateway();

	say_bytes(c, "\x16\x03\x01\x02\x00\x01\x00", 7);
	assert_int_equal(answer(c, "GET"), 400);
	assert_true(hung_up(c, 5000));
}

int main(void)
{
	const struct CMUnitTest stories[] = {
		STORY(the_first_part_of_the_path_names_the_service),
		STORY(an_api_prefix_is_passed_over),
		STORY(the_host_names_the_service),
		STORY(what_names_nobody_is_404),
		STORY(a_default_service_takes_the_rest),
		STORY(a_service_without_instances_is_503),
		STORY(one_connection_reaches_many_services_pipelined),
		STORY(what_is_not_http_is_refused),
	};

	return RUN(stories);
}
