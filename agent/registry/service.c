/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one service looks like after a change: its endpoints from the sockets of its workloads, its
 * upstreams from the endpoints, subsets from the configured split, destinations from all of them.
 * Recomputed as a whole, and only differences are marked to be written.
 */
#include "agent/registry/impl.h"

#include "lib/addr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const uint8_t loopback4[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1};
static const uint8_t loopback6[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};

const struct netns_addresses *netns_find(const struct registry *r, uint64_t cookie)
{
	for (uint32_t i = 0; i < r->nnetns; i++)
		if (r->netns[i].cookie == cookie)
			return &r->netns[i];
	return NULL;
}

/* Which families a listening socket serves. */
static bool serves4(const struct listen_info *l)
{
	return addr_is_v4(l->ip) || (addr_is_any(l->ip) && !l->v6only);
}

static bool serves6(const struct listen_info *l)
{
	return !addr_is_v4(l->ip);
}

static const uint8_t *first_global(const struct registry *r, uint64_t netns, bool v4)
{
	const struct netns_addresses *a = netns_find(r, netns);

	for (uint32_t i = 0; a && i < a->n; i++)
		if (!addr_is_loopback(a->ip[i]) && addr_is_v4(a->ip[i]) == v4)
			return a->ip[i];
	return NULL;
}

/* The address under which others best reach this socket. */
static const uint8_t *best_address(const struct registry *r, uint64_t netns,
				   const struct listen_info *l)
{
	const uint8_t *ip = NULL;

	if (!addr_is_any(l->ip))
		return l->ip;
	if (serves4(l))
		ip = first_global(r, netns, true);
	if (!ip && serves6(l))
		ip = first_global(r, netns, false);
	return ip ? ip : serves4(l) ? loopback4 : loopback6;
}

/* Of several sockets on one port: a wildcard before one address, before loopback; IPv4 before IPv6.
 */
static int address_rank(const struct listen_info *l, const uint8_t *ip)
{
	return (addr_is_loopback(ip) ? 0 : addr_is_any(l->ip) ? 4 : 2) + addr_is_v4(ip);
}

static uint32_t primary_port(const struct workload *w)
{
	uint32_t lowest = 0;

	for (const struct listener *l = w->listeners; l; l = l->sibling) {
		if (w->info.port && l->info.port == w->info.port)
			return l->info.port;
		if (!lowest || l->info.port < lowest)
			lowest = l->info.port;
	}
	return w->info.port ? 0 : lowest;
}

static void endpoint_set(struct endpoint *e, const uint8_t ip[16], uint16_t flags,
			 const char *version)
{
	struct mesh_endpoint *m = &e->image;

	flags |= MESH_EP_USED | MESH_EP_ALIVE;
	if (!memcmp(m->ip, ip, 16) && m->flags == flags && !strcmp(m->version, version))
		return;
	memcpy(m->ip, ip, 16);
	m->flags = flags;
	strcpy(m->version, version);
	e->dirty = true;
}

static int endpoint_new(struct registry *r, uint32_t service, uint32_t port, const char *id,
			uint32_t *list, uint64_t now_ns, uint32_t *out)
{
	struct endpoint *e;
	uint32_t n, gen;

	if (ids_alloc(&r->endpoint_ids, now_ns, &n)) {
		r->full++;
		return -ENOSPC;
	}
	e = &r->endpoints[n];
	gen = e->image.gen;
	memset(e, 0, sizeof(*e));
	e->used = e->dirty = e->fresh = true;
	e->port = port;
	e->image.gen = gen + 1;
	e->image.port = htons((uint16_t)port);
	e->image.service = service;
	e->image.workload = MESH_NONE;
	strcpy(e->image.id, id);
	e->next = *list;
	*list = n;
	*out = n;
	return 0;
}

void endpoint_drop(struct registry *r, uint32_t id, uint64_t now_ns)
{
	struct endpoint *e = &r->endpoints[id];

	free(e->dests.v);
	memset(&e->dests, 0, sizeof(e->dests));
	e->used = false;
	e->gone = e->dirty = true;
	e->image.flags = 0;
	ids_free(&r->endpoint_ids, id, now_ns);
	r->dirty = true;
}

int external_new(struct registry *r, uint32_t service, const struct external_info *x,
		 uint64_t now_ns)
{
	struct service *s = &r->services[service];
	uint32_t id;
	int err = endpoint_new(r, service, x->port, x->id, &s->externals, now_ns, &id);

	if (err)
		return err;
	r->endpoints[id].marked = true;
	endpoint_set(&r->endpoints[id], x->ip, MESH_EP_EXTERNAL, x->version);
	return 0;
}

bool externals_sweep(struct registry *r, uint32_t service, uint64_t now_ns)
{
	bool any = false;

	for (uint32_t *p = &r->services[service].externals; *p != MESH_NONE;) {
		uint32_t id = *p;
		struct dest_set none = {0};

		if (r->endpoints[id].marked) {
			p = &r->endpoints[id].next;
			continue;
		}
		*p = r->endpoints[id].next;
		dests_replace(r, id | HOLDER_EXTERNAL, &r->endpoints[id].dests, &none);
		free(none.v);
		endpoint_drop(r, id, now_ns);
		any = true;
	}
	return any;
}

static uint32_t endpoint_on(const struct registry *r, const struct workload *w, uint32_t port)
{
	uint32_t id = w->endpoints;

	while (id != MESH_NONE && r->endpoints[id].port != port)
		id = r->endpoints[id].next;
	return id;
}

/* One socket's part in the endpoint of its port. */
static int endpoint_join(struct registry *r, uint32_t workload, const struct listen_info *l,
			 uint64_t now_ns)
{
	struct workload *w = &r->workloads[workload];
	const uint8_t *ip = best_address(r, w->info.netns, l);
	uint32_t id = endpoint_on(r, w, l->port);
	struct endpoint *e;

	if (id == MESH_NONE) {
		int err = endpoint_new(r, w->service, l->port, w->info.instance, &w->endpoints,
				       now_ns, &id);

		if (err)
			return err;
		r->endpoints[id].image.workload = workload;
		r->endpoints[id].image.netns = w->info.netns;
	}
	e = &r->endpoints[id];
	if (!e->marked || address_rank(l, ip) > e->rank) {
		e->rank = address_rank(l, ip);
		endpoint_set(e, ip, addr_is_loopback(ip) ? MESH_EP_LOOPBACK : 0, w->info.version);
	}
	e->marked = true;
	e->primary = l->port == primary_port(w);
	return 0;
}

static int workload_endpoints(struct registry *r, uint32_t workload, uint64_t now_ns)
{
	struct workload *w = &r->workloads[workload];
	int error = 0;

	for (uint32_t id = w->endpoints; id != MESH_NONE; id = r->endpoints[id].next)
		r->endpoints[id].marked = false;
	for (const struct listener *l = w->listeners; l; l = l->sibling) {
		int err = endpoint_join(r, workload, &l->info, now_ns);

		error = error ? error : err;
	}
	for (uint32_t *p = &w->endpoints; *p != MESH_NONE;) {
		uint32_t id = *p;

		if (r->endpoints[id].marked) {
			p = &r->endpoints[id].next;
			continue;
		}
		*p = r->endpoints[id].next;
		endpoint_drop(r, id, now_ns);
	}
	return error;
}

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
	u->next = s->upstreams;
	s->upstreams = id;
	*out = id;
	return u;
}

static void subset_drop(struct registry *r, uint32_t id, uint64_t now_ns)
{
	struct subset *s = &r->subsets[id];

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

/* The upstream's subset of that version ("" is everything): kept, or made. MESH_NONE when there is
 * no room. */
static uint32_t subset_get(struct registry *r, uint32_t upstream, const char *version,
			   uint64_t now_ns)
{
	struct upstream *u = &r->upstreams[upstream];
	uint32_t id;

	for (uint32_t i = 0; i < u->nsubsets; i++)
		if (!strcmp(r->subsets[u->subsets[i]].version, version))
			return u->subsets[i];
	if (ids_alloc(&r->subset_ids, now_ns, &id)) {
		r->full++;
		return MESH_NONE;
	}
	memset(&r->subsets[id], 0, sizeof(r->subsets[id]));
	r->subsets[id].used = r->subsets[id].dirty = true;
	r->subsets[id].upstream = upstream;
	strcpy(r->subsets[id].version, version);
	return id;
}

struct share {
	const char *version;
	uint32_t weight;
};

/* Versions that somebody serves, with their weights; without a configured split one share of
 * everything. */
static uint32_t shares_of(const struct registry *r, const struct service *s,
			  const struct members *m, struct share *out)
{
	uint32_t n = 0;

	if (!s->config.nsplit) {
		out[0] = (struct share){"", 1};
		return m->n ? 1 : 0;
	}
	for (uint32_t i = 0; i < s->config.nsplit; i++)
		if (s->config.split[i].weight && has_version(r, m, s->config.split[i].version))
			out[n++] = (struct share){s->config.split[i].version,
						  s->config.split[i].weight};
	return n;
}

/* Splits 65536 by weight; the weight of versions that nobody serves has gone to the others already.
 */
static uint32_t split_set(struct mesh_upstream *m, const uint32_t *subsets,
			  const struct share *share, uint32_t n)
{
	uint64_t total = 0, sum = 0;

	for (uint32_t i = 0; i < n; i++)
		total += share[i].weight;
	memset(m->split, 0, sizeof(m->split));
	for (uint32_t i = 0; i < n; i++) {
		sum += share[i].weight;
		m->split[i].subset = subsets[i];
		m->split[i].upto = (uint32_t)(sum * 65536 / total);
	}
	return n;
}

static int upstream_update(struct registry *r, uint32_t id, const struct members *m,
			   uint64_t now_ns)
{
	struct upstream *u = &r->upstreams[id];
	const struct service *s = &r->services[u->image.service];
	struct mesh_upstream image = u->image;
	struct share share[MESH_SPLITS];
	uint32_t n = shares_of(r, s, m, share), subsets[MESH_SPLITS];
	int error = 0;

	for (uint32_t i = 0; i < n; i++) {
		subsets[i] = subset_get(r, id, share[i].version, now_ns);
		if (subsets[i] == MESH_NONE) {
			error = -ENOSPC;
			n = i;
			break;
		}
		if (subset_fill(&r->subsets[subsets[i]], r, m))
			error = -ENOMEM;
	}
	for (uint32_t i = 0; i < u->nsubsets; i++) {
		uint32_t j = 0;

		while (j < n && subsets[j] != u->subsets[i])
			j++;
		if (j == n)
			subset_drop(r, u->subsets[i], now_ns);
	}
	memcpy(u->subsets, subsets, n * sizeof(*subsets));
	u->nsubsets = n;
	image.nsplit = split_set(&image, subsets, share, n);
	image.protocol = s->protocol;
	image.policy = s->config.policy;
	if (u->port || m->n)
		image.port =
			u->port ? htons(u->port) : htons((uint16_t)r->endpoints[m->ep[0]].port);
	if (memcmp(&image, &u->image, sizeof(image))) {
		for (uint32_t i = 0; i < n; i++)
			r->subsets[subsets[i]].dirty |= image.policy != u->image.policy;
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
	if (s->externals != MESH_NONE) {
		if (!upstream_get(r, service, 0, now_ns, &id))
			error = -ENOSPC;
		else if (s->primary != id)
			s->primary = id, r->services_dirty = true;
	}
	return error;
}

static int wildcard_dests(const struct registry *r, struct dest_set *set, const struct workload *w,
			  const struct listen_info *l, uint32_t upstream)
{
	const struct netns_addresses *a = netns_find(r, w->info.netns);
	int err = 0;

	if (serves4(l))
		err |= dest_set_add(set, loopback4, l->port, w->info.netns, upstream);
	if (serves6(l))
		err |= dest_set_add(set, loopback6, l->port, w->info.netns, upstream);
	for (uint32_t i = 0; a && i < a->n; i++) {
		bool v4 = addr_is_v4(a->ip[i]);

		if (v4 ? serves4(l) : serves6(l))
			err |= dest_set_add(set, a->ip[i], l->port,
					    addr_is_loopback(a->ip[i]) ? w->info.netns : 0,
					    upstream);
	}
	return err ? -ENOMEM : 0;
}

static uint32_t upstream_find(const struct registry *r, const struct service *s, uint16_t port)
{
	uint32_t id = s->upstreams;

	while (id != MESH_NONE && r->upstreams[id].port != port)
		id = r->upstreams[id].next;
	return id;
}

static int workload_dests(struct registry *r, uint32_t workload)
{
	struct workload *w = &r->workloads[workload];
	const struct service *s = &r->services[w->service];
	uint32_t primary = primary_port(w);
	struct dest_set want = {0};
	int error = 0, err;

	for (const struct listener *l = w->listeners; l; l = l->sibling) {
		uint32_t up = upstream_find(r, s, l->info.port == primary ? 0 : l->info.port);

		if (up == MESH_NONE)
			continue;
		if (addr_is_any(l->info.ip))
			err = wildcard_dests(r, &want, w, &l->info, up);
		else
			err = dest_set_add(&want, l->info.ip, l->info.port,
					   addr_is_loopback(l->info.ip) ? w->info.netns : 0, up);
		error = error ? error : err;
	}
	err = dests_replace(r, workload, &w->dests, &want);
	free(want.v);
	return error ? error : err;
}

static int external_dests(struct registry *r, struct service *s, uint32_t id)
{
	struct endpoint *e = &r->endpoints[id];
	struct dest_set want = {0};
	int err = 0;

	if (e->primary && s->primary != MESH_NONE)
		err = dest_set_add(&want, e->image.ip, (uint16_t)e->port,
				   addr_is_loopback(e->image.ip) ? r->own_netns : 0, s->primary);
	err = err ? err : dests_replace(r, id | HOLDER_EXTERNAL, &e->dests, &want);
	free(want.v);
	return err;
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

int service_recompute(struct registry *r, uint32_t id, uint64_t now_ns)
{
	struct members *m = &r->members;
	struct service *s = &r->services[id];
	uint8_t protocol = effective_protocol(r, s);
	int error = 0, err;

	if (s->protocol != protocol)
		s->protocol = protocol, r->services_dirty = true;
	for (uint32_t w = s->workloads; w != MESH_NONE; w = r->workloads[w].next)
		if ((err = workload_endpoints(r, w, now_ns)))
			error = err;
	for (uint32_t e = s->externals; e != MESH_NONE; e = r->endpoints[e].next)
		r->endpoints[e].primary = !is_discovered(r, s, &r->endpoints[e]);
	if ((err = upstreams_make(r, id, now_ns)))
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
	memset(s, 0, sizeof(*s));
}
