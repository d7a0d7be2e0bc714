/* SPDX-License-Identifier: Apache-2.0 */
/* meshd as the commands see it: where it is, the token, one call, and messages for people. */
#ifndef CTL_MESHCTL_API_H
#define CTL_MESHCTL_API_H

#include "ctl/meshctl/meshctl.h"

#include <cjson/cJSON.h>

#define API_PATH_MAX 512

struct api_answer {
	int code;    /* EXIT_OK; EXIT_FAILED: meshd refused or made no sense; EXIT_UNREACHABLE */
	int status;  /* HTTP status, 0 when there was no answer */
	cJSON *json; /* also of a refusal, then NULL if it was none; never NULL with EXIT_OK */
	char etag[64];
	char error[512]; /* unless EXIT_OK: what failed, on what, and what to do */
};

struct api_request {
	const char *method, *path;
	const cJSON *body;		      /* or NULL */
	const char *if_match, *if_none_match; /* or NULL */
};

/* One call. Prints nothing; fills *a (release with api_done). Returns a->code. */
int api_call(struct cli *cli, const struct api_request *r, struct api_answer *a);
void api_done(struct api_answer *a);
/* GET, with the message on stderr when it fails. *out: the caller deletes it. Returns the exit
 * code. */
int api_get(struct cli *cli, const char *path, cJSON **out);
/* How many workers answer, of an agent in GET /api/agents; of an older one how many there should
 * be. */
double api_agent_workers(const cJSON *agent);
/* Prints a's error; returns its code. */
int api_report(const struct api_answer *a);
/* PREFIX + NAME (escaped) + SUFFIX into out[API_PATH_MAX]. EXIT_OK, or EXIT_USAGE after a message
 * when NAME is none. */
int api_path(struct cli *cli, const char *prefix, const char *name, const char *suffix, char *out);

#endif
