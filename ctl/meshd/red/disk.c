/* SPDX-License-Identifier: Apache-2.0 */
/* See disk.h: reading and writing. Opening is in disk_open.c. */
#include "ctl/meshd/dbfile.h"
#include "ctl/meshd/red/disk_impl.h"
#include "lib/clock.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *const disk_statements[DISK_STATEMENTS] = {
	[D_BEGIN] = "BEGIN IMMEDIATE",
	[D_COMMIT] = "COMMIT",
	[D_ROLLBACK] = "ROLLBACK",
	[D_AGENT_PUT] = "INSERT OR REPLACE INTO agent(node, epoch, seq, used_s) "
			"VALUES(?1, ?2, ?3, ?4)",
	[D_AGENT_DROP] = "DELETE FROM agent WHERE node = ?1 AND epoch = ?2",
	[D_AGENT_ALL] = "SELECT node, epoch, seq, used_s FROM agent ORDER BY used_s",
	[D_JOURNAL_PUT] = "INSERT INTO journal(second_s, records) VALUES(?1, ?2)",
	[D_JOURNAL_ALL] = "SELECT id, second_s, records FROM journal WHERE id >= ?1 ORDER BY id",
	[D_JOURNAL_SIZE] = "SELECT coalesce(sum(length(records)), 0) FROM journal",
	[D_MARK_PUT] = "INSERT OR REPLACE INTO mark(tier, shard, id) VALUES(?1, ?2, ?3)",
	[D_MARK_ALL] = "SELECT tier, shard, id FROM mark",
	[D_CELL_PUT] = "INSERT INTO cell(tier, start_s, service, records) VALUES(?1, ?2, ?3, ?4)",
	[D_CELL_OF] = "SELECT start_s, records FROM cell INDEXED BY cell_service "
		      "WHERE tier = ?1 AND service = ?4 AND start_s >= ?2 AND start_s < ?3",
	[D_CELL_ALL] = "SELECT start_s, records FROM cell INDEXED BY cell_time "
		       "WHERE tier = ?1 AND start_s >= ?2 AND start_s < ?3",
	[D_CELL_OLDEST] = "SELECT coalesce(min(start_s), 0) FROM cell WHERE tier = ?1",
	[D_SERVICE_PUT] = "INSERT INTO service(name, first_s, last_s, called) "
			  "VALUES(?1, ?2, ?3, ?4) ON CONFLICT(name) DO UPDATE SET "
			  "first_s = min(first_s, excluded.first_s), "
			  "last_s = max(last_s, excluded.last_s), "
			  "called = max(called, excluded.called)",
	[D_SERVICE_ALL] = "SELECT name, first_s, last_s, called FROM service",
	[D_PRUNE_CELL] = "DELETE FROM cell WHERE id IN (SELECT id FROM cell INDEXED BY cell_time "
			 "WHERE tier = ?1 AND start_s < ?2 LIMIT ?3)",
	[D_PRUNE_CELL_OLDEST] =
		"DELETE FROM cell WHERE id IN (SELECT id FROM cell ORDER BY id LIMIT ?1)",
	[D_JOURNAL_OLDEST] = "SELECT id, second_s, length(records) FROM journal WHERE id <= ?1 "
			     "ORDER BY id LIMIT ?2",
	[D_PRUNE_JOURNAL] = "DELETE FROM journal WHERE id <= ?1 AND second_s < ?2",
	[D_PRUNE_SERVICE] = "DELETE FROM service WHERE name IN (SELECT name FROM service WHERE "
			    "last_s < ?1 LIMIT ?2)",
	[D_PRUNE_AGENT] = "DELETE FROM agent WHERE rowid IN (SELECT rowid FROM agent WHERE "
			  "used_s < ?1 LIMIT ?2)",
	[D_PAGES] = "SELECT page_count - freelist_count FROM pragma_page_count, "
		    "pragma_freelist_count",
};

/* Sets the error. -EBADMSG when the file is damaged, else -EIO. */
static int fail(struct red_disk *d)
{
	snprintf(d->error, sizeof(d->error), "%s", sqlite3_errmsg(d->db));
	return dbfile_fault(d->db);
}

const char *red_disk_error(const struct red_disk *d)
{
	return d->error;
}

/* By dbfile_bind(). */
static sqlite3_stmt *bind(struct red_disk *d, enum disk_statement id, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	dbfile_bind(d->stmt[id], fmt, ap);
	va_end(ap);
	return d->stmt[id];
}

static int run(struct red_disk *d, sqlite3_stmt *st)
{
	int r = sqlite3_step(st) == SQLITE_DONE ? 0 : fail(d);

	dbfile_reset(st);
	return r;
}

static uint64_t number(sqlite3_stmt *st, int column)
{
	return (uint64_t)sqlite3_column_int64(st, column);
}

static const char *text(sqlite3_stmt *st, int column)
{
	const char *s = (const char *)sqlite3_column_text(st, column);

	return s ? s : "";
}

static struct dbfile_bytes blob(sqlite3_stmt *st, int column)
{
	struct dbfile_bytes b = {.p = sqlite3_column_blob(st, column)};

	b.len = b.p ? (size_t)sqlite3_column_bytes(st, column) : 0;
	return b;
}

/* One row, one number; 0 when it cannot be read. */
static uint64_t ask(struct red_disk *d, sqlite3_stmt *st)
{
	uint64_t n = 0;

	if (sqlite3_step(st) == SQLITE_ROW)
		n = number(st, 0);
	dbfile_reset(st);
	return n;
}

/* Calls one(arg) for each row until it returns non-zero. */
static int each(struct red_disk *d, sqlite3_stmt *st, int (*one)(sqlite3_stmt *st, void *arg),
		void *arg)
{
	int step, r = 0;

	while ((step = sqlite3_step(st)) == SQLITE_ROW && !r)
		r = one(st, arg);
	if (step != SQLITE_ROW && step != SQLITE_DONE)
		r = fail(d);
	dbfile_reset(st);
	return r;
}

/* --- transactions -------------------------------------------------------------------- */

/* Another program that reads keeps the log from beginning anew, and a disk that is too slow does:
 * it must not take all of the disk. */
static int log_full(struct red_disk *d)
{
	if (!wal_full(&d->wal))
		return 0;
	snprintf(
		d->error, sizeof(d->error),
		"its write-ahead log is full: another program reads the file, or the disk is slow");
	return -EIO;
}

int red_disk_begin(struct red_disk *d)
{
	int r = log_full(d);

	if (!r)
		r = run(d, d->stmt[D_BEGIN]);
	d->began = !r;
	return r;
}

int red_disk_commit(struct red_disk *d)
{
	return run(d, d->stmt[D_COMMIT]);
}

void red_disk_rollback(struct red_disk *d)
{
	if (!d->began)
		return;
	d->began = false;
	/* SQLite may have done so by itself */
	if (!sqlite3_get_autocommit(d->db))
		sqlite3_step(d->stmt[D_ROLLBACK]);
	sqlite3_reset(d->stmt[D_ROLLBACK]);
	d->journal_bytes = ask(d, d->stmt[D_JOURNAL_SIZE]);
}

/* --- agents -------------------------------------------------------------------------- */

int red_disk_agent_put(struct red_disk *d, const struct red_disk_agent *a)
{
	return run(d, bind(d, D_AGENT_PUT, "ssii", a->node, a->epoch, a->seq, a->used_s));
}

int red_disk_agent_drop(struct red_disk *d, const char *node, const char *epoch)
{
	return run(d, bind(d, D_AGENT_DROP, "ss", node, epoch));
}

struct agents {
	int (*fn)(void *arg, const struct red_disk_agent *a);
	void *arg;
};

static int one_agent(sqlite3_stmt *st, void *arg)
{
	struct agents *to = arg;
	struct red_disk_agent a = {text(st, 0), text(st, 1), number(st, 2), number(st, 3)};

	return to->fn(to->arg, &a);
}

int red_disk_agents(struct red_disk *d, int (*fn)(void *arg, const struct red_disk_agent *a),
		    void *arg)
{
	struct agents to = {fn, arg};

	return each(d, d->stmt[D_AGENT_ALL], one_agent, &to);
}

/* --- journal ------------------------------------------------------------------------- */

int red_disk_journal_put(struct red_disk *d, uint64_t second_s, const void *records, size_t len,
			 uint64_t *id)
{
	struct dbfile_bytes b = {records, len};
	int r = run(d, bind(d, D_JOURNAL_PUT, "ib", second_s, &b));

	if (!r) {
		*id = (uint64_t)sqlite3_last_insert_rowid(d->db);
		d->journal_bytes += len;
	}
	return r;
}

struct entries {
	int (*fn)(void *arg, uint64_t id, uint64_t second_s, const void *records, size_t len);
	void *arg;
};

static int one_entry(sqlite3_stmt *st, void *arg)
{
	struct entries *to = arg;
	struct dbfile_bytes b = blob(st, 2);

	return to->fn(to->arg, number(st, 0), number(st, 1), b.p, b.len);
}

int red_disk_journal(struct red_disk *d, uint64_t from,
		     int (*fn)(void *arg, uint64_t id, uint64_t second_s, const void *records,
			       size_t len),
		     void *arg)
{
	struct entries to = {fn, arg};

	return each(d, bind(d, D_JOURNAL_ALL, "i", from), one_entry, &to);
}

bool red_disk_journal_full(const struct red_disk *d)
{
	return d->journal_bytes > d->journal_max;
}

/* --- marks --------------------------------------------------------------------------- */

int red_disk_mark_put(struct red_disk *d, unsigned tier, unsigned shard, uint64_t id)
{
	return run(d, bind(d, D_MARK_PUT, "iii", (uint64_t)tier, (uint64_t)shard, id));
}

struct marks {
	struct red_disk *d;
	int (*fn)(void *arg, unsigned tier, unsigned shard, uint64_t id);
	void *arg;
};

static int one_mark(sqlite3_stmt *st, void *arg)
{
	struct marks *to = arg;

	if (number(st, 0) == RED_DISK_JOURNAL_MARK)
		to->d->journal_from_s = number(st, 2);
	return to->fn(to->arg, (unsigned)number(st, 0), (unsigned)number(st, 1), number(st, 2));
}

int red_disk_marks(struct red_disk *d,
		   int (*fn)(void *arg, unsigned tier, unsigned shard, uint64_t id), void *arg)
{
	struct marks to = {d, fn, arg};

	return each(d, d->stmt[D_MARK_ALL], one_mark, &to);
}

/* --- cells --------------------------------------------------------------------------- */

int red_disk_cell_put(struct red_disk *d, unsigned tier, uint64_t start_s, const char *service,
		      const void *records, size_t len)
{
	struct dbfile_bytes b = {records, len};

	return run(d, bind(d, D_CELL_PUT, "iisb", (uint64_t)tier, start_s, service, &b));
}

struct cells {
	int (*fn)(void *arg, uint64_t start_s, const void *records, size_t len);
	void *arg;
};

static int one_cell(sqlite3_stmt *st, void *arg)
{
	struct cells *to = arg;
	struct dbfile_bytes b = blob(st, 1);

	return to->fn(to->arg, number(st, 0), b.p, b.len);
}

int red_disk_cells(struct red_disk *d, unsigned tier, const char *service, uint64_t from_s,
		   uint64_t to_s,
		   int (*fn)(void *arg, uint64_t start_s, const void *records, size_t len),
		   void *arg)
{
	struct cells to = {fn, arg};
	sqlite3_stmt *st;

	if (service)
		st = bind(d, D_CELL_OF, "iiis", (uint64_t)tier, from_s, to_s, service);
	else
		st = bind(d, D_CELL_ALL, "iii", (uint64_t)tier, from_s, to_s);
	return each(d, st, one_cell, &to);
}

int red_disk_oldest_s(struct red_disk *d, unsigned tier, uint64_t *start_s)
{
	sqlite3_stmt *st = bind(d, D_CELL_OLDEST, "i", (uint64_t)tier);
	int r = sqlite3_step(st) == SQLITE_ROW ? 0 : fail(d);

	*start_s = r ? 0 : number(st, 0);
	dbfile_reset(st);
	return r;
}

/* --- services ------------------------------------------------------------------------ */

int red_disk_service_put(struct red_disk *d, const struct red_disk_service *s)
{
	return run(d, bind(d, D_SERVICE_PUT, "siii", s->name, s->first_s, s->last_s,
			   (uint64_t)s->called));
}

struct services {
	int (*fn)(void *arg, const struct red_disk_service *s);
	void *arg;
};

static int one_service(sqlite3_stmt *st, void *arg)
{
	struct services *to = arg;
	struct red_disk_service s = {text(st, 0), number(st, 1), number(st, 2), number(st, 3)};

	return to->fn(to->arg, &s);
}

int red_disk_services(struct red_disk *d, int (*fn)(void *arg, const struct red_disk_service *s),
		      void *arg)
{
	struct services to = {fn, arg};

	return each(d, d->stmt[D_SERVICE_ALL], one_service, &to);
}

/* --- cleaning up --------------------------------------------------------------------- */

#define STEP_BYTES (1u << 20) /* of the journal; the last row may be longer */

struct due {
	uint64_t id, last_s, bytes; /* up to which, the latest second of them, their length */
	unsigned n;
};

/* What may go of the oldest few rows, whatever of them may not. */
static int journal_due(struct red_disk *d, uint64_t id, uint64_t before_s, struct due *due)
{
	sqlite3_stmt *st = bind(d, D_JOURNAL_OLDEST, "ii", id, (uint64_t)RED_PRUNE_ROWS);
	int step = SQLITE_DONE, r;

	while (due->bytes < STEP_BYTES && (step = sqlite3_step(st)) == SQLITE_ROW) {
		if (number(st, 1) >= before_s)
			continue;
		due->n++;
		due->id = number(st, 0);
		due->last_s = number(st, 1) > due->last_s ? number(st, 1) : due->last_s;
		due->bytes += number(st, 2);
	}
	r = step == SQLITE_DONE || step == SQLITE_ROW ? 0 : fail(d);
	dbfile_reset(st);
	return r;
}

/* 1: there may be more; 0: that was all. What is gone is said before it goes. */
static int prune_journal(struct red_disk *d, const struct red_disk_keep *k)
{
	uint64_t before_s = red_disk_journal_full(d) ? INT64_MAX : k->journal_s;
	struct due due = {0};
	int r = journal_due(d, k->journal_id, before_s, &due);

	if (r || !due.n)
		return r;
	if (due.last_s >= d->journal_from_s) {
		r = red_disk_mark_put(d, RED_DISK_JOURNAL_MARK, 0, due.last_s + 1);
		if (r)
			return r;
		d->journal_from_s = due.last_s + 1;
	}
	r = run(d, bind(d, D_PRUNE_JOURNAL, "ii", due.id, before_s));
	if (r)
		return r;
	d->journal_bytes -= due.bytes < d->journal_bytes ? due.bytes : d->journal_bytes;
	return 1;
}

/* The same of the others: a statement that removes a few rows. */
static int prune_rows(struct red_disk *d, sqlite3_stmt *st)
{
	int r = run(d, st);

	return r ? r : sqlite3_changes(d->db) == RED_PRUNE_ROWS;
}

static int prune_beyond(struct red_disk *d, const struct red_disk_keep *k)
{
	if (red_disk_bytes(d) <= d->bytes_max)
		return 0;
	return prune_rows(d, bind(d, D_PRUNE_CELL_OLDEST, "i", (uint64_t)RED_PRUNE_ROWS));
}

static int prune_old(struct red_disk *d, const struct red_disk_keep *k)
{
	uint64_t rows = RED_PRUNE_ROWS;

	switch (d->turn % 8) {
	case 3:
		return prune_rows(d, bind(d, D_PRUNE_SERVICE, "ii", k->cells_s[2], rows));
	case 7:
		return prune_rows(d, bind(d, D_PRUNE_AGENT, "ii", k->cells_s[2], rows));
	case 1:
	case 5:
		return prune_rows(d, bind(d, D_PRUNE_CELL, "iii", 2ull, k->cells_s[2], rows));
	default:
		return prune_rows(d, bind(d, D_PRUNE_CELL, "iii", 1ull, k->cells_s[1], rows));
	}
}

void red_disk_limit(struct red_disk *d, uint64_t bytes, uint64_t journal_bytes)
{
	d->bytes_max = bytes;
	d->journal_max = journal_bytes;
}

int red_disk_prune(struct red_disk *d, const struct red_disk_keep *k)
{
	static int (*const parts[])(struct red_disk *, const struct red_disk_keep *) = {
		prune_journal, prune_beyond, prune_old};
	int r = log_full(d);

	for (size_t i = 0; i < sizeof(parts) / sizeof(*parts) && r >= 0; i++) {
		uint64_t end_ns = clock_mono_ns() + d->part_ns;

		while ((r = parts[i](d, k)) > 0 && clock_mono_ns() < end_ns)
			;
	}
	d->turn++;
	return r < 0 ? r : 0;
}

size_t red_disk_bytes(struct red_disk *d)
{
	return ask(d, d->stmt[D_PAGES]) * (size_t)d->wal.page_size;
}

size_t red_disk_log_bytes(const struct red_disk *d)
{
	return wal_bytes(&d->wal);
}
