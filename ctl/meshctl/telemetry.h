/* SPDX-License-Identifier: Apache-2.0 */
/* What the commands for telemetry share: windows, filters in a query, the map of calls. */
#ifndef CTL_MESHCTL_TELEMETRY_H
#define CTL_MESHCTL_TELEMETRY_H

#include "ctl/meshctl/api.h"

#include <stdint.h>

/* A window is a time from 1s to 14d. EXIT_OK, or wrong usage after a message. */
int telemetry_window(struct cli *cli, const char *text);
/* A time above 0, as 100ms; what: the flag. EXIT_OK, or wrong usage after a message. */
int telemetry_time(struct cli *cli, const char *what, const char *text, uint64_t *ms);
/* A number of things, 1 to max. EXIT_OK, or wrong usage after a message. */
int telemetry_limit(struct cli *cli, const char *what, const char *text, uint64_t max,
		    uint64_t *out);
/* Is it a name of a service (or gateway, unknown)? EXIT_OK, or wrong usage after a message. NULL is
 * well. */
int telemetry_name(struct cli *cli, const char *what, const char *name);
/* Is it a trace id: 1 to 64 of A-Z a-z 0-9 . _ -? EXIT_OK, or wrong usage after a message. */
int telemetry_trace_id(struct cli *cli, const char *id);

/* Appends KEY=VALUE to the query of a path in out[API_PATH_MAX], escaped; value NULL: nothing. */
void telemetry_query(char *path, const char *key, const char *value);

/* The list in an answer: its member of that name, else the answer itself when it is one. NULL:
 * none. */
const cJSON *telemetry_list(const cJSON *answer, const char *key);

/* GET /api/graph and /api/metrics/S of that window. Exit codes as api_get(). source, version: of
 * these alone, or NULL. */
int telemetry_graph(struct cli *cli, const char *window, cJSON **out);
int telemetry_metrics(struct cli *cli, const char *service, const char *source, const char *version,
		      const char *window, cJSON **out);

/* The services that were called or run, from an answer of telemetry_graph():
 * {"services":[{"service", "kind","status","healthy","endpoints","breaker", figures...}]}, in its
 * order. New; NULL without memory. */
cJSON *telemetry_services(const cJSON *graph);

#endif
