/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The least that skipping TCP can cost on this kernel: every socket of a cgroup in one map of
 * sockets, told by its addresses alone, and programs on them that do nothing else. For
 * tests/bench/floor.c.
 *
 * Unsafe on purpose, each point a hazard that bpf/splice.bpf.c covers: nothing bounds what waits
 * for a reader, nothing keeps what is redirected behind what TCP still carries, a tuple is taken
 * for an identity. Never to be run but between programs that measure, in a cgroup of their own.
 */
#include "vmlinux.h"
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* A socket by what it calls its own end and the other one. v4 and v4-mapped. */
struct floor_key {
	__be32 ip, peer_ip;
	__u16 port, peer_port;
};

struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 65536);
	__type(key, struct floor_key);
	__type(value, __u64);
} floor_socks SEC(".maps");

SEC("sockops")
int floor_enrol(struct bpf_sock_ops *ctx)
{
	struct floor_key key = {
		.ip = ctx->local_ip4,
		.peer_ip = ctx->remote_ip4,
		.port = ctx->local_port,
		.peer_port = bpf_ntohl(ctx->remote_port),
	};

	if (ctx->op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB ||
	    ctx->op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
		bpf_sock_hash_update(ctx, &floor_socks, &key, BPF_ANY);
	return 1;
}

SEC("sk_msg")
int floor_pass(struct sk_msg_md *msg)
{
	return SK_PASS;
}

/* A peer that is not in the map gets it by TCP. */
SEC("sk_msg")
int floor_redirect(struct sk_msg_md *msg)
{
	struct floor_key key = {
		.ip = msg->remote_ip4,
		.peer_ip = msg->local_ip4,
		.port = bpf_ntohl(msg->remote_port),
		.peer_port = msg->local_port,
	};

	bpf_msg_redirect_hash(msg, &floor_socks, &key, BPF_F_INGRESS);
	return SK_PASS;
}

SEC("sk_skb/stream_verdict")
int floor_verdict(struct __sk_buff *skb)
{
	return SK_PASS;
}
