/* SPDX-License-Identifier: Apache-2.0 */
/* See supervisor_parties.h. */
#include "agent/supervisor.h"

#include "lib/name.h"

#include <string.h>

static uint32_t hash(const struct parties_key *k)
{
	uint64_t a = (uint64_t)k->caller << 32 | k->service,
		 b = (uint64_t)k->endpoint << 32 | k->gen;

	a = (a ^ k->kind ^ k->gateway) * 0x9e3779b97f4a7c15u;
	b = (b ^ a >> 32) * 0x9e3779b97f4a7c15u;
	return (uint32_t)((a ^ b) >> 40) % PARTIES_KEPT;
}

_Static_assert(sizeof(struct parties_key) == 4 * 4 + 2 * 2, "a key has no gaps");

static bool is(const struct parties_key *a, const struct parties_key *b)
{
	return !memcmp(a, b, sizeof(*a));
}

static void look_up(struct parties *p, const struct registry *r, const struct parties_key *k)
{
	struct service_view v;

	*p = (struct parties){.key = *k,
			      .looked = registry_renamed(r),
			      .tcp = registry_service(r, k->service, &v) &&
				     v.protocol == MESH_PROTO_TCP,
			      .names = {registry_caller_name(r, k->caller),
					registry_service_name(r, k->service), "", ""}};
	registry_endpoint_names(r, k->endpoint, k->gen, &p->names.endpoint, &p->names.version);
	if (!*p->names.caller)
		p->names.caller = k->gateway ? "gateway" : "unknown";
	if (!*p->names.callee)
		p->names.callee = "none";
	p->own = name_is_own(p->names.callee);
}

struct parties *parties_of(struct supervisor *s, const struct parties_key *key)
{
	struct parties *p = &s->telemetry.parties[hash(key)];

	if (p->looked != registry_renamed(s->registry) || !is(&p->key, key))
		look_up(p, s->registry, key);
	return p;
}

struct parties *parties_of_record(struct supervisor *s, const struct record *rec)
{
	struct parties_key k = {.caller = rec->caller,
				.service = rec->service,
				.endpoint = rec->endpoint,
				.gen = rec->endpoint_gen,
				.kind = rec->kind,
				.gateway = rec->flags & RECORD_GATEWAY};

	return parties_of(s, &k);
}
