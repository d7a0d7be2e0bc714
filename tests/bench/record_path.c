/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a request costs that nobody sampled, without a network: the worker's part (ids, header
 * lines, the record in the ring) and the supervisor's (out of the ring, metrics, series, what is
 * kept in case that it is asked for); and what it costs the supervisor when it is sampled, up to
 * the body that is posted. Nanoseconds a request, the median of several turns; in
 * batches as at 80,000 requests a second, between which as much other memory is walked through as
 * requests touch. Run by hand before and after a change, pinned (taskset -c 1
 * build/tests/bench/record_path), or for counts of instructions, which do not depend on what else
 * runs: valgrind --tool=callgrind, with turns and records as arguments (1 1000000).
 */
#include "agent/proxy/downstream.h"
#include "agent/proxy/proxy.h"
#include "agent/proxy/record.h"
#include "agent/supervisor.h"

#include "lib/addr.h"
#include "lib/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH	  400 /* of 5 ms */
#define TURNS_MAX 99
#define DIRTY_MAX 65536 /* KiB */

static const char head[] = "GET / HTTP/1.1\r\n"
			   "Host: 127.0.0.1:9000\r\n"
			   "\r\n";

enum stage { PREPARE, HEADERS, RECORD, DRAIN, COUNT, SEND, STAGES };
static const char *const stage_names[STAGES] = {"ids and trace",	 "header lines",
						"into the ring",	 "out of the ring",
						"out of it and counted", "likewise, and its span"};

static struct supervisor s;
static struct agent_config cfg = {.node = "n1", .trace_slow_ns = TELEMETRY_SLOW_NS};
static struct proxy proxy;
static struct downstream down;
static struct exchange ex;
static char *ring_memory, *dirty;
static uint32_t dirty_bytes;

static void die(const char *what)
{
	fprintf(stderr, "record_path: %s\n", what);
	exit(1);
}

/* --- who calls whom --- */

static int sink_none(void *arg)
{
	return 0;
}
static void sink_swept(void *arg, uint64_t cookie)
{
}
static void sink_endpoint(void *arg, uint32_t id, const struct mesh_endpoint *ep, bool fresh)
{
	if (!ep)
		return;
	ex.endpoint = id;
	ex.gen = ep->gen;
	ex.service = ep->service;
}
static void sink_upstream(void *arg, uint32_t id, const struct mesh_upstream *up, bool fresh)
{
	ex.upstream = id;
}
static void sink_slots(void *arg, uint32_t subset, const struct mesh_slots *table)
{
}
static int sink_dest(void *arg, const struct mesh_dest_key *key, const struct mesh_dest *dest)
{
	return 0;
}
static int sink_workload(void *arg, uint64_t cgroup, const struct mesh_workload *w)
{
	return 0;
}
static uint64_t sink_latency(void *arg, uint32_t endpoint)
{
	return 0;
}

static uint32_t workload(const char *service, const char *instance)
{
	struct workload_info w = {.netns = 1, .version = "v1"};
	static uint64_t cgroup = 1;
	uint32_t id;

	w.cgroup = cgroup++;
	snprintf(w.service, sizeof(w.service), "%s", service);
	snprintf(w.instance, sizeof(w.instance), "%s", instance);
	if (registry_workload_add(s.registry, &w, 1, &id))
		die("no workload");
	return id;
}

static void registry_make(void)
{
	const struct registry_sink sink = {.services = sink_none,
					   .swept = sink_swept,
					   .endpoint = sink_endpoint,
					   .upstream = sink_upstream,
					   .slots = sink_slots,
					   .dest = sink_dest,
					   .workload = sink_workload,
					   .latency = sink_latency};
	struct listen_info l = {.cookie = 1, .port = 9000};
	uint8_t ip[1][16];

	if (registry_new(&sink, 1, &s.registry) || addr_parse_ip("127.0.0.1", ip[0]) ||
	    registry_addresses(s.registry, 1, (const uint8_t(*)[16])ip, 1))
		die("no registry");
	memcpy(l.ip, ip[0], 16);
	ex.endpoint = MESH_NONE;
	down.caller = workload("client", "client-1");
	if (registry_listen(s.registry, workload("origin", "origin-1"), &l) ||
	    registry_flush(s.registry, 1) || ex.endpoint == MESH_NONE)
		die("no endpoint");
}

static void make(void)
{
	s.cfg = &cfg;
	registry_make();
	s.loop.now_ns = proxy.loop.now_ns = clock_mono_ns();
	ring_memory = aligned_alloc(4096, RING_DATA + RING_SIZE);
	dirty = calloc(1, dirty_bytes + 1);
	if (!ring_memory || !dirty || telemetry_start(&s) || metrics_new(&s.metrics) ||
	    trace_source_init(&proxy.traces))
		die("no memory");
	memset(ring_memory, 0, RING_DATA + RING_SIZE);
	proxy.ring = (struct ring *)ring_memory;
	ring_init(proxy.ring);
	proxy.instance = 0x0123456789abcdefULL;
	ex.proxy = &proxy;
	ex.down = &down;
	down.upstream = ex.upstream;
	if (http1_request_parse(&ex.request, head, sizeof(head) - 1, 4096) != HTTP1_DONE)
		die("the head");
}

/* --- the worker --- */

static void prepare(void)
{
	ex.flags = 0;
	record_request(&ex, head);
	trace_request(&ex, head);
	ex.trace.sampled = false;
}

static size_t headers(void)
{
	char out[1024];
	size_t n = trace_put(&ex.trace, &ex.request, head, out, sizeof(out));

	n += trace_put_answer(&ex.trace, out + n, sizeof(out) - n);
	__asm__ volatile("" : : "r"(out), "r"(n) : "memory");
	return n;
}

static void record(uint32_t i)
{
	uint64_t took = 200000 + i * 7919 % 400000;

	ex.start_ns = proxy.loop.now_ns - took;
	ex.try_ns = ex.start_ns + 2000;
	ex.head_ns = proxy.loop.now_ns - 3000;
	ex.upstream_ns = took - 8000;
	ex.state = EX_BODY;
	ex.status = 200;
	ex.tries = 1;
	ex.reused = true;
	ex.nlog = 0;
	ex.response_body.bytes = 128;
	record_try(&ex);
	record_try_over(&ex, CAUSE_NONE);
	record_exchange(&ex);
}

/* --- turns --- */

static void nothing(const struct record *rec, void *arg)
{
	__asm__ volatile("" : : "r"(rec) : "memory");
}

static void drain(void (*fn)(const struct record *rec, void *arg))
{
	uint64_t corrupt = 0;

	if (ring_drain(proxy.ring, UINT32_MAX, fn, &s, &corrupt) != BATCH || corrupt)
		die("records are not as they were");
}

static void be_dirty(void)
{
	for (uint32_t i = 0; i < dirty_bytes; i += 64)
		dirty[i]++;
	s.loop.now_ns = proxy.loop.now_ns = clock_mono_ns();
}

/* A beat, and what is posted when there is much. */
static void take_away(void)
{
	struct outbox *o = s.telemetry.outbox;
	const struct iovec *body;

	outbox_meshd_takes(o, true);
	if (!outbox_behind(o))
		return;
	if (!outbox_batch(o, 1, 0, &body))
		die("there is nothing to post");
	outbox_answered(o, outbox_seq(o), OUTBOX_TAKEN);
	outbox_seal(o, 0);
}

#define timed(stage, what)                                                                         \
	do {                                                                                       \
		uint64_t before_ = clock_mono_ns();                                                \
		for (uint32_t i = 0; i < BATCH; i++)                                               \
			what;                                                                      \
		ns[stage] += clock_mono_ns() - before_;                                            \
	} while (0)

static void batch(uint64_t ns[STAGES])
{
	uint64_t before;

	be_dirty();
	timed(PREPARE, prepare());
	timed(HEADERS, headers());
	for (enum stage stage = DRAIN; stage < STAGES; stage++) {
		ex.trace.sampled = stage == SEND;
		be_dirty();
		timed(RECORD, record(i));
		be_dirty();
		before = clock_mono_ns();
		drain(stage == DRAIN ? nothing : supervisor_record);
		if (stage == SEND)
			take_away();
		ns[stage] += clock_mono_ns() - before;
	}
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

int main(int argc, char **argv)
{
	static double of[STAGES][TURNS_MAX];
	long turns = argc > 1 ? atol(argv[1]) : 21, records = argc > 2 ? atol(argv[2]) : 100000,
	     kib = argc > 3 ? atol(argv[3]) : 1024;

	if (turns < 1 || turns > TURNS_MAX || records < BATCH || kib < 0 || kib > DIRTY_MAX)
		die("[TURNS (1 to 99)] [RECORDS a turn] [KIB of other memory]");
	dirty_bytes = (uint32_t)kib << 10;
	make();
	for (long t = 0; t < turns; t++) {
		uint64_t ns[STAGES] = {0};
		long batches = records / BATCH;

		for (long b = 0; b < batches; b++)
			batch(ns);
		for (int i = 0; i < STAGES; i++)
			of[i][t] = (double)ns[i] / (double)(batches * BATCH);
		of[RECORD][t] /= STAGES - DRAIN; /* so many are in each batch */
	}
	for (int i = 0; i < STAGES; i++) {
		qsort(of[i], (size_t)turns, sizeof(**of), by_size);
		printf("%-22s %6.1f ns (least %.1f)\n", stage_names[i], of[i][turns / 2], of[i][0]);
	}
	return 0;
}
