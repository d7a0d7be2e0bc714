/* SPDX-License-Identifier: Apache-2.0 */
/* meshctl tap: requests as they pass, a line each. Reads only. */
#include "ctl/meshctl/follow.h"
#include "ctl/meshctl/output.h"
#include "ctl/meshctl/request_line.h"
#include "ctl/meshctl/service.h"
#include "ctl/meshctl/telemetry.h"
#include "lib/clock.h"
#include "lib/json.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WHO_WIDTH 22 /* to begin with: nobody knows what comes */

static const char *opt_source, *opt_min, *opt_trace, *opt_limit;
static bool opt_error;

const struct option_spec tap_options[] = {
	{"source", 's', "NAME", NULL, "calls of this service only (or gateway, unknown)",
	 &opt_source, NULL},
	{"error", 'e', NULL, NULL, "only status 400 and above, and no answer", NULL, &opt_error},
	{"min", 'm', "TIME", NULL, "only what took at least so long", &opt_min, NULL},
	{"trace", 't', "ID", NULL, "only of this trace", &opt_trace, NULL},
	{"limit", 'n', "N", NULL, "end after so many", &opt_limit, NULL},
	{0},
};

struct tap {
	struct cli *cli;
	struct request_style style;
	uint64_t limit, requests, errors, begun_ns;
};

static int opened(struct follow *f, bool again)
{
	struct tap *t = f->arg;
	const char *service = t->cli->argc ? t->cli->argv[0] : NULL;

	if (again)
		fprintf(stderr, "meshctl: connected again; what passed meanwhile was not seen\n");
	else
		fprintf(stderr, "meshctl: watching requests%s%s (Ctrl-C ends)\n",
			service ? " to " : "", service ? service : "");
	if (service && !again)
		service_need(t->cli, service); /* it may still come: only said */
	return 0;
}

static int request(struct follow *f, const cJSON *span)
{
	struct tap *t = f->arg;

	t->requests++;
	t->errors += request_failed(span);
	request_print(t->cli->format, span, &t->style);
	return t->limit && t->requests >= t->limit;
}

static void summary(const struct tap *t, const struct follow *f)
{
	char age[32];
	uint64_t ms = (clock_mono_ns() - t->begun_ns) / 1000000;

	duration_format(ms < 1000 ? ms : ms / 1000 * 1000, age);
	fprintf(stderr, "%smeshctl: %" PRIu64 " request%s, %" PRIu64 " error%s in %s",
		output_colour(stderr) ? "\r" : "", t->requests, t->requests == 1 ? "" : "s",
		t->errors, t->errors == 1 ? "" : "s", age);
	if (f->lost)
		fprintf(stderr,
			"; %" PRIu64 " more were left out, too many at a time (filters help)",
			f->lost);
	if (f->unreadable)
		fprintf(stderr, "; %" PRIu64 " could not be read", f->unreadable);
	fputc('\n', stderr);
}

static int check(struct cli *cli, uint64_t *limit, char *path)
{
	const char *service = cli->argc ? cli->argv[0] : NULL;
	uint64_t ms;
	int rc = telemetry_name(cli, "service", service);

	if (rc == EXIT_OK)
		rc = telemetry_name(cli, "--source", opt_source);
	if (rc == EXIT_OK && opt_min)
		rc = telemetry_time(cli, "--min", opt_min, &ms);
	if (rc == EXIT_OK && opt_limit)
		rc = telemetry_limit(cli, "-n", opt_limit, 1000000000, limit);
	if (rc == EXIT_OK && opt_trace)
		rc = telemetry_trace_id(cli, opt_trace);
	strcpy(path, "/api/tap");
	telemetry_query(path, "service", service);
	telemetry_query(path, "source", opt_source);
	telemetry_query(path, "min", opt_min);
	telemetry_query(path, "trace", opt_trace);
	telemetry_query(path, "error", opt_error ? "true" : NULL);
	return rc;
}

int cmd_tap(struct cli *cli)
{
	char path[API_PATH_MAX];
	struct tap t = {.cli = cli,
			.style = {.colour = output_colour(stdout),
				  .wide = cli->format == OUTPUT_WIDE,
				  .who_width = WHO_WIDTH}};
	struct follow f = {.path = path, .opened = opened, .request = request, .arg = &t};
	int rc = check(cli, &t.limit, path);

	if (rc != EXIT_OK)
		return rc;
	t.begun_ns = clock_mono_ns();
	rc = follow_run(cli, &f);
	if (rc == EXIT_OK)
		summary(&t, &f);
	return rc;
}
