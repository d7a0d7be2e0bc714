/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Every map of the mesh, for all objects in this directory (weak: the linker keeps one of each).
 * Keys and values are those of include/mesh/abi.h; what only the kernel side needs is here. Each
 * map says who writes, who reads, how long an entry lives and what happens when it is full. Nothing
 * but maps and the few lines that every hook needs belongs here.
 */
#ifndef BPF_MAPS_H
#define BPF_MAPS_H

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <mesh/abi.h>
#include <mesh/event.h>

#define MESH_MAP	  __weak SEC(".maps")
#define MESH_EVENTS_BYTES (256 * 1024)

/* Writer: supervisor. Reader: connect. Entry: as long as the cgroup. Full: the supervisor sees
 * E2BIG, says so, and that workload is not managed. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MESH_MAX_WORKLOADS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, struct mesh_workload);
} workloads MESH_MAP;

/* Writer: supervisor. Reader: connect. Entry: as long as an endpoint or virtual address. Full: the
 * supervisor sees E2BIG, says so, and connections to that address pass untouched. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MESH_MAX_DESTS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct mesh_dest_key);
	__type(value, struct mesh_dest);
} dests MESH_MAP;

/* Writer: supervisor. Readers: connect, sockops. Entry: as long as our listeners in that namespace.
 * Full: the supervisor sees E2BIG, says so, and nothing is captured in that namespace. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MESH_MAX_NETNS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, struct mesh_netns);
} netns MESH_MAP;

/* Writer: sockops. Reader: workers. Entry: from the SYN to the end of the worker's side. Full: the
 * least recently written goes, which a worker has read long ago, since no workload can make more
 * than a part of it wait (waiting.bpf.h); an insertion that fails all the same is
 * MESH_C_ORIGDST_LOST. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MESH_MAX_ORIGDST);
	__type(key, struct mesh_origdst_key);
	__type(value, struct mesh_origdst);
} origdst MESH_MAP;

/* Writer: supervisor. Reader: the next supervisor; no program. Entry: as long as the id means that
 * service. Full: never before ids run out. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MESH_MAX_SERVICES);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct mesh_names);
} names MESH_MAP;

/* Writers: sockops at LISTEN, the supervisor for older listeners. Reader: sockops at the end of
 * LISTEN, which removes. Full: MESH_C_LISTENERS_FULL; the supervisor's reconciling sees such a
 * listener come and go. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MESH_MAX_LISTENERS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, struct mesh_listener);
} listeners MESH_MAP;

/* Writer: sockops. Reader: supervisor. Full: MESH_C_EVENTS_LOST, made good by reconciling. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, MESH_EVENTS_BYTES);
} events MESH_MAP;

/* Writers: all hooks. Reader: supervisor, which adds up the CPUs. Fixed size. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MESH_C_MAX);
	__type(key, __u32);
	__type(value, __u64);
} counters MESH_MAP;

/* Writer: connect. Reader: supervisor, which removes what it has read. Full: the refusal is counted
 * in MESH_C_REFUSED all the same, but by nobody's name: MESH_C_REFUSED_LOST. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MESH_MAX_REFUSALS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct mesh_refusal_key);
	__type(value, __u64);
} refusals MESH_MAP;

/* The shared arrays. Writer and readers as abi.h says at each type ("steers", "counts"); fixed
 * size, indexed by id, so they are never full: whoever gives out ids refuses the one too many. */
#define MESH_ARRAY_OF(name, entries, type_, flags)                                                 \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_ARRAY);                                                  \
		__uint(max_entries, entries);                                                      \
		__uint(map_flags, flags);                                                          \
		__type(key, __u32);                                                                \
		__type(value, type_);                                                              \
	} name MESH_MAP
#define MESH_ARRAY(name, entries, type_) MESH_ARRAY_OF(name, entries, type_, BPF_F_MMAPABLE)

MESH_ARRAY(ctl, 1, struct mesh_ctl);
MESH_ARRAY(upstreams, MESH_MAX_UPSTREAMS, struct mesh_upstream);
MESH_ARRAY(slots, MESH_MAX_SUBSETS, struct mesh_slots);
MESH_ARRAY(endpoints, MESH_MAX_ENDPOINTS, struct mesh_endpoint);
MESH_ARRAY(ep_stats, MESH_MAX_ENDPOINTS, struct mesh_ep_stat);
MESH_ARRAY(ep_inflight, MESH_MAX_ENDPOINTS, struct mesh_ep_inflight);
MESH_ARRAY(up_stats, MESH_MAX_UPSTREAMS, struct mesh_up_stat);
MESH_ARRAY(svc_stats, MESH_MAX_SERVICES, struct mesh_svc_stat);
MESH_ARRAY(svc_inflight, MESH_MAX_SERVICES, struct mesh_svc_inflight);
MESH_ARRAY(edges, MESH_MAX_EDGES, struct mesh_edge);
MESH_ARRAY(services, MESH_MAX_SERVICES, struct mesh_service);
MESH_ARRAY(beats, 1, struct mesh_beats);

/* Which processes are workers: the index into `beats`. Writer: supervisor, by pidfd. Reader: exit.
 * Entry: as long as the process. Full: the kernel has no memory; the supervisor says so, and the
 * end of that worker is seen when its beat grows old. */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u64);
} worker_tasks MESH_MAP;

enum mesh_held {
	MESH_HELD_GAUGES = 1,  /* it counts as a connection of its endpoint and service */
	MESH_HELD_SVC = 2,     /* a probe of the service's breaker */
	MESH_HELD_EP = 4,      /* ... of the endpoint's */
	MESH_HELD_WAITING = 8, /* it counts as one that waits for a worker */
};

/* A client socket that was sent elsewhere: what was asked for, and when the kernel itself chose the
 * endpoint, what is to be given back at its end. Writers: connect, sockops. Readers: getpeername,
 * sockops. Entry: until the next connect() of that socket or its end. Full: connect() passes
 * untouched. */
struct mesh_socket {
	struct mesh_origdst orig;
	__u64 established_ns;
	__u32 v4;	/* goes to an IPv4 address */
	__u32 endpoint; /* MESH_NONE: to a worker */
	__u32 gen;	/* of the endpoint */
	__u32 held;	/* enum mesh_held */
	__u64 svc_lease, ep_lease;
	__u64 abroad;	   /* namespace of the endpoint, 0: the caller's own, or not known */
	__u32 consecutive; /* of the endpoint, before it was established */
	__u32 service;	   /* of the endpoint */
	__u64 cgroup;	   /* of the caller, when it goes to a worker */
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct mesh_socket);
} sockets MESH_MAP;

/* The socket of a connect(). Read anew wherever it is used: clang would else keep the address of
 * the field, and that the verifier does not dereference. */
static __always_inline struct bpf_sock *sock_of(struct bpf_sock_addr *ctx)
{
	barrier_var(ctx);
	return ctx->sk;
}

static __always_inline void count(__u32 counter)
{
	__u64 *n = bpf_map_lookup_elem(&counters, &counter);

	if (n)
		(*n)++; /* no other writer on this CPU while a hook runs, but for softirq: a lost
			   count is harmless */
}

/* 16-byte form of an IPv4 address in network order. */
static __always_inline void ip_from_v4(__u8 *ip, __be32 v4)
{
	__u32 *w = (__u32 *)ip;

	w[0] = 0;
	w[1] = 0;
	w[2] = bpf_htonl(0xffff);
	w[3] = v4;
}

static __always_inline bool ip_is_v4(const __u8 *ip)
{
	const __u32 *w = (const __u32 *)ip;

	return !w[0] && !w[1] && w[2] == bpf_htonl(0xffff);
}

static __always_inline bool ip_is_loopback(const __u8 *ip)
{
	const __u32 *w = (const __u32 *)ip;

	if (ip_is_v4(ip))
		return ip[12] == 127;
	return !w[0] && !w[1] && !w[2] && w[3] == bpf_htonl(1);
}

#endif
