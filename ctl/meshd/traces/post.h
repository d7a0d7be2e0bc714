/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What applications send, made spans of the form of docs/telemetry.md, which traces_take() takes.
 * Pure. Called by api_traces.c.
 */
#ifndef MESHD_TRACES_POST_H
#define MESHD_TRACES_POST_H

#include "ctl/meshd/schema.h"

#include <cjson/cJSON.h>

#define POST_SPANS_MAX	  2000 /* in a body */
#define POST_BODY_MAX	  (4u << 20)
#define POST_UNZIPPED_MAX (8u << 20)

/* The body of POST /api/spans, one span or a list: takes it over; a list comes back. NULL with *e:
 * unknown keys, missing ones, or bad values. */
cJSON *post_read(cJSON *body, struct schema_error *e);

/* The body of POST /v1/traces (ExportTraceServiceRequest in proto3's JSON): a new list. Spans that
 * make no sense are counted in *rejected, with what is wrong of the first in why. NULL with *e: it
 * is no such request; -- without a text: no memory. */
cJSON *otlp_read(const cJSON *body, unsigned *rejected, char *why, size_t cap,
		 struct schema_error *e);

/* 2026-11-22T15:20:32.123Z, also with +01:00: ms since 1970; -1: it is none. */
double iso_ms(const char *s);

/* Unpacks a body in gzip's or zlib's form of at most POST_UNZIPPED_MAX bytes. 0 with *out (free()),
 * -EMSGSIZE, -EINVAL, -ENOMEM. */
int unzip(const char *data, size_t len, char **out, size_t *out_len);

#endif
