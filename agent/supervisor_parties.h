/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who called whom: what stands behind the ids of a record, its names and where it is counted.
 * Looked up once and kept by the ids, so that a request that nobody sampled costs no comparison of
 * strings; looked up again when the registry has given an id to another (registry_renamed()).
 */
#ifndef AGENT_SUPERVISOR_PARTIES_H
#define AGENT_SUPERVISOR_PARTIES_H

#include "agent/telemetry/accesslog.h"
#include "agent/telemetry/metrics.h"
#include "agent/telemetry/series.h"
#include "agent/telemetry/ring.h"

#include <stdbool.h>
#include <stdint.h>

struct supervisor;

struct parties_key {
	uint32_t caller, service; /* ids, or MESH_NONE */
	uint32_t endpoint, gen;
	uint16_t kind;	  /* enum record_kind */
	uint16_t gateway; /* RECORD_GATEWAY, or 0 */
};

struct parties {
	struct parties_key key;
	uint64_t looked;	      /* registry_renamed() of then; 0: never */
	bool own;		      /* nobody's traffic (lib/name.h) */
	bool tcp;		      /* the service's connections are reported by the kernel */
	struct accesslog_names names; /* "gateway" or "unknown", "none", "" of an endpoint */
	struct metrics_place metrics;
	struct series_place series[4]; /* by enum series_outcome */
};

#define PARTIES_KEPT 1024 /* a power of two; by a hash of the ids, a later one takes the place */

/* Of s->telemetry.parties, PARTIES_KEPT of them. Good until the next call, or change of the
 * registry. */
struct parties *parties_of(struct supervisor *s, const struct parties_key *key);
struct parties *parties_of_record(struct supervisor *s, const struct record *rec);

#endif
