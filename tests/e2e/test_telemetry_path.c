/* SPDX-License-Identifier: Apache-2.0 */
/* From the request to meshd: each one is counted there once, whoever is killed meanwhile, and its
 * span can be asked for half a second after the answer. */
#include "tests/e2e/harness.h"

#include <sys/wait.h>

#define RATE  200
#define HEAVY 4000 /* a second: a worker's ring is full in less than one */

static struct instance *server; /* of the story's service */

/* A service of a name of its own for each story: windows remember the others. */
static const char *start_service(void)
{
	static char name[32];
	static int n;

	snprintf(name, sizeof(name), "counted%d", n++);
	server = instance_ready(instance_start(name, "a", "--netns", "origin --port 8000"));
	return name;
}

#define UNTIL_TOLD 300 /* seconds: what goes on meanwhile takes as long as the machine needs */

/* Returns when so many more requests have come to it. */
static void arrive(long n)
{
	long before = origin_stat(server, "requests");

	eventually(15000, origin_stat(server, "requests") >= before + n);
}

static struct load *start_load(const char *service, unsigned seconds)
{
	return load_start(NULL, "--to " GATEWAY_ADDRESS " --path /%s/ --rate %d -c 8 --seconds %u",
			  service, RATE, seconds);
}

/* Each request fills much of a ring. */
static struct load *start_heavy_load(const char *service)
{
	char tail[200];

	memset(tail, 'x', sizeof(tail) - 1);
	tail[sizeof(tail) - 1] = '\0';
	return load_start(NULL,
			  "--to " GATEWAY_ADDRESS " --path /%s/?%s --rate %d -c 32 --seconds %u",
			  service, tail, HEAVY, UNTIL_TOLD);
}

static bool ended(const struct load *l)
{
	siginfo_t si = {0};

	return !waitid(P_PID, (id_t)l->pid, &si, WEXITED | WNOHANG | WNOWAIT) && si.si_pid;
}

/* Requests to it, as meshd has counted them; -1: it does not say. */
static long counted(const char *service)
{
	char path[96];

	snprintf(path, sizeof(path), "/api/metrics/%s?window=10m", service);
	return (long)json_num(api("GET", path, NULL), "requests", -1);
}

static long answered(const struct load *l)
{
	long n = 0;

	for (size_t i = 0; i < l->n; i++)
		n += l->shots[i].status != 0;
	return n;
}

/* Nothing more comes: what is there now has stayed for a while. */
static long counted_at_last(const char *service, long made)
{
	uint64_t since = mono_ms(), end = since + 15000 * slowness();
	long last = -1, now;

	while (mono_ms() < end && last != made && mono_ms() - since < 3000) {
		now = counted(service);
		since = now == last ? since : mono_ms();
		last = now;
		usleep(20000);
	}
	return last;
}

static void every_request_is_counted_once(void **state)
{
	const char *service = start_service();
	struct load *l = start_load(service, 3);

	eventually(10000, ended(l));
	load_end(l);
	assert_true(l->n >= 2 * RATE);
	assert_int_equal(answered(l), l->n);
	assert_int_equal(counted_at_last(service, answered(l)), answered(l));
	assert_true(metric("mesh_telemetry_sent_total", "what=\"series\"", NULL) > 0);
	assert_true(metric("mesh_telemetry_dropped_total", "what=\"series\"", NULL) == 0);
}

static void meshd_is_killed_again_and_again_and_none_is_lost_or_doubled(void **state)
{
	const char *service = start_service();
	struct load *l = start_load(service, UNTIL_TOLD);

	for (int i = 0; i < 5; i++) {
		arrive(RATE * 7 / 10 + RATE / 20 * i); /* somewhere between two batches */
		meshd_stop(SIGKILL);
		arrive(RATE * 3 / 10);
		meshd_start();
	}
	arrive(RATE / 2);
	load_end(l);
	assert_int_equal(answered(l), l->n);
	assert_int_equal(counted_at_last(service, answered(l)), answered(l));
}

/* What it had read and not yet sent dies with it; workers go on, and their rings are read by the
 * next one. */
static void a_killed_agent_takes_a_second_with_it_at_most(void **state)
{
	const char *service = start_service();
	struct load *l = start_load(service, UNTIL_TOLD);
	long made, n;

	arrive(2 * RATE);
	agent_orphan();
	arrive(RATE); /* they wait in rings */
	agent_start("");
	arrive(RATE);
	load_end(l);
	made = answered(l);
	n = counted_at_last(service, made);
	printf("%ld of %ld requests counted\n", n, made);
	assert_in_range(n, made - RATE, made);
}

static void an_agent_that_ends_sends_the_last_of_it(void **state)
{
	const char *service = start_service();
	struct load *l = start_load(service, 2);

	eventually(10000, ended(l));
	agent_stop(SIGTERM); /* at once: the last half second is not sent */
	load_end(l);
	assert_int_equal(counted_at_last(service, answered(l)), answered(l));
	agent_start("");
}

static void an_upgrade_loses_none(void **state)
{
	const char *service = start_service();
	struct load *l = start_load(service, UNTIL_TOLD);
	pid_t before;

	arrive(RATE);
	before = agent_succeed("--upgrade");
	assert_int_equal(waitpid(before, NULL, 0), before);
	agent_wait();
	arrive(RATE);
	load_end(l);
	assert_int_equal(answered(l), l->n);
	assert_int_equal(counted_at_last(service, answered(l)), answered(l));
}

/* Nobody reads the rings for that long. */
static void what_finds_no_room_in_a_ring_is_counted(void **state)
{
	const char *service = start_service();
	struct load *l = start_heavy_load(service);
	char label[64];

	arrive(HEAVY);
	kill(agent_pid, SIGSTOP);
	arrive(3 * HEAVY);
	kill(agent_pid, SIGCONT);
	load_end(l);
	assert_true(answered(l) > HEAVY);
	assert_int_equal(counted_at_last(service, answered(l)), answered(l));
	snprintf(label, sizeof(label), "destination=\"%s\"", service);
	assert_true(metric("mesh_requests_total", label, NULL) == (double)answered(l));
	assert_true(metric("mesh_request_duration_seconds_count", label, NULL) ==
		    (double)answered(l));
	printf("%.0f of %ld by their number only\n",
	       metric("mesh_ring_lost_total", "ring=\"worker-", NULL), answered(l));
	assert_true(metric("mesh_ring_lost_total", "ring=\"worker-", NULL) > 0);
}

static void an_upgrade_under_heavy_load_loses_none(void **state)
{
	const char *service = start_service();
	struct load *l = start_heavy_load(service);
	pid_t before;

	arrive(HEAVY);
	before = agent_succeed("--upgrade");
	assert_int_equal(waitpid(before, NULL, 0), before);
	agent_wait();
	arrive(RATE);
	load_end(l);
	assert_true(answered(l) > HEAVY);
	assert_int_equal(counted_at_last(service, answered(l)), answered(l));
}

/* Which no worker sees: the kernel tells of each, and of the endpoint that it chose. */
static void connections_to_a_tcp_service_are_counted(void **state)
{
	struct instance *db = instance_ready(instance_start("store", "store-1",
							    "--netns --protocol tcp --version v2",
							    "tcpserver --port 9000"));
	struct caller *who = caller_start("client", "--netns");
	char path[96];
	cJSON *found;

	for (int i = 0; i < 20; i++) {
		int fd = caller_dial(who, db->address);

		assert_true(fd >= 0);
		close(fd);
	}
	assert_int_equal(counted_at_last("store", 20), 20);
	snprintf(path, sizeof(path), "/api/metrics/store?window=10m&version=v2");
	found = api("GET", path, NULL);
	assert_true(json_num(found, "requests", 0) == 20);
	assert_true(json_num(found, "errors", 1) == 0);
	assert_in_range(json_num(found, "p50Latency", 0) * 1000, 1, 1000000);
}

/* --- spans --- */

static int spans_of(const char *trace)
{
	char path[96];

	snprintf(path, sizeof(path), "/api/traces/%s", trace);
	return cJSON_GetArraySize(cJSON_GetObjectItem(api("GET", path, NULL), "spans"));
}

static void send_traced(struct client *c, const char *path, const char *trace, const char *flags)
{
	say(c, "GET %s HTTP/1.1\r\nHost: g\r\ntraceparent: 00-%s-00f067aa0ba902b7-%s\r\n\r\n", path,
	    trace, flags);
}

static void a_span_can_be_asked_for_half_a_second_after_the_answer(void **state)
{
	const char *service = start_service();
	struct client *c = gateway();
	uint64_t worst = 0;
	char path[64];

	snprintf(path, sizeof(path), "/%s/", service);
	for (int i = 0; i < 20; i++) {
		uint64_t began;
		char trace[33];

		snprintf(trace, sizeof(trace), "4bf92f3577b34da6a3ce9290000000%02x", i);
		usleep(37000 * (unsigned)(i % 4)); /* idle before, or not */
		send_traced(c, path, trace, "01");
		assert_int_equal(answer(c, "GET"), 200);
		began = mono_ms();
		eventually(5000, spans_of(trace) == 1);
		worst = mono_ms() - began > worst ? mono_ms() - began : worst;
	}
	printf("at most %lu ms\n", (unsigned long)worst);
	assert_true(worst <= 500 * slowness());
}

/* Nobody sampled it, and then one hop of it fails: what was before and what comes after is there.
 */
static void the_whole_trace_of_an_error_is_kept(void **state)
{
	static const char trace[] = "4bf92f3577b34da6a3ce929e0e0e4736",
			  other[] = "4bf92f3577b34da6a3ce929e0e0e4737";
	const char *service = start_service();
	struct client *c = gateway();
	char good[64], bad[64];

	snprintf(good, sizeof(good), "/%s/", service);
	snprintf(bad, sizeof(bad), "/%s/?status=500", service);
	send_traced(c, good, trace, "00");
	assert_int_equal(answer(c, "GET"), 200);
	send_traced(c, good, other, "00");
	assert_int_equal(answer(c, "GET"), 200);
	send_traced(c, bad, trace, "00");
	assert_int_equal(answer(c, "GET"), 500);
	eventually(3000, spans_of(trace) == 2);
	send_traced(c, good, trace, "00");
	assert_int_equal(answer(c, "GET"), 200);
	eventually(3000, spans_of(trace) == 3);
	assert_int_equal(spans_of(other), 0);
}

static long meshd_metric(const char *name)
{
	struct client *c = call_directly(MESHD_ADDRESS);
	const char *line;
	long n;

	assert_int_equal(get(c, "/metrics"), 200);
	line = strstr(c->body, name);
	n = line ? strtol(line + strlen(name), NULL, 10) : -1;
	hang_up(c);
	return n;
}

/* Traces in a list of at most 1000, once meshd has had the time to make it whole. */
static int listed(const char *service)
{
	const cJSON *v;
	char path[64];

	snprintf(path, sizeof(path), "/api/traces?limit=1000&service=%s", service);
	eventually(5000, json_bool(v = api("GET", path, NULL), "complete", 0));
	return cJSON_GetArraySize(cJSON_GetObjectItem(v, "traces"));
}

#define STORED	 "\nmesh_spans_received_total{result=\"stored\"} "
#define RECORDED "\nmesh_spans_recorded_total "

/* More of them than are listed as they come; the first ones come as JSON. */
static void every_request_of_a_load_is_a_span_that_is_found(void **state)
{
	const char *service;
	struct load *l;
	long stored, recorded;

	agent_stop(SIGTERM);
	agent_start("--trace-limit 0");
	service = start_service();
	stored = meshd_metric(STORED);
	recorded = meshd_metric(RECORDED);
	l = load_start(NULL, "--to " GATEWAY_ADDRESS " --path /%s/ --rate 2000 -c 8 --seconds 2",
		       service);
	eventually(15000, ended(l));
	load_end(l);
	assert_int_equal(answered(l), l->n);
	assert_true(l->n > 2000);
	eventually(5000, meshd_metric(STORED) - stored >= (long)l->n);
	assert_int_equal(meshd_metric(STORED) - stored, l->n);
	assert_true(meshd_metric(RECORDED) - recorded > (long)l->n / 2);
	assert_int_equal(meshd_metric("\nmesh_spans_overwritten_total "), 0);
	assert_int_equal(listed(service), 1000);
	agent_stop(SIGTERM);
	agent_start("");
}

int main(void)
{
	const struct CMUnitTest stories[] = {
		STORY(every_request_is_counted_once),
		STORY(meshd_is_killed_again_and_again_and_none_is_lost_or_doubled),
		STORY(a_killed_agent_takes_a_second_with_it_at_most),
		STORY(an_agent_that_ends_sends_the_last_of_it),
		STORY(an_upgrade_loses_none),
		STORY(what_finds_no_room_in_a_ring_is_counted),
		STORY(an_upgrade_under_heavy_load_loses_none),
		STORY(connections_to_a_tcp_service_are_counted),
		STORY(a_span_can_be_asked_for_half_a_second_after_the_answer),
		STORY(the_whole_trace_of_an_error_is_kept),
		STORY(every_request_of_a_load_is_a_span_that_is_found),
	};

	return RUN(stories);
}
