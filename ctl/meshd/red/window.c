/* SPDX-License-Identifier: Apache-2.0 */
/* See red.h: which window is meant, and the last minute for /metrics. */
#include "ctl/meshd/red/scan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define POINTS_CHOSEN 120 /* when nobody asks for another granularity */

static const uint64_t steps[] = {1,   2,   5,	 10,   30,    60,    120,
				 300, 900, 1800, 3600, 10800, 21600, 86400};

static uint64_t step_chosen(uint64_t window_s, uint64_t resolution_s)
{
	size_t i = 0, n = sizeof(steps) / sizeof(*steps);

	while (i + 1 < n && (window_s > steps[i] * POINTS_CHOSEN || steps[i] % resolution_s))
		i++;
	return steps[i];
}

int red_window_plan(const struct red *r, struct red_window *w, uint64_t now_ms)
{
	uint64_t now_s = now_ms / 1000, from;

	if (!w->window_s || w->window_s > RED_KEEP_S)
		return -ERANGE;
	from = now_s + 1 > w->window_s ? now_s + 1 - w->window_s : 0;
	w->resolution_s = red_scan_resolution(r, from, now_s);
	w->from_s = from - from % w->resolution_s;
	w->to_ms = now_ms;
	if (!w->step_s)
		w->step_s = step_chosen(w->window_s, w->resolution_s);
	w->step_s += w->resolution_s - 1;
	w->step_s -= w->step_s % w->resolution_s;
	return red_window_points(w) > RED_POINTS_MAX ? -ERANGE : 0;
}

size_t red_window_points(const struct red_window *w)
{
	return (size_t)(w->to_ms / 1000 / w->step_s - w->from_s / w->step_s) + 1;
}

/* --- how much of it there can be ----------------------------------------------------- */

static int first_of_all(void *arg, struct red_service *s)
{
	uint64_t *first = arg;

	*first = s->called && s->first_s < *first ? s->first_s : *first;
	return 0;
}

double red_covered_s(const struct red *r, const struct red_window *w, const char *service)
{
	const struct red_service *s = service ? red_table_find(r->table, service) : NULL;
	uint64_t first = s && s->called ? s->first_s : UINT64_MAX;
	double from, to = (double)w->to_ms / 1000;

	if (!service)
		red_table_services(r->table, first_of_all, &first);
	from = (double)(first != UINT64_MAX && first > w->from_s ? first : w->from_s);
	return to - from < 1 ? 1 : to - from;
}

/* --- for /metrics -------------------------------------------------------------------- */

struct lately {
	const struct red_group **group; /* by destination */
	size_t n;
	int (*fn)(void *arg, const struct red_service_now *s);
	void *arg;
};

static int order_by_destination(const void *x, const void *y)
{
	const struct red_group *const *a = x, *const *b = y;

	return strcmp((*a)->destination, (*b)->destination);
}

static size_t first_of(const struct lately *l, const char *destination)
{
	size_t lo = 0, hi = l->n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (strcmp(l->group[mid]->destination, destination) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static int tell_service(void *arg, struct red_service *s)
{
	struct lately *l = arg;
	struct red_sum sum = {0};
	struct red_service_now now = {s->name, s->requests, s->errors, 0, 0, 0};
	int err = 0;

	if (!s->called)
		return 0;
	for (size_t i = first_of(l, s->name);
	     i < l->n && !err && !strcmp(l->group[i]->destination, s->name); i++)
		err = red_sum_add(&sum, &l->group[i]->sum);
	now.p50_ms = histogram_sparse_quantile_ns(&sum.histogram, 0.50) / 1e6;
	now.p95_ms = histogram_sparse_quantile_ns(&sum.histogram, 0.95) / 1e6;
	now.p99_ms = histogram_sparse_quantile_ns(&sum.histogram, 0.99) / 1e6;
	red_sum_done(&sum);
	return err ? err : l->fn(l->arg, &now);
}

static int tell_services(struct red *r, const struct red_query *q, struct lately *l)
{
	const struct red_group *all = red_query_groups(q, &l->n);
	int err;

	l->group = calloc(l->n + 1, sizeof(const struct red_group *));
	if (!l->group)
		return -ENOMEM;
	for (size_t i = 0; i < l->n; i++)
		l->group[i] = &all[i];
	qsort(l->group, l->n, sizeof(*l->group), order_by_destination);
	err = red_table_services(r->table, tell_service, l);
	free(l->group);
	return err;
}

int red_services(struct red *r, uint64_t now_ms,
		 int (*fn)(void *arg, const struct red_service_now *s), void *arg)
{
	struct red_window w = {.window_s = 60, .step_s = 60};
	struct lately l = {.fn = fn, .arg = arg};
	struct red_query *q;
	int err = red_window_plan(r, &w, now_ms);

	if (!err)
		err = red_query_new(r, &w, &q);
	if (err)
		return err;
	while ((err = red_query_step(q)) > 0)
		;
	if (err != -ENOMEM) /* what the disk does not give is missing */
		err = tell_services(r, q, &l);
	red_query_free(&q);
	return err;
}
