/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What was measured on its way to meshd (docs/telemetry.md): from records and events, by names,
 * into series, spans and what is tapped; in batches to POST /api/telemetry, one at a time; and what
 * its answers ask for. Never waits for meshd and never holds anything up: what does not fit is
 * dropped and counted. Called by supervisor.c.
 */
#ifndef AGENT_SUPERVISOR_TELEMETRY_H
#define AGENT_SUPERVISOR_TELEMETRY_H

#include "agent/supervisor_parties.h"
#include "agent/telemetry/accesslog.h"
#include "agent/telemetry/outbox.h"
#include "agent/telemetry/ring.h"
#include "agent/telemetry/series.h"
#include "agent/telemetry/tail.h"
#include "agent/telemetry/taps.h"
#include "agent/telemetry/walltime.h"
#include "lib/buf.h"

#include <mesh/event.h>
#include <stdbool.h>
#include <stdint.h>

#define TELEMETRY_SLOW_NS   1000000000ULL /* --trace-slow */
#define TELEMETRY_SERIES_MS 500
#define TELEMETRY_EVERY_NS  100000000ULL /* between two batches */
/* ... while so many spans wait that nobody waits for one of them: fewer and larger transactions
 * cost meshd less */
#define TELEMETRY_CROWD_NS 200000000ULL
#define TELEMETRY_CROWD	   10
/* ... when there is nothing to say, but meshd may want something */
#define TELEMETRY_QUIET_NS 1000000000ULL
/* Spans that nobody sampled: errors, slow ones, wanted ones. */
#define TELEMETRY_KEPT_A_SECOND 2000
#define TELEMETRY_WANTED	1024 /* traces */

struct supervisor;

struct telemetry_wanted {
	uint8_t trace_id[16];
	uint64_t until_ns;
};

struct telemetry {
	struct walltime wall;
	struct parties *parties; /* PARTIES_KEPT */
	struct series *series;
	uint64_t second;	/* the wall clock's, to which `series` belong */
	uint64_t second_end_ns; /* when it is over */
	uint64_t half;		/* the last whose series were sent */
	uint64_t aged_ns;
	struct outbox *outbox;
	uint64_t renamed; /* registry_renamed() of the names in its last records */
	struct tail *tail;
	struct taps taps;
	struct telemetry_wanted *wanted; /* by a hash of the id; a later one takes the place */
	uint64_t wanted_until_ns;	 /* the latest of them */
	uint64_t kept_second, kept;	 /* of TELEMETRY_KEPT_A_SECOND */
	struct buf text;		 /* of one element */
	bool in_flight;
	unsigned refused;    /* by meshd, as was said: 1 records, 2 all of a batch; 0 nothing */
	uint64_t posted_seq; /* of the batch that is in flight */
	uint64_t posted_ns, retry_ns;
	uint32_t backoff_ms; /* 0: the last call went well */
};

/* Makes the epoch. 0 or -errno. telemetry_stop() in any case. */
int telemetry_start(struct supervisor *s);
void telemetry_stop(struct supervisor *s);

/* Will its span be sent, or was it asked for? */
bool telemetry_keeps(const struct supervisor *s, const struct record *rec);
/* A request or a tunnel; kept: as telemetry_keeps() said. */
void telemetry_record(struct supervisor *s, const struct record *rec, struct parties *p, bool kept);
/* Requests or tunnels of which no more is known. */
void telemetry_counted(struct supervisor *s, const struct tally_sum *sum, struct parties *p);
/* A connection that the kernel balanced has closed; n that it refused. */
void telemetry_connection(struct supervisor *s, const struct mesh_event *e);
void telemetry_refused(struct supervisor *s, uint32_t workload, uint32_t service, uint64_t n);
/* What is being watched, by the long poll. */
void telemetry_taps(void *arg, const cJSON *taps, uint64_t serial);

/* After rings were read: sends what is due. */
void telemetry_push(struct supervisor *s);
/* Every 100 ms. */
void telemetry_beat(struct supervisor *s);
/* We end: waits for meshd to take what there is, for a second at most. */
void telemetry_last(struct supervisor *s);

void telemetry_metrics(struct supervisor *s, struct buf *out);

#endif
