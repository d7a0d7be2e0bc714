/* SPDX-License-Identifier: Apache-2.0 */
/* The workers' place in the supervisor: what they are given at the start, what they may ask for,
 * and what is to be done when one ends. Called by supervisor.c, and from supervisor_workers.c by
 * way of its ops. */
#include "agent/supervisor.h"

#include "lib/log.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

static int worker_started(void *arg, uint32_t worker, int pidfd)
{
	return kernel_worker_started(((struct supervisor *)arg)->kernel, pidfd, worker);
}

/* Writing only what is not zero: pages nobody has used stay unused. */
static void clear(uint32_t *gauge)
{
	if (*gauge)
		__atomic_store_n(gauge, 0, __ATOMIC_RELAXED);
}

static void worker_died(void *arg, uint32_t worker)
{
	struct supervisor *s = arg;

	__atomic_store_n(&s->arrays->beats->worker[worker], 0, __ATOMIC_RELAXED);
	for (uint32_t i = 0; i < MESH_MAX_ENDPOINTS; i++)
		clear(&s->arrays->ep_inflight[i].worker[worker]);
	for (uint32_t i = 0; i < MESH_MAX_SERVICES; i++) {
		struct mesh_svc_gauges *g = &s->arrays->svc_inflight[i].worker[worker];

		clear(&g->requests);
		clear(&g->connections);
		clear(&g->pending);
		clear(&g->seats);
	}
	for (uint32_t i = 0; i < MESH_MAX_EDGES; i++)
		clear(&s->arrays->edges[i].worker[worker]);
}

static int worker_socket(void *arg, uint64_t netns, int family)
{
	struct supervisor *s = arg;
	struct netns *ns = netns_by_cookie(&s->discovery.netns, netns);

	int fd = ns ? netns_socket(ns, family) : -ENOENT;

	/* it becomes the worker's in name, too: that is how enrolment tells it from a health
	 * check's */
	if (fd >= 0 && fchown(fd, s->uid, (gid_t)-1) < 0)
		log_warn("a worker's socket stays with plain TCP: %s", strerror(errno));
	return fd;
}

/* What the workers of a predecessor hold is asked for before anything is opened anew. */
int serve_begin(struct supervisor *s)
{
	struct workers *ws = &s->workers;
	int err;

	ws->loop = &s->loop;
	ws->ops = (struct workers_ops){.arg = s,
				       .started = worker_started,
				       .died = worker_died,
				       .socket = worker_socket,
				       .record = supervisor_record,
				       .counted = supervisor_counted,
				       .waiting = supervisor_drain};
	ws->n = s->cfg->workers;
	ws->uid = s->uid;
	ws->gid = s->gid;
	ws->drain_ms = s->cfg->drain_ms;
	ws->trace_limit = s->cfg->trace_limit;
	ws->unobserved = s->cfg->unobserved;
	ws->snapshot_fd = -1;
	ws->rendezvous = s->rendezvous;
	workers_init(ws);
	kernel_worker_fds(s->kernel, ws->map_fds);
	ws->maps = kernel_maps_id(s->kernel);
	if (getrandom(&ws->instance, sizeof(ws->instance), 0) != sizeof(ws->instance))
		return -EIO;
	__atomic_store_n(&s->arrays->ctl->workers, ws->n, __ATOMIC_RELAXED);
	err = handover_begin(s);
	if (!err)
		handover_forget_dead(s, worker_died);
	return err;
}

int serve_start(struct supervisor *s)
{
	struct workers *ws = &s->workers;
	int err = workers_start(ws);

	if (!err)
		err = gateway_tell(s);
	/* empty as yet, but a worker has a snapshot from the start */
	return err ? err : publish_services(s);
}
