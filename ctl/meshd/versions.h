/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Is anybody there for the traffic that a configuration sends to a version? A split to a version
 * that no endpoint has is most likely mistyped, or comes too early. Pure. Called by api_config.c,
 * which refuses, and by meshd.c, which says so in the log when it comes from a file.
 */
#ifndef MESHD_VERSIONS_H
#define MESHD_VERSIONS_H

#include "ctl/meshd/registry.h"

#include <cjson/cJSON.h>
#include <stdbool.h>

struct versions {
	const struct endpoint *all; /* of registry_endpoints() */
	int n;
	bool force;	   /* warn only */
	bool quiet;	   /* not of a service that has no endpoint */
	cJSON *warnings;   /* a list of lines for people; the caller's. NULL: they are not wanted */
	char field[128];   /* what is refused, as "split.v3"; "": nothing is */
	char refusal[512]; /* why */
	const char *service; /* versions.c only */
};

/* Looks at a valid configuration that takes the place of `was` (NULL: of none). What was like that
 * before, and a service that has no endpoint at all, is only warned of. */
void versions_check(struct versions *v, const char *service, const cJSON *was, const cJSON *is);

#endif
