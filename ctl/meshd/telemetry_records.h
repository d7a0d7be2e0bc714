/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The records behind the JSON of a body of /api/telemetry (docs/telemetry.md, "Records"): found and
 * checked where they are, without a copy. Called by api_telemetry.c; pure.
 */
#ifndef MESHD_TELEMETRY_RECORDS_H
#define MESHD_TELEMETRY_RECORDS_H

#include "ctl/meshd/schema.h"
#include "lib/record_batch.h"

#define TELEMETRY_BATCHES_MAX 256 /* in a body; an agent sends at most 64 */

struct telemetry_records {
	struct record_batch_view *batches; /* they point into the body; telemetry_records_done() */
	size_t n;
	uint64_t skipped; /* records of batches that have another layout than ours */
};

/* How many bytes of a body are its JSON: those before the first NUL. */
size_t telemetry_json_len(const char *body, size_t len);
/* The batches behind it, all of that node; those of another layout are passed over. 0; -EINVAL with
 * *e: which one is wrong, and how; -ENOMEM. body: at a multiple of 8. */
int telemetry_records(const char *body, size_t len, const char *node, struct telemetry_records *out,
		      struct schema_error *e);
void telemetry_records_done(struct telemetry_records *r);

#endif
