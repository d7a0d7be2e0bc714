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

void strip_queries(cJSON *list)
{
	cJSON *v;

	if (!cJSON_IsArray(list))
		return;
	cJSON_ArrayForEach (v, list) {
		cut(v, "path");
		cut(v, "operation");
		strip_attributes(cJSON_GetObjectItemCaseSensitive(v, "attributes"));
		strip_attributes(cJSON_GetObjectItemCaseSensitive(v, "tags"));
	}
}
