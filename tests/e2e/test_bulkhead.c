/* SPDX-License-Identifier: Apache-2.0 */
/* Limits on what is under way to a service: who is refused, who waits, who is not disturbed. */
#include "tests/e2e/harness.h"

#define MOST 16

static char service[32], label[64];
static unsigned services;
static struct instance *web;
static struct client *running[MOST];

static void start_web(const char *flags)
{
	char cmd[128];

	snprintf(service, sizeof(service), "bulk%u", services++);
	snprintf(label, sizeof(label), "destination=\"%s\"", service);
	snprintf(cmd, sizeof(cmd), "origin --port 8000 %s", flags);
	web = instance_ready(instance_start(service, service, "--netns", cmd));
	eventually(5000, get(gateway(), "/%s/", service) == 200);
}

/* They are answered by finish(), and whatever the machine does, not before. */
#define HELD "\"timeouts\":{\"try\":\"60s\",\"request\":\"60s\"}"

/* n requests, each on a connection of its own; returns when the callee has them. */
static void begin(struct caller *who, int n)
{
	long before = origin_stat(web, "requests");

	for (int k = 0; k < n; k++) {
		running[k] = call(who, web->address);
		say(running[k], "GET /?hold=1 HTTP/1.1\r\nHost: w\r\n\r\n");
	}
	eventually(5000, origin_stat(web, "requests") == before + n);
}

static void finish(int n)
{
	origin_set(web, "");
	for (int k = 0; k < n; k++)
		assert_int_equal(answer(running[k], "GET"), 200);
}

static void assert_full(struct client *c)
{
	assert_int_equal(c->status, 503);
	assert_string_equal(header(c, "x-mesh-cause"), "bulkhead-full");
}

static bool rejected(const char *reason, double n)
{
	return metric("mesh_bulkhead_rejected_total", label, reason, NULL) >= n;
}

static void a_noisy_caller_does_not_starve_the_others(void **state)
{
	struct caller *a, *b;
	struct client *c;

	start_web("");
	a = caller_start("noisy", "--netns");
	b = caller_start("modest", "--netns");
	configure(service,
		  "{" HELD ",\"bulkhead\":{\"maxRequests\":20,\"maxRequestsPerSource\":8}}");
	begin(a, 8);
	c = call(a, web->address);
	(void)get(c, "/");
	assert_full(c);
	for (int k = 0; k < 20; k++)
		assert_int_equal(get(call(b, web->address), "/"), 200);
	eventually(5000, rejected("reason=\"source\"", 1));
	finish(8);
	assert_int_equal(get(c, "/"), 200);
}

static void all_callers_together_have_a_limit(void **state)
{
	struct client *c;
	struct caller *a;
	int at_once = 0;

	start_web("");
	a = caller_start("noisy", "--netns");
	configure(service, "{" HELD ",\"bulkhead\":{\"maxRequests\":6}}");
	begin(a, 6);
	c = gateway();
	for (int k = 0; k < 50; k++) {
		uint64_t start = mono_ms();

		(void)get(c, "/%s/", service);
		assert_full(c);
		at_once += mono_ms() - start < 100;
	}
	assert_true(at_once > 25); /* now and then the machine has something else to do */
	eventually(5000, rejected("reason=\"requests\"", 50));
	finish(6);
	assert_int_equal(get(c, "/%s/", service), 200);
}

/* What waits for a connection gets it in the end; what comes too much does not wait. */
static void requests_wait_for_connections_but_not_too_many(void **state)
{
	struct client *c;
	struct caller *a;
	int ok = 0, full = 0;
	long before;

	start_web("");
	a = caller_start("noisy", "--netns");
	configure(service, "{" HELD ",\"bulkhead\":{\"maxConnections\":2,\"maxPending\":4}}");
	before = origin_stat(web, "requests");
	origin_set(web, "hold=1");
	for (int k = 0; k < 12; k++) {
		running[k] = call(a, web->address);
		say(running[k], "GET / HTTP/1.1\r\nHost: w\r\n\r\n");
		/* workers that ask in the same moment may make a connection each */
		if (k < 2)
			eventually(5000, origin_stat(web, "requests") == before + k + 1);
	}
	/* two at once and four who wait, whichever worker they came to */
	eventually(5000, rejected("reason=\"pending\"", 6));
	assert_int_equal(origin_stat(web, "requests"), before + 2);
	origin_set(web, "");
	for (int k = 0; k < 12; k++) {
		int status = answer(running[k], "GET");

		ok += status == 200;
		full += status == 503 &&
			!strcmp(header(running[k], "x-mesh-cause"), "bulkhead-full");
	}
	printf("%d served, %d refused\n", ok, full);
	assert_int_equal(ok, 6);
	assert_int_equal(full, 6);
	c = gateway();
	assert_int_equal(get(c, "/%s/", service), 200);
	/* its own connection is that of the question */
	assert_in_range(origin_stat(web, "open"), 1, 3);
}

/* Workers have pools of their own, and a limit in common: what is idle in one is given up for what
 * waits in another: both look every 50 ms. */
static void idle_connections_of_one_worker_do_not_starve_the_other(void **state)
{
	int soon = 0;

	start_web("");
	configure(service, "{\"bulkhead\":{\"maxConnections\":1}}");
	for (int k = 0; k < 12; k++) {
		struct client *c = gateway();
		uint64_t start = mono_ms();

		assert_int_equal(get(c, "/%s/", service), 200);
		soon += mono_ms() - start < 300;
		hang_up(c);
	}
	printf("%d of 12 within 300 ms\n", soon);
	assert_true(soon > 6);
}

static void a_dead_worker_gives_back_what_it_held(void **state)
{
	pid_t pids[16];
	struct caller *a;
	int n;

	start_web("");
	a = caller_start("noisy", "--netns");
	configure(service, "{" HELD ",\"bulkhead\":{\"maxRequests\":4}}");
	begin(a, 4);
	assert_int_equal(get(gateway(), "/%s/", service), 503);
	n = agent_workers(pids, 16);
	for (int k = 0; k < n; k++)
		kill(pids[k], SIGKILL);
	eventually(5000, get(gateway(), "/%s/", service) == 200);
	begin(a, 4);
	assert_int_equal(get(gateway(), "/%s/", service), 503);
	finish(4);
}

int main(void)
{
	const struct CMUnitTest stories[] = {
		STORY(a_noisy_caller_does_not_starve_the_others),
		STORY(all_callers_together_have_a_limit),
		STORY(requests_wait_for_connections_but_not_too_many),
		STORY(idle_connections_of_one_worker_do_not_starve_the_other),
		STORY(a_dead_worker_gives_back_what_it_held),
	};

	return RUN(stories);
}
