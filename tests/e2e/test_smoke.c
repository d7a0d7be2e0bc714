/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The main path once, in a minute even on an emulated machine: tests/kernels runs it under the
 * kernels that the mesh promises to work with. No story here judges how fast something is.
 */
#include "tests/e2e/harness.h"

#define PATIENT_MS 20000

static struct instance *web;
static struct caller *who;

static void open_web(void)
{
	web = instance_ready(instance_start("web", "web-1", "--netns", "origin --port 8000"));
	who = caller_start("client", "--netns");
}

/* One request over a connection of its own: who answered, "" when it was not through the mesh. */
static const char *answered_by(void)
{
	struct client *c = call(who, web->address);

	assert_int_equal(get(c, "/"), 200);
	return header(c, "x-instance-id");
}

static bool captured(void)
{
	return !strcmp(answered_by(), "web-1");
}

static double requests(const char *source)
{
	double n =
		metric("mesh_requests_total", source, "destination=\"web\"", "code=\"200\"", NULL);

	return n < 0 ? 0 : n;
}

static void requests_pass_through_the_mesh_and_are_counted(void **state)
{
	double before;

	open_web();
	assert_true(captured());
	before = requests("source=\"client\"");
	for (int i = 0; i < 20; i++)
		assert_true(captured());
	eventually(PATIENT_MS, requests("source=\"client\"") >= before + 20);
	assert_true(metric("mesh_connections_captured_total", "path=\"worker\"", NULL) >= 20);
}

static void the_gateway_finds_what_listens(void **state)
{
	struct client *c = gateway();

	open_web();
	eventually(PATIENT_MS, get(gateway(), "/web/") == 200);
	assert_int_equal(get(c, "/web/"), 200);
	assert_string_equal(header(c, "x-instance-id"), "web-1");
	assert_int_equal(get(c, "/nobody/"), 404);
}

static void who_comes_and_goes_is_noticed(void **state)
{
	struct instance *second;

	open_web();
	second = instance_ready(instance_start("web", "web-2", "--netns", "origin --port 8000"));
	eventually(PATIENT_MS, !strcmp(answered_by(), "web-2"));
	instance_kill(second);
	eventually(PATIENT_MS, !registered("web", "web-2"));
	for (int i = 0; i < 20; i++)
		assert_true(captured());
}

static void bytes_that_are_not_http_pass_unchanged(void **state)
{
	static const char hello[] = "\0\0\0\x08\x04\xd2\x16\x2f";
	char back[sizeof(hello)] = "", big[65536], echoed[sizeof(big)];
	struct instance *tcp;
	struct client *c;

	tcp = instance_ready(
		instance_start("tcp", "tcp-1", "--netns --protocol tcp", "tcpserver --port 9000"));
	who = caller_start("client", "--netns");
	c = call(who, tcp->address);
	say_bytes(c, hello, sizeof(hello));
	assert_int_equal(take(c, back, sizeof(back)), sizeof(back));
	assert_memory_equal(back, hello, sizeof(hello));
	for (int round = 0; round < 20; round++) {
		memset(big, 'a' + round, sizeof(big));
		say_bytes(c, big, sizeof(big));
		assert_int_equal(take(c, echoed, sizeof(echoed)), sizeof(echoed));
		assert_memory_equal(big, echoed, sizeof(big));
	}
}

static void a_killed_agent_stops_no_traffic(void **state)
{
	open_web();
	assert_true(captured());
	agent_stop(SIGKILL);
	for (int i = 0; i < 20; i++)
		(void)answered_by();
	agent_start("");
	eventually(PATIENT_MS, captured());
}

static void the_checks_pass(void **state)
{
	const struct output *o;

	open_web();
	assert_true(captured());
	o = sh("meshctl check");
	printf("%s%s", o->out, o->err);
	assert_int_equal(o->status, 0);
}

int main(void)
{
	const struct CMUnitTest stories[] = {
		STORY(requests_pass_through_the_mesh_and_are_counted),
		STORY(the_gateway_finds_what_listens),
		STORY(who_comes_and_goes_is_noticed),
		STORY(bytes_that_are_not_http_pass_unchanged),
		STORY(a_killed_agent_stops_no_traffic),
		STORY(the_checks_pass),
	};

	return RUN(stories);
}
