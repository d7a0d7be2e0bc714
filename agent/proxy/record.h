/* SPDX-License-Identifier: Apache-2.0 */
/* What is written down of an exchange, for access log, metrics and later spans: one record in this
 * worker's ring. */
#ifndef PROXY_RECORD_H
#define PROXY_RECORD_H

#include "agent/proxy/exchange.h"

/* Keeps of the request's head what the record will need, and settles the request id: the caller's
 * if it sent a usable one (1 to 128 of A-Z a-z 0-9 . _ - : / + = @), else a new one. */
void record_request(struct exchange *ex, const char *head);

/* The exchange is over. */
void record_exchange(const struct exchange *ex);

#endif
