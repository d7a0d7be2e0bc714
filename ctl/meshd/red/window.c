/* SPDX-License-Identifier: Apache-2.0 */
/* See red.h: windows, and what is counted in them. */
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

static struct red_scan scan_of(const struct red_window *w, uint64_t step_s)
{
	return (struct red_scan){.from_s = w->from_s,
				 .to_s = w->to_ms / 1000 + 1,
				 .step_s = step_s,
				 .service = w->service,
				 .now_s = w->to_ms / 1000};
}

static bool wanted(const struct red_window *w, const struct red_key *k)
{
	return (!w->source || !strcmp(w->source, k->source)) &&
	       (!w->version || !strcmp(w->version, k->version));
}

/* Damage that a query finds is dealt with at the next tick. */
static int scanned(struct red *r, const struct red_window *w, int err)
{
	return err == -EIO || err == -EBADMSG ? red_keep_failed(r, err, w->to_ms) : err;
}

/* --- one service --------------------------------------------------------------------- */

struct reading {
	const struct red_window *w;
	struct red_sum *points;
};

static int add_to_point(void *arg, uint64_t start_s, const struct red_record *rec)
{
	struct reading *read = arg;
	const struct red_window *w = read->w;
	uint64_t i = start_s / w->step_s - w->from_s / w->step_s;

	/* of names that the disk does not tell apart from others */
	if (!wanted(w, &rec->key) || i >= red_window_points(w))
		return 0;
	return red_record_add(&read->points[i], rec) == -ENOMEM ? -ENOMEM : 0;
}

int red_window_read(struct red *r, const struct red_window *w, struct red_sum *points,
		    struct red_sum *total)
{
	struct red_scan q = scan_of(w, w->step_s);
	struct reading read = {w, points};
	int err;

	q.visit = add_to_point;
	q.arg = &read;
	err = scanned(r, w, red_scan(r, &q));
	for (size_t i = 0; i < red_window_points(w) && err != -ENOMEM; i++)
		if (red_sum_add(total, &points[i]))
			err = -ENOMEM;
	return err;
}

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

/* --- groups -------------------------------------------------------------------------- */

struct grouping {
	const struct red *r;
	const struct red_window *w;
	struct red_group *group;
	uint32_t **count; /* of each, by bucket */
	uint32_t *slot;	  /* index + 1 */
	size_t n, cap, nslots;
	struct {
		uint32_t id, group;
	} * of_series; /* [RED_SLOTS], so that most records need no look at their names */
};

static uint64_t mix(uint64_t h, const char *s)
{
	for (; *s; s++)
		h = (h ^ (unsigned char)*s) * 0x9e3779b97f4a7c15u;
	return (h ^ h >> 29) * 0xbf58476d1ce4e5b9u;
}

static bool same(const struct red_group *g, const struct red_key *k)
{
	return g->protocol == k->protocol && !strcmp(g->source, k->source) &&
	       !strcmp(g->destination, k->destination) && !strcmp(g->version, k->version);
}

static uint32_t *slot_of(const struct grouping *g, const struct red_key *k)
{
	uint64_t h = mix(mix(mix(g->r->seed + k->protocol, k->source), k->destination), k->version);
	size_t i = (size_t)(h >> 32) & (g->nslots - 1);

	while (g->slot[i] && !same(&g->group[g->slot[i] - 1], k))
		i = (i + 1) & (g->nslots - 1);
	return &g->slot[i];
}

static int grow(struct grouping *g)
{
	size_t cap = g->cap ? g->cap * 2 : 256;
	struct red_group *group = realloc(g->group, cap * sizeof(*group));
	uint32_t **count = realloc(g->count, cap * sizeof(*count));
	uint32_t *slot = calloc(cap * 2, sizeof(*slot));

	g->group = group ? group : g->group;
	g->count = count ? count : g->count;
	if (!group || !count || !slot) {
		free(slot);
		return -ENOMEM;
	}
	free(g->slot);
	g->slot = slot;
	g->cap = cap;
	g->nslots = cap * 2;
	for (size_t i = 0; i < g->n; i++) {
		struct red_key k = {group[i].source, group[i].destination, group[i].version,
				    group[i].protocol, RED_OK};

		*slot_of(g, &k) = (uint32_t)i + 1;
	}
	return 0;
}

static int group_new(struct grouping *g, const struct red_key *k)
{
	struct red_group *group = &g->group[g->n];

	g->count[g->n] = calloc(HISTOGRAM_BUCKETS, sizeof(**g->count));
	if (!g->count[g->n])
		return -ENOMEM;
	*group = (struct red_group){.protocol = k->protocol};
	strncpy(group->source, k->source, sizeof(group->source) - 1);
	strncpy(group->destination, k->destination, sizeof(group->destination) - 1);
	strncpy(group->version, k->version, sizeof(group->version) - 1);
	g->n++;
	return 0;
}

/* Its number; -ENOSPC: there are too many. */
static int group_of(struct grouping *g, const struct red_key *k)
{
	uint32_t *slot;

	if (g->n == g->cap && g->n < RED_GROUPS_MAX && grow(g))
		return -ENOMEM;
	slot = slot_of(g, k);
	if (!*slot) {
		if (g->n == RED_GROUPS_MAX)
			return -ENOSPC;
		if (group_new(g, k))
			return -ENOMEM;
		*slot = (uint32_t)g->n;
	}
	return (int)*slot - 1;
}

static int add_to_group(void *arg, uint64_t start_s, const struct red_record *rec)
{
	struct grouping *g = arg;
	uint32_t place = red_slot(rec->id);
	int i;

	if (rec->id && g->of_series[place].id == rec->id) {
		i = (int)g->of_series[place].group;
	} else {
		if (!wanted(g->w, &rec->key))
			return 0;
		i = group_of(g, &rec->key);
		if (i == -ENOSPC)
			return 0;
		if (i < 0)
			return i;
		g->of_series[place].id = rec->id;
		g->of_series[place].group = (uint32_t)i;
	}
	(void)red_record_add_dense(&g->group[i].sum, g->count[i], rec); /* as much as makes sense */
	return 0;
}

/* Of what was added up by bucket. */
static int group_close(struct grouping *g, size_t i)
{
	int err = 0;

	for (uint32_t b = 0; b < HISTOGRAM_BUCKETS && !err; b++)
		if (g->count[i][b])
			err = histogram_sparse_add(&g->group[i].sum.histogram, b, g->count[i][b]);
	return err;
}

static int order(const void *x, const void *y)
{
	const struct red_group *a = x, *b = y;
	int r = strcmp(a->source, b->source);

	if (!r)
		r = strcmp(a->destination, b->destination);
	if (!r)
		r = (int)a->protocol - (int)b->protocol;
	return r ? r : strcmp(a->version, b->version);
}

static void grouping_done(struct grouping *g)
{
	for (size_t i = 0; i < g->n; i++)
		free(g->count[i]);
	free(g->count);
	free(g->slot);
	free(g->of_series);
}

int red_groups_read(struct red *r, const struct red_window *w, struct red_group **out, size_t *n)
{
	/* in one piece: any bucket within the window will do */
	struct red_scan q = scan_of(w, r->tier[RED_TIERS - 1].step_s);
	struct grouping g = {.r = r, .w = w};
	int err = -ENOMEM;

	q.visit = add_to_group;
	q.arg = &g;
	g.of_series = calloc(RED_SLOTS, sizeof(*g.of_series));
	if (g.of_series)
		err = scanned(r, w, red_scan(r, &q));
	for (size_t i = 0; i < g.n && err != -ENOMEM; i++)
		if (group_close(&g, i))
			err = -ENOMEM;
	grouping_done(&g);
	if (err == -ENOMEM) {
		red_groups_free(g.group, g.n);
		return err;
	}
	if (g.n)
		qsort(g.group, g.n, sizeof(*g.group), order);
	*out = g.group;
	*n = g.n;
	return err;
}

void red_groups_free(struct red_group *g, size_t n)
{
	for (size_t i = 0; i < n; i++)
		red_sum_done(&g[i].sum);
	free(g);
}

/* --- for /metrics -------------------------------------------------------------------- */

struct lately {
	struct red_group *group; /* by destination */
	size_t n;
	int (*fn)(void *arg, const struct red_service_now *s);
	void *arg;
};

static int order_by_destination(const void *x, const void *y)
{
	const struct red_group *a = x, *b = y;

	return strcmp(a->destination, b->destination);
}

static size_t first_of(const struct lately *l, const char *destination)
{
	size_t lo = 0, hi = l->n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (strcmp(l->group[mid].destination, destination) < 0)
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
	     i < l->n && !err && !strcmp(l->group[i].destination, s->name); i++)
		err = red_sum_add(&sum, &l->group[i].sum);
	now.p50_ms = histogram_sparse_quantile_ns(&sum.histogram, 0.50) / 1e6;
	now.p95_ms = histogram_sparse_quantile_ns(&sum.histogram, 0.95) / 1e6;
	now.p99_ms = histogram_sparse_quantile_ns(&sum.histogram, 0.99) / 1e6;
	red_sum_done(&sum);
	return err ? err : l->fn(l->arg, &now);
}

int red_services(struct red *r, uint64_t now_ms,
		 int (*fn)(void *arg, const struct red_service_now *s), void *arg)
{
	struct red_window w = {.window_s = 60};
	struct lately l = {.fn = fn, .arg = arg};
	int err = red_window_plan(r, &w, now_ms);

	if (!err)
		err = red_groups_read(r, &w, &l.group, &l.n);
	if (err == -EIO) /* what the disk does not give is missing */
		err = 0;
	if (l.n)
		qsort(l.group, l.n, sizeof(*l.group), order_by_destination);
	if (!err)
		err = red_table_services(r->table, tell_service, &l);
	red_groups_free(l.group, l.n);
	return err;
}
