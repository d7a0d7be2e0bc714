/* SPDX-License-Identifier: Apache-2.0 */
/* A request (a span of meshd) as one line for people. Used by tap and log. Pure. */
#ifndef CTL_MESHCTL_REQUEST_LINE_H
#define CTL_MESHCTL_REQUEST_LINE_H

#include "ctl/meshctl/meshctl.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdio.h>

struct request_style {
	bool colour, wide;  /* wide: version, node, request id, and every trace id */
	bool date;	    /* and the day, not only the time */
	unsigned who_width; /* of "source -> service" so far: columns stay below each other; 0 */
};

/* Time, status, duration, who called whom, what, then what went wrong and who answered. The trace
 * id is on lines of errors, too: it is what one asks for next. */
void request_line(const cJSON *span, struct request_style *style, FILE *out);
/* Makes room in style for this one, before lines above it are written. */
void request_measure(const cJSON *span, struct request_style *style);
/* The same on stdout in a format: a line, a JSON document in one line, or the trace id. */
void request_print(enum output_format format, const cJSON *span, struct request_style *style);
/* Is it an error: what the span says, else by its status? */
bool request_failed(const cJSON *span);

#endif
