/* SPDX-License-Identifier: Apache-2.0 */
/* See dbfile.h. */
#include "ctl/meshd/dbfile.h"

#include <errno.h>
#include <stddef.h>

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
