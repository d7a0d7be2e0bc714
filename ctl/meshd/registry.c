/* SPDX-License-Identifier: Apache-2.0 */
/* See registry.h. The forms of what comes in are in registry_forms.c. */
#include "ctl/meshd/registry_forms.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/weight.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct agent {
	struct agent *next;
	char node[64];
	cJSON *state; /* valid by registry_agent_form */
	uint64_t seen_ms, seen_wall_ms;
};

struct registration {
	struct registration *next;
	char service[64], instance[64];
	cJSON *value;	     /* valid by registry_register_form, defaults filled in */
	uint64_t ttl_ms;     /* 0: for ever */
	uint64_t expires_ms; /* with ttl_ms */
};

struct registry {
	struct store *store;
	struct agent *agents; /* by node */
	struct registration *by_hand;
};

static void registration_free(struct registration *g)
{
	cJSON_Delete(g->value);
	free(g);
}

static struct registration **registration_find(struct registry *r, const char *service,
					       const char *instance)
{
	struct registration **at = &r->by_hand;

	while (*at && (strcmp((*at)->service, service) || strcmp((*at)->instance, instance)))
		at = &(*at)->next;
	return at;
}

/* Makes a registration of a valid body, with all defaults filled in. NULL without memory. */
static struct registration *registration_new(const cJSON *body, uint64_t now_ms)
{
	struct registration *g = calloc(1, sizeof(*g));
	char instance[64 + 8];
	const char *given;

	if (!g)
		return NULL;
	g->value = cJSON_Duplicate(body, true);
	if (!g->value || schema_fill(&registry_register_form, g->value))
		goto fail;
	snprintf(g->service, sizeof(g->service), "%s", json_str(body, "name", ""));
	given = json_str(body, "instance", NULL);
	if (!given) { /* a long name is cut so that the port, which tells instances apart, stays */
		snprintf(instance, sizeof(instance), "%.57s-%d", g->service,
			 (int)json_num(body, "port", 0));
		if (!cJSON_AddStringToObject(g->value, "instance", instance))
			goto fail;
		given = instance;
	}
	snprintf(g->instance, sizeof(g->instance), "%.63s", given);
	if (json_str(body, "ttl", NULL) && duration_parse(json_str(body, "ttl", ""), &g->ttl_ms))
		goto fail;
	g->expires_ms = now_ms + g->ttl_ms;
	return g;
fail:
	registration_free(g);
	return NULL;
}

static void registration_insert(struct registry *r, struct registration *g)
{
	struct registration **at = registration_find(r, g->service, g->instance), *old = *at;

	g->next = old ? old->next : NULL;
	*at = g;
	if (old)
		registration_free(old);
}

static int registration_load(void *arg, const char *service, const char *instance,
			     const char *stored)
{
	struct registry *r = ((void **)arg)[0];
	uint64_t now_ms = *(uint64_t *)((void **)arg)[1];
	struct registration *g = NULL;
	struct schema_error e;
	cJSON *v = json_parse(stored, strlen(stored), NULL);

	if (v && schema_check(&registry_register_form, v, &e) == 0)
		g = registration_new(v, now_ms);
	cJSON_Delete(v);
	if (!g)
		return -EIO;
	registration_insert(r, g);
	return 0;
}

int registry_new(struct store *s, uint64_t now_ms, struct registry **out)
{
	struct registry *r = calloc(1, sizeof(*r));
	void *arg[] = {r, &now_ms};
	int err;

	if (!r)
		return -ENOMEM;
	r->store = s;
	err = store_registration_each(s, registration_load, arg);
	if (err)
		registry_free(&r);
	else
		*out = r;
	return err;
}

static void agent_free(struct agent *a)
{
	cJSON_Delete(a->state);
	free(a);
}

void registry_free(struct registry **r)
{
	if (!*r)
		return;
	while ((*r)->agents) {
		struct agent *a = (*r)->agents;

		(*r)->agents = a->next;
		agent_free(a);
	}
	while ((*r)->by_hand) {
		struct registration *g = (*r)->by_hand;

		(*r)->by_hand = g->next;
		registration_free(g);
	}
	free(*r);
	*r = NULL;
}

/* Where the agent is in the list, or belongs. */
static struct agent **agent_place(struct registry *r, const char *node)
{
	struct agent **at = &r->agents;

	while (*at && strcmp((*at)->node, node) < 0)
		at = &(*at)->next;
	return at;
}

static struct agent **agent_find(struct registry *r, const char *node)
{
	struct agent **at = agent_place(r, node);

	return *at && !strcmp((*at)->node, node) ? at : NULL;
}

static struct agent *agent_add(struct registry *r, const char *node)
{
	struct agent **at = agent_place(r, node), *a;

	a = calloc(1, sizeof(*a));
	if (a) {
		snprintf(a->node, sizeof(a->node), "%s", node);
		a->next = *at;
		*at = a;
	}
	return a;
}

static bool agent_live(const struct agent *a, uint64_t now_ms)
{
	return now_ms - a->seen_ms <= REGISTRY_STALE_MS;
}

static unsigned agents_number(const struct registry *r)
{
	unsigned n = 0;

	for (const struct agent *a = r->agents; a; a = a->next)
		n++;
	return n;
}

int registry_agent_put(struct registry *r, const char *node, cJSON *state, uint64_t now_ms,
		       uint64_t wall_ms, struct schema_error *e)
{
	struct agent **at = agent_find(r, node), *a = at ? *at : NULL;
	int err = schema_check(&registry_agent_form, state, e);

	if (!err && !a && agents_number(r) >= REGISTRY_AGENTS_MAX)
		err = -ENOSPC;
	if (!err && !a && !(a = agent_add(r, node)))
		err = -ENOMEM;
	if (err) {
		cJSON_Delete(state);
		return err;
	}
	cJSON_Delete(a->state);
	a->state = state;
	a->seen_ms = now_ms;
	a->seen_wall_ms = wall_ms;
	return 0;
}

bool registry_agent_is_another(struct registry *r, const char *node, const cJSON *state)
{
	struct agent **at = agent_find(r, node);

	return at && strcmp(json_str((*at)->state, "epoch", ""), json_str(state, "epoch", ""));
}

int registry_agent_delete(struct registry *r, const char *node, const char *epoch)
{
	struct agent **at = agent_find(r, node), *a;

	if (!at)
		return -ENOENT;
	a = *at;
	if (epoch && strcmp(epoch, json_str(a->state, "epoch", "")))
		return -ESTALE;
	*at = a->next;
	agent_free(a);
	return 0;
}

static cJSON *agent_json(const struct agent *a, uint64_t now_ms)
{
	char time[CLOCK_ISO_MAX];
	cJSON *v = cJSON_Duplicate(a->state, true);

	if (!v)
		return NULL;
	/* these words are ours, whatever the agent says */
	cJSON_DeleteItemFromObjectCaseSensitive(v, "node");
	cJSON_DeleteItemFromObjectCaseSensitive(v, "lastSeen");
	cJSON_DeleteItemFromObjectCaseSensitive(v, "status");
	if (!cJSON_AddStringToObject(v, "node", a->node) ||
	    !cJSON_AddStringToObject(v, "lastSeen", clock_iso(a->seen_wall_ms, time)) ||
	    !cJSON_AddStringToObject(v, "status", agent_live(a, now_ms) ? "live" : "stale")) {
		cJSON_Delete(v);
		return NULL;
	}
	return v;
}

cJSON *registry_agents(struct registry *r, uint64_t now_ms)
{
	cJSON *top = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(top, "agents");
	bool ok = list != NULL;

	for (const struct agent *a = r->agents; a && ok; a = a->next) {
		cJSON *v = agent_json(a, now_ms);

		ok = v && cJSON_AddItemToArray(list, v);
	}
	if (ok)
		return top;
	cJSON_Delete(top);
	return NULL;
}

/* Not part of the form: what was stored before there were weights may say what it likes there. */
static int weight_check(const cJSON *body, struct schema_error *e)
{
	const cJSON *metadata = cJSON_GetObjectItemCaseSensitive(body, "metadata");
	const char *weight = json_str(metadata, "weight", NULL);

	if (!weight || weight_parse(weight))
		return 0;
	return schema_fail(e, "metadata.weight", "must be %s, as a string", WEIGHT_WHAT);
}

int registry_register(struct registry *r, const cJSON *body, uint64_t now_ms, char *service,
		      char *instance, bool *changed, struct schema_error *e)
{
	struct registration *g, *old;
	char *stored = NULL;
	int err = schema_check(&registry_register_form, body, e);

	err = err ? err : weight_check(body, e);
	if (err)
		return err;
	g = registration_new(body, now_ms);
	if (!g)
		return -ENOMEM;
	old = *registration_find(r, g->service, g->instance);
	*changed = !old || !cJSON_Compare(old->value, g->value, true);
	if (*changed) { /* a mere renewal costs no write */
		stored = cJSON_PrintUnformatted(g->value);
		err = stored ? store_registration_put(r->store, g->service, g->instance, stored)
			     : -ENOMEM;
		cJSON_free(stored);
	}
	if (err) {
		registration_free(g);
		return err;
	}
	snprintf(service, sizeof(g->service), "%s", g->service);
	snprintf(instance, sizeof(g->instance), "%s", g->instance);
	registration_insert(r, g);
	return 0;
}

int registry_deregister(struct registry *r, const char *service, const char *instance)
{
	struct registration **at = registration_find(r, service, instance), *g = *at;
	int err = g ? store_registration_delete(r->store, service, instance) : -ENOENT;

	if (err)
		return err;
	*at = g->next;
	registration_free(g);
	return 0;
}

static const char *registration_version(const struct registration *g)
{
	return json_str(cJSON_GetObjectItemCaseSensitive(g->value, "metadata"), "version", "v1");
}

static int registration_weight(const struct registration *g)
{
	const cJSON *metadata = cJSON_GetObjectItemCaseSensitive(g->value, "metadata");
	uint32_t weight = weight_parse(json_str(metadata, "weight", ""));

	return weight ? (int)weight : WEIGHT_DEFAULT;
}

cJSON *registry_registered(struct registry *r)
{
	cJSON *list = cJSON_CreateArray();
	bool ok = list != NULL;

	for (const struct registration *g = r->by_hand; g && ok; g = g->next) {
		cJSON *v = cJSON_CreateObject();

		ok = v && cJSON_AddItemToArray(list, v) &&
		     cJSON_AddStringToObject(v, "service", g->service) &&
		     cJSON_AddStringToObject(v, "id", g->instance) &&
		     cJSON_AddStringToObject(v, "address", json_str(g->value, "address", "")) &&
		     cJSON_AddNumberToObject(v, "port", json_num(g->value, "port", 0)) &&
		     cJSON_AddStringToObject(v, "version", registration_version(g)) &&
		     cJSON_AddNumberToObject(v, "weight", registration_weight(g));
	}
	if (ok)
		return list;
	cJSON_Delete(list);
	return NULL;
}

int registry_sweep(struct registry *r, uint64_t now_ms)
{
	struct registration **at = &r->by_hand, *g;
	struct agent **a = &r->agents;
	int gone = 0;

	while (*a) {
		struct agent *old = *a;

		if (now_ms - old->seen_ms > REGISTRY_FORGET_MS) {
			*a = old->next;
			agent_free(old);
		} else {
			a = &old->next;
		}
	}
	while ((g = *at)) {
		int err;

		if (!g->ttl_ms || g->expires_ms > now_ms) {
			at = &g->next;
			continue;
		}
		err = store_registration_delete(r->store, g->service, g->instance);
		if (err && err != -ENOENT)
			return err;
		*at = g->next;
		registration_free(g);
		gone++;
	}
	return gone;
}

static int endpoint_order(const void *x, const void *y)
{
	const struct endpoint *a = x, *b = y;
	int r = strcmp(a->service, b->service);

	if (!r)
		r = strcmp(a->id, b->id);
	if (!r) /* the discovered one first: the registered one behind it is dropped */
		r = (int)b->discovered - (int)a->discovered;
	if (!r) /* then the registration, then what agents say of it */
		r = (int)a->remark - (int)b->remark;
	return r ? r : strcmp(a->node, b->node);
}

static size_t agent_endpoints(const struct agent *a, struct endpoint *out)
{
	const cJSON *v;
	size_t n = 0;

	cJSON_ArrayForEach (v, cJSON_GetObjectItemCaseSensitive(a->state, "endpoints")) {
		out[n++] = (struct endpoint){
			.service = json_str(v, "service", ""),
			.id = json_str(v, "id", ""),
			.address = json_str(v, "address", ""),
			.version = json_str(v, "version", "v1"),
			.status = json_str(v, "status", "healthy"),
			.cgroup = json_str(v, "cgroup", ""),
			.protocol = json_str(v, "protocol", "auto"),
			.node = a->node,
			.ports = cJSON_GetObjectItemCaseSensitive(v, "ports"),
			.port = (int)json_num(v, "port", 0),
			.weight = (int)json_num(v, "weight", WEIGHT_DEFAULT),
			.discovered = !json_bool(v, "registered", false),
			.remark = json_bool(v, "registered", false),
		};
	}
	return n;
}

static void registered_endpoint(const struct registration *g, struct endpoint *out)
{
	*out = (struct endpoint){
		.service = g->service,
		.id = g->instance,
		.address = json_str(g->value, "address", ""),
		.version = registration_version(g),
		.status = "healthy",
		.cgroup = "",
		.protocol = "auto",
		.node = "",
		.port = (int)json_num(g->value, "port", 0),
		.weight = registration_weight(g),
	};
}

static size_t endpoints_bound(const struct registry *r)
{
	size_t n = 1;

	for (const struct agent *a = r->agents; a; a = a->next)
		n += (size_t)cJSON_GetArraySize(
			cJSON_GetObjectItemCaseSensitive(a->state, "endpoints"));
	for (const struct registration *g = r->by_hand; g; g = g->next)
		n++;
	return n;
}

/* How bad it is: where agents see a registered endpoint differently, the worst is shown. */
static int badness(const char *status)
{
	static const char *const order[] = {"healthy", "draining", "ejected", "unhealthy"};
	int i = 3;

	while (i && strcmp(order[i], status))
		i--;
	return i;
}

static int endpoints(struct registry *r, bool stale, uint64_t now_ms, struct endpoint **out)
{
	struct endpoint *all = calloc(endpoints_bound(r), sizeof(*all));
	size_t n = 0, kept = 0;

	if (!all)
		return -ENOMEM;
	for (const struct agent *a = r->agents; a; a = a->next)
		if (stale || agent_live(a, now_ms))
			n += agent_endpoints(a, all + n);
	for (const struct registration *g = r->by_hand; g; g = g->next)
		registered_endpoint(g, &all[n++]);
	qsort(all, n, sizeof(*all), endpoint_order);
	for (size_t i = 0; i < n; i++) {
		struct endpoint *e = &all[i], *last = kept ? &all[kept - 1] : NULL;
		bool same = last && !strcmp(e->service, last->service) && !strcmp(e->id, last->id);

		if (e->discovered || (!e->remark && !same))
			all[kept++] = *e;
		else if (same && e->remark && !last->discovered &&
			 badness(e->status) > badness(last->status))
			last->status = e->status;
	}
	*out = all;
	return (int)kept;
}

int registry_endpoints(struct registry *r, uint64_t now_ms, struct endpoint **out)
{
	return endpoints(r, false, now_ms, out);
}

int registry_endpoints_last(struct registry *r, struct endpoint **out)
{
	return endpoints(r, true, 0, out);
}

bool endpoints_have(const struct endpoint *all, int n, const char *service, const char *id)
{
	int low = 0, high = n;

	while (low < high) {
		int mid = (low + high) / 2, c = strcmp(all[mid].service, service);

		if (!c)
			c = strcmp(all[mid].id, id);
		if (!c)
			return true;
		if (c < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return false;
}

/* As the agent said it, but what it measured in time goes on since then. A breaker that has never
 * been but closed has been so for no time that anybody knows. */
static cJSON *breaker_json(const struct agent *a, const cJSON *said, uint64_t now_ms)
{
	double age = (double)(now_ms - a->seen_ms);
	double since = json_num(said, "sinceMs", 0), left = json_num(said, "forMs", 0);
	bool ever = since > 0 || json_bool(said, "held", false) ||
		    strcmp(json_str(said, "state", ""), "closed");
	cJSON *v = cJSON_Duplicate(said, true), *endpoint;

	if (!v)
		return NULL;
	endpoint = cJSON_GetObjectItemCaseSensitive(v, "endpoint");
	cJSON_DeleteItemFromObjectCaseSensitive(v, "node");
	cJSON_DeleteItemFromObjectCaseSensitive(v, "sinceMs");
	cJSON_DeleteItemFromObjectCaseSensitive(v, "forMs");
	if ((endpoint || cJSON_AddNullToObject(v, "endpoint")) &&
	    cJSON_AddStringToObject(v, "node", a->node) &&
	    cJSON_AddNumberToObject(v, "sinceMs", ever ? since + age : 0) &&
	    cJSON_AddNumberToObject(v, "forMs", left > age ? left - age : 0))
		return v;
	cJSON_Delete(v);
	return NULL;
}

cJSON *registry_breakers(struct registry *r, const char *service, uint64_t now_ms)
{
	cJSON *list = cJSON_CreateArray(), *one;
	bool ok = list != NULL;
	const cJSON *v;

	for (const struct agent *a = r->agents; a && ok; a = a->next) {
		if (!agent_live(a, now_ms))
			continue;
		cJSON_ArrayForEach (v, cJSON_GetObjectItemCaseSensitive(a->state, "breakers")) {
			if (service && strcmp(json_str(v, "service", ""), service))
				continue;
			one = breaker_json(a, v, now_ms);
			ok = ok && one && cJSON_AddItemToArray(list, one);
		}
	}
	if (ok)
		return list;
	cJSON_Delete(list);
	return NULL;
}

void registry_count(const struct registry *r, uint64_t now_ms, struct registry_counts *c)
{
	*c = (struct registry_counts){0};
	for (const struct agent *a = r->agents; a; a = a->next) {
		if (agent_live(a, now_ms))
			c->agents_live++;
		else
			c->agents_stale++;
	}
	for (const struct registration *g = r->by_hand; g; g = g->next)
		c->registrations++;
}
