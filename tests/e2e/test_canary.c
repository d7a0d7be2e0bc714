/* SPDX-License-Identifier: Apache-2.0 */
/* Versions: by weight, by what a request is like, in copies; and changes of that under load. */
#include "tests/e2e/harness.h"

static char service[32];
static unsigned services;
static struct instance *v1, *v2;

/* A service of this story's own with an endpoint of each version. */
static void start_both(void)
{
	snprintf(service, sizeof(service), "canary%u", services++);
	v1 = instance_start(service, "stable", "--netns --version v1", "origin --port 8000");
	v2 = instance_start(service, "canary", "--netns --version v2", "origin --port 8000");
	instance_ready(v1);
	instance_ready(v2);
	eventually(5000, get(gateway(), "/%s/", service) == 200);
}

static int ask(struct client *c, const char *target)
{
	return get(c, "/%s%s", service, target);
}

/* Which version answers that, all the time? "both" when it is not always the same, "" when the
 * answer is not 200. */
static const char *who_answers(struct client *c, const char *header_line, const char *target)
{
	const char *who = NULL;
	char path[256];

	snprintf(path, sizeof(path), "/%s%s", service, target);
	for (int i = 0; i < 12; i++) {
		const char *now;

		if (get_with(c, header_line, path) != 200)
			return "";
		now = !strcmp(header(c, "x-instance-id"), "stable") ? "v1" : "v2";
		if (who && strcmp(who, now))
			return "both";
		who = now;
	}
	return who;
}

static void ninety_of_a_hundred_whatever_the_latencies(void **state)
{
	struct client *c;
	int n1 = 0, n2 = 0;

	start_both();
	c = gateway();
	origin_set(v1, "delay=2");
	assert_int_equal(sh("meshctl split set %s v1=90 v2=10", service)->status, 0);
	settled();
	for (int i = 0; i < 1000; i++) {
		assert_int_equal(ask(c, "/"), 200);
		n1 += !strcmp(header(c, "x-instance-id"), "stable");
		n2 += !strcmp(header(c, "x-instance-id"), "canary");
	}
	printf("v1 %d, v2 %d\n", n1, n2);
	assert_in_range(n1, 850, 950);
	assert_in_range(n2, 50, 150);
	assert_non_null(strstr(sh("meshctl get routes %s", service)->out, "90"));
	assert_int_equal(sh("meshctl delete %s", service)->status, 0);
}

/* When the last request was due that `who` has answered by then, counted from t; 0 when there is
 * none after t. */
static uint64_t last_after(const struct load *l, const char *who, uint64_t t, uint64_t until)
{
	uint64_t last = t;

	for (size_t i = 0; i < l->n; i++) {
		const struct shot *s = &l->shots[i];

		if (s->start_us + s->took_us < until && s->start_us > last &&
		    !strcmp(s->instance, who))
			last = s->start_us;
	}
	return last - t;
}

static void changes_under_load_lose_nothing_and_are_everywhere_within_250_ms(void **state)
{
	static const struct {
		const char *config, *gone; /* who must not be asked any more */
	} changes[] = {
		{"\"split\":{\"v2\":100}", "stable"},
		{"\"split\":{\"v1\":100}", "canary"},
		{"\"routes\":[{\"split\":{\"v2\":100}}]", "stable"},
		{"\"split\":{\"v1\":100},\"loadBalancer\":{\"policy\":\"round-robin\"},"
		 "\"retry\":{\"attempts\":1},\"bulkhead\":{\"maxRequests\":900}",
		 "canary"},
		{"\"loadBalancer\":{\"policy\":\"least-request\"},\"split\":{\"v1\":0,\"v2\":100}",
		 "stable"},
	};
	const size_t n = sizeof(changes) / sizeof(*changes);
	uint64_t at[8], from;
	size_t soon = 0;
	struct load *l;

	start_both();
	from = now_us();
	l = load_start(NULL, "--to " GATEWAY_ADDRESS " --path /%s/ --rate 5000 -c 48", service);
	eventually(10000, origin_stat(v1, "requests") + origin_stat(v2, "requests") > 1000);
	for (size_t i = 0; i < n; i++) {
		char path[64], body[256];

		snprintf(path, sizeof(path), "/api/config/%s", service);
		snprintf(body, sizeof(body), "{%s}", changes[i].config);
		at[i] = now_us();
		api("PUT", path, body);
		assert_int_equal(api_status, 200);
		usleep(350000); /* at rest again before the next */
	}
	at[n] = now_us();
	load_end(l);
	printf("%zu requests, %zu of them answered 200\n", l->n, load_ok(l, 0, UINT64_MAX));
	assert_int_equal(load_ok(l, 0, UINT64_MAX), l->n);
	assert_true(load_count(l, from, at[n]) > 2000); /* on a slow machine, too */
	for (size_t i = 0; i < n; i++) {
		uint64_t took = last_after(l, changes[i].gone, at[i], at[i + 1]);

		printf("change %zu: everywhere after %lu ms\n", i, took / 1000);
		soon += took < 250000;
	}
	assert_true(soon > n / 2); /* now and then the machine has something else to do */
	configure(service, "{}");
}

static void a_version_that_nobody_has_is_refused_unless_forced(void **state)
{
	struct output *o;
	struct client *c;

	start_both();
	o = sh("meshctl split set %s v1=90 v9=10", service);
	assert_int_equal(o->status, 1);
	assert_non_null(strstr(o->err, "v9"));
	assert_non_null(strstr(o->err, "--force"));
	assert_int_equal(sh("meshctl split set %s v1=10 v9=90 --force", service)->status, 0);
	settled();
	c = gateway();
	for (int i = 0; i < 60; i++) /* what was for v9 goes to v1, which is in the split too */
		assert_int_equal(ask(c, "/"), 200);
	assert_string_equal(who_answers(c, "x-a: b", "/"), "v1");
	configure(service, "{}");
}

static void a_version_that_goes_is_replaced_as_configured(void **state)
{
	struct client *c;

	start_both();
	c = gateway();
	configure(service, "{\"split\":{\"v2\":100}}");
	assert_string_equal(who_answers(c, "x-a: b", "/"), "v2");
	instance_kill(v2);
	for (int i = 0; i < 50; i++) /* from the first on: the kernel has seen it go */
		assert_int_equal(ask(c, "/"), 200);
	assert_string_equal(who_answers(c, "x-a: b", "/"), "v1");
	configure(service, "{\"split\":{\"v2\":100},\"fallback\":\"none\"}");
	assert_int_equal(ask(c, "/"), 503);
	assert_string_equal(header(c, "x-mesh-cause"), "no-healthy-endpoint");
}

static void routes_go_by_header_path_method_and_query(void **state)
{
	struct client *c;

	start_both();
	c = gateway();
	configure(service,
		  "{\"split\":{\"v1\":100},\"routes\":["
		  "{\"name\":\"e\",\"match\":{\"path\":{\"exact\":\"/exact\"}},"
		  "\"split\":{\"v2\":100}},"
		  "{\"name\":\"p\",\"match\":{\"path\":{\"prefix\":\"/pre/\"},"
		  "\"method\":\"GET\"},\"split\":{\"v2\":100}},"
		  "{\"name\":\"t\",\"match\":{\"path\":{\"template\":\"/users/{id}/files/**\"}},"
		  "\"split\":{\"v2\":100}},"
		  "{\"name\":\"q\",\"match\":{\"query\":{\"beta\":\"yes\"}},"
		  "\"split\":{\"v2\":100}},"
		  "{\"name\":\"h\",\"match\":{\"headers\":{\"X-Group\":\"beta\",\"x-two\":\"2\"}},"
		  "\"split\":{\"v2\":100}}]}");
	assert_string_equal(who_answers(c, "x-a: b", "/"), "v1");
	assert_string_equal(who_answers(c, "x-a: b", "/exact"), "v2");
	assert_string_equal(who_answers(c, "x-a: b", "/exact?x=1"), "v2");
	assert_string_equal(who_answers(c, "x-a: b", "/exactly"), "v1");
	assert_string_equal(who_answers(c, "x-a: b", "/pre/x"), "v2");
	assert_string_equal(who_answers(c, "x-a: b", "/users/7/files/a/b"), "v2");
	assert_string_equal(who_answers(c, "x-a: b", "/users//files/a"), "v1");
	assert_string_equal(who_answers(c, "x-a: b", "/?a=1&beta=yes"), "v2");
	assert_string_equal(who_answers(c, "x-a: b", "/?a=1&beta=no"), "v1");
	assert_string_equal(who_answers(c, "x-group: beta\r\nX-Two: 2", "/"), "v2");
	assert_string_equal(who_answers(c, "x-group: beta", "/"), "v1");
	say(c, "POST /%s/pre/x HTTP/1.1\r\nHost: g\r\nContent-Length: 0\r\n\r\n", service);
	assert_int_equal(answer(c, "POST"), 200);
	assert_string_equal(header(c, "x-instance-id"), "stable");
}

static void a_header_picks_the_canary_by_one_command(void **state)
{
	struct client *c;

	start_both();
	c = gateway();
	assert_int_equal(sh("meshctl split set %s v1=100 v2=0", service)->status, 0);
	assert_int_equal(sh("meshctl split header %s x-user-group=beta v2", service)->status, 0);
	settled();
	assert_string_equal(who_answers(c, "x-user-group: beta", "/"), "v2");
	assert_string_equal(who_answers(c, "x-user-group: all", "/"), "v1");
	assert_int_equal(sh("meshctl split clear %s x-user-group=beta", service)->status, 0);
	settled();
	assert_string_equal(who_answers(c, "x-user-group: beta", "/"), "v1");
	assert_int_equal(sh("meshctl delete %s", service)->status, 0);
}

static void mirror(int percent)
{
	configure(service,
		  "{\"split\":{\"v1\":100},\"routes\":[{\"match\":{\"path\":{\"prefix\":\"/\"}},"
		  "\"mirror\":{\"version\":\"v2\",\"percent\":%d}}]}",
		  percent);
}

static void a_mirror_gets_copies_that_nobody_waits_for(void **state)
{
	struct client *c;
	uint64_t start;
	long before;

	start_both();
	c = gateway();
	mirror(100);
	before = origin_stat(v2, "requests");
	for (int i = 0; i < 100; i++) {
		assert_int_equal(ask(c, "/"), 200);
		assert_string_equal(header(c, "x-instance-id"), "stable");
	}
	eventually(5000, origin_stat(v2, "requests") == before + 100);
	say(c, "POST /%s/ HTTP/1.1\r\nHost: g\r\nContent-Length: 5\r\n\r\nhello", service);
	assert_int_equal(answer(c, "POST"), 200);
	eventually(5000, origin_stat(v2, "posts") == 1 && origin_stat(v2, "bytes") == 5);
	origin_set(v2, "hang=1");
	start = mono_ms();
	for (int i = 0; i < 100; i++)
		assert_int_equal(ask(c, "/"), 200);
	assert_true(mono_ms() - start < 10000); /* each would wait for as long */
	instance_kill(v2);
	start = mono_ms();
	for (int i = 0; i < 100; i++)
		assert_int_equal(ask(c, "/"), 200);
	assert_true(mono_ms() - start < 10000); /* each would wait for as long */
}

static void a_mirror_can_have_a_share(void **state)
{
	struct client *c;
	long before, got;

	start_both();
	c = gateway();
	mirror(30);
	before = origin_stat(v2, "requests");
	for (int i = 0; i < 500; i++)
		assert_int_equal(ask(c, "/"), 200);
	eventually(5000, origin_stat(v2, "requests") > before + 90);
	got = origin_stat(v2, "requests") - before;
	printf("%ld of 500 were copied\n", got);
	assert_in_range(got, 90, 210);
}

int main(void)
{
	const struct CMUnitTest stories[] = {
		STORY(ninety_of_a_hundred_whatever_the_latencies),
		STORY(changes_under_load_lose_nothing_and_are_everywhere_within_250_ms),
		STORY(a_version_that_nobody_has_is_refused_unless_forced),
		STORY(a_version_that_goes_is_replaced_as_configured),
		STORY(routes_go_by_header_path_method_and_query),
		STORY(a_header_picks_the_canary_by_one_command),
		STORY(a_mirror_gets_copies_that_nobody_waits_for),
		STORY(a_mirror_can_have_a_share),
	};

	return RUN(stories);
}
