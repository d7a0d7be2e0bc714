/* SPDX-License-Identifier: Apache-2.0 */
/* See disk.h: the file is made, recognized, opened, put aside. */
#include "ctl/meshd/aside.h"
#include "ctl/meshd/dbfile.h"
#include "ctl/meshd/red/disk_impl.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STR_(x)	       #x
#define STR(x)	       STR_(x)
#define DISK_FORM      1
#define APPLICATION_ID 0x6d657374 /* "mest": its telemetry */
#define LOG_KEEP_BYTES 67108864	  /* of the file of the log, once it is in the database */

static const char settings[] =
	"PRAGMA busy_timeout = 50; PRAGMA journal_mode = WAL;" DBFILE_LOGGED
	"PRAGMA cache_size = -4096; PRAGMA journal_size_limit = " STR(LOG_KEEP_BYTES);

static const char create[] =
	"BEGIN IMMEDIATE;"
	"PRAGMA application_id = " STR(APPLICATION_ID) "; PRAGMA user_version = " STR(
		DISK_FORM) ";"
			   "CREATE TABLE agent(node TEXT NOT NULL, epoch TEXT NOT NULL, seq "
			   "INTEGER NOT NULL, used_s INTEGER NOT NULL, PRIMARY KEY(node, epoch));"
			   "CREATE TABLE journal(id INTEGER PRIMARY KEY AUTOINCREMENT, second_s "
			   "INTEGER NOT NULL, records BLOB NOT NULL);"
			   "CREATE TABLE mark(tier INTEGER NOT NULL, shard INTEGER NOT NULL, id "
			   "INTEGER NOT NULL, PRIMARY KEY(tier, shard));"
			   "CREATE TABLE cell(id INTEGER PRIMARY KEY, tier INTEGER NOT NULL, "
			   "start_s INTEGER NOT NULL, service TEXT NOT NULL, records BLOB NOT "
			   "NULL);"
			   "CREATE INDEX cell_time ON cell(tier, start_s);"
			   "CREATE INDEX cell_service ON cell(tier, service, start_s);"
			   "CREATE TABLE service(name TEXT PRIMARY KEY, first_s INTEGER NOT NULL, "
			   "last_s INTEGER NOT NULL, called INTEGER NOT NULL) WITHOUT ROWID;"
			   "COMMIT";

/* r of dbfile.h: one that failed leaves the words. */
static int said(struct red_disk *d, int r)
{
	if (r == -EPROTOTYPE)
		snprintf(d->error, sizeof(d->error), "it is no telemetry of this version of meshd");
	else if (r)
		snprintf(d->error, sizeof(d->error), "%s", sqlite3_errmsg(d->db));
	return r;
}

/* Is it ours and of a form we know? One of another form is no damage, but no use either. */
static int recognize(sqlite3 *db)
{
	int64_t form = 0;
	int r = dbfile_recognize(db, APPLICATION_ID, &form);

	if (r || form == DISK_FORM)
		return r;
	return form < 0 ? dbfile_run(db, create) : -EPROTOTYPE;
}

static int disk_open(struct red_disk *d, const char *file)
{
	int64_t journal = 0;
	int r = dbfile_open(file, settings, &d->db);

	if (!r)
		r = recognize(d->db);
	if (!r)
		r = dbfile_prepare(d->db, disk_statements, d->stmt, DISK_STATEMENTS);
	if (!r)
		r = dbfile_number(d->db, "SELECT coalesce(sum(length(records)), 0) FROM journal",
				  &journal);
	if (said(d, r))
		return r;
	d->journal_bytes = (uint64_t)journal;
	r = wal_start(&d->wal, d->db, file);
	if (r)
		snprintf(d->error, sizeof(d->error), "no thread for the write-ahead log");
	return r;
}

int red_disk_open(const char *dir, struct red_disk **out, char *why, size_t cap)
{
	struct red_disk *d = calloc(1, sizeof(*d));
	char file[PATH_MAX];
	int r;

	if (!d)
		return -ENOMEM;
	snprintf(file, sizeof(file), "%s/telemetry.db", dir);
	d->part_ns = DISK_PART_NS;
	red_disk_limit(d, RED_DISK_BYTES, RED_JOURNAL_BYTES);
	r = disk_open(d, file);
	if (!r) {
		*out = d;
		return 0;
	}
	snprintf(why, cap, "%s: %s", file, d->error);
	red_disk_close(&d);
	return r;
}

void red_disk_close(struct red_disk **d)
{
	if (!*d)
		return;
	wal_stop(&(*d)->wal);
	dbfile_close(&(*d)->db, (*d)->stmt, DISK_STATEMENTS);
	free(*d);
	*d = NULL;
}

int red_disk_put_aside(const char *dir, const char *cause, char *to, size_t cap)
{
	char file[PATH_MAX];

	if (snprintf(file, sizeof(file), "%s/telemetry.db", dir) >= (int)sizeof(file))
		return -ENAMETOOLONG;
	return aside_put(file, cause, to, cap);
}
