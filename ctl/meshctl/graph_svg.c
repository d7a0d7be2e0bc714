/* SPDX-License-Identifier: Apache-2.0 */
/* See graph_text.h: SVG that needs nothing from elsewhere, for bright and dark pages. */
#include "ctl/meshctl/graph_text.h"
#include "ctl/meshctl/text.h"
#include "lib/json.h"
#include "lib/utf8.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define NAME_COLUMNS 30	 /* of a name in its box; all of it is in the tooltip */
#define LABELS_MAX   120 /* with more edges their labels would hide the picture */
#define TITLE_Y	     22

static const struct graph_metrics metrics = {.box = 44, .gap_x = 130, .gap_y = 26, .margin = 40};

static const char style[] =
	"<style>\n"
	"svg.mesh{--bg:#ffffff;--fg:#1f2328;--dim:#59636e;--box:#f6f8fa;--line:#6e7781;"
	"--some:#bc4c00;--many:#cf222e;background:var(--bg);font:13px system-ui,sans-serif}\n"
	"@media (prefers-color-scheme:dark){svg.mesh{--bg:#0d1117;--fg:#e6edf3;--dim:#9198a1;"
	"--box:#161b22;--line:#848d97;--some:#f0883e;--many:#ff7b72}}\n"
	".mesh text{fill:var(--fg)}\n"
	".mesh .dim{fill:var(--dim);font-size:11px}\n"
	".mesh .box rect{fill:var(--box);stroke:var(--line)}\n"
	".mesh .outside rect{stroke-dasharray:5 4}\n"
	".mesh .bad rect{stroke:var(--many);stroke-width:2}\n"
	".mesh path.edge{fill:none;stroke-linecap:round}\n"
	".mesh .t0 path.edge{stroke:var(--line)}\n"
	".mesh .t1 path.edge{stroke:var(--some)}\n"
	".mesh .t2 path.edge{stroke:var(--many)}\n"
	".mesh #h0{fill:var(--line)}\n.mesh #h1{fill:var(--some)}\n.mesh #h2{fill:var(--many)}\n"
	".mesh .edges text{font-size:11px;text-anchor:middle;fill:var(--dim);paint-order:stroke;"
	"stroke:var(--bg);stroke-width:4px;stroke-linejoin:round}\n"
	".mesh .edges .t2 text{fill:var(--many)}\n"
	"</style>\n";

/* Text of an element: what XML 1.0 has no place for becomes U+FFFD. */
static void escaped(struct buf *out, const char *text, size_t bytes)
{
	const unsigned char *p = (const unsigned char *)text;

	for (size_t left = strnlen(text, bytes), n; left; p += n, left -= n) {
		size_t len = utf8_len(p, left);
		bool none = !len || (*p < 0x20 && !strchr("\t\n\r", *p)) ||
			    (len == 3 && p[0] == 0xef && p[1] == 0xbf && p[2] >= 0xbe);

		n = len ? len : 1;
		if (none)
			buf_str(out, "\xef\xbf\xbd");
		else if (*p == '&')
			buf_str(out, "&amp;");
		else if (*p == '<')
			buf_str(out, "&lt;");
		else if (*p == '>')
			buf_str(out, "&gt;");
		else if (*p == '"')
			buf_str(out, "&quot;");
		else
			buf_add(out, p, n);
	}
}

static void element(struct buf *out, const char *open, const char *text, const char *close)
{
	buf_str(out, open);
	escaped(out, text, SIZE_MAX);
	buf_str(out, close);
}

static unsigned name_columns(const char *name)
{
	unsigned n = text_columns(name);

	return n > NAME_COLUMNS ? NAME_COLUMNS : n;
}

static void set_widths(struct graph *g)
{
	char figures[64];

	for (unsigned n = 0; n < g->n_nodes; n++) {
		unsigned columns = name_columns(g->nodes[n].name),
			 under = text_columns(graph_figures(g->nodes[n].json, figures)) + 6;

		g->nodes[n].width = 30 + 7.6 * (columns > under ? columns : under);
	}
}

static void node(const struct graph *g, unsigned index, struct buf *out)
{
	const struct graph_node *n = &g->nodes[index];
	bool service = !strcmp(json_str(n->json, "kind", "service"), "service"),
	     bad = !strcmp(json_str(n->json, "status", ""), "unhealthy") ||
		   graph_node_broken(g, index),
	     cut = text_columns(n->name) > NAME_COLUMNS;
	char words[256], figures[64];

	buf_printf(out, "<g class=\"box%s%s\">", service ? "" : " outside", bad ? " bad" : "");
	element(out, "<title>", graph_node_words(n, words, sizeof(words)), "</title>");
	buf_printf(out, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" rx=\"7\"/>",
		   n->x - n->width / 2, n->y - metrics.box / 2, n->width, metrics.box);
	graph_figures(n->json, figures);
	if (json_num(n->json, "endpoints", 0) > 0) {
		size_t len = strlen(figures);

		snprintf(figures + len, sizeof(figures) - len, "%s%.0f/%.0f",
			 len ? " \xc2\xb7 " : "", json_num(n->json, "healthy", 0),
			 json_num(n->json, "endpoints", 0));
	}
	buf_printf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">", n->x,
		   *figures ? n->y - 3 : n->y + 4);
	escaped(out, n->name, cut ? text_bytes(n->name, NAME_COLUMNS - 1) : SIZE_MAX);
	buf_str(out, cut ? "\xe2\x80\xa6</text>" : "</text>");
	if (*figures) {
		buf_printf(out, "<text class=\"dim\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">",
			   n->x, n->y + 14);
		element(out, "", figures, "</text>");
	}
	buf_str(out, "</g>\n");
}

/* A service that calls itself: around its upper right corner. */
static void loop_path(const struct graph_node *n, struct buf *out)
{
	double x = n->x + n->width / 2, y = n->y - metrics.box / 2;

	buf_printf(out, "M%.1f %.1fC%.1f %.1f %.1f %.1f %.1f %.1f", x - 24, y, x - 18, y - 30,
		   x + 32, y - 6, x + 5, y + 14);
}

static void edge_path(const struct graph_edge *e, struct buf *out)
{
	const struct graph_point *p = e->points;

	buf_printf(out, "M%.1f %.1f", p[0].x, p[0].y);
	for (unsigned i = 1; i < e->n_points; i++) {
		double bend = (p[i].x - p[i - 1].x) * 0.45;

		buf_printf(out, "C%.1f %.1f %.1f %.1f %.1f %.1f", p[i - 1].x + bend, p[i - 1].y,
			   p[i].x - bend, p[i].y, p[i].x, p[i].y);
	}
}

/* At the middle of its first piece: there edges of one source have parted. */
static void edge_label(const struct graph_edge *e, struct buf *out)
{
	char figures[64];

	graph_figures(e->json, figures);
	if (!e->n_points || !*figures)
		return;
	buf_printf(out, "<text x=\"%.1f\" y=\"%.1f\">", (e->points[0].x + e->points[1].x) / 2,
		   (e->points[0].y + e->points[1].y) / 2 - 5);
	element(out, "", figures, "</text>");
}

/* The head of the arrow takes a part of the gap before the box, so that wide edges end in a point.
 */
static void edge(const struct graph *g, const struct graph_edge *e, struct buf *out)
{
	unsigned trouble = graph_trouble(e);
	char words[1024];

	buf_printf(out, "<g class=\"t%u\">", trouble);
	element(out, "<title>", graph_edge_words(g, e, words, sizeof(words)), "</title>");
	buf_str(out, "<path class=\"edge\" d=\"");
	if (e->n_points)
		edge_path(e, out);
	else
		loop_path(&g->nodes[e->from], out);
	buf_printf(out, "\" stroke-width=\"%.2f\" marker-%s=\"url(#a%u)\"/>", graph_width(g, e),
		   e->back && e->n_points ? "start" : "end", trouble);
	if (g->n_edges <= LABELS_MAX)
		edge_label(e, out);
	buf_str(out, "</g>\n");
}

static void markers(struct buf *out)
{
	buf_str(out, "<defs>\n");
	for (unsigned i = 0; i < 3; i++)
		buf_printf(out,
			   "<marker id=\"a%u\" viewBox=\"0 0 10 10\" refX=\"9\" refY=\"5\" "
			   "markerWidth=\"15\" markerHeight=\"15\" markerUnits=\"userSpaceOnUse\" "
			   "orient=\"auto-start-reverse\"><path id=\"h%u\" d=\"M0 0L10 5L0 10z\"/>"
			   "</marker>\n",
			   i, i);
	buf_str(out, "</defs>\n");
}

int graph_svg(struct graph *g, const char *title, struct buf *out)
{
	double width, height;
	int r;

	set_widths(g);
	r = graph_layout(g, &metrics);
	if (r)
		return r;
	width = fmax(g->width, 320);
	height = fmax(g->height, 80) + TITLE_Y;
	buf_printf(out,
		   "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"mesh\" role=\"img\" "
		   "width=\"%.0f\" height=\"%.0f\" viewBox=\"0 %d %.0f %.0f\">\n",
		   width, height, -TITLE_Y, width, height);
	element(out, "<title>", title, "</title>\n");
	buf_str(out, style);
	markers(out);
	element(out, "<text class=\"dim\" x=\"12\" y=\"0\">", title, "</text>\n");
	buf_str(out, "<g class=\"edges\">\n");
	for (unsigned i = 0; i < g->n_edges; i++)
		edge(g, &g->edges[i], out);
	buf_str(out, "</g>\n<g class=\"nodes\">\n");
	for (unsigned n = 0; n < g->n_nodes; n++)
		node(g, n, out);
	buf_str(out, "</g>\n</svg>\n");
	return 0;
}
