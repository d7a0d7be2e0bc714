/* SPDX-License-Identifier: Apache-2.0 */
/* Reading the registry: for the snapshot, for what meshd is told, for metrics. Changes nothing. */
#include "agent/registry/impl.h"

#include <arpa/inet.h>
#include <string.h>

static const struct snap_fault *fault_of(const struct registry *r, const char *service)
{
	for (size_t i = 0; i < r->nfaults; i++)
		if (!strcmp(r->faults[i].service, service))
			return &r->faults[i].fault;
	return NULL;
}

bool registry_service(const struct registry *r, uint32_t id, struct service_view *v)
{
	const struct service *s = id < MESH_MAX_SERVICES ? &r->services[id] : NULL;

	if (!s || !s->used)
		return false;
	*v = (struct service_view){.name = s->name,
				   .config = &s->config,
				   .protocol = s->protocol,
				   .callable = s->configured || s->primary != MESH_NONE,
				   .upstream = s->primary,
				   .nendpoints = s->nprimary,
				   .numbers = s->numbers,
				   .fault = fault_of(r, s->name),
				   .contested = s->contested};
	return true;
}

const struct workload_info *registry_workload(const struct registry *r, uint32_t id,
					      uint32_t *service)
{
	if (id >= MESH_MAX_WORKLOADS || !r->workloads[id].used)
		return NULL;
	if (service)
		*service = r->workloads[id].service;
	return &r->workloads[id].info;
}

bool registry_endpoint(const struct registry *r, uint32_t id, struct endpoint_view *v)
{
	const struct endpoint *e = id < MESH_MAX_ENDPOINTS ? &r->endpoints[id] : NULL;

	if (!e || !e->used)
		return false;
	*v = (struct endpoint_view){.service = e->image.service,
				    .workload = e->image.workload,
				    .gen = e->image.gen,
				    .port = (uint16_t)e->port,
				    .status = e->status,
				    .weight = e->image.weight,
				    .netns = e->image.netns ? e->image.netns : r->own_netns,
				    .primary = e->primary,
				    .external = e->image.flags & MESH_EP_EXTERNAL,
				    .loopback = e->image.flags & MESH_EP_LOOPBACK,
				    .id = e->image.id,
				    .version = e->image.version};
	memcpy(v->ip, e->image.ip, 16);
	return true;
}

const char *registry_caller_name(const struct registry *r, uint32_t workload)
{
	return workload < MESH_MAX_WORKLOADS ? r->workloads[workload].info.service : "";
}

const char *registry_service_name(const struct registry *r, uint32_t service)
{
	return service < MESH_MAX_SERVICES ? r->services[service].name : "";
}

bool registry_endpoint_names(const struct registry *r, uint32_t id, uint32_t gen,
			     const char **instance, const char **version)
{
	const struct mesh_endpoint *m = id < MESH_MAX_ENDPOINTS ? &r->endpoints[id].image : NULL;

	if (!m || m->gen != gen)
		return false;
	*instance = m->id;
	*version = m->version;
	return true;
}

uint64_t registry_renamed(const struct registry *r)
{
	return r->renamed + 1;
}

uint32_t registry_upstream_service(const struct registry *r, uint32_t upstream)
{
	if (upstream >= MESH_MAX_UPSTREAMS || !r->upstreams[upstream].used)
		return MESH_NONE;
	return r->upstreams[upstream].image.service;
}

uint32_t registry_ports(const struct registry *r, uint32_t workload, uint16_t *ports, uint32_t max)
{
	uint32_t n = 0;

	for (uint32_t e = r->workloads[workload].endpoints; e != MESH_NONE;
	     e = r->endpoints[e].next) {
		uint16_t port = (uint16_t)r->endpoints[e].port;
		uint32_t i = n < max ? n : max;

		for (; i && ports[i - 1] > port; i--)
			if (i < max)
				ports[i] = ports[i - 1];
		if (i < max)
			ports[i] = port;
		n++;
	}
	return n;
}

void registry_usage(const struct registry *r, struct registry_usage *u)
{
	*u = (struct registry_usage){.services = r->service_ids.used,
				     .upstreams = r->upstream_ids.used,
				     .endpoints = r->endpoint_ids.used,
				     .subsets = r->subset_ids.used,
				     .workloads = r->workload_ids.used,
				     .dests = r->ndests,
				     .listeners = r->nlisteners,
				     .full = r->full};
}
