/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One service of GET /api/watch. What it says overrides the defaults, and what a route says
 * (configuration_route.c) overrides the service, key by key. Keys that the agent has no use for are
 * passed over: meshd knows them all, and refuses what is none.
 */
#include "agent/control/configuration_impl.h"

#include "agent/proxy/http1.h"
#include "lib/addr.h"
#include "lib/json.h"
#include "lib/record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define COUNT_MAX      1000000
#define HEADER_MAX     128
#define ATTEMPTS_MAX   10
#define LEASE_MIN_MS   1000
#define LEASE_USUAL_MS 15000
#define PROBES_MAX     255 /* of struct mesh_breaker_policy */

const char *const conf_fallbacks[] = {
	[SNAP_FALLBACK_SPLIT] = "split", [SNAP_FALLBACK_NONE] = "none", NULL};

static const char *const accelerations[] = {
	[ACCELERATE_AUTO] = "auto", [ACCELERATE_ON] = "on", [ACCELERATE_OFF] = "off", NULL};

/* --- strings behind the configuration --- */

int conf_too_big(const struct place *p, int err)
{
	return err == -E2BIG ? conf_bad(p, "more than %u bytes", CONFIG_TEXT_MAX) : err;
}

int conf_put(const struct place *p, struct service_config *c, const char *s, uint32_t *out)
{
	return conf_too_big(p, service_config_put_string(c, s, out));
}

int conf_string(const struct place *p, const cJSON *o, const char *key, size_t most,
		struct service_config *c, uint32_t *out)
{
	const cJSON *v = conf_item(o, key);

	if (!v)
		return 0;
	if (!cJSON_IsString(v) || strlen(v->valuestring) > most)
		return conf_bad(p, "%s: a string of at most %zu bytes is expected", key, most);
	for (const char *s = v->valuestring; *s; s++)
		if ((unsigned char)*s < ' ' || *s == 0x7f)
			return conf_bad(p, "%s: control characters are not expected", key);
	return conf_put(p, c, v->valuestring, out);
}

int conf_version(const struct place *p, const char *key, const char *name, struct service_config *c,
		 uint32_t *out)
{
	int err;

	if (!*name || strlen(name) >= MESH_NAME_MAX)
		return conf_bad(p, "%s: the name of a version is 1 to %d bytes long", key,
				MESH_NAME_MAX - 1);
	err = service_config_version(c, name, out);
	if (err == -ENOSPC)
		return conf_bad(p, "%s: more than %d versions are named", key, CONFIG_VERSIONS);
	return conf_too_big(p, err);
}

int conf_small(const struct place *p, const char *key, const char *name, struct service_config *c,
	       uint32_t *out)
{
	char copy[HEADER_MAX + 1];
	size_t n = strlen(name);

	if (!n || n > HEADER_MAX)
		return conf_bad(p, "%s: the name of a header is 1 to %d bytes long", key,
				HEADER_MAX);
	for (size_t i = 0; i <= n; i++)
		copy[i] = name[i] >= 'A' && name[i] <= 'Z' ? (char)(name[i] + 32) : name[i];
	return conf_put(p, c, copy, out);
}

/* --- policies that a route may override --- */

int conf_split(const struct place *at, const cJSON *o, struct service_config *c,
	       struct snap_split *out)
{
	struct place p = conf_inside(at, "split.");
	const cJSON *s, *v;
	uint32_t total = 0, n = 0;
	int err = conf_object(at, o, "split", &s);

	if (err)
		return err;
	cJSON_ArrayForEach (v, s) {
		if (n == MESH_SPLITS)
			return conf_bad(at, "split: more than %d versions", MESH_SPLITS);
		err = conf_version(at, "split", v->string, c, &out->to[n].version);
		for (uint32_t i = 0; !err && i < n; i++)
			if (out->to[i].version == out->to[n].version)
				err = conf_bad(&p, "%s: stands there twice", v->string);
		if (!err && !cJSON_IsNumber(v))
			err = conf_bad(&p, "%s: a number from 0 to 100 is expected", v->string);
		if (!err)
			err = conf_percent(&p, s, v->string, CONF_SHARE, &out->to[n].weight);
		if (err)
			return err;
		total += out->to[n++].weight;
	}
	out->n = n;
	return n && !total ? conf_bad(at, "split: all weights are 0") : 0;
}

int conf_timeouts(const struct place *at, const cJSON *o, struct snap_timeouts *out)
{
	struct place p = conf_inside(at, "timeouts.");
	const cJSON *t;
	int err = conf_object(at, o, "timeouts", &t);

	if (!err)
		err = conf_duration(&p, t, "connect", &out->connect);
	if (!err)
		err = conf_duration(&p, t, "try", &out->try);
	if (!err)
		err = conf_duration(&p, t, "request", &out->request);
	if (!err)
		err = conf_duration(&p, t, "idle", &out->idle);
	return err;
}

/* A cause, or a status from 400 to 599. */
static bool condition(const char *s, struct snap_retry *out)
{
	static const uint8_t causes[] = {CAUSE_CONNECT_FAILED, CAUSE_CONNECT_TIMEOUT,
					 CAUSE_TRY_TIMEOUT, CAUSE_UPSTREAM_RESET,
					 CAUSE_UPSTREAM_PROTOCOL};

	for (size_t i = 0; i < sizeof(causes); i++)
		if (!strcmp(s, cause_name(causes[i]))) {
			out->causes |= 1u << causes[i];
			return true;
		}
	if (strlen(s) != 3 || strspn(s, "0123456789") != 3 || (*s != '4' && *s != '5'))
		return false;
	snap_retry_add_status(out, (uint32_t)atoi(s));
	return true;
}

static int conditions(const struct place *p, const cJSON *o, struct snap_retry *out)
{
	const cJSON *l, *v;
	int err = conf_list(p, o, "on", 256, &l);

	if (err || !l)
		return err;
	out->causes = 0;
	memset(out->statuses, 0, sizeof(out->statuses));
	cJSON_ArrayForEach (v, l)
		if (!cJSON_IsString(v) || !condition(v->valuestring, out))
			return conf_bad(p, "on: not one of the known values");
	return 0;
}

/* Those that the proxy has no name for are passed over: it would not retry them anyway. */
static int methods(const struct place *p, const cJSON *o, struct snap_retry *out)
{
	static const char *const names[] = {
		[HTTP1_GET] = "GET",	 [HTTP1_HEAD] = "HEAD",	    [HTTP1_POST] = "POST",
		[HTTP1_PUT] = "PUT",	 [HTTP1_DELETE] = "DELETE", [HTTP1_OPTIONS] = "OPTIONS",
		[HTTP1_PATCH] = "PATCH", [HTTP1_TRACE] = "TRACE"};
	const cJSON *l, *v;
	int err = conf_list(p, o, "methods", 256, &l);

	if (err || !l)
		return err;
	out->methods = 0;
	cJSON_ArrayForEach (v, l) {
		if (!cJSON_IsString(v))
			return conf_bad(p, "methods: strings are expected");
		for (uint32_t i = HTTP1_GET; i < sizeof(names) / sizeof(*names); i++)
			if (!strcmp(v->valuestring, names[i]))
				out->methods |= 1u << i;
	}
	return 0;
}

int conf_retry(const struct place *at, const cJSON *o, struct snap_retry *out,
	       struct mesh_budget_policy *budget)
{
	struct place p = conf_inside(at, "retry."), in = conf_inside(&p, "budget.");
	const cJSON *t, *b = NULL;
	int err = conf_object(at, o, "retry", &t);

	if (!err)
		err = conf_whole(&p, t, "attempts", 0, ATTEMPTS_MAX, &out->attempts);
	if (!err)
		err = conditions(&p, t, out);
	if (!err)
		err = methods(&p, t, out);
	if (!err)
		err = conf_duration(&p, t, "backoff", &out->backoff_ms);
	if (!err)
		err = conf_duration(&p, t, "maxBackoff", &out->max_backoff_ms);
	if (!err && budget)
		err = conf_object(&p, t, "budget", &b);
	if (!err && b)
		err = conf_percent(&in, b, "percent", 100, &budget->percent_pm);
	if (!err && b)
		err = conf_whole(&in, b, "minPerSecond", 0, COUNT_MAX, &budget->per_second);
	return err;
}

/* --- what only a service has --- */

/* A probe's lease lasts as long as a request may take; one that may take for ever gets the time of
 * a usual one. */
static uint32_t lease_ms(const struct snap_timeouts *t)
{
	uint32_t ms = t->request ? t->request : t->try;

	if (!ms)
		return LEASE_USUAL_MS;
	return ms < LEASE_MIN_MS ? LEASE_MIN_MS : ms;
}

static int breaker(const struct place *at, const cJSON *o, const struct snap_timeouts *t,
		   struct mesh_breaker_policy *out)
{
	struct place p = conf_inside(at, "circuitBreaker.");
	const cJSON *b;
	int err = conf_object(at, o, "circuitBreaker", &b);

	if (!err)
		err = conf_percent(&p, b, "errorPercent", 100, &out->error_pm);
	if (!err)
		err = conf_whole(&p, b, "minRequests", 1, COUNT_MAX, &out->min_requests);
	if (!err)
		err = conf_duration(&p, b, "window", &out->window_ms);
	if (!err)
		err = conf_duration(&p, b, "openFor", &out->open_ms);
	if (!err)
		err = conf_whole(&p, b, "halfOpenRequests", 1, COUNT_MAX, &out->half_open);
	if (!err)
		err = conf_whole(&p, b, "consecutiveErrors", 0, COUNT_MAX, &out->consecutive);
	if (!err)
		err = conf_percent(&p, b, "maxEjectedPercent", 1, &out->max_ejected);
	if (out->half_open > PROBES_MAX)
		out->half_open = PROBES_MAX;
	if (!out->open_ms)
		out->open_ms = 1;
	out->probe_ms = lease_ms(t);
	return err;
}

static int bulkhead(const struct place *at, const cJSON *o, struct mesh_bulkhead_policy *out)
{
	struct place p = conf_inside(at, "bulkhead.");
	const cJSON *b;
	int err = conf_object(at, o, "bulkhead", &b);

	if (!err)
		err = conf_whole(&p, b, "maxConnections", 1, COUNT_MAX, &out->connections);
	if (!err)
		err = conf_whole(&p, b, "maxRequests", 1, COUNT_MAX, &out->requests);
	if (!err)
		err = conf_whole(&p, b, "maxPending", 0, COUNT_MAX, &out->pending);
	if (!err)
		err = conf_whole(&p, b, "maxRequestsPerSource", 1, COUNT_MAX, &out->per_source);
	return err;
}

static int health(const struct place *at, const cJSON *o, struct health_config *out)
{
	static const char *const types[] = {[HEALTH_AUTO] = "auto",
					    [HEALTH_NONE] = "none",
					    [HEALTH_HTTP] = "http",
					    [HEALTH_TCP] = "tcp",
					    NULL};
	struct place p = conf_inside(at, "healthCheck.");
	const cJSON *h;
	int err = conf_object(at, o, "healthCheck", &h);

	if (err || !h)
		return err;
	out->type = HEALTH_HTTP;
	err = conf_choice(&p, h, "type", types, &out->type);
	if (!err)
		err = conf_text(&p, h, "path", "/health", out->path, sizeof(out->path));
	if (!err)
		err = conf_duration(&p, h, "interval", &out->interval_ms);
	if (!err)
		err = conf_duration(&p, h, "timeout", &out->timeout_ms);
	if (!err)
		err = conf_whole(&p, h, "unhealthyAfter", 1, COUNT_MAX, &out->unhealthy_after);
	if (!err)
		err = conf_whole(&p, h, "healthyAfter", 1, COUNT_MAX, &out->healthy_after);
	if (!err && (!out->interval_ms || !out->timeout_ms))
		err = conf_bad(&p, "interval and timeout: more than 0 is expected");
	return err;
}

static int sticky(const struct place *at, const cJSON *o, struct service_config *c)
{
	struct place p = conf_inside(at, "sticky.");
	const cJSON *s;
	int err = conf_object(at, o, "sticky", &s);
	const char *header = json_str(s, "header", NULL);

	if (err || !s)
		return err;
	if (!conf_item(s, "header") == !conf_item(s, "cookie"))
		return conf_bad(at, "sticky: either header or cookie is expected");
	if (header)
		return conf_small(&p, "header", header, c, &c->sticky.header);
	if (!json_str(s, "cookie", NULL))
		return conf_bad(at, "sticky: a string is expected");
	return conf_string(&p, s, "cookie", HEADER_MAX, c, &c->sticky.cookie);
}

static int balancer(const struct place *at, const cJSON *o, struct service_config *c)
{
	static const char *const policies[] = {"p2c", "least-request", "round-robin", "random",
					       NULL};
	struct place p = conf_inside(at, "loadBalancer.");
	const cJSON *b;
	int err = conf_object(at, o, "loadBalancer", &b);

	if (!err)
		err = conf_choice(&p, b, "policy", policies, &c->policy);
	if (!err)
		err = conf_duration(&p, b, "slowStart", &c->slow_start_ms);
	return err;
}

/* A number from 0 to 1; what is above 0 stays so. */
static int tracing(const struct place *at, const cJSON *o, uint32_t *sampling)
{
	struct place p = conf_inside(at, "tracing.");
	const cJSON *t, *v;
	int err = conf_object(at, o, "tracing", &t);

	v = err ? NULL : conf_item(t, "sampling");
	if (!v)
		return err;
	if (!cJSON_IsNumber(v) || !(v->valuedouble >= 0 && v->valuedouble <= 1))
		return conf_bad(&p, "sampling: a number from 0 to 1 is expected");
	*sampling = (uint32_t)(v->valuedouble * SNAP_ALL + 0.5);
	if (!*sampling && v->valuedouble > 0)
		*sampling = 1;
	return 0;
}

static int fail_closed(const struct place *p, const cJSON *o, uint8_t *out)
{
	const cJSON *v = conf_item(o, "failClosed");

	if (v && !cJSON_IsBool(v))
		return conf_bad(p, "failClosed: true or false is expected");
	*out = cJSON_IsTrue(v);
	return 0;
}

static int address(const struct place *p, const cJSON *v, struct config_address *out)
{
	struct addr a;

	if (!cJSON_IsString(v) || addr_parse(v->valuestring, &a) || !a.port || addr_is_any(a.ip) ||
	    addr_is_loopback(a.ip))
		return conf_bad(p, "addresses: ADDR:PORT is expected, of no loopback address");
	memcpy(out->ip, a.ip, sizeof(out->ip));
	out->port = a.port;
	return 0;
}

static int addresses(const struct place *p, const cJSON *o, struct service_config *c)
{
	struct config_address v[CONFIG_ADDRESSES_MAX];
	const cJSON *list, *item;
	uint32_t n = 0;
	int err = conf_list(p, o, "addresses", CONFIG_ADDRESSES_MAX, &list);

	if (err || !list)
		return err;
	memset(v, 0, sizeof(v));
	cJSON_ArrayForEach (item, list) {
		err = address(p, item, &v[n++]);
		if (err)
			return err;
	}
	err = n ? service_config_put(c, v, n * sizeof(*v), &c->addresses) : 0;
	c->naddresses = err ? 0 : n;
	return conf_too_big(p, err);
}

int conf_service(const cJSON *o, void *place, char *why)
{
	static const char *const protocols[] = {"auto", "http", "tcp", NULL};
	struct named_config *out = place;
	struct service_config *c = &out->config;
	struct place p = {.why = why};
	int err;

	service_config_init(c);
	err = conf_text(&p, o, "service", NULL, out->service, sizeof(out->service));
	p.service = out->service;
	if (!err)
		err = conf_choice(&p, o, "protocol", protocols, &c->protocol);
	if (!err)
		err = fail_closed(&p, o, &c->fail_closed);
	if (!err)
		err = addresses(&p, o, c);
	if (!err)
		err = conf_choice(&p, o, "accelerate", accelerations, &c->accelerate);
	if (!err)
		err = balancer(&p, o, c);
	if (!err)
		err = conf_choice(&p, o, "fallback", conf_fallbacks, &c->fallback);
	if (!err)
		err = conf_split(&p, o, c, &c->split);
	if (!err)
		err = conf_timeouts(&p, o, &c->timeouts);
	if (!err)
		err = conf_retry(&p, o, &c->retry, &c->budget);
	if (!err)
		err = breaker(&p, o, &c->timeouts, &c->breaker);
	if (!err)
		err = bulkhead(&p, o, &c->bulkhead);
	if (!err)
		err = health(&p, o, &c->health);
	if (!err)
		err = sticky(&p, o, c);
	if (!err)
		err = tracing(&p, o, &c->sampling);
	return err ? err : conf_routes(&p, o, c);
}
