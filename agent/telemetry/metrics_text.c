/* SPDX-License-Identifier: Apache-2.0 */
/* The text of metrics.h: family by family, and of each so many buckets at a time. */
#include "agent/telemetry/metrics_impl.h"
#include "lib/exposition.h"
#include "lib/hash.h"
#include "lib/record.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define LABELS_MAX 1024	 /* bytes of source and destination, escaped */
#define STEP	   32	 /* buckets of a part */
#define STEP_NAMES 256	 /* destinations of a part */
#define PLACES	   16384 /* of destinations by name: a power of two, more than series and pairs */

struct total { /* of one destination */
	const char *name;
	uint64_t requests, errors, counts[COUNTS];
	uint64_t bucket[NBOUNDS + 1], count, sum_ns;
};

struct metrics_text {
	const struct metrics *m;
	bool exemplars;
	uint32_t family; /* in `families` */
	uint32_t at;	 /* bucket, or number of a total */
	struct total *totals;
	uint32_t ntotals;
	uint16_t *places; /* numbers of totals + 1, by a hash of the name */
};

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

static void write_requests(struct metrics_text *t, struct buf *out)
{
	static const struct metrics_exemplar none;

	if (!t->at)
		exposition_head(out, "mesh_requests_total", "counter",
				"Requests, as their callers saw them.");
	each_series(t->m, s, t->at, STEP)
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
		write_exemplar(out, t->exemplars ? &s->exemplar : &none, 1);
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

static void write_histogram(const struct metrics_text *t, struct buf *out, const char *name,
			    const char *help, bool requests)
{
	struct buf labels;

	buf_init(&labels, LABELS_MAX);
	if (!t->at)
		exposition_head(out, name, "histogram", help);
	each_pair(t->m, p, t->at, STEP)
	{
		const struct metrics_histogram *h = requests ? &p->requests : &p->connects;

		if (!h->count)
			continue;
		buf_reset(&labels);
		pair_labels(&labels, p);
		write_buckets(out, name, &labels, h,
			      requests && t->exemplars ? p->exemplars : NULL);
		buf_printf(out, "%s_sum{%s} %.9f\n%s_count{%s} %llu\n", name, labels.data,
			   (double)h->sum_ns / 1e9, name, labels.data,
			   (unsigned long long)h->count);
	}
	out->failed |= labels.failed;
	buf_done(&labels);
}

/* A counter of each pair that has seen any requests, or connections. */
static void write_pairs(const struct metrics_text *t, struct buf *out, const char *name,
			const char *help, size_t field, bool tcp)
{
	if (!t->at)
		exposition_head(out, name, "counter", help);
	each_pair(t->m, p, t->at, STEP)
	{
		if (tcp ? !p->connects.count : !p->requests.count)
			continue;
		buf_printf(out, "%s{", name);
		pair_labels(out, p);
		buf_printf(out, "} %llu\n", *(const unsigned long long *)((const char *)p + field));
	}
}

static void write_connections(struct metrics_text *t, struct buf *out)
{
	if (!t->at)
		exposition_head(out, "mesh_tcp_connections_total", "counter",
				"Captured connections that ended, or were refused.");
	each_pair(t->m, p, t->at, STEP)
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

/* Adds one when it is new. */
static struct total *total_of(struct metrics_text *t, const char *name)
{
	uint64_t at = hash64(name, strlen(name));

	while (t->places[at % PLACES]) {
		struct total *x = &t->totals[t->places[at % PLACES] - 1];

		if (!strcmp(x->name, name))
			return x;
		at++;
	}
	t->totals[t->ntotals] = (struct total){.name = name};
	t->places[at % PLACES] = (uint16_t)(t->ntotals + 1);
	return &t->totals[t->ntotals++];
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

/* What services have in all; names are never dropped. */
static bool add_up(struct metrics_text *t)
{
	t->totals = calloc(t->m->nseries + t->m->npairs + 1, sizeof(*t->totals));
	t->places = calloc(PLACES, sizeof(*t->places));
	if (!t->totals || !t->places)
		return false;
	each_series(t->m, s, 0, BUCKETS)
	{
		struct total *x = total_of(t, after(s->names));

		x->requests += s->count;
		x->errors += is_error(s->code) ? s->count : 0;
	}
	each_pair(t->m, p, 0, BUCKETS)
	{
		struct total *x = total_of(t, after(p->names));

		for (int i = 0; i < COUNTS; i++)
			x->counts[i] += p->counts[i];
		x->count += p->requests.count;
		x->sum_ns += p->requests.sum_ns;
		for (uint32_t i = 0; i <= NBOUNDS; i++)
			x->bucket[i] += p->requests.bucket[i];
	}
	return true;
}

#define each_total(t, x)                                                                           \
	for (const struct total *x = &(t)->totals[(t)->at], *end_ = &(t)->totals[(t)->ntotals];    \
	     x < end_ && x < &(t)->totals[(t)->at + STEP_NAMES]; x++)

static void write_count(struct metrics_text *t, struct buf *out, int c)
{
	if (!t->at && count_names[c].help)
		exposition_head(out, count_names[c].metric, "counter", count_names[c].help);
	each_total(t, x)
	{
		buf_printf(out, "%s{", count_names[c].metric);
		exposition_label(out, "destination", x->name);
		buf_printf(out, ",%s=\"%s\"} %llu\n", count_names[c].label, count_names[c].value,
			   (unsigned long long)x->counts[c]);
	}
}

static void write_sum(struct metrics_text *t, struct buf *out, const char *name, const char *help,
		      size_t field)
{
	if (!t->at)
		exposition_head(out, name, "counter", help);
	each_total(t, x)
	{
		buf_printf(out, "%s{", name);
		exposition_label(out, "service", x->name);
		buf_printf(out, "} %llu\n",
			   (unsigned long long)*(const uint64_t *)((const char *)x + field));
	}
}

static void write_durations(struct metrics_text *t, struct buf *out)
{
	if (!t->at)
		exposition_head(out, "http_request_duration_ms", "summary",
				"Duration of requests since the start of the agent, by service.");
	each_total(t, x)
	{
		if (x->count)
			write_quantiles(out, x);
	}
}

/* Of those that go through pairs or series. */
static void write_by_pair(struct metrics_text *t, struct buf *out)
{
	switch (t->family) {
	case 0:
		write_requests(t, out);
		return;
	case 1:
		write_histogram(t, out, "mesh_request_duration_seconds",
				"From the first byte of a request to the last of its answer.",
				true);
		return;
	case 2:
		write_pairs(t, out, "mesh_request_bytes_total", "Body bytes from callers.",
			    offsetof(struct metrics_pair, bytes_in), false);
		return;
	case 3:
		write_pairs(t, out, "mesh_response_bytes_total", "Body bytes to callers.",
			    offsetof(struct metrics_pair, bytes_out), false);
		return;
	case 4:
		write_connections(t, out);
		return;
	case 5:
		write_pairs(t, out, "mesh_tcp_sent_bytes_total",
			    "Bytes that callers sent by TCP over captured connections that ended.",
			    offsetof(struct metrics_pair, tcp_out), true);
		return;
	case 6:
		write_pairs(t, out, "mesh_tcp_received_bytes_total",
			    "Bytes that callers received by TCP over captured connections that "
			    "ended.",
			    offsetof(struct metrics_pair, tcp_in), true);
		return;
	default:
		write_histogram(t, out, "mesh_tcp_connect_duration_seconds",
				"From connect() of a captured connection to its being established.",
				false);
	}
}
#define BY_PAIR 8 /* families above; then COUNTS of the totals, and three more */

static void write_by_service(struct metrics_text *t, struct buf *out)
{
	uint32_t which = t->family - BY_PAIR;

	if (which < COUNTS)
		write_count(t, out, (int)which);
	else if (which == COUNTS)
		write_sum(t, out, "http_requests_total", "Requests by service.",
			  offsetof(struct total, requests));
	else if (which == COUNTS + 1)
		write_sum(t, out, "http_errors_total",
			  "Requests answered with 5xx, or not at all, by service.",
			  offsetof(struct total, errors));
	else
		write_durations(t, out);
}

static void next_part(struct metrics_text *t, uint32_t step, uint32_t all)
{
	t->at += step;
	if (t->at < all)
		return;
	t->at = 0;
	t->family++;
}

bool metrics_text_part(struct metrics_text *t, struct buf *out)
{
	if (t->family < BY_PAIR) {
		write_by_pair(t, out);
		next_part(t, STEP, BUCKETS);
		return true;
	}
	if (!t->places && !add_up(t)) {
		out->failed = true;
		return false;
	}
	if (t->family < BY_PAIR + COUNTS + 3) {
		write_by_service(t, out);
		next_part(t, STEP_NAMES, t->ntotals);
		return true;
	}
	exposition_head(out, "mesh_metrics_overflow_total", "counter",
			"Observations counted under \"other\" for want of room.");
	buf_printf(out, "mesh_metrics_overflow_total %llu\n", (unsigned long long)t->m->overflow);
	return false;
}

struct metrics_text *metrics_text_new(const struct metrics *m, bool exemplars)
{
	struct metrics_text *t = calloc(1, sizeof(*t));

	if (t) {
		t->m = m;
		t->exemplars = exemplars;
	}
	return t;
}

void metrics_text_free(struct metrics_text **tp)
{
	if (*tp) {
		free((*tp)->totals);
		free((*tp)->places);
	}
	free(*tp);
	*tp = NULL;
}

void metrics_write(const struct metrics *m, struct buf *out, bool exemplars)
{
	struct metrics_text *t = metrics_text_new(m, exemplars);

	out->failed |= !t;
	while (t && metrics_text_part(t, out))
		;
	metrics_text_free(&t);
}
