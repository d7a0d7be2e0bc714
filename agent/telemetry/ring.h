/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A worker's records on their way to the supervisor: a ring in shared memory with one writer (the
 * worker) and one reader (the supervisor). Never blocks, never allocates; of what does not fit the
 * numbers are kept (ring_tally(), tally.h), the rest is counted in `lost`. Records are variable in
 * length (a struct record and its text), 8-byte aligned; one that would cross the end is preceded
 * by a filler. The reader trusts nothing that the worker wrote: lengths and offsets are checked
 * before use.
 */
#ifndef AGENT_TELEMETRY_RING_H
#define AGENT_TELEMETRY_RING_H

#include "agent/telemetry/tally.h"

#include <stdint.h>
#include <stddef.h>
#include <stdbool.h>

#define RING_SIZE	(1u << 20) /* data bytes of one worker's ring, a power of two */
#define RECORD_TEXT_MAX 832	   /* bytes of text behind a record: longer fields are cut */
#define RECORD_TRIES	8	   /* tries in a record; of more the last ones are not in it */
#define TRACE_TEXT_MAX	64	   /* bytes of an id as a caller chose it */
#define TRACE_ALIAS_MAX 130	   /* bytes of other trace ids: two of 32 and one of 64, commas */

enum record_kind {
	RECORD_REQUEST = 1,
	RECORD_TUNNEL = 2,
	RECORD_WHY = 3, /* a struct record_why, beside the record of the request */
};

enum record_flags {
	RECORD_LOCAL = 1,	/* the answer was made by the mesh; cause says why */
	RECORD_GATEWAY = 2,	/* came in through the gateway */
	RECORD_CLIENT_GONE = 4, /* the caller left before the answer was whole */
	RECORD_REUSED = 8,	/* on a pooled upstream connection */
	RECORD_DELAYED = 16,	/* by a fault that was injected */
	RECORD_ABORTED = 32,	/* likewise */
	RECORD_NO_BUDGET = 64,	/* another try was due, and the budget had nothing left for it */
	RECORD_TRACED = 128,	/* it has a trace id and a span id */
	RECORD_SAMPLED = 256,	/* its span is to be kept whatever became of it */
	RECORD_ROOT = 512,	/* the caller named no trace: this one began here */
};

/* Why the mesh itself answered. The names (cause_name) are in the contract: header, log, metric,
 * span. */
enum mesh_cause {
	CAUSE_NONE,
	CAUSE_BREAKER_OPEN,
	CAUSE_NO_ENDPOINT,
	CAUSE_NO_HEALTHY_ENDPOINT,
	CAUSE_NO_ROUTE,
	CAUSE_BULKHEAD_FULL,
	CAUSE_CONNECT_FAILED,
	CAUSE_CONNECT_TIMEOUT,
	CAUSE_TRY_TIMEOUT,
	CAUSE_REQUEST_TIMEOUT,
	CAUSE_UPSTREAM_RESET,
	CAUSE_UPSTREAM_PROTOCOL,
	CAUSE_BAD_REQUEST,
	CAUSE_HEADER_TOO_LARGE,
	CAUSE_BODY_TOO_LARGE,
	CAUSE_RETRY_BUDGET,
	CAUSE_FAULT_INJECTED,
	CAUSE_DRAINING,
	CAUSE_DENIED,
	CAUSE_MAX_FORWARDS, /* the caller let it go no further (RFC 9110 7.6.2) */
	CAUSE_MAX,
};
/* "" for CAUSE_NONE and for anything out of range. */
const char *cause_name(uint32_t cause);

/* One try of a request, an event of its span. */
struct record_try {
	uint32_t endpoint, gen; /* MESH_NONE: none could be chosen */
	uint32_t start_us,
		duration_us; /* from the record's start; to the answer's head or the failure */
	uint16_t status;     /* of its answer, 0: none */
	uint8_t cause;	     /* enum mesh_cause, CAUSE_NONE: with an answer, or the caller left */
	uint8_t reused;	     /* on a connection that had served before */
	uint32_t pad;
};

/* Followed by record_try[ntries] and the text. Trace: ids as bytes, in the order in which W3C
 * writes them. What the caller chose freely is text beside them: `trace` the trace id when it is
 * not 32 hex digits in small letters (trace_id is then what it is mapped to, lib/trace_id.h),
 * `alias` other trace ids that came with the same request (at most three, a comma between them),
 * `parent` the id of the caller's span when it is not 16 hex digits. */
struct record {
	uint32_t size; /* of all of it, a multiple of 8 */
	uint8_t kind, cause, tries, ntries;
	uint16_t flags; /* enum record_flags */
	uint8_t trace_id[16], span_id[8];
	uint8_t parent_id[8]; /* zero: none, or `parent` */
	uint64_t start_ns; /* CLOCK_MONOTONIC: first byte of the request / accept() of a tunnel */
	uint64_t duration_ns; /* to the last byte of the answer / to the end of the tunnel */
	uint64_t head_ns;     /* from start to the end of the answer's head; 0 for tunnels */
	uint64_t upstream_ns; /* of that, spent waiting for the endpoint */
	uint64_t bytes_in, bytes_out; /* body bytes from and to the caller */
	uint32_t caller;	      /* workload id, or MESH_NONE */
	uint32_t service;	      /* service id, or MESH_NONE: no route */
	uint32_t upstream;	      /* or MESH_NONE */
	uint32_t endpoint;	      /* index, or MESH_NONE: none was chosen */
	uint32_t endpoint_gen;
	uint16_t status;  /* HTTP status sent to the caller; 0: none (tunnel, caller gone before) */
	uint8_t bulkhead; /* enum mesh_bulkhead_reason: what was full */
	uint8_t pad;
	/* text: these, one behind the other */
	uint16_t method_len, path_len, host_len, request_id_len, trace_len, alias_len, parent_len;
};

/* Why the mesh answered as it did: what was known when it gave up. Followed by
 * why_candidate[ncandidates] and the text: request id, trace id, name of the route. */
#define WHY_CANDIDATES 16

struct why_candidate {
	uint32_t endpoint, gen;
	uint64_t latency_ns; /* as read at that moment, 0: never measured */
	uint64_t cost;	     /* what decided, in ns; 0: it was not compared */
	uint64_t breaker;    /* its word */
	uint32_t in_flight;
	uint16_t flags;	 /* enum mesh_endpoint_flags */
	uint16_t status; /* of its answer, 0: none */
	uint8_t tried;	 /* how often */
	uint8_t cause;	 /* enum mesh_cause: how the last try ended, CAUSE_NONE: with an answer */
	uint8_t pad[6];
};

struct record_why {
	uint32_t size; /* of all of it, a multiple of 8 */
	uint8_t kind, flags, cause, tries;
	uint64_t start_ns, duration_ns;
	uint64_t breaker, budget; /* the service's words; 0 without a service */
	uint32_t caller, service;
	uint32_t requests, connections, pending, from_source; /* the bulkhead's gauges */
	uint16_t status;
	uint16_t ncandidates;
	uint16_t request_id_len, trace_id_len, route_len;
	uint16_t pad[3];
};

struct ring {			    /* head of the shared block; RING_TALLY and RING_DATA follow */
	_Alignas(64) uint64_t head; /* written so far; the worker's */
	_Alignas(64) uint64_t tail; /* read so far; the supervisor's */
	_Alignas(64) uint64_t lost; /* records that did not fit; the worker's */
	uint64_t layout; /* RING_LAYOUT of its maker: workers outlive the agent that knows theirs */
	uint64_t unsampled;    /* traces that were due to be sampled, beyond --trace-limit; the
				  worker's */
	uint64_t whys_skipped; /* explanations that were not made, because it was half full */
};
#define RING_LAYOUT	3
#define RING_TALLY	4096 /* a struct tally */
#define RING_TALLY_SIZE 65536
#define RING_DATA	(RING_TALLY + RING_TALLY_SIZE)

static inline struct tally *ring_tally(struct ring *ring)
{
	return (struct tally *)((char *)ring + RING_TALLY);
}

static inline const struct record_try *record_tries(const struct record *rec)
{
	return (const struct record_try *)(rec + 1);
}
static inline const char *record_text(const struct record *rec)
{
	return (const char *)(record_tries(rec) + rec->ntries);
}

/* Of zeroed memory. */
static inline void ring_init(struct ring *ring)
{
	ring->layout = RING_LAYOUT;
}

/* Writer: space for a record of `size` bytes (multiple of 8), or NULL (counted; tally_add()). Valid
 * until ring_commit. */
void *ring_reserve(struct ring *r, uint32_t size);
void ring_commit(struct ring *r, uint32_t size);
/* Bytes that wait for the reader. */
static inline uint32_t ring_used(const struct ring *ring)
{
	return (uint32_t)(ring->head - __atomic_load_n(&ring->tail, __ATOMIC_RELAXED));
}

static inline const struct why_candidate *why_candidates(const struct record_why *w)
{
	return (const struct why_candidate *)(w + 1);
}
static inline const char *why_text(const struct record_why *w)
{
	return (const char *)(why_candidates(w) + w->ncandidates);
}

/* Reader: calls fn for at most `max` records; returns how many. A ring that makes no sense is
 * emptied and counted in *corrupt, as is one of another layout (a worker of before an upgrade). The
 * record passed to fn is a private copy: the worker can no longer change it. One of kind RECORD_WHY
 * is a struct record_why in truth. */
uint32_t ring_drain(struct ring *r, uint32_t max, void (*fn)(const struct record *rec, void *arg),
		    void *arg, uint64_t *corrupt);

#endif
