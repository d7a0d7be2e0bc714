/* SPDX-License-Identifier: Apache-2.0 */
/* The pure part of meshctl stat: what is shown, from meshd's answers. Results are new; NULL without
 * memory. */
#ifndef CTL_MESHCTL_STAT_H
#define CTL_MESHCTL_STAT_H

#include "ctl/meshctl/figures.h"

/* metrics: GET /api/metrics/S, with ?source= when there is one; graph: GET /api/graph.
 * {"service",figures...,"sources":[{"source", figures...}],"versions":[{"version",figures...}]}.
 * source: of calls of that one alone, or NULL.
 */
cJSON *stat_of_service(const char *service, const char *source, const cJSON *metrics,
		       const cJSON *graph);
/* What one source calls: {"source","services":[{"service",figures...}]}. */
cJSON *stat_of_source(const char *source, const cJSON *graph);
/* Replaces the figures of an item. 0 or -ENOMEM. */
int stat_set_figures(cJSON *item, const struct figures *f);

#endif
