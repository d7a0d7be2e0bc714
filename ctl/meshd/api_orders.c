/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Handlers of /api/faults, /api/drain and /api/breakers: what people order by hand. Each order is
 * logged with who gave it, and wakes the agents.
 */
#include "ctl/meshd/api.h"
#include "lib/log.h"

#include <errno.h>
#include <string.h>

static uint64_t now_ms(const struct request *r)
{
	return r->meshd->loop->now_ns / 1000000;
}

static cJSON *success(const char *service)
{
	cJSON *v = cJSON_CreateObject();

	cJSON_AddBoolToObject(v, "success", true);
	if (service)
		cJSON_AddStringToObject(v, "service", service);
	return v;
}

/* Takes the list over; NULL: no memory. */
static void reply_list(struct request *r, const char *key, cJSON *list)
{
	cJSON *top = list ? cJSON_CreateObject() : NULL;

	if (top && !cJSON_AddItemToObject(top, key, list)) {
		cJSON_Delete(top);
		top = NULL;
	}
	if (!top)
		cJSON_Delete(list);
	reply_json(r, 200, top);
}

/* --- faults -------------------------------------------------------------------------- */

void api_faults(struct request *r)
{
	reply_list(r, "faults", faults_list(&r->meshd->faults, now_ms(r)));
}

void api_fault_get(struct request *r)
{
	cJSON *v;
	int err = faults_get(&r->meshd->faults, r->arg[0], now_ms(r), &v);

	if (err == -ENOENT)
		reply_error(r, 404, NULL, "service %s has no fault injected by hand", r->arg[0]);
	else
		reply_json(r, 200, err ? NULL : v);
}

static void log_fault(struct request *r, const cJSON *fault)
{
	char *text = cJSON_PrintUnformatted(fault), author[96];

	log_info("by hand, %s: fault %s", request_author(r, author, sizeof(author)),
		 text ? text : r->arg[0]);
	cJSON_free(text);
}

void api_fault_put(struct request *r)
{
	struct meshd *m = r->meshd;
	struct schema_error e;
	cJSON *body = request_json(r), *v = NULL;
	int err;

	if (!body)
		return;
	if (!api_knows_service(r, r->arg[0])) {
		cJSON_Delete(body);
		return;
	}
	err = faults_put(&m->faults, r->arg[0], body, now_ms(r), &e);
	cJSON_Delete(body);
	if (err) {
		api_fail(r, err, &e);
		return;
	}
	err = faults_get(&m->faults, r->arg[0], now_ms(r), &v);
	if (!err) {
		log_fault(r, v);
		cJSON_AddBoolToObject(v, "success", true);
		cJSON_AddNumberToObject(v, "serial", (double)m->serial + 1);
	}
	reply_json(r, 200, v);
	meshd_ordered(m);
}

/* Of one service, or of all. */
static void fault_delete(struct request *r, const char *service)
{
	struct meshd *m = r->meshd;
	unsigned n = faults_delete(&m->faults, service);
	char author[96];
	cJSON *v;

	if (!n && service && !api_knows_service(r, service))
		return;
	v = success(service);
	cJSON_AddNumberToObject(v, "removed", n);
	reply_json(r, 200, v);
	if (!n)
		return;
	log_info("by hand, %s: faults of %s removed", request_author(r, author, sizeof(author)),
		 service ? service : "all services");
	meshd_ordered(m);
}

void api_fault_delete(struct request *r)
{
	fault_delete(r, r->arg[0]);
}

void api_faults_delete(struct request *r)
{
	fault_delete(r, NULL);
}

/* --- drains -------------------------------------------------------------------------- */

void api_drains(struct request *r)
{
	reply_list(r, "drains", drains_list(&r->meshd->drains));
}

static void drain_answer(struct request *r, bool changed, const char *what)
{
	cJSON *v = success(r->arg[0]);
	char author[96];

	cJSON_AddStringToObject(v, "endpoint", r->arg[1]);
	cJSON_AddBoolToObject(v, "changed", changed);
	reply_json(r, 200, v);
	if (!changed)
		return;
	log_info("by hand, %s: %s %s of %s", request_author(r, author, sizeof(author)), what,
		 r->arg[1], r->arg[0]);
	meshd_ordered(r->meshd);
}

void api_drain_post(struct request *r)
{
	bool changed;
	char author[96];
	int err;

	if (!api_knows_endpoint(r, r->arg[0], r->arg[1]))
		return;
	request_author(r, author, sizeof(author));
	err = drains_add(&r->meshd->drains, r->arg[0], r->arg[1], author, &changed);
	if (err)
		api_fail(r, err, NULL);
	else
		drain_answer(r, changed, "drain");
}

void api_drain_delete(struct request *r)
{
	int err = drains_remove(&r->meshd->drains, r->arg[0], r->arg[1]);

	if (err == -ENOENT) {
		if (api_knows_endpoint(r, r->arg[0], r->arg[1]))
			drain_answer(r, false, "");
	} else if (err) {
		api_fail(r, err, NULL);
	} else {
		drain_answer(r, true, "end of the drain of");
	}
}

/* --- breakers ------------------------------------------------------------------------ */

void api_breakers(struct request *r)
{
	reply_list(r, "breakers", registry_breakers(r->meshd->registry, NULL, now_ms(r)));
}

void api_breaker(struct request *r)
{
	if (api_knows_service(r, r->arg[0]))
		reply_list(r, "breakers",
			   registry_breakers(r->meshd->registry, r->arg[0], now_ms(r)));
}

/* What is still held can be let go, whether or not the endpoint is there. */
static bool may_order(struct request *r, const char *endpoint)
{
	if (hands_held(&r->meshd->hands, r->arg[0], endpoint))
		return true;
	return endpoint ? api_knows_endpoint(r, r->arg[0], endpoint)
			: api_knows_service(r, r->arg[0]);
}

static void breaker_order(struct request *r, enum hand_action action)
{
	const char *endpoint = request_query(r, "endpoint");
	struct meshd *m = r->meshd;
	char author[96];
	cJSON *v;

	if (endpoint && !*endpoint) {
		reply_error(r, 400, "endpoint", "must be the id of an endpoint");
		return;
	}
	if (!may_order(r, endpoint))
		return;
	if (hands_add(&m->hands, r->arg[0], endpoint, action, m->serial + 1)) {
		reply_error(r, 507, NULL,
			    "%d breakers are held by hand already: reset one of them first",
			    HANDS_MAX);
		return;
	}
	v = success(r->arg[0]);
	cJSON_AddItemToObject(v, "endpoint",
			      endpoint ? cJSON_CreateString(endpoint) : cJSON_CreateNull());
	cJSON_AddStringToObject(v, "action", hand_word(action));
	cJSON_AddNumberToObject(v, "serial", (double)m->serial + 1);
	reply_json(r, 200, v);
	log_info("by hand, %s: breaker of %s%s%s: %s", request_author(r, author, sizeof(author)),
		 r->arg[0], endpoint ? " at " : "", endpoint ? endpoint : "", hand_word(action));
	meshd_ordered(m);
}

void api_breaker_open(struct request *r)
{
	breaker_order(r, HAND_OPEN);
}

void api_breaker_close(struct request *r)
{
	breaker_order(r, HAND_CLOSE);
}

void api_breaker_reset(struct request *r)
{
	breaker_order(r, HAND_RESET);
}
