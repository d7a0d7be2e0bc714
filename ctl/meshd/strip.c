/* SPDX-License-Identifier: Apache-2.0 */
/* See strip.h. */
#include "ctl/meshd/strip.h"

#include <stddef.h>
#include <string.h>

static void cut(cJSON *of, const char *key)
{
	cJSON *v = cJSON_GetObjectItemCaseSensitive(of, key);

	if (cJSON_IsString(v))
		v->valuestring[strcspn(v->valuestring, "?")] = '\0';
}

static void strip_attributes(cJSON *attributes)
{
	static const char *const urls[] = {"url.full", "url.path", "http.url", "http.target"};

	for (size_t i = 0; i < sizeof(urls) / sizeof(*urls); i++)
		cut(attributes, urls[i]);
	cJSON_DeleteItemFromObjectCaseSensitive(attributes, "url.query");
}

static void strip_one(cJSON *v)
{
	cut(v, "path");
	cut(v, "operation");
	strip_attributes(cJSON_GetObjectItemCaseSensitive(v, "attributes"));
	strip_attributes(cJSON_GetObjectItemCaseSensitive(v, "tags"));
}

void strip_queries(cJSON *list)
{
	cJSON *v;

	if (!cJSON_IsArray(list))
		return;
	cJSON_ArrayForEach (v, list) {
		strip_one(v);
		strip_one(cJSON_GetObjectItemCaseSensitive(v, "span")); /* of a tapped request */
	}
}

void strip_record(struct record *rec)
{
	char *path = (char *)record_text(rec) + rec->method_len;
	char *query = rec->path_len ? memchr(path, '?', rec->path_len) : NULL;
	size_t len = query ? (size_t)(path + rec->path_len - query) : 0, rest;

	if (!query)
		return;
	rest = record_text_len(rec) - rec->method_len - rec->path_len;
	memmove(query, query + len, rest);
	memset(query + rest, 0, len);
	rec->path_len = (uint16_t)(rec->path_len - len);
}
