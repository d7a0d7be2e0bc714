/* SPDX-License-Identifier: Apache-2.0 */
/* See schema.h. */
#include "ctl/meshd/schema.h"
#include "lib/clock.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* e->path holds the path of the value in hand during the walk; it is cut back on the way up. */
static size_t path_push(struct schema_error *e, const char *fmt, const char *key, int index)
{
	size_t len = strlen(e->path), room = sizeof(e->path) - len;

	if (key)
		snprintf(e->path + len, room, fmt, key);
	else
		snprintf(e->path + len, room, fmt, index);
	return len;
}

static size_t path_key(struct schema_error *e, const char *key)
{
	return path_push(e, e->path[0] ? ".%s" : "%s", key, 0);
}

int schema_fail(struct schema_error *e, const char *sub, const char *fmt, ...)
{
	va_list ap;
	size_t len = strlen(e->path);

	if (!len && *sub == '.')
		sub++;
	snprintf(e->path + len, sizeof(e->path) - len, "%s", sub);
	va_start(ap, fmt);
	vsnprintf(e->text, sizeof(e->text), fmt, ap);
	va_end(ap);
	return -EINVAL;
}

static const struct schema_field *field_find(const struct schema *s, const char *key)
{
	for (const struct schema_field *f = s->fields; f->name; f++)
		if (!strcmp(f->name, key))
			return f;
	return NULL;
}

static int walk(const struct schema *s, const cJSON *v, struct schema_error *e);

static int walk_object(const struct schema *s, const cJSON *v, struct schema_error *e)
{
	unsigned seen = 0;
	const cJSON *m;

	if (!cJSON_IsObject(v))
		return schema_fail(e, "", "must be an object");
	cJSON_ArrayForEach (m, v) {
		const struct schema_field *f = field_find(s, m->string);
		size_t len = path_key(e, m->string);

		if (!f && !s->open)
			return schema_fail(e, "", "unknown key");
		if (f && seen & 1u << (f - s->fields))
			return schema_fail(e, "", "given twice");
		if (f && !(s->open && cJSON_IsNull(m))) {
			seen |= 1u << (f - s->fields);
			if (walk(f->form, m, e))
				return -EINVAL;
		}
		e->path[len] = '\0';
	}
	for (const struct schema_field *f = s->fields; f->name; f++) {
		if (f->required && !(seen & 1u << (f - s->fields))) {
			path_key(e, f->name);
			return schema_fail(e, "", "is missing");
		}
	}
	return 0;
}

static int walk_items(const struct schema *s, const cJSON *v, struct schema_error *e)
{
	int n = cJSON_GetArraySize(v), i = 0;
	bool map = s->kind == SCHEMA_MAP;
	const cJSON *m;

	if (map ? !cJSON_IsObject(v) : !cJSON_IsArray(v))
		return schema_fail(e, "", map ? "must be an object" : "must be a list");
	if (n < s->min || n > s->max)
		return schema_fail(e, "", "must have %g to %g entries", s->min, s->max);
	cJSON_ArrayForEach (m, v) {
		size_t len = map ? path_key(e, m->string) : path_push(e, "[%d]", NULL, i);

		if (map && !s->valid(m->string))
			return schema_fail(e, "", "key must be %s", s->what);
		if (map && cJSON_GetObjectItemCaseSensitive(v, m->string) != m)
			return schema_fail(e, "", "given twice");
		if (walk(s->item, m, e))
			return -EINVAL;
		e->path[len] = '\0';
		i++;
	}
	return 0;
}

static int walk_number(const struct schema *s, const cJSON *v, struct schema_error *e)
{
	bool integer = s->kind == SCHEMA_INTEGER;
	double d = v->valuedouble;

	if (!cJSON_IsNumber(v) || !isfinite(d) || (integer && d != floor(d)))
		return schema_fail(e, "", "must be %s", integer ? "a whole number" : "a number");
	if (d < s->min || d > s->max)
		return schema_fail(e, "", "must be between %.10g and %.10g", s->min, s->max);
	return 0;
}

static int walk_duration(const struct schema *s, const cJSON *v, struct schema_error *e)
{
	char least[32], most[32];
	uint64_t ms;

	if (!cJSON_IsString(v) || duration_parse(v->valuestring, &ms))
		return schema_fail(e, "", "must be a duration such as \"500ms\" or \"1h30m\"");
	if ((double)ms < s->min || (double)ms > s->max)
		return schema_fail(e, "", "must be between %s and %s",
				   duration_format((uint64_t)s->min, least),
				   duration_format((uint64_t)s->max, most));
	return 0;
}

static int walk_word(const struct schema *s, const cJSON *v, struct schema_error *e)
{
	char all[sizeof(e->text) - 32] = "";
	size_t len = 0;

	for (const char *const *w = s->words; *w; w++) {
		if (cJSON_IsString(v) && !strcmp(*w, v->valuestring))
			return 0;
		if (len < sizeof(all))
			len += (size_t)snprintf(all + len, sizeof(all) - len, "%s%s",
						len ? ", " : "", *w);
	}
	return schema_fail(e, "", "must be one of %s", all);
}

/* C0, DEL and C1 (U+0080 to U+009F): names and versions end up in logs, tables and labels. The text
 * is well-formed UTF-8, see strict_parse(). */
static bool has_control(const char *s)
{
	const unsigned char *p = (const unsigned char *)s;

	for (; *p; p++)
		if (*p < 0x20 || *p == 0x7f || (*p == 0xc2 && p[1] < 0xa0))
			return true;
	return false;
}

static int walk_text(const struct schema *s, const cJSON *v, struct schema_error *e)
{
	size_t len;

	if (!cJSON_IsString(v))
		return schema_fail(e, "", "must be a string");
	len = strlen(v->valuestring);
	if ((double)len < s->min || (double)len > s->max)
		return schema_fail(e, "", "must be %g to %g bytes long", s->min, s->max);
	if (has_control(v->valuestring))
		return schema_fail(e, "", "must not have control characters");
	if (s->valid && !s->valid(v->valuestring))
		return schema_fail(e, "", "must be %s", s->what);
	return 0;
}

static int walk_bool(const cJSON *v, struct schema_error *e)
{
	return cJSON_IsBool(v) ? 0 : schema_fail(e, "", "must be true or false");
}

static int walk(const struct schema *s, const cJSON *v, struct schema_error *e)
{
	int r = 0;

	switch (s->kind) {
	case SCHEMA_OBJECT:
		r = walk_object(s, v, e);
		break;
	case SCHEMA_LIST:
	case SCHEMA_MAP:
		r = walk_items(s, v, e);
		break;
	case SCHEMA_BOOL:
		r = walk_bool(v, e);
		break;
	case SCHEMA_INTEGER:
	case SCHEMA_NUMBER:
		r = walk_number(s, v, e);
		break;
	case SCHEMA_DURATION:
		r = walk_duration(s, v, e);
		break;
	case SCHEMA_WORD:
		r = walk_word(s, v, e);
		break;
	case SCHEMA_TEXT:
		r = walk_text(s, v, e);
		break;
	}
	return r || !s->check ? r : s->check(v, e);
}

int schema_check(const struct schema *s, const cJSON *v, struct schema_error *e)
{
	e->path[0] = e->text[0] = '\0';
	return walk(s, v, e);
}

int schema_fill(const struct schema *s, cJSON *v)
{
	for (const struct schema_field *f = s->fields; f->name; f++) {
		cJSON *m = cJSON_GetObjectItemCaseSensitive(v, f->name);

		if (!m && f->fallback) {
			m = cJSON_Parse(f->fallback);
			if (!m || !cJSON_AddItemToObject(v, f->name, m)) {
				cJSON_Delete(m);
				return -ENOMEM;
			}
		}
		if (m && f->inside && schema_fill(f->form, m))
			return -ENOMEM;
	}
	return 0;
}
