/* SPDX-License-Identifier: Apache-2.0 */
/* Which route of a service a request is on. Pure: looks at the compiled configuration and at the
 * parsed head, and at nothing else. Called by route.c. */
#ifndef PROXY_MATCH_H
#define PROXY_MATCH_H

#include "agent/control/snapshot.h"
#include "agent/proxy/http1.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The first route of the service, in its order, all of whose conditions hold, or NULL. The path is
 * as the callee sees it: without the first `skip` bytes, and without the query. */
const struct snap_route *match_route(const struct snapshot *snap, const struct snap_service *s,
				     const struct http1_head *h, const char *head, uint32_t skip);

/* path[len], without a query, against a pattern of that kind (enum snap_path). It is compared as it
 * was sent, escapes and all. A prefix ends where a segment does: /api is one of /api and /api/x,
 * not of /apix. */
bool match_path(uint32_t kind, const char *pattern, const char *path, size_t len);

/* Has query[len] (without the `?`) a parameter of that name and value, once escapes (%41) are
 * resolved? A `+` is a `+`; a parameter without `=` has the value "". */
bool match_query(const char *query, size_t len, const char *name, const char *value);

#endif
