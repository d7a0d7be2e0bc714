/* SPDX-License-Identifier: Apache-2.0 */
/* The trace of a request on its way through the proxy: what the endpoint and the caller get to see
 * of it, what is written down, who is sampled. */
#include "proxy_rig.h"

#define TRACE  "4bf92f3577b34da6a3ce929d0e0e4736"
#define PARENT "00f067aa0ba902b7"
#define OK     "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"

static char asked[65536], answered[65536]; /* heads: at the origin, at the caller */

/* A header's value in a head: the first one; "" when there is none. *times: how often it is there.
 */
static const char *value(const char *head, const char *name, int *times)
{
	static char out[4][512];
	static int next;
	char line[80], *v = out[next++ % 4];
	const char *at = head;
	int n = 0;

	v[0] = '\0';
	snprintf(line, sizeof(line), "\r\n%s: ", name);
	while ((at = strcasestr(at, line))) {
		at += strlen(line);
		if (!n++)
			snprintf(v, sizeof(out[0]), "%.*s", (int)strcspn(at, "\r"), at);
	}
	if (times)
		*times = n;
	return v;
}

static const char *once(const char *head, const char *name)
{
	int times;
	const char *v = value(head, name, &times);

	if (times != 1)
		fail_msg("%s is there %d times: %s", name, times, head);
	return v;
}

static void ask(int c, const char *lines)
{
	char request[4096];

	snprintf(request, sizeof(request), "GET /svc/a HTTP/1.1\r\nHost: h\r\n%s\r\n", lines);
	rig_send(c, request);
}

static void origin_gets(int o, const char *answer)
{
	rig_read_until(o, "\r\n\r\n", asked, sizeof(asked));
	rig_send(o, answer);
}

static void caller_gets(int c)
{
	rig_read_until(c, "\r\n\r\n", answered, sizeof(answered));
}

/* A request with these lines by way of origin 0 and a connection of its own, answered with 200. */
static void exchange(struct rig *rig, const char *lines)
{
	int c = rig_connect(rig->gateway_port), o;
	char x;

	ask(c, lines);
	o = rig_accept(rig, 0);
	origin_gets(o, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx");
	caller_gets(c);
	assert_int_equal(recv(c, &x, 1, 0), 1);
	close(c);
	close(o);
}

static const char *hex(const uint8_t *id, size_t n)
{
	static char out[4][33];
	static int next;
	char *v = out[next++ % 4];

	trace_hex(v, id, n);
	v[2 * n] = '\0';
	return v;
}

/* The text of a record from its trace on: trace, alias, parent. */
static const char *trace_text(const struct record *r)
{
	return record_text(r) + r->method_len + r->path_len + r->host_len + r->request_id_len;
}

static const struct record *record_number(const struct rig *rig, unsigned n)
{
	uint64_t at = 0;

	for (int i = 0; i < RIG_WAIT_MS;) {
		const struct record *r = (void *)((char *)rig->ring + RING_DATA + at);

		if (__atomic_load_n(&rig->ring->head, __ATOMIC_ACQUIRE) == at) {
			poll(NULL, 0, 1);
			i++;
		} else if (r->kind != RECORD_WHY && !n--) {
			return r;
		} else {
			at += r->size;
		}
	}
	fail_msg("record %u is missing", n);
	return NULL;
}

static void who_names_no_trace_begins_one(void **state)
{
	struct rig *rig = *state;
	const struct record *r;
	char parent[64];

	exchange(rig, "");
	r = rig_first_record(rig);
	snprintf(parent, sizeof(parent), "00-%s-%s-03", hex(r->trace_id, 16), hex(r->span_id, 8));
	assert_string_equal(once(asked, "traceparent"), parent);
	assert_string_equal(once(asked, "x-trace-id"), hex(r->trace_id, 16));
	assert_string_equal(once(asked, "x-span-id"), hex(r->span_id, 8));
	assert_string_equal(value(asked, "x-parent-span-id", NULL), "");
	assert_string_equal(value(asked, "b3", NULL), "");
	assert_string_equal(value(asked, "x-b3-traceid", NULL), "");
	assert_string_equal(once(answered, "x-trace-id"), hex(r->trace_id, 16));
	assert_int_equal(r->flags & (RECORD_TRACED | RECORD_SAMPLED | RECORD_ROOT),
			 RECORD_TRACED | RECORD_SAMPLED | RECORD_ROOT);
	assert_string_equal(hex(r->parent_id, 8), "0000000000000000");
	assert_int_equal(r->trace_len + r->alias_len + r->parent_len, 0);
}

static void who_names_one_goes_on_with_it(void **state)
{
	struct rig *rig = *state;
	const struct record *r;

	exchange(rig, "traceparent: 00-" TRACE "-" PARENT "-01\r\ntracestate: a=1\r\n"
		      "tracestate: b=2\r\nb3: " TRACE "-" PARENT "-1\r\nX-B3-TraceId: " TRACE
		      "\r\nX-B3-SpanId: " PARENT "\r\nX-B3-ParentSpanId: " PARENT
		      "\r\nX-B3-Sampled: 1\r\nX-Trace-Id: " TRACE "\r\nX-Span-Id: " PARENT
		      "\r\nX-Parent-Span-Id: old\r\n");
	r = rig_first_record(rig);
	assert_memory_equal(once(asked, "traceparent"), "00-" TRACE "-", 36);
	assert_string_not_equal(once(asked, "x-span-id"), PARENT);
	assert_memory_equal(once(asked, "traceparent") + 36, once(asked, "x-span-id"), 16);
	assert_string_equal(once(asked, "tracestate"), "a=1,b=2");
	assert_memory_equal(once(asked, "b3"), TRACE "-", 33);
	assert_memory_equal(once(asked, "b3") + 33, once(asked, "x-span-id"), 16);
	assert_string_equal(once(asked, "x-b3-traceid"), TRACE);
	assert_string_equal(once(asked, "x-b3-spanid"), once(asked, "x-span-id"));
	assert_string_equal(once(asked, "x-b3-parentspanid"), PARENT);
	assert_string_equal(once(asked, "x-b3-sampled"), "1");
	assert_string_equal(once(asked, "x-trace-id"), TRACE);
	assert_string_equal(once(asked, "x-parent-span-id"), PARENT);
	assert_string_equal(once(answered, "x-trace-id"), TRACE);
	assert_string_equal(hex(r->trace_id, 16), TRACE);
	assert_string_equal(hex(r->parent_id, 8), PARENT);
	assert_string_equal(hex(r->span_id, 8), once(asked, "x-span-id"));
	assert_int_equal(r->flags & (RECORD_SAMPLED | RECORD_ROOT), RECORD_SAMPLED);
}

static void a_caller_may_choose_its_ids(void **state)
{
	struct rig *rig = *state;
	const struct record *r;

	exchange(rig, "x-trace-id: order-17\r\nx-span-id: checkout\r\nX-Request-Id: abc\r\n");
	r = rig_first_record(rig);
	assert_string_equal(once(asked, "x-trace-id"), "order-17");
	assert_string_equal(once(asked, "x-parent-span-id"), "checkout");
	assert_string_equal(once(answered, "x-trace-id"), "order-17");
	assert_memory_equal(once(asked, "traceparent") + 3, hex(r->trace_id, 16), 32);
	assert_int_equal(r->request_id_len, 3);
	assert_int_equal(r->trace_len, 8);
	assert_int_equal(r->alias_len, 0);
	assert_int_equal(r->parent_len, 8);
	assert_memory_equal(trace_text(r) - 3, "abcorder-17checkout", 19);
	assert_false(r->flags & RECORD_ROOT);
}

static void other_names_are_kept(void **state)
{
	struct rig *rig = *state;
	const struct record *r;

	exchange(rig, "traceparent: 00-" TRACE "-" PARENT "-00\r\nx-trace-id: order-17\r\n"
		      "b3: 463ac35c9f6413ad-" PARENT "-1\r\n");
	r = rig_first_record(rig);
	assert_string_equal(hex(r->trace_id, 16), TRACE);
	assert_int_equal(r->trace_len, 0);
	assert_int_equal(r->alias_len, 25);
	assert_memory_equal(trace_text(r), "463ac35c9f6413ad,order-17", 25);
	assert_string_equal(once(asked, "x-trace-id"), TRACE);
	assert_memory_equal(once(asked, "b3"), TRACE "-", 33);
	assert_false(r->flags & RECORD_SAMPLED);
}

static void each_request_of_a_connection_has_its_own(void **state)
{
	struct rig *rig = *state;
	const struct record *r;
	int c = rig_connect(rig->gateway_port), o;
	char span[32], trace[64];

	ask(c, "traceparent: 00-" TRACE "-" PARENT "-01\r\ntracestate: a=1\r\nb3: 1\r\n"
	       "x-trace-id: order-17\r\n");
	o = rig_accept(rig, 0);
	origin_gets(o, OK);
	rig_read_until(c, "\r\n\r\nx", answered, sizeof(answered));
	strcpy(span, once(asked, "x-span-id"));
	ask(c, "");
	origin_gets(o, OK);
	rig_read_until(c, "\r\n\r\nx", answered, sizeof(answered));
	strcpy(trace, once(asked, "x-trace-id"));
	assert_string_not_equal(trace, TRACE);
	assert_string_not_equal(once(asked, "x-span-id"), span);
	assert_string_equal(value(asked, "tracestate", NULL), "");
	assert_string_equal(value(asked, "b3", NULL), "");
	assert_string_equal(value(asked, "x-parent-span-id", NULL), "");
	r = record_number(rig, 1);
	assert_string_equal(hex(r->trace_id, 16), trace);
	assert_int_equal(r->alias_len + r->trace_len + r->parent_len, 0);
	assert_true(r->flags & RECORD_ROOT);
	close(c);
	close(o);
}

static void an_endpoint_does_not_name_the_trace(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->gateway_port), o;

	ask(c, "x-trace-id: order-17\r\n");
	o = rig_accept(rig, 0);
	origin_gets(o, "HTTP/1.1 200 OK\r\nX-Trace-Id: its-own\r\nContent-Length: 0\r\n\r\n");
	caller_gets(c);
	assert_string_equal(once(answered, "x-trace-id"), "order-17");
	close(c);
	close(o);
}

static void expect_traced_refusal(struct rig *rig, unsigned n, const char *request,
				  const char *status, const char *name)
{
	int c = rig_connect(rig->gateway_port);
	const struct record *r;

	rig_send(c, request);
	caller_gets(c);
	assert_memory_equal(answered + 9, status, 3);
	r = record_number(rig, n);
	assert_true(r->flags & RECORD_TRACED);
	assert_string_equal(once(answered, "x-trace-id"), name ? name : hex(r->trace_id, 16));
	assert_int_equal(r->ntries, 0);
	close(c);
}

static void answers_of_the_mesh_name_it_too(void **state)
{
	struct rig *rig = *state;
	const struct record_why *w;

	rig_use(rig, 0);
	expect_traced_refusal(rig, 0, "GET /svc/a HTTP/1.1\r\nHost: h\r\nx-trace-id: t-1\r\n\r\n",
			      "503", "t-1");
	w = (const struct record_why *)rig_record(rig, true);
	assert_int_equal(w->trace_id_len, 3);
	assert_memory_equal(why_text(w) + w->request_id_len, "t-1", 3);
	expect_traced_refusal(rig, 1, "GET /nobody HTTP/1.1\r\nHost: h\r\n\r\n", "404", NULL);
	expect_traced_refusal(rig, 2, "GET /svc/a HTTP/1.1\r\nx-trace-id: t-2\r\n\r\n", "400",
			      NULL);
	expect_traced_refusal(rig, 3, "nonsense\r\n\r\n", "400", NULL);
}

static void tries_are_written_down(void **state)
{
	struct rig *rig = *state;
	const struct record_try *t;
	const struct record *r;
	int c, o[2];
	char span[32];

	rig->snapshot->service.retry.statuses[12] = 1 << 7; /* 503 */
	rig_use(rig, 2);
	c = rig_connect(rig->gateway_port);
	ask(c, "");
	for (int i = 0; i < 2; i++) {
		struct pollfd p[2] = {{.fd = rig->origin[0], .events = POLLIN},
				      {.fd = rig->origin[1], .events = POLLIN}};
		int k;

		assert_true(poll(p, 2, RIG_WAIT_MS) > 0);
		k = !(p[0].revents & POLLIN);
		o[i] = rig_accept(rig, (unsigned)k);
		if (i)
			origin_gets(o[i], OK);
		else
			origin_gets(o[i], "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n");
		if (!i)
			strcpy(span, once(asked, "x-span-id"));
	}
	caller_gets(c);
	assert_string_equal(once(asked, "x-span-id"), span); /* tries are no hops */
	close(c);
	r = rig_first_record(rig);
	t = record_tries(r);
	assert_int_equal(r->tries, 2);
	assert_int_equal(r->ntries, 2);
	assert_int_equal(t[0].status, 503);
	assert_int_equal(t[1].status, 200);
	assert_int_equal(t[0].cause | t[1].cause, CAUSE_NONE);
	assert_int_not_equal(t[0].endpoint, t[1].endpoint);
	assert_int_equal(t[1].endpoint, r->endpoint);
	assert_int_equal(t[0].gen, 1);
	assert_int_equal(t[0].reused | t[1].reused, 0);
	assert_true(t[1].start_us >= t[0].start_us + t[0].duration_us);
	assert_true((t[1].start_us + t[1].duration_us) * 1000ULL <= r->duration_ns);
	assert_memory_equal(record_text(r), "GET/svc/ah", 10);
	close(o[0]);
	close(o[1]);
}

static void a_try_that_failed_says_why(void **state)
{
	struct rig *rig = *state;
	const struct record *r;
	int c = rig_connect(rig->gateway_port);

	close(rig->origin[0]); /* refuses */
	rig->origin[0] = -1;
	ask(c, "");
	caller_gets(c);
	r = rig_first_record(rig);
	assert_int_equal(r->cause, CAUSE_CONNECT_FAILED);
	assert_int_equal(r->ntries, r->tries);
	for (uint32_t i = 0; i < r->ntries; i++) {
		assert_int_equal(record_tries(r)[i].cause, CAUSE_CONNECT_FAILED);
		assert_int_equal(record_tries(r)[i].status, 0);
		assert_int_equal(record_tries(r)[i].endpoint, 0);
	}
	close(c);
}

static void more_tries_than_there_is_room_for(void **state)
{
	struct rig *rig = *state;
	const struct record *r;
	int c = rig_connect(rig->gateway_port);

	rig->snapshot->service.retry.attempts = 11;
	close(rig->origin[0]);
	rig->origin[0] = -1;
	ask(c, "");
	caller_gets(c);
	r = rig_first_record(rig);
	assert_int_equal(r->tries, 12);
	assert_int_equal(r->ntries, RECORD_TRIES);
	assert_memory_equal(record_text(r), "GET/svc/ah", 10);
	close(c);
}

static void a_stale_connection_is_no_try(void **state)
{
	struct rig *rig = *state;
	const struct record *r;
	int c = rig_connect(rig->gateway_port), o, again;

	ask(c, "");
	o = rig_accept(rig, 0);
	origin_gets(o, OK);
	rig_read_until(c, "\r\n\r\nx", answered, sizeof(answered));
	ask(c, "");
	rig_read_until(o, "\r\n\r\n", asked, sizeof(asked));
	close(o); /* without a word */
	again = rig_accept(rig, 0);
	origin_gets(again, OK);
	rig_read_until(c, "\r\n\r\nx", answered, sizeof(answered));
	r = record_number(rig, 1);
	assert_int_equal(r->tries, 1);
	assert_int_equal(r->ntries, 1);
	assert_int_equal(record_tries(r)->status, 200);
	close(c);
	close(again);
}

static void a_caller_that_leaves_ends_the_try(void **state)
{
	struct rig *rig = *state;
	const struct linger now = {.l_onoff = 1};
	const struct record *r;
	int c = rig_connect(rig->gateway_port), o;

	ask(c, "");
	o = rig_accept(rig, 0);
	rig_read_until(o, "\r\n\r\n", asked, sizeof(asked));
	poll(NULL, 0, 5);
	setsockopt(c, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(c);
	r = rig_first_record(rig);
	assert_true(r->flags & RECORD_CLIENT_GONE);
	assert_int_equal(r->ntries, 1);
	assert_int_equal(record_tries(r)->status, 0);
	assert_int_equal(record_tries(r)->cause, CAUSE_NONE);
	assert_in_range(record_tries(r)->duration_us, 4000, r->duration_ns / 1000);
	close(o);
}

static void nothing_is_sampled_at_a_share_of_none(void **state)
{
	struct rig *rig = *state;
	const struct record *r;

	rig->snapshot->service.sampling = 0;
	exchange(rig, "x-trace-id: order-17\r\nX-B3-TraceId: 463ac35c9f6413ad\r\n"
		      "X-B3-SpanId: " PARENT "\r\n");
	assert_string_equal(once(asked, "x-b3-sampled"), "0");
	assert_string_equal(once(asked, "traceparent") + 52, "-00");
	r = rig_first_record(rig);
	assert_int_equal(r->flags & (RECORD_TRACED | RECORD_SAMPLED), RECORD_TRACED);
	exchange(rig, "traceparent: 00-" TRACE "-" PARENT "-01\r\n"); /* its caller's decision */
	assert_true(record_number(rig, 1)->flags & RECORD_SAMPLED);
	assert_int_equal(rig->ring->unsampled, 0);
}

static void beyond_the_limit_no_trace_is_sampled_and_that_is_counted(void **state)
{
	struct rig *rig = *state;
	int c, o = -1;
	enum { N = 40, WITHIN = 8 };
	unsigned sampled = 0;

	exchange(rig, ""); /* the worker is up */
	c = rig_connect(rig->gateway_port);
	trace_limit(&rig->inside->traces, WITHIN / 2, 1); /* two seconds' at once */
	for (int i = 0; i < N; i++) {
		ask(c, i % 2 ? "" : "x-trace-id: t\r\n");
		if (o < 0)
			o = rig_accept(rig, 0);
		origin_gets(o, OK);
		rig_read_until(c, "\r\n\r\nx", answered, sizeof(answered));
	}
	for (unsigned i = 1; i <= N; i++)
		sampled += record_number(rig, i)->flags & RECORD_SAMPLED ? 1 : 0;
	assert_in_range(sampled, WITHIN, WITHIN + 4);
	assert_int_equal(rig->ring->unsampled, N - sampled);
	ask(c, "traceparent: 00-" TRACE "-" PARENT "-01\r\n");
	origin_gets(o, OK);
	caller_gets(c);
	assert_true(record_number(rig, N + 1)->flags & RECORD_SAMPLED);
	close(c);
	close(o);
}

static void requests_for_nobody_leave_the_limit_to_others(void **state)
{
	struct rig *rig = *state;
	unsigned nobodys = 0;
	enum { N = 20 };
	int c;

	exchange(rig, ""); /* the worker is up */
	c = rig_connect(rig->gateway_port);
	trace_limit(&rig->inside->traces, 2, 1); /* four at once */
	for (int i = 0; i < N; i++) {
		rig_send(c, "GET /nobody HTTP/1.1\r\nHost: h\r\n\r\n");
		rig_read_until(c, "}\n", answered, sizeof(answered));
		assert_memory_equal(answered, "HTTP/1.1 404 ", 13);
	}
	close(c);
	for (unsigned i = 1; i <= N; i++)
		nobodys += record_number(rig, i)->flags & RECORD_SAMPLED ? 1 : 0;
	assert_in_range(nobodys, 1, N / 2);
	exchange(rig, "");
	assert_true(record_number(rig, N + 1)->flags & RECORD_SAMPLED);
}

static void a_tunnel_has_no_trace(void **state)
{
	struct rig *rig = *state;
	const struct record *r;
	int c, o;

	rig->upstreams[0].protocol = MESH_PROTO_TCP;
	c = rig_connect(rig->capture_port);
	rig_send(c, "x");
	o = rig_accept(rig, 0);
	rig_read_until(o, "x", asked, sizeof(asked));
	close(c);
	close(o);
	r = rig_first_record(rig);
	assert_int_equal(r->kind, RECORD_TUNNEL);
	assert_true(r->upstream_ns > 0); /* its latency: how long the endpoint took to be there */
	assert_false(r->flags & (RECORD_TRACED | RECORD_SAMPLED | RECORD_ROOT));
	assert_string_equal(hex(r->span_id, 8), "0000000000000000");
}

static void ignore(const struct record *r, void *arg)
{
	(void)r;
	(void)arg;
}

/* All that a caller can put into a record has room in it. */
static void the_longest_record_is_read(void **state)
{
	struct rig *rig = *state;
	static char lines[4096], path[400];
	uint64_t corrupt = 0;
	int c = rig_connect(rig->gateway_port), o;
	char id[129], name[65];

	memset(id, 'r', 128);
	id[128] = '\0';
	memset(name, 'n', 64);
	name[64] = '\0';
	memset(path, 'p', 399);
	path[399] = '\0';
	snprintf(lines, sizeof(lines),
		 "ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGHIJ /svc/%s HTTP/1.1\r\nHost: %s.%s.%s\r\n"
		 "X-Request-Id: %s\r\nX-B3-TraceId: " TRACE "\r\nX-B3-SpanId: " PARENT "\r\n"
		 "b3: 5af7651916cd43dd8448eb211c80319c-" PARENT "\r\nx-trace-id: %s\r\n"
		 "traceparent: 00-0af7651916cd43dd8448eb211c80319c-" PARENT "-01\r\n\r\n",
		 path, name, name, name, id, name);
	rig_send(c, lines);
	o = rig_accept(rig, 0);
	origin_gets(o, OK);
	rig_read_until(c, "\r\n\r\nx", answered, sizeof(answered));
	assert_int_equal(rig_first_record(rig)->alias_len, TRACE_ALIAS_MAX);
	assert_int_equal(ring_drain(rig->ring, 10, ignore, NULL, &corrupt), 1);
	assert_int_equal(corrupt, 0);
	close(c);
	close(o);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, start, stop)
	const struct CMUnitTest tests[] = {
		T(who_names_no_trace_begins_one),
		T(who_names_one_goes_on_with_it),
		T(a_caller_may_choose_its_ids),
		T(other_names_are_kept),
		T(each_request_of_a_connection_has_its_own),
		T(an_endpoint_does_not_name_the_trace),
		T(answers_of_the_mesh_name_it_too),
		T(tries_are_written_down),
		T(a_try_that_failed_says_why),
		T(more_tries_than_there_is_room_for),
		T(a_stale_connection_is_no_try),
		T(a_caller_that_leaves_ends_the_try),
		T(nothing_is_sampled_at_a_share_of_none),
		T(beyond_the_limit_no_trace_is_sampled_and_that_is_counted),
		T(requests_for_nobody_leave_the_limit_to_others),
		T(a_tunnel_has_no_trace),
		T(the_longest_record_is_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
