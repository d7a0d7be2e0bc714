/* SPDX-License-Identifier: Apache-2.0 */
/* See traces.h: stored spans as lines of a log. Traces are gone through newest first until there
 * are enough lines. */
#include "ctl/meshd/traces/impl.h"
#include "lib/clock.h"
#include "lib/json.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOGS_BYTES (8u << 20)

struct line {
	int64_t start_us;
	char *text;
};

struct lines {
	struct traces *t;
	const struct traces_filter *f;
	struct line *line;
	size_t n, bytes;
	int64_t *traces; /* found, not read yet: one statement at a time */
	size_t ntraces;
};

static void put_text(struct buf *b, const char *key, const char *value)
{
	buf_char(b, ',');
	buf_member(b, key, value);
}

/* As agent/telemetry/accesslog.c calls them; what a span calls otherwise is there under both names.
 */
static char *line_text(const struct trace_row *row, const struct stored *s, const cJSON *v)
{
	char iso[CLOCK_ISO_MAX];
	struct buf b;

	buf_init(&b, 4 * SPAN_BODY_MAX);
	buf_char(&b, '{');
	buf_member(&b, "time", clock_iso((uint64_t)s->start_us / 1000, iso));
	put_text(&b, "caller", json_str(v, "source", ""));
	put_text(&b, "callee", s->service);
	put_text(&b, "endpoint", json_str(v, "instance", ""));
	buf_printf(&b, ",\"status\":%d", (int)json_num(v, "statusCode", 0));
	put_text(&b, "traceId", row->name);
	put_text(&b, "spanId", s->id);
	put_text(&b, "parentSpanId", *s->parent ? s->parent : NULL);
	put_text(&b, "id", s->id);
	put_text(&b, "service", s->service);
	buf_str(&b, s->body);
	buf_char(&b, '}');
	return buf_take(&b);
}

static cJSON *body_parse(const struct stored *s)
{
	size_t len = strlen(s->body);
	char *text = malloc(len + 2);
	cJSON *v = NULL;

	if (text && len) {
		memcpy(text, s->body, len);
		text[0] = '{'; /* each member has a comma before it */
		text[len] = '}';
		v = json_parse(text, len + 1, NULL);
	}
	free(text);
	return v;
}

static bool fits(const struct traces_filter *f, const cJSON *v)
{
	return (!f->source || !strcmp(f->source, json_str(v, "source", ""))) &&
	       (f->error < 0 || f->error == json_bool(v, "error", 0)) &&
	       json_num(v, "duration", 0) * 1000 >= (double)f->min_us;
}

static int add_line(struct lines *l, const struct trace_row *row, const struct stored *s)
{
	char *text = NULL;
	cJSON *v = NULL;
	int r = 0;

	if (!(l->f->service && strcmp(l->f->service, s->service)) &&
	    s->start_us / 1000 >= l->f->since_ms) /* what needs no parsing */
		v = body_parse(s);
	if (v && fits(l->f, v)) {
		text = line_text(row, s, v);
		r = text ? 0 : -ENOMEM;
	}
	cJSON_Delete(v);
	if (text) {
		l->line[l->n++] = (struct line){s->start_us, text};
		l->bytes += strlen(text);
	}
	return r;
}

static bool full(const struct lines *l)
{
	return l->n >= l->f->limit || l->bytes > LOGS_BYTES - 4 * SPAN_BODY_MAX;
}

/* The latest of a trace first: it may be that not all of them fit. */
static int add_trace(struct lines *l, const struct trace_row *row)
{
	struct stored *spans = NULL;
	size_t n = 0;
	bool cut;
	int r = stored_read(l->t, row->id, &spans, &n, &cut);

	if (r)
		return r;
	for (size_t i = n; i-- && !r && !full(l);)
		r = add_line(l, row, &spans[i]);
	stored_free(spans, n);
	return r;
}

static bool note_trace(void *arg, const struct trace_row *row)
{
	struct lines *l = arg;

	l->traces[l->ntraces++] = row->id;
	return false;
}

static int collect(struct lines *l, bool *complete)
{
	struct trace_row *row = &l->t->touched[1].now;
	uint64_t end = clock_mono_ns() + TRACES_READ_MS * 1000000ull;
	int r = found_each(l->t, l->f, complete, note_trace, l);

	for (size_t i = 0; i < l->ntraces && !r && !full(l); i++) {
		if (clock_mono_ns() > end) {
			*complete = false;
			break;
		}
		r = db_trace_by_id(&l->t->db, l->traces[i], row);
		if (!r)
			r = add_trace(l, row);
	}
	return r;
}

static int by_time(const void *x, const void *y)
{
	const struct line *a = x, *b = y;

	return (a->start_us > b->start_us) - (a->start_us < b->start_us);
}

static int put_lines(struct lines *l, bool complete, struct buf *out)
{
	qsort(l->line, l->n, sizeof(*l->line), by_time);
	buf_init(out, LOGS_BYTES + (1 << 16));
	buf_str(out, "{\"logs\":[");
	for (size_t i = 0; i < l->n; i++) {
		if (i)
			buf_char(out, ',');
		buf_str(out, l->line[i].text);
	}
	buf_printf(out, "],\"complete\":%s}", complete ? "true" : "false");
	return out->failed ? -ENOMEM : 0;
}

int traces_logs(struct traces *t, const struct traces_filter *f, struct buf *out)
{
	struct trace_row *row = &t->touched[1].now;
	struct lines l = {.t = t, .f = f};
	bool complete = true;
	int r = t->db.sqlite ? 0 : -EIO;

	l.line = calloc(f->limit, sizeof(*l.line));
	l.traces = calloc(f->limit, sizeof(*l.traces));
	if (!r && (!l.line || !l.traces))
		r = -ENOMEM;
	if (!r && f->trace) {
		r = demand_trace(t, f->trace, row, &complete);
		if (!r)
			r = add_trace(&l, row);
	} else if (!r) {
		r = collect(&l, &complete);
	}
	if (!r)
		r = put_lines(&l, complete, out);
	for (size_t i = 0; i < l.n; i++)
		free(l.line[i].text);
	free(l.line);
	free(l.traces);
	return r;
}
