/* SPDX-License-Identifier: Apache-2.0 */
/* The file of the store: made, recognized, brought up to date, opened; see store.h. */
#include "ctl/meshd/dbfile.h"
#include "ctl/meshd/store_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define STR_(x)	       #x
#define STR(x)	       STR_(x)
#define FIRST_FORM     1
#define STORE_FORM     2
#define APPLICATION_ID 0x6d657368 /* "mesh": another program's database is not touched */

/* The first form; what came later is added to it by `upgrades`. */
static const char create[] =
	"BEGIN IMMEDIATE;"
	"PRAGMA application_id = " STR(APPLICATION_ID) "; PRAGMA user_version = " STR(
		FIRST_FORM) ";"
			    "CREATE TABLE meta(one INTEGER PRIMARY KEY CHECK(one = 1), "
			    "revision INTEGER NOT NULL, epoch TEXT NOT NULL);"
			    "CREATE TABLE config(service TEXT PRIMARY KEY, revision INTEGER "
			    "NOT NULL, text TEXT NOT NULL) WITHOUT ROWID;"
			    "CREATE TABLE history(revision INTEGER NOT NULL, service TEXT NOT "
			    "NULL, text TEXT, author TEXT NOT NULL,"
			    " action TEXT NOT NULL, time_ms INTEGER NOT NULL, PRIMARY "
			    "KEY(service, revision)) WITHOUT ROWID;"
			    "CREATE INDEX history_revision ON history(revision);"
			    "CREATE TABLE file(service TEXT PRIMARY KEY, file TEXT NOT NULL, "
			    "text TEXT NOT NULL) WITHOUT ROWID;"
			    "CREATE TABLE registration(service TEXT NOT NULL, instance TEXT "
			    "NOT NULL, text TEXT NOT NULL,"
			    " PRIMARY KEY(service, instance)) WITHOUT ROWID;";

/* upgrades[n] makes form n + 1 of form n. */
static const char *const upgrades[STORE_FORM] = {
	[1] = "BEGIN IMMEDIATE; PRAGMA user_version = 2;"
	      "ALTER TABLE meta ADD COLUMN starts INTEGER NOT NULL DEFAULT 0;"
	      "CREATE TABLE drain(service TEXT NOT NULL, endpoint TEXT NOT NULL,"
	      " author TEXT NOT NULL, PRIMARY KEY(service, endpoint)) WITHOUT ROWID;"
	      "COMMIT",
};

static int store_create(sqlite3 *db)
{
	char sql[128];
	uint64_t epoch;
	int r;

	if (getrandom(&epoch, sizeof(epoch), 0) != sizeof(epoch))
		return -EIO;
	snprintf(sql, sizeof(sql), "INSERT INTO meta VALUES(1, 1, '%016llx'); COMMIT",
		 (unsigned long long)epoch);
	r = dbfile_run(db, create);
	return r ? r : dbfile_run(db, sql);
}

static int store_upgrade(sqlite3 *db, int64_t form)
{
	int r = form < FIRST_FORM ? -EIO : 0;

	for (; form < STORE_FORM && !r; form++)
		r = dbfile_run(db, upgrades[form]);
	return r;
}

/* Is it ours, whole, and of a version we know? Makes it when it is empty. */
static int store_recognize(sqlite3 *db, char *why, size_t cap)
{
	int64_t form = 0, whole;
	int r = dbfile_recognize(db, APPLICATION_ID, &form);

	if (r == -EPROTOTYPE)
		snprintf(why, cap, "it is not a database of meshd");
	if (r)
		return r;
	if (form < 0) {
		r = store_create(db);
		return r ? r : store_upgrade(db, FIRST_FORM);
	}
	if (form > STORE_FORM) {
		snprintf(why, cap,
			 "it was made by a newer meshd (form %d, this one knows %d): use that, or "
			 "another --state",
			 (int)form, STORE_FORM);
		return -EPROTOTYPE;
	}
	r = dbfile_number(db, "SELECT 1 FROM pragma_quick_check WHERE quick_check = 'ok'", &whole);
	return r ? r : store_upgrade(db, form);
}

static int store_load(struct store *s)
{
	sqlite3_stmt *st = s->stmt[S_META_GET];
	const char *epoch;

	if (sqlite3_step(st) != SQLITE_ROW)
		return -EIO;
	epoch = (const char *)sqlite3_column_text(st, 1);
	s->revision = s->committed = (uint64_t)sqlite3_column_int64(st, 0);
	snprintf(s->epoch, sizeof(s->epoch), "%s", epoch ? epoch : "");
	s->starts = (uint64_t)sqlite3_column_int64(st, 2) + 1;
	sqlite3_reset(st);
	/* a full disk must not keep meshd from starting: it only counts this start twice then */
	s->healthy = sqlite3_exec(s->db, "UPDATE meta SET starts = starts + 1", NULL, NULL, NULL) ==
		     SQLITE_OK;
	if (!s->healthy)
		snprintf(s->error, sizeof(s->error), "%s", sqlite3_errmsg(s->db));
	return 0;
}

static bool is_damaged(sqlite3 *db)
{
	int code = sqlite3_errcode(db);

	return code == SQLITE_NOTADB || code == SQLITE_CORRUPT;
}

int store_open(const char *dir, struct store **out, char *why, size_t cap)
{
	static const char settings[] =
		"PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; "
		"PRAGMA synchronous = FULL; PRAGMA cache_size = -512; PRAGMA trusted_schema = OFF;"
		"BEGIN IMMEDIATE; COMMIT"; /* takes the lock: a second meshd ends here */
	char file[4096], reason[192] = "";
	struct store *s = calloc(1, sizeof(*s));
	int r;

	snprintf(why, cap, "out of memory");
	if (!s)
		return -ENOMEM;
	snprintf(file, sizeof(file), "%s/meshd.db", dir);
	s->healthy = true;
	r = dbfile_open(file, settings, &s->db);
	if (!r)
		r = store_recognize(s->db, reason, sizeof(reason));
	if (!r)
		r = dbfile_prepare(s->db, store_statements, s->stmt, STATEMENTS);
	if (!r)
		r = store_load(s);
	if (!r) {
		*out = s;
		return 0;
	}
	if (sqlite3_errcode(s->db) == SQLITE_BUSY)
		snprintf(reason, sizeof(reason), "another meshd uses it");
	snprintf(why, cap, "cannot use %s: %s%s", file, reason[0] ? reason : sqlite3_errmsg(s->db),
		 is_damaged(s->db) ? "; restore it, or move it away to begin without what it held "
				     "(configuration, registrations, drains)"
				   : "");
	store_close(&s);
	return r;
}

void store_close(struct store **s)
{
	if (!*s)
		return;
	dbfile_close(&(*s)->db, (*s)->stmt, STATEMENTS);
	free(*s);
	*s = NULL;
}
