/* SPDX-License-Identifier: Apache-2.0 */
/* Handlers of /api/config. */
#include "ctl/meshd/api.h"
#include "ctl/meshd/config.h"
#include "ctl/meshd/versions.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Stored text as a value, with defaults if they are asked for. */
static int value_read(const char *text, bool effective, cJSON **out)
{
	cJSON *v = json_parse(text, strlen(text), NULL);

	if (!v || (effective && config_fill(v))) {
		cJSON_Delete(v);
		return -ENOMEM;
	}
	*out = v;
	return 0;
}

struct listing {
	cJSON *list;
	bool effective;
};

static int list_add(void *arg, const char *service, const char *text, uint64_t revision)
{
	struct listing *l = arg;
	cJSON *v, *entry = cJSON_CreateObject();
	int r = value_read(text, l->effective, &v);

	if (!r && entry && cJSON_AddStringToObject(entry, "service", service) &&
	    cJSON_AddNumberToObject(entry, "revision", (double)revision) &&
	    cJSON_AddItemToObject(entry, "config", v) && cJSON_AddItemToArray(l->list, entry))
		return 0;
	if (!r && !cJSON_GetObjectItemCaseSensitive(entry, "config"))
		cJSON_Delete(v);
	cJSON_Delete(entry);
	return -ENOMEM;
}

void api_config_list(struct request *r)
{
	struct store *s = r->meshd->store;
	struct listing l = {0};
	cJSON *top;
	int err;

	if (request_flag(r, "effective", &l.effective))
		return;
	top = cJSON_CreateObject();
	cJSON_AddNumberToObject(top, "revision", (double)store_revision(s));
	l.list = cJSON_AddArrayToObject(top, "services");
	err = l.list ? store_config_each(s, list_add, &l) : -ENOMEM;
	if (!err) {
		reply_json(r, 200, top);
		return;
	}
	cJSON_Delete(top);
	api_fail(r, err, NULL);
}

void api_config_get(struct request *r)
{
	uint64_t revision;
	bool effective;
	char *text;
	cJSON *v;
	int err;

	if (request_flag(r, "effective", &effective))
		return;
	err = store_config_get(r->meshd->store, r->arg[0], &text, &revision);
	if (err == -ENOENT) {
		reply_error(r, 404, NULL, "service %s has no configuration: the defaults apply",
			    r->arg[0]);
		return;
	}
	if (!err) {
		err = value_read(text, effective, &v);
		free(text);
	}
	if (err) {
		api_fail(r, err, NULL);
		return;
	}
	r->etag = revision;
	reply_json(r, 200, v);
}

/* If-Match: *, or one "N" as GET and PUT give it; If-None-Match: *. */
static int preconditions(struct request *r, struct config_request *q)
{
	const char *match = request_header(r, "If-Match"),
		   *none = request_header(r, "If-None-Match");
	char *end;

	if (none && strcmp(none, "*")) {
		reply_error(r, 400, "If-None-Match", "only * is understood");
		return -EINVAL;
	}
	q->must_be_new = none != NULL;
	if (!match)
		return 0;
	if (!strcmp(match, "*")) {
		q->must_exist = true;
		return 0;
	}
	/* a tag of another form is not ours and cannot match: revision UINT64_MAX never comes */
	q->must_be = match[0] == '"' ? strtoull(match + 1, &end, 10) : 0;
	if (!q->must_be || strcmp(end, "\""))
		q->must_be = UINT64_MAX;
	return 0;
}

/* warnings is taken over. */
static void answer(struct request *r, const struct config_request *q, struct config_result *result,
		   cJSON *warnings)
{
	cJSON *v = cJSON_CreateObject();

	cJSON_AddBoolToObject(v, "success", true);
	cJSON_AddStringToObject(v, "service", q->service);
	cJSON_AddNumberToObject(v, "revision", (double)result->revision);
	cJSON_AddBoolToObject(v, "changed", result->changed);
	if (q->dry_run) {
		cJSON_AddBoolToObject(v, "dryRun", true);
		cJSON_AddItemToObject(v, "config",
				      result->value ? result->value : cJSON_CreateNull());
		result->value = NULL;
	} else if (q->verb != CONFIG_DELETE) {
		r->etag = result->revision;
	}
	if (!cJSON_GetArraySize(warnings) || !cJSON_AddItemToObject(v, "warnings", warnings))
		cJSON_Delete(warnings);
	reply_json(r, 200, v);
}

static int accept_versions(void *arg, const cJSON *was, const cJSON *is)
{
	struct versions *v = arg;

	versions_check(v, json_str(is, "service", ""), was, is);
	return v->field[0] ? -EPERM : 0;
}

static void refuse(struct request *r, const struct config_request *q, int err,
		   const struct schema_error *e, const struct versions *v)
{
	if (err == -EIO)
		log_error("cannot store a configuration: %s", store_error(r->meshd->store));
	if (err == -ENOENT)
		reply_error(r, 404, NULL, "service %s has no such %s", q->service,
			    q->verb == CONFIG_ROLLBACK ? "revision" : "configuration");
	else if (err == -EPERM)
		reply_error(r, 409, v->field, "%s", v->refusal);
	else
		api_fail(r, err, e);
}

static void apply(struct request *r, struct config_request *q)
{
	struct config_result result = {0};
	struct versions v = {0};
	struct endpoint *all = NULL;
	struct schema_error e;
	char author[96];
	int err;

	if (request_flag(r, "dryRun", &q->dry_run) || request_flag(r, "force", &v.force) ||
	    preconditions(r, q))
		return;
	q->service = r->arg[0];
	q->author = request_author(r, author, sizeof(author));
	q->time_ms = clock_wall_ms();
	q->accept = accept_versions;
	q->accept_arg = &v;
	v.force = v.force || q->verb == CONFIG_ROLLBACK; /* it was right once, and is urgent now */
	v.warnings = cJSON_CreateArray();
	err = v.n = registry_endpoints(r->meshd->registry, r->meshd->loop->now_ns / 1000000, &all);
	v.all = all;
	if (err >= 0)
		err = config_apply(r->meshd->store, q, &result, &e);
	if (err) {
		refuse(r, q, err, &e, &v);
		cJSON_Delete(v.warnings);
	} else {
		answer(r, q, &result, v.warnings);
		config_result_done(&result);
		meshd_changed(r->meshd);
	}
	free(all);
}

static void apply_body(struct request *r, enum config_verb verb)
{
	cJSON *body = request_json(r);
	struct config_request q = {.verb = verb, .body = body};

	if (body)
		apply(r, &q);
	cJSON_Delete(body);
}

void api_config_put(struct request *r)
{
	apply_body(r, CONFIG_PUT);
}

void api_config_patch(struct request *r)
{
	apply_body(r, CONFIG_PATCH);
}

void api_config_delete(struct request *r)
{
	struct config_request q = {.verb = CONFIG_DELETE};

	apply(r, &q);
}

void api_config_rollback(struct request *r)
{
	struct config_request q = {.verb = CONFIG_ROLLBACK};

	if (request_number(r, "revision", 0, &q.to_revision))
		return;
	if (q.to_revision)
		apply(r, &q);
	else
		reply_error(r, 400, "revision", "say which: ?revision=N, see history");
}

static int history_add(void *arg, const struct store_change *c, uint64_t revision)
{
	cJSON *entry = cJSON_CreateObject(), *v = NULL;
	char time[CLOCK_ISO_MAX];

	if (!cJSON_AddNumberToObject(entry, "revision", (double)revision) ||
	    !cJSON_AddStringToObject(entry, "time", clock_iso(c->time_ms, time)) ||
	    !cJSON_AddStringToObject(entry, "author", c->author) ||
	    !cJSON_AddStringToObject(entry, "action", c->action) ||
	    !cJSON_AddItemToArray(arg, entry)) {
		cJSON_Delete(entry);
		return -ENOMEM;
	}
	v = c->text ? json_parse(c->text, strlen(c->text), NULL) : cJSON_CreateNull();
	return v && cJSON_AddItemToObject(entry, "config", v) ? 0 : -ENOMEM;
}

void api_config_history(struct request *r)
{
	cJSON *top = cJSON_CreateObject(), *list;
	int err;

	cJSON_AddStringToObject(top, "service", r->arg[0]);
	list = cJSON_AddArrayToObject(top, "history");
	err = list ? store_history_each(r->meshd->store, r->arg[0], history_add, list) : -ENOMEM;
	if (!err && cJSON_GetArraySize(list)) {
		reply_json(r, 200, top);
		return;
	}
	cJSON_Delete(top);
	if (err)
		api_fail(r, err, NULL);
	else
		reply_error(r, 404, NULL, "service %s has never been configured", r->arg[0]);
}
