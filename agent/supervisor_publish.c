/* SPDX-License-Identifier: Apache-2.0 */
/* From the registry into the memory that the kernel and the workers read. No decisions here. */
#include "agent/supervisor.h"

#include "agent/control/compile.h"
#include "agent/records.h"
#include "lib/hash.h"
#include "lib/log.h"

#include <mesh/alive.h>
#include <mesh/ewma.h>

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

int publish_services(struct supervisor *s)
{
	struct snapshot_input in = {.registry = s->registry,
				    .gateway_default = s->cfg->gateway_default,
				    .generation = s->generation + 1,
				    .revision = s->session ? session_revision(s->session) : 0};
	uint64_t size;
	int fd = snapshot_compile(&in, &size);

	if (fd < 0)
		return fd;
	s->generation++;
	workers_snapshot(&s->workers, fd, s->generation, size);
	if (s->snapshot_fd >= 0)
		close(s->snapshot_fd);
	s->snapshot_fd = fd;
	return 0;
}

static void say_contested(struct supervisor *s, uint32_t id, const struct service_view *v)
{
	if (v->contested && !s->contested[id])
		log_warn("%u of the addresses that are configured for %s lead elsewhere: whoever "
			 "had them first keeps them",
			 v->contested, v->name);
	s->contested[id] = v->contested;
}

/* What the kernel itself has to know of each service. */
static void publish_kernel_services(struct supervisor *s)
{
	for (uint32_t i = 0; i < MESH_MAX_SERVICES; i++) {
		struct mesh_service k = {0};
		struct service_view v;
		int err;

		if (registry_service(s->registry, i, &v))
			k = (struct mesh_service){
				.flags = MESH_SVC_USED |
					 (v.config->fail_closed ? MESH_SVC_FAIL_CLOSED : 0) |
					 (v.config->fallback == SNAP_FALLBACK_NONE
						  ? MESH_SVC_NO_FALLBACK
						  : 0) |
					 acceleration_flags(s, v.config->accelerate),
				.max_connections = v.config->bulkhead.connections,
				.connect_ms = v.config->timeouts.connect,
				.breaker = v.config->breaker,
			};
		else if (!s->in_kernel[i])
			continue;
		if (k.flags)
			say_contested(s, i, &v);
		err = kernel_service_set(s->kernel, i, &k);
		if (err)
			log_error("cannot tell the kernel of service %u: %s", i, strerror(-err));
		s->in_kernel[i] = k.flags;
	}
}

/* What ids mean, for the agent after us. */
static void publish_names(struct supervisor *s)
{
	struct mesh_names n;

	for (uint32_t i = 0; i < MESH_MAX_SERVICES; i++) {
		uint64_t hash;
		int err;

		if (!registry_names(s->registry, i, &n))
			continue;
		hash = hash64(&n, sizeof(n)) | 1;
		if (hash == s->names_hash[i])
			continue;
		err = kernel_names_set(s->kernel, i, &n);
		if (err)
			log_error("the next agent will not know service %u: %s", i, strerror(-err));
		else
			s->names_hash[i] = hash;
	}
}

static int put_services(void *arg)
{
	publish_names(arg);
	publish_kernel_services(arg);
	return publish_services(arg);
}

static void put_endpoint(void *arg, uint32_t id, const struct mesh_endpoint *ep, bool fresh)
{
	struct supervisor *s = arg;

	if (fresh) {
		health_fresh(s, id);
		memset(&s->arrays->ep_inflight[id], 0, sizeof(s->arrays->ep_inflight[id]));
	}
	records_put_endpoint(&s->arrays->endpoints[id], ep, fresh);
}

static __u32 one_more(__u32 old, __u32 image)
{
	return mesh_alive_more(old);
}

static __u32 one_less(__u32 old, __u32 image)
{
	return mesh_alive_less(old);
}

/* Counted before the kernel is told: it may take the socket away again at that very moment. One
 * that it took away before was never told to stand for this endpoint. */
static void put_stands(void *arg, uint64_t cookie, uint32_t endpoint, uint32_t gen)
{
	struct supervisor *s = arg;
	struct mesh_endpoint *e = s->arrays->endpoints;
	uint32_t was, was_gen;
	int err;

	if (endpoint != MESH_NONE)
		records_change_flags(&e[endpoint].flags, one_more, 0);
	err = kernel_listener_stand(s->kernel, cookie, endpoint, gen, &was, &was_gen);
	if (err && err != -E2BIG && endpoint != MESH_NONE)
		records_change_flags(&e[endpoint].flags, one_less, 0);
	if (!err && was != MESH_NONE && e[was].gen == was_gen)
		records_change_flags(&e[was].flags, one_less, 0);
}

static void put_upstream(void *arg, uint32_t id, const struct mesh_upstream *up, bool fresh)
{
	struct supervisor *s = arg;

	if (fresh) {
		gain_fresh(s, id);
		memset(&s->arrays->up_stats[id], 0, sizeof(s->arrays->up_stats[id]));
	} else if (!up->nsplit) { /* who comes next may speak something else */
		__atomic_store_n(&s->arrays->up_stats[id].learned, MESH_LEARNED_NOTHING,
				 __ATOMIC_RELAXED);
	}
	records_put_upstream(&s->arrays->upstreams[id], up);
}

static void put_slots(void *arg, uint32_t subset, const struct mesh_slots *table)
{
	struct supervisor *s = arg;
	int err = kernel_slots_set(s->kernel, subset, table);

	if (err)
		log_error("cannot write slot table %u: %s", subset, strerror(-err));
}

static int put_dest(void *arg, const struct mesh_dest_key *key, const struct mesh_dest *dest)
{
	struct supervisor *s = arg;
	int err = dest ? kernel_dest_set(s->kernel, key, dest) : kernel_dest_delete(s->kernel, key);

	return err == -ENOENT ? 0 : err;
}

static int put_workload(void *arg, uint64_t cgroup, const struct mesh_workload *w)
{
	struct supervisor *s = arg;
	int err;

	if (w)
		acceleration_workload(s, cgroup, w->id);
	err = w ? kernel_workload_set(s->kernel, cgroup, w)
		: kernel_workload_delete(s->kernel, cgroup);

	return err == -ENOENT ? 0 : err;
}

/* Its end was not reported, or it was gone before we asked for that: nobody else removes it. */
static void put_swept(void *arg, uint64_t cookie)
{
	struct supervisor *s = arg;

	kernel_listener_delete(s->kernel, cookie);
}

static bool is_busy(const struct supervisor *s, uint32_t endpoint)
{
	const struct mesh_ep_inflight *g = &s->arrays->ep_inflight[endpoint];

	for (uint32_t i = 0; i < MESH_KERNEL_WORKER; i++)
		if (__atomic_load_n(&g->worker[i], __ATOMIC_RELAXED))
			return true;
	return false;
}

/* How long a try may take there; 0: nobody says. */
static uint32_t try_ms(const struct supervisor *s, uint32_t endpoint)
{
	const struct snap_timeouts *t;
	struct endpoint_view e;
	struct service_view v;

	if (!registry_endpoint(s->registry, endpoint, &e) ||
	    !registry_service(s->registry, e.service, &v))
		return 0;
	t = &v.config->timeouts;
	if (t->try && (!t->request || t->try < t->request))
		return t->try;
	return t->request;
}

static uint64_t get_latency(void *arg, uint32_t endpoint)
{
	struct supervisor *s = arg;
	uint64_t word = __atomic_load_n(&s->arrays->ep_stats[endpoint].ewma, __ATOMIC_RELAXED),
		 latency = mesh_ewma_read(word, s->loop.now_ns), silent;

	silent = silence_look(&s->health.silence[endpoint], is_busy(s, endpoint), (uint32_t)word,
			      try_ms(s, endpoint), s->loop.now_ns);
	return silent > latency ? silent : latency;
}

void publish_sink(struct supervisor *s, struct registry_sink *sink)
{
	*sink = (struct registry_sink){.arg = s,
				       .services = put_services,
				       .endpoint = put_endpoint,
				       .upstream = put_upstream,
				       .slots = put_slots,
				       .dest = put_dest,
				       .workload = put_workload,
				       .stands = put_stands,
				       .swept = put_swept,
				       .latency = get_latency};
}
