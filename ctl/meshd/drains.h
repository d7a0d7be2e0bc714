/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Endpoints that get no new requests because somebody said so. Kept in the store: a restart of
 * meshd must not send traffic to what is being taken away. An endpoint that has been gone for
 * DRAINS_GONE_MS is forgotten, so that its successor of the same name starts afresh. Called by
 * api_drains.c, poll.c and once a second by meshd.c; time is the caller's, monotonic.
 */
#ifndef MESHD_DRAINS_H
#define MESHD_DRAINS_H

#include "ctl/meshd/registry.h"
#include "ctl/meshd/store.h"
#include "lib/buf.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>

#define DRAINS_MAX     4096
#define DRAINS_GONE_MS 60000

struct drain;

struct drains {
	struct store *store;
	struct drain *first;
	unsigned number;
};

/* Reads the store, which stays the caller's. 0 or -errno; drains_done() is due in any case. */
int drains_init(struct drains *d, struct store *s);
void drains_done(struct drains *d);

/* *changed: it was not drained yet. 0; -ENOSPC; -ENOMEM; else as in store.h. */
int drains_add(struct drains *d, const char *service, const char *endpoint, const char *author,
	       bool *changed);
/* -ENOENT: it is not drained; else as in store.h. */
int drains_remove(struct drains *d, const char *service, const char *endpoint);
/* Forgets who has not been among the endpoints (of the registry) for DRAINS_GONE_MS. How many went,
 * or -errno. */
int drains_sweep(struct drains *d, const struct endpoint *all, int n, uint64_t now_ms);

/* [{"service","endpoint","author"}]; NULL without memory. */
cJSON *drains_list(const struct drains *d);
/* Appends [{"service","endpoint"}]. */
void drains_tell(const struct drains *d, struct buf *b);

#endif
