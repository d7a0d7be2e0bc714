/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One span as it comes in, as JSON in the form of docs/telemetry.md or as an agent's record
 * (lib/record_batch.h), taken apart as far as the store has to know it; whoever stores it does not
 * care which it was. Pure. Used by traces.c; post.c and otlp_in.c make spans of this form of what
 * applications send.
 */
#ifndef MESHD_TRACES_SPAN_H
#define MESHD_TRACES_SPAN_H

#include "lib/buf.h"
#include "lib/record_batch.h"
#include "lib/trace_id.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>

#define SPAN_ID_MAX	   64
#define SPAN_BODY_MAX	   (8u << 10) /* bytes of one in the store */
#define SPAN_ALIASES_MAX   8
#define SPAN_OPERATION_MAX 512
#define SPAN_TIME_MAX	   253402300799999.0 /* ms: the year 9999 */
#define SPAN_DURATION_MAX  (366.0 * 86400e3) /* ms */

struct span {
	uint8_t key[16];   /* what its trace id stands for */
	const char *trace; /* the id as the caller chose it; strings belong to the JSON or room */
	const char *aliases[SPAN_ALIASES_MAX]; /* other ids, the hex form among them or not */
	unsigned naliases;
	const char *id, *parent, *service, *source, *operation; /* "": not said */
	int64_t start_us, duration_us;
	int status;
	bool error, sampled, slow;
	bool cut_off;	  /* its answer began well, and was not brought to its end */
	const char *node; /* of the agent; NULL: an application's own */
	uint64_t came_ms; /* as the recorder has it, wall clock; 0: it comes just now */
	bool again;	  /* it is there no more, but was a row already */
	/* the whole of it, one of the two */
	const cJSON *json;
	const struct record *record;
	const struct record_batch_view *batch; /* of the record */
};

/* What the strings of a record's span are kept in. */
struct span_room {
	char trace[SPAN_ID_MAX + 1], hex[33], id[17], parent[SPAN_ID_MAX + 1];
	char aliases[TRACE_ALIAS_MAX + SPAN_ALIASES_MAX];
	char operation[SPAN_OPERATION_SIZE];
};

/* 0, or -EINVAL: it makes no sense. node NULL: an application sent it, which is as good as sampled.
 */
int span_read(const cJSON *json, const char *node, struct span *out);
/* The same of a record, which says of itself whether it is sampled: the span that span_read() would
 * make of span_json(). The result points into batch, record and room. */
int span_of_record(const struct record_batch_view *batch, const struct record *record,
		   struct span_room *room, struct span *out);
/* Is it, and with it the rest of its trace, kept? */
bool span_keeps_trace(const struct span *s);
/* What the store keeps as text: its members with a comma before each, without those that have a
 * column of their own or belong to the trace. -EMSGSIZE: more than SPAN_BODY_MAX. */
int span_body(const struct span *s, struct buf *out);

/* A record's span as JSON, the caller's to delete; NULL: no memory. */
cJSON *span_of_record_json(const struct record_batch_view *batch, const struct record *record);

/* The 32 hex digits of a key; out[33]. Returns out. */
const char *span_hex(const uint8_t key[16], char *out);
bool span_is_hex(const char *trace, const uint8_t key[16]); /* is the name just its digits? */

/* The shortest text that reads back as the same number, into out[32]; returns out. */
const char *span_number(double v, char *out);

#endif
