/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between two supervisors of one run-dir: the one that runs listens on RUN_DIR/agent.sock, and the
 * next asks it there to leave. Only root (who runs the agent) is heard. What leaving means is
 * supervisor_handover.c's.
 */
#ifndef AGENT_LEAVE_H
#define AGENT_LEAVE_H

#include "lib/loop.h"

#include <stdbool.h>

struct leave {
	struct loop *loop;
	struct watch on_call, on_word;
	int fd, peer; /* -1: none */
	void *arg;
	/* Somebody takes over. True: so be it, and *fd, a descriptor for him (it stays the
	 * caller's) or -1. */
	bool (*asked)(void *arg, int *fd);
};

/* Listens; loop, arg and asked are to be set before. The lock of run_dir must be held: whatever
 * has the socket's name is a dead agent's. 0 or -errno. */
int leave_init(struct leave *l, const char *run_dir);
/* The socket's name stays, for the successor. */
void leave_done(struct leave *l);

/* When there will be no successor. */
void leave_remove(const char *run_dir);

/* The other side: asks the agent of run_dir to leave and waits, wait_ms at most, until its process
 * has ended. 0, and in *fd what it gave (-1: nothing); -ENOENT: nobody is there; -EBUSY: it stays;
 * -ETIMEDOUT: it says nothing, or does not end; -errno. */
int leave_ask(const char *run_dir, int wait_ms, int *fd);

#endif
