/* SPDX-License-Identifier: Apache-2.0 */
/* What the handlers of /api/metrics and /api/graph share; nobody else includes it. */
#ifndef MESHD_API_RED_H
#define MESHD_API_RED_H

#include "ctl/meshd/api.h"
#include "ctl/meshd/red/red.h"

#define API_RED_WINDOW_S 60

/* Reads ?window= and, when step is wanted, ?granularity=. 0 with the rest of *w as it was, or
 * -EINVAL after answering 400. */
int api_window(struct request *r, bool step, struct red_window *w);
/* "requests":1,"errors":0,"rate":0.1,"errorRate":0,"p50":1.5,... without braces. seconds: what it
 * was counted in; suffix: behind p50, p95 and p99. */
void api_figures(struct buf *b, const struct red_sum *s, double seconds, const char *suffix);

/* "key":value, of a value that is not negative. */
void api_figure(struct buf *b, const char *key, double value);
/* The next part of a question; w: it is a new one. 0: it can be answered from; else the request has
 * been answered with an error, or waits for the next part. */
int api_query(struct request *r, const struct red_window *w, struct red_query **q);

#endif
