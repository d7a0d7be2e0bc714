/* SPDX-License-Identifier: Apache-2.0 */
/* See service.h. Called by the commands that change one thing of a configuration. */
#include "ctl/meshctl/service.h"
#include "ctl/meshctl/output.h"

#include <stdio.h>
#include <string.h>

#define ATTEMPTS 20

/* 404 is the answer; anything else is not known to be unknown. */
static bool is_unknown(struct cli *cli, const char *prefix, const char *service,
		       struct api_answer *a)
{
	char path[API_PATH_MAX];

	*a = (struct api_answer){.code = EXIT_USAGE};
	if (api_path(cli, prefix, service, "", path))
		return false;
	api_call(cli, &(struct api_request){.method = "GET", .path = path}, a);
	api_done(a);
	return a->status == 404;
}

int service_need(struct cli *cli, const char *service)
{
	struct api_answer a;

	if (!is_unknown(cli, "/api/services/", service, &a) ||
	    !is_unknown(cli, "/api/config/", service, &a))
		return a.code == EXIT_USAGE ? a.code : api_report(&a);
	return cli_fail("nothing listens as %s, and it has no configuration; meshctl get services "
			"lists what there is",
			service);
}

static int print_done(struct cli *cli, const struct service_change *c, const cJSON *answer)
{
	if (cli->format == OUTPUT_JSON)
		return output_json(answer);
	return puts(cli->format == OUTPUT_NAME ? c->service : c->done) < 0 ? EXIT_FAILED : EXIT_OK;
}

static int print_nothing(struct cli *cli, const struct service_change *c)
{
	cJSON *v;
	int rc;

	if (cli->format != OUTPUT_JSON)
		return print_done(
			cli, &(struct service_change){.service = c->service, .done = c->nothing},
			NULL);
	v = cJSON_CreateObject();
	cJSON_AddBoolToObject(v, "success", true);
	cJSON_AddStringToObject(v, "service", c->service);
	cJSON_AddBoolToObject(v, "changed", false);
	rc = output_json(v);
	cJSON_Delete(v);
	return rc;
}

/* One round. *again: somebody else was faster. */
static int attempt(struct cli *cli, const struct service_change *c, const char *path, bool *again)
{
	char to[API_PATH_MAX + 16];
	struct api_answer live, a;
	cJSON *patch = NULL;
	int rc = EXIT_OK;

	*again = false;
	api_call(cli, &(struct api_request){.method = "GET", .path = path}, &live);
	if (live.code != EXIT_OK && live.status != 404)
		rc = api_report(&live);
	if (rc == EXIT_OK) {
		patch = c->patch(live.code == EXIT_OK ? live.json : NULL, c->arg);
		rc = !patch ? cli_fail("out of memory") : EXIT_OK;
	}
	if (rc == EXIT_OK && !patch->child) {
		rc = print_nothing(cli, c);
	} else if (rc == EXIT_OK) {
		snprintf(to, sizeof(to), "%s%s", path, c->force ? "?force=true" : "");
		api_call(cli,
			 &(struct api_request){.method = "PATCH",
					       .path = to,
					       .body = patch,
					       .if_match = live.etag[0] ? live.etag : NULL,
					       .if_none_match = live.status == 404 ? "*" : NULL},
			 &a);
		*again = a.status == 412;
		api_warn(&a);
		rc = *again ? EXIT_FAILED : api_report(&a);
		if (rc == EXIT_OK)
			rc = print_done(cli, c, a.json);
		api_done(&a);
	}
	cJSON_Delete(patch);
	api_done(&live);
	return rc;
}

int service_change(struct cli *cli, const struct service_change *c)
{
	char path[API_PATH_MAX];
	int rc = api_path(cli, "/api/config/", c->service, "", path);
	bool again = rc == EXIT_OK;

	for (int i = 0; again && i < ATTEMPTS; i++)
		rc = attempt(cli, c, path, &again);
	if (again)
		cli_fail("%s: others keep changing its configuration; try again", c->service);
	return rc;
}
