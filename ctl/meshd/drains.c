/* SPDX-License-Identifier: Apache-2.0 */
/* See drains.h. */
#include "ctl/meshd/drains.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct drain {
	struct drain *next;
	char service[64], endpoint[64], author[96];
	uint64_t gone_ms; /* since when it is not there; 0: it is */
};

static struct drain **find(struct drains *d, const char *service, const char *endpoint)
{
	struct drain **at = &d->first;

	while (*at && (strcmp((*at)->service, service) || strcmp((*at)->endpoint, endpoint)))
		at = &(*at)->next;
	return at;
}

static int append(struct drains *d, const char *service, const char *endpoint, const char *author)
{
	struct drain **at = find(d, service, endpoint), *n = calloc(1, sizeof(*n));

	if (!n)
		return -ENOMEM;
	snprintf(n->service, sizeof(n->service), "%s", service);
	snprintf(n->endpoint, sizeof(n->endpoint), "%s", endpoint);
	snprintf(n->author, sizeof(n->author), "%s", author);
	*at = n;
	d->number++;
	return 0;
}

static int load(void *arg, const char *service, const char *endpoint, const char *author)
{
	return append(arg, service, endpoint, author);
}

static void unlink_at(struct drains *d, struct drain **at)
{
	struct drain *old = *at;

	*at = old->next;
	d->number--;
	free(old);
}

int drains_init(struct drains *d, struct store *s)
{
	*d = (struct drains){.store = s};
	return store_drain_each(s, load, d);
}

void drains_done(struct drains *d)
{
	while (d->first)
		unlink_at(d, &d->first);
}

int drains_add(struct drains *d, const char *service, const char *endpoint, const char *author,
	       bool *changed)
{
	struct drain **at = find(d, service, endpoint);
	int r;

	*changed = !*at;
	if (*at)
		return 0;
	if (d->number >= DRAINS_MAX)
		return -ENOSPC;
	r = append(d, service, endpoint, author);
	if (r)
		return r;
	r = store_drain_put(d->store, service, endpoint, author);
	if (r)
		unlink_at(d, find(d, service, endpoint));
	return r;
}

int drains_remove(struct drains *d, const char *service, const char *endpoint)
{
	struct drain **at = find(d, service, endpoint);
	int r = *at ? store_drain_delete(d->store, service, endpoint) : -ENOENT;

	if (*at && (!r || r == -ENOENT)) {
		unlink_at(d, at);
		r = 0;
	}
	return r;
}

int drains_sweep(struct drains *d, const struct endpoint *all, int n, uint64_t now_ms)
{
	struct drain **at = &d->first, *g;
	int err, gone = 0;

	while ((g = *at)) {
		if (endpoints_have(all, n, g->service, g->endpoint))
			g->gone_ms = 0;
		else if (!g->gone_ms)
			g->gone_ms = now_ms;
		if (!g->gone_ms || now_ms - g->gone_ms < DRAINS_GONE_MS) {
			at = &g->next;
			continue;
		}
		err = store_drain_delete(d->store, g->service, g->endpoint);
		if (err && err != -ENOENT)
			return err;
		unlink_at(d, at);
		gone++;
	}
	return gone;
}

cJSON *drains_list(const struct drains *d)
{
	cJSON *list = cJSON_CreateArray(), *v;
	bool ok = list != NULL;

	for (const struct drain *n = d->first; n && ok; n = n->next) {
		v = cJSON_CreateObject();
		ok = v && cJSON_AddItemToArray(list, v) &&
		     cJSON_AddStringToObject(v, "service", n->service) &&
		     cJSON_AddStringToObject(v, "endpoint", n->endpoint) &&
		     cJSON_AddStringToObject(v, "author", n->author);
	}
	if (ok)
		return list;
	cJSON_Delete(list);
	return NULL;
}

void drains_tell(const struct drains *d, struct buf *b)
{
	buf_char(b, '[');
	for (const struct drain *n = d->first; n; n = n->next) {
		buf_str(b, n == d->first ? "{\"service\":" : ",{\"service\":");
		buf_json(b, n->service, strlen(n->service));
		buf_str(b, ",\"endpoint\":");
		buf_json(b, n->endpoint, strlen(n->endpoint));
		buf_char(b, '}');
	}
	buf_char(b, ']');
}
