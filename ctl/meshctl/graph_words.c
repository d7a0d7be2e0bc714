/* SPDX-License-Identifier: Apache-2.0 */
/* See graph_text.h: what DOT and SVG have in common. */
#include "ctl/meshctl/figures.h"
#include "ctl/meshctl/graph_text.h"
#include "ctl/meshctl/words.h"
#include "lib/json.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define MANY_ERRORS 0.05
#define WIDEST	    5.0 /* more than the thinnest */

static double rate_of(const cJSON *json)
{
	double rate = json_num(json, "rate", 0);

	return isfinite(rate) && rate > 0 ? rate : 0;
}

unsigned graph_trouble(const struct graph_edge *e)
{
	struct figures f;

	figures_read(e->json, &f);
	return f.error_rate > MANY_ERRORS ? 2 : f.error_rate > 0;
}

/* By the logarithm: edges differ by orders of magnitude. */
double graph_width(const struct graph *g, const struct graph_edge *e)
{
	double most = 0;

	for (unsigned i = 0; i < g->n_edges; i++)
		most = fmax(most, rate_of(g->edges[i].json));
	return most > 0 ? 1 + WIDEST * log1p(rate_of(e->json)) / log1p(most) : 1;
}

char *graph_figures(const cJSON *json, char out[64])
{
	char rate[FIGURE_MAX], share[FIGURE_MAX];
	struct figures f;

	figures_read(json, &f);
	out[0] = '\0';
	if (isnan(f.rate))
		return out;
	snprintf(out, 64, "%s%s%s", figure_rate(f.rate, rate), f.error_rate > 0 ? " " : "",
		 f.error_rate > 0 ? figure_share(f.error_rate, share) : "");
	return out;
}

char *graph_node_words(const struct graph_node *n, char *out, size_t cap)
{
	const char *kind = json_str(n->json, "kind", "service"),
		   *status = json_str(n->json, "status", "");
	double endpoints = json_num(n->json, "endpoints", NAN);
	char figures[64], healthy[48] = "";

	if (strcmp(kind, "service") != 0) /* who only calls has neither */
		status = "";
	else if (!isnan(endpoints))
		snprintf(healthy, sizeof(healthy), ", %.0f of %.0f endpoints healthy",
			 json_num(n->json, "healthy", 0), endpoints);
	graph_figures(n->json, figures);
	snprintf(out, cap, "%s: %s%s%s%s%s", n->name, kind, *status ? " " : "", status, healthy,
		 *figures ? ", " : "");
	snprintf(out + strlen(out), cap - strlen(out), "%s%s", figures,
		 strchr(figures, ' ') ? " errors" : "");
	return out;
}

char *graph_edge_words(const struct graph *g, const struct graph_edge *e, char *out, size_t cap)
{
	char rate[FIGURE_MAX], share[FIGURE_MAX], p50[FIGURE_MAX], p95[FIGURE_MAX], p99[FIGURE_MAX],
		split[WORDS_MAX];
	const char *breaker = json_str(e->json, "breaker", "");
	struct figures f;

	figures_read(e->json, &f);
	words_split(words_get(e->json, "split"), split, sizeof(split));
	snprintf(out, cap, "%s -> %s%s%s: %s, %s errors, p50 %s, p95 %s, p99 %s%s%s%s%s",
		 g->nodes[e->from].name, g->nodes[e->to].name,
		 *json_str(e->json, "protocol", "") ? " by " : "",
		 json_str(e->json, "protocol", ""), figure_rate(f.rate, rate),
		 figure_share(f.error_rate, share), figure_ms(f.p50, p50), figure_ms(f.p95, p95),
		 figure_ms(f.p99, p99), *breaker ? ", breaker " : "", breaker,
		 *split ? ", split " : "", split);
	return out;
}

bool graph_node_broken(const struct graph *g, unsigned node)
{
	for (unsigned i = 0; i < g->n_edges; i++)
		if (g->edges[i].to == node &&
		    !strcmp(json_str(g->edges[i].json, "breaker", ""), "open"))
			return true;
	return false;
}
