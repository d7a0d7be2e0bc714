/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gateway's listener, from one supervisor to the next. Where the address stays, the socket
 * does. Where it changes, the new one is opened beside the old one, which old workers still hold:
 * both may listen on one port if both allow it (SO_REUSEPORT), and the kernel prefers the narrower
 * address. So whoever connects finds somebody all the time. Where the new one cannot be opened, we
 * serve at the old one until it can.
 */
#ifndef AGENT_SUPERVISOR_GATEWAY_H
#define AGENT_SUPERVISOR_GATEWAY_H

#include <stdbool.h>
#include <stdint.h>

#define GATEWAYS_COVERED  4 /* in fact two: an address under 0.0.0.0, and that under [::] */

#define GATEWAY_ERROR_MAX 160

struct addr;
struct supervisor;

struct gateway {
	int fd; /* -1: none */
	/* listeners of before at addresses that ours covers: nobody can close one without cutting
	 * off who is connecting there, so they stay */
	int covered[GATEWAYS_COVERED];
	uint32_t ncovered;
	uint32_t nkept;	   /* of before, the takeover's, at which we serve until ours is open */
	bool due;	   /* to be opened yet */
	int error;	   /* why it cannot be: -errno; 0: it is not known that it cannot */
	uint64_t again_ns; /* not before */
	uint64_t open_ns;  /* since when it listens beside one of before; 0: it does not */
};

void gateway_init(struct gateway *g);
/* Before workers start. With workers of before, one at another address waits until all is ready.
 * 0 or -errno after it logged. */
int gateway_start(struct supervisor *s);
/* Once the workers have started: they get what there is. 0 or -errno. */
int gateway_tell(struct supervisor *s);
/* In each round in which everything is published: opens it if it is due, and tries again where it
 * cannot be. */
void gateway_go_on(struct supervisor *s);
/* Do all who connect reach the new one, so that the old ones can go? */
bool gateway_has_moved(const struct supervisor *s);
/* Where it serves: NULL: nowhere. */
const struct addr *gateway_at(const struct supervisor *s);
/* Why it is not where it should be; NULL: all is well. */
const char *gateway_error(const struct supervisor *s, char text[GATEWAY_ERROR_MAX]);
void gateway_close(struct supervisor *s);

#endif
