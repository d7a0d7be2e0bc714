/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Handler of /api/graph: who calls whom, how often, how well. Edges are what was seen; nodes are
 * their ends and whatever is registered. Breakers are those that live agents have, splits those of
 * the configuration.
 */
#include "ctl/meshd/api_red.h"
#include "lib/json.h"
#include "lib/name.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ANSWER_MAX (16u << 20)

struct node {
	const char *name;
	const struct endpoint *endpoint; /* the first; NULL: none */
	unsigned endpoints, healthy;
	bool called;
	const char *breaker;
	struct red_sum in, out;
};

struct graph {
	struct red_window w;
	const struct red_group *group;
	size_t n;
	struct endpoint *endpoint;
	int endpoints;
	cJSON *breakers;
	struct node *node; /* by name */
	size_t nodes;
};

static int by_name(const void *x, const void *y)
{
	const struct node *a = x, *b = y;

	return strcmp(a->name, b->name);
}

static struct node *node_of(const struct graph *g, const char *name)
{
	struct node key = {.name = name};

	return bsearch(&key, g->node, g->nodes, sizeof(*g->node), by_name);
}

/* All names, each once. */
static int nodes_make(struct graph *g)
{
	size_t n = 0, unique = 0;

	g->node = calloc(2 * g->n + (size_t)g->endpoints + 1, sizeof(*g->node));
	if (!g->node)
		return -ENOMEM;
	for (size_t i = 0; i < g->n; i++) {
		g->node[n++].name = g->group[i].source;
		g->node[n++].name = g->group[i].destination;
	}
	for (int i = 0; i < g->endpoints; i++)
		g->node[n++].name = g->endpoint[i].service;
	qsort(g->node, n, sizeof(*g->node), by_name);
	for (size_t i = 0; i < n; i++)
		if (!unique || strcmp(g->node[unique - 1].name, g->node[i].name))
			g->node[unique++].name = g->node[i].name;
	g->nodes = unique;
	return 0;
}

static const char *worse(const char *a, const char *b)
{
	static const char *const states[] = {"open", "half-open"};

	for (size_t i = 0; i < 2; i++)
		if (!strcmp(a, states[i]) || !strcmp(b, states[i]))
			return states[i];
	return "closed";
}

/* What is known of each node: requests, endpoints, breaker. */
static int nodes_fill(struct graph *g)
{
	const cJSON *v;
	int err = 0;

	for (size_t i = 0; i < g->nodes; i++)
		g->node[i].breaker = "closed";
	for (size_t i = 0; i < g->n && !err; i++) {
		struct node *to = node_of(g, g->group[i].destination);

		to->called = true;
		err = red_sum_add(&to->in, &g->group[i].sum);
	}
	for (size_t i = 0; i < g->n && !err; i++) {
		struct node *from = node_of(g, g->group[i].source);

		if (!from->called)
			err = red_sum_add(&from->out, &g->group[i].sum);
	}
	for (int i = 0; i < g->endpoints; i++) {
		struct node *at = node_of(g, g->endpoint[i].service);

		at->endpoint = at->endpoint ? at->endpoint : &g->endpoint[i];
		at->endpoints++;
		at->healthy += !strcmp(g->endpoint[i].status, "healthy");
	}
	cJSON_ArrayForEach (v, g->breakers) {
		struct node *at = node_of(g, json_str(v, "service", ""));

		if (at && !json_str(v, "endpoint", NULL))
			at->breaker = worse(at->breaker, json_str(v, "state", ""));
	}
	return err;
}

static const char *kind_of(const struct node *n)
{
	if (n->endpoints)
		return "service";
	if (!strcmp(n->name, "gateway"))
		return "gateway";
	if (!strcmp(n->name, "unknown") || !strcmp(n->name, "none"))
		return "unknown";
	return n->called ? "service" : "caller";
}

static const char *status_of(const struct node *n)
{
	if (!n->endpoints)
		return "unknown";
	if (!n->healthy)
		return "unhealthy";
	return n->healthy < n->endpoints ? "degraded" : "healthy";
}

/* Of who is called, what came in; of others, what they sent. */
static void write_node(struct buf *b, const struct red *red, const struct graph *g,
		       const struct node *n)
{
	buf_char(b, '{');
	buf_member(b, "name", n->name);
	buf_char(b, ',');
	buf_member(b, "kind", kind_of(n));
	buf_char(b, ',');
	buf_member(b, "status", status_of(n));
	buf_printf(b, ",\"endpoints\":%u,\"healthy\":%u,", n->endpoints, n->healthy);
	buf_member(b, "breaker", n->breaker);
	buf_char(b, ',');
	api_figures(b, n->called || n->endpoints ? &n->in : &n->out,
		    red_covered_s(red, &g->w, n->called ? n->name : NULL), "");
	buf_char(b, '}');
}

/* --- edges --------------------------------------------------------------------------- */

static bool same_edge(const struct red_group *a, const struct red_group *b)
{
	return a->protocol == b->protocol && !strcmp(a->source, b->source) &&
	       !strcmp(a->destination, b->destination);
}

static void write_versions(struct buf *b, const struct red_group *g, size_t n,
			   const struct red_sum *all, double seconds)
{
	for (size_t i = 0; i < n; i++) {
		const struct red_sum *s = &g[i].sum;

		buf_str(b, i ? ",{" : "{");
		buf_member(b, "version", g[i].version);
		buf_char(b, ',');
		api_figure(b, "share",
			   all->requests ? (double)s->requests / (double)all->requests : 0);
		buf_char(b, ',');
		api_figures(b, s, seconds, "");
		buf_char(b, '}');
	}
}

/* n groups that differ in the version alone. */
static int write_edge(struct buf *b, const struct meshd *m, const struct graph *g,
		      const struct red_group *group, size_t n)
{
	const struct node *to = node_of(g, group->destination);
	const char *split = splits_of(&m->splits, group->destination);
	double seconds = red_covered_s(m->red, &g->w, group->destination);
	struct red_sum all = {0};
	int err = 0;

	for (size_t i = 0; i < n && !err; i++)
		err = red_sum_add(&all, &group[i].sum);
	buf_char(b, '{');
	buf_member(b, "source", group->source);
	buf_char(b, ',');
	buf_member(b, "destination", group->destination);
	buf_char(b, ',');
	buf_member(b, "protocol", red_protocol_words[group->protocol]);
	buf_char(b, ',');
	api_figures(b, &all, seconds, "");
	buf_str(b, ",\"versions\":[");
	write_versions(b, group, n, &all, seconds);
	buf_str(b, "],");
	buf_member(b, "breaker", to->breaker);
	buf_printf(b, ",\"split\":%s}", split ? split : "null");
	red_sum_done(&all);
	return err;
}

static int write_graph(struct buf *b, const struct meshd *m, const struct graph *g)
{
	size_t n = 0;
	int err = 0;

	buf_printf(b, "{\"window\":\"%llus\",\"from\":%llu,\"to\":%llu,\"nodes\":[",
		   (unsigned long long)g->w.window_s, (unsigned long long)g->w.from_s * 1000,
		   (unsigned long long)g->w.to_ms);
	for (size_t i = 0; i < g->nodes; i++) {
		buf_str(b, i ? "," : "");
		write_node(b, m->red, g, &g->node[i]);
	}
	buf_str(b, "],\"edges\":[");
	for (size_t i = 0; i < g->n && !err; i += n) {
		for (n = 1; i + n < g->n && same_edge(&g->group[i], &g->group[i + n]);)
			n++;
		buf_str(b, i ? "," : "");
		err = write_edge(b, m, g, &g->group[i], n);
	}
	buf_str(b, "]}");
	return err;
}

/* Those of `meshctl check` are nobody's. */
static void leave_out_own(struct graph *g)
{
	int n = 0;

	for (int i = 0; i < g->endpoints; i++)
		if (!name_is_own(g->endpoint[i].service))
			g->endpoint[n++] = g->endpoint[i];
	g->endpoints = n;
}

/* --- the handler --------------------------------------------------------------------- */

static int graph_read(struct graph *g, struct meshd *m, const struct red_query *q)
{
	uint64_t now_ms = m->loop->now_ns / 1000000;
	int err;

	g->w = *red_query_window(q);
	g->group = red_query_groups(q, &g->n);
	g->endpoints = registry_endpoints(m->registry, now_ms, &g->endpoint);
	if (g->endpoints < 0)
		return g->endpoints;
	leave_out_own(g);
	g->breakers = registry_breakers(m->registry, NULL, now_ms);
	err = g->breakers ? splits_read(&m->splits, m->store) : -ENOMEM;
	if (!err)
		err = nodes_make(g);
	return err ? err : nodes_fill(g);
}

static void graph_done(struct graph *g)
{
	for (size_t i = 0; g->node && i < g->nodes; i++) {
		red_sum_done(&g->node[i].in);
		red_sum_done(&g->node[i].out);
	}
	free(g->node);
	free(g->endpoint);
	cJSON_Delete(g->breakers);
}

void api_graph(struct request *r)
{
	struct graph g = {0};
	struct red_query *q;
	struct buf b;
	int err;

	if ((!r->work && api_window(r, false, &g.w)) || api_query(r, &g.w, &q))
		return;
	err = graph_read(&g, r->meshd, q);
	buf_init(&b, ANSWER_MAX);
	if (!err)
		err = write_graph(&b, r->meshd, &g);
	if (!err)
		reply_buf(r, 200, "application/json", &b);
	else
		api_fail(r, err, NULL);
	buf_done(&b);
	graph_done(&g);
}
