/* SPDX-License-Identifier: Apache-2.0 */
/* See metrics.h. */
#include "agent/telemetry/metrics.h"

#include "agent/telemetry/ring.h"
#include "lib/exposition.h"

#include <mesh/bulkhead.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS	   2048 /* of the hash tables */
#define OTHER	   "other"
#define OUTCOMES   8
#define LABELS_MAX 1024 /* bytes of source and destination, escaped */

/* Written as OpenMetrics has it, 1.0 and not 1, in both formats: or they would be other series. */
static const struct {
	uint64_t ns;
	const char *le;
} bounds[] = {{100000, "0.0001"},  {250000, "0.00025"}, {500000, "0.0005"},  {1000000, "0.001"},
	      {2500000, "0.0025"}, {5000000, "0.005"},	{10000000, "0.01"},  {25000000, "0.025"},
	      {50000000, "0.05"},  {100000000, "0.1"},	{250000000, "0.25"}, {500000000, "0.5"},
	      {1000000000, "1.0"}, {2500000000, "2.5"}, {5000000000, "5.0"}, {10000000000, "10.0"}};
#define NBOUNDS (sizeof(bounds) / sizeof(*bounds))

struct exemplar { /* the last request of a bucket that has a trace */
	uint8_t trace_id[16];
	uint64_t ns, time_ms; /* time 0: there is none */
};

struct series {
	struct series *next;
	uint32_t code, cause;
	uint64_t count;
	struct exemplar exemplar; /* of errors only */
	char names[];		  /* source, destination, version, each with its NUL */
};

/* What is shown by destination only. */
enum count {
	RETRIED_OK,
	RETRIED_FAILED,
	RETRIES_DENIED,
	FULL_REQUESTS,
	FULL_PENDING,
	FULL_SOURCE,
	FULL_CONNECTIONS,
	FAULT_DELAYED,
	FAULT_ABORTED,
	COUNTS,
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

struct histogram {
	uint64_t bucket[NBOUNDS + 1], count, sum_ns;
};

struct pair {
	struct pair *next;
	struct histogram requests, connects;
	struct exemplar exemplars[NBOUNDS + 1]; /* of requests */
	uint64_t bytes_in, bytes_out;
	uint64_t tcp_in, tcp_out;
	uint64_t counts[COUNTS];
	uint64_t connections[OUTCOMES];
	char names[]; /* source, destination */
};

struct metrics {
	struct series *series[BUCKETS];
	struct pair *pairs[BUCKETS];
	uint32_t nseries, npairs;
	uint64_t overflow;
};

int metrics_new(struct metrics **out)
{
	*out = calloc(1, sizeof(**out));
	return *out ? 0 : -ENOMEM;
}

void metrics_free(struct metrics **mp)
{
	struct metrics *m = *mp;

	for (uint32_t i = 0; m && i < BUCKETS; i++) {
		for (struct series *s = m->series[i], *next; s; s = next) {
			next = s->next;
			free(s);
		}
		for (struct pair *p = m->pairs[i], *next; p; p = next) {
			next = p->next;
			free(p);
		}
	}
	free(m);
	*mp = NULL;
}

static uint32_t hash(uint32_t h, const char *s)
{
	while (*s)
		h = (h ^ (uint8_t)*s++) * 16777619u;
	return (h ^ 0xff) * 16777619u;
}

static const char *after(const char *s)
{
	return s + strlen(s) + 1;
}

/* The entry for what does not fit: beyond the limit, and the only one. */
static bool is_other(const char *source, const char *destination)
{
	return !strcmp(source, OTHER) && !strcmp(destination, OTHER);
}

/* One for each hundred of codes, or they would grow without limit. */
static bool is_other_series(const struct metrics_request *r)
{
	return is_other(r->source, r->destination) && !*r->version && r->code % 100 == 0 &&
	       r->cause == CAUSE_NONE;
}

static struct pair *pair_find(struct metrics *m, const char *source, const char *destination)
{
	uint32_t h = hash(hash(2166136261u, source), destination) % BUCKETS;
	size_t a = strlen(source) + 1, b = strlen(destination) + 1;
	struct pair *p;

	for (p = m->pairs[h]; p; p = p->next)
		if (!strcmp(p->names, source) && !strcmp(p->names + a, destination))
			return p;
	if (m->npairs >= METRICS_PAIRS && !is_other(source, destination)) {
		m->overflow++;
		return pair_find(m, OTHER, OTHER);
	}
	p = calloc(1, sizeof(*p) + a + b);
	if (!p)
		return NULL;
	memcpy(p->names, source, a);
	memcpy(p->names + a, destination, b);
	p->next = m->pairs[h];
	m->pairs[h] = p;
	m->npairs++;
	return p;
}

static struct series *series_find(struct metrics *m, const struct metrics_request *r)
{
	uint32_t h =
		hash(hash(hash(2166136261u ^ r->code << 8 ^ r->cause, r->source), r->destination),
		     r->version);
	size_t a = strlen(r->source) + 1, b = strlen(r->destination) + 1,
	       c = strlen(r->version) + 1;
	struct series *s;

	h %= BUCKETS;
	for (s = m->series[h]; s; s = s->next)
		if (s->code == r->code && s->cause == r->cause && !strcmp(s->names, r->source) &&
		    !strcmp(s->names + a, r->destination) && !strcmp(s->names + a + b, r->version))
			return s;
	if (m->nseries >= METRICS_SERIES && !is_other_series(r)) {
		struct metrics_request other = {.source = OTHER,
						.destination = OTHER,
						.version = "",
						.code = r->code / 100 * 100};

		m->overflow++;
		return series_find(m, &other);
	}
	s = calloc(1, sizeof(*s) + a + b + c);
	if (!s)
		return NULL;
	s->code = r->code;
	s->cause = r->cause;
	memcpy(s->names, r->source, a);
	memcpy(s->names + a, r->destination, b);
	memcpy(s->names + a + b, r->version, c);
	s->next = m->series[h];
	m->series[h] = s;
	m->nseries++;
	return s;
}

/* Returns the bucket. */
static uint32_t observe(struct histogram *h, uint64_t ns)
{
	uint32_t i = 0;

	while (i < NBOUNDS && ns > bounds[i].ns)
		i++;
	h->bucket[i]++;
	h->count++;
	h->sum_ns += ns;
	return i;
}

static void remember(struct exemplar *e, const struct metrics_request *r)
{
	if (!r->trace_id)
		return;
	memcpy(e->trace_id, r->trace_id, sizeof(e->trace_id));
	e->ns = r->duration_ns;
	e->time_ms = r->time_ms;
}

static bool is_error(uint32_t code)
{
	return !code || code >= 500;
}

static void count_full(struct pair *p, uint32_t reason)
{
	p->counts[FULL_REQUESTS] += reason == MESH_BULKHEAD_REQUESTS;
	p->counts[FULL_PENDING] += reason == MESH_BULKHEAD_PENDING;
	p->counts[FULL_SOURCE] += reason == MESH_BULKHEAD_SOURCE;
}

/* Code and cause are a worker's word: what they cannot be is taken as none. */
void metrics_request(struct metrics *m, const struct metrics_request *given)
{
	struct metrics_request checked = *given;
	const struct metrics_request *r = &checked;
	struct series *s;
	struct pair *p;

	if (checked.code < 100 || checked.code > 999)
		checked.code = 0;
	if (checked.cause >= CAUSE_MAX)
		checked.cause = CAUSE_NONE;
	s = series_find(m, r);
	p = pair_find(m, r->source, r->destination);

	if (s) {
		s->count++;
		if (is_error(r->code))
			remember(&s->exemplar, r);
	}
	if (!p)
		return;
	remember(&p->exemplars[observe(&p->requests, r->duration_ns)], r);
	p->bytes_in += r->bytes_in;
	p->bytes_out += r->bytes_out;
	if (r->tries > 1)
		p->counts[is_error(r->code) ? RETRIED_FAILED : RETRIED_OK] += r->tries - 1;
	p->counts[RETRIES_DENIED] += r->flags & RECORD_NO_BUDGET ? 1 : 0;
	p->counts[FAULT_DELAYED] += r->flags & RECORD_DELAYED ? 1 : 0;
	p->counts[FAULT_ABORTED] += r->flags & RECORD_ABORTED ? 1 : 0;
	count_full(p, r->bulkhead);
}

void metrics_tunnel(struct metrics *m, const char *source, const char *destination,
		    uint32_t bulkhead)
{
	struct pair *p = bulkhead ? pair_find(m, source, destination) : NULL;

	if (p)
		count_full(p, bulkhead);
}

/* How a connection ended, and then how one was refused. */
static const char *const outcome_names[OUTCOMES] = {"closed",	     "refused",	   "reset",
						    "timeout",	     "failed",	   "breaker-open",
						    "bulkhead-full", "no-endpoint"};
#define OUTCOME_BULKHEAD 6

static int outcome_of(uint32_t error)
{
	return !error				       ? 0
	       : error == ECONNREFUSED		       ? 1
	       : error == ECONNRESET || error == EPIPE ? 2
	       : error == ETIMEDOUT		       ? 3
						       : 4;
}

static struct pair *named_pair(struct metrics *m, const char *source, const char *destination)
{
	return pair_find(m, *source ? source : "unknown", *destination ? destination : "none");
}

void metrics_connection(struct metrics *m, const struct metrics_connection *c)
{
	struct pair *p = named_pair(m, c->source, c->destination);

	if (!p)
		return;
	p->connections[outcome_of(c->error)]++;
	p->tcp_in += c->bytes_in;
	p->tcp_out += c->bytes_out;
	if (c->connect_ns)
		(void)observe(&p->connects, c->connect_ns);
}

void metrics_refused(struct metrics *m, const char *source, const char *destination,
		     const char *outcome, uint64_t n)
{
	struct pair *p = named_pair(m, source, destination);

	for (int i = 0; p && i < OUTCOMES; i++)
		if (!strcmp(outcome_names[i], outcome)) {
			p->connections[i] += n;
			p->counts[FULL_CONNECTIONS] += i == OUTCOME_BULKHEAD ? n : 0;
		}
}

/* --- text --- */

static void pair_labels(struct buf *out, const struct pair *p)
{
	exposition_label(out, "source", p->names);
	buf_char(out, ',');
	exposition_label(out, "destination", after(p->names));
}

#define each_series(m, s)                                                                          \
	for (uint32_t i_ = 0; i_ < BUCKETS; i_++)                                                  \
		for (const struct series *s = (m)->series[i_]; s; s = s->next)
#define each_pair(m, p)                                                                            \
	for (uint32_t i_ = 0; i_ < BUCKETS; i_++)                                                  \
		for (const struct pair *p = (m)->pairs[i_]; p; p = p->next)

static void write_exemplar(struct buf *out, const struct exemplar *e, double value)
{
	if (e->time_ms)
		exposition_exemplar(out, e->trace_id, value, e->time_ms);
	buf_char(out, '\n');
}

static void write_requests(const struct metrics *m, struct buf *out, bool exemplars)
{
	static const struct exemplar none;

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
			  const struct histogram *h, const struct exemplar *exemplars)
{
	static const struct exemplar none;
	uint64_t sum = 0;

	for (uint32_t i = 0; i <= NBOUNDS; i++) {
		const struct exemplar *e = exemplars ? &exemplars[i] : &none;

		sum += h->bucket[i];
		buf_str(out, name);
		buf_str(out, "_bucket{");
		buf_add(out, labels->data, labels->len);
		buf_str(out, ",le=\"");
		buf_str(out, i < NBOUNDS ? bounds[i].le : "+Inf");
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
		const struct histogram *h = requests ? &p->requests : &p->connects;

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
			buf_printf(out, ",outcome=\"%s\"} %llu\n", outcome_names[i],
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
		double n = (double)t->bucket[i], low = i ? (double)bounds[i - 1].ns : 0;

		if (n > 0 && before + n >= rank)
			return (low + ((double)bounds[i].ns - low) * (rank - before) / n) / 1e6;
		before += n;
	}
	return (double)bounds[NBOUNDS - 1].ns / 1e6;
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
		    offsetof(struct pair, bytes_in), false);
	write_pairs(m, out, "mesh_response_bytes_total", "Body bytes to callers.",
		    offsetof(struct pair, bytes_out), false);
	write_connections(m, out);
	write_pairs(m, out, "mesh_tcp_sent_bytes_total",
		    "Bytes that callers sent by TCP over captured connections that ended.",
		    offsetof(struct pair, tcp_out), true);
	write_pairs(m, out, "mesh_tcp_received_bytes_total",
		    "Bytes that callers received by TCP over captured connections that ended.",
		    offsetof(struct pair, tcp_in), true);
	write_histogram(m, out, "mesh_tcp_connect_duration_seconds",
			"From connect() of a captured connection to its being established.", false,
			false);
	write_totals(m, out);
	exposition_head(out, "mesh_metrics_overflow_total", "counter",
			"Observations counted under \"other\" for want of room.");
	buf_printf(out, "mesh_metrics_overflow_total %llu\n", (unsigned long long)m->overflow);
}
