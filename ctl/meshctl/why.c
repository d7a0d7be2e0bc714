/* SPDX-License-Identifier: Apache-2.0 */
/* meshctl why: the explanation of one answer that the mesh made itself. Reads only. */
#include "ctl/meshctl/why.h"
#include "ctl/meshctl/api.h"
#include "ctl/meshctl/output.h"
#include "lib/json.h"

#include <stdio.h>

int cmd_why(struct cli *cli)
{
	char path[API_PATH_MAX] = "/api/why";
	struct api_answer a;
	int rc = api_path_id(cli, path, NULL, cli->argv[0]);

	if (rc != EXIT_OK)
		return rc;
	api_call(cli, &(struct api_request){.method = "GET", .path = path}, &a);
	if (a.status == 404)
		rc = cli_fail("%s; give the x-request-id or the x-trace-id of the answer", a.error);
	else if (a.code != EXIT_OK)
		rc = api_report(&a);
	else if (cli->format == OUTPUT_JSON)
		rc = output_json(a.json);
	else if (cli->format == OUTPUT_NAME)
		rc = puts(json_str(a.json, "cause", "?")) < 0 ? EXIT_FAILED : EXIT_OK;
	else if (why_print(a.json, stdout, output_colour(stdout), cli->format == OUTPUT_WIDE))
		rc = cli_fail("out of memory");
	api_done(&a);
	return rc;
}
