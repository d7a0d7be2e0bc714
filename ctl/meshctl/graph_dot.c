/* SPDX-License-Identifier: Apache-2.0 */
/* See graph_text.h: DOT, to be drawn by graphviz. */
#include "ctl/meshctl/graph_text.h"
#include "lib/json.h"

#include <string.h>

/* In double quotes; a label takes backslashes for itself, so they come in twos. Anything that ends
 * lines becomes a blank. */
static void quote(struct buf *out, const char *text)
{
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			buf_char(out, '\\');
		buf_char(out, (unsigned char)*text < 0x20 ? ' ' : *text);
	}
}

static void quoted(struct buf *out, const char *text)
{
	buf_char(out, '"');
	quote(out, text);
	buf_char(out, '"');
}

static void node(const struct graph *g, unsigned n, struct buf *out)
{
	const struct graph_node *node = &g->nodes[n];
	bool service = !strcmp(json_str(node->json, "kind", "service"), "service"),
	     well = strcmp(json_str(node->json, "status", ""), "unhealthy") &&
		    !graph_node_broken(g, n);
	char figures[64], words[256];

	buf_str(out, "\t");
	quoted(out, node->name);
	buf_str(out, " [label=\"");
	quote(out, node->name);
	graph_figures(node->json, figures);
	if (*figures) {
		buf_str(out, "\\n");
		quote(out, figures);
	}
	buf_printf(out,
		   "\", style=\"rounded,%s\", color=\"%s\", tooltip=", service ? "solid" : "dashed",
		   well ? "#57606a" : "#cf222e");
	quoted(out, graph_node_words(node, words, sizeof(words)));
	buf_str(out, "];\n");
}

static void edge(const struct graph *g, const struct graph_edge *e, struct buf *out)
{
	static const char *const colours[] = {"#57606a", "#bc4c00", "#cf222e"};
	char figures[64], words[1024];

	buf_str(out, "\t");
	quoted(out, g->nodes[e->from].name);
	buf_str(out, " -> ");
	quoted(out, g->nodes[e->to].name);
	buf_str(out, " [label=");
	quoted(out, graph_figures(e->json, figures));
	buf_printf(out, ", penwidth=%.2f, color=\"%s\", tooltip=", graph_width(g, e),
		   colours[graph_trouble(e)]);
	quoted(out, graph_edge_words(g, e, words, sizeof(words)));
	buf_str(out, "];\n");
}

void graph_dot(const struct graph *g, const char *title, struct buf *out)
{
	buf_str(out, "digraph mesh {\n\trankdir=LR;\n\tlabel=");
	quoted(out, title);
	buf_str(out, ";\n\tnode [shape=box, fontname=\"sans-serif\", fontsize=11];\n"
		     "\tedge [fontname=\"sans-serif\", fontsize=9];\n");
	for (unsigned n = 0; n < g->n_nodes; n++)
		node(g, n, out);
	for (unsigned i = 0; i < g->n_edges; i++)
		edge(g, &g->edges[i], out);
	buf_str(out, "}\n");
}
