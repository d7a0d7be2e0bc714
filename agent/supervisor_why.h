/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Explanations of what the mesh answered itself: from a worker's record to what meshd keeps, sent
 * with the next batch of telemetry. Called by supervisor.c.
 */
#ifndef AGENT_SUPERVISOR_WHY_H
#define AGENT_SUPERVISOR_WHY_H

#include "agent/telemetry/ring.h"
#include "lib/buf.h"

struct supervisor;

void why_send(struct supervisor *s, const struct record_why *rec);

/* One record as meshd shows it, appended to b. */
void why_json(struct supervisor *s, const struct record_why *rec, struct buf *b);

#endif
