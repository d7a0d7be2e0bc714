/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long the caller waits, as it says itself: x-request-timeout-ms and grpc-timeout. Both can
 * only shorten the request timeout; what is left of it goes on with each try, so that a callee
 * three hops down knows. Called by exchange.c and the codec.
 */
#ifndef PROXY_DEADLINE_H
#define PROXY_DEADLINE_H

#include "agent/proxy/exchange.h"

/* Shortens ex->timeouts.request to what the request's head says; what makes no sense is ignored.
 * false: the caller has no time left at all, nobody need be asked. */
bool deadline_read(struct exchange *ex, const char *head);

/* ms left for the try that begins now, at least 1; 0: there is no request timeout. */
uint32_t deadline_left_ms(const struct exchange *ex);

/* Digits only, in ms; what is beyond uint32_t is UINT32_MAX. false: malformed. */
bool deadline_parse(const char *s, size_t len, uint32_t *ms);
/* gRPC over HTTP/2: 1 to 8 digits and one of H M S m u n; parts of a millisecond are rounded up. */
bool deadline_parse_grpc(const char *s, size_t len, uint32_t *ms);
#define DEADLINE_GRPC_MAX 16 /* bytes, NUL included */
/* The same form, NUL-terminated; never longer than ms. Returns its length. */
size_t deadline_format_grpc(uint32_t ms, char out[DEADLINE_GRPC_MAX]);

#endif
