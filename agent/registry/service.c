/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one service looks like after a change: upstreams from its endpoints, subsets of
 * the versions that its configuration names, the split, then the destinations. Recomputed as a
 * whole, and only differences are marked to be written.
 */
#include "agent/registry/impl.h"

#include "lib/addr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Upstreams stay when their last endpoint goes, for connections that wait for the next one. When
 * the table is full, those of other ports than the primary one go; their places can be used after
 * the quarantine. */
static void upstreams_reclaim(struct registry *r, uint64_t now_ns)
{
	for (uint32_t i = 0; i < MESH_MAX_SERVICES; i++) {
		struct service *s = &r->services[i];

		for (uint32_t *p = &s->upstreams; s->used && *p != MESH_NONE;) {
			struct upstream *u = &r->upstreams[*p];
			uint32_t id = *p;

			if (u->nsubsets || !u->port || u->dirty) {
				p = &u->next;
				continue;
			}
			*p = u->next;
			u->used = false;
			ids_free(&r->upstream_ids, id, now_ns);
		}
	}
}

static struct upstream *upstream_get(struct registry *r, uint32_t service, uint16_t port,
				     uint64_t now_ns, uint32_t *out)
{
	struct service *s = &r->services[service];
	struct upstream *u;
	uint32_t id;

	for (id = s->upstreams; id != MESH_NONE; id = r->upstreams[id].next)
		if (r->upstreams[id].port == port) {
			*out = id;
			return &r->upstreams[id];
		}
	if (ids_alloc(&r->upstream_ids, now_ns, &id)) {
		r->full++;
		upstreams_reclaim(r, now_ns);
		return NULL;
	}
	u = &r->upstreams[id];
	memset(u, 0, sizeof(*u));
	u->used = u->dirty = u->fresh = true;
	u->port = port;
	u->image.service = service;
	u->image.primary = !port;
	u->next = s->upstreams;
	s->upstreams = id;
	*out = id;
	return u;
}

static void subset_drop(struct registry *r, uint32_t id, uint64_t now_ns)
{
	struct subset *s = &r->subsets[id];

	r->nsubsets_named -= *s->version != 0;
	free(s->ep);
	free(s->latency);
	memset(s, 0, sizeof(*s));
	s->dirty = true; /* its table is emptied by the next flush */
	ids_free(&r->subset_ids, id, now_ns);
	r->dirty = true;
}

static int subset_fill(struct subset *s, const struct registry *r, const struct members *m)
{
	uint32_t n = 0;

	if (m->n > s->cap) {
		uint16_t *ep = realloc(s->ep, m->n * sizeof(*ep));
		uint64_t *latency;

		if (!ep)
			return -ENOMEM;
		s->ep = ep;
		latency = realloc(s->latency, m->n * sizeof(*latency));
		if (!latency)
			return -ENOMEM;
		s->latency = latency;
		s->cap = m->n;
	}
	for (uint32_t i = 0; i < m->n; i++) {
		if (*s->version && strcmp(r->endpoints[m->ep[i]].image.version, s->version))
			continue;
		if (n >= s->n || s->ep[n] != m->ep[i]) {
			s->ep[n] = m->ep[i];
			s->dirty = true;
		}
		n++;
	}
	s->dirty |= n != s->n;
	s->n = n;
	return 0;
}

static bool has_version(const struct registry *r, const struct members *m, const char *version)
{
	for (uint32_t i = 0; i < m->n; i++)
		if (!*version || !strcmp(r->endpoints[m->ep[i]].image.version, version))
			return true;
	return false;
}

/* Subsets of versions stop here, so that every upstream finds room for that of everybody. */
#define NAMED_SUBSETS_MAX (MESH_MAX_SUBSETS - MESH_MAX_UPSTREAMS)

/* Versions that no configuration names any more keep their subsets until their service is looked at
 * again. That is to be now. */
static void subsets_reclaim(struct registry *r, uint64_t now_ns)
{
	for (uint32_t i = 0; i < r->service_ids.fresh; i++)
		for (uint32_t v = 0; v < r->services[i].nversions; v++)
			if (!version_remembered(&r->services[i].versions[v], now_ns))
				r->services[i].dirty = true;
}

static int subset_new(struct registry *r, uint32_t upstream, const char *version, uint64_t now_ns,
		      uint32_t *id)
{
	if ((*version && r->nsubsets_named >= NAMED_SUBSETS_MAX) ||
	    ids_alloc(&r->subset_ids, now_ns, id)) {
		r->full++;
		subsets_reclaim(r, now_ns);
		return -ENOSPC;
	}
	memset(&r->subsets[*id], 0, sizeof(r->subsets[*id]));
	r->subsets[*id].used = r->subsets[*id].dirty = true;
	r->subsets[*id].upstream = upstream;
	strcpy(r->subsets[*id].version, version);
	r->nsubsets_named += *version != 0;
	return 0;
}

/* Those of an upstream as they shall be, while they are worked out. */
struct subsets {
	uint32_t n, id[MESH_VERSIONS];
};

/* The upstream's subset of that version ("" is everybody): kept, or made. 0, -ENOSPC, -ENOMEM. */
static int subset_get(struct registry *r, uint32_t upstream, const char *version,
		      const struct members *m, uint64_t now_ns, struct subsets *all, uint32_t *out)
{
	const struct upstream *u = &r->upstreams[upstream];
	uint32_t i = 0, id;

	while (i < u->nsubsets && strcmp(r->subsets[u->subsets[i]].version, version))
		i++;
	if (i < u->nsubsets)
		id = u->subsets[i];
	else if (subset_new(r, upstream, version, now_ns, &id))
		return -ENOSPC;
	all->id[all->n++] = id;
	*out = id;
	return subset_fill(&r->subsets[id], r, m);
}

/* The subset of each version by its number. Those that found no room are everybody's. */
static int versions_set(struct registry *r, uint32_t upstream, const struct members *m,
			uint64_t now_ns, struct subsets *all, uint32_t version[MESH_VERSIONS])
{
	const struct service *s = &r->services[r->upstreams[upstream].image.service];
	int error = 0;

	for (uint32_t i = 0; i < MESH_VERSIONS; i++)
		version[i] = MESH_NONE;
	if (m->n)
		error = subset_get(r, upstream, "", m, now_ns, all, &version[0]);
	for (uint32_t i = 0; i < s->nversions; i++) {
		const struct version *v = &s->versions[i];
		int err;

		if (!version_remembered(v, now_ns) || !has_version(r, m, v->name))
			continue;
		err = subset_get(r, upstream, v->name, m, now_ns, all, &version[i + 1]);
		if (err == -ENOSPC)
			version[i + 1] = version[0];
		else
			error = error ? error : err;
	}
	return error;
}

/* Splits 65536 by weight. What falls to a version that nobody serves has gone to the others, or to
 * everybody, unless the service wants it to fail. */
static void split_set(struct mesh_upstream *m, const struct service *s)
{
	const struct snap_split *c = &s->config.split;
	uint64_t total = 0, sum = 0;
	uint32_t n = 0, weight[MESH_SPLITS];

	memset(m->split, 0, sizeof(m->split));
	for (uint32_t i = 0; i < c->n && m->version[0] != MESH_NONE; i++) {
		uint32_t subset = m->version[s->numbers[c->to[i].version]];

		if (!c->to[i].weight ||
		    (subset == MESH_NONE && s->config.fallback == SNAP_FALLBACK_SPLIT))
			continue;
		m->split[n].subset = subset;
		weight[n++] = c->to[i].weight;
		total += c->to[i].weight;
	}
	if (!n && m->version[0] != MESH_NONE) {
		m->split[0].subset = m->version[0];
		total = weight[n++] = 1;
	}
	for (uint32_t i = 0; i < n; i++) {
		sum += weight[i];
		m->split[i].upto = (uint32_t)(sum * 65536 / total);
	}
	m->nsplit = n;
}

static void subsets_replace(struct registry *r, struct upstream *u, const struct subsets *all,
			    uint64_t now_ns)
{
	for (uint32_t i = 0; i < u->nsubsets; i++) {
		uint32_t j = 0;

		while (j < all->n && all->id[j] != u->subsets[i])
			j++;
		if (j == all->n)
			subset_drop(r, u->subsets[i], now_ns);
	}
	memcpy(u->subsets, all->id, all->n * sizeof(*all->id));
	u->nsubsets = all->n;
}

static int upstream_update(struct registry *r, uint32_t id, const struct members *m,
			   uint64_t now_ns)
{
	struct upstream *u = &r->upstreams[id];
	const struct service *s = &r->services[u->image.service];
	struct mesh_upstream image = u->image;
	struct subsets all = {0};
	int error = versions_set(r, id, m, now_ns, &all, image.version);

	subsets_replace(r, u, &all, now_ns);
	split_set(&image, s);
	image.protocol = s->protocol;
	image.policy = s->config.policy;
	if (u->port || m->n)
		image.port =
			u->port ? htons(u->port) : htons((uint16_t)r->endpoints[m->ep[0]].port);
	if (memcmp(&image, &u->image, sizeof(image))) {
		for (uint32_t i = 0; i < all.n; i++)
			r->subsets[all.id[i]].dirty |= image.policy != u->image.policy;
		u->image = image;
		u->dirty = true;
	}
	return error;
}

/* Everybody of the service who is called through this upstream. Sorted by id, so that equal sets
 * look equal. */
static int by_id(const void *a, const void *b)
{
	return *(const uint16_t *)a - *(const uint16_t *)b;
}

static void collect(const struct registry *r, const struct service *s, uint16_t port,
		    struct members *m)
{
	m->n = 0;
	for (uint32_t w = s->workloads; w != MESH_NONE; w = r->workloads[w].next)
		for (uint32_t e = r->workloads[w].endpoints; e != MESH_NONE;
		     e = r->endpoints[e].next)
			if (port ? r->endpoints[e].port == port : r->endpoints[e].primary)
				m->ep[m->n++] = (uint16_t)e;
	for (uint32_t e = s->externals; e != MESH_NONE; e = r->endpoints[e].next)
		if (r->endpoints[e].primary && (!port || r->endpoints[e].port == port))
			m->ep[m->n++] = (uint16_t)e;
	qsort(m->ep, m->n, sizeof(*m->ep), by_id);
}

/* Makes the upstreams for all ports in use: the primary one, and one for each other port. */
static int upstreams_make(struct registry *r, uint32_t service, uint64_t now_ns)
{
	struct service *s = &r->services[service];
	int error = 0;
	uint32_t id;

	for (uint32_t w = s->workloads; w != MESH_NONE; w = r->workloads[w].next)
		for (uint32_t e = r->workloads[w].endpoints; e != MESH_NONE;
		     e = r->endpoints[e].next) {
			uint16_t port =
				r->endpoints[e].primary ? 0 : (uint16_t)r->endpoints[e].port;

			if (!upstream_get(r, service, port, now_ns, &id))
				error = -ENOSPC;
			else if (!port && s->primary != id)
				s->primary = id, r->services_dirty = true;
		}
	if (s->externals != MESH_NONE || s->config.naddresses) {
		if (!upstream_get(r, service, 0, now_ns, &id))
			error = -ENOSPC;
		else if (s->primary != id)
			s->primary = id, r->services_dirty = true;
	}
	return error;
}

/* Somebody registered by hand what was discovered anyway? Then the discovered one counts. */
static bool is_discovered(const struct registry *r, const struct service *s,
			  const struct endpoint *x)
{
	for (uint32_t w = s->workloads; w != MESH_NONE; w = r->workloads[w].next) {
		bool here =
			r->workloads[w].info.netns == r->own_netns && addr_is_loopback(x->image.ip);

		for (uint32_t e = r->workloads[w].endpoints; e != MESH_NONE;
		     e = r->endpoints[e].next)
			if (r->endpoints[e].port == x->port &&
			    (here || !memcmp(r->endpoints[e].image.ip, x->image.ip, 16)))
				return true;
	}
	return false;
}

static uint8_t effective_protocol(const struct registry *r, const struct service *s)
{
	if (s->config.protocol != MESH_PROTO_AUTO)
		return s->config.protocol;
	for (uint32_t w = s->workloads; w != MESH_NONE; w = r->workloads[w].next)
		if (r->workloads[w].info.protocol != MESH_PROTO_AUTO)
			return r->workloads[w].info.protocol;
	return MESH_PROTO_AUTO;
}

/* Whoever had an address before keeps it. */
static int virtual_dests(struct registry *r, uint32_t id)
{
	struct service *s = &r->services[id];
	const struct config_address *v = NULL;
	struct dest_set want = {0};
	int err = 0;

	if (s->config.naddresses)
		v = service_config_at(&s->config, s->config.addresses);
	for (uint32_t i = 0; v && s->primary != MESH_NONE && i < s->config.naddresses; i++)
		err |= dest_set_add(&want, v[i].ip, v[i].port, 0, s->primary);
	err = err ? -ENOMEM : dests_replace(r, id | HOLDER_VIRTUAL, &s->dests, &want);
	free(want.v);
	s->contested = 0;
	for (uint32_t i = 0; i < s->dests.n; i++)
		s->contested += !dest_is_held(r, &s->dests.v[i].key, id | HOLDER_VIRTUAL);
	return err;
}

int service_recompute(struct registry *r, uint32_t id, uint64_t now_ns)
{
	struct members *m = &r->members;
	struct service *s = &r->services[id];
	uint8_t protocol = effective_protocol(r, s);
	int error = 0, err;

	if (s->protocol != protocol) {
		s->protocol = protocol;
		r->services_dirty = true;
		r->renamed++;
	}
	for (uint32_t w = s->workloads; w != MESH_NONE; w = r->workloads[w].next)
		if ((err = workload_endpoints(r, w, now_ns)))
			error = err;
	for (uint32_t e = s->externals; e != MESH_NONE; e = r->endpoints[e].next)
		r->endpoints[e].primary = !is_discovered(r, s, &r->endpoints[e]);
	if ((err = upstreams_make(r, id, now_ns)))
		error = err;
	if ((err = service_number(r, s, now_ns)))
		error = err;
	s->nprimary = 0;
	for (uint32_t u = s->upstreams; u != MESH_NONE; u = r->upstreams[u].next) {
		collect(r, s, r->upstreams[u].port, m);
		if ((err = upstream_update(r, u, m, now_ns)))
			error = err;
		if (u == s->primary)
			s->nprimary = m->n;
	}
	for (uint32_t w = s->workloads; w != MESH_NONE; w = r->workloads[w].next)
		if ((err = workload_dests(r, w)))
			error = err;
	for (uint32_t e = s->externals; e != MESH_NONE; e = r->endpoints[e].next)
		if ((err = external_dests(r, s, e)))
			error = err;
	if ((err = virtual_dests(r, id)))
		error = err;
	return error;
}

void service_forget(struct registry *r, uint32_t id, uint64_t now_ns)
{
	struct service *s = &r->services[id];

	for (uint32_t u = s->upstreams; u != MESH_NONE; u = r->upstreams[u].next) {
		for (uint32_t i = 0; i < r->upstreams[u].nsubsets; i++)
			subset_drop(r, r->upstreams[u].subsets[i], now_ns);
		r->upstreams[u].used = false;
		ids_free(&r->upstream_ids, u, now_ns);
	}
	service_config_done(&s->config);
	free(s->versions);
	free(s->dests.v);
	memset(s, 0, sizeof(*s));
	r->renamed++;
}
