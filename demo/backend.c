/* SPDX-License-Identifier: Apache-2.0 */
/* The demo's middle: every request asks the database, and then the cache. */
#include "demo/app.h"

#include <stdio.h>

static void handle(const struct app_request *rq, struct app_reply *re)
{
	char rows[1024], hit[1024];
	int status =
		app_get("DATABASE_URL", "http://127.0.0.1:9003", "/query", rq, rows, sizeof(rows));

	if (status != 200) {
		app_bad_gateway(re, "database", status);
		return;
	}
	status = app_get("CACHE_URL", "http://127.0.0.1:9004", "/get", rq, hit, sizeof(hit));
	if (status != 200) {
		app_bad_gateway(re, "cache", status);
		return;
	}
	snprintf(re->body, sizeof(re->body),
		 "{\"service\":\"backend\",\"database\":%s,\"cache\":%s}\n", rows, hit);
}

int main(int argc, char **argv)
{
	return app_run("backend", "9002", argc, argv, handle);
}
