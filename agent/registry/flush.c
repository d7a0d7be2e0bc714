/* SPDX-License-Identifier: Apache-2.0 */
/* What has changed, out to the sink, in the order that readers rely on: see registry_flush. */
#include "agent/registry/impl.h"

#include "lib/addr.h"

#include <errno.h>
#include <string.h>

bool registry_dirty(const struct registry *r)
{
	return r->dirty || r->services_dirty;
}

static int recompute_dirty(struct registry *r, uint64_t now_ns)
{
	int error = 0;

	for (uint32_t i = 0; i < r->service_ids.fresh; i++) {
		int err;

		if (!r->services[i].used || !r->services[i].dirty)
			continue;
		err = service_recompute(r, i, now_ns);
		r->services[i].dirty = err != 0;
		error = error ? error : err;
	}
	return error;
}

static void endpoints_write(struct registry *r, bool gone)
{
	for (uint32_t i = 0; i < r->endpoint_ids.fresh; i++) {
		struct endpoint *e = &r->endpoints[i];

		if (!e->dirty || e->gone != gone)
			continue;
		r->sink.endpoint(r->sink.arg, i, &e->image, e->fresh);
		e->dirty = e->fresh = e->gone = false;
	}
}

/* Sockets of endpoints that are in the arrays by now. */
static void listeners_write(struct registry *r)
{
	for (uint32_t i = 0; r->sink.stands && i < r->workload_ids.fresh; i++) {
		struct listener *l = r->workloads[i].used ? r->workloads[i].listeners : NULL;

		for (; l; l = l->sibling) {
			uint32_t ep = l->endpoint,
				 gen = ep == MESH_NONE ? 0 : r->endpoints[ep].image.gen;

			if (ep == l->told && gen == l->told_gen)
				continue;
			r->sink.stands(r->sink.arg, l->info.cookie, ep, gen);
			l->told = ep;
			l->told_gen = gen;
		}
	}
}

static void arrays_write(struct registry *r, uint64_t now_ns)
{
	endpoints_write(r, false);
	listeners_write(r);
	for (uint32_t i = 0; i < r->subset_ids.fresh; i++)
		if (r->subsets[i].dirty && r->subsets[i].used)
			subset_build(r, i, now_ns);
	for (uint32_t i = 0; i < r->upstream_ids.fresh; i++) {
		struct upstream *u = &r->upstreams[i];

		if (!u->used || !u->dirty)
			continue;
		r->sink.upstream(r->sink.arg, i, &u->image, u->fresh);
		u->dirty = u->fresh = false;
	}
	/* nobody refers to these any more */
	for (uint32_t i = 0; i < r->subset_ids.fresh; i++)
		if (r->subsets[i].dirty)
			subset_build(r, i, now_ns);
	endpoints_write(r, true);
}

/* What others see the workloads of a namespace as; all zero while that is not known. */
static void outer_address(const struct registry *r, uint64_t netns, uint8_t out[16])
{
	const uint8_t *ip = netns_global(r, netns, true);

	if (!ip)
		ip = netns_global(r, netns, false);
	if (ip)
		memcpy(out, ip, 16);
}

static void workloads_write(struct registry *r, int *error)
{
	for (uint32_t i = 0; i < r->workload_ids.fresh; i++) {
		struct workload *w = &r->workloads[i];
		struct mesh_workload m = {.id = i, .service = w->service, .netns = w->info.netns};
		int err;

		if (!w->used || !w->dirty)
			continue;
		outer_address(r, m.netns, m.ip);
		err = r->sink.workload(r->sink.arg, w->info.cgroup, &m);
		w->dirty = err != 0;
		*error = *error ? *error : err;
	}
}

int registry_flush(struct registry *r, uint64_t now_ns)
{
	int error;

	if (!registry_dirty(r))
		return 0;
	error = recompute_dirty(r, now_ns);
	dests_write(r, true, &error);
	for (uint32_t i = 0; i < r->ngone; i++)
		r->sink.workload(r->sink.arg, r->gone_cgroups[i], NULL);
	r->ngone = 0;
	arrays_write(r, now_ns);
	if (r->services_dirty) {
		int err = r->sink.services(r->sink.arg);

		if (err)
			return error ? error : err; /* without names nothing new may be let in */
		r->services_dirty = false;
	}
	dests_write(r, false, &error);
	workloads_write(r, &error);
	r->dirty = error != 0;
	return error;
}
