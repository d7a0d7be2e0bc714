/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Breaker commands given by hand, for the agents to carry out: the newest per service and endpoint,
 * HANDS_MAX of them. In memory: agents hold what they were told, a restart of meshd forgets it.
 * Called by api_breakers.c, poll.c and once a second by meshd.c.
 */
#ifndef MESHD_HANDS_H
#define MESHD_HANDS_H

#include "ctl/meshd/registry.h"
#include "lib/buf.h"

#include <stdbool.h>
#include <stdint.h>

#define HANDS_MAX     64
#define HANDS_GONE_MS 60000 /* an endpoint that is gone for so long takes its command with it */

enum hand_action { HAND_OPEN, HAND_CLOSE, HAND_RESET };

struct hand {
	uint64_t serial;
	char service[64], endpoint[64]; /* endpoint "": the service itself */
	enum hand_action action;
	uint64_t gone_ms; /* since when the endpoint is not there; 0: it is */
};

struct hands {
	struct hand list[HANDS_MAX]; /* oldest first */
	unsigned number;
};

const char *hand_word(enum hand_action a); /* "open", "close", "reset" */
/* Replaces what was said of the same service and endpoint before. serial grows from call to call.
 * When there are HANDS_MAX the oldest reset goes, since nothing is held by it; -ENOSPC when there
 * is none. endpoint may be NULL. */
int hands_add(struct hands *h, const char *service, const char *endpoint, enum hand_action action,
	      uint64_t serial);
/* Is it held open or closed? */
bool hands_held(const struct hands *h, const char *service, const char *endpoint);
/* Forgets the commands for endpoints that are gone. How many went. */
unsigned hands_sweep(struct hands *h, const struct endpoint *all, int n, uint64_t now_ms);
/* Appends [{"serial","service","endpoint"?,"action"}]. */
void hands_tell(const struct hands *h, struct buf *b);

#endif
