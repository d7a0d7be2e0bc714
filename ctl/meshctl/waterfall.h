/* SPDX-License-Identifier: Apache-2.0 */
/* A trace as text: a line a span, with a bar for when it was under way. Pure. */
#ifndef CTL_MESHCTL_WATERFALL_H
#define CTL_MESHCTL_WATERFALL_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdio.h>

#define WATERFALL_WIDTH_MIN 48 /* on a narrower terminal lines are wrapped */
#define WATERFALL_WIDTH_MAX 400

struct waterfall_style {
	unsigned width; /* columns of the terminal */
	bool colour, utf8;
	bool wide; /* every try and event, instances and span ids; lines may be longer than width */
};

/* trace: GET /api/traces/ID, masked (api_mask). 0 or -ENOMEM. */
int waterfall_print(const cJSON *trace, const struct waterfall_style *style, FILE *out);

#endif
