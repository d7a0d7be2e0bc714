/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worker processes as the supervisor sees them: started, told (ipc.h), watched, replaced; and
 * those of a supervisor before it, which serve until they are retired. Remembers everything that a
 * worker must know, so that a new one learns it in the right order. Descriptors given to it stay
 * the caller's and must live until the matching _gone or the next snapshot.
 */
#ifndef AGENT_SUPERVISOR_WORKERS_H
#define AGENT_SUPERVISOR_WORKERS_H

#include "agent/ipc.h"
#include "agent/rendezvous.h"
#include "agent/telemetry/ring.h"
#include "lib/loop.h"

#include <mesh/abi.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define WORKERS_MAP_FDS IPC_FD_RING	   /* descriptors of an INIT before the ring's */
#define WORKERS_MAX	MESH_KERNEL_WORKER /* old and new ones together: each has a gauge */

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
	bool ours;     /* the place is one of the n: who ends there is replaced */
	bool old;      /* started by a supervisor before us */
	bool stranger; /* an old one of another version: it is told to drain, no more */
	bool retired;  /* an old one that was told to drain */
	bool ready;
	bool asked;    /* and has not answered yet */
	bool given_up; /* killed, its end is not seen yet */
	uint64_t started_ns, answered_ns;
	uint64_t end_by_ns; /* of a retired one */
	uint64_t instance;
	char name[RENDEZVOUS_NAME_MAX]; /* of its rendezvous socket */
	uint64_t generation;		/* of the snapshot that it works by; 0: none yet */
	uint32_t quick_deaths;		/* in a row, each within a second of its start */
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
	/* requests whose records found no room */
	void (*counted)(const struct tally_sum *sum, void *arg);
	void (*waiting)(void *arg); /* a ring fills up: workers_drain_rings() is due */
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
	struct worker w[WORKERS_MAX]; /* by gauge */
	int map_fds[WORKERS_MAP_FDS];
	uint32_t maps; /* the kernel's id of the first; 0: not known */
	uint32_t uid, gid;
	uint32_t drain_ms;    /* what runs may take so long when its worker is to end */
	uint32_t trace_limit; /* traces of which they may begin to sample so many a second; 0: all
			       */
	bool unobserved;      /* they record nothing and trace nothing */
	uint64_t instance;    /* random: of the first worker; the others count on */
	uint64_t started;
	int rendezvous;	   /* the directory */
	bool holding_back; /* ours are not told of listeners yet: others accept there */
	uint64_t begin_ns; /* then ours accept, once they are told */
	struct workers_listener *listeners;
	uint32_t nlisteners, listeners_cap;
	int snapshot_fd; /* -1: none yet */
	struct ipc_msg snapshot;
	uint64_t restarts, ring_corrupt;
	uint64_t ring_lost[WORKERS_MAX];  /* of rings that are gone, by gauge */
	uint64_t unsampled, whys_skipped; /* likewise, of all */
	bool draining;
};

/* First of all, on a zeroed one. */
void workers_init(struct workers *ws);
/* loop, ops, n, map_fds, uid, gid, drain_ms, maps, instance and rendezvous are to be set before.
 * Starts them, or as many as have a place beside those of before; they get the snapshot and the
 * listeners as those come. 0 or -errno (nothing of ours is left running). */
int workers_start(struct workers *ws);
/* Kills what still runs, without waiting for anything but its end; those of before are let go,
 * unless they were told to drain with all the others. */
void workers_done(struct workers *ws);
/* How many of the n have a place. */
uint32_t workers_ours(const struct workers *ws);

/* --- supervisor_workers_old.c --- */

/* A worker of a supervisor before us. */
struct workers_old {
	char name[RENDEZVOUS_NAME_MAX];
	pid_t pid;
	int pidfd, ipc, ring_fd; /* ring_fd -1: there is none that can be read */
	uint32_t id;
	uint32_t listeners, maps; /* as it says; maps 0: it does not. listeners 0: it accepts
				     nothing more */
	bool stranger;
};
void workers_old_close(const struct workers_old *o);
/* Becomes its supervisor; takes its descriptors over (also on failure). 0 or -errno: it goes
 * on without us. */
int workers_adopt(struct workers *ws, const struct workers_old *o);
/* Before workers_start(): when those of before have nearly all places, some of them drain at once.
 */
void workers_make_room(struct workers *ws);
/* Tells those of before to drain. */
void workers_retire(struct workers *ws);
/* How many of them there are. */
uint32_t workers_old_ones(const struct workers *ws);
/* Are all that could be started ready? */
bool workers_all_ready(const struct workers *ws);
/* Tells ours of the listeners that were held back. They accept after_ms from now. */
void workers_release(struct workers *ws, uint32_t after_ms);
/* We go, they stay: what they have recorded is read, and they are let go. grace_ms: they drain
 * when nobody has come for them by then; 0: they wait for ever. */
void workers_leave(struct workers *ws, uint32_t grace_ms);

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
/* Records that found no room in the rings of that gauge: they are counted, and no more. */
uint64_t workers_ring_lost(const struct workers *ws, uint32_t id);
/* Traces that were not sampled because there were too many of them. */
uint64_t workers_unsampled(const struct workers *ws);
/* Answers that were not explained because a ring was half full. */
uint64_t workers_whys_skipped(const struct workers *ws);
/* Tells all to finish. */
void workers_drain(struct workers *ws);
uint32_t workers_running(const struct workers *ws);

#endif
