/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The main path once, in a minute even on an emulated machine: tests/kernels runs it under the
 * kernels that the mesh promises to work with. No story here judges how fast something is.
 */
#include "tests/e2e/harness.h"

#include <poll.h>

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

static void open_tcp(void)
{
	web = instance_ready(
		instance_start("tcp", "tcp-1", "--netns --protocol tcp", "tcpserver --port 9000"));
	who = caller_start("client", "--netns");
}

static void echo(struct client *c, char byte, size_t n)
{
	static char sent[65536], back[sizeof(sent)];

	memset(sent, byte, n);
	say_bytes(c, sent, n);
	assert_int_equal(take(c, back, n), n);
	assert_memory_equal(sent, back, n);
}

static double passed_by(const char *path)
{
	double n = metric("mesh_connections_captured_total", path, NULL);

	return n < 0 ? 0 : n;
}

static void tcp_services_are_balanced_by_the_kernel(void **state)
{
	double kernel, worker;

	open_tcp();
	kernel = passed_by("path=\"kernel\"");
	worker = passed_by("path=\"worker\"");
	for (int i = 0; i < 20; i++) {
		struct client *c = call(who, web->address);

		echo(c, (char)i, 1 + 3000 * (size_t)i);
		hang_up(c);
	}
	eventually(PATIENT_MS, passed_by("path=\"kernel\"") >= kernel + 20);
	assert_true(passed_by("path=\"worker\"") == worker);
	eventually(PATIENT_MS, metric("mesh_tcp_connections_total", "destination=\"tcp\"",
				      "outcome=\"closed\"", NULL) >= 20);
}

/* What the only agent says of acceleration, when it has made up its mind. */
static const cJSON *acceleration(void)
{
	const cJSON *a;

	eventually(3 * PATIENT_MS, ({
			   a = cJSON_GetArrayItem(
				   cJSON_GetObjectItem(api("GET", "/api/agents", NULL), "agents"),
				   0);
			   a = cJSON_GetObjectItem(a, "acceleration");
			   json_bool(a, "settled", 0);
		   }));
	return a;
}

static double redirected(void)
{
	return metric("mesh_splice_bytes_total", "path=\"redirect\"", NULL);
}

/* A byte there and back, by a program that does not block. */
static void echo_unblocked(void)
{
	struct pollfd p = {.events = POLLIN};
	struct client *c;
	char way[128];

	snprintf(way, sizeof(way), "nonblock %s", web->address);
	c = call(who, way);
	p.fd = c->fd;
	say_bytes(c, "x", 1);
	assert_int_equal(poll(&p, 1, PATIENT_MS), 1);
	assert_int_equal(take(c, way, 1), 1);
	assert_int_equal(*way, 'x');
	hang_up(c);
}

static void messages_skip_tcp_or_it_is_said_why_not(void **state)
{
	char mode[16], why[256];
	const cJSON *a;

	a = acceleration();
	snprintf(mode, sizeof(mode), "%s", json_str(a, "mode", ""));
	snprintf(why, sizeof(why), "%s", json_str(a, "why", ""));
	printf("acceleration: %s; %s\n", mode, why);
	configure("tcp", "{\"service\":\"tcp\",\"accelerate\":\"on\"}");
	open_tcp();
	for (int i = 0; i < 10; i++)
		echo_unblocked();
	if (!strcmp(mode, "off"))
		assert_true(*why && redirected() <= 0);
	else /* who is to be known first, by his connections until then */
		eventually(PATIENT_MS, (echo_unblocked(), redirected() > 0));
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
		STORY(tcp_services_are_balanced_by_the_kernel),
		STORY(messages_skip_tcp_or_it_is_said_why_not),
		STORY(a_killed_agent_stops_no_traffic),
		STORY(the_checks_pass),
	};

	return RUN(stories);
}
