/* SPDX-License-Identifier: Apache-2.0 */
/* See registry.h. The forms of what comes in are in the tables at the top. */
#include "ctl/meshd/registry.h"
#include "lib/addr.h"
#include "lib/clock.h"
#include "lib/json.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct agent {
	struct agent *next;
	char node[64];
	cJSON *state; /* valid by agent_form */
	uint64_t seen_ms, seen_wall_ms;
};

struct registration {
	struct registration *next;
	char service[64], instance[64];
	cJSON *value;	     /* valid by register_form, defaults filled in */
	uint64_t ttl_ms;     /* 0: for ever */
	uint64_t expires_ms; /* with ttl_ms */
};

struct registry {
	struct store *store;
	struct agent *agents; /* by node */
	struct registration *by_hand;
};

static bool address_valid(const char *s)
{
	uint8_t ip[16];

	return addr_parse_ip(s, ip) == 0 && !addr_is_any(ip);
}

/* clang-format off: the tables are read as tables */
static const struct schema name = {SCHEMA_TEXT, .min = 1, .max = 63, .valid = name_valid,
				   .what = NAME_WHAT};
static const struct schema label = {SCHEMA_TEXT, .min = 1, .max = 63};
static const struct schema text = {SCHEMA_TEXT, .min = 0, .max = 1024};
static const struct schema address = {
	SCHEMA_TEXT, .min = 2, .max = 64, .valid = address_valid,
	.what = "an IPv4 or IPv6 address of one host (names are not resolved)"};
static const struct schema port = {SCHEMA_INTEGER, .min = 1, .max = 65535};
static const struct schema ports = {SCHEMA_LIST, .min = 0, .max = 65535, .item = &port};
static const struct schema number = {SCHEMA_INTEGER, .min = 0, .max = 9007199254740992.0};
static const struct schema boolean = {SCHEMA_BOOL};
static const struct schema ttl = {SCHEMA_DURATION, .min = 1000, .max = 24 * 3600e3};
static const struct schema metadata_item = {SCHEMA_TEXT, .min = 0, .max = 256};

static int metadata_check(const cJSON *v, struct schema_error *e)
{
	const char *version = json_str(v, "version", "v1");

	return name_valid(version) ? 0 : schema_fail(e, ".version", "must be %s", NAME_WHAT);
}

static const struct schema metadata = {SCHEMA_MAP,
				       .min = 0,
				       .max = 16,
				       .valid = name_valid,
				       .what = NAME_WHAT,
				       .item = &metadata_item,
				       .check = metadata_check};

static const struct schema register_form = {
	SCHEMA_OBJECT, .fields = (const struct schema_field[]){
			       {"name", &name, .required = true},
			       {"port", &port, .required = true},
			       {"address", &address, .fallback = "\"127.0.0.1\""},
			       {"instance", &name},
			       {"sidecarPort", &port}, /* of older clients; there are no sidecars */
			       {"metadata", &metadata},
			       {"ttl", &ttl},
			       {NULL}}};

static const struct schema status = {
	SCHEMA_WORD,
	.words = (const char *const[]){"healthy", "unhealthy", "ejected", "draining", NULL}};
static const struct schema endpoint_form = {
	SCHEMA_OBJECT, .open = true,
	.fields = (const struct schema_field[]){{"service", &label, .required = true},
						{"id", &label, .required = true},
						{"address", &address, .required = true},
						{"port", &port, .required = true},
						{"version", &label},
						{"protocol", &label},
						{"status", &status},
						{"primary", &boolean},
						{"ports", &ports},
						{"cgroup", &text},
						{"pid", &number},
						{NULL}}};
static const struct schema endpoints_form = {SCHEMA_LIST, .min = 0, .max = 65536,
					     .item = &endpoint_form};
static const struct schema workload_form = {
	SCHEMA_OBJECT, .open = true,
	.fields = (const struct schema_field[]){{"service", &label, .required = true},
						{"instance", &label},
						{"version", &label},
						{"cgroup", &text},
						{"address", &text},
						{"listens", &boolean},
						{NULL}}};
static const struct schema workloads_form = {SCHEMA_LIST, .min = 0, .max = 65536,
					     .item = &workload_form};

/* Open: an agent that is newer than this meshd may say more. */
static const struct schema agent_form = {
	SCHEMA_OBJECT, .open = true,
	.fields = (const struct schema_field[]){{"epoch", &label},
						{"version", &label},
						{"pid", &number},
						{"cgroup", &text},
						{"workers", &number},
						{"workersAnswering", &number},
						{"gateway", &text},
						{"admin", &text},
						{"configRevision", &number},
						{"configError", &text},
						{"endpoints", &endpoints_form, .required = true},
						{"workloads", &workloads_form},
						{NULL}}};
/* clang-format on */

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
	if (!g->value || schema_fill(&register_form, g->value))
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

	if (v && schema_check(&register_form, v, &e) == 0)
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
	int err = schema_check(&agent_form, state, e);

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

int registry_register(struct registry *r, const cJSON *body, uint64_t now_ms, char *service,
		      char *instance, bool *changed, struct schema_error *e)
{
	struct registration *g, *old;
	char *stored = NULL;
	int err = schema_check(&register_form, body, e);

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
		     cJSON_AddStringToObject(v, "version", registration_version(g));
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
			.discovered = true,
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

int registry_endpoints(struct registry *r, uint64_t now_ms, struct endpoint **out)
{
	struct endpoint *all = calloc(endpoints_bound(r), sizeof(*all));
	size_t n = 0, kept = 0;

	if (!all)
		return -ENOMEM;
	for (const struct agent *a = r->agents; a; a = a->next)
		if (agent_live(a, now_ms))
			n += agent_endpoints(a, all + n);
	for (const struct registration *g = r->by_hand; g; g = g->next)
		registered_endpoint(g, &all[n++]);
	qsort(all, n, sizeof(*all), endpoint_order);
	for (size_t i = 0; i < n; i++) {
		bool hidden = kept && !all[i].discovered &&
			      !strcmp(all[i].service, all[kept - 1].service) &&
			      !strcmp(all[i].id, all[kept - 1].id);

		if (!hidden)
			all[kept++] = all[i];
	}
	*out = all;
	return (int)kept;
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
