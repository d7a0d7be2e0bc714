/* SPDX-License-Identifier: Apache-2.0 */
/* Changes to the configuration of one service; see config.h. Called by the API. */
#include "ctl/meshd/config.h"
#include "lib/json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PATCH_MEMBERS_MAX 256

struct current {
	cJSON *value; /* NULL: not configured */
	uint64_t revision;
};

static int current_load(struct store *s, const char *service, struct current *c)
{
	char *text;
	int r = store_config_get(s, service, &text, &c->revision);

	if (r)
		return r == -ENOENT ? 0 : r;
	c->value = json_parse(text, strlen(text), NULL);
	free(text);
	return c->value ? 0 : -ENOMEM;
}

static bool holds(const struct config_request *q, const struct current *c)
{
	return !(q->must_exist && !c->value) && !(q->must_be_new && c->value) &&
	       !(q->must_be && q->must_be != c->revision);
}

static int value_from_history(struct store *s, const struct config_request *q, cJSON **out)
{
	char *text;
	int r = store_history_get(s, q->service, q->to_revision, &text);

	if (r)
		return r;
	*out = json_parse(text, strlen(text), NULL);
	free(text);
	return *out ? 0 : -ENOMEM;
}

/* Merging is quadratic in the members of an object; no valid one has nearly so many. */
static bool patch_small(const cJSON *v)
{
	const cJSON *m;

	if (!cJSON_IsObject(v))
		return true;
	if (cJSON_GetArraySize(v) > PATCH_MEMBERS_MAX)
		return false;
	cJSON_ArrayForEach (m, v)
		if (!patch_small(m))
			return false;
	return true;
}

/* The value as it will be; NULL in *out for a deletion. */
static int value_make(struct store *s, const struct config_request *q, const struct current *c,
		      cJSON **out, struct schema_error *e)
{
	cJSON *base;

	switch (q->verb) {
	case CONFIG_DELETE:
		return c->value ? 0 : -ENOENT;
	case CONFIG_ROLLBACK:
		return value_from_history(s, q, out);
	case CONFIG_PUT:
	case CONFIG_PATCH:
		break;
	}
	if (!cJSON_IsObject(q->body))
		return schema_fail(e, "", "must be an object");
	if (q->verb == CONFIG_PATCH && !patch_small(q->body))
		return schema_fail(e, "", "an object in it has more than %d members",
				   PATCH_MEMBERS_MAX);
	if (q->verb == CONFIG_PUT) {
		*out = cJSON_Duplicate(q->body, true);
	} else {
		base = c->value ? cJSON_Duplicate(c->value, true) : cJSON_CreateObject();
		*out = base ? json_merge_patch(base, q->body) : NULL;
		cJSON_Delete(base);
	}
	return *out ? 0 : -ENOMEM;
}

/* The service is named by the address; the body may repeat it, but not say another. */
static int value_name(cJSON *v, const char *service, struct schema_error *e)
{
	const cJSON *given = cJSON_GetObjectItemCaseSensitive(v, "service");
	cJSON *own;

	if (cJSON_IsString(given) && strcmp(given->valuestring, service))
		return schema_fail(e, ".service", "must be \"%s\", as in the address", service);
	if (given)
		return 0;
	own = cJSON_CreateString(service);
	if (!own)
		return -ENOMEM;
	cJSON_AddItemToObject(v, "service", own);
	if (v->child != own) { /* first, for people who read it */
		cJSON_DetachItemViaPointer(v, own);
		cJSON_InsertItemInArray(v, 0, own);
	}
	return 0;
}

static bool same(const cJSON *a, const cJSON *b)
{
	return a && b ? cJSON_Compare(a, b, true) : a == b;
}

static int value_store(struct store *s, const struct config_request *q, const cJSON *v,
		       uint64_t *revision)
{
	static const char *const actions[] = {"put", "patch", "delete", "rollback"};
	char *text = v ? cJSON_PrintUnformatted(v) : NULL;
	struct store_change change = {
		.service = q->service,
		.text = text,
		.author = q->author,
		.action = actions[q->verb],
		.time_ms = q->time_ms,
	};
	int r = v && !text ? -ENOMEM : store_config_change(s, &change, revision);

	cJSON_free(text);
	return r;
}

int config_apply(struct store *s, const struct config_request *q, struct config_result *out,
		 struct schema_error *e)
{
	struct current c = {0};
	cJSON *v = NULL;
	int r = current_load(s, q->service, &c);

	e->path[0] = e->text[0] = '\0';
	if (!r && !holds(q, &c))
		r = -ESTALE;
	if (!r)
		r = value_make(s, q, &c, &v, e);
	if (!r && v)
		r = value_name(v, q->service, e);
	if (!r && v)
		r = config_check(v, e);
	if (!r && v && q->accept)
		r = q->accept(q->accept_arg, c.value, v);
	if (!r) {
		out->changed = !same(c.value, v);
		out->revision = c.revision;
		if (out->changed && !q->dry_run)
			r = value_store(s, q, v, &out->revision);
	}
	if (!r) {
		out->value = v;
		v = NULL;
	}
	cJSON_Delete(v);
	cJSON_Delete(c.value);
	return r;
}

void config_result_done(struct config_result *r)
{
	cJSON_Delete(r->value);
	r->value = NULL;
}
