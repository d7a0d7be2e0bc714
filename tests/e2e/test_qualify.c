/* SPDX-License-Identifier: Apache-2.0 */
/* Acceleration as people meet it: what the trials of this kernel found out is shown everywhere, it
 * can be forced and switched off, and programs that it does not suit are left to plain TCP. */
#include "tests/e2e/harness.h"

#include <poll.h>
#include <sys/socket.h>

/* The agent that runs now; meshd may still show what the one before has said. */
static const cJSON *agent_says(const char *key)
{
	const cJSON *agents = cJSON_GetObjectItem(api("GET", "/api/agents", NULL), "agents"), *a;

	cJSON_ArrayForEach (a, agents)
		if (json_num(a, "pid", 0) == agent_pid)
			return cJSON_GetObjectItem(cJSON_GetObjectItem(a, "acceleration"), key);
	return NULL;
}

static bool is_settled(void)
{
	return cJSON_IsTrue(agent_says("settled"));
}

static const char *mode(void)
{
	const cJSON *m = agent_says("mode");

	return cJSON_IsString(m) ? m->valuestring : "";
}

static double mode_metric(const char *label)
{
	return metric("mesh_acceleration_mode", label, NULL);
}

static void restart(const char *flags)
{
	agent_stop(SIGTERM);
	agent_start(flags);
	eventually(20000, is_settled());
}

/* Whatever mode MESH_ACCELERATE_MODE forces on the other stories. */
#define TRIALS "--accelerate-mode trials"

static bool shows(const char *command, const char *text)
{
	return strstr(sh("%s", command)->out, text);
}

static void what_the_trials_found_out_is_shown(void **state)
{
	restart(TRIALS);
	if (strcmp(mode(), "redirect") && strcmp(mode(), "verdict"))
		fail_msg("%s: %s", mode(), sh("meshctl check")->out);
	assert_true(cJSON_GetArraySize(agent_says("trials")) > 20);
	assert_true(mode_metric("mode=\"off\"") == 0);
	assert_true(metric("mesh_acceleration_trial", "trial=\"order\"", "outcome=\"passed\"",
			   NULL) >= 1);
	assert_true(shows("meshctl check", "connections on this host skip TCP"));
	assert_false(shows("meshctl status", "plain TCP"));
	assert_string_equal(sh("ls -d /sys/fs/cgroup/mesh-trials-* 2>/dev/null")->out, "");
}

static void a_mode_can_be_forced(void **state)
{
	static const char *const modes[] = {"off", "redirect", "verdict"};

	for (int i = 0; i < 3; i++) {
		char flags[64], label[64];

		snprintf(flags, sizeof(flags), "--accelerate-mode %s", modes[i]);
		snprintf(label, sizeof(label), "mode=\"%s\"", modes[i]);
		restart(flags);
		assert_string_equal(mode(), modes[i]);
		assert_true(mode_metric(label) == 1);
		assert_true(shows("meshctl check", "--accelerate-mode, without a trial"));
	}
	restart("");
}

static void off_is_off_and_says_so(void **state)
{
	restart("--accelerate off");
	assert_string_equal(mode(), "off");
	assert_int_equal(cJSON_GetArraySize(agent_says("trials")), 0);
	assert_true(shows("meshctl check", "plain TCP: --accelerate off"));
	assert_int_equal(sh("meshctl check --wait 10s")->status, 0);
	assert_false(shows("meshctl status", "plain TCP"));
	restart("");
}

/* An agent that is killed in the middle of its trials leaves nothing that the next one minds. */
static void a_kill_during_the_trials_leaves_nothing(void **state)
{
	for (int i = 0; i < 3; i++) {
		restart(TRIALS);
		agent_stop(SIGTERM);
		agent_start(TRIALS);
		agent_stop(SIGKILL);
		agent_start(TRIALS);
	}
	eventually(20000, is_settled());
	assert_string_equal(sh("ls -d /sys/fs/cgroup/mesh-trials-* 2>/dev/null")->out, "");
	restart("");
}

/* --- splice(2) --- */

static struct instance *svc;
static struct caller *who;

/* An echo server that begins to splice with its nth connection. */
static void serve_by_splice(const char *service, int n)
{
	char cmd[64];

	snprintf(cmd, sizeof(cmd), "tcpserver --port 9000 --splice %d", n);
	configure(service, "{\"protocol\":\"tcp\",\"accelerate\":\"on\"}");
	svc = instance_ready(instance_start(service, "one", "--netns --protocol tcp", cmd));
	who = caller_start("client", "--netns");
}

/* "x" there and back on a socket that never blocked, as only such ones are enrolled: 1 it came, 0
 * the connection was reset. It must not hang. */
static int echoes(void)
{
	struct pollfd p = {.events = POLLIN};
	char to[96], c = 0;
	int n;

	snprintf(to, sizeof(to), "nonblock %s", svc->address);
	p.fd = caller_dial(who, to);
	if (p.fd == -ECONNRESET)
		return 0; /* before the caller has looked */
	if (p.fd < 0)
		fail_msg("no connection: %s", strerror(-p.fd));
	n = (int)send(p.fd, "x", 1, MSG_NOSIGNAL);
	if (n == 1) {
		assert_int_equal(poll(&p, 1, 5000), 1);
		n = (int)recv(p.fd, &c, 1, 0);
	}
	if (n < 0 && errno != ECONNRESET && errno != EPIPE)
		fail_msg("the connection hangs, or failed: %s", strerror(errno));
	close(p.fd);
	return n == 1 && c == 'x';
}

static double enrolled(void)
{
	return metric("mesh_splice_connections_total", "group=\"enrolled\"", NULL);
}

static bool is_plain(const char *service)
{
	const cJSON *w;

	cJSON_ArrayForEach (w, agent_says("plain"))
		if (!strcmp(json_str(w, "service", ""), service))
			return true;
	return false;
}

static void who_splices_is_noticed_and_left_to_tcp(void **state)
{
	double before;

	eventually(20000, is_settled());
	if (!strcmp(mode(), "off"))
		story_skip("nothing is accelerated");
	serve_by_splice("splicer", 1);
	(void)echoes(); /* or reset: it was in before anybody could know */
	eventually(5000, is_plain("splicer"));
	before = enrolled();
	for (int i = 0; i < 50; i++)
		assert_int_equal(echoes(), 1);
	assert_true(enrolled() == before);
	assert_true(metric("mesh_acceleration_splicers_total", NULL) >= 1);
	assert_true(metric("mesh_acceleration_ended_total", "result=\"failed\"", NULL) == 0);
	assert_true(shows("meshctl status", "splicer/one"));
	assert_true(shows("meshctl check", "splicer/one"));
}

/* The program is known for one that reads, and its connections are enrolled, when it begins to
 * splice: bytes are where splice(2) does not see them. The connection gets an error, on both sides,
 * and soon; those after it are plain TCP. */
static void a_connection_that_would_hang_is_reset(void **state)
{
	double before = metric("mesh_acceleration_ended_total", "result=\"reset\"", NULL);
	bool reset = false;

	eventually(20000, is_settled());
	if (!strcmp(mode(), "off"))
		story_skip("nothing is accelerated");
	/* one of a hundred is held back, and then its program is noticed without harm */
	for (int i = 0; !reset && i < 5; i++) {
		char service[32];
		uint64_t start;

		snprintf(service, sizeof(service), "late%d", i);
		serve_by_splice(service, 20);
		for (int n = 1; n < 20; n++)
			assert_int_equal(echoes(), 1);
		start = mono_ms();
		reset = !echoes();
		assert_true(mono_ms() - start < 2000);
		eventually(5000, is_plain(service));
		assert_int_equal(echoes(), 1);
	}
	assert_true(reset);
	assert_true(metric("mesh_acceleration_ended_total", "result=\"reset\"", NULL) > before);
}

static void the_next_agent_knows_it_too(void **state)
{
	eventually(20000, is_settled());
	if (!strcmp(mode(), "off"))
		story_skip("nothing is accelerated");
	serve_by_splice("remembered", 1);
	(void)echoes();
	eventually(5000, is_plain("remembered"));
	agent_stop(SIGKILL);
	agent_start("");
	eventually(5000, is_plain("remembered"));
	eventually(20000, is_settled());
	instance_ready(svc);
	for (int i = 0; i < 20; i++)
		assert_int_equal(echoes(), 1);
}

int main(void)
{
	const struct CMUnitTest stories[] = {
		STORY(what_the_trials_found_out_is_shown),
		STORY(a_mode_can_be_forced),
		STORY(off_is_off_and_says_so),
		STORY(a_kill_during_the_trials_leaves_nothing),
		STORY(who_splices_is_noticed_and_left_to_tcp),
		STORY(a_connection_that_would_hang_is_reset),
		STORY(the_next_agent_knows_it_too),
	};

	return RUN(stories);
}
