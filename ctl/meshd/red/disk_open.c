/* SPDX-License-Identifier: Apache-2.0 */
/* See disk.h: the file is made, recognized, opened, put aside. */
#include "ctl/meshd/aside.h"
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
#define WAL_KEEP_BYTES 67108864	  /* of the file of the WAL, once it is in the database */

static const char settings[] = "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;"
			       "PRAGMA wal_autocheckpoint = 0; PRAGMA cache_size = -4096;"
			       "PRAGMA temp_store = MEMORY;"
			       "PRAGMA journal_size_limit = " STR(WAL_KEEP_BYTES);

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

static int on_commit(void *arg, sqlite3 *db, const char *name, int frames)
{
	struct red_disk *d = arg;

	/* the thread does not keep up: the writer does it, before nothing may be written */
	if ((uint64_t)frames * (uint64_t)d->page_size > d->log_max / 2)
		sqlite3_wal_checkpoint_v2(db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
	disk_wal_told(&d->wal, frames);
	return SQLITE_OK;
}

static int pragma(struct red_disk *d, const char *sql, int *value)
{
	sqlite3_stmt *st;
	int r = sqlite3_prepare_v2(d->db, sql, -1, &st, NULL) == SQLITE_OK &&
				sqlite3_step(st) == SQLITE_ROW
			? 0
			: disk_fail(d);

	if (!r)
		*value = sqlite3_column_int(st, 0);
	sqlite3_finalize(st);
	return r;
}

static int run(struct red_disk *d, const char *sql)
{
	return sqlite3_exec(d->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : disk_fail(d);
}

/* Is it ours and of a form we know? One of another form is no damage, but no use either. */
static int recognize(struct red_disk *d)
{
	int id, form, objects, r;

	r = pragma(d, "PRAGMA application_id", &id);
	if (!r)
		r = pragma(d, "PRAGMA user_version", &form);
	if (!r)
		r = pragma(d, "SELECT count(*) FROM sqlite_master", &objects);
	if (r)
		return r;
	if (!objects && !id)
		return run(d, create);
	if (id == APPLICATION_ID && form == DISK_FORM)
		return 0;
	snprintf(d->error, sizeof(d->error), "it is no telemetry of this version of meshd");
	return -EPROTOTYPE;
}

int disk_prepare(struct red_disk *d)
{
	for (int i = 0; i < DISK_STATEMENTS; i++)
		if (sqlite3_prepare_v3(d->db, disk_statements[i], -1, SQLITE_PREPARE_PERSISTENT,
				       &d->stmt[i], NULL) != SQLITE_OK)
			return disk_fail(d);
	return 0;
}

static int disk_open(struct red_disk *d, const char *file)
{
	int r, journal = 0;

	if (sqlite3_open_v2(file, &d->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL) !=
	    SQLITE_OK)
		return disk_fail(d);
	sqlite3_extended_result_codes(d->db, 1);
	sqlite3_busy_timeout(d->db, 50);
	r = run(d, settings);
	if (!r)
		r = recognize(d);
	if (!r)
		r = pragma(d, "PRAGMA page_size", &d->page_size);
	if (!r)
		r = disk_prepare(d);
	if (!r)
		r = pragma(d, "SELECT coalesce(sum(length(records)), 0) / 1024 FROM journal",
			   &journal);
	d->journal_bytes = (uint64_t)journal * 1024;
	if (r)
		return r;
	sqlite3_wal_hook(d->db, on_commit, d);
	r = disk_wal_start(&d->wal, file);
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
	d->log_max = DISK_LOG_BYTES;
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
	disk_wal_stop(&(*d)->wal);
	for (int i = 0; i < DISK_STATEMENTS; i++)
		sqlite3_finalize((*d)->stmt[i]);
	sqlite3_close((*d)->db);
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
