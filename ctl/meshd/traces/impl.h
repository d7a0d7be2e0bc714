/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of traces share; nobody else includes it. */
#ifndef MESHD_TRACES_IMPL_H
#define MESHD_TRACES_IMPL_H

#include "ctl/meshd/traces/db.h"
#include "ctl/meshd/traces/tail.h"
#include "ctl/meshd/traces/traces.h"
#include "lib/name.h"

#define TOUCHED_MAX 64

struct touched {
	struct trace_row now, was; /* was: as it is in the file */
};

struct traces {
	struct traces_options o;
	struct db db;
	struct tail *tail;
	struct traces_counts counts;
	uint64_t now_ms, retry_ms;
	bool said;	 /* that the file cannot be opened */
	char aside[128]; /* that a broken file was put aside; "": none was */
	/* of the call under way */
	uint64_t added, added_spans;
	uint64_t released; /* spans that no longer wait, and are lost if they are not stored */
	cJSON *let_go;	   /* the same, until the end of the call */
	cJSON *offers;	   /* what is exported once it is stored: references */
	unsigned ntouched;
	struct touched touched[TOUCHED_MAX];
	struct buf body;
};

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
/* Unless it is the first of a list. */
void put_comma(struct buf *b);
void put_ms(struct buf *b, int64_t us);
void put_names(struct buf *b, const char *lines);

#endif
