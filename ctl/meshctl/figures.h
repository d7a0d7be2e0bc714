/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rates, shares of errors and latencies of meshd's answers, as numbers and as short text for
 * tables. Used by all that shows telemetry (stat, top, edges, graph). Pure.
 */
#ifndef CTL_MESHCTL_FIGURES_H
#define CTL_MESHCTL_FIGURES_H

#include <cjson/cJSON.h>

/* Of one service, edge, source or version in a window. Unknown is NAN: nothing came, or an older
 * meshd does not say. */
struct figures {
	double requests, errors; /* numbers */
	double rate;		 /* a second */
	double error_rate;	 /* 0 to 1 */
	double p50, p95, p99;	 /* ms */
};

/* Reads "requests", "errors", "rate", "errorRate", and "p50" or "p50Latency" and so on. */
void figures_read(const cJSON *object, struct figures *f);
/* Writes them as members, unknown ones as null. 0 or -ENOMEM. */
int figures_write(cJSON *object, const struct figures *f);
/* Adds what can be added: numbers and rates. Quantiles of a sum nobody knows: they become NAN,
 * unless one of the two is empty. */
void figures_add(struct figures *sum, const struct figures *f);

/* Each writes a short text, "-" for NAN, and returns out. */
#define FIGURE_MAX 24
char *figure_rate(double per_second, char out[FIGURE_MAX]); /* "0.40/s", "12.3/s", "5.1k/s" */
char *figure_share(double fraction, char out[FIGURE_MAX]);  /* "0%", "0.05%", "11.8%" */
char *figure_ms(double ms, char out[FIGURE_MAX]);	    /* "0.41ms", "512ms", "1.20s", "5m3s" */
char *figure_count(double number, char out[FIGURE_MAX]);    /* "1234" */

#endif
