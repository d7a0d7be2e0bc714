/* SPDX-License-Identifier: Apache-2.0 */
/* Of /metrics: what agents have told. Labels are names of services and nodes, which only those give
 * who may write here; how many there are is bounded by red.h. */
#include "ctl/meshd/api.h"
#include "lib/clock.h"
#include "lib/exposition.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct result {
	const char *name;
	uint64_t n;
};

/* A counter by what became of things. */
static void write_results(struct buf *b, const char *metric, const char *help,
			  const struct result *results, size_t n)
{
	exposition_head(b, metric, "counter", help);
	for (size_t i = 0; i < n; i++)
		buf_printf(b, "%s{result=\"%s\"} %llu\n", metric, results[i].name,
			   (unsigned long long)results[i].n);
}

static void write_spans(struct buf *b, const struct meshd *m)
{
	struct traces_counts t = {0};
	struct otlp_stats o = {0};

	traces_count(m->traces, &t);
	otlp_count(m->otlp, &o);
	const struct result exported[] = {
		{"success", o.exported}, {"rejected", o.rejected}, {"failed", o.failed}};
	const struct result received[] = {{"stored", t.stored},	    {"duplicate", t.duplicates},
					  {"invalid", t.invalid},   {"undecided", t.undecided},
					  {"too-many", t.too_many}, {"failed", t.failed}};

	write_results(b, "mesh_spans_exported_total",
		      "Spans sent to --otlp-endpoint, by what became of them.", exported, 3);
	exposition_single(b, "mesh_spans_dropped_total", "counter",
			  "Spans that were to be stored or exported, and were not.",
			  (double)(t.invalid + t.too_many + t.failed + o.dropped));
	write_results(b, "mesh_spans_received_total",
		      "Spans from agents and applications, by what became of them.", received, 6);
	exposition_single(b, "mesh_spans_recorded_total", "counter",
			  "Spans that were stored as the records that they came as.",
			  (double)t.recorded);
	exposition_single(b, "mesh_spans_listed_total", "counter",
			  "Spans that became rows, unasked or when somebody looked for them.",
			  (double)t.listed);
	exposition_single(b, "mesh_spans_overwritten_total", "counter",
			  "Recorded spans that made room for others before they were listed.",
			  (double)t.overwritten);
	exposition_single(b, "mesh_spans_export_queue", "gauge", "Spans that wait to be exported.",
			  o.queued);
	exposition_single(b, "mesh_spans_held", "gauge",
			  "Spans that wait for whether their trace is kept.", (double)t.held);
	exposition_single(b, "mesh_traces_store_healthy", "gauge",
			  "1 when the store of traces is in use.", !traces_error(m->traces));
	exposition_single(b, "mesh_traces", "gauge", "Traces in the store.", (double)t.traces);
	exposition_single(b, "mesh_traces_bytes", "gauge", "Size of the store of traces.",
			  (double)t.bytes);
	exposition_single(b, "mesh_traces_pruned_total", "counter",
			  "Traces that went by size or age.", (double)t.pruned_traces);
	exposition_single(b, "mesh_traces_unwanted_total", "counter",
			  "Traces whose other spans were not asked for: too many at a time.",
			  (double)t.unwanted);
}

static void write_taps(struct buf *b, const struct meshd *m)
{
	struct tap_stats t;

	tap_count(m->taps, &t);
	const struct result events[] = {{"success", t.events}, {"lost", t.lost}};

	exposition_single(b, "mesh_taps", "gauge", "Taps that are open.", t.open);
	write_results(b, "mesh_tap_events_total",
		      "Requests shown on taps, and those that came too fast to be.", events, 2);
}

/* --- services, for dashboards in the older style --- */

struct services {
	struct red_service_now *list;
	size_t n, cap;
};

static int keep_service(void *arg, const struct red_service_now *now)
{
	struct services *s = arg;

	if (s->n == s->cap) {
		size_t cap = s->cap ? 2 * s->cap : 64;
		void *list = reallocarray(s->list, cap, sizeof(*s->list));

		if (!list)
			return -ENOMEM;
		s->list = list;
		s->cap = cap;
	}
	s->list[s->n++] = *now; /* names live as long as nothing is taken or evicted */
	return 0;
}

static void write_total(struct buf *b, const struct services *s, const char *name, const char *help,
			size_t field)
{
	exposition_head(b, name, "counter", help);
	for (size_t i = 0; i < s->n; i++) {
		buf_printf(b, "%s{", name);
		exposition_label(b, "service", s->list[i].service);
		buf_printf(
			b, "} %llu\n",
			(unsigned long long)*(const uint64_t *)((const char *)&s->list[i] + field));
	}
}

static void write_quantiles(struct buf *b, const struct services *s)
{
	static const char metric[] = "http_request_duration_ms";

	exposition_head(b, metric, "summary", "Duration of requests of the last minute.");
	for (size_t i = 0; i < s->n; i++) {
		const struct red_service_now *now = &s->list[i];
		const struct {
			const char *name;
			double ms;
		} q[] = {{"0.5", now->p50_ms}, {"0.95", now->p95_ms}, {"0.99", now->p99_ms}};

		for (size_t k = 0; k < 3 && now->p99_ms > 0; k++) {
			buf_printf(b, "%s{", metric);
			exposition_label(b, "service", now->service);
			buf_printf(b, ",quantile=\"%s\"} %.3f\n", q[k].name, q[k].ms);
		}
	}
}

static void write_services(struct buf *b, const struct meshd *m)
{
	struct services s = {0};

	if (red_services(m->red, clock_wall_ms(), keep_service, &s))
		b->failed = true; /* better no answer than one where services are missing */
	write_total(b, &s, "http_requests_total", "Requests, and connections of TCP services.",
		    offsetof(struct red_service_now, requests));
	write_total(b, &s, "http_errors_total", "Of them with 5xx or without an answer.",
		    offsetof(struct red_service_now, errors));
	write_quantiles(b, &s);
	free(s.list);
}

/* --- how it came here --- */

/* Totals of the agent's, which are not known before it has said them to this meshd. */
static int write_lost(void *arg, const struct red_agent *a)
{
	struct buf *b = arg;

	for (int i = 0; a->batches && i < RED_LOSSES; i++) {
		buf_str(b, "mesh_telemetry_lost_total{");
		exposition_label(b, "node", a->node);
		buf_printf(b, ",what=\"%s\"} %llu\n", red_lost_words[i],
			   (unsigned long long)a->lost[i]);
	}
	return 0;
}

static int write_missing(void *arg, const struct red_agent *a)
{
	struct buf *b = arg;

	buf_str(b, "mesh_telemetry_missing_total{");
	exposition_label(b, "node", a->node);
	buf_printf(b, "} %llu\n", (unsigned long long)a->missing);
	return 0;
}

static void write_windows(struct buf *b, const struct red_counts *c)
{
	exposition_single(b, "mesh_telemetry_series", "gauge",
			  "Series (caller, callee, protocol, version, outcome) that are kept.",
			  c->series);
	exposition_single(b, "mesh_telemetry_series_evicted_total", "counter",
			  "Unused series that went because others came.", (double)c->evicted);
	exposition_single(b, "mesh_telemetry_other_total", "counter",
			  "Records counted under other for want of room.", (double)c->folded);
	exposition_single(b, "mesh_telemetry_discarded_total", "counter",
			  "Records that could not be kept: too old, or no memory.",
			  (double)c->dropped);
	exposition_single(b, "mesh_telemetry_shifted_total", "counter",
			  "Batches from the future, counted as of now.", (double)c->shifted);
	exposition_single(b, "mesh_telemetry_store_failures_total", "counter",
			  "Failures of the database of windows.", (double)c->failures);
	exposition_single(b, "mesh_telemetry_unwritten_total", "counter",
			  "Batches that the database did not take: kept in memory only.",
			  (double)c->unwritten);
	exposition_single(b, "mesh_telemetry_store_healthy", "gauge",
			  "1 when the database of windows is in use.", c->durable);
	exposition_single(b, "mesh_telemetry_memory_bytes", "gauge", "Memory of the windows.",
			  (double)c->memory_bytes);
	exposition_single(b, "mesh_telemetry_store_bytes", "gauge",
			  "Size of the database of windows, with its log.",
			  (double)(c->disk_bytes + c->log_bytes));
}

static void write_batches(struct buf *b, const struct meshd *m)
{
	struct red_counts c;

	red_count(m->red, &c);
	const struct result batches[] = {{"counted", c.batches}, {"duplicate", c.duplicates}};

	write_results(b, "mesh_telemetry_received_total",
		      "Batches from agents; each is counted once, however often it comes.", batches,
		      2);
	exposition_head(b, "mesh_telemetry_lost_total", "counter",
			"What agents could not send, by what it was.");
	(void)red_agents(m->red, write_lost, b); /* fails only if write_lost does */
	exposition_head(b, "mesh_telemetry_missing_total", "counter",
			"Batches of the agent's process that never came, by their numbers.");
	(void)red_agents(m->red, write_missing, b); /* likewise */
	write_windows(b, &c);
}

void metrics_telemetry(struct buf *b, const struct meshd *m)
{
	write_services(b, m);
	write_batches(b, m);
	write_spans(b, m);
	write_taps(b, m);
}
