/* SPDX-License-Identifier: Apache-2.0 */
/* meshctl chaos: faults by hand, each with an end. They are not part of the configuration. */
#include "ctl/meshctl/api.h"
#include "ctl/meshctl/output.h"
#include "ctl/meshctl/text.h"
#include "ctl/meshctl/words.h"
#include "lib/clock.h"
#include "lib/json.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char *opt_percent, *opt_for, *opt_status;

const struct option_spec chaos_options[] = {
	{"percent", 0, "N", "100", "how many of the requests, in percent", &opt_percent, NULL},
	{"for", 0, "TIME", "60s", "when it ends: 100ms to 24h", &opt_for, NULL},
	{"status", 0, "CODE", NULL, "of an abort: 200 to 599 (503)", &opt_status, NULL},
	{0},
};

static int parse_percent(struct cli *cli, double *out)
{
	char *end;

	*out = strtod(opt_percent, &end);
	if (end != opt_percent && !*end && *out > 0 && *out <= 100)
		return EXIT_OK;
	return cli_usage(cli, "--percent %s: a number above 0, up to 100", opt_percent);
}

static int need_time(struct cli *cli, const char *what, const char *text)
{
	uint64_t ms;

	return duration_parse(text, &ms) || !ms
		       ? cli_usage(cli, "%s %s: a time has a unit, as 500ms, 60s or 1h30m", what,
				   text)
		       : EXIT_OK;
}

/* "15:20:32", with the date when it is another day. */
static void clock_time(uint64_t left_ms, char out[32])
{
	time_t now = time(NULL), end = now + (time_t)((left_ms + 500) / 1000);
	struct tm today, then;

	localtime_r(&now, &today);
	localtime_r(&end, &then);
	strftime(out, 32,
		 today.tm_year == then.tm_year && today.tm_yday == then.tm_yday
			 ? "%H:%M:%S"
			 : "%Y-%m-%d %H:%M:%S",
		 &then);
}

static void print_put(const char *service, const char *what, double percent, const cJSON *left)
{
	char until[32], rest[32];
	uint64_t ms = left && left->valuedouble > 0 ? (uint64_t)left->valuedouble : 0;

	clock_time(ms, until);
	ms = (ms + 500) / 1000 * 1000;
	printf("%s: %g%% of the requests %s, until %s (%s); end it with meshctl chaos reset %s\n",
	       service, percent, what, until, duration_format(ms, rest), service);
}

/* Takes fault over: the object under its kind. */
static int put(struct cli *cli, const char *kind, cJSON *fault, const char *what)
{
	const char *service = cli->argv[1];
	char path[API_PATH_MAX];
	cJSON *body = cJSON_CreateObject();
	struct api_answer a = {0};
	double percent;
	int rc = parse_percent(cli, &percent);

	cJSON_AddNumberToObject(fault, "percent", percent);
	cJSON_AddItemToObject(body, kind, fault);
	cJSON_AddStringToObject(body, "for", opt_for);
	if (rc == EXIT_OK)
		rc = need_time(cli, "--for", opt_for);
	if (rc == EXIT_OK)
		rc = api_path(cli, "/api/faults/", service, "", path);
	if (rc == EXIT_OK) {
		api_call(cli, &(struct api_request){.method = "PUT", .path = path, .body = body},
			 &a);
		api_warn(&a);
		rc = api_report(&a);
	}
	if (rc == EXIT_OK && cli->format == OUTPUT_JSON)
		rc = output_json(a.json);
	else if (rc == EXIT_OK && cli->format == OUTPUT_NAME)
		puts(service);
	else if (rc == EXIT_OK)
		print_put(service, what, percent, words_get(words_get(a.json, kind), "leftMs"));
	api_done(&a);
	cJSON_Delete(body);
	return rc;
}

static int delay(struct cli *cli)
{
	const char *text = cli->argv[2];
	char what[64];
	uint64_t ms;
	cJSON *fault;
	int rc = need_time(cli, "a delay of", text);

	if (rc == EXIT_OK && opt_status)
		rc = cli_usage(cli, "--status is for chaos abort");
	if (rc != EXIT_OK)
		return rc;
	duration_parse(text, &ms);
	snprintf(what, sizeof(what), "are delayed by ");
	duration_format(ms, what + strlen(what));
	fault = cJSON_CreateObject();
	cJSON_AddStringToObject(fault, "duration", text);
	return put(cli, "delay", fault, what);
}

static int abort_requests(struct cli *cli)
{
	uint64_t status = 503;
	char what[64];
	cJSON *fault;

	if (opt_status && text_number(opt_status, 200, 599, &status))
		return cli_usage(cli, "--status %s: a status from 200 to 599", opt_status);
	snprintf(what, sizeof(what), "are answered with %" PRIu64, status);
	fault = cJSON_CreateObject();
	cJSON_AddNumberToObject(fault, "status", (double)status);
	return put(cli, "abort", fault, what);
}

static int reset(struct cli *cli)
{
	const char *service = cli->argc > 1 ? cli->argv[1] : NULL;
	char path[API_PATH_MAX] = "/api/faults";
	struct api_answer a = {0};
	double removed;
	int rc = service ? api_path(cli, "/api/faults/", service, "", path) : EXIT_OK;

	if (rc == EXIT_OK) {
		api_call(cli, &(struct api_request){.method = "DELETE", .path = path}, &a);
		rc = api_report(&a);
	}
	removed = json_num(a.json, "removed", 0);
	if (rc == EXIT_OK && cli->format == OUTPUT_JSON)
		rc = output_json(a.json);
	else if (rc == EXIT_OK && cli->format != OUTPUT_NAME && service)
		printf("%s: %s\n", service,
		       removed ? "faults removed" : "there was no fault by hand");
	else if (rc == EXIT_OK && cli->format != OUTPUT_NAME && !removed)
		puts("there were no faults by hand");
	else if (rc == EXIT_OK && cli->format != OUTPUT_NAME)
		printf("faults of %.0f service%s removed\n", removed, removed == 1 ? "" : "s");
	api_done(&a);
	return rc;
}

int cmd_chaos(struct cli *cli)
{
	static const struct subcommand subs[] = {
		{"delay", 3, 3, delay}, {"abort", 2, 2, abort_requests}, {"reset", 1, 2, reset}};

	return cli_dispatch(cli, subs, sizeof(subs) / sizeof(subs[0]));
}
