/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between the supervisor and a worker: one SOCK_SEQPACKET pair per worker, one struct ipc_msg a
 * packet, descriptors beside it by SCM_RIGHTS. The supervisor re-executes its own binary as
 * `mesh-agent worker`, with the socket as descriptor IPC_FD and nothing else open but 0, 1 and 2.
 *
 * Order matters and is relied on: a snapshot that names a service is sent before any map lets a
 * connection for it in, so a worker that meets an unknown service reads its socket once and knows
 * it.
 */
#ifndef AGENT_IPC_H
#define AGENT_IPC_H

#include <stdint.h>
#include <stddef.h>

#define IPC_FD	    3
#define IPC_MAX_FDS 16

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83 /* Linux 6.16 */
#endif

enum ipc_kind {
	/* supervisor to worker */
	IPC_INIT = 1, /* first: fds[] in the order of enum ipc_init_fd */
	IPC_LISTENER, /* one listening socket; shared by all workers, watch it with EPOLLEXCLUSIVE
		       */
	IPC_LISTENER_GONE, /* close listener `id`; connections accepted from it go on */
	IPC_SNAPSHOT,	   /* a sealed memfd, see control/snapshot.h; replaces the one before */
	IPC_SOCKET,	   /* answer to IPC_WANT_SOCKET: a socket, or none and `error` */
	IPC_DRAIN,	   /* accept nothing more, finish what runs within `millis`, exit 0 */
	/* worker to supervisor */
	IPC_READY,	   /* privileges are gone, the loop runs; `pid` */
	IPC_SNAPSHOT_USED, /* `generation` is in force */
	IPC_WANT_SOCKET,   /* an unconnected non-blocking TCP socket inside namespace `netns` */
	IPC_PING,	   /* supervisor to worker, which sends it back: it lives and gets on */
	/* supervisor to worker: it leaves now, see `hold_on` */
	IPC_HOLD_ON,
	/* a worker and a supervisor that did not start it (rendezvous.h) */
	IPC_HELLO, /* worker: who it is; its first word */
	IPC_TELL,  /* supervisor: which listeners, from number `from` on? */
	IPC_HOLDS, /* worker: these */
	/* between two supervisors (leave.h) */
	IPC_LEAVE,   /* somebody is there to take over */
	IPC_LEAVING, /* so be it; with the listener for metrics, if there is one */
	IPC_STAYING, /* not now */
	/* worker to supervisor: RING_CALL bytes of records wait. Nobody counts on it: a worker or a
	 * supervisor of before does not know it */
	IPC_RECORDS,
};

/* Of IPC_HELLO. One who speaks another version is told IPC_DRAIN and given sockets, no more. What
 * these two need, and the size of a message, are the same in all versions. */
#define IPC_VERSION	  1
#define IPC_MESSAGE	  64
#define IPC_HOLDS_MAX	  12
#define IPC_HOLDS_GATEWAY 0x80000000u /* in fd[]: its role, else IPC_CAPTURE */

enum ipc_init_fd {
	IPC_FD_CTL, /* BPF arrays, to be mapped read-only: */
	IPC_FD_UPSTREAMS,
	IPC_FD_SLOTS,
	IPC_FD_ENDPOINTS,
	IPC_FD_EP_STATS, /* BPF arrays, to be mapped read-write: */
	IPC_FD_EP_INFLIGHT,
	IPC_FD_UP_STATS,
	IPC_FD_SVC_STATS,
	IPC_FD_SVC_INFLIGHT,
	IPC_FD_EDGES,
	IPC_FD_BEATS,
	IPC_FD_ORIGDST,	   /* read-only map descriptor, kept for BPF_MAP_LOOKUP_ELEM */
	IPC_FD_RING,	   /* memfd of this worker's telemetry ring, telemetry/ring.h */
	IPC_FD_RENDEZVOUS, /* bound, for the worker to listen on: rendezvous.h */
	IPC_INIT_FDS,
};

enum ipc_listener_role { IPC_CAPTURE, IPC_GATEWAY };

struct ipc_msg {
	uint32_t kind;
	union {
		struct {
			uint32_t worker; /* 0 .. workers - 1: this worker's gauge */
			uint32_t workers;
			uint32_t uid, gid; /* whom to become; 0: stay (not started as root) */
			uint64_t instance; /* random; makes request ids unique */
			uint64_t ring_size;
			uint32_t drain_ms;    /* what runs may take so long when it ends alone */
			uint32_t maps;	      /* which they are, see hello */
			uint32_t trace_limit; /* of all workers, a second; 0: none */
			uint32_t unobserved;  /* 1: nothing is recorded and nothing traced */
		} init;
		struct {
			uint32_t id;
			uint32_t role;	   /* enum ipc_listener_role */
			uint64_t netns;	   /* cookie of the namespace it is in */
			uint32_t after_ms; /* not before: others empty its queue */
		} listener;
		struct {
			uint64_t generation;
			uint64_t size;
		} snapshot;
		struct {
			uint64_t request; /* the worker's, echoed */
			uint64_t netns;
			uint32_t family; /* AF_INET or AF_INET6 */
			int32_t error;	 /* 0 or -errno */
		} socket;
		struct {
			uint32_t millis;
			uint32_t others; /* 1: others accept from the same listeners */
		} drain;
		struct {
			uint32_t grace_ms; /* until it drains by itself, if nobody comes */
			uint32_t drain_ms;
		} hold_on;
		struct {
			uint32_t version; /* IPC_VERSION */
			uint32_t worker;  /* its gauge */
			uint32_t listeners;
			int32_t ring_fd; /* as the worker numbers it: pidfd_getfd() */
			uint64_t ring_size;
			uint32_t draining; /* 1: it has no listeners any more */
			uint32_t maps;	   /* that it works by: the kernel's id of the first */
		} hello;
		struct {
			uint32_t from, n, fd[IPC_HOLDS_MAX];
		} holds; /* IPC_TELL: `from` */
		struct {
			int32_t pid;
		} ready;
		uint8_t room[IPC_MESSAGE - 8];
	};
};
_Static_assert(sizeof(struct ipc_msg) == IPC_MESSAGE, "supervisors and workers of any version");

/* Sends one message with nfds descriptors (they stay the caller's). 0; -EAGAIN when the peer's
 * queue is full; -EPIPE when it is gone. Never blocks. */
int ipc_send(int fd, const struct ipc_msg *msg, const int *fds, size_t nfds);

/* Receives one message. 1 with *msg and *nfds descriptors in fds[IPC_MAX_FDS] (now the caller's,
 * close-on-exec); 0 when there is none now; -EPIPE when the peer is gone; -EPROTO for a packet of
 * another form; -EMFILE when descriptors beside it were lost for want of room: it is lost too. */
int ipc_recv(int fd, struct ipc_msg *msg, int *fds, size_t *nfds);

#endif
