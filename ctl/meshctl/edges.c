/* SPDX-License-Identifier: Apache-2.0 */
/* meshctl edges: who calls whom, how often and how well, as a table. Reads only. */
#include "ctl/meshctl/figures.h"
#include "ctl/meshctl/output.h"
#include "ctl/meshctl/telemetry.h"
#include "ctl/meshctl/words.h"
#include "lib/json.h"

#include <string.h>

static const char *opt_window;

const struct option_spec edges_options[] = {
	{"window", 'w', "TIME", "1m", "of what time: 1s to 14d", &opt_window, NULL},
	{0},
};

/* "v1,v2", of a list of objects or of an object by version. */
static char *version_names(const cJSON *versions, char *out, size_t cap)
{
	const cJSON *v;

	out[0] = '\0';
	cJSON_ArrayForEach (v, versions) {
		const char *name = json_str(v, "version", v->string);

		if (name)
			words_add_once(name, out, cap);
	}
	return out;
}

static void edge_row(struct table *t, const cJSON *e)
{
	char rate[FIGURE_MAX], share[FIGURE_MAX], p50[FIGURE_MAX], p95[FIGURE_MAX], p99[FIGURE_MAX],
		requests[FIGURE_MAX], split[WORDS_MAX], versions[WORDS_MAX];
	struct figures f;

	figures_read(e, &f);
	table_row(t, (const char *[]){
			     json_str(e, "source", "?"), json_str(e, "destination", "?"),
			     json_str(e, "protocol", NULL), figure_rate(f.rate, rate),
			     figure_share(f.error_rate, share), figure_ms(f.p50, p50),
			     figure_ms(f.p99, p99), json_str(e, "breaker", NULL),
			     words_split(words_get(e, "split"), split, sizeof(split)),
			     figure_ms(f.p95, p95), figure_count(f.requests, requests),
			     version_names(words_get(e, "versions"), versions, sizeof(versions))});
}

static int print_table(struct cli *cli, const cJSON *graph)
{
	static const char *const headers[] = {"SOURCE", "DESTINATION", "PROTOCOL", "RATE",
					      "ERRORS", "P50",	       "P99",	   "BREAKER",
					      "SPLIT",	"P95",	       "REQUESTS", "VERSIONS"};
	const cJSON *e;
	struct table t;
	int rc = 0;

	table_init(&t, headers, cli->format == OUTPUT_WIDE ? 12 : 9);
	t.right = 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 9 | 1 << 10;
	cJSON_ArrayForEach (e, words_get(graph, "edges"))
		edge_row(&t, e);
	table_sort(&t);
	if (t.count)
		rc = table_print(&t, stdout, output_colour(stdout));
	else
		fprintf(stderr, "meshctl: no calls in the last %s (--window looks further back)\n",
			opt_window);
	table_done(&t);
	return rc ? cli_fail("out of memory") : EXIT_OK;
}

int cmd_edges(struct cli *cli)
{
	cJSON *graph = NULL;
	const cJSON *e;
	int rc = telemetry_window(cli, opt_window);

	if (rc == EXIT_OK)
		rc = telemetry_graph(cli, opt_window, &graph);
	if (rc != EXIT_OK)
		return rc;
	if (cli->format == OUTPUT_JSON) {
		rc = output_json(graph);
	} else if (cli->format == OUTPUT_NAME) {
		cJSON_ArrayForEach (e, words_get(graph, "edges"))
			printf("%s/%s\n", json_str(e, "source", "?"),
			       json_str(e, "destination", "?"));
	} else {
		rc = print_table(cli, graph);
	}
	cJSON_Delete(graph);
	return rc;
}
