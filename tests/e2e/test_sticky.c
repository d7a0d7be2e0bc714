/* SPDX-License-Identifier: Apache-2.0 */
/* Who gets which request: callers that stay with an endpoint, and the policies. */
#include "tests/e2e/harness.h"

#include <math.h>

#define MANY 4
#define KEYS 200

static char service[32];
static unsigned services;
static struct instance *i[MANY];
static struct client *c;

static void start_some(int n)
{
	snprintf(service, sizeof(service), "shared%u", services++);
	for (int k = 0; k < n; k++) {
		char id[64];

		snprintf(id, sizeof(id), "%s-%d", service, k);
		i[k] = instance_start(service, id, "--netns", "origin --port 8000");
	}
	for (int k = 0; k < n; k++)
		instance_ready(i[k]);
	c = gateway();
	eventually(2000, get(c, "/%s/", service) == 200);
}

/* Which endpoint (by its number) answered last. */
static int who(void)
{
	for (int k = 0; k < MANY; k++)
		if (i[k] && !strcmp(header(c, "x-instance-id"), i[k]->id))
			return k;
	fail_msg("answered by '%s'", header(c, "x-instance-id"));
	return -1;
}

static int ask_with(const char *header_line)
{
	char target[64];

	snprintf(target, sizeof(target), "/%s/", service);
	assert_int_equal(get_with(c, header_line, target), 200);
	return who();
}

/* An answer can be here before its worker has booked it. */
static bool is_idle(void)
{
	char label[64];

	snprintf(label, sizeof(label), "destination=\"%s\"", service);
	return metric("mesh_requests_in_flight", label, NULL) == 0;
}

static int ask_as(unsigned user)
{
	char line[64];

	snprintf(line, sizeof(line), "x-user-id: user-%u", user);
	return ask_with(line);
}

static void a_header_keeps_its_endpoint(void **state)
{
	int home[KEYS], got[MANY] = {0}, moved = 0;

	start_some(MANY);
	configure(service, "{\"sticky\":{\"header\":\"X-User-Id\"}}");
	for (unsigned k = 0; k < KEYS; k++)
		got[home[k] = ask_as(k)]++;
	printf("of %d: %d, %d, %d, %d\n", KEYS, got[0], got[1], got[2], got[3]);
	for (int k = 0; k < MANY; k++)
		assert_in_range(got[k], KEYS / MANY / 2, KEYS / MANY * 2);
	for (int round = 0; round < 3; round++) {
		hang_up(c);
		eventually(5000,
			   is_idle()); /* what is under way at one may send others elsewhere */
		c = gateway();	       /* perhaps another worker */
		for (unsigned k = 0; k < KEYS; k++)
			assert_int_equal(ask_as(k), home[k]);
	}
	instance_kill(i[1]);
	for (unsigned k = 0; k < KEYS; k++) {
		int now = ask_as(k);

		assert_int_not_equal(now, 1);
		moved += home[k] != 1 && now != home[k];
	}
	assert_int_equal(moved, 0); /* only those of the dead one have moved */
}

static void a_cookie_is_given_and_kept(void **state)
{
	int got[MANY] = {0};

	start_some(MANY);
	configure(service, "{\"sticky\":{\"cookie\":\"seat\"}}");
	for (int k = 0; k < 80; k++) { /* so many that nobody goes without by chance */
		char cookie[128], line[160];
		int home;

		home = ask_with("x-a: b");
		snprintf(cookie, sizeof(cookie), "%s", header(c, "set-cookie"));
		assert_memory_equal(cookie, "seat=", 5);
		assert_non_null(strstr(cookie, "; Path=/; HttpOnly"));
		assert_int_equal(strspn(cookie + 5, "0123456789abcdef"), 16);
		*strchr(cookie, ';') = 0;
		snprintf(line, sizeof(line), "Cookie: a=b; %s; c=d", cookie);
		for (int n = 0; n < 5; n++) {
			assert_int_equal(ask_with(line), home);
			assert_string_equal(header(c, "set-cookie"), "");
		}
		got[home]++;
	}
	for (int k = 0; k < MANY; k++)
		assert_true(got[k] > 0);
}

/* One user alone must not bury an endpoint: what is above 1.25 times the average goes elsewhere. */
static void a_busy_key_spills_over(void **state)
{
	struct load *l;
	int used = 0;

	start_some(3);
	configure(service, "{\"sticky\":{\"header\":\"x-user-id\"}}");
	for (int k = 0; k < 3; k++)
		origin_set(i[k], "delay=50");
	l = load_start(NULL,
		       "--to " GATEWAY_ADDRESS " --path /%s/ --rate 400 -c 64 -s 1 "
		       "--header 'x-user-id: one'",
		       service);
	eventually(4000, origin_stat(i[0], "requests") + origin_stat(i[1], "requests") +
					 origin_stat(i[2], "requests") >=
				 400);
	load_end(l);
	assert_int_equal(load_ok(l, 0, UINT64_MAX), l->n);
	for (int k = 0; k < 3; k++)
		used += load_by(l, 0, UINT64_MAX, i[k]->id) > l->n / 10;
	assert_true(used >= 2);
}

static void count(int n, int got[MANY])
{
	memset(got, 0, MANY * sizeof(*got));
	for (int k = 0; k < n; k++)
		got[ask_with("x-a: b")]++;
	printf("of %d: %d, %d, %d, %d\n", n, got[0], got[1], got[2], got[3]);
}

static void policies_share_as_they_say(void **state)
{
	int got[MANY];

	start_some(3);
	origin_set(i[2], "delay=4");
	configure(service, "{\"loadBalancer\":{\"policy\":\"round-robin\"}}");
	count(300, got);
	for (int k = 0; k < 3; k++)
		assert_in_range(got[k], 97, 103);
	configure(service, "{\"loadBalancer\":{\"policy\":\"random\"}}");
	count(900, got);
	for (int k = 0; k < 3; k++)
		assert_in_range(got[k], 300 - 85, 300 + 85); /* six deviations */
	configure(service, "{\"loadBalancer\":{\"policy\":\"least-request\"}}");
	count(900, got); /* one after the other: all are always idle */
	for (int k = 0; k < 3; k++)
		assert_in_range(got[k], 300 - 85, 300 + 85);
}

static void least_request_avoids_who_has_much_to_do(void **state)
{
	struct client *busy[30]; /* so many that the first endpoint is among those drawn */
	int got[MANY];
	long before;

	start_some(2);
	configure(service, "{\"loadBalancer\":{\"policy\":\"least-request\"},"
			   "\"timeouts\":{\"try\":\"60s\",\"request\":\"60s\"}}");
	origin_set(i[0], "delay=60000");
	before = origin_stat(i[0], "requests");
	for (int k = 0; k < 30; k++) {
		busy[k] = gateway();
		say(busy[k], "GET /%s/ HTTP/1.1\r\nHost: g\r\n\r\n", service);
	}
	eventually(5000, origin_stat(i[0], "requests") > before);
	/* half of the draws are of two that are not the same, a quarter of twice the busy one */
	origin_set(i[0], "");
	count(600, got);
	assert_in_range(got[0], 150 - 64, 150 + 64); /* six deviations */
	for (int k = 0; k < 30; k++)
		hang_up(busy[k]);
}

#define SLOW_US 2000000 /* of the slow start */
#define PART_US 500000	/* of it that is looked at */

/* Half of two is its share when its weight, a tenth at first, has grown for so long. */
static double share_after(double us)
{
	double weight = us < SLOW_US ? 0.1 + 0.9 * us / SLOW_US : 1;

	return weight / (1 + weight);
}

/* Of the requests that were due then, how many one that is not older than since_us may have got: by
 * its weight at the time of each answer, and six deviations. */
static double at_most(const struct load *l, uint64_t from_us, uint64_t to_us, uint64_t since_us)
{
	double mean = 0, variance = 0;

	for (size_t k = 0; k < l->n; k++) {
		const struct shot *s = &l->shots[k];
		double p = share_after((double)(s->start_us + s->took_us - since_us));

		if (s->start_us < from_us || s->start_us >= to_us)
			continue;
		mean += p;
		variance += p * (1 - p);
	}
	return mean + 6 * sqrt(variance);
}

static uint64_t first_by(const struct load *l, const char *instance)
{
	uint64_t first = UINT64_MAX;

	for (size_t k = 0; k < l->n; k++)
		if (!strcmp(l->shots[k].instance, instance) && l->shots[k].start_us < first)
			first = l->shots[k].start_us;
	return first;
}

/* A tenth of its share at first, all of it after the time given. */
static void a_new_endpoint_starts_slowly(void **state)
{
	uint64_t since, first, grown;
	double got, most, part;
	struct load *l;

	start_some(1);
	usleep(SLOW_US); /* until the first one is none of the new */
	configure(service, "{\"loadBalancer\":{\"policy\":\"random\",\"slowStart\":\"2s\"}}");
	l = load_start(NULL, "--to " GATEWAY_ADDRESS " --path /%s/ --rate 800", service);
	since = now_us();
	i[1] = instance_ready(instance_start(service, "newcomer", "--netns", "origin --port 8000"));
	eventually(5000, origin_stat(i[1], "requests") > 0);
	usleep(SLOW_US + 3 * PART_US); /* the time it is about */
	load_end(l);
	assert_int_equal(load_ok(l, 0, UINT64_MAX), l->n);
	first = first_by(l, "newcomer");
	grown = first + SLOW_US + PART_US; /* for the next look of the agent, and more */
	got = (double)load_by(l, first, first + PART_US, "newcomer");
	most = at_most(l, first, first + PART_US, since);
	part = (double)load_by(l, grown, grown + 2 * PART_US, "newcomer") /
	       (double)load_count(l, grown, grown + 2 * PART_US);
	printf("%.0f of %zu at first (at most %.0f), a share of %.2f in the end\n", got,
	       load_count(l, first, first + PART_US), most, part);
	assert_true(got > 8 && got <= most);
	assert_true(part > 0.39 && part < 0.61); /* six deviations of 800 */
}

int main(void)
{
	const struct CMUnitTest stories[] = {
		STORY(a_header_keeps_its_endpoint),
		STORY(a_cookie_is_given_and_kept),
		STORY(a_busy_key_spills_over),
		STORY(policies_share_as_they_say),
		STORY(least_request_avoids_who_has_much_to_do),
		STORY(a_new_endpoint_starts_slowly),
	};

	return RUN(stories);
}
