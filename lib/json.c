/* SPDX-License-Identifier: Apache-2.0 */
/* See json.h. */
#include "lib/json.h"
#include "lib/buf.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define CANONICAL_MAX (64u << 20)

/* cJSON's strings end at a NUL: a \u0000 would silently cut one short, so that two names could look
 * the same. */
static const char *find_nul_escape(const char *text, size_t len)
{
	for (size_t i = 0; i + 1 < len; i++) {
		if (text[i] != '\\')
			continue;
		if (len - i >= 6 && !memcmp(text + i, "\\u0000", 6))
			return text + i;
		i++; /* the escaped character */
	}
	return NULL;
}

cJSON *json_parse(const char *text, size_t len, size_t *where)
{
	const char *end = text, *nul = find_nul_escape(text, len);
	cJSON *v = nul ? NULL : cJSON_ParseWithLengthOpts(text, len, &end, 0);

	if (nul)
		end = nul;
	while (v && end < text + len && strchr(" \t\r\n", *end) && *end)
		end++;
	if (v && end != text + len) {
		cJSON_Delete(v);
		v = NULL;
	}
	if (!v && where)
		*where = (size_t)(end - text);
	return v;
}

const char *json_str(const cJSON *obj, const char *key, const char *fallback)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(obj, key);

	return cJSON_IsString(v) ? v->valuestring : fallback;
}

double json_num(const cJSON *obj, const char *key, double fallback)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(obj, key);

	return cJSON_IsNumber(v) ? v->valuedouble : fallback;
}

int json_bool(const cJSON *obj, const char *key, int fallback)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(obj, key);

	return cJSON_IsBool(v) ? cJSON_IsTrue(v) : fallback;
}

/* Puts v under key, in place of what is there. Takes v over; false without memory (v may be NULL
 * then). */
static bool put(cJSON *obj, const char *key, cJSON *v)
{
	if (v && cJSON_GetObjectItemCaseSensitive(obj, key)) {
		if (cJSON_ReplaceItemInObjectCaseSensitive(obj, key, v))
			return true;
	} else if (v && cJSON_AddItemToObject(obj, key, v)) {
		return true;
	}
	cJSON_Delete(v);
	return false;
}

cJSON *json_merge_patch(const cJSON *target, const cJSON *patch)
{
	const cJSON *member;
	cJSON *out;

	if (!cJSON_IsObject(patch))
		return cJSON_Duplicate(patch, 1);
	out = cJSON_IsObject(target) ? cJSON_Duplicate(target, 1) : cJSON_CreateObject();
	if (!out)
		return NULL;
	cJSON_ArrayForEach (member, patch) {
		const cJSON *old = cJSON_GetObjectItemCaseSensitive(out, member->string);

		if (cJSON_IsNull(member)) {
			cJSON_DeleteItemFromObjectCaseSensitive(out, member->string);
		} else if (!put(out, member->string, json_merge_patch(old, member))) {
			cJSON_Delete(out);
			return NULL;
		}
	}
	return out;
}

static int by_key(const void *a, const void *b)
{
	return strcmp((*(const cJSON *const *)a)->string, (*(const cJSON *const *)b)->string);
}

static void add_value(struct buf *b, const cJSON *v);

static void add_object(struct buf *b, const cJSON *v)
{
	size_t n = (size_t)cJSON_GetArraySize(v), i = 0;
	const cJSON **members = calloc(n ? n : 1, sizeof(*members)), *member;

	if (!members) {
		b->failed = true;
		return;
	}
	cJSON_ArrayForEach (member, v)
		members[i++] = member;
	qsort(members, n, sizeof(*members), by_key);
	for (i = 0; i < n; i++) {
		buf_char(b, i ? ',' : '{');
		buf_json(b, members[i]->string, strlen(members[i]->string));
		buf_char(b, ':');
		add_value(b, members[i]);
	}
	buf_str(b, n ? "}" : "{}");
	free(members);
}

static void add_number(struct buf *b, double d)
{
	if (!isfinite(d))
		buf_str(b, "null");
	else if (fabs(d) < 1e15 && d == (double)(long long)d)
		buf_printf(b, "%.0f", d == 0 ? 0.0 : d); /* no "-0" */
	else
		buf_printf(b, "%.17g", d);
}

static void add_value(struct buf *b, const cJSON *v)
{
	const cJSON *item;

	if (cJSON_IsObject(v)) {
		add_object(b, v);
	} else if (cJSON_IsArray(v)) {
		buf_char(b, '[');
		cJSON_ArrayForEach (item, v) {
			if (item != v->child)
				buf_char(b, ',');
			add_value(b, item);
		}
		buf_char(b, ']');
	} else if (cJSON_IsString(v)) {
		buf_json(b, v->valuestring, strlen(v->valuestring));
	} else if (cJSON_IsNumber(v)) {
		add_number(b, v->valuedouble);
	} else {
		buf_str(b, cJSON_IsTrue(v) ? "true" : cJSON_IsFalse(v) ? "false" : "null");
	}
}

char *json_canonical(const cJSON *v)
{
	struct buf b;

	buf_init(&b, CANONICAL_MAX);
	add_value(&b, v);
	return buf_take(&b);
}
