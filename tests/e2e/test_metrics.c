/* SPDX-License-Identifier: Apache-2.0 */
/* What is counted is what happened. */
#include "tests/e2e/harness.h"

#include <ctype.h>

static struct instance *web;
static struct caller *who;

static struct client *open_web(void)
{
	web = instance_ready(instance_start("web", "web-1", "--netns", "origin --port 8000"));
	who = caller_start("client", "--netns");
	return call(who, web->address);
}

static double requests(const char *code)
{
	double v = metric("mesh_requests_total", "source=\"client\"", "destination=\"web\"", code,
			  NULL);

	return v < 0 ? 0 : v;
}

static void requests_are_counted_by_who_whom_and_how(void **state)
{
	struct client *c = open_web();
	double ok = requests("code=\"200\""), bad = requests("code=\"500\"");

	for (int i = 0; i < 30; i++)
		assert_int_equal(get(c, "/"), 200);
	for (int i = 0; i < 7; i++)
		assert_int_equal(get(c, "/?status=500"), 500);
	eventually(5000, requests("code=\"200\"") - ok == 30);
	eventually(5000, requests("code=\"500\"") - bad == 7);
	eventually(5000, metric("mesh_request_duration_seconds_count", "source=\"client\"",
				"destination=\"web\"", NULL) == requests("destination"));
	eventually(5000, metric("mesh_requests_in_flight", NULL) == 0);
}

static void local_answers_are_counted_with_their_cause(void **state)
{
	struct client *c = gateway();
	double before = metric("mesh_requests_total", "cause=\"no-route\"", NULL);

	before = before < 0 ? 0 : before;
	for (int i = 0; i < 5; i++)
		assert_int_equal(get(c, "/no-such-service/"), 404);
	eventually(5000, metric("mesh_requests_total", "cause=\"no-route\"", NULL) == before + 5);
}

static void captured_connections_are_counted(void **state)
{
	struct client *c = open_web();
	double before = metric("mesh_connections_captured_total", "path=\"worker\"", NULL);

	hang_up(c);
	for (int i = 0; i < 10; i++)
		assert_int_equal(get(call(who, web->address), "/"), 200);
	eventually(5000, metric("mesh_connections_captured_total", "path=\"worker\"", NULL) >=
				 before + 10);
}

static void endpoints_and_maps_are_shown(void **state)
{
	(void)open_web();
	eventually(5000,
		   metric("mesh_endpoints", "service=\"web\"", "status=\"healthy\"", NULL) == 1);
	assert_true(metric("mesh_bpf_map_max_entries", NULL) > 0);
	assert_true(metric("mesh_build_info", NULL) == 1);
	assert_true(metric("process_resident_memory_bytes", NULL) > 0);
}

/* A name: [a-zA-Z_:][a-zA-Z0-9_:]*; then labels; then a number. Every sample has its TYPE before
 * it. */
static void the_text_is_well_formed(void **state)
{
	struct client *c = open_web();
	char type[128] = "";
	int samples = 0;

	assert_int_equal(get(c, "/"), 200);
	c = call_directly(ADMIN_ADDRESS);
	assert_int_equal(get(c, "/metrics"), 200);
	assert_memory_equal(header(c, "content-type"), "text/plain", 10);
	for (char *line = strtok(c->body, "\n"); line; line = strtok(NULL, "\n")) {
		size_t n = strspn(
			line, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_:");
		char *end;

		if (!strncmp(line, "# TYPE ", 7)) {
			assert_int_equal(sscanf(line, "# TYPE %127s", type), 1);
			continue;
		}
		if (*line == '#')
			continue;
		assert_true(n > 0 && !isdigit(*line) && (line[n] == '{' || line[n] == ' '));
		if (strncmp(line, type, strlen(type)))
			fail_msg("no TYPE before: %s", line);
		assert_non_null(strrchr(line, ' '));
		(void)strtod(strrchr(line, ' ') + 1, &end);
		assert_int_equal(*end, 0);
		samples++;
	}
	assert_true(samples > 20);
}

static void healthz_and_readyz_answer(void **state)
{
	struct client *c = call_directly(ADMIN_ADDRESS);

	assert_int_equal(get(c, "/healthz"), 200);
	assert_int_equal(get(call_directly(ADMIN_ADDRESS), "/readyz"), 200);
	assert_int_equal(get(call_directly(ADMIN_ADDRESS), "/nothing"), 404);
}

/* DNS rebinding: a page in somebody's browser asks under the name that it came from. */
static void a_host_that_anybody_may_be_called_is_refused(void **state)
{
	static const struct {
		const char *host;
		int status;
	} cases[] = {{"127.0.0.1:15020", 200}, {"[::1]:15020", 200},
		     {"localhost:15020", 200}, {"evil.example:15020", 403},
		     {"evil.example", 403},    {"127.0.0.1.evil.example", 403},
		     {"localhost:x", 403}};
	struct client *c;

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		c = call_directly(ADMIN_ADDRESS);
		say(c, "GET /metrics HTTP/1.1\r\nHost: %s\r\n\r\n", cases[i].host);
		if (answer(c, "GET") != cases[i].status)
			fail_msg("%s: %d", cases[i].host, c->status);
	}
	agent_stop(SIGTERM);
	agent_start("--node some-node");
	c = call_directly(ADMIN_ADDRESS);
	say(c, "GET /healthz HTTP/1.1\r\nHost: some-node:15020\r\n\r\n");
	assert_int_equal(answer(c, "GET"), 200);
	agent_stop(SIGTERM);
	agent_start("");
}

/* Whoever asks for metrics has the rings emptied first. */
static void the_access_log_waits_for_nobody_to_be_written(void **state)
{
	struct client *c;

	agent_stop(SIGTERM);
	agent_start("--access-log " SCRATCH "/waits.log");
	c = open_web();
	for (int i = 0; i < 10; i++) {
		usleep(50000); /* the rings are at rest: nobody looks at them soon */
		assert_int_equal(get(c, "/logged?n=%d", i), 200);
		assert_int_equal(get(call_directly(ADMIN_ADDRESS), "/metrics"), 200);
		eventually(5000, atoi(sh("grep -c /logged " SCRATCH "/waits.log")->out) == i + 1);
	}
	agent_stop(SIGTERM);
	agent_start("");
}

static void the_access_log_has_a_line_per_request(void **state)
{
	struct client *c;

	agent_stop(SIGTERM);
	agent_start("--access-log " SCRATCH "/access.log");
	c = open_web();
	for (int i = 0; i < 3; i++)
		assert_int_equal(get(c, "/logged?n=%d", i), 200);
	say(c, "GET /\x1b[31m HTTP/1.1\r\nHost: w\r\n\r\n");
	(void)answer(c, "GET");
	eventually(5000, atoi(sh("grep -c web " SCRATCH "/access.log")->out) >= 3);
	assert_string_equal(sh("grep -P '\\x1b' " SCRATCH "/access.log")->out, "");
	for (char *line = strtok(sh("cat " SCRATCH "/access.log")->out, "\n"); line;
	     line = strtok(NULL, "\n")) {
		cJSON *v = json_parse(line, strlen(line), NULL);

		if (!v)
			fail_msg("not JSON: %s", line);
		cJSON_Delete(v);
	}
	agent_stop(SIGTERM);
}

int main(void)
{
	const struct CMUnitTest stories[] = {
		STORY(requests_are_counted_by_who_whom_and_how),
		STORY(local_answers_are_counted_with_their_cause),
		STORY(captured_connections_are_counted),
		STORY(endpoints_and_maps_are_shown),
		STORY(the_text_is_well_formed),
		STORY(healthz_and_readyz_answer),
		STORY(a_host_that_anybody_may_be_called_is_refused),
		STORY(the_access_log_waits_for_nobody_to_be_written),
		STORY(the_access_log_has_a_line_per_request),
	};

	return RUN(stories);
}
