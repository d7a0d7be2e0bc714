/* SPDX-License-Identifier: Apache-2.0 */
/* See shapes.h. Called by get and describe. */
#include "ctl/meshctl/shapes.h"
#include "ctl/meshctl/words.h"
#include "lib/json.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

struct shape {
	cJSON *top, *list;
	bool failed;
};

static void shape_init(struct shape *s, const char *key)
{
	s->top = cJSON_CreateObject();
	s->list = cJSON_AddArrayToObject(s->top, key);
	s->failed = !s->list;
}

static cJSON *shape_finish(struct shape *s)
{
	if (!s->failed)
		return s->top;
	cJSON_Delete(s->top);
	return NULL;
}

/* A new item of the list. */
static cJSON *shape_item(struct shape *s, const char *service)
{
	cJSON *item = cJSON_CreateObject();

	if (cJSON_AddStringToObject(item, "service", service) &&
	    cJSON_AddItemToArray(s->list, item))
		return item;
	cJSON_Delete(item);
	s->failed = true;
	return NULL;
}

static void shape_copy(struct shape *s, cJSON *to, const char *key, const cJSON *v)
{
	cJSON *copy = v ? cJSON_Duplicate(v, true) : NULL;

	if (!v || (copy && cJSON_AddItemToObject(to, key, copy)))
		return;
	cJSON_Delete(copy);
	s->failed = true;
}

static bool wanted(const cJSON *item, const char *service)
{
	return !service || !strcmp(json_str(item, "service", ""), service);
}

static void add_routes(struct shape *s, const char *service, const cJSON *config)
{
	const cJSON *routes = words_get(config, "routes"), *split = words_get(config, "split"), *r,
		    *key;
	unsigned index = 0;
	cJSON *item;

	cJSON_ArrayForEach (r, routes) {
		item = shape_item(s, service);
		s->failed = s->failed || !cJSON_AddNumberToObject(item, "index", ++index);
		cJSON_ArrayForEach (key, r)
			shape_copy(s, item, key->string, key);
	}
	if (!index && !split)
		return;
	item = shape_item(s, service);
	s->failed = s->failed || !cJSON_AddNumberToObject(item, "index", index + 1) ||
		    !cJSON_AddBoolToObject(item, "default", true);
	shape_copy(s, item, "split", split);
}

cJSON *shape_routes(const cJSON *configs, const char *service)
{
	struct shape s;
	const cJSON *c;

	shape_init(&s, "routes");
	cJSON_ArrayForEach (c, words_get(configs, "services"))
		if (wanted(c, service) && !s.failed)
			add_routes(&s, json_str(c, "service", "?"), words_get(c, "config"));
	return shape_finish(&s);
}

static void add_route_faults(struct shape *s, const char *service, const cJSON *config)
{
	const cJSON *r, *fault, *key;
	unsigned index = 0;
	char unnamed[16];
	cJSON *item;

	cJSON_ArrayForEach (r, words_get(config, "routes")) {
		snprintf(unnamed, sizeof(unnamed), "#%u", ++index);
		fault = words_get(r, "fault");
		if (!cJSON_IsObject(fault) || !fault->child)
			continue;
		item = shape_item(s, service);
		s->failed = s->failed ||
			    !cJSON_AddStringToObject(item, "route", json_str(r, "name", unnamed));
		cJSON_ArrayForEach (key, fault)
			shape_copy(s, item, key->string, key);
	}
}

cJSON *shape_faults(const cJSON *faults, const cJSON *configs, const char *service)
{
	struct shape s;
	const cJSON *f, *c, *key;

	shape_init(&s, "faults");
	cJSON_ArrayForEach (f, words_get(faults, "faults")) {
		cJSON *item =
			wanted(f, service) ? shape_item(&s, json_str(f, "service", "?")) : NULL;

		for (key = item ? f->child : NULL; key; key = key->next)
			if (strcmp(key->string, "service"))
				shape_copy(&s, item, key->string, key);
	}
	cJSON_ArrayForEach (c, words_get(configs, "services"))
		if (wanted(c, service) && !s.failed)
			add_route_faults(&s, json_str(c, "service", "?"), words_get(c, "config"));
	return shape_finish(&s);
}
