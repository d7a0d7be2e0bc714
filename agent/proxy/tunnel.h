/* SPDX-License-Identifier: Apache-2.0 */
/* An exchange that is not HTTP: bytes both ways, and the time before it is known whether it is.
 * Tunnels have no idle timeout: what is silent for a day is the two ends' business; TCP keep-alive
 * finds those that are gone. */
#ifndef PROXY_TUNNEL_H
#define PROXY_TUNNEL_H

#include "agent/proxy/exchange.h"

/* Nothing is known of the protocol yet: opens the connection, so that a side that waits for the
 * other to speak is not kept waiting. */
void tunnel_detect(struct exchange *ex);
/* Has the endpoint spoken first (or closed)? */
bool tunnel_spoken_to(const struct exchange *ex);
/* Nobody has spoken: if the endpoint could not be reached, tries another. */
void tunnel_detect_on(struct exchange *ex);
/* The timer of an exchange in EX_DETECT or EX_TUNNEL has fired: the endpoint was not reached in
 * time, or there is none and the caller keeps silent. */
void tunnel_due(struct exchange *ex);

/* Not HTTP: from now on bytes only. */
void tunnel_begin(struct exchange *ex);
/* Does what can be done in EX_TUNNEL. */
void tunnel_run(struct exchange *ex);

#endif
