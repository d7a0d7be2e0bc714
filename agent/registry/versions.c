/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Numbers for the versions that a service's configuration names. A number is what routes and splits
 * say in the snapshot and what finds the subset in the arrays, which workers see at different
 * moments: so it must mean the same in both for as long as anybody may still obey an old snapshot.
 */
#include "agent/registry/impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

bool version_remembered(const struct version *v, uint64_t now_ns)
{
	return v->named || now_ns - v->dropped_ns < IDS_QUARANTINE_NS;
}

static bool names(const struct service_config *c, const char *version)
{
	for (uint32_t i = 0; i < c->nversions; i++)
		if (!strcmp(service_config_at(c, c->versions[i]), version))
			return true;
	return false;
}

static int version_place(struct service *s, uint64_t now_ns, struct version **out)
{
	struct version *v;

	if (s->nversions < CONFIG_VERSIONS) {
		v = realloc(s->versions, (s->nversions + 1) * sizeof(*v));
		if (!v)
			return -ENOMEM;
		s->versions = v;
		*out = &v[s->nversions++];
		return 0;
	}
	for (uint32_t i = 0; i < s->nversions; i++)
		if (!version_remembered(&s->versions[i], now_ns)) {
			*out = &s->versions[i];
			return 0;
		}
	return -ENOSPC;
}

static int number_of(struct service *s, const char *name, uint64_t now_ns, uint8_t *out)
{
	struct version *v;
	int err;

	*out = 0;
	for (uint32_t i = 0; i < s->nversions; i++)
		if (!strcmp(s->versions[i].name, name)) {
			*out = (uint8_t)(i + 1);
			return 0;
		}
	err = version_place(s, now_ns, &v);
	if (err)
		return err;
	*v = (struct version){.named = true};
	strcpy(v->name, name);
	*out = (uint8_t)(v - s->versions + 1);
	return 0;
}

int service_number(struct registry *r, struct service *s, uint64_t now_ns)
{
	const struct service_config *c = &s->config;
	int error = 0;

	for (uint32_t i = 0; i < s->nversions; i++) {
		struct version *v = &s->versions[i];
		bool named = names(c, v->name);

		if (v->named && !named)
			v->dropped_ns = now_ns;
		v->named = named;
	}
	for (uint32_t i = 0; i < c->nversions; i++) {
		uint8_t n;
		int err = number_of(s, service_config_at(c, c->versions[i]), now_ns, &n);

		r->full += err == -ENOSPC;
		error = error ? error : err;
		r->services_dirty |= n != s->numbers[i];
		s->numbers[i] = n;
	}
	return error;
}
