/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GET /api/watch: long polls of agents, put aside until the revision or the serial of what was
 * ordered by hand moves on, somebody opens a tap, or POLL_MS have passed. All who wait get the same
 * text, made once for these numbers; while a fault is active, whose time is in it, no more than
 * POLL_FRESH_MS old.
 */
#ifndef MESHD_POLL_H
#define MESHD_POLL_H

#include "ctl/meshd/server.h"

#define POLL_MS	      30000
#define POLL_MAX      256 /* who may wait at the same time */

#define POLL_FRESH_MS 50

struct poll_hub {
	struct request *first, **last; /* oldest first */
	unsigned waiting;
	bool ending;		       /* nobody may wait any more */
	struct MHD_Response *response; /* of these numbers, NULL: none made yet */
	uint64_t revision, serial, taps, made_ms;
};

void poll_init(struct poll_hub *h);
void poll_done(struct poll_hub *h);
/* The handler. */
void poll_handle(struct request *r);
/* Answers everybody. */
void poll_wake(struct poll_hub *h);
/* Answers those whose time is up. */
void poll_sweep(struct poll_hub *h, uint64_t now_ms);

#endif
