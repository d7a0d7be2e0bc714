/* SPDX-License-Identifier: Apache-2.0 */
/* meshctl split: which version of a service gets a request, by weight and by header. Changes the
 * configuration by merge patch; meshd judges it. */
#include "ctl/meshctl/split.h"
#include "ctl/meshctl/output.h"
#include "ctl/meshctl/service.h"
#include "ctl/meshctl/shapes.h"
#include "ctl/meshctl/words.h"
#include "lib/json.h"

#include <stdio.h>
#include <string.h>

static bool opt_force;

const struct option_spec split_options[] = {
	{"force", 0, NULL, NULL, "also to a version that has no endpoint", NULL, &opt_force},
	{0},
};

static int set(struct cli *cli)
{
	const char *service = cli->argv[1];
	char error[SPLIT_ERROR_MAX], weights[SPLIT_ERROR_MAX], done[SPLIT_ERROR_MAX + 128];
	struct split_weights w;
	cJSON *patch;

	if (split_parse(cli->argv + 2, cli->argc - 2, &w, error))
		return cli_usage(cli, "%s", error);
	patch = split_set_patch(NULL, &w);
	snprintf(done, sizeof(done), "%s: %s", service,
		 words_split(words_get(patch, "split"), weights, sizeof(weights)));
	cJSON_Delete(patch);
	return service_change(cli, &(struct service_change){.service = service,
							    .patch = split_set_patch,
							    .arg = &w,
							    .force = opt_force,
							    .done = done});
}

static int header(struct cli *cli)
{
	const char *service = cli->argv[1];
	char error[SPLIT_ERROR_MAX], done[2048];
	struct split_header h;

	if (split_header_parse(cli->argv[2], cli->argv[3], &h, error))
		return cli_usage(cli, "%s", error);
	snprintf(done, sizeof(done), "%s: requests with %s: %s go to %s (route %s)", service,
		 h.name, h.value, h.version, h.route);
	return service_change(cli, &(struct service_change){.service = service,
							    .patch = split_header_patch,
							    .arg = &h,
							    .force = opt_force,
							    .done = done});
}

static int clear(struct cli *cli)
{
	const char *service = cli->argv[1], *word = cli->argc > 2 ? cli->argv[2] : NULL;
	char error[SPLIT_ERROR_MAX], done[256], nothing[256];
	struct split_header h;
	int rc;

	if (word && split_header_parse(word, NULL, &h, error))
		return cli_usage(cli, "%s", error);
	rc = service_need(cli, service);
	if (rc != EXIT_OK)
		return rc;
	snprintf(done, sizeof(done), "%s: %s%s removed", service,
		 word ? "route " : "split and routes of headers", word ? h.route : "");
	snprintf(nothing, sizeof(nothing), "%s: there was no %s", service,
		 word ? h.route : "split");
	return service_change(cli, &(struct service_change){.service = service,
							    .patch = split_clear_patch,
							    .arg = word ? &h : NULL,
							    .force = opt_force,
							    .done = done,
							    .nothing = nothing});
}

/* A line for every version that a route, or what no route takes, may go to. */
static void show_rows(struct table *t, const cJSON *r, const cJSON *endpoints)
{
	const cJSON *w[MESH_SPLITS];
	unsigned n = words_sorted(words_get(r, "split"), w, MESH_SPLITS);
	char match[WORDS_MAX], weight[24], count[32], index[24];
	bool rest = json_bool(r, "default", 0);

	snprintf(index, sizeof(index), "#%.0f", json_num(r, "index", 0));
	words_match(words_get(r, "match"), match, sizeof(match));
	if (rest && json_num(r, "index", 0) > 1)
		snprintf(match, sizeof(match), "everything else");
	for (unsigned i = 0; i < n; i++) {
		snprintf(weight, sizeof(weight), "%g%%", w[i]->valuedouble);
		snprintf(count, sizeof(count), "%u/%u",
			 words_count(endpoints, w[i]->string, "healthy"),
			 words_count(endpoints, w[i]->string, NULL));
		table_row(t, (const char *[]){match, w[i]->string, weight, count,
					      json_str(r, "name", rest ? "(default)" : index)});
	}
	if (n || !rest)
		return;
	snprintf(count, sizeof(count), "%u/%u", words_count(endpoints, NULL, "healthy"),
		 words_count(endpoints, NULL, NULL));
	table_row(t, (const char *[]){match, "any", "-", count, "(default)"});
}

static int show_text(struct cli *cli, const cJSON *routes, const cJSON *endpoints)
{
	static const char *const headers[] = {"REQUESTS", "VERSION", "WEIGHT", "HEALTHY", "ROUTE"};
	static const char *const any = "{\"default\":true,\"index\":1}";
	cJSON *none = cJSON_Parse(any);
	const cJSON *r;
	struct table t;
	int rc;

	table_init(&t, headers, cli->format == OUTPUT_WIDE ? 5 : 4);
	cJSON_ArrayForEach (r, routes)
		show_rows(&t, r, endpoints);
	if (!t.count)
		show_rows(&t, none, endpoints);
	rc = table_print(&t, stdout, output_colour(stdout));
	table_done(&t);
	cJSON_Delete(none);
	return rc ? cli_fail("out of memory") : EXIT_OK;
}

static int show_names(const cJSON *routes)
{
	const cJSON *r, *w;
	char names[4096] = "";

	cJSON_ArrayForEach (r, routes)
		cJSON_ArrayForEach (w, words_get(r, "split"))
			words_add_once(w->string, names, sizeof(names));
	for (char *p = names; *p; p++)
		if (*p == ',')
			*p = '\n';
	return *names && puts(names) < 0 ? EXIT_FAILED : EXIT_OK;
}

static int show_json(const char *service, const cJSON *routes, const cJSON *endpoints)
{
	cJSON *top = cJSON_CreateObject();
	int rc;

	cJSON_AddStringToObject(top, "service", service);
	cJSON_AddItemReferenceToObject(top, "routes", (cJSON *)routes);
	if (endpoints)
		cJSON_AddItemReferenceToObject(top, "endpoints", (cJSON *)endpoints);
	rc = output_json(top);
	cJSON_Delete(top);
	return rc;
}

static int show(struct cli *cli)
{
	const char *service = cli->argv[1];
	char path[API_PATH_MAX];
	cJSON *configs = NULL, *shaped = NULL;
	const cJSON *routes, *endpoints;
	struct api_answer live = {0};
	int rc = service_need(cli, service);

	if (rc == EXIT_OK)
		rc = api_path(cli, "/api/services/", service, "", path);
	if (rc == EXIT_OK)
		rc = api_get(cli, "/api/config", &configs);
	if (rc != EXIT_OK)
		return rc;
	api_call(cli, &(struct api_request){.method = "GET", .path = path}, &live);
	endpoints = words_get(live.code == EXIT_OK ? live.json : NULL, "endpoints");
	shaped = shape_routes(configs, service);
	routes = words_get(shaped, "routes");
	if (live.code != EXIT_OK && live.status != 404)
		rc = api_report(&live);
	else if (!shaped)
		rc = cli_fail("out of memory");
	else if (cli->format == OUTPUT_JSON)
		rc = show_json(service, routes, endpoints);
	else if (cli->format == OUTPUT_NAME)
		rc = show_names(routes);
	else
		rc = show_text(cli, routes, endpoints);
	cJSON_Delete(shaped);
	cJSON_Delete(configs);
	api_done(&live);
	return rc;
}

int cmd_split(struct cli *cli)
{
	static const struct subcommand subs[] = {{"set", 3, -1, set},
						 {"header", 4, 4, header},
						 {"show", 2, 2, show},
						 {"clear", 2, 3, clear}};

	return cli_dispatch(cli, subs, sizeof(subs) / sizeof(subs[0]));
}
