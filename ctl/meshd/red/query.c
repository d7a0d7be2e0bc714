/* SPDX-License-Identifier: Apache-2.0 */
/* See red.h: questions that are answered part by part. */
#include "ctl/meshd/red/scan.h"
#include "lib/name.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct grouping {
	uint64_t seed;
	struct red_group *group;
	uint32_t **count; /* of each, by bucket */
	uint32_t *slot;	  /* index + 1 */
	size_t n, cap, nslots;
	struct {
		uint32_t id, group;
	} * of_series; /* [RED_SLOTS], so that most records need no look at their names */
};

struct red_query {
	struct red *r;
	struct red_window w;
	struct red_scan scan;
	bool closed;
	struct red_sum *points, total; /* of one service */
	struct grouping g;	       /* of all */
};

static bool wanted(const struct red_window *w, const struct red_key *k)
{
	return (!w->source || !strcmp(w->source, k->source)) &&
	       (!w->version || !strcmp(w->version, k->version));
}

/* --- one service: points ------------------------------------------------------------- */

static int add_to_point(void *arg, uint64_t start_s, const struct red_record *rec)
{
	struct red_query *q = arg;
	const struct red_window *w = &q->w;
	uint64_t i = start_s / w->step_s - w->from_s / w->step_s;

	if (!wanted(w, &rec->key) || i >= red_window_points(w))
		return 0;
	return red_record_add(&q->points[i], rec) == -ENOMEM ? -ENOMEM : 0;
}

static int points_close(struct red_query *q)
{
	int err = 0;

	for (size_t i = 0; i < red_window_points(&q->w) && !err; i++)
		err = red_sum_add(&q->total, &q->points[i]);
	return err;
}

/* --- all: groups --------------------------------------------------------------------- */

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
	uint64_t h = mix(mix(mix(g->seed + k->protocol, k->source), k->destination), k->version);
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

/* Its number; -ENOSPC: there are more than that. */
static int group_within(struct grouping *g, const struct red_key *k, size_t most)
{
	uint32_t *slot;

	if (g->n == g->cap && g->n < most && grow(g))
		return -ENOMEM;
	slot = slot_of(g, k);
	if (!*slot) {
		if (g->n >= most)
			return -ENOSPC;
		if (group_new(g, k))
			return -ENOMEM;
		*slot = (uint32_t)g->n;
	}
	return (int)*slot - 1;
}

/* Beyond the limit callers and versions of a service are one, so that its sums stay right. */
static int group_of(struct grouping *g, const struct red_key *k)
{
	struct red_key other = *k;
	int i = group_within(g, k, RED_GROUPS_MAX);

	if (i != -ENOSPC)
		return i;
	other.source = other.version = RED_OTHER;
	return group_within(g, &other, RED_GROUPS_MAX + RED_PROTOCOLS * RED_SERVICES_MAX);
}

static int add_to_group(void *arg, uint64_t start_s, const struct red_record *rec)
{
	struct red_query *q = arg;
	struct grouping *g = &q->g;
	uint32_t place = red_slot(rec->id);
	int i;

	if (rec->id && g->of_series[place].id == rec->id) {
		i = (int)g->of_series[place].group;
	} else {
		if (!wanted(&q->w, &rec->key) || name_is_own(rec->key.source) ||
		    name_is_own(rec->key.destination)) /* from when they were still taken */
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

static int groups_close(struct grouping *g)
{
	int err = 0;

	for (size_t i = 0; i < g->n && !err; i++)
		err = group_close(g, i);
	if (g->n)
		qsort(g->group, g->n, sizeof(*g->group), order);
	return err;
}

/* --- the question -------------------------------------------------------------------- */

int red_query_new(struct red *r, const struct red_window *w, struct red_query **out)
{
	struct red_query *q = calloc(1, sizeof(*q));
	/* groups are of the whole window: any bucket in it will do */
	uint64_t step_s = w->service ? w->step_s : r->tier[RED_TIERS - 1].step_s;

	if (!q)
		return -ENOMEM;
	q->r = r;
	q->w = *w;
	q->scan = (struct red_scan){.from_s = w->from_s,
				    .at_s = w->from_s,
				    .to_s = w->to_ms / 1000 + 1,
				    .step_s = step_s,
				    .service = w->service,
				    .now_s = w->to_ms / 1000,
				    .visit = w->service ? add_to_point : add_to_group,
				    .arg = q};
	q->g.seed = r->seed;
	if (w->service)
		q->points = calloc(red_window_points(w), sizeof(*q->points));
	else
		q->g.of_series = calloc(RED_SLOTS, sizeof(*q->g.of_series));
	if (!q->points && !q->g.of_series) {
		free(q);
		return -ENOMEM;
	}
	*out = q;
	return 0;
}

void red_query_free(struct red_query **q)
{
	struct grouping *g;

	if (!*q)
		return;
	g = &(*q)->g;
	for (size_t i = 0; (*q)->points && i < red_window_points(&(*q)->w); i++)
		red_sum_done(&(*q)->points[i]);
	free((*q)->points);
	red_sum_done(&(*q)->total);
	for (size_t i = 0; i < g->n; i++) {
		red_sum_done(&g->group[i].sum);
		free(g->count[i]);
	}
	free(g->group);
	free(g->count);
	free(g->slot);
	free(g->of_series);
	free(*q);
	*q = NULL;
}

int red_query_step(struct red_query *q)
{
	int err = red_scan(q->r, &q->scan);

	if (err > 0 || err == -ENOMEM)
		return err;
	if (err) /* damage is dealt with at the next tick */
		return red_keep_failed(q->r, err, q->w.to_ms);
	if (!q->closed) {
		q->closed = true;
		err = q->points ? points_close(q) : groups_close(&q->g);
	}
	return err;
}

const struct red_window *red_query_window(const struct red_query *q)
{
	return &q->w;
}

const struct red_sum *red_query_points(const struct red_query *q)
{
	return q->points;
}

const struct red_sum *red_query_total(const struct red_query *q)
{
	return &q->total;
}

const struct red_group *red_query_groups(const struct red_query *q, size_t *n)
{
	*n = q->g.n;
	return q->g.group;
}
