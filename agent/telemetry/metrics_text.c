/* SPDX-License-Identifier: Apache-2.0 */
/* The text of metrics.h. */
#include "agent/telemetry/metrics_impl.h"
#include "lib/record.h"
#include "lib/exposition.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define LABELS_MAX 1024 /* bytes of source and destination, escaped */

static const struct {
	const char *metric, *label, *value, *help; /* help: of the first of a metric */
} count_names[COUNTS] = {
	[RETRIED_OK] = {"mesh_retries_total", "result", "success",
			"Tries after the first, by how the request ended; budget: those not made."},
	[RETRIED_FAILED] = {"mesh_retries_total", "result", "failure"},
	[RETRIES_DENIED] = {"mesh_retries_total", "result", "budget"},
	[FULL_REQUESTS] = {"mesh_bulkhead_rejected_total", "reason", "requests",
			   "Requests refused because too many were in use, by of what."},
	[FULL_PENDING] = {"mesh_bulkhead_rejected_total", "reason", "pending"},
	[FULL_SOURCE] = {"mesh_bulkhead_rejected_total", "reason", "source"},
	[FULL_CONNECTIONS] = {"mesh_bulkhead_rejected_total", "reason", "connections"},
	[FAULT_DELAYED] = {"mesh_faults_injected_total", "kind", "delay",
			   "Requests delayed or aborted by injected faults."},
	[FAULT_ABORTED] = {"mesh_faults_injected_total", "kind", "abort"},
};

static void pair_labels(struct buf *out, const struct metrics_pair *p)
{
	exposition_label(out, "source", p->names);
	buf_char(out, ',');
	exposition_label(out, "destination", after(p->names));
}

static void write_exemplar(struct buf *out, const struct metrics_exemplar *e, double value)
{
	if (e->time_ms)
		exposition_exemplar(out, e->trace_id, value, e->time_ms);
	buf_char(out, '\n');
}

static void write_requests(const struct metrics *m, struct buf *out, bool exemplars)
{
	static const struct metrics_exemplar none;

	exposition_head(out, "mesh_requests_total", "counter",
			"Requests, as their callers saw them.");
	each_series(m, s)
	{
		const char *destination = after(s->names);

		buf_str(out, "mesh_requests_total{");
		exposition_label(out, "source", s->names);
		buf_char(out, ',');
		exposition_label(out, "destination", destination);
		buf_char(out, ',');
		exposition_label(out, "version", after(destination));
		buf_printf(out, ",code=\"%u\",cause=\"%s\"} %llu", s->code, cause_name(s->cause),
			   (unsigned long long)s->count);
		write_exemplar(out, exemplars ? &s->exemplar : &none, 1);
	}
}

/* labels: of the pair; exemplars: of its buckets, or NULL. The bulk of all that is served. */
static void write_buckets(struct buf *out, const char *name, const struct buf *labels,
			  const struct metrics_histogram *h,
			  const struct metrics_exemplar *exemplars)
{
	static const struct metrics_exemplar none;
	uint64_t sum = 0;

	for (uint32_t i = 0; i <= NBOUNDS; i++) {
		const struct metrics_exemplar *e = exemplars ? &exemplars[i] : &none;

		sum += h->bucket[i];
		buf_str(out, name);
		buf_str(out, "_bucket{");
		buf_add(out, labels->data, labels->len);
		buf_str(out, ",le=\"");
		buf_str(out, i < NBOUNDS ? metrics_bounds[i].le : "+Inf");
		buf_str(out, "\"} ");
		buf_u64(out, sum);
		write_exemplar(out, e, (double)e->ns / 1e9);
	}
}

static void write_histogram(const struct metrics *m, struct buf *out, const char *name,
			    const char *help, bool requests, bool exemplars)
{
	struct buf labels;

	buf_init(&labels, LABELS_MAX);
	exposition_head(out, name, "histogram", help);
	each_pair(m, p)
	{
		const struct metrics_histogram *h = requests ? &p->requests : &p->connects;

		if (!h->count)
			continue;
		buf_reset(&labels);
		pair_labels(&labels, p);
		write_buckets(out, name, &labels, h, exemplars ? p->exemplars : NULL);
		buf_printf(out, "%s_sum{%s} %.9f\n%s_count{%s} %llu\n", name, labels.data,
			   (double)h->sum_ns / 1e9, name, labels.data,
			   (unsigned long long)h->count);
	}
	out->failed |= labels.failed;
	buf_done(&labels);
}

/* A counter of each pair that has seen any requests, or connections. */
static void write_pairs(const struct metrics *m, struct buf *out, const char *name,
			const char *help, size_t field, bool tcp)
{
	exposition_head(out, name, "counter", help);
	each_pair(m, p)
	{
		if (tcp ? !p->connects.count : !p->requests.count)
			continue;
		buf_printf(out, "%s{", name);
		pair_labels(out, p);
		buf_printf(out, "} %llu\n", *(const unsigned long long *)((const char *)p + field));
	}
}

static void write_connections(const struct metrics *m, struct buf *out)
{
	exposition_head(out, "mesh_tcp_connections_total", "counter",
			"Captured connections that ended, or were refused.");
	each_pair(m, p)
	{
		for (int i = 0; i < OUTCOMES; i++) {
			if (!p->connections[i])
				continue;
			buf_str(out, "mesh_tcp_connections_total{");
			pair_labels(out, p);
			buf_printf(out, ",outcome=\"%s\"} %llu\n", metrics_outcomes[i],
				   (unsigned long long)p->connections[i]);
		}
	}
}

struct total { /* of one destination */
	const char *name;
	uint64_t requests, errors, counts[COUNTS];
	uint64_t bucket[NBOUNDS + 1], count, sum_ns;
};

static struct total *total_of(struct total *t, uint32_t *n, const char *name)
{
	uint32_t i = 0;

	while (i < *n && strcmp(t[i].name, name))
		i++;
	if (i == *n)
		t[(*n)++] = (struct total){.name = name};
	return &t[i];
}

/* Milliseconds, by straight lines between the bounds; beyond the last one it is that. */
static double quantile(const struct total *t, double q)
{
	double rank = q * (double)t->count, before = 0;

	for (uint32_t i = 0; i < NBOUNDS; i++) {
		double n = (double)t->bucket[i], low = i ? (double)metrics_bounds[i - 1].ns : 0;

		if (n > 0 && before + n >= rank)
			return (low + ((double)metrics_bounds[i].ns - low) * (rank - before) / n) /
			       1e6;
		before += n;
	}
	return (double)metrics_bounds[NBOUNDS - 1].ns / 1e6;
}

static void write_quantiles(struct buf *out, const struct total *t)
{
	static const char metric[] = "http_request_duration_ms";
	static const char *const q[] = {"0.5", "0.95", "0.99"};

	for (uint32_t k = 0; k < sizeof(q) / sizeof(*q); k++) {
		buf_printf(out, "%s{", metric);
		exposition_label(out, "service", t->name);
		buf_printf(out, ",quantile=\"%s\"} %.3f\n", q[k], quantile(t, strtod(q[k], NULL)));
	}
	buf_printf(out, "%s_sum{", metric);
	exposition_label(out, "service", t->name);
	buf_printf(out, "} %.6f\n%s_count{", (double)t->sum_ns / 1e6, metric);
	exposition_label(out, "service", t->name);
	buf_printf(out, "} %llu\n", (unsigned long long)t->count);
}

static void write_counts(struct buf *out, const struct total *t, uint32_t n)
{
	for (int c = 0; c < COUNTS; c++) {
		if (count_names[c].help)
			exposition_head(out, count_names[c].metric, "counter", count_names[c].help);
		for (uint32_t i = 0; i < n; i++) {
			buf_printf(out, "%s{", count_names[c].metric);
			exposition_label(out, "destination", t[i].name);
			buf_printf(out, ",%s=\"%s\"} %llu\n", count_names[c].label,
				   count_names[c].value, (unsigned long long)t[i].counts[c]);
		}
	}
}

static void write_totals(const struct metrics *m, struct buf *out)
{
	struct total *t = calloc(m->nseries + m->npairs + 1, sizeof(*t));
	uint32_t n = 0;

	if (!t)
		return;
	each_series(m, s)
	{
		struct total *x = total_of(t, &n, after(s->names));

		x->requests += s->count;
		x->errors += is_error(s->code) ? s->count : 0;
	}
	each_pair(m, p)
	{
		struct total *x = total_of(t, &n, after(p->names));

		for (int i = 0; i < COUNTS; i++)
			x->counts[i] += p->counts[i];
		x->count += p->requests.count;
		x->sum_ns += p->requests.sum_ns;
		for (uint32_t i = 0; i <= NBOUNDS; i++)
			x->bucket[i] += p->requests.bucket[i];
	}
	write_counts(out, t, n);
	exposition_head(out, "http_requests_total", "counter", "Requests by service.");
	for (uint32_t i = 0; i < n; i++) {
		buf_str(out, "http_requests_total{");
		exposition_label(out, "service", t[i].name);
		buf_printf(out, "} %llu\n", (unsigned long long)t[i].requests);
	}
	exposition_head(out, "http_errors_total", "counter",
			"Requests answered with 5xx, or not at all, by service.");
	for (uint32_t i = 0; i < n; i++) {
		buf_str(out, "http_errors_total{");
		exposition_label(out, "service", t[i].name);
		buf_printf(out, "} %llu\n", (unsigned long long)t[i].errors);
	}
	exposition_head(out, "http_request_duration_ms", "summary",
			"Duration of requests since the start of the agent, by service.");
	for (uint32_t i = 0; i < n; i++)
		if (t[i].count)
			write_quantiles(out, &t[i]);
	free(t);
}

void metrics_write(const struct metrics *m, struct buf *out, bool exemplars)
{
	write_requests(m, out, exemplars);
	write_histogram(m, out, "mesh_request_duration_seconds",
			"From the first byte of a request to the last of its answer.", true,
			exemplars);
	write_pairs(m, out, "mesh_request_bytes_total", "Body bytes from callers.",
		    offsetof(struct metrics_pair, bytes_in), false);
	write_pairs(m, out, "mesh_response_bytes_total", "Body bytes to callers.",
		    offsetof(struct metrics_pair, bytes_out), false);
	write_connections(m, out);
	write_pairs(m, out, "mesh_tcp_sent_bytes_total",
		    "Bytes that callers sent by TCP over captured connections that ended.",
		    offsetof(struct metrics_pair, tcp_out), true);
	write_pairs(m, out, "mesh_tcp_received_bytes_total",
		    "Bytes that callers received by TCP over captured connections that ended.",
		    offsetof(struct metrics_pair, tcp_in), true);
	write_histogram(m, out, "mesh_tcp_connect_duration_seconds",
			"From connect() of a captured connection to its being established.", false,
			false);
	write_totals(m, out);
	exposition_head(out, "mesh_metrics_overflow_total", "counter",
			"Observations counted under \"other\" for want of room.");
	buf_printf(out, "mesh_metrics_overflow_total %llu\n", (unsigned long long)m->overflow);
}
