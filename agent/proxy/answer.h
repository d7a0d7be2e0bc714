/* SPDX-License-Identifier: Apache-2.0 */
/* What the mesh answers itself, in the endpoint's stead. Called by whoever decides that there will
 * be no other answer. */
#ifndef PROXY_ANSWER_H
#define PROXY_ANSWER_H

#include "agent/proxy/exchange.h"

/* Composes the answer and moves to EX_ANSWER. status 0: the one that goes with the cause; text
 * NULL: likewise, "": no body. Where it cannot be composed, the caller is cut off. There must be no
 * try under way. */
void answer_locally(struct exchange *ex, enum mesh_cause cause, uint16_t status, const char *text);

#endif
