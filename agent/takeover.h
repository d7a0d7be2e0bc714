/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a dead or departed supervisor left running: its workers, and through them its listening
 * sockets. Found at the start, before anything of ours serves. What a worker says of its
 * descriptors is not believed: each is looked at.
 */
#ifndef AGENT_TAKEOVER_H
#define AGENT_TAKEOVER_H

#include "agent/supervisor_workers.h"
#include "lib/addr.h"

struct takeover_listener {
	int fd; /* -1: given away */
	uint64_t cookie, netns;
	struct addr at;
	bool gateway;
};

struct takeover {
	struct workers_old old[WORKERS_MAX];
	uint32_t nold;
	struct takeover_listener *listeners;
	uint32_t nlisteners, cap;
};

/* Meets the workers whose sockets lie in that directory (rendezvous.h), wait_ms at most; removes
 * the sockets of dead ones, kills those that do not answer. 0 or -errno (nothing was taken). */
int takeover_find(struct takeover *t, int rendezvous, int wait_ms);
/* The listener there (the caller's from now on), or -1. netns 0: any. */
int takeover_listener(struct takeover *t, bool gateway, uint64_t netns, const struct addr *at);
/* A gateway's there that whoever listens on `by` hears too, likewise. */
int takeover_covered(struct takeover *t, uint64_t netns, const struct addr *by);
/* Lets others of this user listen on that port beside the gateways, or no more. How many there are.
 */
uint32_t takeover_share(struct takeover *t, uint64_t netns, uint16_t port, bool on);
/* The i-th gateway in that namespace that was not asked for, or NULL. */
const struct takeover_listener *takeover_gateway(const struct takeover *t, uint64_t netns,
						 uint32_t i);
/* Gives up the gateways that were not asked for. */
void takeover_forget_gateways(struct takeover *t);
/* Gives up all listeners that were not asked for. */
void takeover_forget(struct takeover *t);
/* The same for all that is left. Those in old[] are given to workers_adopt() before. */
void takeover_done(struct takeover *t);

#endif
