/* SPDX-License-Identifier: Apache-2.0 */
/* What is written down of an exchange, for access log, metrics and spans: one record in this
 * worker's ring. */
#ifndef PROXY_RECORD_H
#define PROXY_RECORD_H

#include "agent/proxy/exchange.h"

/* Keeps of the request's head what the record will need, and settles the request id: the caller's
 * if it sent a usable one (1 to 128 of A-Z a-z 0-9 . _ - : / + = @), else a new one. */
void record_request(struct exchange *ex, const char *head);

/* A try begins; it is over, by that cause or with an answer (ex->status); it was none. Harmless
 * without one under way, as far as it ends. */
void record_try(struct exchange *ex);
void record_try_over(struct exchange *ex, enum mesh_cause cause);
void record_no_try(struct exchange *ex);

/* The exchange is over. */
void record_exchange(struct exchange *ex);

#endif
