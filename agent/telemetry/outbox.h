/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What waits to be sent to meshd, and the batch that is on its way: the bodies of
 * docs/telemetry.md ("From agent to meshd"). A batch has its number for good and goes again,
 * unchanged, until meshd has taken or refused it (once without its records). Everything is bounded:
 * of seconds, spans and tapped requests the oldest are dropped, of explanations the newest, and
 * counted. Spans are records, in batches (lib/record_batch.h), and are made JSON for a meshd only
 * that does not take these; all the rest comes as JSON. Knows no network and reads no clock.
 */
#ifndef AGENT_TELEMETRY_OUTBOX_H
#define AGENT_TELEMETRY_OUTBOX_H

#include "lib/record.h"
#include "lib/span_json.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

enum outbox_kind { OUTBOX_SERIES, OUTBOX_SPANS, OUTBOX_TAPPED, OUTBOX_WHYS, OUTBOX_KINDS };
const char *outbox_kind_name(enum outbox_kind k); /* "series", ... */

#define OUTBOX_SERIES_KEEP_MS 120000
#define OUTBOX_BATCH_SPANS    1000 /* as JSON: meshd's loop is busy with them for some 80 ms */
#define OUTBOX_BATCH_RECORDS  (2u << 20)  /* bytes of records in a batch */
#define OUTBOX_RECORDS_MAX    (16u << 20) /* ... of memory of those that wait */
#define OUTBOX_WHYS_MAX	      256	  /* how many wait */

struct outbox_counts {
	uint64_t batches, again;	/* answered well; sent once more */
	uint64_t refused;		/* times that a batch was */
	uint64_t sent[OUTBOX_KINDS];	/* taken by meshd */
	uint64_t dropped[OUTBOX_KINDS]; /* here, or with a batch that was refused */
};

struct outbox;

/* node, epoch: copied. 0 or -ENOMEM. */
int outbox_new(const char *node, const char *epoch, struct outbox **out);
void outbox_free(struct outbox **o);

/* n elements, but no spans, with commas between them; copied. time_ms: the wall clock's, for
 * series: in their second. */
void outbox_add(struct outbox *o, enum outbox_kind kind, uint64_t time_ms, const char *text,
		size_t len, uint32_t n);
/* Would one more of that kind be dropped? Never where the oldest makes room. */
bool outbox_full(const struct outbox *o, enum outbox_kind kind);
/* A span, of a record that was checked; copied, with its names. Those are known by where they are
 * (record_batch_add()): before other strings stand there comes outbox_seal(). */
void outbox_record(struct outbox *o, const struct record *rec, const struct span_names *names);
/* Names and the clock may be others from now on; wall_ns makes wall-clock time of the monotonic one
 * in the records to come. Several times a second in any case. */
void outbox_seal(struct outbox *o, int64_t wall_ns);
/* Does meshd take records as we have them? At first it is believed not to, and again after it has
 * refused a batch. */
void outbox_meshd_takes(struct outbox *o, bool records);
/* What never got as far as here. */
void outbox_lose(struct outbox *o, enum outbox_kind kind, uint64_t n);
/* Drops series that have waited for too long. */
void outbox_age(struct outbox *o, uint64_t now_ms);

/* Is there anything to be sent? Of that kind? What is in a batch is, until that is answered for. */
bool outbox_waiting(const struct outbox *o);
bool outbox_has(const struct outbox *o, enum outbox_kind kind);
uint64_t outbox_count(const struct outbox *o, enum outbox_kind kind); /* elements */
/* Is there more than one batch holds, or an older second? */
bool outbox_behind(const struct outbox *o);

/* The batch to be sent next, the same one until it is answered for; made even when it is empty.
 * ring_lost: records that found no room on their way here. *body: its pieces one behind the other,
 * the outbox's; the first one ends in a NUL that is no part of it. How many; 0: no memory. */
size_t outbox_batch(struct outbox *o, uint64_t now_ms, uint64_t ring_lost,
		    const struct iovec **body);
uint64_t outbox_seq(const struct outbox *o);	 /* of that batch */
bool outbox_has_records(const struct outbox *o); /* has it any? */
enum outbox_verdict { OUTBOX_TAKEN, OUTBOX_REFUSED, OUTBOX_AGAIN };
/* seq: of the batch that was answered; any other than the one on its way was answered before. One
 * that is refused is dropped; if it has records only these are, and the rest goes again. */
void outbox_answered(struct outbox *o, uint64_t seq, enum outbox_verdict v);
/* What is to become of a batch by the HTTP status of its answer; 0: there was none. */
enum outbox_verdict outbox_verdict(int status);

const struct outbox_counts *outbox_counts(const struct outbox *o);

#endif
