/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What became of the connect() calls of each workload, as the kernel counts it: whose traffic goes
 * its way past the mesh, and why. Shared by bpf/coverage.bpf.h and the supervisor
 * (agent/coverage/); as abi.h, only fixed-size types.
 */
#ifndef MESH_COVERAGE_H
#define MESH_COVERAGE_H

#include <mesh/abi.h>

#define MESH_MAX_STRANGERS 1024 /* cgroups that are no workload and call what workloads offer */

/* All ways of a TCP connect() of a workload; together they are all that were seen. */
enum mesh_coverage_way {
	MESH_COV_WORKER,  /* captured: sent to a worker */
	MESH_COV_KERNEL,  /* captured: endpoint chosen in the kernel */
	MESH_COV_REFUSED, /* refused in the hook */
	MESH_COV_OTHER,	  /* passed: not a destination of ours */
	MESH_COV_SELF,	  /* passed: the workload calls itself */
	MESH_COV_IDLE,	  /* passed: a service that nobody serves */
	/* passed, though a service was meant: what escapes the mesh */
	MESH_COV_NOBODY,   /* no worker listens in that namespace, or none shows a sign of life, or
			      too many wait for one already */
	MESH_COV_DEVICE,   /* the socket is bound to a device */
	MESH_COV_STORAGE,  /* no memory for what was asked for */
	MESH_COV_PROTOCOL, /* MPTCP */
	MESH_COV_WAYS,
};
#define MESH_COV_ESCAPES MESH_COV_NOBODY /* the first of those that escape */

/* coverage: by cgroup id of the workload. Changed by atomic addition. `waiting` is no count of what
 * was, but of what is: see MESH_MAX_WAITING. */
struct mesh_coverage {
	__u64 n[MESH_COV_WAYS];
	__u32 waiting;
	__u32 pad;
	__u64 reserved;
};
_Static_assert(sizeof(struct mesh_coverage) == 96, "abi");

/* strangers: by cgroup id: connect() calls to what workloads offer. */
struct mesh_stranger {
	__u64 n;
	__u64 last_ns;	/* CLOCK_MONOTONIC */
	__u32 upstream; /* of the last one */
	__u32 pad;
};
_Static_assert(sizeof(struct mesh_stranger) == 24, "abi");

#endif
