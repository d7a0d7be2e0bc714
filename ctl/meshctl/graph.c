/* SPDX-License-Identifier: Apache-2.0 */
/* meshctl graph: the map of calls for other programs: graphviz, a browser, scripts. Reads only. */
#include "ctl/meshctl/graph_text.h"
#include "ctl/meshctl/output.h"
#include "ctl/meshctl/telemetry.h"

#include <stdio.h>

#define TEXT_MAX (64u << 20)

static const char *opt_window;

const struct option_spec graph_options[] = {
	{"window", 'w', "TIME", "1m", "of what time: 1s to 14d", &opt_window, NULL},
	{0},
};

static int print(struct cli *cli, const cJSON *answer)
{
	char title[96];
	struct graph g;
	struct buf out;
	int rc = EXIT_OK;

	if (graph_read(answer, &g))
		return cli_fail("out of memory");
	buf_init(&out, TEXT_MAX);
	snprintf(title, sizeof(title), "Calls of the last %s%s", opt_window,
		 g.n_edges ? "" : ": none");
	if (cli->format == OUTPUT_DOT)
		graph_dot(&g, title, &out);
	if ((cli->format == OUTPUT_SVG && graph_svg(&g, title, &out)) || out.failed || !out.data)
		rc = cli_fail("out of memory");
	else
		fputs(out.data, stdout);
	if (g.left_out)
		cli_fail("warning: %u services and calls are left out: too many", g.left_out);
	buf_done(&out);
	graph_done(&g);
	return rc;
}

int cmd_graph(struct cli *cli)
{
	cJSON *answer = NULL;
	int rc = telemetry_window(cli, opt_window);

	if (rc == EXIT_OK)
		rc = telemetry_graph(cli, opt_window, &answer);
	if (rc == EXIT_OK)
		rc = cli->format == OUTPUT_JSON ? output_json(answer) : print(cli, answer);
	cJSON_Delete(answer);
	return rc;
}
