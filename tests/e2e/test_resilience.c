/* SPDX-License-Identifier: Apache-2.0 */
/* Callees that fail, at full speed or by hanging: what of it callers see, and what reaches the
 * callees. */
#include "tests/e2e/harness.h"

#define SECOND 1000000u
#define MANY   3

static char service[32], label[64];
static unsigned services;
static struct instance *i[MANY];

static void start_some(int n, const char *flags)
{
	snprintf(service, sizeof(service), "callee%u", services++);
	snprintf(label, sizeof(label), "destination=\"%s\"", service);
	for (int k = 0; k < n; k++) {
		char id[64], cmd[128];

		snprintf(id, sizeof(id), "%s-%d", service, k);
		snprintf(cmd, sizeof(cmd), "origin --port 8000 %s", flags);
		i[k] = instance_start(service, id, "--netns", cmd);
	}
	for (int k = 0; k < n; k++)
		instance_ready(i[k]);
	eventually(2000, get(gateway(), "/%s/", service) == 200);
}

static struct load *shoot(unsigned rate, unsigned connections)
{
	return load_start(NULL, "--to " GATEWAY_ADDRESS " --path /%s/ --rate %u -c %u", service,
			  rate, connections);
}

/* How long it lasts is what is looked at here, not an event. */
static void let_pass(uint64_t us)
{
	usleep((useconds_t)us);
}

static long seen_by_all(uint64_t from, uint64_t to)
{
	long n = 0;

	for (int k = 0; k < MANY; k++)
		n += origin_seen(i[k], from, to);
	return n;
}

static double percent(size_t part, size_t of)
{
	return of ? 100.0 * (double)part / (double)of : 0;
}

static void one_of_three_answering_503_is_not_seen_after_a_second(void **state)
{
	struct load *l;
	uint64_t t, end;
	double all, later;

	start_some(3, "--delay 5");
	l = shoot(1000, 64);
	let_pass(SECOND / 2);
	t = now_us();
	origin_set(i[0], "status=503&delay=0");
	let_pass(5 * SECOND / 2);
	end = now_us();
	load_end(l);
	all = percent(load_ok(l, t, end), load_count(l, t, end));
	later = percent(load_ok(l, t + SECOND, end), load_count(l, t + SECOND, end));
	printf("%.2f %% answered 200, %.2f %% after a second\n", all, later);
	assert_true(load_count(l, t, end) > 2000);
	assert_true(later >= 99);
}

static void one_of_three_answering_500_is_ejected(void **state)
{
	struct load *l;
	uint64_t t, end;
	double all;

	start_some(3, "--delay 5");
	l = shoot(1000, 64);
	let_pass(SECOND / 2);
	t = now_us();
	origin_set(i[0], "status=500&delay=0");
	eventually(5000, !strcmp(endpoint_status(service, i[0]->id), "ejected"));
	assert_true(metric("mesh_circuit_breaker_state", label, i[0]->id, NULL) == 2);
	let_pass(2 * SECOND);
	end = now_us();
	load_end(l);
	all = percent(load_ok(l, t, end), load_count(l, t, end));
	printf("%.2f %% answered 200\n", all);
	assert_true(all >= 97);
	assert_int_equal(load_ok(l, t + SECOND, end), load_count(l, t + SECOND, end));
}

/* Nobody is ejected: what is seen is who is chosen. Fast failures have a low latency and few
 * requests under way. */
static void fast_failures_attract_no_traffic(void **state)
{
	struct load *l;
	uint64_t t, end;
	long failing, all;

	start_some(3, "--delay 20");
	configure(service, "{\"circuitBreaker\":{\"maxEjectedPercent\":0},"
			   "\"retry\":{\"attempts\":0}}");
	l = shoot(500, 64);
	let_pass(SECOND / 2);
	t = now_us();
	origin_set(i[0], "status=500&delay=0");
	let_pass(3 * SECOND);
	end = now_us();
	load_end(l);
	failing = origin_seen(i[0], t, end);
	all = seen_by_all(t, end);
	printf("%ld of %ld requests went to the failing one\n", failing, all);
	assert_true(all > 1200);
	assert_true(failing * 100 <= all * 36); /* a third, and what chance adds */
}

static void one_of_three_hanging_does_not_slow_the_rest(void **state)
{
	uint64_t t, before, after, whole;
	struct load *l;

	start_some(3, "--delay 20");
	l = shoot(400, 256);
	let_pass(5 * SECOND / 2);
	t = now_us();
	origin_set(i[0], "hang=1");
	let_pass(9 * SECOND / 2);
	load_end(l);
	before = load_quantile(l, t - 2 * SECOND, t - SECOND / 10, 990);
	after = load_quantile(l, t + 2 * SECOND, t + 9 * SECOND / 2, 990);
	whole = load_quantile(l, t, t + 2 * SECOND, 990);
	printf("p99 before %lu us, in the first two seconds %lu us, then %lu us\n", before, whole,
	       after);
	assert_true(load_count(l, t + 2 * SECOND, t + 9 * SECOND / 2) > 800);
	assert_true(percent(load_ok(l, t + SECOND, t + 9 * SECOND / 2),
			    load_count(l, t + SECOND, t + 9 * SECOND / 2)) >= 99);
	/* nobody waits for a try of 3 s any more; what is less the machine may have added */
	assert_true(after * 10 <= before * 12 || after < SECOND / 2);
	assert_int_equal(load_ok(l, 0, t - SECOND), load_count(l, 0, t - SECOND));
}

/* When the first answer came that a breaker refused; 0: never. */
static uint64_t opened_at(const struct load *l)
{
	uint64_t first = UINT64_MAX;

	for (size_t k = 0; k < l->n; k++)
		if (!strcmp(l->shots[k].cause, "breaker-open") && l->shots[k].start_us < first)
			first = l->shots[k].start_us;
	return first == UINT64_MAX ? 0 : first;
}

/* Those that had begun and were not answered. */
static size_t under_way(const struct load *l, uint64_t at_us)
{
	size_t n = 0;

	for (size_t k = 0; k < l->n; k++)
		n += l->shots[k].start_us < at_us &&
		     l->shots[k].start_us + l->shots[k].took_us > at_us;
	return n;
}

static void a_retry_storm_does_not_happen(void **state)
{
	uint64_t failing, opened;
	long upstream, probes;
	size_t offered;
	double most;
	struct load *l;

	start_some(3, "");
	configure(service, "{\"circuitBreaker\":{\"openFor\":\"500ms\",\"window\":\"5s\"}}");
	l = shoot(1000, 64);
	let_pass(SECOND / 2);
	failing = now_us();
	for (int k = 0; k < 3; k++)
		origin_set(i[k], "status=503");
	let_pass(3 * SECOND);
	load_end(l);
	opened = opened_at(l);
	if (opened < failing || opened >= failing + SECOND)
		fail_msg("open after %ld ms", ((long)opened - (long)failing) / 1000);
	offered = load_count(l, failing, opened);
	upstream = seen_by_all(failing, opened);
	/* waits of 0.5 and 1 s; who was let through before has arrived by then */
	probes = seen_by_all(opened + SECOND / 4, opened + 1900000);
	printf("open after %lu ms: offered %zu, upstream %ld (%.3f); then %ld probes\n",
	       (opened - failing) / 1000, offered, upstream, (double)upstream / (double)offered,
	       probes);
	/* each that was answered by then has been tried */
	assert_true(upstream >= (long)(offered - under_way(l, opened)));
	/* a fifth of the requests, ten a second, and the ten that may have been kept */
	most = 1.2 * (double)(offered + under_way(l, failing)) +
	       10 * (double)(opened - failing) / SECOND + 10;
	assert_true((double)upstream <= most + 1);
	assert_in_range(probes, 1, 2);
	assert_int_equal(load_ok(l, opened + 50000, opened + 1900000), 0);
}

static void a_retry_goes_to_another_endpoint(void **state)
{
	struct client *c;
	int twice = 0, refused = 0;

	start_some(2, "");
	c = gateway();
	configure(service, "{\"circuitBreaker\":{\"maxEjectedPercent\":0,\"minRequests\":1000000},"
			   "\"loadBalancer\":{\"policy\":\"random\"},"
			   "\"retry\":{\"backoff\":\"1ms\",\"budget\":{\"percent\":100}}}");
	origin_set(i[0], "status=503");
	for (int k = 0; k < 100; k++) {
		int tries;

		assert_int_equal(get(c, "/%s/", service), 200);
		assert_string_equal(header(c, "x-instance-id"), i[1]->id);
		tries = atoi(header(c, "x-mesh-tries"));
		assert_in_range(tries, 1, 2);
		twice += tries == 2;
	}
	printf("%d of 100 took two tries\n", twice);
	assert_in_range(twice, 20, 80);
	assert_int_equal(origin_stat(i[0], "requests") >= twice, 1);
	eventually(2000, metric("mesh_retries_total", label, "result=\"success\"", NULL) >= twice);
	for (int k = 0; k < 60; k++) { /* it may not be made twice */
		say(c, "POST /%s/ HTTP/1.1\r\nHost: g\r\nContent-Length: 2\r\n\r\nhi", service);
		refused += answer(c, "POST") == 503;
		assert_string_equal(header(c, "x-mesh-tries"), "1");
	}
	assert_in_range(refused, 7, 53); /* six deviations */
	assert_int_equal(origin_stat(i[0], "posts"), refused);
}

/* One that fits into what is kept. */
static void a_body_is_sent_again_whole(void **state)
{
	static char body[8000];
	struct client *c;
	int twice = 0;

	start_some(2, "");
	c = gateway();
	memset(body, 'b', sizeof(body) - 1);
	configure(service, "{\"circuitBreaker\":{\"maxEjectedPercent\":0,\"minRequests\":1000000},"
			   "\"loadBalancer\":{\"policy\":\"random\"},"
			   "\"retry\":{\"backoff\":\"1ms\",\"budget\":{\"percent\":100}}}");
	origin_set(i[0], "status=503");
	for (int k = 0; k < 40; k++) {
		body[k] = 'a';
		say(c, "PUT /%s/?echo=1 HTTP/1.1\r\nHost: g\r\nContent-Length: %zu\r\n\r\n%s",
		    service, sizeof(body) - 1, body);
		assert_int_equal(answer(c, "PUT"), 200);
		assert_string_equal(c->body, body);
		twice += !strcmp(header(c, "x-mesh-tries"), "2");
	}
	assert_in_range(twice, 1, 39); /* six deviations */
}

/* Then there is one try, and what the endpoint says to it. */
static void a_body_that_is_not_kept_is_sent_once(void **state)
{
	static char body[1 << 20];
	struct client *c;
	int ok = 0, refused = 0;

	start_some(2, "");
	c = gateway();
	memset(body, 'b', sizeof(body) - 1);
	configure(service, "{\"circuitBreaker\":{\"maxEjectedPercent\":0,\"minRequests\":1000000},"
			   "\"loadBalancer\":{\"policy\":\"random\"},"
			   "\"retry\":{\"backoff\":\"1ms\",\"budget\":{\"percent\":100}}}");
	origin_set(i[0], "status=503");
	for (int k = 0; k < 40; k++) { /* so many that each has some */
		say(c, "PUT /%s/ HTTP/1.1\r\nHost: g\r\nContent-Length: %zu\r\n\r\n%s", service,
		    sizeof(body) - 1, body);
		ok += answer(c, "PUT") == 200;
		refused += c->status == 503;
		assert_string_equal(header(c, "x-mesh-tries"), "1");
	}
	assert_int_equal(ok + refused, 40);
	assert_true(ok && refused);
}

static void all_fail_and_the_caller_gets_the_last(void **state)
{
	struct client *c;
	uint64_t began;
	long before, retries;

	start_some(2, "");
	c = gateway();
	configure(service, "{\"circuitBreaker\":{\"maxEjectedPercent\":0,\"minRequests\":1000000},"
			   "\"retry\":{\"backoff\":\"1ms\"}}");
	origin_set(i[0], "status=503");
	origin_set(i[1], "status=503");
	before = origin_stat(i[0], "requests") + origin_stat(i[1], "requests");
	began = mono_ms();
	assert_int_equal(get(c, "/%s/", service), 503);
	assert_string_equal(header(c, "x-mesh-tries"), "3");
	assert_int_equal(origin_stat(i[0], "requests") + origin_stat(i[1], "requests"), before + 3);
	for (int k = 0; k < 100; k++) /* more than the budget has */
		assert_int_equal(get(c, "/%s/", service), 503);
	eventually(2000, metric("mesh_retries_total", label, "result=\"budget\"", NULL) > 0);
	retries = origin_stat(i[0], "requests") + origin_stat(i[1], "requests") - before - 101;
	/* a fifth of the requests, ten a second, and the ten that may have been kept */
	assert_in_range(retries, 2, 21 + 10 + 10 * (mono_ms() - began + 999) / 1000);
}

int main(void)
{
	const struct CMUnitTest stories[] = {
		STORY(one_of_three_answering_503_is_not_seen_after_a_second),
		STORY(one_of_three_answering_500_is_ejected),
		STORY(fast_failures_attract_no_traffic),
		STORY(one_of_three_hanging_does_not_slow_the_rest),
		STORY(a_retry_storm_does_not_happen),
		STORY(a_retry_goes_to_another_endpoint),
		STORY(a_body_is_sent_again_whole),
		STORY(a_body_that_is_not_kept_is_sent_once),
		STORY(all_fail_and_the_caller_gets_the_last),
	};

	return RUN(stories);
}
