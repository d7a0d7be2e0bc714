/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is counted per caller, callee, protocol, version and outcome since it was last taken: the
 * `series` of docs/telemetry.md. Bounded: a series beyond SERIES_MAX is counted under "other", as
 * agent/telemetry/metrics.h does; those of which nothing came for a while make room. Keeps no time
 * and knows no ids: supervisor_telemetry.c does.
 */
#ifndef AGENT_TELEMETRY_SERIES_H
#define AGENT_TELEMETRY_SERIES_H

#include "lib/buf.h"

#include <stdbool.h>
#include <stdint.h>

#define SERIES_MAX 4096

enum series_protocol { SERIES_HTTP, SERIES_TCP };
enum series_outcome { SERIES_OK, SERIES_CLIENT_ERROR, SERIES_ERROR, SERIES_NONE };

struct series_key {
	const char *source, *destination, *version;
	uint8_t protocol, outcome;
};

/* Where a series is counted: found by its names once, and then known as long as it is there. Zeroed
 * before the first, and when its key becomes another; of one struct series. */
struct series_place {
	struct series_entry *entry;
	uint64_t sweeps;
};

struct series_sample {
	uint64_t n;		      /* of the same kind */
	uint64_t duration_ns;	      /* of each */
	uint64_t bytes_in, bytes_out; /* of all */
};

struct series;

int series_new(struct series **out); /* 0 or -ENOMEM */
void series_free(struct series **t);
/* place: of that key, or NULL. */
void series_add(struct series *t, const struct series_key *k, struct series_place *place,
		const struct series_sample *v);
/* Is anything there to be taken? */
bool series_waiting(const struct series *t);
/* Appends elements of a JSON list, commas between them, until out has more than `enough` bytes, and
 * forgets what was taken. How many; 0: there is nothing more. When out has failed they are gone all
 * the same. */
uint32_t series_take(struct series *t, size_t enough, struct buf *out);
/* Names that were not used since the last call make room. Call it seldom, every minute. */
void series_age(struct series *t);
/* Samples that were counted under "other", and those of which nothing was kept for want of memory.
 */
uint64_t series_overflow(const struct series *t);

static inline enum series_outcome series_outcome(uint32_t status)
{
	return status >= 500   ? SERIES_ERROR
	       : status >= 400 ? SERIES_CLIENT_ERROR
	       : status	       ? SERIES_OK
			       : SERIES_NONE;
}

#endif
