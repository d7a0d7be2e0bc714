/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A worker's view of the shared BPF arrays (include/mesh/abi.h). Read-only where they steer; the
 * words that count are changed by compare-and-swap, the gauges only in this worker's place. Mapped
 * before privileges go.
 */
#ifndef PROXY_SHARED_H
#define PROXY_SHARED_H

#include <mesh/abi.h>
#include <stdbool.h>
#include <stdint.h>

struct shared {
	const struct mesh_ctl *ctl;
	const struct mesh_upstream *upstreams;
	const struct mesh_slots *slots;
	const struct mesh_endpoint *endpoints;
	struct mesh_ep_stat *ep_stats;
	struct mesh_ep_inflight *ep_inflight;
	struct mesh_up_stat *up_stats;
	struct mesh_svc_stat *svc_stats;
	struct mesh_svc_inflight *svc_inflight;
	struct mesh_edge *edges;
	struct mesh_beats *beats;
	int origdst_fd;
};

/* Maps fds[] (order of enum ipc_init_fd) and closes them, but keeps the one of origdst. 0 or
 * -errno. */
int shared_map(struct shared *s, const int *fds);

/* Distance between two elements of a BPF array: values are rounded up to 8 bytes. */
static inline const struct mesh_slots *shared_slots(const struct shared *s, uint32_t subset)
{
	return (const void *)((const char *)s->slots +
			      (uint64_t)subset * ((sizeof(struct mesh_slots) + 7) / 8 * 8));
}

/* A consistent copy. false: no such upstream or endpoint. */
bool shared_upstream(const struct shared *s, uint32_t id, struct mesh_upstream *out);
bool shared_endpoint(const struct shared *s, uint32_t id, struct mesh_endpoint *out);

/* Requests in flight at an endpoint, over all workers, and connections that the kernel sent there.
 */
uint32_t shared_inflight(const struct shared *s, uint32_t endpoint);
/* Adds a sample to an endpoint's latency. */
void shared_latency(struct shared *s, uint32_t endpoint, uint64_t latency_ns, uint64_t now_ns,
		    bool failed);

/* What an upstream of protocol `auto` has turned out to speak (enum mesh_learned). */
void shared_learn(struct shared *s, uint32_t upstream, uint64_t what);

/* What a captured connection was meant for; by the client's address as accept() tells it. 0,
 * -ENOENT, or -errno. */
int shared_origdst(const struct shared *s, const struct mesh_origdst_key *key,
		   struct mesh_origdst *out);

#endif
