/* SPDX-License-Identifier: Apache-2.0 */
/* See stat.h. Called by stat.c. */
#include "ctl/meshctl/stat.h"
#include "ctl/meshctl/words.h"
#include "lib/json.h"

#include <stdbool.h>
#include <string.h>

#define PARTS_MAX 256

/* Figures by name: those of one name are summed. */
struct parts {
	const char *names[PARTS_MAX];
	struct figures figures[PARTS_MAX];
	unsigned n;
};

static void parts_add(struct parts *p, const char *name, const cJSON *object)
{
	struct figures f;
	unsigned i;

	figures_read(object, &f);
	for (i = 0; i < p->n && strcmp(p->names[i], name); i++)
		;
	if (i == PARTS_MAX)
		return;
	if (i < p->n) {
		figures_add(&p->figures[i], &f);
	} else {
		p->names[i] = name;
		p->figures[i] = f;
		p->n++;
	}
}

static void parts_sort(struct parts *p)
{
	for (unsigned i = 1; i < p->n; i++) {
		for (unsigned k = i; k && strverscmp(p->names[k - 1], p->names[k]) > 0; k--) {
			const char *name = p->names[k];
			struct figures f = p->figures[k];

			p->names[k] = p->names[k - 1];
			p->figures[k] = p->figures[k - 1];
			p->names[k - 1] = name;
			p->figures[k - 1] = f;
		}
	}
}

/* As a list in member `list` of top; the name of an item is its member `key`. */
static bool parts_write(struct parts *p, cJSON *top, const char *list, const char *key)
{
	cJSON *array = cJSON_AddArrayToObject(top, list);
	bool ok = array;

	parts_sort(p);
	for (unsigned i = 0; ok && i < p->n; i++) {
		cJSON *item = cJSON_CreateObject();

		ok = cJSON_AddItemToArray(array, item) &&
		     cJSON_AddStringToObject(item, key, p->names[i]) &&
		     !figures_write(item, &p->figures[i]);
	}
	return ok;
}

/* A list of objects that say "version", or an object by version. */
static void add_versions(struct parts *p, const cJSON *versions)
{
	const cJSON *v;

	cJSON_ArrayForEach (v, versions) {
		const char *name = json_str(v, "version", v->string);

		if (name && cJSON_IsObject(v))
			parts_add(p, name, v);
	}
}

static bool is(const cJSON *edge, const char *key, const char *name)
{
	return !name || !strcmp(json_str(edge, key, ""), name);
}

cJSON *stat_of_service(const char *service, const char *source, const cJSON *metrics,
		       const cJSON *graph)
{
	struct parts sources = {.n = 0}, versions = {.n = 0};
	cJSON *top = cJSON_CreateObject();
	struct figures f;
	const cJSON *e;

	cJSON_ArrayForEach (e, words_get(graph, "edges")) {
		if (!is(e, "destination", service) || !is(e, "source", source))
			continue;
		parts_add(&sources, json_str(e, "source", "?"), e);
		add_versions(&versions, words_get(e, "versions"));
	}
	figures_read(metrics, &f);
	if (cJSON_AddStringToObject(top, "service", service) &&
	    (!source || cJSON_AddStringToObject(top, "source", source)) &&
	    !figures_write(top, &f) && parts_write(&sources, top, "sources", "source") &&
	    parts_write(&versions, top, "versions", "version"))
		return top;
	cJSON_Delete(top);
	return NULL;
}

cJSON *stat_of_source(const char *source, const cJSON *graph)
{
	struct parts services = {.n = 0};
	cJSON *top = cJSON_CreateObject();
	const cJSON *e;

	cJSON_ArrayForEach (e, words_get(graph, "edges"))
		if (is(e, "source", source))
			parts_add(&services, json_str(e, "destination", "?"), e);
	if (cJSON_AddStringToObject(top, "source", source) &&
	    parts_write(&services, top, "services", "service"))
		return top;
	cJSON_Delete(top);
	return NULL;
}

int stat_set_figures(cJSON *item, const struct figures *f)
{
	static const char *const keys[] = {"requests", "errors", "rate", "errorRate",
					   "p50",      "p95",	 "p99"};

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		cJSON_DeleteItemFromObjectCaseSensitive(item, keys[i]);
	return figures_write(item, f);
}
