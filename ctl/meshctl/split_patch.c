/* SPDX-License-Identifier: Apache-2.0 */
/* See split.h. Called by split.c; no I/O. */
#include "ctl/meshctl/split.h"
#include "ctl/meshctl/text.h"
#include "ctl/meshctl/words.h"
#include "lib/hash.h"
#include "lib/json.h"
#include "lib/name.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define ROUTE_PREFIX "header-"
#define WEIGHT_MAX   1000000

__attribute__((format(printf, 2, 3))) static int refuse(char *error, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(error, SPLIT_ERROR_MAX, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

static int parse_weight(const char *word, struct split_weights *w, char *error)
{
	const char *equals = strchr(word, '=');
	size_t len = equals ? (size_t)(equals - word) : 0;
	char *version = w->version[w->n];

	if (!equals)
		return refuse(error, "%s is no weight: VERSION=PERCENT, as v1=90", word);
	if (w->n == MESH_SPLITS)
		return refuse(error, "at most %d versions can share the requests", MESH_SPLITS);
	if (!name_valid_bytes(word, len))
		return refuse(error, "%.*s is no version: a version is " NAME_WHAT, (int)len, word);
	snprintf(version, sizeof(w->version[0]), "%.*s", (int)len, word);
	for (unsigned i = 0; i < w->n; i++)
		if (!strcmp(w->version[i], version))
			return refuse(error, "%s is there twice", version);
	if (text_number(equals + 1, 0, WEIGHT_MAX, &w->weight[w->n]))
		return refuse(error, "%s: a weight is a whole number", word);
	w->n++;
	return 0;
}

void split_scale(struct split_weights *w)
{
	uint64_t sum = 0, given = 0, rest[MESH_SPLITS];

	for (unsigned i = 0; i < w->n; i++)
		sum += w->weight[i];
	for (unsigned i = 0; i < w->n; i++) {
		rest[i] = w->weight[i] * 100 % sum;
		w->weight[i] = w->weight[i] * 100 / sum;
		given += w->weight[i];
	}
	for (; given < 100; given++) {
		unsigned most = 0;

		for (unsigned i = 1; i < w->n; i++)
			if (rest[i] > rest[most])
				most = i;
		w->weight[most]++;
		rest[most] = 0;
	}
}

static int refuse_sum(const struct split_weights *given, uint64_t sum, char *error)
{
	struct split_weights w = *given;
	int n = snprintf(error, SPLIT_ERROR_MAX, "the weights sum to %" PRIu64 ", not to 100", sum);

	if (!sum)
		return -EINVAL;
	split_scale(&w);
	n += snprintf(error + n, SPLIT_ERROR_MAX - n, "; in these proportions that is");
	for (unsigned i = 0; i < w.n && n < SPLIT_ERROR_MAX; i++)
		n += snprintf(error + n, SPLIT_ERROR_MAX - n, " %s=%" PRIu64, w.version[i],
			      w.weight[i]);
	return -EINVAL;
}

int split_parse(char *const *words, int n, struct split_weights *out, char *error)
{
	struct split_weights w = {0};
	uint64_t sum = 0;

	if (!n)
		return refuse(error, "which weights? VERSION=PERCENT, as v1=90 v2=10");
	for (int i = 0; i < n; i++)
		if (parse_weight(words[i], &w, error))
			return -EINVAL;
	for (unsigned i = 0; i < w.n; i++)
		sum += w.weight[i];
	if (sum != 100)
		return refuse_sum(&w, sum, error);
	*out = w;
	return 0;
}

/* What no name can hold becomes '-'; then a number keeps it apart from others that look alike. */
static void name_route(struct split_header *h)
{
	char plain[sizeof(ROUTE_PREFIX) + sizeof(h->name) + sizeof(h->value)], all[sizeof(plain)];
	size_t len =
		(size_t)snprintf(plain, sizeof(plain), ROUTE_PREFIX "%s-%s", h->name, h->value);
	bool same = len <= NAME_LEN_MAX;

	for (char *p = plain; *p; p++) {
		if (strchr("._-", *p) || (isascii((unsigned char)*p) && isalnum((unsigned char)*p)))
			continue;
		*p = '-';
		same = false;
	}
	if (same) {
		memcpy(h->route, plain, len + 1);
		return;
	}
	len = (size_t)snprintf(all, sizeof(all), "%s=%s", h->name, h->value);
	snprintf(h->route, sizeof(h->route), "%.*s-%08x", NAME_LEN_MAX - 9, plain,
		 (unsigned)hash64(all, len));
}

static int header_make(const char *name, size_t len, const char *value, const char *version,
		       struct split_header *out, char *error)
{
	struct split_header h = {0};

	if (!len || len >= sizeof(h.name) || strcspn(name, " \t:/()<>@,;[]?{}\"\\") < len)
		return refuse(error, "%.*s is no name of a header", (int)len, name);
	if (strlen(value) >= sizeof(h.value))
		return refuse(error, "the value of the header is too long");
	if (version && !name_valid(version))
		return refuse(error, "%s is no version: a version is " NAME_WHAT, version);
	for (size_t i = 0; i < len; i++)
		h.name[i] = (char)tolower((unsigned char)name[i]);
	strcpy(h.value, value);
	if (version)
		strcpy(h.version, version);
	name_route(&h);
	*out = h;
	return 0;
}

int split_header_parse(const char *word, const char *version, struct split_header *out, char *error)
{
	const char *equals = strchr(word, '=');

	if (!equals)
		return refuse(error, "%s is no header: NAME=VALUE, as x-user-group=beta", word);
	return header_make(word, (size_t)(equals - word), equals + 1, version, out, error);
}

cJSON *split_set_patch(const cJSON *config, const void *arg)
{
	const cJSON *old = words_get(config, "split"), *i;
	const struct split_weights *w = arg;
	cJSON *patch = cJSON_CreateObject(), *split = cJSON_AddObjectToObject(patch, "split");
	bool ok = split != NULL;

	for (unsigned v = 0; v < w->n; v++)
		ok = ok && cJSON_AddNumberToObject(split, w->version[v], (double)w->weight[v]);
	/* in a merge patch null takes away */
	cJSON_ArrayForEach (i, old)
		if (!words_get(split, i->string))
			ok = ok && cJSON_AddNullToObject(split, i->string);
	if (ok)
		return patch;
	cJSON_Delete(patch);
	return NULL;
}

/* Was this route made by split header? One header and nothing else, under the name that we give. */
static bool is_ours(const cJSON *route)
{
	const cJSON *match = words_get(route, "match"), *headers = words_get(match, "headers"),
		    *one = headers ? headers->child : NULL;
	char error[SPLIT_ERROR_MAX];
	struct split_header h;

	return cJSON_IsString(one) && !one->next && !match->child->next &&
	       !header_make(one->string, strlen(one->string), one->valuestring, NULL, &h, error) &&
	       !strcmp(json_str(route, "name", ""), h.route);
}

static bool is_of(const cJSON *route, const struct split_header *h)
{
	return h ? !strcmp(json_str(route, "name", ""), h->route) : is_ours(route);
}

/* Puts into `to` the routes that are not of h (NULL: of any header). How many were; -ENOMEM. */
static int copy_others(const cJSON *routes, const struct split_header *h, cJSON *to)
{
	const cJSON *r;
	int left_out = 0;

	cJSON_ArrayForEach (r, routes) {
		cJSON *copy;

		if (is_of(r, h)) {
			left_out++;
			continue;
		}
		copy = cJSON_Duplicate(r, true);
		if (!copy || !cJSON_AddItemToArray(to, copy)) {
			cJSON_Delete(copy);
			return -ENOMEM;
		}
	}
	return left_out;
}

static bool set_member(cJSON *object, const char *key, cJSON *v)
{
	cJSON_DeleteItemFromObjectCaseSensitive(object, key);
	if (v && cJSON_AddItemToObject(object, key, v))
		return true;
	cJSON_Delete(v);
	return false;
}

static cJSON *header_route(const cJSON *routes, const struct split_header *h)
{
	cJSON *route = NULL, *match = cJSON_CreateObject(), *split = cJSON_CreateObject();
	const cJSON *r;
	bool ok;

	cJSON_ArrayForEach (r, routes)
		if (!route && is_of(r, h))
			route = cJSON_Duplicate(r, true);
	if (!route)
		route = cJSON_CreateObject();
	ok = cJSON_AddStringToObject(cJSON_AddObjectToObject(match, "headers"), h->name,
				     h->value) &&
	     cJSON_AddNumberToObject(split, h->version, 100);
	ok = set_member(route, "name", cJSON_CreateString(h->route)) && ok;
	ok = set_member(route, "match", match) && ok;
	ok = set_member(route, "split", split) && ok;
	if (ok)
		return route;
	cJSON_Delete(route);
	return NULL;
}

cJSON *split_header_patch(const cJSON *config, const void *arg)
{
	const cJSON *old = words_get(config, "routes");
	cJSON *patch = cJSON_CreateObject(), *routes = cJSON_AddArrayToObject(patch, "routes"),
	      *route = header_route(old, arg);

	if (!route || !cJSON_AddItemToArray(routes, route)) {
		cJSON_Delete(route);
		cJSON_Delete(patch);
		return NULL;
	}
	if (copy_others(old, arg, routes) >= 0)
		return patch;
	cJSON_Delete(patch);
	return NULL;
}

cJSON *split_clear_patch(const cJSON *config, const void *header)
{
	cJSON *patch = cJSON_CreateObject(), *routes = cJSON_CreateArray();
	int left_out = copy_others(words_get(config, "routes"), header, routes);
	bool ok = patch && left_out >= 0;

	if (!header && words_get(config, "split"))
		ok = ok && cJSON_AddNullToObject(patch, "split");
	if (left_out > 0 && !cJSON_GetArraySize(routes)) {
		ok = ok && cJSON_AddNullToObject(patch, "routes");
	} else if (left_out > 0 && ok) {
		ok = cJSON_AddItemToObject(patch, "routes", routes);
		routes = ok ? NULL : routes;
	}
	cJSON_Delete(routes);
	if (ok)
		return patch;
	cJSON_Delete(patch);
	return NULL;
}
