/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counters and histograms of what the workers and the kernel report, by names (not ids: those are
 * used again), and their Prometheus text. Bounded: what does not fit is counted under "other". No
 * label ever comes from a client.
 */
#ifndef AGENT_TELEMETRY_METRICS_H
#define AGENT_TELEMETRY_METRICS_H

#include "lib/buf.h"
#include "lib/exposition.h"

#include <stdbool.h>
#include <stdint.h>

#define METRICS_SERIES 4096 /* (source, destination, version, code, cause) */
#define METRICS_PAIRS  2048 /* (source, destination) */

struct metrics;

/* Where requests of one source, destination and version are counted: found by names once, and then
 * known. Zeroed before the first, and when the names become others; of one struct metrics. */
#define METRICS_PLACES 8
struct metrics_place {
	struct metrics_pair *pair;
	struct metrics_series *series[METRICS_PLACES]; /* by hundreds of the code: the last one */
};

struct metrics_request {
	const char *source, *destination, *version;
	uint32_t code; /* 0: no answer */
	uint32_t cause;
	uint64_t alike;	      /* there are so many beside it; bytes and tries are of all */
	uint64_t duration_ns; /* of each */
	uint64_t bytes_in, bytes_out;
	uint32_t tries;
	uint16_t flags;		     /* enum record_flags */
	uint8_t bulkhead;	     /* enum mesh_bulkhead_reason */
	const uint8_t *trace_id;     /* 16 bytes of a trace that is kept; NULL: none is */
	uint64_t time_ms;	     /* of its end, since 1970; only with a trace */
	struct metrics_place *place; /* of these names, or NULL */
};

int metrics_new(struct metrics **out); /* 0 or -ENOMEM */
void metrics_free(struct metrics **m);
/* What a code or a cause cannot be is made 0 in *r: they are a worker's word. */
void metrics_request(struct metrics *m, struct metrics_request *r);
/* n tunnels have ended, or were refused: enum mesh_bulkhead_reason. The kernel counts the rest. */
void metrics_tunnel(struct metrics *m, const char *source, const char *destination,
		    uint32_t bulkhead, uint64_t n);
struct metrics_connection {
	const char *source, *destination; /* "": not known */
	uint32_t error;			  /* as in struct mesh_event */
	uint64_t connect_ns;		  /* likewise */
	uint64_t bytes_out, bytes_in;	  /* as its caller sees them */
};
/* A captured connection that closed. */
void metrics_connection(struct metrics *m, const struct metrics_connection *c);
/* n connects that the kernel refused; outcome "breaker-open", "bulkhead-full" or "no-endpoint". */
void metrics_refused(struct metrics *m, const char *source, const char *destination,
		     const char *outcome, uint64_t n);
/* With exemplars (OpenMetrics only): of each bucket, and of each kind of error, the last request
 * that had a trace. */
void metrics_write(const struct metrics *m, struct buf *out, bool exemplars);

/* The same in parts of a millisecond at most, between which others may count. Not longer than m. */
struct metrics_text;
struct metrics_text *metrics_text_new(const struct metrics *m, bool exemplars); /* or NULL */
/* Appends the next part. false: that was the last one. */
bool metrics_text_part(struct metrics_text *t, struct buf *out);
void metrics_text_free(struct metrics_text **t); /* harmless twice */

#endif
