/* SPDX-License-Identifier: Apache-2.0 */
/* The records of a batch as the spans that they mean, in JSON. Header only. */
#ifndef TESTS_RECORDS_JSON_H
#define TESTS_RECORDS_JSON_H

#include "lib/json.h"
#include "lib/record_batch.h"

/* Appends them to the list; how many. The batch was checked. */
static inline unsigned records_json(const struct record_batch_view *v, cJSON *spans)
{
	const struct record *rec;
	struct span_names names;
	uint32_t at = 0;
	unsigned n = 0;
	struct buf b;

	for (; (rec = record_batch_next(v, &at)); n++) {
		buf_init(&b, SPAN_MAX);
		record_batch_span(v, rec, &names);
		span_json(rec, &names, record_batch_wall(v, rec->start_ns), &b);
		cJSON_AddItemToArray(spans, json_parse(b.data, b.len, NULL));
		buf_done(&b);
	}
	return n;
}

#endif
