/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What meshd's three SQLite files have in common: the configuration's (store_open.c), the metrics'
 * (red/disk_open.c) and the traces' (traces/db_open.c) are opened, recognized and closed here; the
 * last two have their log written back by wal.h and are put aside by aside.h when they are of no
 * use.
 *
 * Each keeps to itself, because it differs: its settings (the configuration survives a power cut
 * and is locked against a second meshd, the others are neither), its tables, and what becomes of a
 * file of another form (the configuration is brought up to date or refused, never replaced).
 *
 * Functions that ask SQLite: 0, -EBADMSG (the file is damaged, or no database), or -EIO; the words
 * are in sqlite3_errmsg().
 */
#ifndef MESHD_DBFILE_H
#define MESHD_DBFILE_H

#include <sqlite3.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

/* Of files whose log wal.h writes back: what is committed is with the kernel then, which kill -9
 * does not reach; a power cut may take the last moments, and never only a part of a commit. */
#define DBFILE_LOGGED                                                                              \
	"PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 0; "                             \
	"PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF;"

/* Makes it when it is not there, and runs `settings`. *out is to be closed after failures too, and
 * NULL only without memory. For one thread. */
int dbfile_open(const char *file, const char *settings, sqlite3 **out);
/* Finalizes the statements, which may be NULL, and closes; all are NULL then. */
void dbfile_close(sqlite3 **db, sqlite3_stmt **stmt, unsigned n);

/* Whose is it? *form: its user_version, or -1 when nothing is in it yet. -EPROTOTYPE: another
 * program's. */
int dbfile_recognize(sqlite3 *db, int application_id, int64_t *form);
int dbfile_prepare(sqlite3 *db, const char *const *sql, sqlite3_stmt **stmt, unsigned n);

int dbfile_run(sqlite3 *db, const char *sql); /* whatever rows it gives are dropped */
/* The first column of the first row; no row is an error. */
int dbfile_number(sqlite3 *db, const char *sql, int64_t *value);
/* What the last failure comes to: -EBADMSG or -EIO. */
int dbfile_fault(sqlite3 *db);

struct dbfile_bytes {
	const void *p;
	size_t len;
};
/* Binds by the letters of fmt: s text (NULL: SQL's NULL), i a whole number of 64 bits, k a key of
 * 16 bytes, b struct dbfile_bytes *. What is bound stays the caller's until dbfile_reset(). */
void dbfile_bind(sqlite3_stmt *st, const char *fmt, va_list ap);
void dbfile_reset(sqlite3_stmt *st); /* unbinds too */

#endif
