/* SPDX-License-Identifier: Apache-2.0 */
/* Handlers of /api/services, /api/register and /api/agents. */
#include "ctl/meshd/api.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint64_t now_ms(const struct request *r)
{
	return r->meshd->loop->now_ns / 1000000;
}

static cJSON *endpoint_json(const struct endpoint *e)
{
	cJSON *v = cJSON_CreateObject(), *ports;

	cJSON_AddStringToObject(v, "id", e->id);
	cJSON_AddStringToObject(v, "address", e->address);
	cJSON_AddNumberToObject(v, "port", e->port);
	cJSON_AddStringToObject(v, "version", e->version);
	cJSON_AddNumberToObject(v, "weight", e->weight);
	cJSON_AddStringToObject(v, "status", e->status);
	cJSON_AddStringToObject(v, "node", e->node);
	ports = e->ports ? cJSON_Duplicate(e->ports, true) : cJSON_CreateIntArray(&e->port, 1);
	if (ports && !cJSON_AddItemToObject(v, "ports", ports))
		cJSON_Delete(ports);
	cJSON_AddStringToObject(v, "cgroup", e->cgroup);
	if (cJSON_AddStringToObject(v, "source", e->discovered ? "discovered" : "registered"))
		return v;
	cJSON_Delete(v);
	return NULL;
}

/* What is configured, else what an agent says, else auto. */
static char *protocol_of(struct meshd *m, const struct endpoint *e, size_t n)
{
	uint64_t revision;
	const char *found = "auto";
	cJSON *v = NULL;
	char *text, *copy;

	if (!store_config_get(m->store, e->service, &text, &revision)) {
		v = json_parse(text, strlen(text), NULL);
		found = json_str(v, "protocol", "auto");
		free(text);
	}
	for (size_t i = 0; i < n && !strcmp(found, "auto"); i++)
		found = e[i].protocol;
	copy = strdup(found);
	cJSON_Delete(v);
	return copy;
}

/* The service of n endpoints that stand together. NULL without memory. */
static cJSON *service_json(struct meshd *m, const struct endpoint *e, size_t n)
{
	cJSON *v = cJSON_CreateObject(), *list;
	char *protocol = protocol_of(m, e, n);
	const char *status = "unhealthy";
	bool ok;

	for (size_t i = 0; i < n; i++)
		if (!strcmp(e[i].status, "healthy"))
			status = "healthy";
	ok = protocol && cJSON_AddStringToObject(v, "name", e->service) &&
	     cJSON_AddStringToObject(v, "status", status) &&
	     cJSON_AddStringToObject(v, "protocol", protocol) &&
	     (list = cJSON_AddArrayToObject(v, "endpoints"));
	for (size_t i = 0; i < n && ok; i++)
		ok = cJSON_AddItemToArray(list, endpoint_json(&e[i]));
	free(protocol);
	if (ok)
		return v;
	cJSON_Delete(v);
	return NULL;
}

static size_t same_service(const struct endpoint *e, size_t n)
{
	size_t i = 1;

	while (i < n && !strcmp(e[i].service, e[0].service))
		i++;
	return i;
}

void api_services(struct request *r)
{
	cJSON *top = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(top, "services");
	struct endpoint *all;
	int n = registry_endpoints(r->meshd->registry, now_ms(r), &all);
	bool ok = list && n >= 0;

	for (size_t i = 0, k; ok && i < (size_t)n; i += k) {
		k = same_service(all + i, (size_t)n - i);
		ok = cJSON_AddItemToArray(list, service_json(r->meshd, all + i, k));
	}
	if (n >= 0)
		free(all);
	if (!ok) {
		cJSON_Delete(top);
		top = NULL;
	}
	reply_json(r, 200, top);
}

void api_service(struct request *r)
{
	struct endpoint *all;
	int n = registry_endpoints(r->meshd->registry, now_ms(r), &all);
	size_t i = 0;

	if (n < 0) {
		api_fail(r, n, NULL);
		return;
	}
	while (i < (size_t)n && strcmp(all[i].service, r->arg[0]))
		i++;
	if (i < (size_t)n)
		reply_json(r, 200,
			   service_json(r->meshd, all + i, same_service(all + i, (size_t)n - i)));
	else
		reply_error(r, 404, NULL, "nothing listens as service %s", r->arg[0]);
	free(all);
}

void api_register(struct request *r)
{
	char service[64], instance[64];
	struct meshd *m = r->meshd;
	struct schema_error e;
	bool changed;
	cJSON *v, *body = request_json(r);
	int err;

	if (!body)
		return;
	err = registry_register(m->registry, body, now_ms(r), service, instance, &changed, &e);
	cJSON_Delete(body);
	if (err) {
		api_fail(r, err, &e);
		return;
	}
	v = cJSON_CreateObject();
	cJSON_AddBoolToObject(v, "success", true);
	cJSON_AddStringToObject(v, "service", service);
	cJSON_AddStringToObject(v, "instance", instance);
	cJSON_AddBoolToObject(v, "changed", changed);
	cJSON_AddNumberToObject(v, "revision", (double)store_revision(m->store));
	reply_json(r, 200, v);
	meshd_changed(m);
}

static void reply_success(struct request *r)
{
	cJSON *v = cJSON_CreateObject();

	cJSON_AddBoolToObject(v, "success", true);
	cJSON_AddNumberToObject(v, "revision", (double)store_revision(r->meshd->store));
	reply_json(r, 200, v);
}

void api_deregister(struct request *r)
{
	int err = registry_deregister(r->meshd->registry, r->arg[0], r->arg[1]);

	if (err == -ENOENT)
		reply_error(r, 404, NULL, "%s of service %s is not registered by hand", r->arg[1],
			    r->arg[0]);
	else if (err)
		api_fail(r, err, NULL);
	else
		reply_success(r);
	meshd_changed(r->meshd);
}

void api_agents(struct request *r)
{
	reply_json(r, 200, registry_agents(r->meshd->registry, now_ms(r)));
}

void api_agent_put(struct request *r)
{
	struct schema_error e;
	cJSON *state = request_json(r);
	bool restarted;
	int err;

	if (!state)
		return;
	restarted = registry_agent_is_another(r->meshd->registry, r->arg[0], state);
	err = registry_agent_put(r->meshd->registry, r->arg[0], state, now_ms(r), clock_wall_ms(),
				 &e);
	if (!err && restarted)
		meshd_agent_restarted(r->meshd, r->arg[0]);
	if (err)
		api_fail(r, err, &e);
	else
		reply_success(r);
}

void api_agent_delete(struct request *r)
{
	int err = registry_agent_delete(r->meshd->registry, r->arg[0], request_query(r, "epoch"));

	if (!err)
		meshd_agent_restarted(r->meshd, r->arg[0]);
	if (err == -ENOENT)
		reply_error(r, 404, NULL, "no agent of that node");
	else if (err == -ESTALE)
		reply_error(r, 409, "epoch", "another agent process has taken over that node");
	else
		reply_success(r);
}
