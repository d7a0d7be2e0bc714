/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the sockets of a workload to its endpoints (one per port, under the address that others
 * reach best) and to the destinations that lead to them. Called by service_recompute() only.
 */
#include "agent/registry/impl.h"

#include "lib/addr.h"
#include "lib/hash.h"
#include "lib/weight.h"

#include <arpa/inet.h>
#include <mesh/alive.h>
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

const struct netns_address *address_find(const struct netns_addresses *a, const uint8_t ip[16])
{
	for (uint32_t i = 0; a && i < a->n; i++)
		if (!memcmp(a->v[i].ip, ip, 16))
			return &a->v[i];
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

const uint8_t *netns_global(const struct registry *r, uint64_t netns, bool v4)
{
	const struct netns_addresses *a = netns_find(r, netns);

	for (uint32_t i = 0; a && i < a->n; i++)
		if (!a->v[i].ours && !addr_is_loopback(a->v[i].ip) && addr_is_v4(a->v[i].ip) == v4)
			return a->v[i].ip;
	return NULL;
}

/* Anybody may bind to an address that nobody has (IP_FREEBIND), or that is somebody else's: such a
 * socket is no reason to send others there. */
static bool counts(const struct registry *r, uint64_t netns, const struct listen_info *l)
{
	const struct netns_address *a;

	if (addr_is_any(l->ip) || addr_is_loopback(l->ip))
		return true;
	a = address_find(netns_find(r, netns), l->ip);
	return a && !a->ours;
}

/* The address under which others best reach this socket. */
static const uint8_t *best_address(const struct registry *r, uint64_t netns,
				   const struct listen_info *l)
{
	const uint8_t *ip = NULL;

	if (!addr_is_any(l->ip))
		return l->ip;
	if (serves4(l))
		ip = netns_global(r, netns, true);
	if (!ip && serves6(l))
		ip = netns_global(r, netns, false);
	return ip ? ip : serves4(l) ? loopback4 : loopback6;
}

/* Of several sockets on one port: a wildcard before one address, before loopback; IPv4 before IPv6.
 */
static int address_rank(const struct listen_info *l, const uint8_t *ip)
{
	return (addr_is_loopback(ip) ? 0 : addr_is_any(l->ip) ? 4 : 2) + addr_is_v4(ip);
}

static uint32_t primary_port(const struct registry *r, const struct workload *w)
{
	uint32_t lowest = 0;

	for (const struct listener *l = w->listeners; l; l = l->sibling) {
		if (!counts(r, w->info.netns, &l->info))
			continue;
		if (w->info.port && l->info.port == w->info.port)
			return l->info.port;
		if (!lowest || l->info.port < lowest)
			lowest = l->info.port;
	}
	return w->info.port ? 0 : lowest;
}

static uint16_t reach_flags(const struct listen_info *l, const uint8_t *ip)
{
	return (addr_is_loopback(ip) ? MESH_EP_LOOPBACK : 0) |
	       (addr_is_any(l->ip) ? MESH_EP_WILDCARD : 0);
}

static uint16_t status_flags(uint32_t status)
{
	return (status & ENDPOINT_UNHEALTHY ? MESH_EP_UNHEALTHY : 0) |
	       (status & ENDPOINT_DRAINING ? MESH_EP_DRAINING : 0);
}

static void endpoint_set(struct registry *r, struct endpoint *e, const uint8_t ip[16],
			 uint32_t flags, const char *version)
{
	struct mesh_endpoint *m = &e->image;

	flags |= MESH_EP_USED | MESH_EP_ALIVE | status_flags(e->status) |
		 (m->flags & ~MESH_ALIVE_LOW);
	if (!memcmp(m->ip, ip, 16) && m->flags == flags && !strcmp(m->version, version))
		return;
	memcpy(m->ip, ip, 16);
	m->flags = flags;
	r->renamed += strcmp(m->version, version) != 0;
	strcpy(m->version, version);
	e->dirty = true;
}

/* One that an agent before us knew, and its workers know, stays what it was. */
static void endpoint_again(struct registry *r, uint32_t n, uint32_t *list)
{
	struct endpoint *e = &r->endpoints[n];

	e->adopted = false;
	e->used = e->dirty = true;
	e->status = e->image.flags & MESH_EP_UNHEALTHY ? ENDPOINT_UNHEALTHY : 0;
	e->status |= e->image.flags & MESH_EP_DRAINING ? ENDPOINT_DRAINING : 0;
	e->next = *list;
	*list = n;
}

/* x, netns: as for endpoint_recall. */
static int endpoint_new(struct registry *r, uint32_t service, uint32_t port, const char *id,
			uint64_t netns, const struct external_info *x, uint32_t *list,
			uint64_t now_ns, uint32_t *out)
{
	uint32_t n = endpoint_recall(r, service, port, id, netns, x), gen;
	struct endpoint *e;

	if (n != MESH_NONE) {
		endpoint_again(r, n, list);
		*out = n;
		return 0;
	}

	if (ids_alloc(&r->endpoint_ids, now_ns, &n)) {
		r->full++;
		return -ENOSPC;
	}
	e = &r->endpoints[n];
	gen = e->image.gen;
	memset(e, 0, sizeof(*e));
	r->renamed++;
	e->used = e->dirty = e->fresh = true;
	e->port = port;
	e->image.gen = gen + 1;
	e->image.port = htons((uint16_t)port);
	e->image.service = service;
	e->image.workload = MESH_NONE;
	e->image.hash = (uint32_t)hash64(id, strlen(id));
	e->image.weight = WEIGHT_DEFAULT;
	e->since_ns = now_ns;
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

void endpoint_weigh(struct registry *r, uint32_t id, uint32_t weight)
{
	struct endpoint *e = &r->endpoints[id];

	weight = weight ? weight : WEIGHT_DEFAULT;
	if (e->image.weight == weight)
		return;
	e->image.weight = weight;
	e->dirty = true;
	subsets_touch(r, id);
	r->dirty = true;
}

void registry_endpoint_status(struct registry *r, uint32_t id, uint32_t mask, uint32_t status,
			      uint64_t now_ns)
{
	struct endpoint *e = id < MESH_MAX_ENDPOINTS ? &r->endpoints[id] : NULL;
	const uint16_t ours = MESH_EP_UNHEALTHY | MESH_EP_DRAINING;
	uint32_t next;

	if (!e || !e->used)
		return;
	next = (e->status & ~mask) | (status & mask);
	if (next == e->status)
		return;
	if (!next)
		e->since_ns = now_ns;
	e->status = next;
	if (status_flags(next) != (e->image.flags & ours)) {
		e->image.flags = (e->image.flags & ~ours) | status_flags(next);
		e->dirty = true;
	}
	subsets_touch(r, id);
	r->dirty = true;
}

int external_new(struct registry *r, uint32_t service, const struct external_info *x,
		 uint64_t now_ns)
{
	struct service *s = &r->services[service];
	uint32_t id;
	int err = endpoint_new(r, service, x->port, x->id, 0, x, &s->externals, now_ns, &id);

	if (err)
		return err;
	r->endpoints[id].marked = true;
	if (addr_is_loopback(x->ip))
		r->endpoints[id].image.netns = r->own_netns;
	endpoint_set(r, &r->endpoints[id], x->ip, MESH_EP_EXTERNAL, x->version);
	endpoint_weigh(r, id, x->weight);
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
			 uint32_t primary, uint64_t now_ns, uint32_t *out)
{
	struct workload *w = &r->workloads[workload];
	const uint8_t *ip = best_address(r, w->info.netns, l);
	uint32_t id = endpoint_on(r, w, l->port);
	struct endpoint *e;

	if (id == MESH_NONE) {
		int err = endpoint_new(r, w->service, l->port, w->info.instance, w->info.netns,
				       NULL, &w->endpoints, now_ns, &id);

		if (err)
			return err;
		r->endpoints[id].image.workload = workload;
		r->endpoints[id].image.netns = w->info.netns;
	}
	e = &r->endpoints[id];
	if (!e->marked || address_rank(l, ip) > e->rank) {
		e->rank = address_rank(l, ip);
		endpoint_set(r, e, ip, reach_flags(l, ip), w->info.version);
	}
	endpoint_weigh(r, id, w->info.weight);
	e->sockets = e->marked ? e->sockets + 1 : 1;
	e->marked = true;
	e->primary = l->port == primary;
	*out = id;
	return 0;
}

static void sockets_set(struct endpoint *e)
{
	uint32_t n = e->sockets < MESH_ALIVE_LOW ? e->sockets : MESH_ALIVE_LOW,
		 flags = (e->image.flags & MESH_ALIVE_LOW) | n << 16;

	e->dirty |= flags != e->image.flags;
	e->image.flags = flags;
}

int workload_endpoints(struct registry *r, uint32_t workload, uint64_t now_ns)
{
	struct workload *w = &r->workloads[workload];
	uint32_t primary = primary_port(r, w);
	int error = 0;

	for (uint32_t id = w->endpoints; id != MESH_NONE; id = r->endpoints[id].next)
		r->endpoints[id].marked = false;
	for (struct listener *l = w->listeners; l; l = l->sibling) {
		int err = 0;

		l->endpoint = MESH_NONE;
		if (counts(r, w->info.netns, &l->info))
			err = endpoint_join(r, workload, &l->info, primary, now_ns, &l->endpoint);
		error = error ? error : err;
	}
	for (uint32_t *p = &w->endpoints; *p != MESH_NONE;) {
		uint32_t id = *p;

		if (r->endpoints[id].marked) {
			sockets_set(&r->endpoints[id]);
			p = &r->endpoints[id].next;
			continue;
		}
		*p = r->endpoints[id].next;
		endpoint_drop(r, id, now_ns);
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
		const uint8_t *ip = a->v[i].ip;

		if (!a->v[i].ours && (addr_is_v4(ip) ? serves4(l) : serves6(l)))
			err |= dest_set_add(set, ip, l->port,
					    addr_is_loopback(ip) ? w->info.netns : 0, upstream);
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

int workload_dests(struct registry *r, uint32_t workload)
{
	struct workload *w = &r->workloads[workload];
	const struct service *s = &r->services[w->service];
	uint32_t primary = primary_port(r, w);
	struct dest_set want = {0};
	int error = 0, err;

	for (const struct listener *l = w->listeners; l; l = l->sibling) {
		uint32_t up = upstream_find(r, s, l->info.port == primary ? 0 : l->info.port);

		if (up == MESH_NONE || !counts(r, w->info.netns, &l->info))
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

int external_dests(struct registry *r, const struct service *s, uint32_t id)
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
