/* SPDX-License-Identifier: Apache-2.0 */
/* See traces.h: lists of traces, and what a trace is called. */
#include "ctl/meshd/dbfile.h"
#include "ctl/meshd/traces/impl.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define LIST_BYTES (4u << 20)

static void put_ms(struct buf *b, int64_t us)
{
	char number[32];

	buf_str(b, span_number((double)us / 1000, number));
}

static int put_name(void *arg, const char *name)
{
	struct buf *b = arg;

	buf_comma(b);
	buf_json(b, name, strlen(name));
	return 0;
}

void put_names(struct buf *b, const char *lines)
{
	buf_char(b, '[');
	lines_each(lines, put_name, b);
	buf_char(b, ']');
}

void trace_edge(const struct traces_filter *f, char edge[160])
{
	edge[0] = '\0';
	if (f->source)
		snprintf(edge, 160, "\n%s>%s%s", f->source, f->service ? f->service : "",
			 f->service ? "\n" : "");
}

/* The tag to walk along. */
static void find_tag(const struct traces_filter *f, char tag[80])
{
	bool slow = f->min_us >= TRACES_SLOW_MS * 1000;

	snprintf(tag, 80, "%s%s",
		 f->error > 0 ? DB_TAG_ERROR
		 : slow	      ? DB_TAG_SLOW
			      : "",
		 f->service ? f->service : "");
}

int rows_each(struct traces *t, const struct traces_filter *f,
	      bool (*fn)(void *, const struct trace_row *), void *arg)
{
	struct trace_row *row = &t->touched[0].now;
	sqlite3_stmt *st = t->db.stmt[DB_FOUND];
	char tag[80], edge[160];
	int err = 0;

	if (!t->db.sqlite)
		return -EIO;
	find_tag(f, tag);
	trace_edge(f, edge);
	sqlite3_bind_text(st, 1, tag, -1, SQLITE_STATIC);
	sqlite3_bind_int64(st, 2, f->since_ms);
	sqlite3_bind_int64(st, 3, f->until_ms);
	sqlite3_bind_int64(st, 4, f->min_us);
	sqlite3_bind_int(st, 5, f->error != 0);
	sqlite3_bind_text(st, 6, edge, -1, SQLITE_STATIC);
	sqlite3_bind_int(st, 7, (int)f->limit);
	db_hurry(&t->db, TRACES_READ_MS);
	while (db_next(&t->db, st, &err)) {
		db_row(st, row);
		if (fn(arg, row))
			break;
	}
	db_hurry_done(&t->db);
	dbfile_reset(st);
	return err;
}

struct counted {
	bool (*fn)(void *, const struct trace_row *);
	void *arg;
	unsigned n;
	bool ended;
};

static bool count_row(void *arg, const struct trace_row *row)
{
	struct counted *c = arg;

	c->n++;
	return c->ended = c->fn(c->arg, row);
}

int found_each(struct traces *t, const struct traces_filter *f, bool *complete,
	       bool (*fn)(void *, const struct trace_row *), void *arg)
{
	struct counted c = {.fn = fn, .arg = arg};
	struct demand d;
	int err;

	demand_list(t, f, &d);
	err = rows_each(t, f, count_row, &c);
	*complete = d.complete && !t->db.late && (!d.left || c.ended || c.n >= f->limit);
	return err;
}

static bool put_trace(void *arg, const struct trace_row *row)
{
	struct buf *b = arg;

	buf_comma(b);
	buf_char(b, '{');
	buf_member(b, "traceId", row->name);
	buf_str(b, ",\"root\":{");
	buf_member(b, "service", row->root_service);
	buf_char(b, ',');
	buf_member(b, "operation", row->root_operation);
	buf_str(b, "},\"startTime\":");
	put_ms(b, row->start_us);
	buf_str(b, ",\"duration\":");
	put_ms(b, row->duration_us);
	buf_printf(b, ",\"spans\":%d,\"errors\":%d,\"lost\":%d,\"services\":", row->spans,
		   row->errors, row->lost);
	put_names(b, row->services);
	buf_printf(b, ",\"error\":%s,\"statusCode\":%d}", row->errors ? "true" : "false",
		   row->root_status);
	return b->failed;
}

int traces_list(struct traces *t, const struct traces_filter *f, struct buf *out)
{
	bool complete = true;
	int r;

	buf_init(out, LIST_BYTES);
	buf_str(out, "{\"traces\":[");
	r = found_each(t, f, &complete, put_trace, out);
	buf_printf(out, "],\"complete\":%s}", complete ? "true" : "false");
	if (!r && out->failed)
		r = -ENOMEM;
	if (r)
		buf_done(out);
	return r;
}

int traces_names(struct traces *t, const char *id, int (*fn)(void *, const char *), void *arg)
{
	struct trace_row *row = &t->touched[0].now;
	char hex[33];
	bool complete;
	int r = demand_trace(t, id, row, &complete);

	if (!r)
		r = fn(arg, row->name);
	if (!r)
		r = fn(arg, span_hex(row->key, hex));
	return r ? r : lines_each(row->aliases, fn, arg);
}
