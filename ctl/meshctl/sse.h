/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Server-sent events (HTML standard, 9.2), taken in pieces of any size. Used by tap and log. Pure.
 * Ids and retry times are passed over: who reads here decides that itself.
 */
#ifndef CTL_MESHCTL_SSE_H
#define CTL_MESHCTL_SSE_H

#include "lib/buf.h"

#include <stdint.h>

#define SSE_EVENT_MAX (1u << 20) /* bytes of one event; a longer one is dropped and counted */

struct sse {
	/* event: its name, "message" when it has none; data ends with NUL. Anything but 0 ends. */
	int (*fn)(const char *event, const char *data, size_t len, void *arg);
	void *arg;
	struct buf line, data;
	char event[32];
	bool has_data, after_cr;
	uint64_t dropped;
};

void sse_init(struct sse *s, int (*fn)(const char *, const char *, size_t, void *), void *arg);
void sse_done(struct sse *s);
/* The stream begins anew: half an event of before is forgotten. */
void sse_reset(struct sse *s);
/* 0, or what fn returned. */
int sse_feed(struct sse *s, const char *bytes, size_t n);

#endif
