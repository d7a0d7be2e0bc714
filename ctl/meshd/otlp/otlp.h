/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Export of kept spans as OTLP/HTTP with JSON (opentelemetry-proto, ExportTraceServiceRequest) to a
 * collector or Jaeger, on a thread of its own. The loop only encodes a span and puts it into a
 * bounded queue; what does not fit is dropped and counted. The receiver may be slow, away or wrong
 * for as long as it likes.
 */
#ifndef MESHD_OTLP_H
#define MESHD_OTLP_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OTLP_QUEUE_MAX	 8192	      /* spans that wait */
#define OTLP_QUEUE_BYTES (16u << 20)  /* of them, encoded */
#define OTLP_BATCH	 512	      /* spans in a request */
#define OTLP_BATCH_MS	 2000	      /* that a span waits for others */
#define OTLP_SPAN_MAX	 (64u << 10)  /* bytes of one span */
#define OTLP_CALL_MS	 10000	      /* for one request and its answer */
#define OTLP_TRIES	 8	      /* of a batch */
#define OTLP_BACKOFF_MS	 500	      /* before the second try; doubles */
#define OTLP_BACKOFF_MAX 16000	      /* ms */
#define OTLP_AFTER_MAX	 (300 * 1000) /* ms: of Retry-After no more is believed */
#define OTLP_ANSWER_MAX	 (64u << 10)  /* bytes of an answer that are looked at */
#define OTLP_FLUSH_MS	 2000	      /* at the end */

struct otlp;

struct otlp_config {
	const char *endpoint; /* base URL: /v1/traces is added. http or https */
	const char *headers;  /* NAME=VALUE, by commas; NULL: none */
	/* 0: as above. For tests */
	uint64_t batch_ms, backoff_ms, call_ms;
};

struct otlp_stats {
	uint64_t exported; /* taken by the receiver */
	uint64_t rejected; /* refused one by one: partialSuccess */
	uint64_t failed;   /* given up, with the batch that they were in */
	uint64_t dropped;  /* never sent: the queue was full, or one could not be encoded */
	uint64_t retries;  /* requests sent again */
	unsigned queued;   /* spans, with those being sent */
};

/* Starts the thread. 0, or -EINVAL (the URL or a header), -ENOMEM, -EAGAIN, with a line for people
 * in why. */
int otlp_new(const struct otlp_config *c, struct otlp **out, char *why, size_t cap);
/* Sends what waits, for at most OTLP_FLUSH_MS. NULL is fine. */
void otlp_free(struct otlp **o);
/* A kept span (docs/telemetry.md), which stays the caller's. Never blocks. NULL is fine. */
void otlp_offer(struct otlp *o, const cJSON *span);
/* Would it take a span now? If not, one is counted as dropped: nobody has to make its JSON in vain.
 * NULL is fine: false. */
bool otlp_has_room(struct otlp *o);
/* One that the caller had no time to encode is counted as dropped. NULL is fine. */
void otlp_drop(struct otlp *o);
/* NULL is fine: nothing. */
void otlp_count(struct otlp *o, struct otlp_stats *out);

#endif
