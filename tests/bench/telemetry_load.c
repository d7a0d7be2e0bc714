/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Agents that are none: each posts series and, as records, spans of made-up requests to meshd, as
 * docs/telemetry.md has it, while the main thread asks questions. Prints how long the answers took,
 * the memory of meshd, and whether the map has exactly what was sent. Exit 1 when a limit is not
 * met. tests/bench/telemetry_load.sh runs it on a host of its own.
 */
#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/histogram.h"
#include "lib/http.h"
#include "lib/json.h"
#include "lib/options.h"
#include "lib/record_batch.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define AGENTS_MAX 64
#define EDGES_MAX  20000
#define BODY_MAX   (8u << 20)
#define SERVICES   1000
#define PIECES	   8   /* record batches in a body */
#define PERIOD_MS  100 /* between two batches of spans; series are in every fifth */
#define RATHER_MS  50  /* between two questions */
#define LIMIT_MS   50.0
#define LIMIT_MIB  150.0

static const char *opt_control, *opt_pid, *opt_agents, *opt_services, *opt_edges, *opt_rate,
	*opt_spans, *opt_seconds;
static const struct option_spec options[] = {
	{"control", 0, "URL", "unix:/run/mesh/meshd.sock", "where meshd is", &opt_control},
	{"pid", 0, "PID", NULL, "of meshd, for its memory", &opt_pid},
	{"agents", 0, "N", "10", "at the same time", &opt_agents},
	{"services", 0, "N", "50", "that are called", &opt_services},
	{"edges", 0, "N", "1000", "between them, of two versions each", &opt_edges},
	{"rate", 0, "N", "5000", "requests a second, of all", &opt_rate},
	{"spans", 0, "PERCENT", "10", "of the requests that are sampled", &opt_spans},
	{"seconds", 's', "N", "60", "how long", &opt_seconds},
	{0},
};
static const struct program program = {
	"telemetry_load", "[flags]", "what meshd bears of telemetry, and how it answers meanwhile",
	options};

static unsigned services, edges, agents, rate, percent;
static uint64_t end_ns;

struct kind { /* what one edge has counted of one version and outcome */
	uint32_t requests;
	struct histogram_sparse histogram;
};

struct agent {
	pthread_t thread;
	unsigned index;
	uint64_t random, seq, sent, errors, spans, unsent, failed;
	struct kind (*kinds)[4]; /* by edge: v1 ok, v1 error, v2 ok, v2 error */
	struct buf series;
	struct record_batch *records;
	struct iovec pieces[1 + PIECES]; /* the first one is JSON */
	unsigned npieces;
};

static char service_names[SERVICES][32], instance_names[SERVICES][32];

static uint64_t draw(uint64_t *random)
{
	*random ^= *random << 13;
	*random ^= *random >> 7;
	*random ^= *random << 17;
	return *random;
}

static const char *caller_of(unsigned edge)
{
	return service_names[(edge / services + 1 + edge) % services];
}

static const char *callee_of(unsigned edge)
{
	return service_names[edge % services];
}

/* --- spans --------------------------------------------------------------------------- */

/* As a worker writes it. */
struct whole {
	struct record r;
	struct record_try try;
	char text[64];
};

static struct whole record_of(struct agent *a, unsigned edge, bool bad, uint64_t ns)
{
	struct whole w = {.r = {.size = sizeof(w),
				.kind = RECORD_REQUEST,
				.tries = 1,
				.ntries = 1,
				.flags = RECORD_TRACED | RECORD_SAMPLED | RECORD_ROOT,
				.start_ns = clock_mono_ns() - ns,
				.duration_ns = ns,
				.head_ns = ns,
				.upstream_ns = ns,
				.bytes_out = 512,
				.status = bad ? 500 : 200,
				.method_len = 3,
				.path_len = 9},
			  .try = {.start_us = 100,
				  .duration_us = (uint32_t)(ns / 1000),
				  .status = bad ? 500 : 200,
				  .reused = 1}};
	uint64_t ids[3] = {draw(&a->random), draw(&a->random), draw(&a->random)};
	int n = snprintf(w.text, sizeof(w.text), "GET/items/17%s:80", callee_of(edge));

	memcpy(w.r.trace_id, ids, sizeof(w.r.trace_id));
	memcpy(w.r.span_id, &ids[2], sizeof(w.r.span_id));
	w.r.host_len = (uint16_t)(n - 12);
	return w;
}

/* The records so far are a piece of the body. */
static void piece(struct agent *a)
{
	struct iovec *p = &a->pieces[a->npieces];
	int err =
		a->npieces <= PIECES
			? record_batch_take(a->records,
					    (int64_t)(clock_wall_ms() * 1000000 - clock_mono_ns()),
					    &p->iov_base, &p->iov_len)
			: -ENOSPC;

	if (err && err != -ENODATA)
		abort();
	a->npieces += !err;
}

static void put_span(struct agent *a, unsigned edge, bool v2, bool bad, uint64_t ns)
{
	struct whole w = record_of(a, edge, bad, ns);
	struct span_names n = {.source = caller_of(edge),
			       .service = callee_of(edge),
			       .instance = instance_names[edge % services],
			       .version = v2 ? "v2" : "v1"};
	int err = record_batch_add(a->records, &w.r, &n);

	if (err == -ENOSPC) {
		piece(a);
		err = record_batch_add(a->records, &w.r, &n);
	}
	if (err)
		abort();
	a->spans++;
	a->unsent++;
}

/* --- what is posted ------------------------------------------------------------------ */

/* One request: counted, and perhaps a span. */
static void request(struct agent *a)
{
	unsigned mine = edges / agents,
		 edge = a->index * mine + (unsigned)(draw(&a->random) % mine);
	bool bad = draw(&a->random) % 100 < 3, v2 = draw(&a->random) % 10 == 0;
	uint64_t ns = 1000000 + draw(&a->random) % 20000000;
	struct kind *k = &a->kinds[edge][2 * v2 + bad];

	ns *= draw(&a->random) % 50 ? 1 : 20; /* some are slow */
	k->requests++;
	if (histogram_sparse_add(&k->histogram, histogram_bucket(ns), 1))
		abort();
	if (draw(&a->random) % 100 < percent)
		put_span(a, edge, v2, bad, ns);
	a->sent++;
	a->errors += bad;
}

static void put_series(struct agent *a)
{
	for (unsigned e = 0; e < edges; e++)
		for (unsigned i = 0; i < 4; i++) {
			struct kind *k = &a->kinds[e][i];

			if (!k->requests)
				continue;
			buf_printf(&a->series,
				   "%s{\"source\":\"%s\",\"destination\":\"%s\","
				   "\"protocol\":\"http\",\"version\":\"%s\",\"outcome\":\"%s\","
				   "\"requests\":%u,\"errors\":%u,\"sumUs\":%u,\"bytesIn\":0,"
				   "\"bytesOut\":%u,\"histogram\":",
				   a->series.len ? "," : "", caller_of(e), callee_of(e),
				   i / 2 ? "v2" : "v1", i % 2 ? "error" : "ok", k->requests,
				   i % 2 ? k->requests : 0, k->requests * 10000, k->requests * 512);
			histogram_sparse_json(&k->histogram, &a->series);
			buf_char(&a->series, '}');
			k->requests = 0;
			histogram_sparse_reset(&k->histogram);
		}
}

static void put_json(struct agent *a, struct buf *b)
{
	buf_printf(b,
		   "{\"node\":\"node-%u\",\"epoch\":\"e%d\",\"seq\":%" PRIu64 ",\"time\":%" PRIu64
		   ",\"series\":[",
		   a->index, (int)getpid(), ++a->seq, clock_wall_ms());
	buf_add(b, a->series.data, a->series.len);
	buf_str(b, "]}");
	if (a->npieces > 1)
		buf_add(b, "\0\0\0\0\0\0\0", 8 - b->len % 8);
}

static void post(struct agent *a)
{
	struct http_call c = {.method = "POST",
			      .base = opt_control,
			      .path = "/api/telemetry",
			      .pieces = a->pieces};
	struct http_answer answer = {0};
	struct buf json;
	int i;

	piece(a);
	buf_init(&json, BODY_MAX);
	put_json(a, &json);
	a->pieces[0] = (struct iovec){json.data, json.len};
	c.npieces = a->npieces;
	for (i = 0; i < 20 && (http_call(&c, &answer) || answer.status != 200); i++) {
		http_answer_done(&answer);
		usleep(100000);
	}
	a->failed += i;
	http_answer_done(&answer);
	buf_done(&json);
	while (a->npieces > 1)
		record_batch_reuse(a->records, a->pieces[--a->npieces].iov_base);
	buf_reset(&a->series);
	a->unsent = 0;
}

static void *agent_run(void *arg)
{
	struct agent *a = arg;
	uint64_t at = clock_mono_ns() + a->index * (PERIOD_MS * 1000000ull / agents);
	unsigned each = rate * PERIOD_MS / 1000 / agents;

	for (unsigned turn = 0; at < end_ns; turn++, at += PERIOD_MS * 1000000ull) {
		uint64_t now = clock_mono_ns();

		if (now < at)
			usleep((useconds_t)((at - now) / 1000));
		for (unsigned i = 0; i < each; i++)
			request(a);
		if (turn % 5 == 4)
			put_series(a);
		if (a->series.len || a->unsent)
			post(a);
	}
	put_series(a);
	post(a);
	return NULL;
}

static void agent_start(struct agent *a, unsigned index)
{
	char node[32];

	a->index = index;
	a->random = 0x9e3779b97f4a7c15u * (index + 1);
	a->kinds = calloc(edges, sizeof(*a->kinds));
	a->npieces = 1;
	buf_init(&a->series, BODY_MAX);
	snprintf(node, sizeof(node), "node-%u", index);
	if (!a->kinds || record_batch_new(node, &a->records) ||
	    pthread_create(&a->thread, NULL, agent_run, a))
		abort();
}

/* --- questions ----------------------------------------------------------------------- */

static struct question {
	const char *what, *path;
	struct histogram took;
	uint64_t longest_ns, failed, bytes;
} questions[] = {
	{"/api/metrics/S, 1m", "/api/metrics/service-%u?window=1m&granularity=10s"},
	{"/api/metrics/S, 10m", "/api/metrics/service-%u?window=10m"},
	{"/api/metrics/S, 3h", "/api/metrics/service-%u?window=3h"},
	{"/api/graph, 1m", "/api/graph?window=1m"},
	{"/api/graph, 10m", "/api/graph?window=10m"},
	{"/api/graph, 1h", "/api/graph?window=1h"},
	{"/api/graph, 14d", "/api/graph?window=336h"},
	{"/api/traces", "/api/traces?service=service-%u&limit=50"},
	{"/metrics", "/metrics"},
};
#define QUESTIONS (sizeof(questions) / sizeof(*questions))

static void ask(struct question *q, unsigned i)
{
	struct http_call c = {.method = "GET", .base = opt_control};
	struct http_answer a = {0};
	uint64_t began = clock_mono_ns(), took;
	char path[128];

	snprintf(path, sizeof(path), q->path, i % services);
	c.path = path;
	if (http_call(&c, &a) || a.status != 200)
		q->failed++;
	took = clock_mono_ns() - began;
	histogram_add(&q->took, took);
	q->longest_ns = took > q->longest_ns ? took : q->longest_ns;
	q->bytes = a.len;
	http_answer_done(&a);
}

static double memory_mib(const char *key)
{
	char file[64], line[256];
	double kib = 0;
	FILE *f;

	snprintf(file, sizeof(file), "/proc/%s/status", opt_pid ? opt_pid : "self");
	f = fopen(file, "re");
	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, key, strlen(key)))
			kib = strtod(line + strlen(key) + 1, NULL);
	if (f)
		fclose(f);
	return kib / 1024;
}

/* What the scheduler says: on a machine that is busy with other things the waiting is most of it.
 */
static void print_cpu(void)
{
	double ran = 0, waited = 0;
	char file[64];
	FILE *f;

	snprintf(file, sizeof(file), "/proc/%s/schedstat", opt_pid ? opt_pid : "self");
	f = fopen(file, "re");
	if (f && fscanf(f, "%lf %lf", &ran, &waited) == 2)
		printf("CPU of meshd's loop: %.1f s, and %.1f s of waiting for one\n", ran / 1e9,
		       waited / 1e9);
	if (f)
		fclose(f);
}

/* Is the map what was sent? */
static bool counted(const char *window, uint64_t sent, uint64_t errors)
{
	struct http_call c = {.method = "GET", .base = opt_control};
	struct http_answer a = {0};
	double requests = 0, bad = 0;
	const cJSON *e;
	char path[64];
	cJSON *v;

	snprintf(path, sizeof(path), "/api/graph?window=%s", window);
	c.path = path;
	http_call(&c, &a);
	v = json_parse(a.body, a.len, NULL);
	cJSON_ArrayForEach (e, cJSON_GetObjectItem(v, "edges")) {
		requests += json_num(e, "requests", 0);
		bad += json_num(e, "errors", 0);
	}
	printf("sent %" PRIu64 " requests, %" PRIu64 " errors; the map of %s has %.0f and %.0f\n",
	       sent, errors, window, requests, bad);
	cJSON_Delete(v);
	http_answer_done(&a);
	return requests == (double)sent && bad == (double)errors;
}

static bool report(const struct agent *a, unsigned seconds)
{
	uint64_t sent = 0, errors = 0, batches = 0, failed = 0;
	double most = memory_mib("VmHWM");
	bool good = most <= LIMIT_MIB;
	char window[32];

	for (unsigned i = 0; i < agents; i++) {
		sent += a[i].sent;
		errors += a[i].errors;
		batches += a[i].seq;
		failed += a[i].failed;
	}
	printf("%u services, %u edges, %u agents, %.0f requests/s for %u s, %u %% of them as "
	       "spans: "
	       "%" PRIu64 " batches, %" PRIu64 " sent again\n",
	       services, edges, agents, (double)sent / seconds, seconds, percent, batches, failed);
	printf("memory of meshd: %.0f MiB, at most %.0f MiB\n", memory_mib("VmRSS"), most);
	print_cpu();
	printf("%-22s %8s %8s %8s %8s %10s\n", "question", "asked", "p50 ms", "p99 ms", "max ms",
	       "bytes");
	for (size_t i = 0; i < QUESTIONS; i++) {
		const struct question *q = &questions[i];

		printf("%-22s %8" PRIu64 " %8.1f %8.1f %8.1f %10" PRIu64 "%s\n", q->what,
		       q->took.total, histogram_quantile_ns(&q->took, 0.50) / 1e6,
		       histogram_quantile_ns(&q->took, 0.99) / 1e6, (double)q->longest_ns / 1e6,
		       q->bytes, q->failed ? " FAILED" : "");
		good = good && !q->failed && (double)q->longest_ns / 1e6 <= LIMIT_MS;
	}
	snprintf(window, sizeof(window), "%us", seconds + 300);
	return counted(window, sent, errors) && good;
}

static unsigned number(const char *name, const char *text, unsigned most)
{
	unsigned long n = strtoul(text, NULL, 10);

	if (!n || n > most)
		options_usage(&program, "--%s takes a number from 1 to %u", name, most);
	return (unsigned)n;
}

int main(int argc, char **argv)
{
	static struct agent all[AGENTS_MAX];
	unsigned seconds;

	if (options_parse(&program, argc, argv) < argc)
		options_usage(&program, "unexpected argument");
	agents = number("agents", opt_agents, AGENTS_MAX);
	services = number("services", opt_services, SERVICES);
	edges = number("edges", opt_edges, EDGES_MAX);
	rate = number("rate", opt_rate, 1000000);
	percent = (unsigned)strtoul(opt_spans, NULL, 10);
	seconds = number("seconds", opt_seconds, 86400);
	for (unsigned i = 0; i < services; i++) {
		snprintf(service_names[i], sizeof(*service_names), "service-%u", i);
		snprintf(instance_names[i], sizeof(*instance_names), "service-%u-1", i);
	}
	end_ns = clock_mono_ns() + seconds * 1000000000ull;
	for (unsigned i = 0; i < agents; i++)
		agent_start(&all[i], i);
	usleep(1500000); /* there is something to ask for */
	for (unsigned i = 0; clock_mono_ns() < end_ns; i++) {
		ask(&questions[i % QUESTIONS], i);
		usleep(RATHER_MS * 1000);
	}
	for (unsigned i = 0; i < agents; i++)
		pthread_join(all[i].thread, NULL);
	return report(all, seconds) ? 0 : 1;
}
