/* SPDX-License-Identifier: Apache-2.0 */
/* meshctl log: the requests that meshd has kept, oldest first, a line each; -f goes on with those
 * that pass. Reads only. */
#include "ctl/meshctl/follow.h"
#include "ctl/meshctl/output.h"
#include "ctl/meshctl/request_line.h"
#include "ctl/meshctl/service.h"
#include "ctl/meshctl/telemetry.h"
#include "ctl/meshctl/words.h"
#include "lib/clock.h"
#include "lib/json.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DAY_MS	 86400000.0
#define SEEN_MAX 1024 /* ids of what was printed last, a power of two */
#define LINES	 1000 /* the most that meshd gives at once */

static const char *opt_trace, *opt_since, *opt_limit;
static bool opt_follow;

const struct option_spec log_options[] = {
	{"trace", 't', "ID", NULL, "only of this trace", &opt_trace, NULL},
	{"since", 0, "TIME", NULL, "only of the last 10m, 2h ...", &opt_since, NULL},
	{"limit", 'n', "N", "100", "at most so many, the latest", &opt_limit, NULL},
	{"follow", 'f', NULL, NULL, "go on with what passes", NULL, &opt_follow},
	{0},
};

struct log {
	struct cli *cli;
	struct request_style style;
	char path[API_PATH_MAX];
	/* with -f a request can be in meshd's list and in the stream */
	char seen[SEEN_MAX][40];
	unsigned next;
	uint64_t lines;
	double last_ms; /* when the last of them began */
};

static void logs_path(struct cli *cli, char *path)
{
	strcpy(path, "/api/logs");
	telemetry_query(path, "service", cli->argc ? cli->argv[0] : NULL);
	telemetry_query(path, "trace", opt_trace);
}

static bool seen(struct log *l, const cJSON *span)
{
	char key[sizeof(l->seen[0])];

	snprintf(key, sizeof(key), "%.16s.%.22s", json_str(span, "id", ""),
		 json_str(span, "traceId", ""));
	for (unsigned i = 0; i < SEEN_MAX; i++)
		if (!strcmp(l->seen[i], key))
			return true;
	strcpy(l->seen[l->next++ % SEEN_MAX], key);
	return false;
}

static void line(struct log *l, const cJSON *span)
{
	if (opt_follow && seen(l, span))
		return;
	request_print(l->cli->format, span, &l->style);
	l->lines++;
	l->last_ms = json_num(span, "startTime", l->last_ms);
}

static int by_time(const void *a, const void *b)
{
	double ta = json_num(*(const cJSON *const *)a, "startTime", 0),
	       tb = json_num(*(const cJSON *const *)b, "startTime", 0);

	return (ta > tb) - (ta < tb);
}

/* Oldest first, whatever the order of the answer is. */
static int print_list(struct log *l, const cJSON *list)
{
	int n = cJSON_GetArraySize(list), at = 0;
	const cJSON **spans, *s;

	if (!n)
		return EXIT_OK;
	spans = calloc((size_t)n, sizeof(*spans));
	if (!spans)
		return cli_fail("out of memory");
	cJSON_ArrayForEach (s, list)
		spans[at++] = s;
	qsort(spans, (size_t)n, sizeof(*spans), by_time);
	l->style.date = json_num(spans[0], "startTime", 0) < (double)clock_wall_ms() - DAY_MS;
	for (int i = 0; i < n; i++)
		request_measure(spans[i], &l->style);
	for (int i = 0; i < n; i++)
		line(l, spans[i]);
	free(spans);
	return EXIT_OK;
}

static int print_kept(struct log *l)
{
	cJSON *answer = NULL;
	int rc = api_get(l->cli, l->path, &answer);

	if (rc == EXIT_OK)
		rc = print_list(l, telemetry_list(answer, "logs"));
	cJSON_Delete(answer);
	return rc;
}

/* All since the last line. */
static void ask_for_the_meantime(struct log *l)
{
	double ms = (double)clock_wall_ms() - l->last_ms;
	char since[32], limit[16];

	logs_path(l->cli, l->path);
	snprintf(since, sizeof(since), "%.0fs", ms > 0 && ms < 1e12 ? ms / 1000 + 5 : 5);
	snprintf(limit, sizeof(limit), "%d", LINES);
	telemetry_query(l->path, "since", since);
	telemetry_query(l->path, "limit", limit);
}

/* After meshd was away, too: what it has kept of the meantime comes late, but it comes. */
static int opened(struct follow *f, bool again)
{
	struct log *l = f->arg;

	if (again) {
		fprintf(stderr, "meshctl: connected again\n");
		ask_for_the_meantime(l);
	} else {
		fprintf(stderr, "meshctl: following requests (Ctrl-C ends)\n");
	}
	return print_kept(l) != EXIT_OK && !again;
}

static int request(struct follow *f, const cJSON *span)
{
	line(f->arg, span);
	return 0;
}

static int follow(struct log *l, const char *service)
{
	char path[API_PATH_MAX] = "/api/tap";
	struct follow f = {.path = path, .opened = opened, .request = request, .arg = l};
	int rc;

	telemetry_query(path, "service", service);
	telemetry_query(path, "trace", opt_trace);
	rc = follow_run(l->cli, &f);
	if (rc == EXIT_OK && f.lost)
		fprintf(stderr,
			"meshctl: %" PRIu64
			" more were left out, too many at a time (name a service)\n",
			f.lost);
	return rc;
}

static int check(struct cli *cli, char *path)
{
	const char *service = cli->argc ? cli->argv[0] : NULL;
	uint64_t n;
	int rc = telemetry_name(cli, "service", service);

	if (rc == EXIT_OK && opt_trace)
		rc = telemetry_trace_id(cli, opt_trace);
	if (rc == EXIT_OK && opt_since)
		rc = telemetry_time(cli, "--since", opt_since, &n);
	if (rc == EXIT_OK)
		rc = telemetry_limit(cli, "-n", opt_limit, LINES, &n);
	logs_path(cli, path);
	telemetry_query(path, "since", opt_since);
	telemetry_query(path, "limit", opt_limit);
	return rc;
}

/* A name that is none is more often mistyped than unused. */
static int nothing(struct cli *cli, const char *service)
{
	fprintf(stderr, "meshctl: no requests%s%s%s%s\n", service ? " to " : "",
		service ? service : "", opt_since ? " in the last " : " are kept",
		opt_since ? opt_since : "");
	return service ? service_need(cli, service) : EXIT_OK;
}

int cmd_log(struct cli *cli)
{
	const char *service = cli->argc ? cli->argv[0] : NULL;
	struct log *l = calloc(1, sizeof(*l));
	int rc;

	if (!l)
		return cli_fail("out of memory");
	l->cli = cli;
	l->style.colour = output_colour(stdout);
	l->style.wide = cli->format == OUTPUT_WIDE;
	l->last_ms = (double)clock_wall_ms();
	rc = check(cli, l->path);
	if (rc == EXIT_OK)
		rc = opt_follow ? follow(l, service) : print_kept(l);
	if (rc == EXIT_OK && !l->lines && !opt_follow)
		rc = nothing(cli, service);
	free(l);
	return rc;
}
