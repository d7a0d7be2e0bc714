/* SPDX-License-Identifier: Apache-2.0 */
/* See metrics.h. */
#include "agent/telemetry/metrics_impl.h"
#include "lib/record.h"

#include <mesh/bulkhead.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define OTHER "other"

/* Written as OpenMetrics has it, 1.0 and not 1, in both formats: or they would be other series. */
const struct metrics_bound metrics_bounds[NBOUNDS] = {
	{100000, "0.0001"},  {250000, "0.00025"}, {500000, "0.0005"},  {1000000, "0.001"},
	{2500000, "0.0025"}, {5000000, "0.005"},  {10000000, "0.01"},  {25000000, "0.025"},
	{50000000, "0.05"},  {100000000, "0.1"},  {250000000, "0.25"}, {500000000, "0.5"},
	{1000000000, "1.0"}, {2500000000, "2.5"}, {5000000000, "5.0"}, {10000000000, "10.0"}};

int metrics_new(struct metrics **out)
{
	*out = calloc(1, sizeof(**out));
	return *out ? 0 : -ENOMEM;
}

void metrics_free(struct metrics **mp)
{
	struct metrics *m = *mp;

	for (uint32_t i = 0; m && i < BUCKETS; i++) {
		for (struct metrics_series *s = m->series[i], *next; s; s = next) {
			next = s->next;
			free(s);
		}
		for (struct metrics_pair *p = m->pairs[i], *next; p; p = next) {
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

static bool is_pair(const struct metrics_pair *p, const char *source, const char *destination)
{
	return !strcmp(p->names, source) && !strcmp(after(p->names), destination);
}

static bool is_series(const struct metrics_series *s, const struct metrics_request *r)
{
	const char *destination = after(s->names);

	return s->code == r->code && s->cause == r->cause && !strcmp(s->names, r->source) &&
	       !strcmp(destination, r->destination) && !strcmp(after(destination), r->version);
}

static struct metrics_pair *pair_find(struct metrics *m, const char *source,
				      const char *destination)
{
	uint32_t h = hash(hash(2166136261u, source), destination) % BUCKETS;
	size_t a = strlen(source) + 1, b = strlen(destination) + 1;
	struct metrics_pair *p;

	for (p = m->pairs[h]; p; p = p->next)
		if (is_pair(p, source, destination))
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

static struct metrics_series *series_find(struct metrics *m, const struct metrics_request *r)
{
	uint32_t h =
		hash(hash(hash(2166136261u ^ r->code << 8 ^ r->cause, r->source), r->destination),
		     r->version);
	size_t a = strlen(r->source) + 1, b = strlen(r->destination) + 1,
	       c = strlen(r->version) + 1;
	struct metrics_series *s;

	h %= BUCKETS;
	for (s = m->series[h]; s; s = s->next)
		if (is_series(s, r))
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

/* How many bounds there are below 2^n ns: no two lie between one power of two and the next. */
static const uint8_t bounds_below[65] = {
	[17] = 1,  [18] = 2,  [19] = 3,	 [20] = 4,  [21] = 4,  [22] = 5,
	[23] = 6,  [24] = 7,  [25] = 8,	 [26] = 9,  [27] = 10, [28] = 11,
	[29] = 12, [30] = 13, [31] = 13, [32] = 14, [33] = 15, [34 ... 64] = 16};

/* Returns the bucket. */
static uint32_t observe(struct metrics_histogram *h, uint64_t ns, uint64_t n)
{
	uint32_t i = ns ? bounds_below[63 - __builtin_clzll(ns)] : 0;

	i += i < NBOUNDS && ns > metrics_bounds[i].ns;
	h->bucket[i] += n;
	h->count += n;
	h->sum_ns += ns * n;
	return i;
}

static void remember(struct metrics_exemplar *e, const struct metrics_request *r)
{
	if (!r->trace_id)
		return;
	memcpy(e->trace_id, r->trace_id, sizeof(e->trace_id));
	e->ns = r->duration_ns;
	e->time_ms = r->time_ms;
}

static void count_full(struct metrics_pair *p, uint32_t reason, uint64_t n)
{
	p->counts[FULL_REQUESTS] += reason == MESH_BULKHEAD_REQUESTS ? n : 0;
	p->counts[FULL_PENDING] += reason == MESH_BULKHEAD_PENDING ? n : 0;
	p->counts[FULL_SOURCE] += reason == MESH_BULKHEAD_SOURCE ? n : 0;
}

/* Nothing is ever dropped, so that what was found once stays. What is counted as "other" is looked
 * up each time, and counted as that. */
static struct metrics_pair *pair_of(struct metrics *m, const struct metrics_request *r)
{
	struct metrics_pair *p = r->place ? r->place->pair : NULL;

	if (p)
		return p;
	p = pair_find(m, r->source, r->destination);
	if (p && r->place && is_pair(p, r->source, r->destination))
		r->place->pair = p;
	return p;
}

static struct metrics_series *series_of(struct metrics *m, const struct metrics_request *r)
{
	struct metrics_series **known =
		r->place ? &r->place->series[r->code / 100 % METRICS_PLACES] : NULL;
	struct metrics_series *s = known ? *known : NULL;

	if (s && s->code == r->code && s->cause == r->cause)
		return s;
	s = series_find(m, r);
	if (s && known && is_series(s, r))
		*known = s;
	return s;
}

/* What hardly any request has. */
static void count_rare(struct metrics_pair *p, const struct metrics_request *r, uint64_t n)
{
	if (r->tries > 1)
		p->counts[is_error(r->code) ? RETRIED_FAILED : RETRIED_OK] += r->tries - 1;
	p->counts[RETRIES_DENIED] += r->flags & RECORD_NO_BUDGET ? n : 0;
	p->counts[FAULT_DELAYED] += r->flags & RECORD_DELAYED ? n : 0;
	p->counts[FAULT_ABORTED] += r->flags & RECORD_ABORTED ? n : 0;
	count_full(p, r->bulkhead, n);
}

void metrics_request(struct metrics *m, struct metrics_request *r)
{
	uint64_t n = r->alike + 1;
	struct metrics_series *s;
	struct metrics_pair *p;

	if (r->code < 100 || r->code > 999)
		r->code = 0;
	if (r->cause >= CAUSE_MAX)
		r->cause = CAUSE_NONE;
	s = series_of(m, r);
	p = pair_of(m, r);
	if (s) {
		s->count += n;
		if (is_error(r->code))
			remember(&s->exemplar, r);
	}
	if (!p)
		return;
	remember(&p->exemplars[observe(&p->requests, r->duration_ns, n)], r);
	p->bytes_in += r->bytes_in;
	p->bytes_out += r->bytes_out;
	if (r->tries > 1 || r->bulkhead ||
	    r->flags & (RECORD_NO_BUDGET | RECORD_DELAYED | RECORD_ABORTED))
		count_rare(p, r, n);
}

void metrics_tunnel(struct metrics *m, const char *source, const char *destination,
		    uint32_t bulkhead, uint64_t n)
{
	struct metrics_pair *p = bulkhead ? pair_find(m, source, destination) : NULL;

	if (p)
		count_full(p, bulkhead, n);
}

const char *const metrics_outcomes[OUTCOMES] = {"closed",	 "refused",    "reset",
						"timeout",	 "failed",     "breaker-open",
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

static struct metrics_pair *named_pair(struct metrics *m, const char *source,
				       const char *destination)
{
	return pair_find(m, *source ? source : "unknown", *destination ? destination : "none");
}

void metrics_connection(struct metrics *m, const struct metrics_connection *c)
{
	struct metrics_pair *p = named_pair(m, c->source, c->destination);

	if (!p)
		return;
	p->connections[outcome_of(c->error)]++;
	p->tcp_in += c->bytes_in;
	p->tcp_out += c->bytes_out;
	if (c->connect_ns)
		(void)observe(&p->connects, c->connect_ns, 1);
}

void metrics_refused(struct metrics *m, const char *source, const char *destination,
		     const char *outcome, uint64_t n)
{
	struct metrics_pair *p = named_pair(m, source, destination);

	for (int i = 0; p && i < OUTCOMES; i++)
		if (!strcmp(metrics_outcomes[i], outcome)) {
			p->connections[i] += n;
			p->counts[FULL_CONNECTIONS] += i == OUTCOME_BULKHEAD ? n : 0;
		}
}
