/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Splice alone, for trials: linked with splice.bpf.c into an object of its own, so that what is
 * tried at start-up is what runs later, on maps that nobody else sees. Attached to the cgroup of
 * the trials only; MESH_SPLICE_ALL says that every connection there is enrolled.
 */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include "bpf/enroll.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("sockops")
int mesh_trial_sockops(struct bpf_sock_ops *ctx)
{
	switch (ctx->op) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		enroll_again(ctx);
		break;
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		enroll_active(ctx);
		break;
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		enroll_passive(ctx);
		break;
	case BPF_SOCK_OPS_STATE_CB:
		if (ctx->args[1] == BPF_TCP_CLOSE)
			enroll_closed(ctx);
		break;
	}
	return 1;
}
