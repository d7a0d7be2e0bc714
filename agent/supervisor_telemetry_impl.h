/* SPDX-License-Identifier: Apache-2.0 */
/* Between supervisor_telemetry.c, where things come in, and supervisor_telemetry_post.c, where they
 * go out. */
#ifndef AGENT_SUPERVISOR_TELEMETRY_IMPL_H
#define AGENT_SUPERVISOR_TELEMETRY_IMPL_H

#include "agent/supervisor_telemetry.h"

/* What was counted since the last time goes into the outbox. */
void telemetry_seal(struct supervisor *s);
/* Another second of the wall clock has begun. */
void telemetry_turn(struct supervisor *s);
/* meshd asks for the spans of a trace that nobody sampled. */
void telemetry_want(struct supervisor *s, const char *id);
/* What taps have missed goes into the outbox. */
void telemetry_tell_lost(struct supervisor *s);

#endif
