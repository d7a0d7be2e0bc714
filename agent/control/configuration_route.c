/* SPDX-License-Identifier: Apache-2.0 */
/* The routes of a service: what they match, and what they say otherwise than the service. */
#include "agent/control/configuration_impl.h"

#include "lib/json.h"

#include <errno.h>
#include <stdlib.h>

#define PATH_MAX_LEN 1024
#define VALUE_MAX    1024

static int path(const struct place *at, const cJSON *match, struct service_config *c,
		struct snap_match *out)
{
	static const char *const kinds[] = {[SNAP_PATH_EXACT] = "exact",
					    [SNAP_PATH_PREFIX] = "prefix",
					    [SNAP_PATH_TEMPLATE] = "template"};
	struct place p = conf_inside(at, "path.");
	const cJSON *v;
	int err = conf_object(at, match, "path", &v);

	if (err || !v)
		return err;
	for (uint32_t k = SNAP_PATH_EXACT; k <= SNAP_PATH_TEMPLATE; k++) {
		const char *s = json_str(v, kinds[k], NULL);

		if (!s)
			continue;
		if (out->path_kind || *s != '/')
			return conf_bad(at, "path: one that begins with / is expected");
		out->path_kind = k;
		err = conf_string(&p, v, kinds[k], PATH_MAX_LEN, c, &out->path);
		if (err)
			return err;
	}
	return out->path_kind ? 0 : conf_bad(at, "path: prefix, exact or template is expected");
}

static int pairs(const struct place *at, const cJSON *match, const char *key, bool headers,
		 struct service_config *c, uint32_t *n, uint32_t *out)
{
	struct place p = conf_inside(at, "%s.", key);
	struct snap_pair pair[CONFIG_PAIRS_MAX];
	const cJSON *m, *v;
	int err = conf_object(at, match, key, &m);

	if (err || !m)
		return err;
	if (cJSON_GetArraySize(m) > CONFIG_PAIRS_MAX)
		return conf_bad(at, "%s: more than %d", key, CONFIG_PAIRS_MAX);
	*n = 0;
	cJSON_ArrayForEach (v, m) {
		if (!cJSON_IsString(v))
			return conf_bad(&p, "%s: a string is expected", v->string);
		err = headers ? conf_small(at, key, v->string, c, &pair[*n].name)
			      : conf_put(&p, c, v->string, &pair[*n].name);
		if (!err)
			err = conf_string(&p, m, v->string, VALUE_MAX, c, &pair[*n].value);
		if (err)
			return err;
		++*n;
	}
	return *n ? conf_too_big(&p, service_config_put(c, pair, *n * sizeof(*pair), out)) : 0;
}

static int match(const struct place *at, const cJSON *o, struct service_config *c,
		 struct snap_match *out)
{
	struct place p = conf_inside(at, "match.");
	const cJSON *m;
	int err = conf_object(at, o, "match", &m);

	if (!err)
		err = path(&p, m, c, out);
	if (!err)
		err = conf_string(&p, m, "method", 20, c, &out->method);
	if (!err)
		err = pairs(&p, m, "headers", true, c, &out->nheaders, &out->headers);
	if (!err)
		err = pairs(&p, m, "query", false, c, &out->nqueries, &out->queries);
	return err;
}

static int mirror(const struct place *at, const cJSON *o, struct service_config *c,
		  struct snap_route *out)
{
	struct place p = conf_inside(at, "mirror.");
	const cJSON *m;
	int err = conf_object(at, o, "mirror", &m);

	if (err || !m)
		return err;
	out->mirror_share = SNAP_ALL;
	err = conf_version(&p, "version", json_str(m, "version", ""), c, &out->mirror_version);
	return err ? err : conf_percent(&p, m, "percent", CONF_SHARE, &out->mirror_share);
}

static int fault(const struct place *at, const cJSON *o, struct snap_fault *out)
{
	struct place p = conf_inside(at, "fault."), in;
	const cJSON *f, *delay = NULL, *abort = NULL;
	int err = conf_object(at, o, "fault", &f);

	if (!err)
		err = conf_object(&p, f, "delay", &delay);
	if (!err)
		err = conf_object(&p, f, "abort", &abort);
	out->delay_share = delay ? SNAP_ALL : 0;
	out->abort_share = abort ? SNAP_ALL : 0;
	out->abort_status = abort ? 503 : 0;
	in = conf_inside(&p, "delay.");
	if (!err)
		err = conf_percent(&in, delay, "percent", CONF_SHARE, &out->delay_share);
	if (!err)
		err = conf_duration(&in, delay, "duration", &out->delay_ms);
	in = conf_inside(&p, "abort.");
	if (!err)
		err = conf_percent(&in, abort, "percent", CONF_SHARE, &out->abort_share);
	if (!err)
		err = conf_whole(&in, abort, "status", 200, 599, &out->abort_status);
	return err;
}

static int route(const struct place *p, const cJSON *o, struct service_config *c,
		 struct snap_route *out)
{
	uint8_t fallback = c->fallback;
	int err;

	out->timeouts = c->timeouts;
	out->retry = c->retry;
	err = conf_string(p, o, "name", MESH_NAME_MAX - 1, c, &out->name);
	if (!err)
		err = match(p, o, c, &out->match);
	if (!err)
		err = conf_split(p, o, c, &out->split);
	if (!err)
		err = conf_choice(p, o, "fallback", conf_fallbacks, &fallback);
	if (!err)
		err = conf_timeouts(p, o, &out->timeouts);
	if (!err)
		err = conf_retry(p, o, &out->retry, NULL);
	if (!err)
		err = mirror(p, o, c, out);
	if (!err)
		err = fault(p, o, &out->fault);
	out->fallback = fallback;
	return err;
}

int conf_routes(const struct place *at, const cJSON *o, struct service_config *c)
{
	struct snap_route *v;
	const cJSON *l, *item;
	uint32_t n = 0;
	int err = conf_list(at, o, "routes", CONFIG_ROUTES_MAX, &l);

	if (err || !cJSON_GetArraySize(l))
		return err;
	v = calloc((size_t)cJSON_GetArraySize(l), sizeof(*v));
	if (!v)
		return -ENOMEM;
	cJSON_ArrayForEach (item, l) {
		struct place p = conf_inside(at, "routes[%u].", n);

		err = cJSON_IsObject(item) ? route(&p, item, c, &v[n])
					   : conf_bad(at, "routes[%u]: an object is expected", n);
		if (err)
			break;
		n++;
	}
	if (!err)
		err = service_config_put(c, v, n * sizeof(*v), &c->routes);
	free(v);
	c->nroutes = err ? 0 : n;
	return conf_too_big(at, err);
}
