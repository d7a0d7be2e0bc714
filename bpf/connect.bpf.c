/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * connect() of everything under the attached cgroup. A TCP connection of a managed workload to a
 * known destination is sent to the worker that listens on loopback in the caller's own network
 * namespace; what it asked for stays in the socket's storage, for sockops.bpf.c to publish.
 * Everything else, and everything in doubt, passes untouched: this hook must never be the reason
 * that a connection fails.
 *
 * User-space addresses are seen here as connect() was given them: 0.0.0.0 and :: mean loopback, and
 * a ::ffff: address comes to connect6 and is IPv4.
 */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include "bpf/failopen.bpf.h"
#include "bpf/coverage.bpf.h"

#define LOOPBACK_IFINDEX 1
#define CGROUP_DEPTH	 32 /* levels looked at; what is deeper is found by its own id only */

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* The caller's own cgroup if it is managed, else its deepest managed ancestor; its id. By id:
 * inside a cgroup namespace the levels that user space knows are not those of the kernel. */
static __always_inline struct mesh_workload *find_caller(__u64 *cgroup)
{
	struct mesh_workload *w, *found = NULL;
	__u64 id = bpf_get_current_cgroup_id();

	*cgroup = id;
	w = bpf_map_lookup_elem(&workloads, &id);
	if (w)
		return w;
	for (int level = 1; level < CGROUP_DEPTH; level++) {
		id = bpf_get_current_ancestor_cgroup_id(level);
		if (!id)
			break;
		w = bpf_map_lookup_elem(&workloads, &id);
		if (w) {
			found = w;
			*cgroup = id;
		}
	}
	return found;
}

static __always_inline bool is_loopback(const __u8 *ip)
{
	const __u32 *w = (const __u32 *)ip;

	if (ip_is_v4(ip))
		return ip[12] == 127;
	return !w[0] && !w[1] && !w[2] && w[3] == bpf_htonl(1);
}

/* An MPTCP socket has another protocol number, but its first subflow comes here as plain TCP. */
static __always_inline bool is_mptcp(struct bpf_sock_addr *ctx)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(ctx->sk);

	return tp && bpf_core_field_exists(tp->is_mptcp) && BPF_CORE_READ(tp, is_mptcp);
}

/* Where the connection to key goes instead: the listener's port, or 0 to leave it alone. */
static __always_inline __be16 capture(struct bpf_sock_addr *ctx, struct mesh_dest_key *key)
{
	__u64 now = bpf_ktime_get_ns(), here = bpf_get_netns_cookie(ctx);
	bool v4 = ip_is_v4(key->ip);
	struct mesh_workload *caller;
	struct mesh_socket *s;
	struct mesh_dest *d;
	struct mesh_netns *n;
	__u64 cgroup;

	caller = find_caller(&cgroup);
	if (is_loopback(key->ip))
		key->netns = here;
	if (!caller) {
		cover_stranger(key);
		return 0;
	}
	d = bpf_map_lookup_elem(&dests, key);
	if (!d) {
		count(MESH_C_PASSED);
		cover(ctx, cgroup, MESH_COV_OTHER);
		return 0;
	}
	if (d->workload == caller->id) {
		count(MESH_C_PASSED_SELF);
		cover(ctx, cgroup, MESH_COV_SELF);
		return 0;
	}
	if (is_mptcp(ctx)) {
		count(MESH_C_PASSED_PROTOCOL);
		cover(ctx, cgroup, MESH_COV_PROTOCOL);
		return 0;
	}
	if (ctx->sk->bound_dev_if && ctx->sk->bound_dev_if != LOOPBACK_IFINDEX) {
		count(MESH_C_PASSED_DEVICE);
		cover(ctx, cgroup, MESH_COV_DEVICE);
		return 0;
	}
	n = bpf_map_lookup_elem(&netns, &here);
	if (!worker_waits(ctx, v4, n, now)) {
		cover(ctx, cgroup, MESH_COV_NOBODY);
		return 0;
	}
	s = bpf_sk_storage_get(&sockets, ctx->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!s) {
		count(MESH_C_PASSED_NO_STORAGE);
		cover(ctx, cgroup, MESH_COV_STORAGE);
		return 0;
	}
	__builtin_memcpy(s->orig.ip, key->ip, sizeof(s->orig.ip));
	s->orig.port = key->port;
	s->orig.upstream = d->upstream;
	s->orig.workload = caller->id;
	s->orig.service = caller->service;
	s->orig.netns = here;
	__builtin_memcpy(s->orig.caller_ip, caller->ip, sizeof(s->orig.caller_ip));
	s->orig.time_ns = now;
	s->established_ns = 0;
	s->v4 = v4;
	s->endpoint = MESH_NONE;
	s->held = 0;
	count(MESH_C_CAPTURED);
	cover(ctx, cgroup, MESH_COV_WORKER);
	return n->port;
}

/* TCP proper. What an earlier connect() of this socket left behind goes here, whoever calls now. */
static __always_inline bool is_ours_to_judge(struct bpf_sock_addr *ctx)
{
	if (ctx->type != SOCK_STREAM || ctx->protocol != IPPROTO_TCP)
		return false;
	bpf_sk_storage_delete(&sockets, ctx->sk);
	cover_again(ctx);
	return true;
}

SEC("cgroup/connect4")
int mesh_connect4(struct bpf_sock_addr *ctx)
{
	struct mesh_dest_key key = {};
	__be32 ip = ctx->user_ip4;
	__be16 port;
	__u64 id;

	if (!is_ours_to_judge(ctx))
		return 1;
	key.port = ctx->user_port;
	if (ip == bpf_htonl(MESH_PROBE_IP4) && key.port == bpf_htons(MESH_PROBE_PORT)) {
		bpf_set_retval(find_caller(&id) ? -MESH_PROBE_MANAGED : -MESH_PROBE_UNKNOWN);
		return 0;
	}
	ip_from_v4(key.ip, ip ? ip : LOOPBACK4);
	port = capture(ctx, &key);
	if (port) {
		ctx->user_ip4 = LOOPBACK4;
		ctx->user_port = port;
	}
	return 1;
}

SEC("cgroup/connect6")
int mesh_connect6(struct bpf_sock_addr *ctx)
{
	struct mesh_dest_key key = {};
	__u32 *w = (__u32 *)key.ip;
	__be16 port;
	bool v4;

	if (!is_ours_to_judge(ctx))
		return 1;
	key.port = ctx->user_port;
	w[0] = ctx->user_ip6[0];
	w[1] = ctx->user_ip6[1];
	w[2] = ctx->user_ip6[2];
	w[3] = ctx->user_ip6[3];
	v4 = ip_is_v4(key.ip);
	if (v4 && !w[3])
		w[3] = LOOPBACK4;
	else if (!w[0] && !w[1] && !w[2] && !w[3])
		w[3] = bpf_htonl(1);
	port = capture(ctx, &key);
	if (port) {
		ctx->user_ip6[0] = 0;
		ctx->user_ip6[1] = 0;
		ctx->user_ip6[2] = v4 ? bpf_htonl(0xffff) : 0;
		ctx->user_ip6[3] = v4 ? LOOPBACK4 : bpf_htonl(1);
		ctx->user_port = port;
	}
	return 1;
}
