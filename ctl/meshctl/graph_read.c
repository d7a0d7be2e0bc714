/* SPDX-License-Identifier: Apache-2.0 */
/* See graph_layout.h: from meshd's answer to sorted nodes and edges. */
#include "ctl/meshctl/graph_layout.h"
#include "ctl/meshctl/words.h"
#include "lib/json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int by_name(const void *a, const void *b)
{
	const struct graph_node *na = a, *nb = b;
	int d = strverscmp(na->name, nb->name);

	/* the one that says more is kept of two with one name */
	return d ? d : !na->json - !nb->json;
}

static int by_ends(const void *a, const void *b)
{
	const struct graph_edge *ea = a, *eb = b;

	if (ea->from != eb->from)
		return ea->from < eb->from ? -1 : 1;
	if (ea->to != eb->to)
		return ea->to < eb->to ? -1 : 1;
	return strcmp(json_str(ea->json, "protocol", ""), json_str(eb->json, "protocol", ""));
}

static void add_node(struct graph *g, const char *name, const cJSON *json)
{
	if (name && g->n_nodes < GRAPH_NODES_MAX + 2 * GRAPH_EDGES_MAX)
		g->nodes[g->n_nodes++] = (struct graph_node){.name = name, .json = json};
}

static void read_nodes(struct graph *g, const cJSON *answer)
{
	const cJSON *i;
	unsigned kept = 0;

	cJSON_ArrayForEach (i, words_get(answer, "nodes"))
		add_node(g, json_str(i, "name", NULL), i);
	cJSON_ArrayForEach (i, words_get(answer, "edges")) {
		add_node(g, json_str(i, "source", NULL), NULL);
		add_node(g, json_str(i, "destination", NULL), NULL);
	}
	qsort(g->nodes, g->n_nodes, sizeof(*g->nodes), by_name);
	for (unsigned n = 0; n < g->n_nodes; n++)
		if (!kept || strcmp(g->nodes[kept - 1].name, g->nodes[n].name))
			g->nodes[kept++] = g->nodes[n];
	g->left_out += kept > GRAPH_NODES_MAX ? kept - GRAPH_NODES_MAX : 0;
	g->n_nodes = kept > GRAPH_NODES_MAX ? GRAPH_NODES_MAX : kept;
}

static int find(const struct graph *g, const char *name)
{
	struct graph_node key = {.name = name};
	unsigned low = 0, high = g->n_nodes;

	while (name && low < high) {
		unsigned middle = (low + high) / 2;
		int d = strverscmp(g->nodes[middle].name, key.name);

		if (!d)
			return (int)middle;
		if (d < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return -1;
}

static void read_edges(struct graph *g, const cJSON *answer)
{
	const cJSON *i;

	cJSON_ArrayForEach (i, words_get(answer, "edges")) {
		int from = find(g, json_str(i, "source", NULL)),
		    to = find(g, json_str(i, "destination", NULL));

		if (from < 0 || to < 0 || g->n_edges == GRAPH_EDGES_MAX)
			g->left_out++;
		else
			g->edges[g->n_edges++] = (struct graph_edge){
				.json = i, .from = (unsigned)from, .to = (unsigned)to};
	}
	qsort(g->edges, g->n_edges, sizeof(*g->edges), by_ends);
	for (unsigned e = 1; e < g->n_edges; e++)
		if (g->edges[e].from == g->edges[e - 1].from &&
		    g->edges[e].to == g->edges[e - 1].to)
			g->edges[e].lane = g->edges[e - 1].lane + 1;
}

int graph_read(const cJSON *answer, struct graph *g)
{
	*g = (struct graph){
		.nodes = calloc(GRAPH_NODES_MAX + 2 * GRAPH_EDGES_MAX, sizeof(*g->nodes)),
		.edges = calloc(GRAPH_EDGES_MAX, sizeof(*g->edges))};
	if (!g->nodes || !g->edges) {
		graph_done(g);
		return -ENOMEM;
	}
	read_nodes(g, answer);
	read_edges(g, answer);
	return 0;
}

void graph_done(struct graph *g)
{
	for (unsigned e = 0; e < g->n_edges; e++)
		free(g->edges[e].points);
	free(g->nodes);
	free(g->edges);
	*g = (struct graph){0};
}
