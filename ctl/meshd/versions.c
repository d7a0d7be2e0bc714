/* SPDX-License-Identifier: Apache-2.0 */
/* See versions.h. */
#include "ctl/meshd/versions.h"
#include "lib/json.h"

#include <stdio.h>
#include <string.h>

static void warn(struct versions *v, const char *text)
{
	cJSON *line = v->warnings ? cJSON_CreateString(text) : NULL;

	if (line && !cJSON_AddItemToArray(v->warnings, line))
		cJSON_Delete(line);
}

static bool served(const struct versions *v, const char *version)
{
	for (int i = 0; i < v->n; i++)
		if (!strcmp(v->all[i].service, v->service) &&
		    (!version || !strcmp(v->all[i].version, version)))
			return true;
	return false;
}

/* The versions that there are, each once, as far as they fit. */
static void list_versions(const struct versions *v, char *out, size_t cap)
{
	size_t len = 0;

	*out = '\0';
	for (int i = 0; i < v->n; i++) {
		bool seen = strcmp(v->all[i].service, v->service) != 0;

		for (int j = i - 1; j >= 0 && !seen && !strcmp(v->all[j].service, v->service); j--)
			seen = !strcmp(v->all[j].version, v->all[i].version);
		if (!seen && len + strlen(v->all[i].version) + 3 < cap)
			len += (size_t)snprintf(out + len, cap - len, "%s%s", len ? ", " : "",
						v->all[i].version);
	}
}

static void missing(struct versions *v, const char *path, const char *version, bool news)
{
	char text[sizeof(v->refusal)], there[200];

	list_versions(v, there, sizeof(there));
	snprintf(text, sizeof(text), "%s: no endpoint of %s has version %s; there are: %s", path,
		 v->service, version, there);
	if (!news || v->force) {
		warn(v, text);
	} else if (!v->field[0]) {
		snprintf(v->field, sizeof(v->field), "%s", path);
		snprintf(v->refusal, sizeof(v->refusal),
			 "%.400s (?force=true takes it all the same)", text);
	}
}

static void check_split(struct versions *v, const char *at, const cJSON *split, bool news)
{
	char path[sizeof(v->field)];
	const cJSON *share;

	cJSON_ArrayForEach (share, split) {
		if (share->valuedouble <= 0 || served(v, share->string))
			continue;
		snprintf(path, sizeof(path), "%ssplit.%s", at, share->string);
		missing(v, path, share->string, news);
	}
}

static void check_route(struct versions *v, int index, const cJSON *route, bool news)
{
	const cJSON *mirror = cJSON_GetObjectItemCaseSensitive(route, "mirror");
	const char *version = json_str(mirror, "version", NULL);
	char at[32], path[64];

	snprintf(at, sizeof(at), "routes[%d].", index);
	check_split(v, at, cJSON_GetObjectItemCaseSensitive(route, "split"), news);
	if (version && !served(v, version)) {
		snprintf(path, sizeof(path), "%smirror.version", at);
		missing(v, path, version, news);
	}
}

static bool among(const cJSON *list, const cJSON *item)
{
	const cJSON *i;

	cJSON_ArrayForEach (i, list)
		if (cJSON_Compare(i, item, true))
			return true;
	return false;
}

void versions_check(struct versions *v, const char *service, const cJSON *was, const cJSON *is)
{
	const cJSON *split = cJSON_GetObjectItemCaseSensitive(is, "split"),
		    *old = cJSON_GetObjectItemCaseSensitive(was, "split"),
		    *routes = cJSON_GetObjectItemCaseSensitive(was, "routes"), *route;
	char text[160];
	int i = 0;

	v->service = service;
	v->field[0] = v->refusal[0] = '\0';
	if (!served(v, NULL)) {
		snprintf(text, sizeof(text),
			 "nothing listens as service %s: this is in force when something does",
			 service);
		if (!v->quiet)
			warn(v, text);
		return;
	}
	check_split(v, "", split, !old || !cJSON_Compare(split, old, true));
	cJSON_ArrayForEach (route, cJSON_GetObjectItemCaseSensitive(is, "routes"))
		check_route(v, i++, route, !among(routes, route));
}
