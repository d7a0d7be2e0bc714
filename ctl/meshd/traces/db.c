/* SPDX-License-Identifier: Apache-2.0 */
/* See db.h: reading and writing. Opening is in db_open.c. */
#include "ctl/meshd/dbfile.h"
#include "ctl/meshd/traces/db.h"
#include "ctl/meshd/traces/traces.h"
#include "lib/clock.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define SHRINK_PAGES "256" /* given back in one step */

#define ROW                                                                                        \
	"t.id, t.key, t.when_ms, t.seen_ms, t.start_us, t.duration_us, t.spans, t.errors, "        \
	"t.lost, t.root_status, t.name, t.root, t.root_parent, t.root_service, "                   \
	"t.root_operation, t.aliases, t.services, t.edges"

const char *const db_statements[DB_STATEMENTS] = {
	[DB_BEGIN] = "BEGIN IMMEDIATE",
	[DB_COMMIT] = "COMMIT",
	[DB_ROLLBACK] = "ROLLBACK",
	[DB_TRACE_ADD] =
		"INSERT INTO trace(id, when_ms, start_us, duration_us, spans, errors, "
		"lost, root_status, name, root, root_parent, root_service, root_operation, "
		"aliases, services, edges, key, seen_ms) VALUES(?1, ?2, ?3, ?4, ?5, ?6, "
		"?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)",
	[DB_TRACE_LAST] = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'trace'",
	[DB_TRACE_SET] = "UPDATE trace SET when_ms = ?2, start_us = ?3, duration_us = ?4, spans = "
			 "?5, errors = ?6, lost = ?7, root_status = ?8, name = ?9, root = ?10, "
			 "root_parent = ?11, root_service = ?12, root_operation = ?13, aliases = "
			 "?14, services = ?15, edges = ?16 WHERE id = ?1",
	[DB_TRACE_KEY] = "SELECT " ROW " FROM trace t WHERE t.key = ?1",
	[DB_TRACE_ID] = "SELECT " ROW " FROM trace t WHERE t.id = ?1",
	[DB_TRACE_OLDEST] = "SELECT " ROW " FROM trace t ORDER BY t.id LIMIT 1",
	[DB_TRACE_FIRST_SEEN] =
		"SELECT " ROW " FROM trace t WHERE t.seen_ms < ?1 ORDER BY t.seen_ms LIMIT 1",
	[DB_TRACE_DELETE] = "DELETE FROM trace WHERE id = ?1",
	[DB_TRACE_COUNT] = "SELECT count(*) FROM trace",
	[DB_ALIAS_ADD] = "INSERT OR IGNORE INTO alias(name, trace) VALUES(?1, ?2)",
	[DB_ALIAS_FIND] = "SELECT trace FROM alias WHERE name = ?1 ORDER BY trace DESC LIMIT 1",
	[DB_ALIAS_DELETE] = "DELETE FROM alias WHERE name = ?1 AND trace = ?2",
	[DB_SPAN_ADD] = "INSERT OR IGNORE INTO span(trace, id, parent, start_us, service, body) "
			"VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
	[DB_SPANS] = "SELECT id, parent, start_us, service, body FROM span WHERE trace = ?1",
	[DB_SPANS_DELETE] = "DELETE FROM span WHERE trace = ?1",
	[DB_FOUND_ADD] = "INSERT OR REPLACE INTO found(tag, when_ms, trace, duration_us, errors) "
			 "VALUES(?1, ?2, ?3, ?4, ?5)",
	[DB_FOUND_DELETE] = "DELETE FROM found WHERE tag = ?1 AND when_ms = ?2 AND trace = ?3",
	/* the tag's part of `found` is walked backwards; a row of `trace` is read for what passes
	 */
	[DB_FOUND] = "SELECT " ROW " FROM found f CROSS JOIN trace t ON t.id = f.trace WHERE f.tag "
		     "= ?1 AND f.when_ms BETWEEN ?2 AND ?3 AND f.duration_us >= ?4 AND (?5 OR "
		     "f.errors = 0) AND (?6 = '' OR instr(char(10) || t.edges, ?6)) ORDER BY "
		     "f.when_ms DESC, "
		     "f.trace DESC LIMIT ?7",
	[DB_PAGES] = "PRAGMA page_count",
	[DB_FREE_PAGES] = "PRAGMA freelist_count",
};

int db_fail(struct db *db)
{
	db->code = sqlite3_errcode(db->sqlite) & 0xff;
	snprintf(db->error, sizeof(db->error), DB_FILE ": %s", sqlite3_errmsg(db->sqlite));
	return -EIO;
}

bool db_broken(const struct db *db)
{
	return db->code == SQLITE_CORRUPT || db->code == SQLITE_NOTADB;
}

bool db_moved(struct db *db)
{
	int moved = 0;

	return sqlite3_file_control(db->sqlite, "main", SQLITE_FCNTL_HAS_MOVED, &moved) ==
		       SQLITE_OK &&
	       moved;
}

const char *db_text(sqlite3_stmt *st, int column)
{
	const char *s = (const char *)sqlite3_column_text(st, column);

	return s ? s : "";
}

/* By dbfile_bind(). */
static sqlite3_stmt *bind(struct db *db, enum db_statement id, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	dbfile_bind(db->stmt[id], fmt, ap);
	va_end(ap);
	return db->stmt[id];
}

static int run(struct db *db, sqlite3_stmt *st)
{
	int r = sqlite3_step(st) == SQLITE_DONE ? 0 : db_fail(db);

	dbfile_reset(st);
	return r;
}

static int number(struct db *db, enum db_statement id, int64_t *out)
{
	sqlite3_stmt *st = db->stmt[id];
	int r = 0;

	if (sqlite3_step(st) == SQLITE_ROW)
		*out = sqlite3_column_int64(st, 0);
	else
		r = db_fail(db);
	sqlite3_reset(st);
	return r;
}

int db_begin(struct db *db)
{
	return run(db, db->stmt[DB_BEGIN]);
}

bool db_log_full(struct db *db)
{
	bool was = db->log_full;

	db->log_full = wal_full(&db->wal);
	if (db->log_full) {
		db->code = SQLITE_BUSY;
		snprintf(db->error, sizeof(db->error),
			 DB_FILE ": its log has grown to %zu MiB, because another program reads it "
				 "or the disk is slow: nothing more is stored until the log has "
				 "begun anew",
			 wal_bytes(&db->wal) >> 20);
	} else if (was) {
		db->code = SQLITE_OK;
		db->error[0] = '\0';
	}
	return db->log_full;
}

int db_commit(struct db *db)
{
	int r = run(db, db->stmt[DB_COMMIT]);

	if (r) {
		db_rollback(db);
		return r;
	}
	db->error[0] = '\0';
	db->code = SQLITE_OK;
	return 0;
}

void db_rollback(struct db *db)
{
	/* SQLite may have done so itself; what failed stays what is said */
	if (!sqlite3_get_autocommit(db->sqlite))
		sqlite3_step(db->stmt[DB_ROLLBACK]);
	sqlite3_reset(db->stmt[DB_ROLLBACK]);
}

/* --- rows of `trace` ------------------------------------------------------------------- */

void db_row(sqlite3_stmt *st, struct trace_row *t)
{
	const void *key = sqlite3_column_blob(st, 1);

	*t = (struct trace_row){.id = sqlite3_column_int64(st, 0),
				.when_ms = sqlite3_column_int64(st, 2),
				.seen_ms = sqlite3_column_int64(st, 3),
				.start_us = sqlite3_column_int64(st, 4),
				.duration_us = sqlite3_column_int64(st, 5),
				.spans = sqlite3_column_int(st, 6),
				.errors = sqlite3_column_int(st, 7),
				.lost = sqlite3_column_int(st, 8),
				.root_status = sqlite3_column_int(st, 9)};
	if (key && sqlite3_column_bytes(st, 1) == 16)
		memcpy(t->key, key, 16);
	snprintf(t->name, sizeof(t->name), "%s", db_text(st, 10));
	snprintf(t->root, sizeof(t->root), "%s", db_text(st, 11));
	snprintf(t->root_parent, sizeof(t->root_parent), "%s", db_text(st, 12));
	snprintf(t->root_service, sizeof(t->root_service), "%s", db_text(st, 13));
	snprintf(t->root_operation, sizeof(t->root_operation), "%s", db_text(st, 14));
	snprintf(t->aliases, sizeof(t->aliases), "%s", db_text(st, 15));
	snprintf(t->services, sizeof(t->services), "%s", db_text(st, 16));
	snprintf(t->edges, sizeof(t->edges), "%s", db_text(st, 17));
}

static int one_row(struct db *db, sqlite3_stmt *st, struct trace_row *out)
{
	int step = sqlite3_step(st), r = step == SQLITE_DONE ? -ENOENT : 0;

	if (step == SQLITE_ROW)
		db_row(st, out);
	else if (step != SQLITE_DONE)
		r = db_fail(db);
	dbfile_reset(st);
	return r;
}

int db_trace_by_key(struct db *db, const uint8_t key[16], struct trace_row *out)
{
	return one_row(db, bind(db, DB_TRACE_KEY, "k", key), out);
}

int db_trace_by_id(struct db *db, int64_t id, struct trace_row *out)
{
	return one_row(db, bind(db, DB_TRACE_ID, "i", id), out);
}

int db_trace_oldest(struct db *db, struct trace_row *out)
{
	return one_row(db, db->stmt[DB_TRACE_OLDEST], out);
}

int db_trace_first_seen(struct db *db, int64_t before_ms, struct trace_row *out)
{
	return one_row(db, bind(db, DB_TRACE_FIRST_SEEN, "i", before_ms), out);
}

int db_trace_by_name(struct db *db, const char *name, struct trace_row *out)
{
	sqlite3_stmt *st = bind(db, DB_ALIAS_FIND, "s", name);
	uint8_t key[16];
	int64_t id = 0;
	int r;

	trace_id_bytes(name, strlen(name), key);
	r = db_trace_by_key(db, key, out);
	if (r == -ENOENT) {
		r = sqlite3_step(st);
		if (r == SQLITE_ROW)
			id = sqlite3_column_int64(st, 0);
		r = r == SQLITE_ROW ? 0 : r == SQLITE_DONE ? -ENOENT : db_fail(db);
	}
	dbfile_reset(st);
	return id ? db_trace_by_id(db, id, out) : r;
}

int db_trace_id(struct db *db, int64_t *id)
{
	int r = db->last_id ? 0 : number(db, DB_TRACE_LAST, &db->last_id);

	*id = ++db->last_id;
	return r;
}

struct tagging {
	struct db *db;
	const struct trace_row *row;
	bool add, errors;
};

static int tag(struct tagging *g, const char *name)
{
	const struct trace_row *t = g->row;
	sqlite3_stmt *st = g->add ? bind(g->db, DB_FOUND_ADD, "siiii", name, t->when_ms, t->id,
					 t->duration_us, (int64_t)t->errors)
				  : bind(g->db, DB_FOUND_DELETE, "sii", name, t->when_ms, t->id);

	return run(g->db, st);
}

static bool is_slow(const struct trace_row *t)
{
	return t->duration_us >= TRACES_SLOW_MS * 1000;
}

static int tag_line(void *arg, const char *line)
{
	struct tagging *g = arg;
	char rare[164];
	int r = tag(g, line);

	if (!r && g->row->errors) {
		snprintf(rare, sizeof(rare), DB_TAG_ERROR "%s", line);
		r = tag(g, rare);
	}
	if (!r && is_slow(g->row)) {
		snprintf(rare, sizeof(rare), DB_TAG_SLOW "%s", line);
		r = tag(g, rare);
	}
	return r;
}

/* What a list is told of it: for every service, and for all. */
static int tags(struct db *db, const struct trace_row *row, bool add)
{
	struct tagging g = {db, row, add};
	int r = tag_line(&g, "");

	return r ? r : lines_each(row->services, tag_line, &g);
}

int db_trace_set(struct db *db, const struct trace_row *t, const struct trace_row *was)
{
	bool moved = was->id && (was->when_ms != t->when_ms || is_slow(was) != is_slow(t));
	bool same = was->id && !moved && was->duration_us == t->duration_us &&
		    !!was->errors == !!t->errors && !strcmp(was->services, t->services);
	enum db_statement how = was->id ? DB_TRACE_SET : DB_TRACE_ADD;
	/* the last two are for a new one alone */
	int r = run(db, bind(db, how, was->id ? "iiiiiiiissssssss" : "iiiiiiiisssssssski", t->id,
			     t->when_ms, t->start_us, t->duration_us, (int64_t)t->spans,
			     (int64_t)t->errors, (int64_t)t->lost, (int64_t)t->root_status, t->name,
			     t->root, t->root_parent, t->root_service, t->root_operation,
			     t->aliases, t->services, t->edges, t->key, t->seen_ms));

	if (!r && moved)
		r = tags(db, was, false);
	return r || same ? r : tags(db, t, true);
}

struct forgetting {
	struct db *db;
	int64_t trace;
};

static int forget_alias(void *arg, const char *line)
{
	struct forgetting *f = arg;

	return run(f->db, bind(f->db, DB_ALIAS_DELETE, "si", line, f->trace));
}

int db_trace_delete(struct db *db, const struct trace_row *t)
{
	struct forgetting f = {db, t->id};
	int r = run(db, bind(db, DB_SPANS_DELETE, "i", t->id));

	if (!r)
		r = tags(db, t, false);
	if (!r)
		r = lines_each(t->aliases, forget_alias, &f);
	return r ? r : run(db, bind(db, DB_TRACE_DELETE, "i", t->id));
}

int db_alias_add(struct db *db, const char *name, int64_t trace)
{
	return run(db, bind(db, DB_ALIAS_ADD, "si", name, trace));
}

int db_span_add(struct db *db, int64_t trace, const struct span *s, const char *body, size_t len)
{
	sqlite3_stmt *st =
		bind(db, DB_SPAN_ADD, "issis", trace, s->id, s->parent, s->start_us, s->service);
	int r;

	sqlite3_bind_text(st, 6, body, (int)len, SQLITE_STATIC);
	r = run(db, st);
	return r ? r : sqlite3_changes(db->sqlite);
}

int db_used(struct db *db, int64_t *used, int64_t *all)
{
	int64_t pages = 0, unused = 0;
	int r = number(db, DB_PAGES, &pages);

	if (!r)
		r = number(db, DB_FREE_PAGES, &unused);
	*used = (pages - unused) * db->wal.page_size;
	*all = pages * db->wal.page_size;
	return r;
}

int db_count(struct db *db, int64_t *traces)
{
	return number(db, DB_TRACE_COUNT, traces);
}

void db_shrink(struct db *db)
{
	if (sqlite3_exec(db->sqlite, "PRAGMA incremental_vacuum(" SHRINK_PAGES ")", NULL, NULL,
			 NULL) != SQLITE_OK)
		db_fail(db);
}

/* --- reads ----------------------------------------------------------------------------- */

bool db_next(struct db *db, sqlite3_stmt *st, int *err)
{
	int step = sqlite3_step(st);

	if (step == SQLITE_ROW)
		return true;
	db->late = step == SQLITE_INTERRUPT;
	*err = step == SQLITE_DONE || db->late ? 0 : db_fail(db);
	return false;
}

static int look_at_clock(void *arg)
{
	struct db *db = arg;

	return clock_mono_ns() > db->deadline_ns;
}

void db_hurry(struct db *db, unsigned ms)
{
	db->late = false;
	db->deadline_ns = clock_mono_ns() + ms * 1000000ull;
	sqlite3_progress_handler(db->sqlite, 2000, look_at_clock, db);
}

void db_hurry_done(struct db *db)
{
	sqlite3_progress_handler(db->sqlite, 0, NULL, NULL);
}

/* --- lists of names -------------------------------------------------------------------- */

int lines_each(const char *lines, int (*fn)(void *, const char *), void *arg)
{
	char line[160];
	int r = 0;

	for (size_t n; *lines && !r; lines += n + (lines[n] == '\n')) {
		n = strcspn(lines, "\n");
		snprintf(line, sizeof(line), "%.*s", (int)n, lines);
		r = fn(arg, line);
	}
	return r;
}

bool lines_have(const char *lines, const char *line)
{
	size_t len = strlen(line);

	for (size_t n; *lines; lines += n + (lines[n] == '\n')) {
		n = strcspn(lines, "\n");
		if (n == len && !memcmp(lines, line, len))
			return true;
	}
	return false;
}

void lines_add(char *lines, size_t cap, const char *line)
{
	size_t at = strlen(lines);

	if (*line && !lines_have(lines, line) && at + strlen(line) + 2 <= cap)
		snprintf(lines + at, cap - at, "%s\n", line);
}
