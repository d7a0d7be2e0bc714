/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records of traces that nobody sampled, kept for a few seconds in case that another part of the
 * trace turns out to matter (tail decision): a ring of bytes, found by trace id, the oldest are
 * overwritten. Its memory is used only as far as there are such records, and given back when they
 * are old.
 */
#ifndef AGENT_TELEMETRY_TAIL_H
#define AGENT_TELEMETRY_TAIL_H

#include "lib/record.h"

#include <stdint.h>

#define TAIL_BYTES   (4u << 20)
#define TAIL_KEEP_NS 10000000000ULL
/* Entries that one take looks at: more than meshd keeps of a trace. Rings are read meanwhile by
 * nobody. */
#define TAIL_LOOK_MAX 4096

struct tail;

int tail_new(struct tail **out); /* 0 or -errno */
void tail_free(struct tail **t);
/* rec: a whole one of kind RECORD_REQUEST or RECORD_TUNNEL, with a trace. Copied. */
void tail_put(struct tail *t, const struct record *rec, uint64_t now_ns);
/* Hands out what is kept of a trace and not older than TAIL_KEEP_NS, the newest first, each once;
 * of very many only the newest. How many. */
uint32_t tail_take(struct tail *t, const uint8_t trace_id[16], uint64_t now_ns,
		   void (*fn)(const struct record *rec, void *arg), void *arg);
/* How many entries all takes together looked at, for what they cost. */
uint64_t tail_looked(const struct tail *t);
/* Is anything kept? */
bool tail_in_use(const struct tail *t);
/* Now and then: gives the memory back when all of it is too old. */
void tail_beat(struct tail *t, uint64_t now_ns);

#endif
