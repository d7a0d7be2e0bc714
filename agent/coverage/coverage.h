/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whose connections go past the mesh, and why: what the kernel has counted at connect(), compared
 * with the connections that exist. Books only: the supervisor (supervisor_coverage.c) asks the
 * kernel and enters what it hears. Knows no kernel and no clock.
 *
 * Connections are looked for in rounds; what a round has found is in force when it has ended.
 */
#ifndef AGENT_COVERAGE_COVERAGE_H
#define AGENT_COVERAGE_COVERAGE_H

#include <mesh/coverage.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Why a connection to a service is none of ours. The first ones are those of the hook, enum
 * mesh_coverage_way less MESH_COV_ESCAPES. */
#define COVERAGE_UNSEEN	   (MESH_COV_WAYS - MESH_COV_ESCAPES) /* no hook has seen it */
#define COVERAGE_REASONS   (COVERAGE_UNSEEN + 1)

#define COVERAGE_STRANGERS 32		  /* that are reported */
#define COVERAGE_FRESH_NS  60000000000ULL /* how long an escape counts as news */

struct coverage_row { /* one workload */
	uint64_t cgroup;
	uint32_t service;	   /* where its sums are, if the name there is its service's */
	uint64_t n[MESH_COV_WAYS]; /* as the kernel had counted at the last look */
	uint64_t escaped_ns[COVERAGE_REASONS]; /* when it was last seen to happen, 0: never */
	uint32_t upstream[COVERAGE_REASONS];   /* of the last connection that was found */
	uint32_t open[COVERAGE_REASONS];       /* connections of the last whole round */
	uint32_t found[COVERAGE_REASONS];      /* of the one that runs */
};

struct coverage_stranger { /* a cgroup that is no workload */
	uint64_t cgroup, n, last_ns;
	uint32_t upstream; /* of the last one */
	uint32_t open, found;
};

struct coverage_service { /* sums, for metrics; they outlive the workloads */
	char name[MESH_NAME_MAX];
	uint64_t n[MESH_COV_WAYS];
	uint32_t open[COVERAGE_REASONS];
};

struct coverage {
	struct coverage_row *row[MESH_MAX_WORKLOADS]; /* by workload; NULL: nothing known yet */
	struct coverage_service *services;
	uint32_t nservices;
	struct coverage_stranger strangers[COVERAGE_STRANGERS];
	uint32_t nstrangers;
	uint64_t lost;	 /* what found no memory, or no place among the services */
	uint64_t rounds; /* that have ended */
};

void coverage_done(struct coverage *c);

/* "no-worker", "device", "memory", "mptcp", "unseen". */
const char *coverage_reason_name(uint32_t reason);

/* The row of a workload, which is empty when the place was another's before. NULL without memory,
 * which is counted. */
struct coverage_row *coverage_row(struct coverage *c, uint32_t workload, uint64_t cgroup);
void coverage_forget(struct coverage *c, uint32_t workload);

/* A look at all workloads and strangers begins. */
void coverage_look(struct coverage *c);
/* What the kernel has counted by now for the workload of that row. */
void coverage_counted(struct coverage *c, struct coverage_row *row, const char *service,
		      const struct mesh_coverage *now, uint64_t now_ns);

/* One that has called; the latest are kept, and those of which a round has found connections. */
void coverage_stranger(struct coverage *c, uint64_t cgroup, const struct mesh_stranger *s,
		       uint64_t now_ns);

void coverage_round_begin(struct coverage *c);
void coverage_found(struct coverage_row *row, uint32_t reason, uint32_t upstream);
void coverage_found_stranger(struct coverage *c, uint64_t cgroup, uint32_t upstream);
void coverage_round_end(struct coverage *c, uint64_t now_ns);

/* Does traffic of that workload go past the mesh for this reason: a connection that exists, or a
 * connect() within COVERAGE_FRESH_NS? */
bool coverage_escapes(const struct coverage_row *row, uint32_t reason, uint64_t now_ns);
bool coverage_escapes_any(const struct coverage_row *row, uint64_t now_ns);

#endif
