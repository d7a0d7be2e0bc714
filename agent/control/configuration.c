/* SPDX-License-Identifier: Apache-2.0 */
/* See configuration.h. The answer as a whole, and how members are read; what a service may say is
 * in configuration_service.c and configuration_route.c. */
#include "agent/control/configuration_impl.h"

#include "lib/addr.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/weight.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DURATION_MOST_MS 86400000u

/* --- members --- */

int conf_bad(const struct place *p, const char *fmt, ...)
{
	int n = snprintf(p->why, CONFIGURATION_ERROR_MAX, "%s: %s",
			 p->service ? p->service : "answer", p->at);
	va_list ap;

	va_start(ap, fmt);
	if (n < CONFIGURATION_ERROR_MAX)
		vsnprintf(p->why + n, CONFIGURATION_ERROR_MAX - (size_t)n, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

struct place conf_inside(const struct place *p, const char *fmt, ...)
{
	struct place q = *p;
	size_t len = strlen(q.at);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(q.at + len, sizeof(q.at) - len, fmt, ap);
	va_end(ap);
	return q;
}

const cJSON *conf_item(const cJSON *o, const char *key)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);

	return cJSON_IsNull(v) ? NULL : v;
}

int conf_object(const struct place *p, const cJSON *o, const char *key, const cJSON **out)
{
	*out = conf_item(o, key);
	return !*out || cJSON_IsObject(*out) ? 0 : conf_bad(p, "%s: an object is expected", key);
}

int conf_list(const struct place *p, const cJSON *o, const char *key, int most, const cJSON **out)
{
	*out = conf_item(o, key);
	if (*out && !cJSON_IsArray(*out))
		return conf_bad(p, "%s: a list is expected", key);
	if (cJSON_GetArraySize(*out) > most)
		return conf_bad(p, "%s: more than %d", key, most);
	return 0;
}

/* It becomes a header, a label, a line of a log. */
static bool is_printable(const char *s)
{
	while (*s > ' ' && *s < 0x7f)
		s++;
	return !*s;
}

int conf_text(const struct place *p, const cJSON *o, const char *key, const char *fallback,
	      char *out, size_t cap)
{
	const cJSON *v = conf_item(o, key);
	const char *s = cJSON_IsString(v) ? v->valuestring : !v ? fallback : NULL;

	if (!s || (!fallback && !*s))
		return conf_bad(p, "%s: a string is expected", key);
	if (strlen(s) >= cap)
		return conf_bad(p, "%s: longer than %zu", key, cap - 1);
	if (!is_printable(s))
		return conf_bad(p, "%s: printable ASCII is expected", key);
	strncpy(out, s, cap); /* to the end: it is compared as bytes */
	return 0;
}

int conf_choice(const struct place *p, const cJSON *o, const char *key, const char *const *names,
		uint8_t *out)
{
	const cJSON *v = conf_item(o, key);

	if (!v)
		return 0;
	for (uint8_t i = 0; names[i]; i++)
		if (cJSON_IsString(v) && !strcmp(v->valuestring, names[i])) {
			*out = i;
			return 0;
		}
	return conf_bad(p, "%s: not one of the known values", key);
}

int conf_whole(const struct place *p, const cJSON *o, const char *key, uint32_t least,
	       uint32_t most, uint32_t *out)
{
	const cJSON *v = conf_item(o, key);

	if (!v)
		return 0;
	if (!cJSON_IsNumber(v) || !(v->valuedouble >= least && v->valuedouble <= most) ||
	    v->valuedouble != (uint32_t)v->valuedouble)
		return conf_bad(p, "%s: a whole number from %u to %u is expected", key, least,
				most);
	*out = (uint32_t)v->valuedouble;
	return 0;
}

int conf_percent(const struct place *p, const cJSON *o, const char *key, uint32_t scale,
		 uint32_t *out)
{
	const cJSON *v = conf_item(o, key);

	if (!v)
		return 0;
	if (!cJSON_IsNumber(v) || !(v->valuedouble >= 0 && v->valuedouble <= 100))
		return conf_bad(p, "%s: a number from 0 to 100 is expected", key);
	*out = (uint32_t)(v->valuedouble * scale + 0.5);
	if (!*out && v->valuedouble > 0)
		*out = 1;
	return 0;
}

int conf_duration(const struct place *p, const cJSON *o, const char *key, uint32_t *out)
{
	const cJSON *v = conf_item(o, key);
	uint64_t ms;

	if (!v)
		return 0;
	if (!cJSON_IsString(v) || duration_parse(v->valuestring, &ms) || ms > DURATION_MOST_MS)
		return conf_bad(p, "%s: a duration like 500ms, a day at most, is expected", key);
	*out = (uint32_t)ms;
	return 0;
}

/* --- what stands beside the services --- */

static int external(const cJSON *o, void *place, char *why)
{
	struct external_info *out = place;
	struct place p = {.why = why};
	char address[64];
	double port = json_num(o, "port", 0);
	int err;

	err = conf_text(&p, o, "service", NULL, out->service, sizeof(out->service));
	if (!err)
		err = conf_text(&p, o, "id", NULL, out->id, sizeof(out->id));
	if (!err)
		err = conf_text(&p, o, "version", "v1", out->version, sizeof(out->version));
	if (!err)
		err = conf_text(&p, o, "address", NULL, address, sizeof(address));
	if (err)
		return err;
	p.service = out->service;
	if (addr_parse_ip(address, out->ip))
		return conf_bad(&p, "endpoint %s: address: an IP address is expected", out->id);
	if (!(port >= 1 && port <= 65535) || port != (uint16_t)port)
		return conf_bad(&p, "endpoint %s: port: 1 to 65535 is expected", out->id);
	out->port = (uint16_t)port;
	out->weight = WEIGHT_DEFAULT;
	p = conf_inside(&p, "endpoint %s: ", out->id);
	return conf_whole(&p, o, "weight", 1, WEIGHT_MOST, &out->weight);
}

static int fault(const cJSON *o, void *place, char *why)
{
	struct fault_info *out = place;
	struct place p = {.why = why, .at = "faults: "}, in;
	struct snap_fault *f = &out->fault;
	double left = json_num(o, "leftMs", -1);
	const cJSON *delay, *abort;
	int err = conf_text(&p, o, "service", NULL, out->service, sizeof(out->service));

	if (!err && !(left >= 0 && left <= JSON_WHOLE_MAX))
		err = conf_bad(&p, "leftMs: a number is expected");
	if (!err)
		err = conf_object(&p, o, "delay", &delay);
	if (!err)
		err = conf_object(&p, o, "abort", &abort);
	if (err)
		return err;
	out->left_ms = (uint64_t)left;
	f->delay_share = delay ? SNAP_ALL : 0;
	f->abort_share = abort ? SNAP_ALL : 0;
	f->abort_status = abort ? 503 : 0;
	in = conf_inside(&p, "delay.");
	err = conf_percent(&in, delay, "percent", CONF_SHARE, &f->delay_share);
	if (!err)
		err = conf_whole(&in, delay, "durationMs", 0, DURATION_MOST_MS, &f->delay_ms);
	in = conf_inside(&p, "abort.");
	if (!err)
		err = conf_percent(&in, abort, "percent", CONF_SHARE, &f->abort_share);
	if (!err)
		err = conf_whole(&in, abort, "status", 200, 599, &f->abort_status);
	return err;
}

static int drain(const cJSON *o, void *place, char *why)
{
	struct drain_info *out = place;
	struct place p = {.why = why, .at = "drains: "};
	int err = conf_text(&p, o, "service", NULL, out->service, sizeof(out->service));

	return err ? err : conf_text(&p, o, "endpoint", NULL, out->endpoint, sizeof(out->endpoint));
}

static int hand(const cJSON *o, void *place, char *why)
{
	static const char *const actions[] = {[MESH_HAND_RESET] = "reset",
					      [MESH_HAND_OPEN] = "open",
					      [MESH_HAND_CLOSE] = "close",
					      NULL};
	struct hand_info *out = place;
	struct place p = {.why = why, .at = "hands: "};
	double serial = json_num(o, "serial", -1);
	int err = conf_text(&p, o, "service", NULL, out->service, sizeof(out->service));

	if (!err)
		err = conf_text(&p, o, "endpoint", "", out->endpoint, sizeof(out->endpoint));
	if (!err && !(serial >= 0 && serial <= JSON_WHOLE_MAX))
		err = conf_bad(&p, "serial: a number is expected");
	if (!err && !conf_item(o, "action"))
		err = conf_bad(&p, "action: a string is expected");
	if (!err)
		err = conf_choice(&p, o, "action", actions, &out->action);
	out->serial = err ? 0 : (uint64_t)serial;
	return err;
}

/* --- the whole --- */

struct kind {
	const char *key;
	bool required;
	int most;
	size_t size;
	int (*one)(const cJSON *o, void *place, char *why);
};

/* A list of objects, each read into its zeroed place. *n counts also the one that was refused. */
static int list(const cJSON *root, const struct kind *k, void **out, size_t *n, char *why)
{
	struct place p = {.why = why};
	const cJSON *v, *l;
	int err = conf_list(&p, root, k->key, k->most, &l);

	if (err || (!l && !k->required))
		return err;
	if (!l)
		return conf_bad(&p, "%s: a list is expected", k->key);
	*out = calloc((size_t)cJSON_GetArraySize(l) + 1, k->size);
	if (!*out)
		return -ENOMEM;
	cJSON_ArrayForEach (v, l) {
		err = k->one(v, (char *)*out + (*n)++ * k->size, why);
		if (err)
			return err;
	}
	return 0;
}

static int head(const cJSON *root, struct configuration *c, char *why)
{
	struct place p = {.why = why};
	double revision = json_num(root, "revision", -1);

	if (!(revision >= 0 && revision <= JSON_WHOLE_MAX))
		return conf_bad(&p, "revision: a number is expected");
	c->revision = (uint64_t)revision;
	return conf_text(&p, root, "epoch", "", c->epoch, sizeof(c->epoch));
}

static int body(const cJSON *root, struct configuration *c, char *why)
{
	static const struct kind services = {"services", true, MESH_MAX_SERVICES,
					     sizeof(*c->services), conf_service};
	static const struct kind externals = {"endpoints", true, MESH_MAX_ENDPOINTS,
					      sizeof(*c->externals), external};
	static const struct kind faults = {"faults", false, MESH_MAX_SERVICES, sizeof(*c->faults),
					   fault};
	static const struct kind drains = {"drains", false, MESH_MAX_ENDPOINTS, sizeof(*c->drains),
					   drain};
	static const struct kind hands = {"hands", false, CONFIGURATION_HANDS_MAX,
					  sizeof(*c->hands), hand};
	int err = list(root, &services, (void **)&c->services, &c->nservices, why);

	if (!err)
		err = list(root, &externals, (void **)&c->externals, &c->nexternals, why);
	if (!err)
		err = list(root, &faults, (void **)&c->faults, &c->nfaults, why);
	if (!err)
		err = list(root, &drains, (void **)&c->drains, &c->ndrains, why);
	if (!err)
		err = list(root, &hands, (void **)&c->hands, &c->nhands, why);
	return err;
}

int configuration_parse(const char *json, size_t len, struct configuration *out, char *why)
{
	struct configuration c = {0};
	cJSON *root = json_parse(json, len, NULL);
	int err = -EINVAL;

	snprintf(why, CONFIGURATION_ERROR_MAX, "not a JSON object");
	if (cJSON_IsObject(root))
		err = head(root, &c, why);
	if (!err)
		err = body(root, &c, why);
	cJSON_Delete(root);
	if (err == -ENOMEM)
		snprintf(why, CONFIGURATION_ERROR_MAX, "out of memory");
	if (err)
		configuration_done(&c);
	else
		*out = c;
	return err;
}

void configuration_done(struct configuration *c)
{
	for (size_t i = 0; i < c->nservices; i++)
		service_config_done(&c->services[i].config);
	free(c->services);
	free(c->externals);
	free(c->faults);
	free(c->drains);
	free(c->hands);
	memset(c, 0, sizeof(*c));
}

bool configuration_is(const char *json, size_t len, uint64_t revision, const char *epoch)
{
	cJSON *root = json_parse(json, len, NULL);
	bool same = root && json_num(root, "revision", -1) == (double)revision &&
		    !strcmp(json_str(root, "epoch", ""), epoch);

	cJSON_Delete(root);
	return same;
}
