/* SPDX-License-Identifier: Apache-2.0 */
/* The demo's way in: GET / asks the backend for its items. */
#include "demo/app.h"

#include <stdio.h>

static void handle(const struct app_request *rq, struct app_reply *re)
{
	char items[2048];
	int status =
		app_get("BACKEND_URL", "http://127.0.0.1:9002", "/items", rq, items, sizeof(items));

	if (status == 200)
		snprintf(re->body, sizeof(re->body), "{\"service\":\"frontend\",\"backend\":%s}\n",
			 items);
	else
		app_bad_gateway(re, "backend", status);
}

int main(int argc, char **argv)
{
	return app_run("frontend", "9001", argc, argv, handle);
}
