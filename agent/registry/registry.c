/* SPDX-License-Identifier: Apache-2.0 */
/* Workloads, sockets, registered endpoints, configuration: what goes into the model. See
 * registry.h. */
#include "agent/registry/impl.h"

#include "lib/addr.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int registry_new(const struct registry_sink *sink, uint64_t own_netns, struct registry **out)
{
	struct registry *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	r->sink = *sink;
	r->own_netns = own_netns;
	if (ids_init(&r->service_ids, MESH_MAX_SERVICES) ||
	    ids_init(&r->upstream_ids, MESH_MAX_UPSTREAMS) ||
	    ids_init(&r->endpoint_ids, MESH_MAX_ENDPOINTS) ||
	    ids_init(&r->subset_ids, MESH_MAX_SUBSETS) ||
	    ids_init(&r->workload_ids, MESH_MAX_WORKLOADS)) {
		registry_free(&r);
		return -ENOMEM;
	}
	*out = r;
	return 0;
}

static void listeners_done(struct registry *r)
{
	for (uint32_t i = 0; i < LISTENER_BUCKETS; i++)
		for (struct listener *l = r->listeners[i], *next; l; l = next) {
			next = l->next;
			free(l);
		}
}

void registry_free(struct registry **rp)
{
	struct registry *r = *rp;

	if (!r)
		return;
	listeners_done(r);
	dests_done(r);
	for (uint32_t i = 0; i < r->workload_ids.fresh; i++)
		free(r->workloads[i].dests.v);
	for (uint32_t i = 0; i < r->endpoint_ids.fresh; i++)
		free(r->endpoints[i].dests.v);
	for (uint32_t i = 0; i < r->subset_ids.fresh; i++) {
		free(r->subsets[i].ep);
		free(r->subsets[i].latency);
	}
	for (uint32_t i = 0; i < r->nnetns; i++)
		free(r->netns[i].v);
	for (uint32_t i = 0; i < r->service_ids.fresh; i++) {
		service_config_done(&r->services[i].config);
		free(r->services[i].versions);
		free(r->services[i].dests.v);
	}
	free(r->faults);
	ids_done(&r->service_ids);
	ids_done(&r->upstream_ids);
	ids_done(&r->endpoint_ids);
	ids_done(&r->subset_ids);
	ids_done(&r->workload_ids);
	free(r->gone_cgroups);
	free(r);
	*rp = NULL;
}

static void service_touch(struct registry *r, uint32_t id)
{
	r->services[id].dirty = r->dirty = true;
}

/* The service of that name, known from before or new; its id stays the same while anybody may
 * remember it. */
static int service_get(struct registry *r, const char *name, uint64_t now_ns, uint32_t *out)
{
	struct service *s;
	uint32_t id;

	for (id = 0; id < r->service_ids.fresh; id++)
		if (r->services[id].used && !strcmp(r->services[id].name, name)) {
			if (r->services[id].idle)
				ids_revive(&r->service_ids, id);
			r->services[id].idle = false;
			*out = id;
			return 0;
		}
	if (ids_alloc(&r->service_ids, now_ns, &id)) {
		r->full++;
		return -ENOSPC;
	}
	s = &r->services[id];
	if (s->used)
		service_forget(r, id, now_ns);
	memset(s, 0, sizeof(*s));
	r->renamed++;
	strcpy(s->name, name);
	s->used = true;
	s->workloads = s->externals = s->upstreams = s->primary = MESH_NONE;
	service_config_init(&s->config);
	r->services_dirty = true;
	service_touch(r, id);
	*out = id;
	return 0;
}

/* To be called when one of its holders has gone. */
static void service_put(struct registry *r, uint32_t id, uint64_t now_ns)
{
	struct service *s = &r->services[id];

	service_touch(r, id);
	if (s->idle || s->workloads != MESH_NONE || s->externals != MESH_NONE || s->configured)
		return;
	s->idle = true;
	ids_free(&r->service_ids, id, now_ns);
}

/* --- workloads and their sockets --- */

int registry_workload_add(struct registry *r, const struct workload_info *info, uint64_t now_ns,
			  uint32_t *out)
{
	struct workload *w;
	uint32_t id, service;
	int err = service_get(r, info->service, now_ns, &service);

	if (err)
		return err;
	id = workload_recall(r, info->cgroup);
	if (id == MESH_NONE && ids_alloc(&r->workload_ids, now_ns, &id)) {
		r->full++;
		service_put(r, service, now_ns);
		return -ENOSPC;
	}
	w = &r->workloads[id];
	memset(w, 0, sizeof(*w));
	w->used = w->dirty = true;
	w->service = service;
	w->endpoints = MESH_NONE;
	w->info = *info;
	r->renamed++;
	w->next = r->services[service].workloads;
	r->services[service].workloads = id;
	service_touch(r, service);
	*out = id;
	return 0;
}

static void workload_unlink(struct registry *r, uint32_t id)
{
	uint32_t *p = &r->services[r->workloads[id].service].workloads;

	while (*p != id)
		p = &r->workloads[*p].next;
	*p = r->workloads[id].next;
}

/* Endpoints carry the service, the instance and the namespace, so that a change of those needs new
 * ones. */
static void workload_clear(struct registry *r, uint32_t id, uint64_t now_ns)
{
	struct workload *w = &r->workloads[id];
	struct dest_set none = {0};

	dests_replace(r, id, &w->dests, &none);
	free(none.v);
	while (w->endpoints != MESH_NONE) {
		uint32_t e = w->endpoints;

		w->endpoints = r->endpoints[e].next;
		endpoint_drop(r, e, now_ns);
	}
}

int registry_workload_update(struct registry *r, uint32_t id, const struct workload_info *info,
			     uint64_t now_ns)
{
	struct workload *w = &r->workloads[id];
	uint32_t service, old = w->service;
	int err;

	if (!memcmp(&w->info, info, sizeof(*info)))
		return 0;
	err = service_get(r, info->service, now_ns, &service);
	if (err)
		return err;
	if (service != old || info->netns != w->info.netns ||
	    strcmp(info->instance, w->info.instance))
		workload_clear(r, id, now_ns);
	if (service != old) {
		workload_unlink(r, id);
		w->service = service;
		w->next = r->services[service].workloads;
		r->services[service].workloads = id;
		service_put(r, old, now_ns);
	}
	w->dirty = true;
	r->renamed += strcmp(w->info.service, info->service) != 0;
	w->info = *info;
	service_touch(r, service);
	return 0;
}

int cgroup_gone(struct registry *r, uint64_t cgroup)
{
	if (r->ngone == r->gone_cap) {
		uint32_t cap = r->gone_cap ? r->gone_cap * 2 : 16;
		uint64_t *v = realloc(r->gone_cgroups, cap * sizeof(*v));

		if (!v)
			return -ENOMEM;
		r->gone_cgroups = v;
		r->gone_cap = cap;
	}
	r->gone_cgroups[r->ngone++] = cgroup;
	return 0;
}

static struct listener **listener_slot(struct registry *r, uint64_t cookie)
{
	struct listener **p = &r->listeners[cookie % LISTENER_BUCKETS];

	while (*p && (*p)->info.cookie != cookie)
		p = &(*p)->next;
	return p;
}

bool registry_unlisten(struct registry *r, uint64_t cookie)
{
	struct listener **slot = listener_slot(r, cookie), *l = *slot, **p;

	if (!l)
		return false;
	for (p = &r->workloads[l->workload].listeners; *p != l;)
		p = &(*p)->sibling;
	*p = l->sibling;
	r->workloads[l->workload].nlisteners--;
	*slot = l->next;
	service_touch(r, r->workloads[l->workload].service);
	free(l);
	r->nlisteners--;
	return true;
}

void workload_forget(struct registry *r, uint32_t id, uint64_t now_ns)
{
	uint64_t cgroup = r->workloads[id].info.cgroup;

	if (cgroup_gone(r, cgroup)) /* at once, then, if it cannot wait for the flush */
		r->sink.workload(r->sink.arg, cgroup, NULL);
	ids_free(&r->workload_ids, id, now_ns);
	r->dirty = true;
}

void registry_workload_remove(struct registry *r, uint32_t id, uint64_t now_ns)
{
	struct workload *w = &r->workloads[id];

	if (!w->used)
		return;
	while (w->listeners)
		registry_unlisten(r, w->listeners->info.cookie);
	workload_clear(r, id, now_ns);
	workload_unlink(r, id);
	free(w->dests.v);
	memset(&w->dests, 0, sizeof(w->dests));
	w->used = w->dirty = false;
	workload_forget(r, id, now_ns);
	service_put(r, w->service, now_ns);
}

int registry_listen(struct registry *r, uint32_t workload, const struct listen_info *info)
{
	struct listener **slot = listener_slot(r, info->cookie), *l;

	if (*slot)
		return 0;
	if (r->nlisteners >= MESH_MAX_LISTENERS ||
	    r->workloads[workload].nlisteners >= REGISTRY_SOCKETS_MAX) {
		r->full++;
		return -ENOSPC;
	}
	l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	l->info = *info;
	l->workload = workload;
	l->endpoint = l->told = MESH_NONE;
	l->sibling = r->workloads[workload].listeners;
	r->workloads[workload].listeners = l;
	r->workloads[workload].nlisteners++;
	*slot = l;
	r->nlisteners++;
	service_touch(r, r->workloads[workload].service);
	return 0;
}

bool registry_listens(const struct registry *r, uint64_t cookie)
{
	return *listener_slot((struct registry *)r, cookie) != NULL;
}

static bool contains(const uint64_t *v, size_t n, uint64_t x)
{
	size_t lo = 0;

	while (lo < n) {
		size_t mid = lo + (n - lo) / 2;

		if (v[mid] == x)
			return true;
		if (v[mid] < x)
			lo = mid + 1;
		else
			n = mid;
	}
	return false;
}

void registry_sweep(struct registry *r, uint64_t netns, const uint64_t *seen, size_t n)
{
	for (uint32_t i = 0; i < r->workload_ids.fresh; i++) {
		struct listener *l, *next;

		if (!r->workloads[i].used || r->workloads[i].info.netns != netns)
			continue;
		for (l = r->workloads[i].listeners; l; l = next) {
			next = l->sibling;
			if (contains(seen, n, l->info.cookie))
				l->missed = false;
			else if (!l->missed)
				l->missed = true;
			else {
				r->sink.swept(r->sink.arg, l->info.cookie);
				registry_unlisten(r, l->info.cookie);
			}
		}
	}
}

/* --- addresses, registered endpoints, configuration --- */

static bool same_addresses(const struct netns_addresses *a, const uint8_t (*ip)[16], uint32_t n)
{
	bool same = a->n == n;

	for (uint32_t i = 0; same && i < n; i++)
		same = !memcmp(a->v[i].ip, ip[i], 16);
	return same;
}

static void addresses_judge(struct registry *r, struct netns_addresses *a)
{
	const struct netns_addresses *own = netns_find(r, r->own_netns);

	for (uint32_t i = 0; i < a->n; i++)
		a->v[i].ours =
			a != own && !addr_is_loopback(a->v[i].ip) && address_find(own, a->v[i].ip);
}

static void workloads_touch(struct registry *r, uint64_t netns)
{
	for (uint32_t i = 0; i < r->workload_ids.fresh; i++)
		if (r->workloads[i].used &&
		    (r->workloads[i].info.netns == netns || netns == r->own_netns)) {
			r->workloads[i].dirty = true;
			service_touch(r, r->workloads[i].service);
		}
}

int registry_addresses(struct registry *r, uint64_t netns, const uint8_t (*ip)[16], uint32_t n)
{
	struct netns_addresses *a = (struct netns_addresses *)netns_find(r, netns);
	struct netns_address *copy = NULL;

	if (a && n && same_addresses(a, ip, n))
		return 0;
	if (!a && (!n || r->nnetns == NETNS_KNOWN))
		return n ? -ENOSPC : 0;
	if (n) {
		copy = calloc(n, sizeof(*copy));
		if (!copy)
			return -ENOMEM;
	}
	for (uint32_t i = 0; i < n; i++)
		memcpy(copy[i].ip, ip[i], 16);
	if (a)
		free(a->v);
	else
		a = &r->netns[r->nnetns++]; /* may still show what was moved away from here */
	*a = (struct netns_addresses){netns, n, copy};
	if (!n)
		*a = r->netns[--r->nnetns];
	for (uint32_t i = 0; i < r->nnetns; i++)
		if (netns == r->own_netns || r->netns[i].cookie == netns)
			addresses_judge(r, &r->netns[i]);
	workloads_touch(r, netns);
	return 0;
}

static bool same_external(const struct endpoint *e, const struct external_info *x)
{
	return !strcmp(e->image.id, x->id) && !strcmp(e->image.version, x->version) &&
	       e->port == x->port && !memcmp(e->image.ip, x->ip, 16);
}

static int external_add(struct registry *r, const struct external_info *x, uint64_t now_ns)
{
	uint32_t service, e;
	int err = service_get(r, x->service, now_ns, &service);

	if (err)
		return err;
	for (e = r->services[service].externals; e != MESH_NONE; e = r->endpoints[e].next)
		if (same_external(&r->endpoints[e], x)) {
			r->endpoints[e].marked = true;
			endpoint_weigh(r, e, x->weight);
			return 0;
		}
	err = external_new(r, service, x, now_ns);
	service_put(r, service, now_ns);
	return err;
}

int registry_externals(struct registry *r, const struct external_info *v, size_t n, uint64_t now_ns)
{
	int error = 0;

	for (uint32_t i = 0; i < r->service_ids.fresh; i++)
		for (uint32_t e = r->services[i].used ? r->services[i].externals : MESH_NONE;
		     e != MESH_NONE; e = r->endpoints[e].next)
			r->endpoints[e].marked = false;
	for (size_t i = 0; i < n; i++) {
		int err = external_add(r, &v[i], now_ns);

		error = error ? error : err;
	}
	for (uint32_t i = 0; i < r->service_ids.fresh; i++)
		if (r->services[i].used && externals_sweep(r, i, now_ns))
			service_put(r, i, now_ns);
	return error;
}

static void configure(struct registry *r, uint32_t id, const struct service_config *c)
{
	struct service *s = &r->services[id];

	if (service_config_equal(&s->config, c)) {
		service_touch(r, id);
		return;
	}
	service_config_done(&s->config);
	service_config_copy(&s->config, c);
	memset(s->numbers, 0, sizeof(s->numbers));
	r->services_dirty = true;
	service_touch(r, id);
}

int registry_configure(struct registry *r, const struct named_config *v, size_t n, uint64_t now_ns)
{
	struct service_config defaults;
	int error = 0;

	service_config_init(&defaults);
	for (uint32_t i = 0; i < r->service_ids.fresh; i++)
		r->services[i].wanted = false;
	for (size_t i = 0; i < n; i++) {
		uint32_t id;
		int err = service_get(r, v[i].service, now_ns, &id);

		error = error ? error : err;
		if (err)
			continue;
		r->services_dirty |= !r->services[id].configured;
		r->services[id].wanted = r->services[id].configured = true;
		configure(r, id, &v[i].config);
	}
	for (uint32_t i = 0; i < r->service_ids.fresh; i++) {
		if (!r->services[i].used || !r->services[i].configured || r->services[i].wanted)
			continue;
		r->services[i].configured = false;
		r->services_dirty = true;
		configure(r, i, &defaults);
		service_put(r, i, now_ns);
	}
	return error;
}

int registry_faults(struct registry *r, const struct fault_info *v, size_t n, uint64_t now_ms)
{
	struct fault_info *copy = n ? malloc(n * sizeof(*v)) : NULL;

	if (n && !copy)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		copy[i] = v[i];
		copy[i].fault.until_ms = now_ms + v[i].left_ms;
	}
	r->services_dirty |= n || r->nfaults;
	free(r->faults);
	r->faults = copy;
	r->nfaults = n;
	registry_faults_end(r, now_ms);
	return 0;
}

void registry_faults_end(struct registry *r, uint64_t now_ms)
{
	size_t left = 0;

	for (size_t i = 0; i < r->nfaults; i++)
		if (r->faults[i].fault.until_ms > now_ms)
			r->faults[left++] = r->faults[i];
	r->services_dirty |= left != r->nfaults;
	r->nfaults = left;
}
