/* SPDX-License-Identifier: Apache-2.0 */
/* Who gains by skipping TCP does; who does not is left to plain TCP, and that is said. */
#include "tests/e2e/harness.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define BURST 3000 /* messages */
#define SMALL 256
#define LARGE 16384

static struct instance *web;
static struct caller *who;

/* In the mode that the suite runs in, but not in none; without waiting for trials. */
static void start_accelerating(void)
{
	const char *mode = getenv("MESH_ACCELERATE_MODE");
	char flags[96];

	if (!mode || strcmp(mode, "redirect"))
		mode = "verdict";
	snprintf(flags, sizeof(flags), "--accelerate auto --accelerate-mode %s", mode);
	if (agent_pid)
		agent_stop(SIGTERM);
	agent_start(flags);
	for (int i = 0; metric("mesh_acceleration_mode", mode, NULL) != 1; i++) {
		if (i == 100)
			story_skip("this kernel lets no connection skip TCP");
		usleep(20000);
	}
}

static void open_service(const char *service, const char *config)
{
	char id[32];

	start_accelerating();
	configure(service, "%s", config);
	snprintf(id, sizeof(id), "%s-1", service);
	web = instance_ready(instance_start(service, id, "--netns", "origin --port 8000"));
	who = caller_start("client", "--netns");
}

static double connections(const char *service, const char *group)
{
	char labels[96];
	double n;

	snprintf(labels, sizeof(labels), "service=\"%s\"", service);
	n = metric("mesh_splice_service_connections_total", labels, group, NULL);
	return n < 0 ? 0 : n;
}

static bool has_state(const char *service, const char *state)
{
	char a[96], b[64];

	snprintf(a, sizeof(a), "service=\"%s\"", service);
	snprintf(b, sizeof(b), "state=\"%s\"", state);
	return metric("mesh_splice_service_state", a, b, NULL) == 1;
}

static double changes(const char *service, const char *to)
{
	char a[96], b[64];

	snprintf(a, sizeof(a), "service=\"%s\"", service);
	snprintf(b, sizeof(b), "to=\"%s\"", to);
	return metric("mesh_splice_service_changes_total", a, b, NULL);
}

/* A connection of a program that does not block, as only these are enrolled. */
static struct client *dial(void)
{
	char way[128];

	snprintf(way, sizeof(way), "nonblock %s", web->address);
	return call(who, way);
}

static void ask(struct client *c, int times)
{
	for (int i = 0; i < times; i++) {
		struct pollfd p = {.fd = c->fd, .events = POLLIN};

		say(c, "GET / HTTP/1.1\r\nHost: w\r\n\r\n");
		assert_int_equal(poll(&p, 1, 10000), 1);
		assert_int_equal(answer(c, "GET"), 200);
	}
}

/* Programs at both ends are known after some requests; then new connections are enrolled. */
static void become_known(const char *service)
{
	eventually(20000, ({
			   struct client *c = dial();

			   ask(c, 3);
			   hang_up(c);
			   connections(service, "enrolled") > 0;
		   }));
}

/* Messages of an upload that never ends, each a write of its own. */
static void pour(struct client *c, size_t size)
{
	char block[LARGE];

	memset(block, 'x', size);
	for (int i = 0; i < BURST; i++)
		for (size_t at = 0; at < size;) {
			ssize_t n = send(c->fd, block + at, size - at, MSG_NOSIGNAL);
			struct pollfd room = {.fd = c->fd, .events = POLLOUT};

			if (n < 0 && errno != EAGAIN)
				fail_msg("send: %s", strerror(errno));
			if (n < 0)
				assert_int_equal(poll(&room, 1, 10000 * slowness()), 1);
			else
				at += (size_t)n;
		}
}

static struct client *upload(void)
{
	struct client *c = dial();

	say(c, "POST / HTTP/1.1\r\nHost: w\r\nContent-Length: 1000000000\r\n\r\n");
	return c;
}

static void make_one_way(const char *service)
{
	struct client *c[3]; /* one of them may be of the control group */

	become_known(service);
	for (int i = 0; i < 3; i++)
		c[i] = upload();
	eventually(30000, ({
			   for (int i = 0; i < 3; i++)
				   pour(c[i], SMALL);
			   has_state(service, "one-way");
		   }));
	for (int i = 0; i < 3; i++)
		hang_up(c[i]);
}

static void small_messages_one_way_use_plain_tcp_and_it_is_said(void **state)
{
	struct output *o;
	double before;

	open_service("sink", "{\"protocol\":\"tcp\"}");
	make_one_way("sink");
	before = connections("sink", "enrolled");
	for (int i = 0; i < 30; i++) {
		struct client *c = dial();

		ask(c, 2);
		hang_up(c);
	}
	eventually(5000, connections("sink", "control") >= 25);
	assert_true(connections("sink", "enrolled") - before <= 5);
	assert_int_equal(
		sh("grep -c 'sink:8000 gains nothing by skipping TCP' " SCRATCH "/agent.log")
			->status,
		0);
	eventually(10000, ({
			   o = sh("meshctl describe service sink");
			   !o->status &&strstr(o->out, "small messages one way");
		   }));
}

static void ping_pong_skips_tcp(void **state)
{
	struct client *c[3];
	const char *o;

	open_service("echo", "{\"protocol\":\"tcp\"}");
	become_known("echo");
	for (int i = 0; i < 3; i++) {
		c[i] = dial();
		ask(c[i], 4000);
	}
	/* it was judged, and nothing has changed */
	eventually(15000, ({
			   o = sh("meshctl describe service echo -o json")->out;
			   strstr(o, "messagesInARow") != NULL;
		   }));
	assert_true(has_state("echo", "enrolled"));
	assert_true(metric("mesh_splice_bytes_total", "path=\"redirect\"", NULL) > 100000);
}

/* Nothing is said before there are enough of the control group, and then an interval. */
static void what_is_gained_is_told_when_it_is_known(void **state)
{
	double estimate;

	open_service("known", "{\"protocol\":\"tcp\"}");
	become_known("known");
	assert_true(metric("mesh_splice_gain_ratio", "known", NULL) < 0);
	eventually(100000, ({
			   for (int i = 0; i < 100; i++) {
				   struct client *c = dial();

				   ask(c, 20);
				   hang_up(c);
			   }
			   metric("mesh_splice_gain_ratio", "known", NULL) > 0;
		   }));
	assert_true(connections("known", "control") >= 30);
	estimate = metric("mesh_splice_gain_ratio", "known", "estimate", NULL);
	assert_true(metric("mesh_splice_gain_ratio", "known", "low", NULL) < estimate);
	assert_true(metric("mesh_splice_gain_ratio", "known", "high", NULL) > estimate);
	printf("gain %.2f after %.0f connections\n", estimate, connections("known", "enrolled"));
}

static void requests_of_an_http_service_skip_tcp_on_both_hops(void **state)
{
	struct client *c;

	open_service("api", "{\"protocol\":\"http\"}");
	become_known("api");
	c = dial();
	ask(c, 5000);
	assert_true(has_state("api", "enrolled"));
	hang_up(c);
}

static void connect_often(int connections, int requests)
{
	for (int i = 0; i < connections; i++) {
		struct client *c = dial();

		ask(c, requests);
		hang_up(c);
	}
}

static void a_connection_for_each_request_uses_plain_tcp(void **state)
{
	double enrolled, control;

	open_service("short", "{\"protocol\":\"tcp\"}");
	become_known("short");
	eventually(30000, ({
			   connect_often(50, 1);
			   has_state("short", "new-connections");
		   }));
	enrolled = connections("short", "enrolled");
	control = connections("short", "control");
	connect_often(200, 1);
	eventually(5000, connections("short", "control") >= control + 150);
	assert_true(connections("short", "enrolled") <= enrolled + 50);
	eventually(30000, ({
			   connect_often(50, 20);
			   has_state("short", "enrolled");
		   }));
}

static void it_comes_back_when_its_traffic_has_changed(void **state)
{
	open_service("moody", "{\"protocol\":\"tcp\"}");
	assert_true(changes("moody", "plain") <= 0);
	make_one_way("moody");
	assert_true(changes("moody", "plain") == 1);
	assert_true(changes("moody", "enrolled") == 0);
	eventually(120000, ({
			   struct client *c = dial();

			   ask(c, 3000);
			   hang_up(c);
			   has_state("moody", "enrolled");
		   }));
	assert_true(changes("moody", "enrolled") >= 1);
	assert_true(changes("moody", "plain") == changes("moody", "enrolled"));
}

static void the_configuration_comes_first(void **state)
{
	struct client *c;

	open_service("fixed", "{\"protocol\":\"tcp\",\"accelerate\":\"off\"}");
	for (int i = 0; i < 20; i++) {
		c = dial();
		ask(c, 3);
		hang_up(c);
	}
	assert_true(connections("fixed", "enrolled") == 0);
	configure("fixed", "{\"protocol\":\"tcp\",\"accelerate\":\"on\"}");
	become_known("fixed");
	for (int round = 0; round < 5; round++) {
		c = upload();
		for (int i = 0; i < 4; i++)
			pour(c, SMALL);
		hang_up(c);
	}
	assert_true(has_state("fixed", "enrolled"));
}

static double held_back(const char *service)
{
	return metric("mesh_splice_service_held_back_ratio", service, NULL);
}

/* Half of its connections are held back, but not for ever. */
static void large_messages_one_way_are_settled_by_a_contest(void **state)
{
	bool contest = false;
	double now, before;

	open_service("stream", "{\"protocol\":\"tcp\"}");
	become_known("stream");
	before = connections("stream", "enrolled");
	eventually(60000, ({
			   struct client *c = upload();

			   pour(c, LARGE);
			   hang_up(c);
			   now = held_back("stream");
			   contest |= now == 0.5;
			   contest &&now != 0.5;
		   }));
	assert_true(now == (has_state("stream", "enrolled") ? 0.01 : 0.99));
	assert_true(connections("stream", "enrolled") - before <= 100);
	printf("after %.0f and %.0f connections: %s\n", connections("stream", "enrolled"),
	       connections("stream", "control"),
	       has_state("stream", "enrolled") ? "enrolled" : "plain");
}

int main(void)
{
	const struct CMUnitTest stories[] = {
		STORY(small_messages_one_way_use_plain_tcp_and_it_is_said),
		STORY(ping_pong_skips_tcp),
		STORY(what_is_gained_is_told_when_it_is_known),
		STORY(requests_of_an_http_service_skip_tcp_on_both_hops),
		STORY(a_connection_for_each_request_uses_plain_tcp),
		STORY(it_comes_back_when_its_traffic_has_changed),
		STORY(the_configuration_comes_first),
		STORY(large_messages_one_way_are_settled_by_a_contest),
	};

	return RUN(stories);
}
