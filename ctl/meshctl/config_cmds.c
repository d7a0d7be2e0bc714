/* SPDX-License-Identifier: Apache-2.0 */
/*
 * meshctl apply, diff, delete, history, rollback, lb: the configuration of services. meshd
 * validates; here it is only made sure that a file goes in whole or not at all, and that nobody
 * else's change is overwritten.
 */
#include "ctl/meshctl/api.h"
#include "ctl/meshctl/config_file.h"
#include "ctl/meshctl/linediff.h"
#include "ctl/meshctl/output.h"
#include "ctl/meshctl/text.h"
#include "lib/json.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char *opt_file;
static bool opt_dry_run, opt_force;

const struct option_spec apply_options[] = {
	{"file", 'f', "FILE", NULL, "JSON; - is stdin (needed)", &opt_file, NULL},
	{"dry-run", 0, NULL, NULL, "only validate, and say what would change", NULL, &opt_dry_run},
	{"force", 0, NULL, NULL, "also where meshd warns, as of a version without endpoints", NULL,
	 &opt_force},
	{0},
};
const struct option_spec diff_options[] = {
	{"file", 'f', "FILE", NULL, "JSON; - is stdin (needed)", &opt_file, NULL},
	{0},
};

struct change {
	const cJSON *wanted; /* belongs to the document */
	const char *service;
	char path[API_PATH_MAX];
	struct api_answer live; /* status 404: not configured */
	const char *result;	/* "created", "changed", "unchanged" */
};

static int load(struct cli *cli, cJSON **doc)
{
	char error[512];
	int rc;

	if (!opt_file)
		return cli_usage(cli, "-f FILE is missing: which file is to be read?");
	rc = config_file_load(opt_file, doc, error);
	return rc ? cli_fail("%s", error) : EXIT_OK;
}

static int fetch_live(struct cli *cli, struct change *c)
{
	int rc = api_path(cli, "/api/config/", c->service, "", c->path);

	if (rc)
		return rc;
	api_call(cli, &(struct api_request){.method = "GET", .path = c->path}, &c->live);
	return c->live.code == EXIT_OK || c->live.status == 404 ? EXIT_OK : api_report(&c->live);
}

static int put(struct cli *cli, struct change *c, bool dry_run)
{
	char path[API_PATH_MAX + 32];
	bool exists = c->live.code == EXIT_OK;
	struct api_answer a;
	int rc;

	snprintf(path, sizeof(path), "%s%s%s", c->path, dry_run ? "?dryRun=true" : "",
		 !opt_force ? ""
		 : dry_run  ? "&force=true"
			    : "?force=true");
	api_call(cli,
		 &(struct api_request){.method = "PUT",
				       .path = path,
				       .body = c->wanted,
				       .if_match = exists && c->live.etag[0] ? c->live.etag : NULL,
				       .if_none_match = exists ? NULL : "*"},
		 &a);
	rc = a.code;
	if (dry_run) /* every write is preceded by a dry run */
		api_warn(&a);
	if (rc == EXIT_OK)
		c->result = !exists			      ? "created"
			    : json_bool(a.json, "changed", 1) ? "changed"
							      : "unchanged";
	else if (a.status == 412)
		cli_fail("%s: somebody else has changed it meanwhile; look at meshctl diff -f %s "
			 "and "
			 "apply again",
			 c->service, opt_file);
	else
		cli_fail("%s: %s", c->service, a.error);
	api_done(&a);
	return rc;
}

static int print_results(struct cli *cli, const struct change *c, size_t n)
{
	cJSON *list;
	int rc;

	if (cli->format != OUTPUT_JSON) {
		for (size_t i = 0; i < n; i++)
			if (cli->format == OUTPUT_NAME)
				puts(c[i].service);
			else
				printf("%s %s%s\n", c[i].service, c[i].result,
				       opt_dry_run ? " (dry run)" : "");
		return EXIT_OK;
	}
	list = cJSON_CreateArray();
	for (size_t i = 0; i < n; i++) {
		cJSON *o = cJSON_CreateObject();

		cJSON_AddStringToObject(o, "service", c[i].service);
		cJSON_AddStringToObject(o, "result", c[i].result);
		cJSON_AddBoolToObject(o, "dryRun", opt_dry_run);
		cJSON_AddItemToArray(list, o);
	}
	rc = output_json(list);
	cJSON_Delete(list);
	return rc;
}

static int apply_all(struct cli *cli, struct change *c, size_t n)
{
	int rc = EXIT_OK;
	size_t i;

	for (i = 0; i < n && rc == EXIT_OK; i++)
		rc = fetch_live(cli, &c[i]);
	for (i = 0; i < n && rc == EXIT_OK; i++)
		rc = put(cli, &c[i], true);
	if (rc != EXIT_OK && n > 1)
		cli_fail("nothing was applied");
	for (i = 0; i < n && rc == EXIT_OK && !opt_dry_run; i++)
		if (strcmp(c[i].result, "unchanged"))
			rc = put(cli, &c[i], false);
	if (rc != EXIT_OK && i > 1 && !opt_dry_run && n > 1 && c[n - 1].result)
		cli_fail("the services before %s are applied, it and those behind are not",
			 c[i - 1].service);
	return rc == EXIT_OK ? print_results(cli, c, n) : rc;
}

static int make_changes(const cJSON *doc, struct change **out, size_t *n)
{
	size_t count = cJSON_GetArraySize(doc), i = 0;
	struct change *c = calloc(count + 1, sizeof(*c));
	const cJSON *item;

	if (!c)
		return cli_fail("out of memory");
	cJSON_ArrayForEach (item, doc) {
		c[i].wanted = item;
		c[i++].service = json_str(item, "service", "");
	}
	*out = c;
	*n = count;
	return EXIT_OK;
}

static void free_changes(struct change *c, size_t n)
{
	for (size_t i = 0; c && i < n; i++)
		api_done(&c[i].live);
	free(c);
}

int cmd_apply(struct cli *cli)
{
	struct change *changes = NULL;
	cJSON *doc = NULL;
	size_t n = 0;
	int rc = load(cli, &doc);

	if (rc == EXIT_OK)
		rc = make_changes(doc, &changes, &n);
	if (rc == EXIT_OK)
		rc = apply_all(cli, changes, n);
	free_changes(changes, n);
	cJSON_Delete(doc);
	return rc;
}

/* Keys sorted, one a line: the order in which somebody wrote them makes no difference. */
static char *comparable(const cJSON *v)
{
	char *sorted = json_canonical(v), *text = NULL;
	cJSON *again = sorted ? json_parse(sorted, strlen(sorted), NULL) : NULL;

	if (again)
		text = output_json_text(again);
	cJSON_Delete(again);
	free(sorted);
	return text;
}

static void print_diff(const char *text, bool colour)
{
	while (*text) {
		size_t len = strcspn(text, "\n");
		char line[TEXT_CELL_MAX];
		enum colour c = *text == '+'   ? COLOUR_GREEN
				: *text == '-' ? COLOUR_RED
				: *text == '@' ? COLOUR_DIM
					       : COLOUR_NONE;

		snprintf(line, sizeof(line), "%.*s", (int)len, text);
		puts(output_paint(colour, c, text_mask(line)));
		text += len + (text[len] == '\n');
	}
}

/* 1: different, 0: same, or an exit code above that. */
static int diff_one(struct cli *cli, struct change *c)
{
	char *a = NULL, *b, name_a[96], name_b[256];
	struct buf out;
	int rc = fetch_live(cli, c);

	if (rc)
		return rc == EXIT_FAILED ? EXIT_USAGE
					 : rc; /* as in diff(1): 1 would mean different */
	a = c->live.code == EXIT_OK ? comparable(c->live.json) : strdup("");
	b = comparable(c->wanted);
	snprintf(name_a, sizeof(name_a), "%s (in force)", c->service);
	snprintf(name_b, sizeof(name_b), "%s (%s)", c->service, opt_file);
	buf_init(&out, 64u << 20);
	rc = a && b ? linediff(&out, name_a, a, name_b, b) : -1;
	if (rc > 0)
		print_diff(out.data, output_colour(stdout));
	else if (rc < 0)
		cli_fail("out of memory");
	buf_done(&out);
	free(a);
	free(b);
	return rc < 0 ? EXIT_USAGE : rc;
}

int cmd_diff(struct cli *cli)
{
	struct change *changes = NULL;
	cJSON *doc = NULL;
	size_t n = 0;
	int rc = load(cli, &doc), worst = 0;

	rc = rc == EXIT_OK ? make_changes(doc, &changes, &n) : rc;
	if (rc == EXIT_FAILED)
		rc = EXIT_USAGE;
	for (size_t i = 0; i < n && rc == EXIT_OK && worst < EXIT_USAGE; i++) {
		int one = diff_one(cli, &changes[i]);

		worst = one > worst ? one : worst;
	}
	free_changes(changes, n);
	cJSON_Delete(doc);
	return rc == EXIT_OK ? worst : rc;
}

int cmd_delete(struct cli *cli)
{
	const char *service = cli->argv[0];
	char path[API_PATH_MAX], done[160], missing[160];
	int rc = api_path(cli, "/api/config/", service, "", path);

	if (rc)
		return rc;
	snprintf(done, sizeof(done), "%s deleted, the defaults are in force", service);
	snprintf(missing, sizeof(missing),
		 "%s has no configuration to delete; meshctl get config lists what there is",
		 service);
	return api_write(cli, &(struct api_request){.method = "DELETE", .path = path}, done,
			 missing);
}

int cmd_rollback(struct cli *cli)
{
	const char *service = cli->argv[0], *to = cli->argv[1];
	char path[API_PATH_MAX], suffix[64], done[160], missing[200];
	uint64_t revision;
	int rc;

	if (text_number(to, 1, UINT64_MAX / 2, &revision))
		return cli_usage(cli, "%s is no revision; meshctl history %s lists them", to,
				 service);
	snprintf(suffix, sizeof(suffix), "/rollback?revision=%" PRIu64, revision);
	rc = api_path(cli, "/api/config/", service, suffix, path);
	if (rc)
		return rc;
	snprintf(done, sizeof(done), "%s: revision %s is in force again", service, to);
	snprintf(missing, sizeof(missing), "%s has no revision %s; meshctl history %s lists them",
		 service, to, service);
	return api_write(cli, &(struct api_request){.method = "POST", .path = path}, done, missing);
}

int cmd_history(struct cli *cli)
{
	static const char *const headers[] = {"REVISION", "TIME", "AUTHOR", "ACTION"};
	char path[API_PATH_MAX];
	cJSON *answer = NULL;
	const cJSON *list, *i;
	struct table t;
	int rc = api_path(cli, "/api/config/", cli->argv[0], "/history", path);

	if (rc == EXIT_OK)
		rc = api_get(cli, path, &answer);
	if (rc != EXIT_OK || cli->format == OUTPUT_JSON) {
		rc = rc == EXIT_OK ? output_json(answer) : rc;
		cJSON_Delete(answer);
		return rc;
	}
	list = cJSON_GetObjectItemCaseSensitive(answer, "history");
	if (!list)
		list = answer;
	table_init(&t, headers, cli->format == OUTPUT_NAME ? 1 : 4);
	cJSON_ArrayForEach (i, list) {
		char revision[24];

		snprintf(revision, sizeof(revision), "%.0f", json_num(i, "revision", 0));
		if (cli->format == OUTPUT_NAME)
			puts(revision);
		else
			table_row(&t, (const char *[]){revision, json_str(i, "time", "-"),
						       json_str(i, "author", "-"),
						       json_str(i, "action", "-")});
	}
	if (t.count && table_print(&t, stdout, output_colour(stdout)))
		rc = cli_fail("out of memory");
	table_done(&t);
	cJSON_Delete(answer);
	return rc;
}

int cmd_lb(struct cli *cli)
{
	static const char *const policies[] = {"p2c", "least-request", "round-robin", "random"};
	const char *policy = cli->argv[2], *near;
	char path[API_PATH_MAX], done[160];
	cJSON *patch;
	int rc;

	if (strcmp(cli->argv[0], "set"))
		return cli_usage(cli, "the only thing to do is set: meshctl lb %s",
				 cli->command->args);
	near = text_nearest(policy, policies, 4);
	if (!near || strcmp(near, policy))
		return cli_no_such(cli, "policy", policy, policies, 4);
	rc = api_path(cli, "/api/config/", cli->argv[1], "", path);
	if (rc)
		return rc;
	patch = cJSON_CreateObject();
	cJSON_AddStringToObject(cJSON_AddObjectToObject(patch, "loadBalancer"), "policy", policy);
	snprintf(done, sizeof(done), "%s: load balancer %s", cli->argv[1], policy);
	rc = api_write(cli, &(struct api_request){.method = "PATCH", .path = path, .body = patch},
		       done, "this meshd knows no configuration");
	cJSON_Delete(patch);
	return rc;
}
