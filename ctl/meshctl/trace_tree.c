/* SPDX-License-Identifier: Apache-2.0 */
/* See trace_tree.h. Called by waterfall.c. Without recursion: spans may be nested 2,000 deep. */
#include "ctl/meshctl/trace_tree.h"
#include "lib/json.h"

#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { NONE = -1 };
enum mark { UNKNOWN, ON_THE_WAY, SURE };

struct node {
	const cJSON *span;
	const char *id;
	double start, duration;
	int parent;
	int child, next; /* the first child, and the next sibling, by time */
	enum mark mark;
};

static double sane(double v)
{
	return isfinite(v) && v > 0 && v < 1e15 ? v : 0;
}

static int by_id(const void *a, const void *b, void *arg)
{
	const struct node *nodes = arg;
	int ia = *(const int *)a, ib = *(const int *)b, d = strcmp(nodes[ia].id, nodes[ib].id);

	return d ? d : ia - ib;
}

static int find(const struct node *nodes, const int *sorted, int n, const char *id)
{
	int low = 0, high = n;

	while (low < high) {
		int middle = (low + high) / 2;

		if (strcmp(nodes[sorted[middle]].id, id) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low < n && !strcmp(nodes[sorted[low]].id, id) ? sorted[low] : NONE;
}

static void link_parents(struct node *nodes, int *sorted, int n)
{
	for (int i = 0; i < n; i++)
		sorted[i] = i;
	qsort_r(sorted, (size_t)n, sizeof(*sorted), by_id, nodes);
	for (int i = 0; i < n; i++) {
		const char *parent = json_str(nodes[i].span, "parentId", "");

		nodes[i].parent = *parent ? find(nodes, sorted, n, parent) : NONE;
	}
}

/* Who would be its own ancestor is made a root. */
static void cut_cycles(struct node *nodes, int n)
{
	for (int i = 0; i < n; i++) {
		int at = i;

		while (at != NONE && nodes[at].mark == UNKNOWN) {
			nodes[at].mark = ON_THE_WAY;
			if (nodes[at].parent != NONE && nodes[nodes[at].parent].mark == ON_THE_WAY)
				nodes[at].parent = NONE;
			at = nodes[at].parent;
		}
		for (at = i; at != NONE && nodes[at].mark == ON_THE_WAY; at = nodes[at].parent)
			nodes[at].mark = SURE;
	}
}

static int by_time(const void *a, const void *b, void *arg)
{
	const struct node *nodes = arg, *na = &nodes[*(const int *)a],
			  *nb = &nodes[*(const int *)b];

	if (na->start != nb->start)
		return na->start < nb->start ? -1 : 1;
	return by_id(a, b, arg);
}

/* From the last to the first, so that each list of children ends in the order of time. Returns the
 * first root; roots are siblings. */
static int link_children(struct node *nodes, int *sorted, int n)
{
	int root = NONE;

	qsort_r(sorted, (size_t)n, sizeof(*sorted), by_time, nodes);
	for (int i = n - 1; i >= 0; i--) {
		struct node *k = &nodes[sorted[i]];
		int *first = k->parent == NONE ? &root : &nodes[k->parent].child;

		k->next = *first;
		*first = sorted[i];
	}
	return root;
}

static void walk(const struct node *nodes, int root, struct trace_tree *t)
{
	unsigned depth = 0;
	int at = root;

	while (at != NONE) {
		const struct node *k = &nodes[at];

		t->rows[t->n++] = (struct trace_row){.span = k->span,
						     .start = k->start - t->begin,
						     .duration = k->duration,
						     .depth = depth,
						     .last = k->next == NONE,
						     .leaf = k->child == NONE};
		if (k->child != NONE) {
			at = k->child;
			depth++;
			continue;
		}
		while (at != NONE && nodes[at].next == NONE) {
			at = nodes[at].parent;
			depth -= at != NONE;
		}
		if (at != NONE)
			at = nodes[at].next;
	}
}

static void measure(const struct node *nodes, int n, struct trace_tree *t)
{
	double end = 0;

	t->begin = n ? nodes[0].start : 0;
	for (int i = 0; i < n; i++) {
		t->begin = fmin(t->begin, nodes[i].start);
		end = fmax(end, nodes[i].start + nodes[i].duration);
	}
	t->length = fmax(end - t->begin, 0);
}

int trace_tree_build(const cJSON *spans, struct trace_tree *t)
{
	int n = cJSON_GetArraySize(spans), at = 0;
	struct node *nodes = calloc((size_t)n + 1, sizeof(*nodes));
	int *sorted = calloc((size_t)n + 1, sizeof(*sorted));
	const cJSON *s;

	*t = (struct trace_tree){.rows = calloc((size_t)n + 1, sizeof(*t->rows))};
	if (!nodes || !sorted || !t->rows) {
		free(t->rows);
		free(nodes);
		free(sorted);
		return -ENOMEM;
	}
	cJSON_ArrayForEach (s, spans)
		nodes[at++] = (struct node){.span = s,
					    .id = json_str(s, "id", ""),
					    .start = sane(json_num(s, "startTime", 0)),
					    .duration = sane(json_num(s, "duration", 0)),
					    .child = NONE,
					    .next = NONE};
	link_parents(nodes, sorted, n);
	cut_cycles(nodes, n);
	measure(nodes, n, t);
	walk(nodes, link_children(nodes, sorted, n), t);
	free(nodes);
	free(sorted);
	return 0;
}

void trace_tree_done(struct trace_tree *t)
{
	free(t->rows);
	t->rows = NULL;
	t->n = 0;
}
