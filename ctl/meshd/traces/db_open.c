/* SPDX-License-Identifier: Apache-2.0 */
/* The file of spans: made, recognized, opened, put aside when it is broken; see db.h. */
#include "ctl/meshd/aside.h"
#include "ctl/meshd/dbfile.h"
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

/* Files of this form may be older than that. */
static const char add[] = "CREATE INDEX IF NOT EXISTS trace_seen ON trace(seen_ms)";

static const char settings[] =
	DBFILE_LOGGED "PRAGMA cache_size = -8192; PRAGMA journal_size_limit = 8388608; "
		      "PRAGMA busy_timeout = " STR(DB_BUSY_MS);

/* Of another form or another program's: of no use here, so it is put aside as a broken one is. */
static int recognize(sqlite3 *db)
{
	int64_t form = 0;
	int r = dbfile_recognize(db, APPLICATION_ID, &form);

	if (!r && form >= 0 && form != FORM)
		r = -EPROTOTYPE;
	if (!r && form < 0)
		r = dbfile_run(db, create);
	return r ? r : dbfile_run(db, add);
}

/* r of dbfile.h: one that failed leaves the words. */
static int said(struct db *db, int r)
{
	db->other = r == -EPROTOTYPE;
	if (db->other) {
		snprintf(db->error, sizeof(db->error),
			 DB_FILE " is not a file of spans of this meshd");
		db->code = SQLITE_NOTADB;
	} else if (r) {
		db_fail(db);
	}
	return r;
}

static int open_file(struct db *db, const char *file)
{
	int r = dbfile_open(file, settings, &db->sqlite);

	if (!r)
		r = recognize(db->sqlite);
	if (!r)
		r = dbfile_prepare(db->sqlite, db_statements, db->stmt, DB_STATEMENTS);
	if (said(db, r))
		return -EIO;
	if (!wal_start(&db->wal, db->sqlite, file))
		return 0;
	snprintf(db->error, sizeof(db->error), DB_FILE ": no thread for its log");
	return -EIO;
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
	return 0;
}

/* Leaves error and code as they are. */
void db_close(struct db *db)
{
	wal_stop(&db->wal);
	dbfile_close(&db->sqlite, db->stmt, DB_STATEMENTS);
}
