/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The map of calls as a graph, and where its nodes and edges go: layers from left to right by the
 * longest path from a caller that nobody calls, order within a layer by barycenters (Sugiyama,
 * Tagawa and Toda 1981). The same map gives the same picture. Pure.
 */
#ifndef CTL_MESHCTL_GRAPH_LAYOUT_H
#define CTL_MESHCTL_GRAPH_LAYOUT_H

#include <cjson/cJSON.h>
#include <stdbool.h>

#define GRAPH_NODES_MAX 2000 /* what is beyond is left out, and counted */
#define GRAPH_EDGES_MAX 5000

struct graph_node {
	const cJSON *json; /* of the answer; NULL: only an edge names it */
	const char *name;
	unsigned layer;
	double x, y;  /* the middle of its box, after graph_layout() */
	double width; /* the caller's, before */
};

struct graph_point {
	double x, y;
};

struct graph_edge {
	const cJSON *json;
	unsigned from, to; /* nodes */
	unsigned lane;	   /* 0; others of the same nodes (another protocol): 1, 2 ... */
	bool back;	   /* goes against the direction of the layers: a cycle */
	/* from the left one of its nodes to the right one, through the layers between; none when
	 * both are the same */
	struct graph_point *points;
	unsigned n_points;
};

struct graph {
	struct graph_node *nodes; /* by name */
	struct graph_edge *edges; /* by source, destination and protocol */
	unsigned n_nodes, n_edges, left_out;
	double width, height;
};

struct graph_metrics {
	double box, gap_x, gap_y, margin; /* height of a box, space between boxes, around it all */
};

/* answer: GET /api/graph, which must outlive g. 0 or -ENOMEM (then there is nothing to free). */
int graph_read(const cJSON *answer, struct graph *g);
/* Sets all that is said above. 0 or -ENOMEM. */
int graph_layout(struct graph *g, const struct graph_metrics *m);
void graph_done(struct graph *g);

#endif
