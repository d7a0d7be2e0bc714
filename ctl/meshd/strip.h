/* SPDX-License-Identifier: Apache-2.0 */
/*
 * meshd --trace-query strip: query strings, which may hold secrets, are taken out of what agents
 * and applications tell of requests, before anybody sees it. Pure.
 */
#ifndef MESHD_STRIP_H
#define MESHD_STRIP_H

#include "lib/record.h"

#include <cjson/cJSON.h>

/* Of a list of spans, tapped requests (whose span is their `span`) or explanations: `path` and
 * `operation` end before "?", as do the attributes (or tags) that hold a URL by OpenTelemetry's
 * conventions; `url.query` goes. Anything else, and what is no list, stays. */
void strip_queries(cJSON *list);
/* The same of a record, which stays as long as it is. */
void strip_record(struct record *rec);

#endif
