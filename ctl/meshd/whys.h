/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why the mesh answered as it did: the explanations that agents send for the answers they made
 * themselves, found by request id or trace id. The last WHYS_MAX of WHYS_KEEP_MS, and no more than
 * WHYS_BYTES; what comes too many pushes out the oldest. In memory. Called by api_why.c and once a
 * second by meshd.c; time is the caller's, monotonic.
 */
#ifndef MESHD_WHYS_H
#define MESHD_WHYS_H

#include <cjson/cJSON.h>
#include <stddef.h>
#include <stdint.h>

#define WHYS_MAX     10000
#define WHYS_KEEP_MS (15 * 60 * 1000)
#define WHYS_BYTES   (32u << 20)
#define WHY_TEXT_MAX (16u << 10) /* of one */
#define WHY_ID_MAX   128	 /* bytes; a longer one is not kept */

struct whys;

int whys_new(struct whys **out);
void whys_free(struct whys **w);

/* Keeps one (the caller's) that has "id" and perhaps "traceId", as strings; one of the same id
 * before it goes. 0; -EMSGSIZE: too long; -ENOMEM. */
int whys_add(struct whys *w, const cJSON *why, uint64_t now_ms);
/* The newest of that request id, else of that trace id, as JSON; valid until the next whys_add or
 * whys_sweep. NULL: there is none. */
const char *whys_find(const struct whys *w, const char *id, uint64_t now_ms);
void whys_sweep(struct whys *w, uint64_t now_ms);
unsigned whys_number(const struct whys *w);

#endif
