/* SPDX-License-Identifier: Apache-2.0 */
/* The circuit breaker of a service: when it opens, what callers get, how it closes. */
#include "tests/e2e/harness.h"

#define REQUESTS 50
#define APART_US 100000

/* Each story has a service of its own, whose breaker knows nothing yet. */
static char service[32], label[64];
static unsigned services;
static struct instance *backend;

static void start_backend(void)
{
	snprintf(service, sizeof(service), "backend%u", services++);
	snprintf(label, sizeof(label), "destination=\"%s\"", service);
	backend = instance_ready(instance_start(service, service, "--netns", "origin --port 8000"));
	eventually(5000, get(gateway(), "/%s/", service) == 200);
}

static int ask(struct client *c, const char *target)
{
	return get(c, "/%s/%s", service, target);
}

static bool is_refused(const struct client *c)
{
	return c->status == 503 && !strcmp(header(c, "x-circuit-status"), "open");
}

/* As the contract has it. */
static void assert_refusal(const struct client *c)
{
	cJSON *v = json_parse(c->body, c->body_len, NULL);

	assert_int_equal(c->status, 503);
	assert_string_equal(header(c, "x-circuit-status"), "open");
	assert_string_equal(header(c, "x-mesh-cause"), "breaker-open");
	assert_non_null(v);
	assert_string_equal(json_str(v, "error", ""), "Service unavailable");
	assert_string_equal(json_str(v, "circuit", ""), "open");
	assert_string_equal(json_str(v, "service", ""), service);
	assert_string_equal(json_str(v, "cause", ""), "breaker-open");
	cJSON_Delete(v);
}

/* Fails until the breaker is open, and meshd knows it. */
static void break_it(struct client *c)
{
	for (int i = 0; i < 40 && !is_refused(c); i++)
		(void)ask(c, "?status=500");
	assert_refusal(c);
	eventually(5000, !strcmp(breaker_state(service), "open"));
}

static void it_opens_when_four_of_five_fail_and_answers_at_once(void **state)
{
	int first = -1, fast = 0, after = 0;
	struct client *c;

	start_backend();
	configure(service, "{\"circuitBreaker\":{\"openFor\":\"30s\"}}");
	origin_set(backend, "status=500&fail=4&of=5");
	c = gateway();
	for (int i = 0; i < REQUESTS; i++) {
		uint64_t start = now_us(), took;

		(void)ask(c, "");
		took = now_us() - start;
		if (first < 0 && is_refused(c)) {
			first = i;
			assert_refusal(c);
		} else if (first >= 0) {
			after++;
			fast += took < 10000;
		}
		usleep(took < APART_US ? (useconds_t)(APART_US - took) : 0);
	}
	printf("first refused: %d; then %d of %d in less than 10 ms\n", first, fast, after);
	assert_in_range(first, 6, 14);
	assert_true(fast * 5 > after * 4);
	assert_true(is_refused(c)); /* still */
}

static void its_state_is_shown(void **state)
{
	struct client *c;
	double opened;
	char line[128];
	long from = agent_log_size();

	start_backend();
	c = gateway();
	configure(service, "{\"circuitBreaker\":{\"openFor\":\"30s\"}}");
	eventually(5000, metric("mesh_circuit_breaker_state", label, "endpoint=\"\"", NULL) == 0);
	opened = metric("mesh_circuit_breaker_transitions_total", label, "to=\"open\"", NULL);
	break_it(c);
	eventually(5000, metric("mesh_circuit_breaker_state", label, "endpoint=\"\"", NULL) == 2);
	eventually(5000, metric("mesh_circuit_breaker_transitions_total", label, "to=\"open\"",
				NULL) == opened + 1);
	snprintf(line, sizeof(line), "%s fails too often: its breaker is open, ", service);
	eventually(5000, agent_logged(from, line));
	eventually(5000, !strcmp(breaker_state(service), "open"));
	assert_non_null(strstr(sh("meshctl breaker show %s", service)->out, "open"));
	assert_non_null(strstr(sh("meshctl breaker show")->out, service));
	eventually(5000, metric("mesh_requests_total", label, "cause=\"breaker-open\"", NULL) >= 1);
}

/* When the first request came to the backend after that. */
static uint64_t arrival_after(uint64_t from_us)
{
	uint64_t low = from_us, high = now_us();

	eventually(10000, origin_seen(backend, from_us, (high = now_us())) > 0);
	while (high - low > 1) {
		uint64_t mid = low + (high - low) / 2;

		if (origin_seen(backend, from_us, mid))
			high = mid;
		else
			low = mid;
	}
	return low;
}

/* Requests from many connections, so in all workers, while a slow probe is out. */
static void one_probe_decides_for_all_workers(void **state)
{
	struct client *c;
	struct load *l;
	uint64_t start, probe, back, closed;
	long before;

	start_backend();
	c = gateway();
	configure(service, "{\"circuitBreaker\":{\"openFor\":\"1s\"},"
			   "\"timeouts\":{\"try\":\"60s\",\"request\":\"60s\"}}");
	break_it(c);
	start = now_us();
	origin_set(backend, "hold=1");
	l = load_start(NULL, "--to " GATEWAY_ADDRESS " --path /%s/ --rate 400 -c 64", service);
	probe = arrival_after(start);
	usleep(500000); /* that long it is out, at least */
	back = now_us();
	origin_set(backend, "");
	eventually(5000, !strcmp(breaker_state(service), "closed"));
	closed = now_us();
	before = origin_stat(backend, "requests");
	eventually(5000, origin_stat(backend, "requests") > before + 50);
	load_end(l);
	/* until it was back it was alone, and the others were refused */
	assert_int_equal(origin_seen(backend, start, back), 1);
	printf("%zu refused while it was out\n", load_cause(l, probe, back, "breaker-open"));
	assert_true(load_cause(l, probe, back, NULL) > 100);
	assert_int_equal(load_cause(l, probe, back, "breaker-open"),
			 load_cause(l, probe, back, NULL));
	assert_true(load_count(l, closed, UINT64_MAX) > 0);
	assert_int_equal(load_ok(l, closed, UINT64_MAX), load_count(l, closed, UINT64_MAX));
}

static void a_failed_probe_makes_it_wait_longer(void **state)
{
	struct client *c;
	struct load *l;
	uint64_t start, first, second;

	start_backend();
	c = gateway();
	configure(service, "{\"circuitBreaker\":{\"openFor\":\"500ms\"}}");
	origin_set(backend, "status=500");
	break_it(c);
	start = now_us();
	l = load_start(NULL, "--to " GATEWAY_ADDRESS " --path /%s/ --rate 200", service);
	first = arrival_after(start);
	second = arrival_after(first + 1);
	load_end(l);
	/* a wait of 0.5 s was before the first one; now it is 1 s, and would be 2 s the next time
	 */
	printf("probes %lu ms apart\n", (second - first) / 1000);
	assert_in_range(second - first, 950000, 1900000);
}

static void it_can_be_opened_closed_and_reset_by_hand(void **state)
{
	struct client *c;

	start_backend();
	c = gateway();
	assert_int_equal(sh("meshctl breaker open %s", service)->status, 0);
	eventually(5000, (ask(c, ""), is_refused(c)));
	assert_refusal(c);
	assert_int_equal(sh("meshctl breaker close %s", service)->status, 0);
	eventually(5000, ask(c, "") == 200);
	for (int i = 0; i < 60; i++) /* held: whatever fails */
		assert_int_equal(ask(c, "?status=500"), 500);
	assert_int_equal(ask(c, ""), 200);
	assert_int_equal(sh("meshctl breaker reset %s", service)->status, 0);
	eventually(5000, (ask(c, "?status=500"), is_refused(c)));
	assert_int_equal(sh("meshctl breaker reset %s", service)->status, 0);
	eventually(5000, ask(c, "") == 200);
	assert_int_equal(sh("meshctl breaker open nobody")->status, 1);
}

/* What the mesh refuses itself says nothing about the callee. */
static void local_refusals_do_not_count(void **state)
{
	struct client *c;

	start_backend();
	c = gateway();
	configure(service, "{\"routes\":[{\"match\":{\"path\":{\"prefix\":\"/abort\"}},"
			   "\"fault\":{\"abort\":{\"percent\":100,\"status\":500}}}]}");
	for (int i = 0; i < 60; i++) {
		assert_int_equal(ask(c, "abort"), 500);
		assert_string_equal(header(c, "x-mesh-cause"), "fault-injected");
	}
	assert_int_equal(ask(c, ""), 200);
}

int main(void)
{
	const struct CMUnitTest stories[] = {
		STORY(it_opens_when_four_of_five_fail_and_answers_at_once),
		STORY(its_state_is_shown),
		STORY(one_probe_decides_for_all_workers),
		STORY(a_failed_probe_makes_it_wait_longer),
		STORY(it_can_be_opened_closed_and_reset_by_hand),
		STORY(local_refusals_do_not_count),
	};

	return RUN(stories);
}
