/* SPDX-License-Identifier: Apache-2.0 */
/* The pure part of meshctl top: services as a sorted table. */
#ifndef CTL_MESHCTL_TOP_VIEW_H
#define CTL_MESHCTL_TOP_VIEW_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdio.h>

struct top_view {
	char sort;	/* a key of top_sorts */
	bool reverse;	/* the other way round */
	unsigned first; /* rows that were scrolled away; brought into range by top_print() */
	unsigned rows;	/* of services that fit; 0: all */
	bool colour;
};

/* What to sort by: n name, r rate, e errors, 5 p50, 9 p99. Names go up, figures down. */
extern const char top_sorts[];

/* services: telemetry_services(). The table, "3 more above/below" left to the caller: *hidden is
 * how many rows did not fit below. 0 or -ENOMEM. */
int top_print(const cJSON *services, struct top_view *v, FILE *out, unsigned *hidden);
/* "4 services, 12.3/s, 0.5% errors" of all that comes in, into out[96]. */
char *top_total(const cJSON *services, char out[96]);

#endif
