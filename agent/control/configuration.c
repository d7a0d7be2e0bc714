/* SPDX-License-Identifier: Apache-2.0 */
/* See configuration.h. Keys that the agent has no use for yet are passed over: meshd knows them
 * all. */
#include "agent/control/configuration.h"

#include "lib/addr.h"
#include "lib/clock.h"
#include "lib/json.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DURATION_MOST_MS 86400000u

struct place { /* where we are, for messages */
	const char *service;
	char *why;
};

__attribute__((format(printf, 2, 3))) static int bad(const struct place *p, const char *fmt, ...)
{
	int n = snprintf(p->why, CONFIGURATION_ERROR_MAX,
			 "%s: ", p->service ? p->service : "answer");
	va_list ap;

	va_start(ap, fmt);
	if (n < CONFIGURATION_ERROR_MAX)
		vsnprintf(p->why + n, CONFIGURATION_ERROR_MAX - (size_t)n, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

/* It becomes a header, a label, a line of a log. */
static bool is_printable(const char *s)
{
	while (*s > ' ' && *s < 0x7f)
		s++;
	return !*s;
}

/* A string member that fits; absent is the fallback (NULL: must be there). */
static int text(const struct place *p, const cJSON *o, const char *key, const char *fallback,
		char *out, size_t cap)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);
	const char *s = cJSON_IsString(v)	? v->valuestring
			: !v || cJSON_IsNull(v) ? fallback
						: NULL;

	if (!s || (!fallback && !*s))
		return bad(p, "%s: a string is expected", key);
	if (strlen(s) >= cap)
		return bad(p, "%s: longer than %zu", key, cap - 1);
	if (!is_printable(s))
		return bad(p, "%s: printable ASCII is expected", key);
	strcpy(out, s);
	return 0;
}

static int choice(const struct place *p, const cJSON *o, const char *key, const char *const *names,
		  uint8_t *out)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);

	if (!v || cJSON_IsNull(v))
		return 0;
	for (uint8_t i = 0; names[i]; i++)
		if (cJSON_IsString(v) && !strcmp(v->valuestring, names[i])) {
			*out = i;
			return 0;
		}
	return bad(p, "%s: not one of the known values", key);
}

static int duration(const struct place *p, const cJSON *o, const char *key, uint32_t *out)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);
	uint64_t ms;

	if (!v || cJSON_IsNull(v))
		return 0;
	if (!cJSON_IsString(v) || duration_parse(v->valuestring, &ms) || ms > DURATION_MOST_MS)
		return bad(p, "timeouts.%s: a duration like 500ms, a day at most, is expected",
			   key);
	*out = (uint32_t)ms;
	return 0;
}

static int split(const struct place *p, const cJSON *o, struct service_config *c)
{
	const cJSON *s = cJSON_GetObjectItemCaseSensitive(o, "split"), *v;
	double total = 0;

	if (!s || cJSON_IsNull(s))
		return 0;
	if (!cJSON_IsObject(s))
		return bad(p, "split: an object is expected");
	cJSON_ArrayForEach (v, s) {
		if (c->nsplit == MESH_SPLITS)
			return bad(p, "split: more than %d versions", MESH_SPLITS);
		if (!*v->string || strlen(v->string) >= MESH_NAME_MAX)
			return bad(p, "split: the name of a version is 1 to %d bytes long",
				   MESH_NAME_MAX - 1);
		if (!cJSON_IsNumber(v) || v->valuedouble < 0 || v->valuedouble > 1000000 ||
		    v->valuedouble != (uint32_t)v->valuedouble)
			return bad(p, "split.%s: a weight from 0 to 1000000 is expected",
				   v->string);
		for (uint32_t i = 0; i < c->nsplit; i++)
			if (!strcmp(c->split[i].version, v->string))
				return bad(p, "split.%s: stands there twice", v->string);
		strcpy(c->split[c->nsplit].version, v->string);
		c->split[c->nsplit++].weight = (uint32_t)v->valuedouble;
		total += v->valuedouble;
	}
	return c->nsplit && total < 1 ? bad(p, "split: all weights are 0") : 0;
}

static int service(const cJSON *o, void *place, char *why)
{
	struct named_config *out = place;
	static const char *const protocols[] = {"auto", "http", "tcp", NULL};
	static const char *const policies[] = {"p2c", "least-request", "round-robin", "random",
					       NULL};
	const cJSON *t = cJSON_GetObjectItemCaseSensitive(o, "timeouts");
	struct place p = {NULL, why};
	int err;

	memset(out, 0, sizeof(*out));
	service_config_init(&out->config);
	err = text(&p, o, "service", NULL, out->service, sizeof(out->service));
	if (err)
		return err;
	p.service = out->service;
	err = choice(&p, o, "protocol", protocols, &out->config.protocol);
	if (!err)
		err = choice(&p, cJSON_GetObjectItemCaseSensitive(o, "loadBalancer"), "policy",
			     policies, &out->config.policy);
	if (!err)
		err = split(&p, o, &out->config);
	if (!err)
		err = duration(&p, t, "connect", &out->config.connect_ms);
	if (!err)
		err = duration(&p, t, "try", &out->config.try_ms);
	if (!err)
		err = duration(&p, t, "request", &out->config.request_ms);
	if (!err)
		err = duration(&p, t, "idle", &out->config.idle_ms);
	return err;
}

static int external(const cJSON *o, void *place, char *why)
{
	struct external_info *out = place;
	struct place p = {NULL, why};
	char address[64];
	double port = json_num(o, "port", 0);
	int err;

	memset(out, 0, sizeof(*out));
	err = text(&p, o, "service", NULL, out->service, sizeof(out->service));
	if (!err)
		err = text(&p, o, "id", NULL, out->id, sizeof(out->id));
	if (!err)
		err = text(&p, o, "version", "v1", out->version, sizeof(out->version));
	if (!err)
		err = text(&p, o, "address", NULL, address, sizeof(address));
	if (err)
		return err;
	p.service = out->service;
	if (addr_parse_ip(address, out->ip))
		return bad(&p, "endpoint %s: address: an IP address is expected", out->id);
	if (port < 1 || port > 65535 || port != (uint16_t)port)
		return bad(&p, "endpoint %s: port: 1 to 65535 is expected", out->id);
	out->port = (uint16_t)port;
	return 0;
}

/* A list of at most `most` objects, each read by `one` into its place of `size` bytes. */
static int list(const cJSON *root, const char *key, int most, size_t size,
		int (*one)(const cJSON *, void *, char *), void **out, size_t *n, char *why)
{
	const cJSON *v, *l = cJSON_GetObjectItemCaseSensitive(root, key);
	struct place p = {NULL, why};

	if (!cJSON_IsArray(l))
		return bad(&p, "%s: a list is expected", key);
	if (cJSON_GetArraySize(l) > most)
		return bad(&p, "%s: more than %d", key, most);
	*out = calloc((size_t)cJSON_GetArraySize(l) + 1, size);
	if (!*out)
		return -ENOMEM;
	cJSON_ArrayForEach (v, l) {
		int err = one(v, (char *)*out + *n * size, why);

		if (err)
			return err;
		++*n;
	}
	return 0;
}

static int head(const cJSON *root, struct configuration *c, char *why)
{
	struct place p = {NULL, why};
	double revision = json_num(root, "revision", -1);

	if (revision < 0 || revision > 9007199254740992.0)
		return bad(&p, "revision: a number is expected");
	c->revision = (uint64_t)revision;
	return text(&p, root, "epoch", "", c->epoch, sizeof(c->epoch));
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
		err = list(root, "services", MESH_MAX_SERVICES, sizeof(*c.services), service,
			   (void **)&c.services, &c.nservices, why);
	if (!err)
		err = list(root, "endpoints", MESH_MAX_ENDPOINTS, sizeof(*c.externals), external,
			   (void **)&c.externals, &c.nexternals, why);
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
	free(c->services);
	free(c->externals);
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
