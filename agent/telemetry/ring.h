/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A worker's records (lib/record.h) on their way to the supervisor: a ring in shared memory with
 * one writer (the worker) and one reader (the supervisor). Never blocks, never allocates; of what
 * does not fit the numbers are kept (ring_tally(), tally.h), the rest is counted in `lost`. Records
 * are variable in length (a struct record and its text), 8-byte aligned; one that would cross the
 * end is preceded by a filler, and when the reader has all of it the writer begins anew. The reader
 * trusts nothing that the worker wrote: lengths and offsets are checked before use.
 */
#ifndef AGENT_TELEMETRY_RING_H
#define AGENT_TELEMETRY_RING_H

#include "agent/telemetry/tally.h"
#include "lib/record.h"

#include <stdint.h>
#include <stddef.h>
#include <stdbool.h>

#define RING_SIZE (1u << 20) /* data bytes of one worker's ring, a power of two */
/* So much waits when the writer calls the reader, who looks only every now and then, and who may
 * not get the CPU at once. */
#define RING_CALL (RING_SIZE / 4)

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
	uint64_t anew;		    /* nothing before that is to be read; likewise */
	_Alignas(64) uint64_t tail; /* read so far; the supervisor's */
	_Alignas(64) uint64_t lost; /* records that did not fit; the worker's */
	uint64_t layout; /* RING_LAYOUT of its maker: workers outlive the agent that knows theirs */
	uint64_t unsampled;    /* traces that were due to be sampled, beyond --trace-limit; the
				  worker's */
	uint64_t whys_skipped; /* explanations that were not made, because it was half full */
};
#define RING_LAYOUT	(RECORD_LAYOUT << 8 | 4)
#define RING_TALLY	4096 /* a struct tally */
#define RING_TALLY_SIZE 65536
#define RING_DATA	(RING_TALLY + RING_TALLY_SIZE)

static inline struct tally *ring_tally(struct ring *ring)
{
	return (struct tally *)((char *)ring + RING_TALLY);
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
/* Writer: bytes that wait for the reader. */
static inline uint32_t ring_used(const struct ring *ring)
{
	uint64_t tail = __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE);

	return (uint32_t)(ring->head - (tail > ring->anew ? tail : ring->anew));
}

static inline const struct why_candidate *why_candidates(const struct record_why *w)
{
	return (const struct why_candidate *)(w + 1);
}
static inline const char *why_text(const struct record_why *w)
{
	return (const char *)(why_candidates(w) + w->ncandidates);
}

/* Reader, of a ring of RING_LAYOUT: calls fn for at most `max` records; returns how many. A ring
 * that makes no sense is emptied and counted in *corrupt. The record passed to fn is a private
 * copy: the worker can no longer change it. One of kind RECORD_WHY is a struct record_why in truth.
 */
uint32_t ring_drain(struct ring *r, uint32_t max, void (*fn)(const struct record *rec, void *arg),
		    void *arg, uint64_t *corrupt);

#endif
