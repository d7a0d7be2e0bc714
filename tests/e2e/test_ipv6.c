/* SPDX-License-Identifier: Apache-2.0 */
/* The same over IPv6, and where the families mix. */
#include "tests/e2e/harness.h"

#include <sys/socket.h>

static struct instance *web;
static struct caller *who;

static void open_web(const char *listen)
{
	char cmd[128];

	snprintf(cmd, sizeof(cmd), "origin --port 8000 --listen %s", listen);
	web = instance_ready(instance_start("web", "web-1", "--netns", cmd));
	who = caller_start("client", "--netns");
}

/* The namespace's own IPv6 address, in brackets and with the port. */
static const char *v6_address(void)
{
	static char text[80];
	struct output *o = sh("nsenter -t %d -n ip -6 -o addr show scope global | "
			      "sed -E 's/.*inet6 ([0-9a-f:]+).*/\\1/' | head -1",
			      instance_pid(web));

	if (!strncmp(o->out, "fd00:201:", 9))
		snprintf(text, sizeof(text), "[%.*s]:8000", (int)strcspn(o->out, "\n"), o->out);
	else
		story_skip("no IPv6 in this kernel");
	return text;
}

static void a_v6_service_is_found_and_called(void **state)
{
	struct client *c;

	open_web("::");
	c = call(who, v6_address());
	assert_int_equal(get(c, "/"), 200);
	assert_string_equal(header(c, "x-instance-id"), "web-1");
}

/* A dual-stack listener is called by its IPv4 address too. */
static void a_dual_stack_listener_is_called_by_both(void **state)
{
	struct output *o;
	char v4[64];
	struct client *c;

	open_web("::");
	o = sh("nsenter -t %d -n ip -4 -o addr show scope global | sed -E 's/.*inet "
	       "([0-9.]+).*/\\1/'",
	       instance_pid(web));
	snprintf(v4, sizeof(v4), "%.*s:8000", (int)strcspn(o->out, "\n"), o->out);
	c = call(who, v4);
	assert_int_equal(get(c, "/"), 200);
	assert_string_equal(header(c, "x-instance-id"), "web-1");
	c = call(who, v6_address());
	assert_int_equal(get(c, "/"), 200);
	assert_string_equal(header(c, "x-instance-id"), "web-1");
}

static void a_specific_v6_listener_is_known_by_its_address(void **state)
{
	struct instance *i = instance_ready(
		instance_start("six", "six-1", "", "origin --port 8006 --listen ::1"));
	struct client *c;

	assert_string_equal(i->address, "[::1]:8006");
	c = call(caller_start("client", ""), i->address);
	assert_int_equal(get(c, "/"), 200);
	assert_string_equal(header(c, "x-instance-id"), "six-1");
}

static void the_loopback_of_each_namespace_is_its_own(void **state)
{
	struct instance *one =
		instance_start("one", "one-1", "--netns", "origin --port 8000 --listen 127.0.0.1");
	struct instance *two =
		instance_start("two", "two-1", "", "origin --port 8000 --listen 127.0.0.1");
	struct client *c;

	instance_ready(one);
	instance_ready(two);
	assert_string_equal(one->address, "127.0.0.1:8000");
	c = call(caller_start("client", ""), "127.0.0.1:8000");
	assert_int_equal(get(c, "/"), 200);
	assert_string_equal(header(c, "x-instance-id"), "two-1");
	/* a neighbour in the first one's namespace, through a socket that the supervisor makes
	 * there */
	assert_non_null(strstr(
		sh("nsenter --net=/run/netns/mesh-one:one-1 meshctl run --service neighbour -- "
		   "curl -si http://127.0.0.1:8000/")
			->out,
		"x-instance-id: one-1"));
	/* the gateway is in the second one's namespace: what the first keeps to itself stays so */
	c = gateway();
	assert_int_equal(get(c, "/two/"), 200);
	assert_string_equal(header(c, "x-instance-id"), "two-1");
	assert_int_equal(get(c, "/one/"), 503);
	assert_string_equal(header(c, "x-mesh-cause"), "no-healthy-endpoint");
}

int main(void)
{
	const struct CMUnitTest stories[] = {
		STORY(a_v6_service_is_found_and_called),
		STORY(a_dual_stack_listener_is_called_by_both),
		STORY(a_specific_v6_listener_is_known_by_its_address),
		STORY(the_loopback_of_each_namespace_is_its_own),
	};

	return RUN(stories);
}
