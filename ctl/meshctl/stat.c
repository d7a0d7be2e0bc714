/* SPDX-License-Identifier: Apache-2.0 */
/* meshctl stat: rate, errors and latency of services, or of one by its callers and versions. Reads
 * only. */
#include "ctl/meshctl/stat.h"
#include "ctl/meshctl/figures.h"
#include "ctl/meshctl/output.h"
#include "ctl/meshctl/telemetry.h"
#include "ctl/meshctl/words.h"
#include "lib/json.h"
#include "lib/name.h"

#include <string.h>

static const char *opt_window, *opt_source;

const struct option_spec stat_options[] = {
	{"window", 'w', "TIME", "1m", "of what time: 1s to 14d", &opt_window, NULL},
	{"source", 's', "NAME", NULL, "calls of this service only (or gateway, unknown)",
	 &opt_source, NULL},
	{0},
};

/* Behind the `names` first cells come the figures. */
static void add_row(struct table *t, const char *first, const char *second, const cJSON *item)
{
	char rate[FIGURE_MAX], share[FIGURE_MAX], p50[FIGURE_MAX], p95[FIGURE_MAX], p99[FIGURE_MAX],
		requests[FIGURE_MAX], errors[FIGURE_MAX];
	const char *cells[9];
	struct figures f;
	unsigned n = 0;

	figures_read(item, &f);
	cells[n++] = first;
	if (second)
		cells[n++] = second;
	cells[n++] = figure_rate(f.rate, rate);
	cells[n++] = figure_share(f.error_rate, share);
	cells[n++] = figure_ms(f.p50, p50);
	cells[n++] = figure_ms(f.p95, p95);
	cells[n++] = figure_ms(f.p99, p99);
	cells[n++] = figure_count(f.requests, requests);
	cells[n++] = figure_count(f.errors, errors);
	table_row(t, cells);
}

static int print_and_free(struct table *t)
{
	int rc = table_print(t, stdout, output_colour(stdout));

	table_done(t);
	return rc ? cli_fail("out of memory") : EXIT_OK;
}

static int print_services(struct cli *cli, const cJSON *stat)
{
	static const char *const headers[] = {"SERVICE", "RATE", "ERRORS",   "P50",
					      "P95",	 "P99",	 "REQUESTS", "FAILED"};
	struct table t;
	const cJSON *s;

	if (!cJSON_GetArraySize(words_get(stat, "services"))) {
		fprintf(stderr, "meshctl: %s%s in the last %s (--window looks further back)\n",
			opt_source ? "no calls of " : "no services, and no calls",
			opt_source ? opt_source : "", opt_window);
		return EXIT_OK;
	}
	table_init(&t, headers, cli->format == OUTPUT_WIDE ? 8 : 6);
	t.right = 0xfe;
	cJSON_ArrayForEach (s, words_get(stat, "services"))
		add_row(&t, json_str(s, "service", "?"), NULL, s);
	table_sort(&t);
	return print_and_free(&t);
}

static int print_service(struct cli *cli, const cJSON *stat)
{
	static const char *const headers[] = {"SOURCE", "VERSION", "RATE",     "ERRORS", "P50",
					      "P95",	"P99",	   "REQUESTS", "FAILED"};
	const char *service = json_str(stat, "service", "?");
	const cJSON *i;
	struct table t;

	if (!json_num(stat, "requests", 0))
		fprintf(stderr,
			"meshctl: no calls of %s%s%s in the last %s (--window looks further "
			"back%s%s)\n",
			service, opt_source ? " by " : "", opt_source ? opt_source : "", opt_window,
			opt_source ? "" : "; what it calls: --source ", opt_source ? "" : service);
	table_init(&t, headers, cli->format == OUTPUT_WIDE ? 9 : 7);
	t.right = 0x1fc;
	add_row(&t, opt_source ? opt_source : "(all)", "(all)", stat);
	cJSON_ArrayForEach (i, words_get(stat, "sources"))
		if (!opt_source)
			add_row(&t, json_str(i, "source", "?"), "(all)", i);
	cJSON_ArrayForEach (i, words_get(stat, "versions"))
		add_row(&t, opt_source ? opt_source : "(all)", json_str(i, "version", "?"), i);
	return print_and_free(&t);
}

static int print_names(const cJSON *stat)
{
	const cJSON *services = words_get(stat, "services"), *s;

	if (!services)
		puts(json_str(stat, "service", "?"));
	cJSON_ArrayForEach (s, services)
		puts(json_str(s, "service", "?"));
	return EXIT_OK;
}

static int show(struct cli *cli, cJSON *stat)
{
	if (!stat || !cJSON_AddStringToObject(stat, "window", opt_window))
		return cli_fail("out of memory");
	if (cli->format == OUTPUT_JSON)
		return output_json(stat);
	if (cli->format == OUTPUT_NAME)
		return print_names(stat);
	return words_get(stat, "services") ? print_services(cli, stat) : print_service(cli, stat);
}

/* A version has several callers, whose quantiles do not add up: meshd is asked for each. */
static int ask_for_versions(struct cli *cli, const char *service, cJSON *stat)
{
	cJSON *versions = cJSON_GetObjectItemCaseSensitive(stat, "versions"), *v, *metrics;
	int rc = EXIT_OK;

	cJSON_ArrayForEach (v, versions) {
		const char *version = json_str(v, "version", "?");
		struct figures f;

		if (rc != EXIT_OK || !name_valid(version))
			continue;
		rc = telemetry_metrics(cli, service, opt_source, version, opt_window, &metrics);
		if (rc != EXIT_OK)
			continue;
		figures_read(metrics, &f);
		cJSON_Delete(metrics);
		if (stat_set_figures(v, &f))
			rc = cli_fail("out of memory");
	}
	return rc;
}

static int stat_one(struct cli *cli, const char *service, const cJSON *graph, cJSON **stat)
{
	cJSON *metrics = NULL;
	int rc = telemetry_metrics(cli, service, opt_source, NULL, opt_window, &metrics);

	if (rc == EXIT_OK)
		*stat = stat_of_service(service, opt_source, metrics, graph);
	if (rc == EXIT_OK && *stat)
		rc = ask_for_versions(cli, service, *stat);
	cJSON_Delete(metrics);
	return rc;
}

int cmd_stat(struct cli *cli)
{
	const char *service = cli->argc ? cli->argv[0] : NULL;
	cJSON *graph = NULL, *stat = NULL;
	int rc = telemetry_window(cli, opt_window);

	if (rc == EXIT_OK)
		rc = telemetry_name(cli, "--source", opt_source);
	if (rc == EXIT_OK)
		rc = telemetry_name(cli, "service", service);
	if (rc == EXIT_OK)
		rc = telemetry_graph(cli, opt_window, &graph);
	if (rc == EXIT_OK && service)
		rc = stat_one(cli, service, graph, &stat);
	else if (rc == EXIT_OK)
		stat = opt_source ? stat_of_source(opt_source, graph) : telemetry_services(graph);
	if (rc == EXIT_OK)
		rc = show(cli, stat);
	cJSON_Delete(stat);
	cJSON_Delete(graph);
	return rc;
}
