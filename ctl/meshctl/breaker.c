/* SPDX-License-Identifier: Apache-2.0 */
/* meshctl breaker and drain: orders by hand about a service's breaker or one of its endpoints. */
#include "ctl/meshctl/api.h"

#include <stdio.h>
#include <string.h>

static bool opt_undo;

const struct option_spec drain_options[] = {
	{"undo", 0, NULL, NULL, "let it have requests again", NULL, &opt_undo},
	{0},
};

static int show(struct cli *cli)
{
	return get_show(cli, "breakers", cli->argc > 1 ? cli->argv[1] : NULL);
}

static int order(struct cli *cli, const char *suffix, const char *of_service,
		 const char *of_endpoint)
{
	const char *service = cli->argv[1], *endpoint = cli->argc > 2 ? cli->argv[2] : NULL;
	char path[API_PATH_MAX], done[512];
	int rc = api_path(cli, "/api/breakers/", service, suffix, path);

	if (rc == EXIT_OK && endpoint)
		rc = api_path_id(cli, path, "endpoint", endpoint);
	if (rc != EXIT_OK)
		return rc;
	snprintf(done, sizeof(done), "%s%s%s: %s", service, endpoint ? "/" : "",
		 endpoint ? endpoint : "", endpoint ? of_endpoint : of_service);
	return api_write(cli, &(struct api_request){.method = "POST", .path = path}, done, NULL);
}

static int open_breaker(struct cli *cli)
{
	return order(cli, "/open", "open by hand: requests are refused until close or reset",
		     "ejected by hand: it gets no requests until close or reset");
}

static int close_breaker(struct cli *cli)
{
	return order(
		cli, "/close",
		"closed by hand: requests are let through, whatever fails, until open or reset",
		"kept by hand: it gets requests, whatever fails, until open or reset");
}

static int reset_breaker(struct cli *cli)
{
	return order(cli, "/reset", "closed, and counts from nothing",
		     "taken back, and counts from nothing");
}

int cmd_breaker(struct cli *cli)
{
	static const struct subcommand subs[] = {{"show", 1, 2, show},
						 {"open", 2, 3, open_breaker},
						 {"close", 2, 3, close_breaker},
						 {"reset", 2, 3, reset_breaker}};

	return cli_dispatch(cli, subs, sizeof(subs) / sizeof(subs[0]));
}

int cmd_drain(struct cli *cli)
{
	const char *service = cli->argv[0], *endpoint = cli->argv[1];
	char path[API_PATH_MAX], done[640];
	int rc = api_path(cli, "/api/drain/", service, "", path);

	if (rc == EXIT_OK)
		rc = api_path_id(cli, path, NULL, endpoint);
	if (rc != EXIT_OK)
		return rc;
	if (opt_undo)
		snprintf(done, sizeof(done), "%s/%s: gets requests again", service, endpoint);
	else
		snprintf(done, sizeof(done),
			 "%s/%s: draining: no new requests, running ones finish; end it with "
			 "meshctl drain %s %s --undo",
			 service, endpoint, service, endpoint);
	return api_write(
		cli, &(struct api_request){.method = opt_undo ? "DELETE" : "POST", .path = path},
		done, NULL);
}
