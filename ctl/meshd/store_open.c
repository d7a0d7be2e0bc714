/* SPDX-License-Identifier: Apache-2.0 */
/* The file of the store: made, recognized, brought up to date, opened; see store.h. */
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

static int pragma(sqlite3 *db, const char *sql, int *value)
{
	sqlite3_stmt *st;
	int r = sqlite3_prepare_v2(db, sql, -1, &st, NULL) == SQLITE_OK &&
				sqlite3_step(st) == SQLITE_ROW
			? 0
			: -EIO;

	if (!r && value)
		*value = sqlite3_column_int(st, 0);
	sqlite3_finalize(st);
	return r;
}

static int store_create(struct store *s)
{
	char sql[128];
	uint64_t epoch;

	if (getrandom(&epoch, sizeof(epoch), 0) != sizeof(epoch))
		return -EIO;
	snprintf(sql, sizeof(sql), "INSERT INTO meta VALUES(1, 1, '%016llx'); COMMIT",
		 (unsigned long long)epoch);
	if (sqlite3_exec(s->db, create, NULL, NULL, NULL) != SQLITE_OK ||
	    sqlite3_exec(s->db, sql, NULL, NULL, NULL) != SQLITE_OK)
		return -EIO;
	return 0;
}

static int store_upgrade(struct store *s, int form)
{
	for (; form < STORE_FORM; form++)
		if (form < FIRST_FORM ||
		    sqlite3_exec(s->db, upgrades[form], NULL, NULL, NULL) != SQLITE_OK)
			return -EIO;
	return 0;
}

/* Is it ours, whole, and of a version we know? Makes it when it is empty. -EIO leaves the words to
 * SQLite. */
static int store_recognize(struct store *s, char *why, size_t cap)
{
	int id, version, objects;

	if (pragma(s->db, "PRAGMA application_id", &id) ||
	    pragma(s->db, "PRAGMA user_version", &version) ||
	    pragma(s->db, "SELECT count(*) FROM sqlite_master", &objects))
		return -EIO;
	if (!objects && !id)
		return store_create(s) ? -EIO : store_upgrade(s, FIRST_FORM);
	if (id != APPLICATION_ID)
		snprintf(why, cap, "it is not a database of meshd");
	else if (version > STORE_FORM)
		snprintf(why, cap,
			 "it was made by a newer meshd (form %d, this one knows %d): use that, or "
			 "another --state",
			 version, STORE_FORM);
	else if (pragma(s->db, "SELECT 1 FROM pragma_quick_check WHERE quick_check = 'ok'", NULL))
		return -EIO;
	else
		return store_upgrade(s, version);
	return -EINVAL;
}

static int store_prepare(struct store *s)
{
	for (int i = 0; i < STATEMENTS; i++)
		if (sqlite3_prepare_v3(s->db, store_statements[i], -1, SQLITE_PREPARE_PERSISTENT,
				       &s->stmt[i], NULL) != SQLITE_OK)
			return -EIO;
	return 0;
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

int store_open(const char *dir, struct store **out, char *why, size_t cap)
{
	static const char setup[] =
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
	r = sqlite3_open_v2(file, &s->db,
			    SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
			    NULL) == SQLITE_OK &&
			    sqlite3_exec(s->db, setup, NULL, NULL, NULL) == SQLITE_OK
		    ? 0
		    : -EIO;
	if (!r)
		r = store_recognize(s, reason, sizeof(reason));
	if (!r)
		r = store_prepare(s);
	if (!r)
		r = store_load(s);
	if (!r) {
		*out = s;
		return 0;
	}
	if (sqlite3_errcode(s->db) == SQLITE_BUSY)
		snprintf(reason, sizeof(reason), "another meshd uses it");
	snprintf(why, cap, "cannot use %s: %s", file, reason[0] ? reason : sqlite3_errmsg(s->db));
	store_close(&s);
	return r;
}

void store_close(struct store **s)
{
	if (!*s)
		return;
	for (int i = 0; i < STATEMENTS; i++)
		sqlite3_finalize((*s)->stmt[i]);
	sqlite3_close((*s)->db);
	free(*s);
	*s = NULL;
}
