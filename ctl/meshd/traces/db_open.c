/* SPDX-License-Identifier: Apache-2.0 */
/* The file of spans: made, recognized, opened, put aside when it is broken; see db.h. */
#include "ctl/meshd/aside.h"
#include "ctl/meshd/traces/db.h"
#include "lib/log.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define STR_(x)	       #x
#define STR(x)	       STR_(x)
#define FORM	       1
#define APPLICATION_ID 0x6d747263 /* "mtrc" */

static const char create[] =
	"PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL; BEGIN IMMEDIATE;"
	"PRAGMA application_id = " STR(APPLICATION_ID) "; PRAGMA user_version = " STR(
		FORM) ";"
		      "CREATE TABLE trace(id INTEGER PRIMARY KEY AUTOINCREMENT, key BLOB NOT NULL, "
		      "when_ms INTEGER NOT NULL, seen_ms INTEGER NOT NULL, start_us INTEGER, "
		      "duration_us "
		      "INTEGER, spans INTEGER, errors INTEGER, lost INTEGER, root_status INTEGER, "
		      "name TEXT NOT "
		      "NULL, root TEXT, root_parent TEXT, root_service TEXT, root_operation TEXT, "
		      "aliases TEXT, "
		      "services TEXT, edges TEXT);"
		      "CREATE UNIQUE INDEX trace_key ON trace(key);"
		      "CREATE TABLE span(trace INTEGER NOT NULL, id TEXT NOT NULL, parent TEXT NOT "
		      "NULL, start_us "
		      "INTEGER NOT NULL, service TEXT NOT NULL, body TEXT NOT NULL, PRIMARY "
		      "KEY(trace, id)) "
		      "WITHOUT ROWID;"
		      "CREATE TABLE alias(name TEXT NOT NULL, trace INTEGER NOT NULL, PRIMARY "
		      "KEY(name, trace)) "
		      "WITHOUT ROWID;"
		      "CREATE TABLE found(tag TEXT NOT NULL, when_ms INTEGER NOT NULL, trace "
		      "INTEGER NOT NULL, "
		      "duration_us INTEGER NOT NULL, errors INTEGER NOT NULL, PRIMARY KEY(tag, "
		      "when_ms, trace)) "
		      "WITHOUT ROWID; COMMIT";

/* What is acknowledged is with the kernel then, which kill -9 does not reach; a power cut may take
 * the last moments. Another program's reads do not stop the writing back of what was there before
 * them, but the log begins anew only when they have ended: see db_log_full(). */
static const char setup[] =
	"PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 0; PRAGMA cache_size = -8192; "
	"PRAGMA journal_size_limit = 8388608; PRAGMA trusted_schema = OFF; "
	"PRAGMA temp_store = MEMORY; PRAGMA busy_timeout = " STR(DB_BUSY_MS);

static int pragma(struct db *db, const char *sql, int64_t *value)
{
	sqlite3_stmt *st = NULL;
	int r = sqlite3_prepare_v2(db->sqlite, sql, -1, &st, NULL) == SQLITE_OK &&
				sqlite3_step(st) == SQLITE_ROW
			? 0
			: db_fail(db);

	if (!r)
		*value = sqlite3_column_int64(st, 0);
	sqlite3_finalize(st);
	return r;
}

static int exec(struct db *db, const char *sql)
{
	return sqlite3_exec(db->sqlite, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : db_fail(db);
}

/* Of another form or another program's: of no use here, so it is put aside as a broken one is. */
static int recognize(struct db *db)
{
	int64_t id = 0, form = 0, objects = 0;
	int r = pragma(db, "SELECT count(*) FROM sqlite_master", &objects);

	if (!r && !objects)
		return exec(db, create);
	if (!r)
		r = pragma(db, "PRAGMA application_id", &id);
	if (!r)
		r = pragma(db, "PRAGMA user_version", &form);
	if (!r && (id != APPLICATION_ID || form != FORM)) {
		snprintf(db->error, sizeof(db->error),
			 DB_FILE " is not a file of spans of this meshd");
		db->code = SQLITE_NOTADB;
		db->other = true;
		r = -EIO;
	}
	return r;
}

static int prepare(struct db *db)
{
	for (int i = 0; i < DB_STATEMENTS; i++)
		if (sqlite3_prepare_v3(db->sqlite, db_statements[i], -1, SQLITE_PREPARE_PERSISTENT,
				       &db->stmt[i], NULL) != SQLITE_OK)
			return db_fail(db);
	return 0;
}

static int on_log(void *arg, sqlite3 *sqlite, const char *name, int frames)
{
	((struct db *)arg)->log_frames = frames;
	return SQLITE_OK;
}

static int open_file(struct db *db, const char *file)
{
	int r = sqlite3_open_v2(file, &db->sqlite,
				SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
				NULL) == SQLITE_OK
			? 0
			: db_fail(db);

	if (!r)
		r = exec(db, setup);
	if (!r)
		r = recognize(db);
	if (!r)
		r = prepare(db);
	if (!r)
		r = pragma(db, "PRAGMA page_size", &db->page_size);
	if (!r)
		sqlite3_wal_hook(db->sqlite, on_log, db);
	return r;
}

/* Of no use: it makes room for a new one. */
static int begin_anew(struct db *db, const char *file, char *aside, size_t cap)
{
	int err = aside_put(file, db->other ? "other" : "corrupt", aside, cap);

	if (!err) {
		log_error("%s is of no use%s%s and is now %s: traces begin anew", file,
			  db->error[0] ? ": " : "", db->error, aside);
		return open_file(db, file);
	}
	aside[0] = '\0';
	snprintf(db->error, sizeof(db->error), DB_FILE " is of no use and cannot be put aside: %s",
		 strerror(-err));
	return -EIO;
}

int db_open(struct db *db, const char *dir, bool anew, char *aside, size_t cap)
{
	char file[PATH_MAX - 32];
	int r;

	aside[0] = '\0';
	*db = (struct db){0};
	if (snprintf(file, sizeof(file), "%s/" DB_FILE, dir) >= (int)sizeof(file)) {
		snprintf(db->error, sizeof(db->error), "the state directory's name is too long");
		return -EIO;
	}
	r = anew ? -EIO : open_file(db, file);
	if (r && (anew || db_broken(db))) {
		db_close(db);
		r = begin_anew(db, file, aside, cap);
	}
	if (r) {
		db_close(db);
		return r;
	}
	db->error[0] = '\0';
	db->code = SQLITE_OK;
	if (checkpointer_new(file, &db->checkpointer))
		log_warn("the log of %s is written back between requests", file);
	return 0;
}

/* Leaves error and code as they are. */
void db_close(struct db *db)
{
	checkpointer_free(&db->checkpointer);
	for (int i = 0; i < DB_STATEMENTS; i++) {
		sqlite3_finalize(db->stmt[i]);
		db->stmt[i] = NULL;
	}
	sqlite3_close(db->sqlite);
	db->sqlite = NULL;
}
