/* SPDX-License-Identifier: Apache-2.0 */
/* A request keeps its trace from hop to hop, whichever headers its callers and the programs in
 * between know of; who is sampled; what the access log says of it. */
#include "tests/e2e/harness.h"

#define TRACE  "4bf92f3577b34da6a3ce929d0e0e4736"
#define PARENT "00f067aa0ba902b7"
#define LOG    SCRATCH "/traces.log"

static struct instance *web;
static struct caller *who;

static struct client *open_web(void)
{
	web = instance_ready(instance_start("web", "web-1", "--netns", "origin --port 8000"));
	who = caller_start("client", "--netns");
	return call(who, web->address);
}

/* A header of the request as the origin got it (reflect=1); fails unless it is there once. */
static const char *got(const struct client *c, const char *name)
{
	static char out[8][256];
	static int next;
	char line[80], *v = out[next++ % 8];
	const char *at;

	snprintf(line, sizeof(line), "\r\n%s: ", name);
	at = strcasestr(c->body, line);
	if (!at || strcasestr(at + 2, line))
		fail_msg("%s is not there once: %s", name, c->body);
	at += strlen(line);
	snprintf(v, sizeof(out[0]), "%.*s", (int)strcspn(at, "\r"), at);
	return v;
}

static void ask(struct client *c, const char *lines)
{
	say(c, "GET /?reflect=1 HTTP/1.1\r\nHost: w\r\n%s\r\n", lines);
	assert_int_equal(answer(c, "GET"), 200);
}

static void all_forms_arrive_with_the_span_of_this_hop(void **state)
{
	struct client *c = open_web();
	char span[32];

	ask(c, "Traceparent: 00-" TRACE "-" PARENT "-01\r\nTracestate: a=1\r\nTracestate: b=2\r\n"
	       "b3: " TRACE "-" PARENT "-1\r\nX-B3-TraceId: " TRACE "\r\nX-B3-SpanId: " PARENT
	       "\r\nX-Trace-Id: " TRACE "\r\nX-Span-Id: " PARENT "\r\n");
	strcpy(span, got(c, "x-span-id"));
	assert_int_equal(strlen(span), 16);
	assert_string_not_equal(span, PARENT);
	assert_string_equal(got(c, "x-trace-id"), TRACE);
	assert_string_equal(got(c, "x-parent-span-id"), PARENT);
	assert_string_equal(got(c, "tracestate"), "a=1,b=2");
	assert_memory_equal(got(c, "traceparent"), "00-" TRACE "-", 36);
	assert_memory_equal(got(c, "traceparent") + 36, span, 16);
	assert_string_equal(got(c, "traceparent") + 52, "-01");
	assert_memory_equal(got(c, "b3") + 33, span, 16);
	assert_string_equal(got(c, "x-b3-spanid"), span);
	assert_string_equal(got(c, "x-b3-parentspanid"), PARENT);
	assert_string_equal(header(c, "x-trace-id"), TRACE);
}

static void every_answer_says_which_trace_it_was(void **state)
{
	struct client *c = gateway();

	(void)open_web();
	say(c, "GET /web/ HTTP/1.1\r\nHost: g\r\nx-trace-id: order-17\r\n\r\n");
	assert_int_equal(answer(c, "GET"), 200);
	assert_string_equal(header(c, "x-trace-id"), "order-17");
	assert_int_equal(get(c, "/web/?status=503"), 503);
	assert_int_equal(strlen(header(c, "x-trace-id")), 32);
	assert_int_equal(get(c, "/nobody-has-that-name"), 404);
	assert_int_equal(strlen(header(c, "x-trace-id")), 32);
	say(c, "GET /web/ HTTP/1.1\r\nHost: g\r\nHost: h\r\n\r\n");
	assert_int_equal(answer(c, "GET"), 400);
	assert_int_equal(strlen(header(c, "x-trace-id")), 32);
	instance_kill(web);
	c = gateway();
	say(c, "GET /web/ HTTP/1.1\r\nHost: g\r\nx-trace-id: order-18\r\n\r\n");
	assert_true(answer(c, "GET") >= 500);
	assert_string_equal(header(c, "x-trace-id"), "order-18");
}

/* A program that calls another one for each request and passes on the headers that it knows of. */
static const char app[] =
	"import http.server as s, socketserver as t, urllib.request as u, urllib.parse as p\n"
	"class App(s.BaseHTTPRequestHandler):\n"
	"  protocol_version = 'HTTP/1.1'\n"
	"  def log_message(self, *a): pass\n"
	"  def do_GET(self):\n"
	"    q = dict(p.parse_qsl(p.urlsplit(self.path).query))\n"
	"    r = u.Request('http://' + q['to'] + '/?reflect=1')\n"
	"    for n in q['copy'].split(','):\n"
	"      if self.headers[n]: r.add_header(n, self.headers[n])\n"
	"    body = u.build_opener(u.ProxyHandler({})).open(r).read()\n"
	"    self.send_response(200)\n"
	"    self.send_header('content-length', str(len(body)))\n"
	"    self.send_header('x-my-span', self.headers['x-span-id'])\n"
	"    self.end_headers()\n"
	"    self.wfile.write(body)\n"
	"class Server(t.ThreadingMixIn, t.TCPServer):\n" /* which asks no DNS for its name */
	"  allow_reuse_address = daemon_threads = True\n"
	"Server(('', 8000), App).serve_forever()\n";

static struct instance *start_app(void)
{
	FILE *f = fopen(SCRATCH "/app.py", "w");

	assert_non_null(f);
	assert_true(fputs(app, f) >= 0);
	assert_int_equal(fclose(f), 0);
	return instance_ready(
		instance_start("front", "front-1", "--netns", "python3 " SCRATCH "/app.py"));
}

static void whichever_form_a_program_copies_the_trace_goes_on(void **state)
{
	static const char *const copied[] = {"traceparent", "x-trace-id,x-span-id", "b3",
					     "x-b3-traceid,x-b3-spanid,x-b3-sampled",
					     "traceparent,tracestate,b3,x-trace-id,x-span-id"};
	struct client *c = gateway();
	char hex[64] = "";

	if (!have_program("python3"))
		story_skip("there is no python3");
	(void)open_web();
	start_app();
	for (size_t i = 0; i < sizeof(copied) / sizeof(*copied); i++) {
		say(c,
		    "GET /front/?to=%s&copy=%s HTTP/1.1\r\nHost: g\r\nx-trace-id: order-17\r\n"
		    "b3: 1\r\nx-b3-sampled: 1\r\n\r\n",
		    web->address, copied[i]);
		assert_int_equal(answer(c, "GET"), 200);
		assert_string_equal(header(c, "x-trace-id"), "order-17");
		assert_int_equal(strlen(header(c, "x-my-span")), 16);
		assert_string_equal(got(c, "x-parent-span-id"), header(c, "x-my-span"));
		if (!i)
			snprintf(hex, sizeof(hex), "%.32s", got(c, "traceparent") + 3);
		assert_memory_equal(got(c, "traceparent") + 3, hex, 32);
		assert_string_equal(got(c, "traceparent") + 52, "-01");
	}
}

static void a_service_says_how_many_of_its_traces_are_sampled(void **state)
{
	struct client *c = open_web();
	int sampled = 0;

	configure("web", "{\"tracing\":{\"sampling\":0}}");
	for (int i = 0; i < 20; i++) {
		ask(c, "");
		assert_string_equal(got(c, "traceparent") + 53, "02"); /* random, not sampled */
	}
	ask(c, "traceparent: 00-" TRACE "-" PARENT "-01\r\n");
	assert_string_equal(got(c, "traceparent") + 53, "01");
	configure("web", "{\"tracing\":{\"sampling\":0.5}}");
	for (int i = 0; i < 400; i++) {
		ask(c, "");
		sampled += !strcmp(got(c, "traceparent") + 53, "03");
	}
	assert_in_range(sampled, 140, 260);
	ask(c, "traceparent: 00-" TRACE "-" PARENT "-00\r\n");
	assert_string_equal(got(c, "traceparent") + 53, "00");
}

/* The line of the access log for that path. */
static const cJSON *logged(const char *path)
{
	struct output *o;
	static cJSON *v;

	eventually(2000, (o = sh("grep '\"path\":\"%s' " LOG, path))->status == 0);
	cJSON_Delete(v);
	v = json_parse(o->out, strcspn(o->out, "\n"), NULL);
	if (!v)
		fail_msg("not JSON: %s", o->out);
	return v;
}

static void the_access_log_names_trace_and_spans(void **state)
{
	struct client *c;
	const cJSON *v;

	agent_stop(SIGTERM);
	agent_start("--access-log " LOG);
	c = open_web();
	say(c, "GET /first?reflect=1 HTTP/1.1\r\nHost: w\r\ntraceparent: 00-" TRACE "-" PARENT
	       "-01\r\n\r\n");
	assert_int_equal(answer(c, "GET"), 200);
	v = logged("/first");
	assert_string_equal(json_str(v, "traceId", ""), TRACE);
	assert_string_equal(json_str(v, "parentSpanId", ""), PARENT);
	assert_string_equal(json_str(v, "spanId", ""), got(c, "x-span-id"));
	assert_true(cJSON_IsTrue(cJSON_GetObjectItem(v, "sampled")));
	say(c, "GET /second?reflect=1 HTTP/1.1\r\nHost: w\r\nx-trace-id: order-17\r\n"
	       "x-span-id: my.span\r\n\r\n");
	assert_int_equal(answer(c, "GET"), 200);
	v = logged("/second");
	assert_string_equal(json_str(v, "traceId", ""), "order-17");
	assert_string_equal(json_str(v, "parentSpanId", ""), "my.span");
	assert_int_equal(get(c, "/third?reflect=1"), 200);
	v = logged("/third");
	assert_string_equal(json_str(v, "traceId", ""), header(c, "x-trace-id"));
	assert_true(cJSON_IsNull(cJSON_GetObjectItem(v, "parentSpanId")));
	agent_stop(SIGTERM);
	agent_start("");
}

static void more_traces_than_the_limit_are_not_sampled(void **state)
{
	struct client *c;
	int sampled = 0, n = 0;
	uint64_t began;
	unsigned most;

	agent_stop(SIGTERM);
	agent_start("--trace-limit 10");
	c = open_web();
	began = mono_ms();
	for (; n < 200; n++) {
		ask(c, "");
		sampled += !strcmp(got(c, "traceparent") + 53, "03");
	}
	/* two seconds' at once, and ten a second */
	most = 20 + (unsigned)(mono_ms() - began) / 100 + 1;
	assert_in_range(sampled, 1, most);
	assert_true(metric("mesh_spans_dropped_total", "reason=\"limit\"", NULL) >= 200 - sampled);
	ask(c, "traceparent: 00-" TRACE "-" PARENT "-01\r\n");
	assert_string_equal(got(c, "traceparent") + 53, "01");
	agent_stop(SIGTERM);
	agent_start("");
}

int main(void)
{
	const struct CMUnitTest stories[] = {
		STORY(all_forms_arrive_with_the_span_of_this_hop),
		STORY(every_answer_says_which_trace_it_was),
		STORY(whichever_form_a_program_copies_the_trace_goes_on),
		STORY(a_service_says_how_many_of_its_traces_are_sampled),
		STORY(the_access_log_names_trace_and_spans),
		STORY(more_traces_than_the_limit_are_not_sampled),
	};

	return RUN(stories);
}
