/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worker processes as the supervisor sees them: started, told (ipc.h), watched, replaced.
 * Remembers everything that a worker must know, so that a new one learns it in the right order.
 * Descriptors given to it stay the caller's and must live until the matching _gone or the next
 * snapshot.
 */
#ifndef AGENT_SUPERVISOR_WORKERS_H
#define AGENT_SUPERVISOR_WORKERS_H

#include "agent/ipc.h"
#include "agent/telemetry/ring.h"
#include "lib/loop.h"

#include <mesh/abi.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define WORKERS_MAP_FDS IPC_FD_RING /* descriptors of an INIT before the ring's */

struct workers;

struct queued {
	struct queued *next;
	struct ipc_msg msg;
	int fds[IPC_MAX_FDS];
	size_t nfds;
};

struct worker {
	struct workers *all;
	uint32_t id;
	pid_t pid; /* 0: not running */
	int pidfd, ipc;
	struct watch on_exit, on_ipc;
	struct timer respawn;
	bool ready;
	bool asked;    /* and has not answered yet */
	bool given_up; /* killed, its end is not seen yet */
	uint64_t started_ns, answered_ns;
	uint64_t generation;   /* of the snapshot that it works by; 0: none yet */
	uint32_t quick_deaths; /* in a row, each within a second of its start */
	int ring_fd;
	struct ring *ring;
	struct queued *first, **last; /* what its socket could not take yet */
	uint32_t nqueued;
};

struct workers_ops {
	void *arg;
	/* A process that does not serve yet: 0, or -errno: the kernel will notice its end late. */
	int (*started)(void *arg, uint32_t worker, int pidfd);
	void (*died)(void *arg, uint32_t worker);	      /* its gauges are to be zeroed */
	int (*socket)(void *arg, uint64_t netns, int family); /* a descriptor or -errno */
	void (*record)(const struct record *rec, void *arg);
};

struct workers_listener {
	uint32_t id, role;
	uint64_t netns;
	int fd;
};

struct workers {
	struct loop *loop;
	struct workers_ops ops;
	uint32_t n;
	struct worker w[MESH_MAX_WORKERS];
	int map_fds[WORKERS_MAP_FDS];
	uint32_t uid, gid;
	uint64_t instance;
	struct workers_listener *listeners;
	uint32_t nlisteners, listeners_cap;
	int snapshot_fd; /* -1: none yet */
	struct ipc_msg snapshot;
	uint64_t restarts, ring_corrupt, ring_lost;
	bool draining;
};

/* loop, ops, n, map_fds, uid, gid and instance are to be set before. Starts them; they get the
 * snapshot and the listeners as those come. 0 or -errno (nothing is left running). */
int workers_start(struct workers *ws);
/* Kills what still runs, without waiting for anything but its end. */
void workers_done(struct workers *ws);

int workers_listener(struct workers *ws, uint32_t id, enum ipc_listener_role role, uint64_t netns,
		     int fd);
void workers_listener_gone(struct workers *ws, uint32_t id);
void workers_snapshot(struct workers *ws, int fd, uint64_t generation, uint64_t size);

/* The generation that all who are ready work by, or a later one; UINT64_MAX when none is. */
uint64_t workers_generation(const struct workers *ws);
/* How many are ready and answer. */
uint32_t workers_answering(struct workers *ws);
/* Every 100 ms: asks for signs of life, ends those that hang, delivers what was queued. */
void workers_tick(struct workers *ws);
/* Delivers records to ops.record; returns how many. */
uint32_t workers_drain_rings(struct workers *ws);
/* Tells all to finish. */
void workers_drain(struct workers *ws, uint32_t millis);
uint32_t workers_running(const struct workers *ws);

#endif
