/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file of spans, traces.db: tables, statements, and nothing about what is kept and why. Used by
 * traces.c (writes) and by query.c, view.c and logs.c (reads).
 *
 *   trace    one row a trace: what lists show; ids grow, so the lowest is the oldest
 *   span     its spans by (trace, id); body is the JSON text that span_body() made
 *   alias    the names other than its 32 digits under which a trace is found
 *   found    (tag, when, trace): what lists walk along, newest first. Tags: "" every trace, "S"
 * those with a span of service S, and of either, because they are rare and looked for, those with
 * an error ("!", "!S") and the slow ones ("~", "~S")
 *
 * Every function: 0, -ENOENT, or -EIO with the words in db_error().
 */
#ifndef MESHD_TRACES_DB_H
#define MESHD_TRACES_DB_H

#include "ctl/meshd/traces/span.h"
#include "ctl/meshd/wal.h"

#include <sqlite3.h>

#define DB_FILE	     "traces.db"
#define DB_TAG_ERROR "!"
#define DB_TAG_SLOW  "~" /* TRACES_SLOW_MS and more */

enum db_statement {
	DB_BEGIN,
	DB_COMMIT,
	DB_ROLLBACK,
	DB_TRACE_ADD,
	DB_TRACE_LAST,
	DB_TRACE_SET,
	DB_TRACE_KEY,
	DB_TRACE_ID,
	DB_TRACE_OLDEST,
	DB_TRACE_FIRST_SEEN,
	DB_TRACE_DELETE,
	DB_TRACE_COUNT,
	DB_ALIAS_ADD,
	DB_ALIAS_FIND,
	DB_ALIAS_DELETE,
	DB_SPAN_ADD,
	DB_SPANS,
	DB_SPANS_DELETE,
	DB_FOUND_ADD,
	DB_FOUND_DELETE,
	DB_FOUND,
	DB_PAGES,
	DB_FREE_PAGES,
	DB_STATEMENTS,
};
extern const char *const db_statements[DB_STATEMENTS];

#define DB_BUSY_MS 20 /* for who looks into the file by hand */
struct db {
	sqlite3 *sqlite; /* NULL: not open */
	sqlite3_stmt *stmt[DB_STATEMENTS];
	struct wal wal;
	int64_t last_id;      /* of a trace; 0: not known yet */
	uint64_t deadline_ns; /* of a read; 0: none */
	bool other;	      /* the file is none of ours, or of another meshd's form */
	bool late;	      /* the read was ended by it */
	bool log_full;	      /* it is what `error` is about */
	int code;	      /* SQLite's, of the last failure */
	char error[192];      /* of the last failure; "" when the last write went well */
};

/* A file that is broken, of another form, or to be given up (anew), is put aside (aside.h), and a
 * new one made; aside[cap] is its name then, else "". */
int db_open(struct db *db, const char *dir, bool anew, char *aside, size_t cap);
void db_close(struct db *db);
/* Is it the file that is broken, not the disk that is full? Then it is of no use any more. */
bool db_broken(const struct db *db);
/* Was it removed or replaced under us? What is written would be lost with the descriptor. */
bool db_moved(struct db *db);
int db_fail(struct db *db); /* notes what SQLite says; -EIO */

/* The log has grown to its limit (wal.h): true, said in db->error: write nothing until it has begun
 * anew. */
bool db_log_full(struct db *db);

int db_begin(struct db *db);
int db_commit(struct db *db);
void db_rollback(struct db *db);

/* Names by lines: each ends with \n. */
struct trace_row {
	int64_t id; /* 0: not there yet */
	uint8_t key[16];
	int64_t when_ms;	       /* where it stands in lists: as it began, but never later
					  than it came in */
	int64_t seen_ms;	       /* its first span came in */
	int64_t start_us, duration_us; /* of its root */
	int spans, errors, lost;       /* lost: those that were too many */
	int root_status;
	char name[SPAN_ID_MAX + 1];
	char root[SPAN_ID_MAX + 1], root_parent[SPAN_ID_MAX + 1];
	char root_service[64];
	char root_operation[SPAN_OPERATION_MAX + 1];
	char aliases[640], services[1024], edges[2048]; /* edges: source>service */
};

int db_trace_by_key(struct db *db, const uint8_t key[16], struct trace_row *out);
int db_trace_by_id(struct db *db, int64_t id, struct trace_row *out);
/* By any of its names: the newest. */
int db_trace_by_name(struct db *db, const char *name, struct trace_row *out);
int db_trace_oldest(struct db *db, struct trace_row *out); /* by id: that was listed first */
/* Whose first span came first, before that; it may have been listed long after it came. */
int db_trace_first_seen(struct db *db, int64_t before_ms, struct trace_row *out);
/* An id for a new trace, above all before it. */
int db_trace_id(struct db *db, int64_t *id);
/* was: what is in the file now; id 0: nothing. */
int db_trace_set(struct db *db, const struct trace_row *row, const struct trace_row *was);
int db_trace_delete(struct db *db, const struct trace_row *row);
int db_alias_add(struct db *db, const char *name, int64_t trace);
/* 1: added; 0: such an id was there. */
int db_span_add(struct db *db, int64_t trace, const struct span *s, const char *body, size_t len);
/* Bytes of the file that are in use, and all; traces in it (counted anew). */
int db_used(struct db *db, int64_t *used, int64_t *all);
int db_count(struct db *db, int64_t *traces);
/* Gives free pages back to the disk, some at a time. */
void db_shrink(struct db *db);

/* For reads: a row of a statement; false at its end, or after -EIO in *err. dbfile_reset() it
 * afterwards. */
bool db_next(struct db *db, sqlite3_stmt *st, int *err);
const char *db_text(sqlite3_stmt *st, int column); /* never NULL */
/* Between these a read ends after ms (db->late): rows so far are good. */
void db_hurry(struct db *db, unsigned ms);
void db_hurry_done(struct db *db);
void db_row(sqlite3_stmt *st,
	    struct trace_row *out); /* of the columns of DB_TRACE_* and DB_FOUND */

/* Calls fn for each line of a list of names; non-zero ends it and is returned. */
int lines_each(const char *lines, int (*fn)(void *arg, const char *line), void *arg);
bool lines_have(const char *lines, const char *line);
/* Adds it unless it is there or does not fit. */
void lines_add(char *lines, size_t cap, const char *line);

#endif
