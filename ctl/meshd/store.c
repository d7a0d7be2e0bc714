/* SPDX-License-Identifier: Apache-2.0 */
/* See store.h. Every statement is in the table below and is prepared once. */
#include "ctl/meshd/store.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define STR_(x)	       #x
#define STR(x)	       STR_(x)
#define SCHEMA_VERSION 1
#define APPLICATION_ID 0x6d657368 /* "mesh": another program's database is not touched */

enum statement {
	S_BEGIN,
	S_COMMIT,
	S_ROLLBACK,
	S_META_GET,
	S_REVISION_SET,
	S_CONFIG_PUT,
	S_CONFIG_DELETE,
	S_CONFIG_GET,
	S_CONFIG_ALL,
	S_CONFIG_SIZE,
	S_HISTORY_ADD,
	S_HISTORY_TRIM,
	S_HISTORY_TRIM_ALL,
	S_HISTORY_ALL,
	S_HISTORY_GET,
	S_FILE_PUT,
	S_FILE_DELETE,
	S_FILE_ALL,
	S_REG_PUT,
	S_REG_DELETE,
	S_REG_ALL,
	S_REG_COUNT,
	STATEMENTS,
};

static const char *const statements[STATEMENTS] = {
	[S_BEGIN] = "BEGIN IMMEDIATE",
	[S_COMMIT] = "COMMIT",
	[S_ROLLBACK] = "ROLLBACK",
	[S_META_GET] = "SELECT revision, epoch FROM meta",
	[S_REVISION_SET] = "UPDATE meta SET revision = ?1",
	[S_CONFIG_PUT] = "INSERT INTO config(service, revision, text) VALUES(?1, ?2, ?3) ON "
			 "CONFLICT(service) "
			 "DO UPDATE SET revision = excluded.revision, text = excluded.text",
	[S_CONFIG_DELETE] = "DELETE FROM config WHERE service = ?1",
	[S_CONFIG_GET] = "SELECT text, revision FROM config WHERE service = ?1",
	[S_CONFIG_ALL] = "SELECT service, text, revision FROM config ORDER BY service",
	[S_CONFIG_SIZE] = "SELECT count(*), coalesce(sum(length(CAST(text AS BLOB))), 0) FROM "
			  "config WHERE service <> ?1",
	[S_HISTORY_ADD] = "INSERT INTO history(service, revision, text, author, action, time_ms) "
			  "VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
	[S_HISTORY_TRIM] = "DELETE FROM history WHERE service = ?1 AND revision <= (SELECT "
			   "revision FROM history WHERE "
			   "service = ?1 ORDER BY revision DESC LIMIT 1 OFFSET " STR(
				   STORE_HISTORY_PER_SERVICE) ")",
	[S_HISTORY_TRIM_ALL] = "DELETE FROM history WHERE revision <= (SELECT revision FROM "
			       "history ORDER BY revision "
			       "DESC LIMIT 1 OFFSET " STR(STORE_HISTORY_MAX) ")",
	[S_HISTORY_ALL] =
		"SELECT text, author, action, time_ms, revision FROM history WHERE service = ?1 "
		"ORDER BY revision DESC",
	[S_HISTORY_GET] = "SELECT text FROM history WHERE service = ?1 AND revision = ?2 AND text "
			  "IS NOT NULL",
	[S_FILE_PUT] = "INSERT OR REPLACE INTO file(service, file, text) VALUES(?1, ?2, ?3)",
	[S_FILE_DELETE] = "DELETE FROM file WHERE service = ?1",
	[S_FILE_ALL] = "SELECT service, file, text FROM file ORDER BY service",
	[S_REG_PUT] =
		"INSERT OR REPLACE INTO registration(service, instance, text) VALUES(?1, ?2, ?3)",
	[S_REG_DELETE] = "DELETE FROM registration WHERE service = ?1 AND instance = ?2",
	[S_REG_ALL] = "SELECT service, instance, text FROM registration ORDER BY service, instance",
	[S_REG_COUNT] = "SELECT count(*) FROM registration",
};

static const char create[] =
	"BEGIN IMMEDIATE;"
	"PRAGMA application_id = " STR(APPLICATION_ID) "; PRAGMA user_version = " STR(
		SCHEMA_VERSION) ";"
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

struct store {
	sqlite3 *db;
	sqlite3_stmt *stmt[STATEMENTS];
	uint64_t revision, committed; /* revision: also counts what an open transaction has done */
	char epoch[17];
	bool open, healthy;
	char error[160];
};

static int fail(struct store *s)
{
	snprintf(s->error, sizeof(s->error), "%s", sqlite3_errmsg(s->db));
	s->healthy = false;
	return -EIO;
}

/* Binds by the letters of fmt: s text (NULL allowed), i uint64_t. */
static sqlite3_stmt *bind(struct store *s, enum statement id, const char *fmt, ...)
{
	sqlite3_stmt *st = s->stmt[id];
	va_list ap;

	va_start(ap, fmt);
	for (int i = 1; *fmt; fmt++, i++) {
		if (*fmt == 's')
			sqlite3_bind_text(st, i, va_arg(ap, const char *), -1, SQLITE_STATIC);
		else
			sqlite3_bind_int64(st, i, (sqlite3_int64)va_arg(ap, uint64_t));
	}
	va_end(ap);
	return st;
}

static void unbind(sqlite3_stmt *st)
{
	sqlite3_reset(st);
	sqlite3_clear_bindings(st);
}

/* Runs a statement that gives no rows. */
static int run(struct store *s, sqlite3_stmt *st)
{
	int r = sqlite3_step(st) == SQLITE_DONE ? 0 : fail(s);

	unbind(st);
	return r;
}

static const char *text_at(sqlite3_stmt *st, int column)
{
	return (const char *)sqlite3_column_text(st, column);
}

int store_begin(struct store *s)
{
	int r = run(s, s->stmt[S_BEGIN]);

	s->open = !r;
	return r;
}

int store_commit(struct store *s)
{
	int r = 0;

	if (s->revision != s->committed)
		r = run(s, bind(s, S_REVISION_SET, "i", s->revision));
	if (!r)
		r = run(s, s->stmt[S_COMMIT]);
	if (r) {
		store_rollback(s);
		return r;
	}
	s->committed = s->revision;
	s->open = false;
	s->healthy = true;
	return 0;
}

void store_rollback(struct store *s)
{
	/* SQLite may have rolled back by itself after an error: then there is nothing to do */
	if (!sqlite3_get_autocommit(s->db) && sqlite3_step(s->stmt[S_ROLLBACK]) != SQLITE_DONE)
		fail(s);
	sqlite3_reset(s->stmt[S_ROLLBACK]);
	s->revision = s->committed;
	s->open = false;
}

/* Begins a transaction unless one is open: *own says who has to end it. */
static int enter(struct store *s, bool *own)
{
	*own = !s->open;
	return *own ? store_begin(s) : 0;
}

static int leave(struct store *s, bool own, int r)
{
	if (!own)
		return r;
	if (!r)
		return store_commit(s);
	store_rollback(s);
	return r;
}

/* One row, one number; what counts is that the answer is exact. */
static int counts(struct store *s, sqlite3_stmt *st, int64_t *a, int64_t *b)
{
	int r = 0;

	if (sqlite3_step(st) == SQLITE_ROW) {
		*a = sqlite3_column_int64(st, 0);
		if (b)
			*b = sqlite3_column_int64(st, 1);
	} else {
		r = fail(s);
	}
	unbind(st);
	return r;
}

static int config_has_room(struct store *s, const struct store_change *c)
{
	int64_t n = 0, bytes = 0;
	int r = counts(s, bind(s, S_CONFIG_SIZE, "s", c->service), &n, &bytes);

	if (!r && (n >= STORE_SERVICES_MAX || (uint64_t)bytes + strlen(c->text) > STORE_TEXT_MAX))
		r = -ENOSPC;
	return r;
}

static int config_write(struct store *s, const struct store_change *c, uint64_t rev)
{
	int r;

	if (c->text) {
		r = config_has_room(s, c);
		if (!r)
			r = run(s, bind(s, S_CONFIG_PUT, "sis", c->service, rev, c->text));
	} else {
		r = run(s, bind(s, S_CONFIG_DELETE, "s", c->service));
		if (!r && !sqlite3_changes(s->db))
			r = -ENOENT;
	}
	if (!r)
		r = run(s, bind(s, S_HISTORY_ADD, "sisssi", c->service, rev, c->text, c->author,
				c->action, c->time_ms));
	if (!r)
		r = run(s, bind(s, S_HISTORY_TRIM, "s", c->service));
	return r ? r : run(s, s->stmt[S_HISTORY_TRIM_ALL]);
}

int store_config_change(struct store *s, const struct store_change *c, uint64_t *revision)
{
	bool own;
	int r = enter(s, &own);

	if (r)
		return r;
	r = config_write(s, c, s->revision + 1);
	if (!r)
		s->revision++;
	r = leave(s, own, r);
	if (!r)
		*revision = s->revision;
	return r;
}

/* One text (and one number) out of a row. */
static int get_text(struct store *s, sqlite3_stmt *st, char **text, uint64_t *number)
{
	int r, step = sqlite3_step(st);

	if (step == SQLITE_ROW) {
		char *copy = strdup(text_at(st, 0));

		r = copy ? 0 : -ENOMEM;
		if (copy) {
			*text = copy;
			if (number)
				*number = (uint64_t)sqlite3_column_int64(st, 1);
		}
	} else {
		r = step == SQLITE_DONE ? -ENOENT : fail(s);
	}
	unbind(st);
	return r;
}

int store_config_get(struct store *s, const char *service, char **text, uint64_t *revision)
{
	return get_text(s, bind(s, S_CONFIG_GET, "s", service), text, revision);
}

int store_history_get(struct store *s, const char *service, uint64_t revision, char **text)
{
	return get_text(s, bind(s, S_HISTORY_GET, "si", service, revision), text, NULL);
}

int store_config_each(struct store *s, int (*fn)(void *, const char *, const char *, uint64_t),
		      void *arg)
{
	sqlite3_stmt *st = s->stmt[S_CONFIG_ALL];
	int step, r = 0;

	while ((step = sqlite3_step(st)) == SQLITE_ROW && !r)
		r = fn(arg, text_at(st, 0), text_at(st, 1), (uint64_t)sqlite3_column_int64(st, 2));
	if (step != SQLITE_ROW && step != SQLITE_DONE)
		r = fail(s);
	unbind(st);
	return r;
}

int store_history_each(struct store *s, const char *service,
		       int (*fn)(void *, const struct store_change *, uint64_t), void *arg)
{
	sqlite3_stmt *st = bind(s, S_HISTORY_ALL, "s", service);
	int step, r = 0;

	while ((step = sqlite3_step(st)) == SQLITE_ROW && !r) {
		struct store_change c = {
			.service = service,
			.text = text_at(st, 0),
			.author = text_at(st, 1),
			.action = text_at(st, 2),
			.time_ms = (uint64_t)sqlite3_column_int64(st, 3),
		};
		r = fn(arg, &c, (uint64_t)sqlite3_column_int64(st, 4));
	}
	if (step != SQLITE_ROW && step != SQLITE_DONE)
		r = fail(s);
	unbind(st);
	return r;
}

/* Three texts a row. */
static int each_text(struct store *s, sqlite3_stmt *st,
		     int (*fn)(void *, const char *, const char *, const char *), void *arg)
{
	int step, r = 0;

	while ((step = sqlite3_step(st)) == SQLITE_ROW && !r)
		r = fn(arg, text_at(st, 0), text_at(st, 1), text_at(st, 2));
	if (step != SQLITE_ROW && step != SQLITE_DONE)
		r = fail(s);
	unbind(st);
	return r;
}

int store_file_put(struct store *s, const char *service, const char *file, const char *text)
{
	if (!text)
		return run(s, bind(s, S_FILE_DELETE, "s", service));
	return run(s, bind(s, S_FILE_PUT, "sss", service, file, text));
}

int store_file_each(struct store *s, int (*fn)(void *, const char *, const char *, const char *),
		    void *arg)
{
	return each_text(s, s->stmt[S_FILE_ALL], fn, arg);
}

int store_registration_put(struct store *s, const char *service, const char *instance,
			   const char *text)
{
	int64_t n = 0;
	bool own;
	int r = enter(s, &own);

	if (r)
		return r;
	r = run(s, bind(s, S_REG_PUT, "sss", service, instance, text));
	if (!r)
		r = counts(s, s->stmt[S_REG_COUNT], &n, NULL);
	if (!r && n > STORE_REGISTRATIONS_MAX)
		r = -ENOSPC;
	if (!r)
		s->revision++;
	return leave(s, own, r);
}

int store_registration_delete(struct store *s, const char *service, const char *instance)
{
	bool own;
	int r = enter(s, &own);

	if (r)
		return r;
	r = run(s, bind(s, S_REG_DELETE, "ss", service, instance));
	if (!r && !sqlite3_changes(s->db))
		r = -ENOENT;
	if (!r)
		s->revision++;
	return leave(s, own, r);
}

int store_registration_each(struct store *s,
			    int (*fn)(void *, const char *, const char *, const char *), void *arg)
{
	return each_text(s, s->stmt[S_REG_ALL], fn, arg);
}

uint64_t store_revision(const struct store *s)
{
	return s->committed;
}

const char *store_epoch(const struct store *s)
{
	return s->epoch;
}

const char *store_error(const struct store *s)
{
	return s->error;
}

bool store_healthy(const struct store *s)
{
	return s->healthy;
}

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
		return store_create(s);
	if (id != APPLICATION_ID)
		snprintf(why, cap, "it is not a database of meshd");
	else if (version > SCHEMA_VERSION)
		snprintf(why, cap,
			 "it was made by a newer meshd (form %d, this one knows %d): use that, or "
			 "another --state",
			 version, SCHEMA_VERSION);
	else
		return pragma(s->db, "SELECT 1 FROM pragma_quick_check WHERE quick_check = 'ok'",
			      NULL);
	return -EINVAL;
}

static int store_prepare(struct store *s)
{
	for (int i = 0; i < STATEMENTS; i++)
		if (sqlite3_prepare_v3(s->db, statements[i], -1, SQLITE_PREPARE_PERSISTENT,
				       &s->stmt[i], NULL) != SQLITE_OK)
			return -EIO;
	return 0;
}

static int store_load(struct store *s)
{
	sqlite3_stmt *st = s->stmt[S_META_GET];

	if (sqlite3_step(st) != SQLITE_ROW)
		return -EIO;
	s->revision = s->committed = (uint64_t)sqlite3_column_int64(st, 0);
	snprintf(s->epoch, sizeof(s->epoch), "%s", text_at(st, 1) ? text_at(st, 1) : "");
	sqlite3_reset(st);
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
