/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GET /api/watch: long polls of agents, put aside until the revision moves on or POLL_MS have
 * passed. All who wait get the same text, made once per revision.
 */
#ifndef MESHD_POLL_H
#define MESHD_POLL_H

#include "ctl/meshd/server.h"

#define POLL_MS	 30000
#define POLL_MAX 256 /* who may wait at the same time */

struct poll_hub {
	struct request *first, **last; /* oldest first */
	unsigned waiting;
	bool ending;		       /* nobody may wait any more */
	struct MHD_Response *response; /* of `revision`, NULL: none made yet */
	uint64_t revision;
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
