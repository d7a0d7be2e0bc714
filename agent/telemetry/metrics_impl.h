/* SPDX-License-Identifier: Apache-2.0 */
/* What metrics.c counts and metrics_text.c writes. Included by them only. */
#ifndef AGENT_TELEMETRY_METRICS_IMPL_H
#define AGENT_TELEMETRY_METRICS_IMPL_H

#include "agent/telemetry/metrics.h"

#include <string.h>

#define BUCKETS	 2048 /* of the hash tables */
#define NBOUNDS	 16
#define OUTCOMES 8

/* Upper bounds of the histograms' buckets. */
struct metrics_bound {
	uint64_t ns;
	const char *le;
};
extern const struct metrics_bound metrics_bounds[NBOUNDS];
/* How a connection ended, and then how one was refused. */
extern const char *const metrics_outcomes[OUTCOMES];

struct metrics_exemplar { /* the last request of a bucket that has a trace */
	uint8_t trace_id[16];
	uint64_t ns, time_ms; /* time 0: there is none */
};

struct metrics_series {
	struct metrics_series *next;
	uint32_t code, cause;
	uint64_t count;
	struct metrics_exemplar exemplar; /* of errors only */
	char names[];			  /* source, destination, version, each with its NUL */
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

struct metrics_histogram {
	uint64_t bucket[NBOUNDS + 1], count, sum_ns;
};

struct metrics_pair {
	struct metrics_pair *next;
	struct metrics_histogram requests, connects;
	struct metrics_exemplar exemplars[NBOUNDS + 1]; /* of requests */
	uint64_t bytes_in, bytes_out;
	uint64_t tcp_in, tcp_out;
	uint64_t counts[COUNTS];
	uint64_t connections[OUTCOMES];
	char names[]; /* source, destination */
};

struct metrics {
	struct metrics_series *series[BUCKETS];
	struct metrics_pair *pairs[BUCKETS];
	uint32_t nseries, npairs;
	uint64_t overflow;
};

/* Of the buckets from `from` on, so many. */
#define each_series(m, s, from, n)                                                                 \
	for (uint32_t i_ = (from); i_ < (from) + (n); i_++)                                        \
		for (const struct metrics_series *s = (m)->series[i_]; s; s = s->next)
#define each_pair(m, p, from, n)                                                                   \
	for (uint32_t i_ = (from); i_ < (from) + (n); i_++)                                        \
		for (const struct metrics_pair *p = (m)->pairs[i_]; p; p = p->next)

/* The name behind a name. */
static inline const char *after(const char *s)
{
	return s + strlen(s) + 1;
}

static inline bool is_error(uint32_t code)
{
	return !code || code >= 500;
}

#endif
