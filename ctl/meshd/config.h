/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Configuration of services: what is valid (config_schema.c), changes to it (config.c), and the
 * files of --config (config_files.c). A change is validated whole, then stored whole, or refused.
 */
#ifndef MESHD_CONFIG_H
#define MESHD_CONFIG_H

#include "ctl/meshd/schema.h"
#include "ctl/meshd/store.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>

/* Is v the whole configuration of one service? 0, or -EINVAL with *e. */
int config_check(const cJSON *v, struct schema_error *e);
/* Adds every default to a valid configuration, for reading. 0 or -ENOMEM. */
int config_fill(cJSON *v);

enum config_verb { CONFIG_PUT, CONFIG_PATCH, CONFIG_DELETE, CONFIG_ROLLBACK };

struct config_request {
	enum config_verb verb;
	const char *service;  /* a valid name */
	const cJSON *body;    /* PUT, PATCH */
	uint64_t to_revision; /* ROLLBACK */
	bool dry_run;
	bool must_exist;  /* If-Match: * */
	bool must_be_new; /* If-None-Match: * */
	uint64_t must_be; /* If-Match: "N"; 0: any */
	const char *author;
	uint64_t time_ms; /* wall clock */
	/* Optional last word on a valid value that takes the place of `was` (NULL: of none): 0, or
	 * an error that config_apply() returns. */
	int (*accept)(void *arg, const cJSON *was, const cJSON *is);
	void *accept_arg;
};

struct config_result {
	cJSON *value;	   /* what is, or with dry_run would be, stored; NULL after DELETE.
			      config_result_done() */
	uint64_t revision; /* of the service; 0 when nothing is stored */
	bool changed;	   /* false: it was so already, and no revision was made */
};

/* 0; -EINVAL with *e; -ESTALE: a precondition does not hold; -ENOENT: nothing to delete, or no such
 * revision; else as in store.h. */
int config_apply(struct store *s, const struct config_request *q, struct config_result *out,
		 struct schema_error *e);
void config_result_done(struct config_result *r);

#define CONFIG_FILE_MAX	 (1u << 20)
#define CONFIG_FILES_MAX 1024

/*
 * Applies DIR/<name>.json in the order of names (each one object or a list of them): all of them,
 * or on any error none. A service changes when its text in the files is another than the one last
 * applied: so a change made by the API stays until the file itself changes. Its configuration goes
 * when it goes from the files. A directory that is missing is an error only if files were applied
 * before or it is `required`. The number of services changed, or -errno with a line for people in
 * why.
 */
int config_files_apply(struct store *s, const char *dir, bool required, uint64_t time_ms, char *why,
		       size_t cap);

#endif
