/* SPDX-License-Identifier: Apache-2.0 */
/* meshctl trace: the traces that meshd has kept, and one of them as a waterfall. Reads only. */
#include "ctl/meshctl/figures.h"
#include "ctl/meshctl/output.h"
#include "ctl/meshctl/service.h"
#include "ctl/meshctl/telemetry.h"
#include "ctl/meshctl/text.h"
#include "ctl/meshctl/waterfall.h"
#include "ctl/meshctl/words.h"
#include "lib/clock.h"
#include "lib/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIST_MAX      1000
#define OPERATION_MAX 40 /* of a table that is not wide */

static const char *opt_service, *opt_source, *opt_min, *opt_since, *opt_limit;
static bool opt_error;

const struct option_spec trace_options[] = {
	{"service", 'S', "NAME", NULL, "list: that this service took part in", &opt_service, NULL},
	{"source", 's', "NAME", NULL, "list: with a call by this service", &opt_source, NULL},
	{"min", 'm', "TIME", NULL, "list: only what took at least so long", &opt_min, NULL},
	{"error", 'e', NULL, NULL, "list: only with a status of 400 and above, or no answer", NULL,
	 &opt_error},
	{"since", 0, "TIME", NULL, "list: only of the last 10m, 2h ...", &opt_since, NULL},
	{"limit", 'n', "N", "20", "list: at most so many, the latest", &opt_limit, NULL},
	{0},
};

/* "12s ago" of a time in ms since 1970. */
static const char *ago(double start, char out[AGE_MAX + 8])
{
	double ms = (double)clock_wall_ms() - start;

	if (!(start > 0) || ms > 1e15)
		return "-";
	text_age(ms > 0 ? (uint64_t)ms : 0, out);
	return strcat(out, " ago");
}

static void trace_row(struct table *t, const cJSON *trace, bool wide)
{
	const cJSON *root = words_get(trace, "root");
	const char *operation = json_str(root, "operation", "");
	char age[AGE_MAX + 8], duration[FIGURE_MAX], spans[24], errors[24], what[TEXT_CELL_MAX];
	bool cut = !wide && text_columns(operation) > OPERATION_MAX;

	snprintf(what, sizeof(what), "%.*s%s",
		 (int)text_bytes(operation, cut ? OPERATION_MAX - 3 : TEXT_CELL_MAX / 4), operation,
		 cut ? "..." : "");
	table_row(t, (const char *[]){
			     json_str(trace, "traceId", "?"),
			     ago(json_num(trace, "startTime", 0), age),
			     json_str(root, "service", NULL), what,
			     words_number(json_num(trace, "spans", 0), spans),
			     words_number(json_num(trace, "errors", json_bool(trace, "error", 0)),
					  errors),
			     figure_ms(json_num(trace, "duration", -1), duration)});
}

static int print_table(struct cli *cli, const cJSON *list)
{
	static const char *const headers[] = {"TRACE", "WHEN",	 "SERVICE", "OPERATION",
					      "SPANS", "ERRORS", "DURATION"};
	const cJSON *i;
	struct table t;
	int rc = 0;

	table_init(&t, headers, 7);
	t.right = 1 << 4 | 1 << 5 | 1 << 6;
	cJSON_ArrayForEach (i, list)
		trace_row(&t, i, cli->format == OUTPUT_WIDE);
	if (t.count)
		rc = table_print(&t, stdout, output_colour(stdout));
	else if (opt_service)
		fprintf(stderr, "meshctl: no such traces with %s are kept\n", opt_service);
	else
		fputs("meshctl: no such traces are kept (kept is what was sampled, failed or was "
		      "slow)\n",
		      stderr);
	table_done(&t);
	return rc ? cli_fail("out of memory") : EXIT_OK;
}

static int check_filters(struct cli *cli, char *path)
{
	uint64_t n;
	int rc = telemetry_name(cli, "--service", opt_service);

	if (rc == EXIT_OK)
		rc = telemetry_name(cli, "--source", opt_source);
	if (rc == EXIT_OK && opt_min)
		rc = telemetry_time(cli, "--min", opt_min, &n);
	if (rc == EXIT_OK && opt_since)
		rc = telemetry_time(cli, "--since", opt_since, &n);
	if (rc == EXIT_OK)
		rc = telemetry_limit(cli, "-n", opt_limit, LIST_MAX, &n);
	strcpy(path, "/api/traces");
	telemetry_query(path, "service", opt_service);
	telemetry_query(path, "source", opt_source);
	telemetry_query(path, "min", opt_min);
	telemetry_query(path, "error", opt_error ? "true" : NULL);
	telemetry_query(path, "since", opt_since);
	telemetry_query(path, "limit", opt_limit);
	return rc;
}

static int list(struct cli *cli)
{
	char path[API_PATH_MAX];
	const cJSON *traces, *t;
	cJSON *answer = NULL;
	int rc = check_filters(cli, path);

	if (rc == EXIT_OK)
		rc = api_get(cli, path, &answer);
	if (rc != EXIT_OK)
		return rc;
	traces = telemetry_list(answer, "traces");
	if (!json_bool(answer, "complete", true))
		cli_fail("warning: meshd has not looked at all of them; a shorter --since helps");
	if (cli->format == OUTPUT_JSON) {
		rc = output_json(answer);
	} else if (cli->format == OUTPUT_NAME) {
		cJSON_ArrayForEach (t, traces)
			puts(json_str(t, "traceId", "?"));
	} else {
		rc = print_table(cli, traces);
		if (rc == EXIT_OK && opt_service && !cJSON_GetArraySize(traces))
			rc = service_need(cli, opt_service);
	}
	cJSON_Delete(answer);
	return rc;
}

/* Where the mesh itself has answered there is more to know. */
static void point_to_why(const cJSON *trace)
{
	const cJSON *s;

	cJSON_ArrayForEach (s, words_get(trace, "spans")) {
		const char *cause = json_str(s, "cause", "");

		if (!*cause)
			continue;
		fprintf(stderr, "\nmeshctl why %s explains %s, for 15 minutes.\n",
			json_str(trace, "traceId", "?"), cause);
		return;
	}
}

static int print_trace(struct cli *cli, const cJSON *trace)
{
	const struct waterfall_style style = {.width = output_width(),
					      .colour = output_colour(stdout),
					      .utf8 = output_utf8(),
					      .wide = cli->format == OUTPUT_WIDE};
	const cJSON *s;

	if (cli->format == OUTPUT_JSON)
		return output_json(trace);
	if (cli->format == OUTPUT_NAME) {
		cJSON_ArrayForEach (s, words_get(trace, "spans"))
			puts(json_str(s, "id", "?"));
		return EXIT_OK;
	}
	if (waterfall_print(trace, &style, stdout))
		return cli_fail("out of memory");
	fflush(stdout);
	point_to_why(trace);
	return EXIT_OK;
}

static int show(struct cli *cli)
{
	char path[API_PATH_MAX] = "/api/traces/";
	const char *id = cli->argv[1];
	struct api_answer a;
	int rc = telemetry_trace_id(cli, id);

	if (rc != EXIT_OK)
		return rc;
	strcat(path, id);
	api_call(cli, &(struct api_request){.method = "GET", .path = path}, &a);
	if (a.status == 404)
		rc = cli_fail("%s; meshctl trace list shows the latest", a.error);
	else if (a.code != EXIT_OK)
		rc = api_report(&a);
	else
		rc = print_trace(cli, a.json);
	api_done(&a);
	return rc;
}

int cmd_trace(struct cli *cli)
{
	static const struct subcommand subs[] = {{"list", 1, 1, list}, {"show", 2, 2, show}};

	return cli_dispatch(cli, subs, sizeof(subs) / sizeof(subs[0]));
}
