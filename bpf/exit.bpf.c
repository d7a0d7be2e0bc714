/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The end of a worker, however it comes: its beat goes when it is sent SIGKILL, in the system call
 * of whoever kills it, so that no connect() made after that is sent to it; or when its process
 * begins to exit, before the kernel closes its files. So the connect hook sends nobody to a
 * listener that is about to close. On 6.1 and 6.12 the latter alone comes immediately before the
 * files, later than a connect() that was begun after kill(). Runs for every signal and every end on
 * the machine: tasks that are no worker have no storage.
 */
#include "vmlinux.h"
#include <bpf/bpf_tracing.h>
#include "bpf/maps.bpf.h"

#define SIGKILL 9

struct kernel_siginfo; /* not looked into */

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* A worker does not write where it finds something else than it wrote last: what is cleared stays
 * clear, though it may still run for a moment. */
static __always_inline void stop_beat(struct task_struct *task)
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

SEC("tp_btf/sched_process_exit")
int BPF_PROG(mesh_exit, struct task_struct *task)
{
	stop_beat(task);
	return 0;
}

SEC("tp_btf/signal_generate")
int BPF_PROG(mesh_kill, int sig, struct kernel_siginfo *info, struct task_struct *task)
{
	if (sig == SIGKILL)
		stop_beat(task);
	return 0;
}
