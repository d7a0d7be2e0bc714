/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The end of a worker, however it comes: its beat goes when somebody kills it, or when its process
 * begins to exit, before the kernel closes its files. So the connect hook sends nobody to a
 * listener that is about to close.
 *
 * Two programs, since on older kernels (6.1, 6.12) sched_process_exit comes after the memory has
 * been given back, immediately before the files: who called connect() when kill() was done could
 * still find the worker alive. They run at every signal and at the end of every task on the
 * machine: those that are no worker have no storage.
 */
#include "vmlinux.h"
#include <bpf/bpf_tracing.h>
#include "bpf/maps.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define SIGKILL 9

static __always_inline void silence(struct task_struct *task)
{
	__u64 *worker = bpf_task_storage_get(&worker_tasks, task, NULL, 0);
	struct mesh_beats *b;
	__u32 zero = 0;

	if (!worker || *worker >= MESH_MAX_WORKERS)
		return;
	b = bpf_map_lookup_elem(&beats, &zero);
	if (b)
		*(volatile __u64 *)&b->worker[*worker & (MESH_MAX_WORKERS - 1)] = 0;
}

SEC("tp_btf/signal_generate")
int BPF_PROG(mesh_kill, int sig, void *info, struct task_struct *task)
{
	if (sig == SIGKILL)
		silence(task);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(mesh_exit, struct task_struct *task)
{
	silence(task);
	return 0;
}
