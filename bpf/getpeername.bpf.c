/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * getpeername() of everything under the attached cgroup: a captured socket shows the address that
 * was asked for, not the worker it leads to. Changes nothing else.
 */
#include "vmlinux.h"
#include "bpf/maps.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

static __always_inline struct mesh_socket *captured(struct bpf_sock_addr *ctx)
{
	return bpf_sk_storage_get(&sockets, ctx->sk, 0, 0);
}

SEC("cgroup/getpeername4")
int mesh_getpeername4(struct bpf_sock_addr *ctx)
{
	struct mesh_socket *s = captured(ctx);

	if (s) {
		ctx->user_ip4 = ((__u32 *)s->orig.ip)[3];
		ctx->user_port = s->orig.port;
	}
	return 1;
}

SEC("cgroup/getpeername6")
int mesh_getpeername6(struct bpf_sock_addr *ctx)
{
	struct mesh_socket *s = captured(ctx);
	__u32 *w;

	if (s) {
		w = (__u32 *)s->orig.ip;
		ctx->user_ip6[0] = w[0];
		ctx->user_ip6[1] = w[1];
		ctx->user_ip6[2] = w[2];
		ctx->user_ip6[3] = w[3];
		ctx->user_port = s->orig.port;
	}
	return 1;
}
