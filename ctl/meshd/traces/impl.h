/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of traces share; nobody else includes it. */
#ifndef MESHD_TRACES_IMPL_H
#define MESHD_TRACES_IMPL_H

#include "ctl/meshd/traces/db.h"
#include "ctl/meshd/traces/recorder.h"
#include "ctl/meshd/traces/tail.h"
#include "ctl/meshd/traces/traces.h"
#include "lib/name.h"

#define TOUCHED_MAX 64
#define LATELY	    65536 /* traces whose marks are remembered; a power of two */
#define RETRY_MS    10000
#define DUE_MAX	    8192 /* records that wait to be listed; a power of two */

struct touched {
	struct trace_row now, was; /* was: as it is in the file */
};

/* So many a second, and so many at once when there were none for a while. */
struct bucket {
	uint32_t rate, most;
	uint64_t tokens_ms; /* thousandths of one */
	uint64_t filled_ms; /* monotonic */
};

/* Numbers of records, the oldest first; those that are gone or listed by now are passed over. */
struct due {
	uint32_t first, n;
	uint32_t number[DUE_MAX];
};

#define ASKED_MAX 65536 /* a power of two */
/* Ids of traces that became rows because somebody asked, the oldest first; those that are gone are
 * passed over. Beyond so many the oldest are as all others. */
struct asked {
	uint32_t first, n;
	int64_t id[ASKED_MAX];
};

struct traces {
	struct traces_options o; /* size: without that of the recorder */
	struct db db;
	struct recorder *recorder; /* NULL: nobody sent records yet, or it cannot be used: */
	uint64_t recorder_size, recorder_retry_ms;
	char recorder_error[128];
	struct bucket first, more, urgent, quiet; /* of what is listed unasked */
	struct bucket direct; /* of what is listed as it comes, because it cannot be recorded */
	struct due due;	      /* ... before long */
	struct bucket demand; /* of traces that are listed on demand */
	struct asked asked;
	bool asking; /* traces that become rows now do so because somebody asks */
	uint32_t served[UINT16_MAX + 1]; /* by a service's tag: when it was last listed, in ms */
	uint32_t lately[LATELY];	 /* marks of traces that have a row */
	uint32_t search;		 /* the number of the last one */
	struct tail *tail;
	struct traces_counts counts;
	uint64_t now_ms, retry_ms;
	bool said;	 /* that the file cannot be opened */
	char aside[128]; /* that a broken file was put aside; "": none was */
	/* of the call under way */
	uint64_t added, added_spans;
	uint64_t turn_until_ns; /* of a call with records */
	uint64_t join_until_ns; /* records join their traces so long, */
	bool late;		/* and some did not */
	uint64_t counted;	/* of these were counted as stored when they came, as records */
	struct traces_counts before; /* as they were when the transaction began */
	uint64_t released; /* spans that no longer wait, and are lost if they are not stored */
	cJSON *let_go;	   /* JSON that lives until the end of the call */
	cJSON *offers;	   /* what is exported once it is stored: references */
	unsigned ntouched;
	struct touched touched[TOUCHED_MAX];
	struct buf body;
};

/* --- one transaction (traces.c): in it, and only there, spans become rows ---------------- */

/* 0 or -EIO. Records join their traces for TRACES_DEMAND_MS at most. */
int rows_begin(struct traces *t);
/* r < 0: nothing of it is stored. Returns r, or -EIO. */
int rows_end(struct traces *t, int r);
/* The trace's row as this transaction sees it; *row NULL: there is none. */
int row_of(struct traces *t, const uint8_t key[16], struct trace_row **row);
/* Is there room for the span in its trace (row; NULL: there is none yet)? Makes t->body. false: it
 * was counted. */
bool row_has_room(struct traces *t, struct trace_row *row, const struct span *s);
/* After that. */
int row_add(struct traces *t, struct trace_row *row, const struct span *s);
/* A span that is kept, into its trace (row, of row_of(); NULL: it is the first one of it, and
 * whatever else of the trace waits comes along). 1: it was refused. */
int row_span(struct traces *t, const struct span *s, struct trace_row *row);

/* Oldest traces first, in steps that nobody notices; but more than have just come, or the file
 * would grow under load (prune.c). */
void prune(struct traces *t, uint64_t spans_added);
/* Gives free pages back to the disk when there are too many. */
void shrink(struct traces *t);

/* --- records (records.c) ---------------------------------------------------------------- */

void recorder_start(struct traces *t, bool make);
/* Once a second: is the file still ours? */
void recorder_look(struct traces *t);
/* The unlisted records of that row's trace become its spans. */
int records_join(struct traces *t, struct trace_row *row);
/* A trace is no row any more: as far as the recorder still has it, it is found there again. */
void records_unlist(struct traces *t, const uint8_t key[16]);
/* One record, within a transaction; it is listed, or waits for a reason to be. */
int record_list(struct traces *t, uint32_t number);
/* Has that record's batch come too long ago? */
bool record_too_old(struct traces *t, uint32_t number);

/* --- what is listed unasked (due.c) ------------------------------------------------------- */

/* A token of the bucket. */
bool spend(struct bucket *b, uint64_t now_ms);
/* A record that has just come: is it one of those that traces_list_due() will list? */
void due_add(struct traces *t, uint32_t number);
/* Lists some at once, when the oldest of those would soon make room. */
void due_hurry(struct traces *t);

/* --- listing on demand (demand.c) -------------------------------------------------------- */

struct demand {
	bool complete; /* it was not ended by time */
	bool left;     /* what is older than as many as are asked for was left alone */
};
/* What the recorder has of the traces that fit the filter. */
void demand_list(struct traces *t, const struct traces_filter *f, struct demand *d);
/* The row of the trace of any name, with all that the recorder has of it. */
int demand_trace(struct traces *t, const char *id, struct trace_row *row, bool *complete);

/* A span as it is in the file; the strings are in one piece of memory, at id. */
struct stored {
	char *id;
	const char *parent, *service, *body;
	int64_t start_us;
};
/* Those of a trace, by start; stored_free() them. At most TRACES_ANSWER_MAX bytes: *cut says that
 * there are more. */
int stored_read(struct traces *t, int64_t trace, struct stored **out, size_t *n, bool *cut);
void stored_free(struct stored *s, size_t n);

/* Runs a list's statement: fn for each row until it returns non-zero (then 0). *complete: it was
 * not ended by time. */
int found_each(struct traces *t, const struct traces_filter *f, bool *complete,
	       bool (*fn)(void *arg, const struct trace_row *row), void *arg);
/* Only those that are listed; 0 also when it was ended by time. */
int rows_each(struct traces *t, const struct traces_filter *f,
	      bool (*fn)(void *arg, const struct trace_row *row), void *arg);
/* What a trace's edges have when it is one of the filter's, behind a \n. */
void trace_edge(const struct traces_filter *f, char edge[160]);
void put_names(struct buf *b, const char *lines);

#endif
