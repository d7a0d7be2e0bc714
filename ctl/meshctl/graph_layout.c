/* SPDX-License-Identifier: Apache-2.0 */
/* See graph_layout.h. Called by graph_svg.c. */
#include "ctl/meshctl/graph_layout.h"

#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define SWEEPS 12
#define BENDS_MAX                                                                                  \
	20000  /* places where edges pass through a layer; without them they go straight           \
		*/
#define LANE 7 /* between two edges of the same nodes */

/* What has a place in a layer: a node, or where an edge passes through. */
struct item {
	int node; /* -1: a bend */
	unsigned layer, place;
	double y, sum;
	unsigned neighbours;
};

/* Between two items of neighbouring layers. */
struct segment {
	unsigned left, right;
};

struct work {
	struct graph *g;
	const struct graph_metrics *m;
	struct item *items; /* nodes first, in their order */
	unsigned n_items, n_layers;
	struct segment *segments;
	unsigned n_segments;
	unsigned *order, *first; /* items by layer and place; where each layer begins in it */
	unsigned *best;
	unsigned *chain; /* of each edge: its first bend; bends of one are in a row */
};

/* --- layers --------------------------------------------------------------------------- */

/* The next edge from node n at or behind e; edges are sorted by from. */
static unsigned first_edge(const struct graph *g, unsigned n)
{
	unsigned low = 0, high = g->n_edges;

	while (low < high) {
		unsigned middle = (low + high) / 2;

		if (g->edges[middle].from < n)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Depth first, without recursion: an edge to a node that is on the way goes back. */
static void find_back_edges(struct graph *g, unsigned root, uint8_t *state, unsigned *stack,
			    unsigned *next)
{
	unsigned depth = 0;

	stack[depth] = root;
	next[root] = first_edge(g, root);
	state[root] = 1;
	for (;;) {
		unsigned n = stack[depth], e = next[n];

		if (e == g->n_edges || g->edges[e].from != n) {
			state[n] = 2;
			if (!depth--)
				return;
			continue;
		}
		next[n]++;
		g->edges[e].back = state[g->edges[e].to] == 1;
		if (!state[g->edges[e].to]) {
			stack[++depth] = g->edges[e].to;
			next[stack[depth]] = first_edge(g, stack[depth]);
			state[stack[depth]] = 1;
		}
	}
}

static void ends(const struct graph_edge *e, unsigned *left, unsigned *right)
{
	*left = e->back ? e->to : e->from;
	*right = e->back ? e->from : e->to;
}

/* Who is called by nobody comes first, so that cycles are cut where they are entered. */
static int cut_cycles(struct graph *g)
{
	uint8_t *state = calloc(g->n_nodes + 1, 1), *called = calloc(g->n_nodes + 1, 1);
	unsigned *stack = calloc(g->n_nodes + 1, sizeof(*stack)),
		 *next = calloc(g->n_nodes + 1, sizeof(*next));
	bool ok = state && called && stack && next;

	for (unsigned e = 0; ok && e < g->n_edges; e++)
		called[g->edges[e].to] |= g->edges[e].from != g->edges[e].to;
	for (unsigned round = 0; ok && round < 2; round++)
		for (unsigned n = 0; n < g->n_nodes; n++)
			if (!state[n] && (round || !called[n]))
				find_back_edges(g, n, state, stack, next);
	free(state);
	free(called);
	free(stack);
	free(next);
	return ok ? 0 : -ENOMEM;
}

/* Longest path: at most as many rounds as there are layers. */
static void assign_layers(struct graph *g)
{
	bool moved = true;

	for (unsigned n = 0; n < g->n_nodes; n++)
		g->nodes[n].layer = 0;
	for (unsigned round = 0; moved && round <= g->n_nodes; round++) {
		moved = false;
		for (unsigned e = 0; e < g->n_edges; e++) {
			unsigned left, right;

			ends(&g->edges[e], &left, &right);
			if (left != right && g->nodes[right].layer <= g->nodes[left].layer) {
				g->nodes[right].layer = g->nodes[left].layer + 1;
				moved = true;
			}
		}
	}
}

/* --- items and segments --------------------------------------------------------------- */

static unsigned bends_of(const struct graph *g, const struct graph_edge *e)
{
	unsigned left, right;

	ends(e, &left, &right);
	return left == right ? 0 : g->nodes[right].layer - g->nodes[left].layer - 1;
}

static int allocate(struct work *w)
{
	const struct graph *g = w->g;
	size_t bends = 0, items;

	for (unsigned e = 0; e < g->n_edges; e++)
		bends += bends_of(g, &g->edges[e]);
	if (bends > BENDS_MAX)
		bends = 0;
	items = g->n_nodes + bends + 1;
	for (unsigned n = 0; n < g->n_nodes; n++)
		if (g->nodes[n].layer >= w->n_layers)
			w->n_layers = g->nodes[n].layer + 1;
	w->items = calloc(items, sizeof(*w->items));
	w->segments = calloc(bends + g->n_edges + 1, sizeof(*w->segments));
	w->order = calloc(items, sizeof(*w->order));
	w->best = calloc(items, sizeof(*w->best));
	w->first = calloc(w->n_layers + 2, sizeof(*w->first));
	w->chain = calloc(g->n_edges + 1, sizeof(*w->chain));
	if (!w->items || !w->segments || !w->order || !w->best || !w->first || !w->chain)
		return -ENOMEM;
	for (unsigned n = 0; n < g->n_nodes; n++)
		w->items[w->n_items++] = (struct item){.node = (int)n, .layer = g->nodes[n].layer};
	for (unsigned e = 0; e < g->n_edges; e++) {
		unsigned left, right, at, count = bends ? bends_of(g, &g->edges[e]) : 0;

		ends(&g->edges[e], &left, &right);
		w->chain[e] = w->n_items;
		for (at = left; count--; at = w->n_items++) {
			w->items[w->n_items] =
				(struct item){.node = -1, .layer = w->items[at].layer + 1};
			w->segments[w->n_segments++] = (struct segment){at, w->n_items};
		}
		if (left != right && w->items[at].layer + 1 == g->nodes[right].layer)
			w->segments[w->n_segments++] = (struct segment){at, right};
	}
	return 0;
}

static void free_work(struct work *w)
{
	free(w->items);
	free(w->segments);
	free(w->order);
	free(w->best);
	free(w->first);
	free(w->chain);
}

/* --- order within a layer ------------------------------------------------------------- */

static void number(struct work *w)
{
	for (unsigned l = 0; l < w->n_layers; l++)
		for (unsigned i = w->first[l]; i < w->first[l + 1]; i++)
			w->items[w->order[i]].place = i - w->first[l];
}

static void fill_layers(struct work *w)
{
	unsigned *at = w->best; /* not in use yet */

	for (unsigned i = 0; i < w->n_items; i++)
		w->first[w->items[i].layer + 1]++;
	for (unsigned l = 0; l < w->n_layers; l++) {
		w->first[l + 1] += w->first[l];
		at[l] = w->first[l];
	}
	for (unsigned i = 0; i < w->n_items; i++)
		w->order[at[w->items[i].layer]++] = i;
	number(w);
}

static int by_layer(const void *a, const void *b, void *arg)
{
	const struct item *items = arg;
	const struct segment *sa = a, *sb = b;
	unsigned la = items[sa->left].layer, lb = items[sb->left].layer;

	if (la != lb)
		return la < lb ? -1 : 1;
	if (sa->left != sb->left)
		return sa->left < sb->left ? -1 : 1;
	return (sa->right > sb->right) - (sa->right < sb->right);
}

static unsigned long crossings(const struct work *w)
{
	unsigned long n = 0;

	for (unsigned i = 0; i < w->n_segments; i++) {
		const struct item *l = &w->items[w->segments[i].left],
				  *r = &w->items[w->segments[i].right];

		for (unsigned k = i + 1; k < w->n_segments; k++) {
			const struct item *l2 = &w->items[w->segments[k].left],
					  *r2 = &w->items[w->segments[k].right];

			if (l2->layer != l->layer)
				break;
			n += (l->place < l2->place && r->place > r2->place) ||
			     (l->place > l2->place && r->place < r2->place);
		}
	}
	return n;
}

/* Of each item the places of its neighbours on one side: their sum and number. */
static void gather(struct work *w, bool from_left)
{
	for (unsigned i = 0; i < w->n_items; i++)
		w->items[i].sum = w->items[i].neighbours = 0;
	for (unsigned i = 0; i < w->n_segments; i++) {
		struct item *l = &w->items[w->segments[i].left],
			    *r = &w->items[w->segments[i].right], *to = from_left ? r : l;

		to->sum += from_left ? l->place : r->place;
		to->neighbours++;
	}
}

static double wish(const struct item *i)
{
	return i->neighbours ? i->sum / i->neighbours : i->place;
}

static int by_wish(const void *a, const void *b, void *arg)
{
	const struct item *items = arg, *ia = &items[*(const unsigned *)a],
			  *ib = &items[*(const unsigned *)b];
	double wa = wish(ia), wb = wish(ib);

	if (wa != wb)
		return wa < wb ? -1 : 1;
	return ia->place < ib->place ? -1 : 1;
}

static void sort_layers(struct work *w)
{
	unsigned long now, least = crossings(w);

	memcpy(w->best, w->order, w->n_items * sizeof(*w->order));
	for (unsigned s = 0; s < SWEEPS && least; s++) {
		for (unsigned l = 0; l < w->n_layers; l++) {
			unsigned layer = s % 2 ? w->n_layers - 1 - l : l;

			/* places change with each layer */
			gather(w, s % 2 == 0);
			qsort_r(w->order + w->first[layer], w->first[layer + 1] - w->first[layer],
				sizeof(*w->order), by_wish, w->items);
			number(w);
		}
		now = crossings(w);
		if (now < least) {
			least = now;
			memcpy(w->best, w->order, w->n_items * sizeof(*w->order));
		}
	}
	memcpy(w->order, w->best, w->n_items * sizeof(*w->order));
	number(w);
}

/* --- coordinates ---------------------------------------------------------------------- */

static double height(const struct work *w, const struct item *i)
{
	return i->node < 0 ? 0 : w->m->box;
}

/* From the middle of one item to the middle of the next below it. */
static double distance(const struct work *w, unsigned upper, unsigned lower)
{
	const struct item *u = &w->items[w->order[upper]], *l = &w->items[w->order[lower]];

	return (height(w, u) + height(w, l)) / 2 + w->m->gap_y;
}

static void stack_layers(struct work *w)
{
	for (unsigned l = 0; l < w->n_layers; l++) {
		double y = 0;

		for (unsigned i = w->first[l]; i < w->first[l + 1]; i++) {
			y += i == w->first[l] ? 0 : distance(w, i - 1, i);
			w->items[w->order[i]].y = y;
		}
		for (unsigned i = w->first[l]; i < w->first[l + 1]; i++)
			w->items[w->order[i]].y -= y / 2;
	}
}

/* Each item towards the mean of its neighbours on both sides, as far as the order and the distances
 * allow: pushed down from above, pushed up from below, and the mean of both, which keeps them. */
static void relax_layer(struct work *w, unsigned layer)
{
	unsigned from = w->first[layer], to = w->first[layer + 1];
	double below = 0, *down = malloc((to - from + 1) * sizeof(*down));

	if (!down)
		return; /* then it stays as it is */
	for (unsigned i = from; i < to; i++) {
		const struct item *it = &w->items[w->order[i]];
		double y = it->neighbours ? it->sum / it->neighbours : it->y;

		down[i - from] =
			i == from ? y : fmax(y, down[i - from - 1] + distance(w, i - 1, i));
	}
	for (unsigned i = to; i-- > from;) {
		struct item *it = &w->items[w->order[i]];
		double y = it->neighbours ? it->sum / it->neighbours : it->y;

		below = i + 1 == to ? y : fmin(y, below - distance(w, i, i + 1));
		it->y = (below + down[i - from]) / 2;
	}
	free(down);
}

static void relax(struct work *w)
{
	for (unsigned round = 0; round < SWEEPS; round++) {
		for (unsigned i = 0; i < w->n_items; i++)
			w->items[i].sum = w->items[i].neighbours = 0;
		for (unsigned i = 0; i < w->n_segments; i++) {
			struct item *l = &w->items[w->segments[i].left],
				    *r = &w->items[w->segments[i].right];

			l->sum += r->y;
			r->sum += l->y;
			l->neighbours++;
			r->neighbours++;
		}
		for (unsigned l = 0; l < w->n_layers; l++)
			if (l % 2 == round % 2)
				relax_layer(w, l);
	}
}

static void place_nodes(struct work *w)
{
	struct graph *g = w->g;
	double top = 0, bottom = 0, x = w->m->margin;

	for (unsigned i = 0; i < w->n_items; i++) {
		double half = height(w, &w->items[i]) / 2;

		top = i ? fmin(top, w->items[i].y - half) : w->items[i].y - half;
		bottom = i ? fmax(bottom, w->items[i].y + half) : w->items[i].y + half;
	}
	for (unsigned i = 0; i < w->n_items; i++)
		w->items[i].y += w->m->margin - top;
	g->height = bottom - top + 2 * w->m->margin;
	for (unsigned l = 0; l < w->n_layers; l++) {
		double width = 0;

		for (unsigned i = w->first[l]; i < w->first[l + 1]; i++) {
			int n = w->items[w->order[i]].node;

			if (n >= 0)
				width = fmax(width, g->nodes[n].width);
		}
		for (unsigned i = w->first[l]; i < w->first[l + 1]; i++) {
			struct item *it = &w->items[w->order[i]];

			it->sum = x + width / 2; /* sum: from here on its x */
			if (it->node >= 0) {
				g->nodes[it->node].x = x + width / 2;
				g->nodes[it->node].y = it->y;
			}
		}
		x += width + w->m->gap_x;
	}
	g->width = fmax(x - w->m->gap_x, 0) + w->m->margin;
}

static int place_edge(struct work *w, unsigned index)
{
	struct graph *g = w->g;
	struct graph_edge *e = &g->edges[index];
	unsigned left, right, bends = 0;
	double shift = e->lane * LANE;

	ends(e, &left, &right);
	if (left == right)
		return 0;
	if (w->n_items > g->n_nodes)
		bends = bends_of(g, e);
	e->points = calloc(bends + 2, sizeof(*e->points));
	if (!e->points)
		return -ENOMEM;
	e->points[e->n_points++] = (struct graph_point){g->nodes[left].x + g->nodes[left].width / 2,
							g->nodes[left].y + shift};
	for (unsigned i = w->chain[index]; bends--; i++)
		e->points[e->n_points++] = (struct graph_point){w->items[i].sum, w->items[i].y};
	e->points[e->n_points++] = (struct graph_point){
		g->nodes[right].x - g->nodes[right].width / 2, g->nodes[right].y + shift};
	return 0;
}

int graph_layout(struct graph *g, const struct graph_metrics *m)
{
	struct work w = {.g = g, .m = m};
	int r = cut_cycles(g);

	if (r)
		return r;
	assign_layers(g);
	r = allocate(&w);
	if (!r) {
		fill_layers(&w);
		qsort_r(w.segments, w.n_segments, sizeof(*w.segments), by_layer, w.items);
		sort_layers(&w);
		stack_layers(&w);
		relax(&w);
		place_nodes(&w);
	}
	for (unsigned e = 0; !r && e < g->n_edges; e++)
		r = place_edge(&w, e);
	free_work(&w);
	return r;
}
