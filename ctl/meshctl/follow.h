/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests as they pass, from GET /api/tap, until Ctrl-C: what tap and log -f share. Connects again
 * when meshd restarts and says so.
 */
#ifndef CTL_MESHCTL_FOLLOW_H
#define CTL_MESHCTL_FOLLOW_H

#include "ctl/meshctl/meshctl.h"

#include <cjson/cJSON.h>
#include <stdint.h>

struct follow {
	const char *path; /* /api/tap?... */
	/* Each time the stream is open, before its first request. 0, or anything to end. */
	int (*opened)(struct follow *f, bool again);
	/* A request: 0, or anything to end. The span is deleted afterwards. */
	int (*request)(struct follow *f, const cJSON *span);
	void *arg;
	/* what came of it */
	uint64_t lost; /* as meshd says: this reader or the way to it was too slow */
	uint64_t unreadable;
};

/* Returns the exit code, after a message: EXIT_OK when it was ended by SIGINT, SIGTERM, SIGHUP or a
 * callback; EXIT_UNREACHABLE when meshd was not there in the beginning. */
int follow_run(struct cli *cli, struct follow *f);

#endif
