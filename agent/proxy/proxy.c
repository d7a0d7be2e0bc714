/* SPDX-License-Identifier: Apache-2.0 */
/* See proxy.h. Called by agent/worker.c, and by tests that bring arrays of their own. */
#include "agent/proxy/proxy.h"
#include "agent/proxy/downstream.h"
#include "agent/proxy/exchange.h"
#include "agent/proxy/mirror.h"
#include "agent/proxy/upstream.h"
#include "lib/clock.h"

#include <sys/resource.h>

#define SPARE_FDS 64 /* descriptors that are not connections */

static uint32_t client_limit(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) < 0)
		return 256;
	l.rlim_cur = l.rlim_max;
	setrlimit(RLIMIT_NOFILE, &l); /* raising to the hard limit is always permitted */
	if (l.rlim_max > 1u << 20)
		l.rlim_max = 1u << 20;
	return l.rlim_max > 2 * SPARE_FDS ? (uint32_t)(l.rlim_max - SPARE_FDS) / 2 : SPARE_FDS;
}

int proxy_init(struct proxy *p, uint32_t id, uint32_t workers, uint64_t instance)
{
	int r = trace_source_init(&p->traces);

	if (!r)
		r = loop_init(&p->loop);
	if (r)
		return r;
	slab_init(&p->downstreams, sizeof(struct downstream));
	slab_init(&p->exchanges, sizeof(struct exchange));
	slab_init(&p->upconns, sizeof(struct upconn));
	mirror_init(p);
	p->id = id % MESH_MAX_WORKERS;
	p->workers = workers;
	p->instance = instance;
	p->random = (instance ^ (uint64_t)p->id << 32 ^ clock_mono_ns()) | 1;
	p->max_clients = client_limit();
	p->again_last = &p->again;
	p->hungry_last = &p->hungry_first;
	p->loop.after = downstream_run_again;
	upconn_start_sweep(p);
	return 0;
}
