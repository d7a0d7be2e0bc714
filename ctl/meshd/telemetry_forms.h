/* SPDX-License-Identifier: Apache-2.0 */
/* The form of a batch of /api/telemetry, and its series as meshd counts them. Called by
 * api_telemetry.c; pure. */
#ifndef MESHD_TELEMETRY_FORMS_H
#define MESHD_TELEMETRY_FORMS_H

#include "ctl/meshd/red/red.h"
#include "ctl/meshd/schema.h"

#define TELEMETRY_SPANS_MAX 16384 /* in a batch; of tapped ones as many */

/* A whole batch of docs/telemetry.md. One without a number (older agents) has no series. */
extern const struct schema telemetry_form;

/* Of a valid batch, whose strings it uses: *out->deltas is a new block, telemetry_batch_done().
 * 0; -EINVAL with *e: a histogram that is none; -ENOMEM. */
int telemetry_batch(const cJSON *body, struct red_batch *out, struct schema_error *e);
void telemetry_batch_done(struct red_batch *b);

#endif
