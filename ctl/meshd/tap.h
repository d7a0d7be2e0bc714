/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who watches requests go by: GET /api/tap, a stream of server-sent events. Agents are told the
 * filters and send only what fits one of them, so a tap that nobody has open costs nothing. Each
 * tap has a bounded buffer; what a slow reader leaves no room for is dropped and counted, and the
 * reader is told by an event `lost`.
 */
#ifndef MESHD_TAP_H
#define MESHD_TAP_H

#include "lib/buf.h"
#include "lib/loop.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>

#define TAP_MAX	       32	    /* at the same time */
#define TAP_BUFFER_MAX (512u << 10) /* bytes that wait for a reader */
#define TAP_EVENT_MAX  (64u << 10)  /* of one event; a longer one is dropped and counted */
#define TAP_BEAT_MS    3000	    /* a comment after so long without an event */
#define TAP_WAKE_MS    50 /* agents are told of new taps so long after the first of them */
#define TAP_TRACE_MAX  64

struct tap;
struct tap_hub;

/* "" and 0: whatever it is. */
struct tap_filter {
	char service[64], source[64], trace[TAP_TRACE_MAX + 1];
	uint64_t min_ms;
	bool error; /* nothing else */
};

struct tap_stats {
	unsigned open;
	uint64_t events, lost; /* since the start */
};

/* serial: taps are numbered from there on. told: agents are to be told of the list now; arg is
 * its. 0 or -ENOMEM. */
int tap_hub_new(struct loop *l, uint64_t serial, void (*told)(void *arg), void *arg,
		struct tap_hub **out);
/* All taps must have been closed. NULL is fine. */
void tap_hub_free(struct tap_hub **h);

/* What an agent sent as `tapped`: [{"tap":3,"span":{...}}], or {"tap":3,"lost":12} for what fitted
 * and could not be sent. NULL, unknown taps and whatever else it is are passed over. */
void tap_take(struct tap_hub *h, const cJSON *tapped);
/* Adds what is being watched to an array: {"tap":3,"service":"backend","error":false,"minMs":0},
 * with "source" and "trace" when they were asked for. */
void tap_list(const struct tap_hub *h, cJSON *array);
/* Of the list: another number whenever it is another list. */
uint64_t tap_serial(const struct tap_hub *h);
/* Once a second: comments that keep a quiet stream alive. */
void tap_sweep(struct tap_hub *h, uint64_t now_ms);
/* Every tap ends with what waits for its reader; new ones are refused from now on. */
void tap_end(struct tap_hub *h);
void tap_count(const struct tap_hub *h, struct tap_stats *out);

/* Opens a tap. ready: called when there is something to read after tap_read() gave nothing. 0, or
 * -ENOSPC with TAP_MAX open, -ESHUTDOWN after tap_end(), -ENOMEM. */
int tap_open(struct tap_hub *h, const struct tap_filter *f, void (*ready)(void *arg), void *arg,
	     struct tap **out);
void tap_close(struct tap **t);
/* Up to cap bytes of the stream: how many; 0: nothing now; -1: it has ended. */
long tap_read(struct tap *t, char *out, size_t cap);

#endif
