/* SPDX-License-Identifier: Apache-2.0 */
/* See dbfile.h. */
#include "ctl/meshd/dbfile.h"

#include <errno.h>

int dbfile_fault(sqlite3 *db)
{
	int code = sqlite3_errcode(db) & 0xff;

	return code == SQLITE_CORRUPT || code == SQLITE_NOTADB ? -EBADMSG : -EIO;
}

int dbfile_run(sqlite3 *db, const char *sql)
{
	return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : dbfile_fault(db);
}

int dbfile_number(sqlite3 *db, const char *sql, int64_t *value)
{
	sqlite3_stmt *st = NULL;
	int r = sqlite3_prepare_v2(db, sql, -1, &st, NULL) == SQLITE_OK &&
				sqlite3_step(st) == SQLITE_ROW
			? 0
			: dbfile_fault(db);

	if (!r)
		*value = sqlite3_column_int64(st, 0);
	sqlite3_finalize(st);
	return r;
}

int dbfile_open(const char *file, const char *settings, sqlite3 **out)
{
	const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;

	if (sqlite3_open_v2(file, out, flags, NULL) != SQLITE_OK)
		return dbfile_fault(*out);
	return dbfile_run(*out, settings);
}

void dbfile_close(sqlite3 **db, sqlite3_stmt **stmt, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		sqlite3_finalize(stmt[i]);
		stmt[i] = NULL;
	}
	sqlite3_close(*db);
	*db = NULL;
}

int dbfile_recognize(sqlite3 *db, int application_id, int64_t *form)
{
	int64_t id = 0, objects = 0;
	int r = dbfile_number(db, "PRAGMA application_id", &id);

	if (!r)
		r = dbfile_number(db, "SELECT count(*) FROM sqlite_master", &objects);
	if (!r)
		r = dbfile_number(db, "PRAGMA user_version", form);
	if (!r && !objects && !id)
		*form = -1;
	else if (!r && id != application_id)
		r = -EPROTOTYPE;
	return r;
}

int dbfile_prepare(sqlite3 *db, const char *const *sql, sqlite3_stmt **stmt, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (sqlite3_prepare_v3(db, sql[i], -1, SQLITE_PREPARE_PERSISTENT, &stmt[i], NULL) !=
		    SQLITE_OK)
			return dbfile_fault(db);
	return 0;
}

static void bind_bytes(sqlite3_stmt *st, int i, const struct dbfile_bytes *b)
{
	sqlite3_bind_blob64(st, i, b->p, b->len, SQLITE_STATIC);
}

void dbfile_bind(sqlite3_stmt *st, const char *fmt, va_list ap)
{
	for (int i = 1; *fmt; fmt++, i++) {
		switch (*fmt) {
		case 's':
			sqlite3_bind_text(st, i, va_arg(ap, const char *), -1, SQLITE_STATIC);
			break;
		case 'k':
			sqlite3_bind_blob(st, i, va_arg(ap, const uint8_t *), 16, SQLITE_STATIC);
			break;
		case 'b':
			bind_bytes(st, i, va_arg(ap, const struct dbfile_bytes *));
			break;
		default:
			sqlite3_bind_int64(st, i, va_arg(ap, sqlite3_int64));
		}
	}
}

void dbfile_reset(sqlite3_stmt *st)
{
	sqlite3_reset(st);
	sqlite3_clear_bindings(st);
}
