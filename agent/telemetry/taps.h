/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is being watched, as meshd says (docs/telemetry.md, "Taps"): which records fit, and how many
 * may go. A list that meshd does not repeat is forgotten: nobody may be there any more.
 */
#ifndef AGENT_TELEMETRY_TAPS_H
#define AGENT_TELEMETRY_TAPS_H

#include "lib/record.h"
#include "lib/json.h"
#include "lib/trace_id.h"

#include <mesh/abi.h>
#include <stdbool.h>
#include <stdint.h>

#define TAPS_MAX      32
#define TAPS_KEEP_NS  5000000000ULL
#define TAPS_A_SECOND 500 /* entries of all taps together */

struct tapped_filter {
	uint64_t tap, min_ns;
	char service[MESH_NAME_MAX], source[MESH_NAME_MAX], trace[TRACE_ID_TEXT_MAX + 1];
	uint8_t trace_id[16]; /* what `trace` stands for */
	bool error;
	uint32_t lost; /* that fitted and were not sent, since that was last said */
};

/* Zeroed: nothing is watched. */
struct taps {
	uint32_t n;
	struct tapped_filter filter[TAPS_MAX];
	uint64_t heard_ns;
	uint64_t serial;       /* of the list, as the long poll last said; 0: it has not yet */
	uint64_t second, sent; /* in that second */
};

/* The list in an answer to a batch, or of the long poll (then with its serial, which may not be 0).
 * What makes no sense in it is left out. An answer with a serial below that of the poll is an old
 * one. */
void taps_polled(struct taps *t, const cJSON *list, uint64_t serial, uint64_t now_ns);
void taps_answered(struct taps *t, const cJSON *answer, uint64_t now_ns);
/* Forgets a list that was not repeated. */
void taps_beat(struct taps *t, uint64_t now_ns);
bool taps_fits(const struct tapped_filter *f, const struct record *rec, const char *service,
	       const char *source);
/* May one more go? It is counted. */
bool taps_may_send(struct taps *t, uint64_t now_ns);

#endif
