/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Spans: kept in DIR/traces.db, found again by trace, service, duration, error and time. What
 * agents and applications send comes in here; which of it is kept is decided here (tail decision):
 * a sampled span is, and every span of a trace that had an error or was slow. What agents send as
 * records is copied into DIR/spans.ring (recorder.h), and becomes rows of the database (is listed)
 * before long as far as there are not too many, else when somebody looks for it. Losing traces
 * stops nobody: a file that cannot be used is said in traces_error(), spans are counted as dropped
 * meanwhile, and it is tried again. What traces_take() has taken survives kill -9 of meshd.
 *
 * One thread, but for the writing back of the log of the file, which has its own.
 */
#ifndef MESHD_TRACES_H
#define MESHD_TRACES_H

#include "lib/buf.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TRACES_SIZE	  (256ull << 20) /* bytes of the file, unless told */
#define TRACES_SIZE_MIN	  (1ull << 20)
#define TRACES_AGE_MS	  (7ull * 24 * 3600 * 1000) /* likewise */
#define TRACES_SPANS_MAX  2000			    /* kept of one trace; the rest is counted */
#define TRACES_SLOW_MS	  1000	     /* as slow as this is kept whatever the draw said */
#define TRACES_WANT_MS	  5000	     /* how long agents are asked for a trace */
#define TRACES_WANT_MAX	  4096	     /* traces that are asked for at a time */
#define TRACES_LIST_MAX	  1000	     /* traces or lines in an answer */
#define TRACES_LIST	  100	     /* likewise, unless told */
#define TRACES_ANSWER_MAX (8u << 20) /* bytes of spans in it */
#define TRACES_READ_MS	  25	     /* a search ends then with what it has found */
#define TRACES_DEMAND_MS  15	     /* ... and before it, the listing of what was not */
#define TRACES_TURN_MS	  5 /* of what came as records some is listed, or exported, so long a call */
/* Of what comes as records so much is listed unasked, a second and in a burst: spans that begin a
 * trace, those that are an error, slow or cut off, and further ones of traces that are listed. */
#define TRACES_FIRST	    25
#define TRACES_FIRST_BURST  100
#define TRACES_URGENT	    500
#define TRACES_URGENT_BURST 1000
#define TRACES_MORE	    1000
#define TRACES_MORE_BURST   2000
#define TRACES_QUIET	    100 /* besides, of services of which nothing was for TRACES_QUIET_MS */
#define TRACES_QUIET_BURST  100
#define TRACES_QUIET_MS	    1000
#define TRACES_DIRECT	    100 /* without a recorder: all that is kept */
/* Who looks for traces makes so many be listed: the oldest go for them. */
#define TRACES_DEMAND	    500
#define TRACES_DEMAND_BURST 2000
#define RECORDER_PART	    8 /* of the size is the recorder's: one such part */

struct traces;
struct otlp;
struct record_batch_view;

struct traces_options {
	const char *dir;    /* NULL: nothing is kept */
	uint64_t size;	    /* bytes, 0: TRACES_SIZE */
	uint64_t age_ms;    /* 0: TRACES_AGE_MS */
	struct otlp *otlp;  /* NULL, or who is offered each span that is kept */
	uint64_t turn_ms;   /* 0: TRACES_TURN_MS. For tests */
	bool strip_queries; /* of records that came before this was so, too, when they are listed */
};

/* 0 or -ENOMEM: a file that cannot be used is no error here. */
int traces_new(const struct traces_options *o, struct traces **out);
void traces_free(struct traces **t);

/* Spans as agents send them (docs/telemetry.md), an array; those that make no sense are counted.
 * node: of the agent; NULL: they are an application's, which sends again what could not be stored.
 * now_ms: monotonic. How many were refused (invalid, or too many or too large for their trace);
 * -EIO: they could not be stored (traces_error()) and are lost here. */
int traces_take(struct traces *t, const cJSON *spans, const char *node, uint64_t now_ms);
/* Batches of records as agents send them, which were checked. All of them are in the recorder then,
 * and traces_list_due() lists a part of their spans. 0; -EIO: they could not be stored
 * (traces_error()) and are counted as failed, but for those that are listed. */
int traces_take_records(struct traces *t, const struct record_batch_view *batches, size_t n,
			uint64_t now_ms);
/* Once a second: what of that is due is listed. true: it took TRACES_TURN_MS, and there is more. */
bool traces_list_due(struct traces *t, uint64_t now_ms);
/* So many spans came that nobody here can read: they count as failed. */
void traces_lose(struct traces *t, uint64_t n);
/* So many spans came that make no sense: they count as invalid. */
void traces_refuse(struct traces *t, uint64_t n);
/* Adds the ids (32 hex digits) of the traces whose spans that node is to send, kept or not. Says an
 * id again now and then, because answers get lost. */
void traces_want(struct traces *t, const char *node, cJSON *array);
/* Once a second: what is too old goes, what is broken is tried again. */
void traces_sweep(struct traces *t, uint64_t now_ms);

/* What is wrong with the file, for people; NULL: nothing. */
const char *traces_error(const struct traces *t);

struct traces_counts { /* totals since the start but for those marked */
	/* what became of each span, one of them; what is in the recorder is stored, whatever is
	 * found when it is listed later */
	uint64_t stored;	/* in the recorder or in rows */
	uint64_t recorded;	/* of these, in the recorder */
	uint64_t listed;	/* of all, in rows: unasked or on demand */
	uint64_t overwritten;	/* made room in the recorder before they were listed */
	uint64_t duplicates;	/* of a span that was there already */
	uint64_t invalid;	/* made no sense */
	uint64_t undecided;	/* not sampled, and nothing happened in its trace */
	uint64_t too_many;	/* beyond TRACES_SPANS_MAX, or too large */
	uint64_t failed;	/* could not be written */
	uint64_t unwanted;	/* traces that could not be asked for: too many at a time */
	uint64_t pruned_traces; /* by size or age */
	uint64_t traces, bytes; /* now: listed; of both files */
	uint64_t held;		/* now: spans that wait for a decision */
};
void traces_count(struct traces *t, struct traces_counts *out);

/* --- reading: JSON text. -ENOENT; -EAGAIN: ask again; -EIO: traces_error(); -ENOMEM ---- */

struct traces_filter {
	const char *service;	    /* with a span of it; NULL: any */
	const char *source;	    /* called from there (that service, if one is given) */
	const char *trace;	    /* logs: of this one only, by any of its names */
	int64_t min_us;		    /* its root took at least so long */
	int error;		    /* -1: any, 1: with an error, 0: without */
	int64_t since_ms, until_ms; /* wall clock, both inclusive */
	unsigned limit;		    /* 1 to TRACES_LIST_MAX */
};

/* {"traces":[...],"complete":B}, newest first; not complete: TRACES_READ_MS were over. */
int traces_list(struct traces *t, const struct traces_filter *f, struct buf *out);
/* {"traceId","aliases","spans":[...],"lost":N} of the trace that has that name, parents before
 * their children. */
int traces_show(struct traces *t, const char *id, struct buf *out);
/* {"logs":[...],"complete":B}: spans with the names of the access log's fields beside them, oldest
 * first, of the newest traces that fit the filter. */
int traces_logs(struct traces *t, const struct traces_filter *f, struct buf *out);
/* Calls fn for each name of that trace until it returns non-zero, which is then returned. */
int traces_names(struct traces *t, const char *id, int (*fn)(void *arg, const char *name),
		 void *arg);

#endif
