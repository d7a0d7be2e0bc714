/* SPDX-License-Identifier: Apache-2.0 */
/* Between worker.c and worker_alone.c; included by nobody else. */
#ifndef AGENT_WORKER_IMPL_H
#define AGENT_WORKER_IMPL_H

#include "agent/ipc.h"
#include "agent/proxy/proxy.h"

#include <sys/types.h>

struct worker {
	struct proxy proxy;
	struct watch ipc;
	struct timer beat;
	uint64_t beat_ns;  /* the last one */
	uint64_t begin_ns; /* others accept until then */
	void (*after)(struct loop *l);
	struct timer drain;
	uint64_t drain_until_ms;
	uint32_t most_clients, nlisteners;
	bool called; /* the supervisor, to read our records: they have not become few since */
	int spare;   /* a descriptor kept free for the next message; -1: there was no room */
	int error;   /* why it ends before it was told to */

	/* worker_alone.c; proxy.ipc_fd is -1 while there is no supervisor */
	struct watch rendezvous, on_signal;
	struct timer hold;
	int rendezvous_fd, ring_fd, signal_fd;
	uid_t superior; /* whom a supervisor is to be */
	uint64_t ring_size, alone_since_ms;
	uint64_t term_ms;	/* the last SIGTERM; 0: none */
	uint64_t hold_until_ms; /* it drains then, if nobody has taken over; 0: it waits for ever */
	uint32_t maps;		/* which they are, for who takes over */
	uint32_t drain_ms;	/* what runs may take so long, with nobody there to say */
};

/* worker.c */
int worker_send(struct proxy *p, const struct ipc_msg *m); /* -EPIPE: nobody is there */
/* patient: what is idle stays open to the last. others: who accept from the same listeners. */
void worker_drain(struct worker *w, uint32_t millis, bool patient, bool others);
void worker_on_ipc(struct watch *w, uint32_t events);

/* worker_alone.c */
/* Listens for who takes over, and for SIGTERM; before privileges go. 0 or -errno. */
int alone_init(struct worker *w, int rendezvous_fd, uint32_t drain_ms);
/* Watches for them; after. */
int alone_start(struct worker *w);
/* The supervisor is gone: serves on with what is known. */
void alone_serve(struct worker *w);
/* May an answer of a supervisor still be hoped for? */
bool alone_hopes(const struct worker *w);
/* A supervisor said something. */
void alone_no_more(struct worker *w, uint32_t kind);
void alone_hold_on(struct worker *w, uint32_t grace_ms, uint32_t drain_ms);
void alone_tell(struct worker *w, uint32_t from);

#endif
