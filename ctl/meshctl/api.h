/* SPDX-License-Identifier: Apache-2.0 */
/* meshd as the commands see it: where it is, the token, one call, and messages for people. */
#ifndef CTL_MESHCTL_API_H
#define CTL_MESHCTL_API_H

#include "ctl/meshctl/meshctl.h"

#include <cjson/cJSON.h>

#define API_PATH_MAX 1024
#define API_ID_MAX   128

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
/* An answer that is taken while it comes, until it ends or a byte can be read from stop_fd. take:
 * see lib/http.h. Prints nothing; fills *a: EXIT_OK also when it was ended from here, then
 * a->status is 0. */
int api_stream(struct cli *cli, const char *path, int stop_fd,
	       int (*take)(const char *data, size_t len, void *arg), void *arg,
	       struct api_answer *a);
/* Control characters in all of its strings become '?'. api_call() does so itself. */
void api_mask(cJSON *v);
/* How many workers answer, of an agent in GET /api/agents; of an older one how many there should
 * be. */
double api_agent_workers(const cJSON *agent);
/* Prints a's error; returns its code. */
int api_report(const struct api_answer *a);
/* PREFIX + NAME (escaped) + SUFFIX into out[API_PATH_MAX]. EXIT_OK, or EXIT_USAGE after a message
 * when NAME is none. */
int api_path(struct cli *cli, const char *prefix, const char *name, const char *suffix, char *out);
/* Appends / + ID, or ?KEY=ID when there is a key, to a path in out[API_PATH_MAX]. EXIT_OK, or
 * EXIT_USAGE after a message when ID is none: 1 to API_ID_MAX of visible ASCII. */
int api_path_id(struct cli *cli, char *out, const char *key, const char *id);

/* What meshd warns of in an answer, on stderr. */
void api_warn(const struct api_answer *a);
/* A write without more to it: prints `done`, or the answer as JSON; `missing` (NULL: what meshd
 * says) when there is nothing of that name. */
int api_write(struct cli *cli, const struct api_request *r, const char *done, const char *missing);

#endif
