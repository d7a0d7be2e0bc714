/* SPDX-License-Identifier: Apache-2.0 */
/* One request of the exporter, and what came of it. Used on its thread only, but for
 * sender_wake(). */
#ifndef MESHD_OTLP_SEND_H
#define MESHD_OTLP_SEND_H

#include "ctl/meshd/otlp/otlp.h"
#include "lib/buf.h"

#include <stdbool.h>

enum sent {
	SENT_TAKEN,
	SENT_AGAIN,   /* 429, 502, 503, 504, or no answer: worth another try */
	SENT_REFUSED, /* anything else */
	SENT_STOPPED, /* time was up */
};

struct verdict {
	enum sent what;
	uint64_t rejected; /* spans, of partialSuccess */
	uint64_t after_ms; /* of Retry-After; 0: none */
	char why[160];	   /* for the log, "" when all is well */
};

struct sender;

/* 0, or -EINVAL or -ENOMEM with a line in why. */
int sender_new(const struct otlp_config *c, struct sender **out, char *why, size_t cap);
void sender_free(struct sender **s);
/* Sends a body, and waits for the answer, until stop_ms (monotonic; looked at again after each
 * sender_wake()). */
void sender_send(struct sender *s, const struct buf *body, const _Atomic uint64_t *stop_ms,
		 struct verdict *v);
/* Waits, at most so long; sender_wake() ends it, also one that came before. */
void sender_wait(struct sender *s, uint64_t ms);
/* From any thread. */
void sender_wake(struct sender *s);

#endif
