/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Which network namespaces of this host lead to which others: networks of containers may be kept
 * apart, by routes or by a firewall, and nobody tells. So balance.bpf.h sends one connection, and
 * no other until that has come about; outcome.bpf.h says what became of it. While a namespace is
 * not known to lead to another its failures are not the endpoint's, and what is there is left to a
 * worker, which has the host's reach.
 */
#ifndef BPF_REACH_H
#define BPF_REACH_H

#include "bpf/maps.bpf.h"

#define MESH_MAX_REACH 4096
#define REACH_AGAIN_NS 60000000000ULL /* then one more is sent */

struct mesh_reach_key {
	__u64 from, to; /* cookies of namespaces */
};

struct mesh_reach {
	__u64 tried_ns; /* 0: nobody is under way */
	__u32 reached;	/* for good: networks that are taken apart later are the endpoint's failure
			 */
	__u32 pad;
};

/* Writers: connect, sockops. Reader: connect. Entry: from the first connection on. Full: the least
 * recently used pair is tried again. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MESH_MAX_REACH);
	__type(key, struct mesh_reach_key);
	__type(value, struct mesh_reach);
} reach MESH_MAP;

/* May a connection go there? Yes when nothing is known. */
static __always_inline bool reach_leads(__u64 from, __u64 to, __u64 now)
{
	struct mesh_reach_key key = {from, to};
	struct mesh_reach *r = bpf_map_lookup_elem(&reach, &key);

	return !r || r->reached || !r->tried_ns || now - r->tried_ns > REACH_AGAIN_NS;
}

/* One is sent. */
static __always_inline void reach_try(__u64 from, __u64 to, __u64 now)
{
	struct mesh_reach fresh = {.tried_ns = now};
	struct mesh_reach_key key = {from, to};
	struct mesh_reach *r = bpf_map_lookup_elem(&reach, &key);

	if (!r)
		bpf_map_update_elem(&reach, &key, &fresh, BPF_NOEXIST);
	else if (!r->reached)
		r->tried_ns = now;
}

/* Whoever answers is reached, also with a refusal. */
static __always_inline void reach_found(__u64 from, __u64 to)
{
	struct mesh_reach_key key = {from, to};
	struct mesh_reach *r = bpf_map_lookup_elem(&reach, &key);

	if (r && !r->reached)
		r->reached = 1;
}

/* It was given up before it could tell. False: there is no knowing whether the namespace leads
 * there at all. */
static __always_inline bool reach_known(__u64 from, __u64 to, bool told)
{
	struct mesh_reach_key key = {from, to};
	struct mesh_reach *r = bpf_map_lookup_elem(&reach, &key);

	if (!r || r->reached)
		return true;
	if (!told)
		r->tried_ns = 0;
	return false;
}

#endif
