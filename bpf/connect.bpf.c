/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * connect() of everything under the attached cgroup. A TCP connection of a managed workload to a
 * known destination is sent to the worker that listens on loopback in the caller's own network
 * namespace, or, of a TCP service, to the endpoint that balance.bpf.h picks; what it asked for
 * stays in the socket's storage, for sockops.bpf.c to publish. Everything else, and everything in
 * doubt, passes untouched: this hook must never be the reason that a connection fails, but where a
 * breaker, a bulkhead or `failClosed` says so.
 *
 * User-space addresses are seen here as connect() was given them: 0.0.0.0 and :: mean loopback, and
 * a ::ffff: address comes to connect6 and is IPv4.
 */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include "bpf/balance.bpf.h"
#include "bpf/caller.bpf.h"
#include "bpf/coverage.bpf.h"
#include "bpf/failopen.bpf.h"
#include "bpf/outcome.bpf.h"
#include "bpf/waiting.bpf.h"

#define LOOPBACK_IFINDEX 1

char LICENSE[] SEC("license") = "Dual BSD/GPL";

enum steer { STEER_LEAVE, STEER_GO, STEER_REFUSE, STEER_WORKER };

/* A connection that is judged. */
struct call {
	const struct mesh_dest_key *key; /* where it is to go */
	const struct mesh_workload *caller;
	__u64 cgroup; /* the caller's */
	__u64 here, now;
	__u32 upstream;
	bool is_virtual;
};

/* It goes its way untouched, for that reason: MESH_C_* and MESH_COV_*. */
static __always_inline int steer_leave(struct bpf_sock_addr *ctx, const struct call *c,
				       __u32 counter, __u32 way)
{
	count(counter);
	cover(ctx, c->cgroup, way);
	return STEER_LEAVE;
}

/* A TCP service: chosen here and now, STEER_GO with *to. */
static __always_inline int steer_tcp(struct bpf_sock_addr *ctx, const struct call *c,
				     struct mesh_dest_key *to)
{
	switch (balance(ctx, c->key, c->caller, c->upstream, c->here, to)) {
	case BALANCE_SENT:
		cover(ctx, c->cgroup, MESH_COV_KERNEL);
		return STEER_GO;
	case BALANCE_REFUSED:
		cover(ctx, c->cgroup, MESH_COV_REFUSED);
		return STEER_REFUSE;
	case BALANCE_NOBODY:
		return steer_leave(ctx, c, MESH_C_PASSED_NO_ENDPOINT, MESH_COV_IDLE);
	case BALANCE_NO_STORAGE:
		return steer_leave(ctx, c, MESH_C_PASSED_NO_STORAGE, MESH_COV_STORAGE);
	default:
		return STEER_WORKER;
	}
}

/* Nobody of ours is there for it. */
static __always_inline int steer_alone(struct bpf_sock_addr *ctx, const struct call *c,
				       bool is_virtual, struct mesh_dest_key *to)
{
	switch (failopen(ctx, c->caller, c->upstream, is_virtual, c->here, to)) {
	case FAILOPEN_REFUSE:
		cover(ctx, c->cgroup, MESH_COV_REFUSED);
		return STEER_REFUSE;
	case FAILOPEN_GO:
		cover(ctx, c->cgroup, MESH_COV_NOBODY);
		return STEER_GO;
	default:
		cover(ctx, c->cgroup, MESH_COV_NOBODY);
		return STEER_LEAVE;
	}
}

/* What sockops.bpf.c publishes and the worker asks for. */
static __always_inline void remember(struct mesh_socket *s, const struct call *c)
{
	__builtin_memcpy(s->orig.ip, c->key->ip, sizeof(s->orig.ip));
	s->orig.port = c->key->port;
	s->orig.upstream = c->upstream;
	s->orig.workload = c->caller->id;
	s->orig.service = c->caller->service;
	s->orig.netns = c->here;
	__builtin_memcpy(s->orig.caller_ip, c->caller->ip, sizeof(s->orig.caller_ip));
	s->orig.time_ns = c->now;
	s->established_ns = 0;
	s->v4 = ip_is_v4(c->key->ip);
	s->endpoint = MESH_NONE;
	s->held = 0;
	s->cgroup = c->cgroup;
}

/* To the worker that listens in the caller's namespace, if one does. */
static __always_inline int steer_worker(struct bpf_sock_addr *ctx, const struct call *c,
					struct mesh_dest_key *to)
{
	struct mesh_netns *n = bpf_map_lookup_elem(&netns, &c->here);
	bool v4 = ip_is_v4(c->key->ip);
	struct mesh_socket *s;

	if (!worker_waits(ctx, v4, n, c->now) || waiting_is_crowded(c->cgroup))
		return steer_alone(ctx, c, c->is_virtual, to);
	s = bpf_sk_storage_get(&sockets, sock_of(ctx), 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!s) {
		steer_leave(ctx, c, MESH_C_PASSED_NO_STORAGE, MESH_COV_STORAGE);
		return c->is_virtual ? STEER_REFUSE : STEER_LEAVE;
	}
	remember(s, c);
	count(MESH_C_CAPTURED);
	cover(ctx, c->cgroup, MESH_COV_WORKER);
	if (v4)
		ip_from_v4(to->ip, LOOPBACK4);
	else
		((__u32 *)to->ip)[3] = bpf_htonl(1);
	to->port = n->port;
	return STEER_GO;
}

/* Where the connection to key goes instead: enum steer, but never STEER_WORKER. */
static __always_inline int steer(struct bpf_sock_addr *ctx, struct mesh_dest_key *key,
				 struct mesh_dest_key *to)
{
	struct call c = {.key = key, .now = bpf_ktime_get_ns(), .here = bpf_get_netns_cookie(ctx)};
	struct mesh_dest *d;
	int tcp;

	c.caller = find_caller(&c.cgroup);
	if (ip_is_loopback(key->ip))
		key->netns = c.here;
	if (!c.caller) {
		cover_stranger(key);
		return STEER_LEAVE;
	}
	d = bpf_map_lookup_elem(&dests, key);
	if (!d)
		return steer_leave(ctx, &c, MESH_C_PASSED, MESH_COV_OTHER);
	if (d->workload == c.caller->id)
		return steer_leave(ctx, &c, MESH_C_PASSED_SELF, MESH_COV_SELF);
	if (is_mptcp(ctx))
		return steer_leave(ctx, &c, MESH_C_PASSED_PROTOCOL, MESH_COV_PROTOCOL);
	if (sock_of(ctx)->bound_dev_if && sock_of(ctx)->bound_dev_if != LOOPBACK_IFINDEX)
		return steer_leave(ctx, &c, MESH_C_PASSED_DEVICE, MESH_COV_DEVICE);
	c.upstream = d->upstream;
	c.is_virtual = d->workload == MESH_VIRTUAL;
	tcp = steer_tcp(ctx, &c, to);
	if (tcp == STEER_LEAVE && c.is_virtual)
		return steer_alone(ctx, &c, true, to);
	return tcp == STEER_WORKER ? steer_worker(ctx, &c, to) : tcp;
}

/* TCP proper. What an earlier connect() of this socket left behind goes here, whoever calls now. */
static __always_inline bool is_ours_to_judge(struct bpf_sock_addr *ctx)
{
	struct mesh_socket *s;

	if (ctx->type != SOCK_STREAM || ctx->protocol != IPPROTO_TCP)
		return false;
	s = bpf_sk_storage_get(&sockets, sock_of(ctx), 0, 0);
	if (s && s->endpoint != MESH_NONE)
		outcome_forget(s);
	else if (s)
		waiting_ends(s);
	bpf_sk_storage_delete(&sockets, sock_of(ctx));
	cover_again(ctx);
	return true;
}

/* Of the hook, once it is clear which way the connection goes. */
static __always_inline int answer(int way)
{
	if (way != STEER_REFUSE)
		return 1;
	bpf_set_retval(-ECONNREFUSED);
	return 0;
}

SEC("cgroup/connect4")
int mesh_connect4(struct bpf_sock_addr *ctx)
{
	struct mesh_dest_key key = {}, to = {};
	__be32 ip = ctx->user_ip4;
	__u64 id;
	int way;

	if (!is_ours_to_judge(ctx))
		return 1;
	key.port = ctx->user_port;
	if (ip == bpf_htonl(MESH_PROBE_IP4) && key.port == bpf_htons(MESH_PROBE_PORT)) {
		bpf_set_retval(find_caller(&id) ? -MESH_PROBE_MANAGED : -MESH_PROBE_UNKNOWN);
		return 0;
	}
	ip_from_v4(key.ip, ip ? ip : LOOPBACK4);
	way = steer(ctx, &key, &to);
	if (way == STEER_GO) {
		ctx->user_ip4 = ((__u32 *)to.ip)[3];
		ctx->user_port = to.port;
	}
	return answer(way);
}

SEC("cgroup/connect6")
int mesh_connect6(struct bpf_sock_addr *ctx)
{
	struct mesh_dest_key key = {}, to = {};
	__u32 *w = (__u32 *)key.ip;
	bool v4;
	int way;

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
	way = steer(ctx, &key, &to);
	if (way == STEER_GO) {
		w = (__u32 *)to.ip;
		ctx->user_ip6[0] = w[0];
		ctx->user_ip6[1] = w[1];
		ctx->user_ip6[2] = w[2];
		ctx->user_ip6[3] = w[3];
		ctx->user_port = to.port;
	}
	return answer(way);
}
