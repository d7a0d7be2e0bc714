/* SPDX-License-Identifier: Apache-2.0 */
/* Which upstream an exchange is for, and what of its path is the gateway's. Called by exchange.c.
 */
#ifndef PROXY_ROUTE_H
#define PROXY_ROUTE_H

#include "agent/proxy/exchange.h"

/* Fills service, upstream, target, path_skip, and, by the first route that matches or else the
 * service, timeouts, retry and routed, from the request's head (at `head`).
 * CAUSE_NONE, or why there is none. A captured connection's upstream was decided by the address the
 * caller connected to; the gateway's by, in this order: /SERVICE/rest, /api/SERVICE/rest, Host:
 * SERVICE.mesh, the default service. */
enum mesh_cause route_request(struct exchange *ex, const char *head);

/* The same for a connection of which nothing is known but ex->upstream. */
bool route_tunnel(struct exchange *ex);

#endif
