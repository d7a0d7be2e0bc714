/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The end of a worker, however it comes: its beat goes when its process begins to exit, before the
 * kernel closes its files. So the connect hook sends nobody to a listener that is about to close.
 * Runs at the end of every task on the machine: those that are no worker have no storage.
 */
#include "vmlinux.h"
#include <bpf/bpf_tracing.h>
#include "bpf/maps.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("tp_btf/sched_process_exit")
int BPF_PROG(mesh_exit, struct task_struct *task)
{
	__u64 *worker = bpf_task_storage_get(&worker_tasks, task, NULL, 0);
	struct mesh_beats *b;
	__u32 zero = 0;

	if (!worker || *worker >= MESH_MAX_WORKERS)
		return 0;
	b = bpf_map_lookup_elem(&beats, &zero);
	if (b)
		*(volatile __u64 *)&b->worker[*worker & (MESH_MAX_WORKERS - 1)] = 0;
	return 0;
}
