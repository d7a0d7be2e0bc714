/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether connections of this host skip TCP, and how: the trials of this kernel run beside
 * everything else, and what they say is put in force; until then it is plain TCP (or, after an
 * upgrade, what the predecessor had found out). Part of the supervisor.
 */
#ifndef AGENT_SUPERVISOR_ACCELERATE_H
#define AGENT_SUPERVISOR_ACCELERATE_H

#include "agent/kernel/qualify_choose.h"
#include "lib/buf.h"
#include "lib/loop.h"

#include <mesh/abi.h>
#include <mesh/event.h>

struct supervisor;
struct sandbox;

struct acceleration {
	struct sandbox *sandbox; /* NULL: none runs */
	struct watch watch;
	struct timer again;
	unsigned attempts;
	bool settled; /* mode is the last word */
	enum mesh_splice_mode mode;
	char why[QUALIFY_WHY_MAX];		 /* of mode, see qualify_choose() */
	struct qualify_result result;		 /* of the last attempt */
	uint64_t owner[MESH_MAX_WORKLOADS];	 /* cgroup of each number, 0: not given yet */
	uint64_t plain[MESH_MAX_WORKLOADS / 64]; /* bits: uses splice(2), stays with TCP */
	uint64_t noticed, ended, not_ended;	 /* workloads; connections that would have hung */
};

/* "auto", "on", "off" as enum service_accelerate; -1: none of them. */
int acceleration_parse(const char *name);

/* Begins; never fails: what goes wrong is logged and leaves plain TCP. */
void acceleration_start(struct supervisor *s);
/* Ends trials that still run. What is in force stays. */
void acceleration_stop(struct supervisor *s);

/* A workload gets its number, or keeps it: before the kernel is told of the workload. */
void acceleration_workload(struct supervisor *s, uint64_t cgroup, uint32_t workload);
/* MESH_EV_SPLICE: says so, and ends what would hang. */
void acceleration_spliced(struct supervisor *s, const struct mesh_event *e);

/* The mesh_service flags for what a service's configuration says (enum service_accelerate). */
uint32_t acceleration_flags(const struct supervisor *s, uint8_t configured);

/* Members "accelerate" and "acceleration" of an object, for meshd. */
void acceleration_json(const struct supervisor *s, struct buf *b);
/* mesh_acceleration_*. */
void acceleration_metrics(struct supervisor *s, struct buf *out);

#endif
