/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a worker counts when its ring (ring.h) has no room for a record: the details are lost, the
 * count is not. A table in shared memory, an entry for each caller, service and answer, with their
 * latencies in half octaves. One writer (the worker), one reader (the supervisor), no locks: every
 * word is added to by the one and exchanged for 0 by the other, and number and latency of a request
 * are one word, so that nothing is lost between them or taken twice. The reader trusts nothing that
 * it reads, and gives entries back that it found empty; until then what finds no place is counted
 * by the kind of its answer alone.
 */
#ifndef AGENT_TELEMETRY_TALLY_H
#define AGENT_TELEMETRY_TALLY_H

#include <stdbool.h>
#include <stdint.h>

#define TALLY_BUCKETS 54 /* below 1 us, half octaves, 69 s to 103 s: longer ones are cut */
#define TALLY_OTHERS  8	 /* 100s of the status from 0 to 5, tunnels, tunnels that failed */
#define TALLY_ENTRIES 119
#define TALLY_MOST    ((1u << 28) - 1) /* of one bucket; what comes beyond is not counted */

struct tally_entry {
	uint64_t key; /* 0: free */
	uint64_t bytes_in, bytes_out;
	uint64_t retries;
	uint64_t bucket[TALLY_BUCKETS]; /* how many, and the sum of their places in it */
	uint64_t pad[6];
};

struct tally {			    /* of zeroed memory */
	_Alignas(64) uint64_t busy; /* the worker is at it */
	uint64_t news;		    /* since the reader looked */
	_Alignas(512) struct tally_entry entry[TALLY_ENTRIES + TALLY_OTHERS];
};

/* Requests that are alike. */
struct tally_sum {
	uint32_t caller, service; /* ids, or MESH_NONE */
	uint16_t status;
	uint16_t flags; /* of enum record_flags those that are counted, and RECORD_GATEWAY */
	uint8_t cause, bulkhead;
	bool tunnel;
	bool other; /* there was no place: caller and service are not known */
	uint64_t n;
	uint64_t duration_ns; /* of each, within 25 % of its own; their mean is within 0.4 % */
	uint64_t bytes_in, bytes_out, retries; /* of all */
};

/* Writer: counts one, of which `n` says nothing. */
void tally_add(struct tally *t, const struct tally_sum *one);

/* Reader: calls fn for what was counted since the last call; returns how often. */
uint32_t tally_take(struct tally *t, void (*fn)(const struct tally_sum *sum, void *arg), void *arg);
/* Reader: the next call looks at all of it. One before us may have died in tally_take(). */
static inline void tally_inherited(struct tally *t)
{
	__atomic_store_n(&t->news, 1, __ATOMIC_RELAXED);
}
/* Reader: the worker is dead, and may have died in tally_add(). */
static inline void tally_orphaned(struct tally *t)
{
	__atomic_store_n(&t->busy, 0, __ATOMIC_RELAXED);
	tally_inherited(t);
}

#endif
