/* SPDX-License-Identifier: Apache-2.0 */
/* See traces.h: one trace, as a tree. What spans say of their parents can be anything: missing
 * parents, themselves, rings. */
#include "ctl/meshd/dbfile.h"
#include "ctl/meshd/traces/impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NONE (-1)

struct node {
	const struct stored *span;
	int parent, child, last, next; /* child: the first of its own, by start; next: its
					  parent's */
	int walk;		       /* of break_rings(): the walk that came by */
};

static int by_start(const void *x, const void *y)
{
	const struct stored *a = x, *b = y;

	if (a->start_us != b->start_us)
		return a->start_us < b->start_us ? -1 : 1;
	return strcmp(a->id, b->id);
}

/* Copies the row's texts, which are SQLite's. */
static int copy_row(sqlite3_stmt *st, struct stored *s)
{
	static const int columns[] = {0, 1, 3, 4};
	size_t len[4], all = 0;
	char *p;

	for (int i = 0; i < 4; i++)
		all += len[i] = strlen(db_text(st, columns[i])) + 1;
	p = malloc(all);
	if (!p)
		return -ENOMEM;
	s->id = p;
	s->parent = p + len[0];
	s->service = s->parent + len[1];
	s->body = s->service + len[2];
	for (int i = 0; i < 4; p += len[i++])
		memcpy(p, db_text(st, columns[i]), len[i]);
	s->start_us = sqlite3_column_int64(st, 2);
	return (int)(all > SPAN_BODY_MAX * 2 ? SPAN_BODY_MAX * 2 : all);
}

/* Room for one more: most traces are short. */
static int grow(struct stored **all, size_t n, size_t *cap)
{
	struct stored *more;

	if (n < *cap)
		return 0;
	more = realloc(*all, (*cap ? *cap * 4 : 16) * sizeof(*more));
	if (!more)
		return -ENOMEM;
	*all = more;
	*cap = *cap ? *cap * 4 : 16;
	return 0;
}

int stored_read(struct traces *t, int64_t trace, struct stored **out, size_t *n, bool *cut)
{
	sqlite3_stmt *st = t->db.stmt[DB_SPANS];
	size_t bytes = 0, k = 0, cap = 0;
	struct stored *all = NULL;
	int r = 0, err = 0;

	*cut = false;
	sqlite3_bind_int64(st, 1, trace);
	while (r >= 0 && db_next(&t->db, st, &err)) {
		*cut = k == TRACES_SPANS_MAX || bytes > TRACES_ANSWER_MAX - 4 * SPAN_BODY_MAX;
		if (*cut)
			break;
		r = grow(&all, k, &cap);
		if (!r)
			r = copy_row(st, &all[k]);
		k += r >= 0;
		bytes += r >= 0 ? (size_t)r : 0;
	}
	dbfile_reset(st);
	if (r < 0 || err) {
		stored_free(all, k);
		return err ? err : r;
	}
	if (k)
		qsort(all, k, sizeof(*all), by_start);
	*out = all;
	*n = k;
	return 0;
}

void stored_free(struct stored *s, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(s[i].id);
	free(s);
}

/* --- the tree -------------------------------------------------------------------------- */

static int by_id(const void *x, const void *y)
{
	return strcmp((*(const struct node *const *)x)->span->id,
		      (*(const struct node *const *)y)->span->id);
}

static void find_parents(struct node *nodes, struct node **ids, size_t n)
{
	for (size_t i = 0; i < n; i++)
		ids[i] = &nodes[i];
	qsort(ids, n, sizeof(*ids), by_id);
	for (size_t i = 0; i < n; i++) {
		struct stored wanted = {.id = (char *)nodes[i].span->parent};
		struct node key = {.span = &wanted}, *k = &key, **found;

		found = *wanted.id ? bsearch(&k, ids, n, sizeof(*ids), by_id) : NULL;
		nodes[i].parent = found ? (int)(*found - nodes) : NONE;
	}
}

/* Who is its own ancestor begins a tree instead: of each ring the one where the walk up from the
 * earliest span comes in. */
static void break_rings(struct node *nodes, size_t n)
{
	for (int i = 0; i < (int)n; i++) {
		int at = i;

		while (at != NONE && !nodes[at].walk) {
			nodes[at].walk = i + 1;
			at = nodes[at].parent;
		}
		if (at != NONE && nodes[at].walk == i + 1)
			nodes[at].parent = NONE;
	}
}

static void link_children(struct node *nodes, size_t n)
{
	for (int i = 0; i < (int)n; i++) {
		struct node *p = nodes[i].parent == NONE ? NULL : &nodes[nodes[i].parent];

		if (!p)
			continue;
		*(p->last == NONE ? &p->child : &nodes[p->last].next) = i;
		p->last = i;
	}
}

static void put_span(struct buf *b, const struct trace_row *row, const struct node *nodes,
		     const struct node *x)
{
	const struct stored *s = x->span;

	buf_comma(b);
	buf_char(b, '{');
	buf_member(b, "id", s->id);
	buf_char(b, ',');
	buf_member(b, "parentId", x->parent == NONE ? NULL : s->parent);
	if (x->parent == NONE && *s->parent) {
		buf_char(b, ',');
		buf_member(b, "remoteParentId", s->parent);
	}
	buf_char(b, ',');
	buf_member(b, "traceId", row->name);
	buf_char(b, ',');
	buf_member(b, "service", s->service);
	buf_str(b, s->body);
	buf_char(b, '}');
}

/* Depth first, without a stack: down, else along, else up and along. */
static void put_tree(struct buf *b, const struct trace_row *row, const struct node *nodes, int root)
{
	int at = root;

	for (;;) {
		put_span(b, row, nodes, &nodes[at]);
		if (nodes[at].child != NONE) {
			at = nodes[at].child;
			continue;
		}
		while (at != root && nodes[at].next == NONE)
			at = nodes[at].parent;
		if (at == root)
			return;
		at = nodes[at].next;
	}
}

static int put_spans(struct buf *b, const struct trace_row *row, const struct stored *spans,
		     size_t n)
{
	struct node *nodes = calloc(n ? n : 1, sizeof(*nodes));
	struct node **ids = calloc(n ? n : 1, sizeof(struct node *));
	int r = nodes && ids ? 0 : -ENOMEM;

	for (size_t i = 0; i < n && !r; i++)
		nodes[i] = (struct node){&spans[i], NONE, NONE, NONE, NONE, 0};
	if (!r) {
		find_parents(nodes, ids, n);
		break_rings(nodes, n);
		link_children(nodes, n);
	}
	for (size_t i = 0; i < n && !r; i++)
		if (nodes[i].parent == NONE)
			put_tree(b, row, nodes, (int)i);
	free(nodes);
	free(ids);
	return r;
}

int traces_show(struct traces *t, const char *id, struct buf *out)
{
	struct trace_row *row = &t->touched[0].now;
	struct stored *spans = NULL;
	size_t n = 0;
	bool cut = false, all;
	char hex[33];
	int r = demand_trace(t, id, row, &all);

	if (!r)
		r = stored_read(t, row->id, &spans, &n, &cut);
	if (r)
		return r;
	buf_init(out, 2 * TRACES_ANSWER_MAX);
	if (!span_is_hex(row->name, row->key)) {
		span_hex(row->key, hex);
		lines_add(row->aliases, sizeof(row->aliases), hex);
	}
	buf_char(out, '{');
	buf_member(out, "traceId", row->name);
	buf_str(out, ",\"aliases\":");
	put_names(out, row->aliases);
	buf_str(out, ",\"spans\":[");
	r = put_spans(out, row, spans, n);
	buf_printf(out, "],\"lost\":%d,\"complete\":%s}", row->lost,
		   all && !cut && !row->lost ? "true" : "false");
	stored_free(spans, n);
	if (!r && out->failed)
		r = -ENOMEM;
	if (r)
		buf_done(out);
	return r;
}
