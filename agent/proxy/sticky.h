/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sticky sessions: requests of one session go to one endpoint, as long as it is there and not
 * overloaded (include/mesh/sticky.h has the rule). What names the session is a header or a cookie;
 * a caller without the cookie gets one. Called by route.c when a request is routed, by balance.c
 * when an endpoint is drawn, by the codec for the answer.
 */
#ifndef PROXY_STICKY_H
#define PROXY_STICKY_H

#include "agent/proxy/balance.h"
#include "agent/proxy/exchange.h"

/* Fills ex->sticky from the request's head. A header that is not there leaves it empty: such a
 * request goes to anybody. */
void sticky_read(struct exchange *ex, const struct snapshot *snap, const struct snap_sticky *s,
		 const char *head);

/* The endpoint of the session `key` in the table, of those that may be called; MESH_NONE: none. */
uint32_t sticky_pick(struct proxy *p, const struct balance_want *want, const struct mesh_slots *t,
		     uint64_t key);

/* Set-Cookie for a caller that had none, with its line end. 0: none is due, or it does not fit. */
size_t sticky_set_cookie(const struct exchange *ex, char *out, size_t cap);

/* The value of that cookie in one Cookie field (RFC 6265 4.2.1); of several the first. false: it is
 * not there, or empty. */
bool sticky_cookie(const char *field, size_t len, const char *name, const char **value,
		   size_t *value_len);

#endif
