/* SPDX-License-Identifier: Apache-2.0 */
/* See store.h: reading and writing. Opening is in store_open.c. */
#include "ctl/meshd/dbfile.h"
#include "ctl/meshd/store_impl.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STR_(x) #x
#define STR(x)	STR_(x)

const char *const store_statements[STATEMENTS] = {
	[S_BEGIN] = "BEGIN IMMEDIATE",
	[S_COMMIT] = "COMMIT",
	[S_ROLLBACK] = "ROLLBACK",
	[S_META_GET] = "SELECT revision, epoch, starts FROM meta",
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
	[S_DRAIN_PUT] =
		"INSERT OR REPLACE INTO drain(service, endpoint, author) VALUES(?1, ?2, ?3)",
	[S_DRAIN_DELETE] = "DELETE FROM drain WHERE service = ?1 AND endpoint = ?2",
	[S_DRAIN_ALL] = "SELECT service, endpoint, author FROM drain ORDER BY service, endpoint",
};

static int fail(struct store *s)
{
	snprintf(s->error, sizeof(s->error), "%s", sqlite3_errmsg(s->db));
	s->healthy = false;
	return -EIO;
}

/* By dbfile_bind(). */
static sqlite3_stmt *bind(struct store *s, enum statement id, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	dbfile_bind(s->stmt[id], fmt, ap);
	va_end(ap);
	return s->stmt[id];
}

/* Runs a statement that gives no rows. */
static int run(struct store *s, sqlite3_stmt *st)
{
	int r = sqlite3_step(st) == SQLITE_DONE ? 0 : fail(s);

	dbfile_reset(st);
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
	dbfile_reset(st);
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
	dbfile_reset(st);
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
	dbfile_reset(st);
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
	dbfile_reset(st);
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
	dbfile_reset(st);
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

int store_drain_put(struct store *s, const char *service, const char *endpoint, const char *author)
{
	bool own;
	int r = enter(s, &own);

	if (r)
		return r;
	r = run(s, bind(s, S_DRAIN_PUT, "sss", service, endpoint, author));
	return leave(s, own, r);
}

int store_drain_delete(struct store *s, const char *service, const char *endpoint)
{
	bool own;
	int r = enter(s, &own);

	if (r)
		return r;
	r = run(s, bind(s, S_DRAIN_DELETE, "ss", service, endpoint));
	if (!r && !sqlite3_changes(s->db))
		r = -ENOENT;
	return leave(s, own, r);
}

int store_drain_each(struct store *s,
		     int (*fn)(void *arg, const char *service, const char *endpoint,
			       const char *author),
		     void *arg)
{
	return each_text(s, s->stmt[S_DRAIN_ALL], fn, arg);
}

uint64_t store_starts(const struct store *s)
{
	return s->starts;
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
