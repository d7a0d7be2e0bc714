/* SPDX-License-Identifier: Apache-2.0 */
/* The map of calls as DOT (graphviz) and as SVG. Pure: the same map gives the same text. */
#ifndef CTL_MESHCTL_GRAPH_TEXT_H
#define CTL_MESHCTL_GRAPH_TEXT_H

#include "ctl/meshctl/graph_layout.h"
#include "lib/buf.h"

/* title: what of, such as "last 1m". What is appended to out may be cut off when out failed. */
void graph_dot(const struct graph *g, const char *title, struct buf *out);
/* Lays g out. 0 or -ENOMEM. */
int graph_svg(struct graph *g, const char *title, struct buf *out);

/* What both say. How an edge looks: 0 no errors, 1 some, 2 many (over 5 %); its width, 1 to 6. */
unsigned graph_trouble(const struct graph_edge *e);
double graph_width(const struct graph *g, const struct graph_edge *e);
/* "12.3/s 0.5%" of a node or an edge into out[64]. */
char *graph_figures(const cJSON *json, char out[64]);
/* Everything that is known, in one line, into out[cap]. */
char *graph_node_words(const struct graph_node *n, char *out, size_t cap);
char *graph_edge_words(const struct graph *g, const struct graph_edge *e, char *out, size_t cap);
/* Is a breaker of calls to this node open? */
bool graph_node_broken(const struct graph *g, unsigned node);

#endif
