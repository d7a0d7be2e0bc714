/* SPDX-License-Identifier: Apache-2.0 */
/* The map of calls as DOT and SVG: layers, order, quoting, and pictures that do not change by
 * themselves. */
#include "ctl/meshctl/graph_text.h"
#include "lib/json.h"

#include <ctype.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct graph_metrics metrics = {.box = 40, .gap_x = 100, .gap_y = 20, .margin = 10};

static const char demo[] =
	"{\"nodes\":[{\"name\":\"gateway\",\"kind\":\"gateway\"},"
	"{\"name\":\"frontend\",\"kind\":\"service\",\"status\":\"healthy\",\"rate\":5,"
	"\"errorRate\":0,"
	"\"endpoints\":1,\"healthy\":1},{\"name\":\"backend\",\"kind\":\"service\",\"endpoints\":2,"
	"\"healthy\":1,\"rate\":5,\"errorRate\":0.1},{\"name\":\"database\"},{\"name\":\"cache\"}],"
	"\"edges\":[{\"source\":\"gateway\",\"destination\":\"frontend\",\"rate\":5,\"errorRate\":"
	"0},"
	"{\"source\":\"frontend\",\"destination\":\"backend\",\"rate\":5,\"errorRate\":0.1,"
	"\"p50\":1,\"p99\":9,\"breaker\":\"open\",\"split\":{\"v1\":90,\"v2\":10}},"
	"{\"source\":\"backend\",\"destination\":\"database\",\"rate\":50,\"errorRate\":0.01},"
	"{\"source\":\"backend\",\"destination\":\"cache\",\"rate\":0.5},"
	"{\"source\":\"frontend\",\"destination\":\"cache\",\"rate\":0.5}]}";

static cJSON *read_graph(const char *text, struct graph *g)
{
	cJSON *v = json_parse(text, strlen(text), NULL);

	assert_non_null(v);
	assert_int_equal(graph_read(v, g), 0);
	return v;
}

static const struct graph_node *node(const struct graph *g, const char *name)
{
	for (unsigned i = 0; i < g->n_nodes; i++)
		if (!strcmp(g->nodes[i].name, name))
			return &g->nodes[i];
	fail_msg("no node %s", name);
	return NULL;
}

static void callers_are_left_of_what_they_call(void **state)
{
	struct graph g;
	cJSON *v = read_graph(demo, &g);

	assert_int_equal(g.n_nodes, 5);
	assert_int_equal(g.n_edges, 5);
	assert_int_equal(graph_layout(&g, &metrics), 0);
	assert_int_equal(node(&g, "gateway")->layer, 0);
	assert_int_equal(node(&g, "frontend")->layer, 1);
	assert_int_equal(node(&g, "backend")->layer, 2);
	assert_int_equal(node(&g, "cache")->layer, 3);
	assert_int_equal(node(&g, "database")->layer, 3);
	for (unsigned i = 0; i < g.n_edges; i++)
		assert_true(g.nodes[g.edges[i].from].x < g.nodes[g.edges[i].to].x);
	graph_done(&g);
	cJSON_Delete(v);
}

static void an_edge_over_a_layer_goes_around_its_nodes(void **state)
{
	struct graph g;
	cJSON *v = read_graph(demo, &g);
	const struct graph_edge *e = NULL;
	const struct graph_node *backend;

	assert_int_equal(graph_layout(&g, &metrics), 0);
	for (unsigned i = 0; i < g.n_edges; i++)
		if (&g.nodes[g.edges[i].from] == node(&g, "frontend") &&
		    &g.nodes[g.edges[i].to] == node(&g, "cache"))
			e = &g.edges[i];
	assert_non_null(e);
	backend = node(&g, "backend");
	assert_int_equal(e->n_points, 3);
	assert_true(fabs(e->points[1].x - backend->x) < 1);
	assert_true(fabs(e->points[1].y - backend->y) > metrics.box / 2);
	graph_done(&g);
	cJSON_Delete(v);
}

/* Nodes do not overlap, edges go from left to right, and all is within the picture. */
static void check_layout(const struct graph *g)
{
	for (unsigned i = 0; i < g->n_nodes; i++) {
		const struct graph_node *a = &g->nodes[i];

		assert_true(a->y >= metrics.box / 2 && a->y <= g->height - metrics.box / 2);
		assert_true(a->x - a->width / 2 >= 0 && a->x + a->width / 2 <= g->width);
		for (unsigned k = 0; k < i; k++) {
			const struct graph_node *b = &g->nodes[k];

			if (a->layer == b->layer)
				assert_true(fabs(a->y - b->y) > metrics.box + metrics.gap_y - 1e-6);
			else
				assert_true((a->layer < b->layer) == (a->x < b->x));
		}
	}
	for (unsigned i = 0; i < g->n_edges; i++) {
		const struct graph_edge *e = &g->edges[i];
		unsigned left = e->back ? e->to : e->from, right = e->back ? e->from : e->to;

		if (e->from == e->to)
			assert_int_equal(e->n_points, 0);
		else
			assert_true(g->nodes[left].layer < g->nodes[right].layer);
		for (unsigned k = 1; k < e->n_points; k++)
			assert_true(e->points[k - 1].x < e->points[k].x);
	}
}

/* Any graph of up to max nodes, cycles and all. */
static char *random_graph(unsigned *seed, int max)
{
	int n = 1 + rand_r(seed) % max, m = rand_r(seed) % (3 * n);
	struct buf b;

	buf_init(&b, 1 << 20);
	buf_str(&b, "{\"edges\":[");
	for (int i = 0; i < m; i++)
		buf_printf(&b, "%s{\"source\":\"s%d\",\"destination\":\"s%d\",\"rate\":%d}",
			   i ? "," : "", rand_r(seed) % n, rand_r(seed) % n, rand_r(seed) % 1000);
	buf_str(&b, "],\"nodes\":[{\"name\":\"s0\"},{\"name\":\"alone\"}]}");
	return buf_take(&b);
}

static void any_graph_is_laid_out(void **state)
{
	unsigned seed = 3;

	for (int round = 0; round < 150; round++) {
		char *text = random_graph(&seed, round % 10 ? 12 : 60);
		struct graph g;
		cJSON *v = read_graph(text, &g);

		for (unsigned i = 0; i < g.n_nodes; i++)
			g.nodes[i].width = 80 + 10 * (i % 5);
		assert_int_equal(graph_layout(&g, &metrics), 0);
		check_layout(&g);
		graph_done(&g);
		cJSON_Delete(v);
		free(text);
	}
}

static char *svg_of(const char *text)
{
	struct graph g;
	cJSON *v = read_graph(text, &g);
	struct buf out;

	buf_init(&out, 64 << 20);
	assert_int_equal(graph_svg(&g, "Calls & more", &out), 0);
	graph_done(&g);
	cJSON_Delete(v);
	return buf_take(&out);
}

static char *dot_of(const char *text)
{
	struct graph g;
	cJSON *v = read_graph(text, &g);
	struct buf out;

	buf_init(&out, 64 << 20);
	graph_dot(&g, "Calls", &out);
	graph_done(&g);
	cJSON_Delete(v);
	return buf_take(&out);
}

static void the_order_of_the_answer_changes_no_picture(void **state)
{
	static const char other[] =
		"{\"edges\":[{\"source\":\"b\",\"destination\":\"c\"},{\"source\":\"a\","
		"\"destination\":\"c\"}],"
		"\"nodes\":[{\"name\":\"c\"},{\"name\":\"a\"},{\"name\":\"b\"}]}",
			  one[] = "{\"nodes\":[{\"name\":\"a\"},{\"name\":\"b\"},{\"name\":\"c\"}],"
				  "\"edges\":[{\"source\":\"a\",\"destination\":\"c\"},{\"source\":"
				  "\"b\",\"destination\":"
				  "\"c\"}]}";
	char *a = svg_of(one), *b = svg_of(other);

	assert_string_equal(a, b);
	free(a);
	free(b);
	a = dot_of(one);
	b = dot_of(other);
	assert_string_equal(a, b);
	free(a);
	free(b);
}

/* As far as a well-formed document goes without DTD: tags are closed in order, attributes are
 * quoted, & begins an entity, and there is no '<' but of a tag. */
static void check_xml(const char *p)
{
	char stack[16][16];
	int depth = 0;

	while (*p) {
		if (*p == '&') {
			assert_true(!strncmp(p, "&amp;", 5) || !strncmp(p, "&lt;", 4) ||
				    !strncmp(p, "&gt;", 4) || !strncmp(p, "&quot;", 6));
		} else if (p[0] == '<' && p[1] == '/') {
			assert_true(depth > 0);
			depth--;
			assert_memory_equal(p + 2, stack[depth], strlen(stack[depth]));
			p = strchr(p, '>');
			assert_non_null(p);
		} else if (*p == '<') {
			size_t n = strspn(p + 1, "abcdefghijklmnopqrstuvwxyz");
			bool in = false;

			assert_in_range(n, 1, 15);
			snprintf(stack[depth], sizeof(stack[0]), "%.*s", (int)n, p + 1);
			for (p++; *p && (in || *p != '>'); p++) {
				in = in != (*p == '"');
				assert_int_not_equal(*p, '<');
			}
			assert_int_equal(*p, '>');
			depth += p[-1] != '/';
			assert_in_range(depth, 0, 15);
		}
		assert_true((unsigned char)*p >= 0x20 || *p == '\n');
		p++;
	}
	assert_int_equal(depth, 0);
}

static void svg_is_well_formed_and_says_it_all(void **state)
{
	char *text = svg_of(demo);

	check_xml(text);
	assert_non_null(strstr(text, "<title>Calls &amp; more</title>"));
	assert_non_null(strstr(text, "frontend -&gt; backend: 5.00/s, 10.0% errors, p50 1.00ms"));
	assert_non_null(strstr(text, "breaker open, split v1 90%, v2 10%"));
	assert_non_null(strstr(text, "prefers-color-scheme:dark"));
	assert_non_null(strstr(text, "class=\"t2\""));
	assert_null(strstr(text, "http://www.w3.org/1999"));
	assert_null(strstr(text, "nan"));
	free(text);
}

/* The line that begins with that text. */
static const char *line_of(const char *text, const char *begin)
{
	static char line[1024];
	const char *at = strstr(text, begin);

	if (!at)
		fail_msg("no %s in %s", begin, text);
	snprintf(line, sizeof(line), "%.*s", (int)strcspn(at, "\n"), at);
	return line;
}

/* Grey is well, orange some errors, red many of them, or a breaker that is open. */
static void dot_says_it_all(void **state)
{
	static const char *const want[][4] = {
		{"\t\"gateway\" [", "dashed", "#57606a", "gateway: gateway"},
		{"\t\"frontend\" [", "solid", "#57606a", "1 of 1 endpoints healthy, 5.00/s"},
		{"\t\"backend\" [", "solid", "#cf222e", "1 of 2 endpoints healthy"},
		{"\t\"gateway\" -> \"frontend\" [", "label=\"5.00/s\"", "#57606a", "0% errors"},
		{"\t\"frontend\" -> \"backend\" [", "label=\"5.00/s 10.0%\"", "#cf222e",
		 "p50 1.00ms, p95 -, p99 9.00ms, breaker open, split v1 90%, v2 10%"},
		{"\t\"backend\" -> \"database\" [", "penwidth=6.00", "#bc4c00", "1.0% errors"},
	};
	char *text = dot_of(demo);

	for (size_t i = 0; i < sizeof(want) / sizeof(*want); i++) {
		const char *line = line_of(text, want[i][0]);

		for (int k = 1; k < 4; k++)
			if (!strstr(line, want[i][k]))
				fail_msg("no %s in %s", want[i][k], line);
	}
	free(text);
}

static const char hostile[] = "{\"nodes\":[{\"name\":\"<script>&\\\"'\\u0001\\\\\",\"status\":\"]]>"
			      "\\n\"},{\"name\":7},{},"
			      "{\"name\":\"\xff\xfe\"},{\"name\":\"\xef\xbf\xbf\"}],"
			      "\"edges\":[{\"source\":\"<script>&\\\"'\\u0001\\\\\","
			      "\"destination\":\"a\\\"];evil[label=\\\"\","
			      "\"rate\":1e999,\"errorRate\":-5,\"p50\":\"x\",\"breaker\":"
			      "\"\\\"\\\\\"},{\"source\":\"x\"},3,"
			      "{\"source\":\"self\",\"destination\":\"self\",\"rate\":-1}]}";

static void names_cannot_break_out(void **state)
{
	char *svg = svg_of(hostile), *dot = dot_of(hostile);
	bool in = false;

	check_xml(svg);
	assert_null(strstr(svg, "<script"));
	/* in DOT, outside of quotes there is nothing of what was given */
	for (const char *p = dot; *p; p++) {
		if (in && *p == '\\')
			p++;
		else if (*p == '"')
			in = !in;
		else if (!in)
			assert_memory_not_equal(p, "evil", 4);
	}
	assert_false(in);
	free(svg);
	free(dot);
}

static void an_empty_map_is_a_picture_too(void **state)
{
	static const char *const texts[] = {"{}", "[]", "7", "{\"nodes\":[],\"edges\":[]}"};

	for (size_t i = 0; i < 4; i++) {
		char *svg = svg_of(texts[i]), *dot = dot_of(texts[i]);

		check_xml(svg);
		assert_non_null(strstr(dot, "digraph mesh {"));
		free(svg);
		free(dot);
	}
}

/* The size that a mesh may have: 50 services and 1,000 edges; and a chain as long as it may be. */
static void large_maps_are_drawn(void **state)
{
	struct buf b;
	char *svg;

	buf_init(&b, 4 << 20);
	buf_str(&b, "{\"edges\":[");
	for (int i = 0; i < 1000; i++)
		buf_printf(&b, "%s{\"source\":\"s%d\",\"destination\":\"s%d\",\"rate\":1}",
			   i ? "," : "", i % 50, (i * 7 + i / 50) % 50);
	buf_str(&b, "]}");
	svg = svg_of(b.data);
	check_xml(svg);
	free(svg);
	buf_reset(&b);
	buf_str(&b, "{\"edges\":[");
	for (int i = 0; i < 400; i++)
		buf_printf(&b, "%s{\"source\":\"s%d\",\"destination\":\"s%d\",\"rate\":1}",
			   i ? "," : "", i, i + 1);
	buf_str(&b, ",{\"source\":\"s0\",\"destination\":\"s400\"},{\"source\":\"s400\","
		    "\"destination\":\"s0\"}]}");
	svg = svg_of(b.data);
	check_xml(svg);
	free(svg);
	buf_done(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(callers_are_left_of_what_they_call),
		cmocka_unit_test(an_edge_over_a_layer_goes_around_its_nodes),
		cmocka_unit_test(any_graph_is_laid_out),
		cmocka_unit_test(the_order_of_the_answer_changes_no_picture),
		cmocka_unit_test(svg_is_well_formed_and_says_it_all),
		cmocka_unit_test(dot_says_it_all),
		cmocka_unit_test(names_cannot_break_out),
		cmocka_unit_test(an_empty_map_is_a_picture_too),
		cmocka_unit_test(large_maps_are_drawn),
	};

	return cmocka_run_group_tests_name("meshctl graph", tests, NULL, NULL);
}
