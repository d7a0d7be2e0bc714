/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Explanations of what the mesh answered itself: from a worker's record to what meshd keeps, sent
 * in batches. Bounded: WHYS_WAITING, what comes too many is dropped and counted. Called by
 * supervisor.c.
 */
#ifndef AGENT_SUPERVISOR_WHY_H
#define AGENT_SUPERVISOR_WHY_H

#include "agent/telemetry/ring.h"
#include "lib/buf.h"

#include <stdbool.h>
#include <stdint.h>

#define WHYS_WAITING  256
#define WHYS_EVERY_NS 500000000ULL

struct supervisor;

struct whys {
	struct buf text;	   /* those that wait, separated by commas */
	uint32_t waiting, sending; /* how many */
	uint64_t sent_ns;	   /* when the last batch went */
	uint64_t exported, dropped;
};

void whys_init(struct whys *w);
void whys_done(struct whys *w);

void whys_record(struct supervisor *s, const struct record_why *rec);
/* Every 100 ms. */
void whys_beat(struct supervisor *s);

/* One record as meshd shows it, appended to b. */
void why_json(struct supervisor *s, const struct record_why *rec, struct buf *b);

#endif
