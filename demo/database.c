/* SPDX-License-Identifier: Apache-2.0 */
/* A leaf of the demo: it calls nobody. */
#include "demo/app.h"

#include <stdio.h>

static void handle(const struct app_request *rq, struct app_reply *re)
{
	snprintf(re->body, sizeof(re->body), "{\"service\":\"database\",\"rows\":3}\n");
}

int main(int argc, char **argv)
{
	return app_run("database", "9003", argc, argv, handle);
}
