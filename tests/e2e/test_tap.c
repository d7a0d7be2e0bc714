/* SPDX-License-Identifier: Apache-2.0 */
/* Requests can be watched as they pass: GET /api/tap, as server-sent events. */
#include "tests/e2e/harness.h"

#include <poll.h>

static char service[32];
static unsigned services;
static struct instance *a, *b;
static struct client *c;

/* An open stream, and all that it has said. */
struct watcher {
	struct client *connection;
	char text[8 << 20];
	size_t len;
};
static struct watcher watchers[2];

static void start_both(void)
{
	snprintf(service, sizeof(service), "shop%u", services++);
	c = two_origins(service, &a, &b);
}

/* Takes what has come, or comes within ms first. Has the stream ended? */
static bool listen_on(struct watcher *w, unsigned ms)
{
	struct pollfd p = {.fd = w->connection->fd, .events = POLLIN};
	ssize_t n;

	while (poll(&p, 1, (int)ms) > 0) {
		n = read(p.fd, w->text + w->len, sizeof(w->text) - 1 - w->len);
		if (n <= 0)
			return true;
		w->len += (size_t)n;
		w->text[w->len] = '\0';
		ms = 0;
	}
	return false;
}

/* How often its stream has said that; looks for more first. */
static unsigned seen(struct watcher *w, const char *text)
{
	unsigned n = 0;

	(void)listen_on(w, 1);
	for (const char *p = w->text; (p = strstr(p, text)); p++)
		n++;
	return n;
}

static unsigned spans_seen(struct watcher *w)
{
	return seen(w, "data: {\"id\"");
}

/* Opens a stream about the service, with more of a query, and returns when meshd has it; agents
 * hear of it a moment later (warm_up()). */
static struct watcher *watch(unsigned i, const char *query)
{
	struct watcher *w = &watchers[i];

	w->len = 0;
	w->text[0] = '\0';
	w->connection = call_directly(MESHD_ADDRESS);
	say(w->connection, "GET /api/tap?service=%s%s HTTP/1.0\r\nHost: localhost\r\n\r\n", service,
	    query); /* 1.0: without chunks, which would cut words in two */
	eventually(2000, seen(w, ": open") == 1);
	return w;
}

static const char *trace_header(const char *trace)
{
	static char text[128];

	snprintf(text, sizeof(text), "x-trace-id: %s", trace);
	return text;
}

/* A request with a trace id of its own, of which a stream says "traceId":"ID" or has it among the
 * aliases. */
static void request(const char *trace, const char *query)
{
	char target[128];

	snprintf(target, sizeof(target), "/%s/%s", service, query);
	(void)get_with(c, trace_header(trace), target);
}

static const char *quoted(const char *trace)
{
	static char text[128];

	snprintf(text, sizeof(text), "\"%s\"", trace);
	return text;
}

/* Requests until one is seen; then every one is. */
static void warm_up(struct watcher *w, const char *query)
{
	eventually(5000, (request("warming-up", query), seen(w, "\"warming-up\"") > 0));
}

static void each_request_is_seen_once(void **state)
{
	struct watcher *w;
	char trace[32];

	start_both();
	w = watch(0, "");
	warm_up(w, "");
	for (int i = 0; i < 20; i++) {
		snprintf(trace, sizeof(trace), "order-%d", i + 100);
		request(trace, "items?q=1");
	}
	eventually(2000, seen(w, "\"order-119\"") >= 1);
	for (int i = 0; i < 20; i++) {
		snprintf(trace, sizeof(trace), "order-%d", i + 100);
		assert_int_equal(seen(w, quoted(trace)), 1);
	}
	assert_true(seen(w, "\"statusCode\":200") >= 21);
	assert_int_equal(seen(w, "event: lost"), 0);
}

static void a_filter_shows_nothing_else(void **state)
{
	struct watcher *errors, *one;

	start_both();
	/* agents are told of all that are open: who knows the second knows the first */
	one = watch(1, "&trace=the-one");
	errors = watch(0, "&error=true");
	warm_up(errors, "?status=404");
	request("fine", "");
	request("the-one", "");
	request("broken", "?status=500");
	eventually(2000, seen(errors, "\"broken\"") && seen(one, "\"the-one\""));
	assert_int_equal(seen(errors, "\"fine\""), 0);
	assert_int_equal(seen(errors, "\"the-one\""), 0);
	assert_int_equal(seen(one, "\"broken\""), 0);
	assert_int_equal(spans_seen(one), 1);
}

static void slow_ones_only(void **state)
{
	struct watcher *w;

	start_both();
	w = watch(0, "&min=100ms");
	warm_up(w, "?delay=150");
	request("quick", "");
	request("slow", "?delay=150");
	eventually(2000, seen(w, "\"slow\"") == 1);
	assert_int_equal(seen(w, "\"quick\""), 0);
}

/* What is watched has nothing to do with what is kept. */
static void what_is_not_sampled_is_seen(void **state)
{
	struct watcher *w;

	start_both();
	configure(service, "{\"tracing\":{\"sampling\":0}}");
	w = watch(0, "");
	warm_up(w, "");
	request("nobody-keeps-this", "");
	eventually(2000, seen(w, "\"nobody-keeps-this\"") == 1);
}

static void another_service_is_not_seen(void **state)
{
	char first[32];
	struct watcher *w;

	start_both();
	snprintf(first, sizeof(first), "%s", service);
	w = watch(0, "");
	warm_up(w, "");
	start_both();
	request("of-another", "");
	snprintf(service, sizeof(service), "%s", first);
	c = gateway();
	request("of-this", "");
	eventually(2000, seen(w, "\"of-this\"") == 1);
	assert_int_equal(seen(w, "\"of-another\""), 0);
}

static uint64_t lost(struct watcher *w)
{
	uint64_t n = 0;

	for (const char *p = w->text; (p = strstr(p, "event: lost\ndata: {\"count\":")); p++)
		n += strtoull(p + 27, NULL, 10);
	return n;
}

/* A reader that sleeps costs callers nothing; afterwards it is told of every request, or that there
 * was one. */
static void a_reader_that_sleeps_holds_nobody_up(void **state)
{
	struct watcher *w;
	struct load *l;
	unsigned before;

	start_both();
	w = watch(0, "");
	warm_up(w, "");
	request("the-last-before", "");
	eventually(2000, seen(w, "\"the-last-before\"") == 1);
	before = spans_seen(w);
	l = load_start(NULL, "--to %s --path /%s/ --rate 1500", GATEWAY_ADDRESS, service);
	eventually(10000, origin_stat(a, "requests") + origin_stat(b, "requests") > 4000);
	load_end(l);
	assert_int_equal(load_ok(l, 0, UINT64_MAX), l->n);
	eventually(5000, spans_seen(w) + lost(w) >= before + l->n);
	assert_int_equal(spans_seen(w) + lost(w), before + l->n);
}

static void a_new_tap_works_after_the_death_of_meshd(void **state)
{
	struct watcher *w;

	start_both();
	w = watch(0, "");
	warm_up(w, "");
	meshd_stop(SIGKILL);
	meshd_start();
	w = watch(1, "");
	warm_up(w, "");
	request("after-it", "");
	eventually(2000, seen(w, "\"after-it\"") == 1);
	/* behind what it had sent and nobody has read */
	eventually(1000, listen_on(&watchers[0], 0));
}

int main(void)
{
	const struct CMUnitTest stories[] = {
		STORY(each_request_is_seen_once),
		STORY(a_filter_shows_nothing_else),
		STORY(slow_ones_only),
		STORY(what_is_not_sampled_is_seen),
		STORY(another_service_is_not_seen),
		STORY(a_reader_that_sleeps_holds_nobody_up),
		STORY(a_new_tap_works_after_the_death_of_meshd),
	};

	return RUN(stories);
}
