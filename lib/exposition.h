/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is served at /metrics. Every part of a program writes Prometheus' text format 0.0.4 with the
 * functions below; exposition_seal() then makes of the whole what the scraper asked for:
 * OpenMetrics 1.0.0, where a counter's family is without `_total` and exemplars may stand, and
 * gzip.
 */
#ifndef LIB_EXPOSITION_H
#define LIB_EXPOSITION_H

#include "lib/buf.h"

#include <stdbool.h>
#include <stdint.h>

struct exposition {
	bool openmetrics, gzip;
};

/* What a request with these headers gets; NULL: it has none. Who names OpenMetrics and wants it at
 * least as much as text gets it; everybody else gets text, also who wants neither. */
struct exposition exposition_choose(const char *accept, const char *accept_encoding);
/* By that header alone, for whatever else is served packed. */
bool exposition_accepts_gzip(const char *accept_encoding);
const char *exposition_type(const struct exposition *x); /* Content-Type */
/* Turns the whole text, of families that begin with exposition_head(), into what x says. A failure
 * (memory, limit) is text->failed. */
void exposition_seal(const struct exposition *x, struct buf *text);

/* The same in parts, each of whole lines, and none ends between the two of an exposition_head():
 * what is to be sent of a part is in *text afterwards. */
struct exposition_stream;
struct exposition_stream *
exposition_stream_new(const struct exposition *x); /* or NULL: no memory */
void exposition_stream_part(struct exposition_stream *e, struct buf *text, bool last);
void exposition_stream_free(struct exposition_stream **e); /* harmless twice */

/* What stands above the samples of a family. name: as the samples are called, a counter's with its
 * `_total`; type: "counter", "gauge", "histogram" or "summary". */
void exposition_head(struct buf *out, const char *name, const char *type, const char *help);
/* name="value" with value escaped. */
void exposition_label(struct buf *out, const char *name, const char *value);
/* A family of one sample without labels. */
void exposition_single(struct buf *out, const char *name, const char *type, const char *help,
		       double value);
/* Behind the value of a bucket or counter, for OpenMetrics only: a trace that was counted there,
 * its value, and when (ms since 1970). */
void exposition_exemplar(struct buf *out, const uint8_t trace_id[16], double value,
			 uint64_t time_ms);

/* process_*: what every Prometheus client tells of its own process. started: seconds since 1970. */
void exposition_process(struct buf *out, double started);

#endif
