/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory of the tail decision: traces whose other spans agents are asked for, and spans that
 * wait for what becomes of their trace. Both are bounded, in number, bytes and time. Used by
 * traces.c; now_ms is monotonic.
 */
#ifndef MESHD_TRACES_TAIL_H
#define MESHD_TRACES_TAIL_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TAIL_HELD_MAX	4096
#define TAIL_HELD_BYTES (4u << 20)
#define TAIL_HELD_MS	5000
#define TAIL_NODES_MAX	1024
#define TAIL_AGAIN_MS	1000 /* a node is told everything again: answers get lost */

struct tail;

/* 0; -ENOMEM, -EIO: no random numbers. */
int tail_new(struct tail **out);
void tail_free(struct tail **t);

/* Asks for a trace, from now on for TRACES_WANT_MS. false: too many are asked for. */
bool tail_ask(struct tail *t, const uint8_t key[16], uint64_t now_ms);
/* Adds to the array what that node has not been told of lately. */
void tail_tell(struct tail *t, const char *node, uint64_t now_ms, cJSON *array);

/* Keeps a copy of the span for a while. Returns how many spans (this one or older ones) had to go
 * for it. */
unsigned tail_hold(struct tail *t, const uint8_t key[16], const cJSON *span, const char *node,
		   uint64_t now_ms);
/* Takes a held span of that trace out: its JSON text is the caller's to free, node is 64 bytes.
 * NULL: there is none. */
char *tail_release(struct tail *t, const uint8_t key[16], char *node);
/* Forgets what has waited for too long; returns how many spans. */
unsigned tail_sweep(struct tail *t, uint64_t now_ms);
unsigned tail_held(const struct tail *t);

#endif
