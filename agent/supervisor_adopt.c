/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An agent before this one has died, or left: its maps are ours now, its workers may still serve by
 * them. What they mean is read back (registry/adopt.c), and nothing is written before everything
 * that exists was looked at again: so nobody sees a mesh that is half known.
 */
#include "agent/supervisor.h"

#include "lib/log.h"

#include <string.h>

#define LOOK_NS 2000000000ULL /* what cannot be looked at for that long is not waited for */

static void take_workload(const void *key, const void *value, void *arg)
{
	struct supervisor *s = arg;

	registry_adopt_workload(s->registry, *(const uint64_t *)key, value, s->loop.now_ns);
}

static void take_dest(const void *key, const void *value, void *arg)
{
	registry_adopt_dest(((struct supervisor *)arg)->registry, key);
}

void adopt_begin(struct supervisor *s)
{
	struct registry *r = s->registry;
	uint64_t now_ns = s->loop.now_ns;
	struct mesh_names names;
	int err;

	if (!kernel_adopted(s->kernel))
		return;
	s->adopting = true;
	for (uint32_t i = 0; i < MESH_MAX_SERVICES; i++)
		if (!kernel_names_get(s->kernel, i, &names))
			registry_adopt_service(r, i, &names, now_ns);
	for (uint32_t i = 0; i < MESH_MAX_UPSTREAMS; i++)
		registry_adopt_upstream(r, i, &s->arrays->upstreams[i], now_ns);
	for (uint32_t i = 0; i < MESH_MAX_ENDPOINTS; i++)
		registry_adopt_endpoint(r, i, &s->arrays->endpoints[i], now_ns);
	err = kernel_each_workload(s->kernel, take_workload, s);
	err = err ? err : kernel_each_dest(s->kernel, take_dest, s);
	if (err)
		log_warn("not all that the agent before has left is known: %s", strerror(-err));
}

/* Namespaces whose last workload went while nobody looked. */
static void drop_netns(const void *key, const void *value, void *arg)
{
	struct supervisor *s = arg;
	uint64_t cookie = *(const uint64_t *)key;

	if (!netns_by_cookie(&s->discovery.netns, cookie))
		kernel_netns_delete(s->kernel, cookie);
}

bool adopt_settle(struct supervisor *s)
{
	int err;

	if (!discovery_is_complete(&s->discovery) && s->loop.now_ns - s->begun_ns < LOOK_NS)
		return !s->adopting;
	s->settled = true;
	if (s->adopting)
		registry_adopted(s->registry, s->loop.now_ns);
	supervisor_flush(s);
	err = s->adopting ? kernel_each_netns(s->kernel, drop_netns, s) : 0;
	if (err)
		log_warn("namespaces that are gone stay in the maps: %s", strerror(-err));
	s->adopting = false;
	kernel_settled(s->kernel);
	s->unswept_ns = s->loop.now_ns;
	return true;
}

void adopt_sweep(struct supervisor *s, uint64_t after_ms)
{
	int err;

	if (!s->unswept_ns || s->loop.now_ns - s->unswept_ns < after_ms * 1000000)
		return;
	s->unswept_ns = 0;
	err = kernel_sweep(s->kernel);
	if (err)
		log_warn("programs of another version stay attached: %s", strerror(-err));
}
