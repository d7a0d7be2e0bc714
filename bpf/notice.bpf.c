/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Programs that splice(2) bytes out of a socket see those alone that came by TCP. Whoever does it
 * is noticed here, by the first call on any socket of his, accelerated or not: his workload stays
 * with TCP from then on. A connection that is in already, and has or will have bytes where
 * splice(2) does not see them, is reported: the supervisor ends it, since it would hang for ever.
 *
 * The tracepoint is hit by every read of TCP bytes on the machine, and by splice(2) even when there
 * are none; the number of the system call tells them apart. A splice by io_uring is not seen.
 */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "bpf/events.bpf.h"
#include "bpf/splice.bpf.h"

#define EIO	     5
#define CGROUP_DEPTH 32

/* Low bits of sk_user_data, and the one that says what the rest is. */
#define USER_DATA_FLAGS 7ULL
#define USER_DATA_PSOCK 4ULL

#if defined(__TARGET_ARCH_x86)
#define SYS_SPLICE    275
#define SYSCALL(regs) ((__s64)(regs)->orig_ax)
#define FIRST(regs)   ((__u32)(regs)->di)
#elif defined(__TARGET_ARCH_arm64)
#define SYS_SPLICE    76
#define SYSCALL(regs) ((__s64)(regs)->syscallno)
#define FIRST(regs)   ((__u32)(regs)->orig_x0)
#else /* nobody is noticed: docs/operations.md */
#define SYS_SPLICE    -2
#define SYSCALL(regs) -1
#define FIRST(regs)   0
#endif

/* Cgroups whose workloads were noticed, with the time of it. Writer: this program. Reader: the
 * supervisor, when a workload gets its number. Entry: for good; it outlives agents, as cgroup ids
 * do not come back. Full: the oldest goes, and is noticed once more. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MESH_MAX_WORKLOADS);
	__type(key, __u64);
	__type(value, __u64);
} splicers MESH_MAP;

/* Sockets that were reported as blind; 1: done. Entry: as long as the socket. Full: not reported.
 */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u32);
} spliced MESH_MAP;

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Is this the socket that the task's splice(2) reads from? Softirq work may have interrupted one
 * that is about something else. */
static __always_inline bool is_spliced(struct task_struct *task, const struct sock *sk)
{
	struct pt_regs *regs = (void *)bpf_task_pt_regs(task);
	const struct socket *sock;
	struct file **table, *file = NULL;
	__u32 fd;

	if (SYSCALL(regs) != SYS_SPLICE)
		return false;
	fd = FIRST(regs);
	if (fd >= BPF_CORE_READ(task, files, fdt, max_fds))
		return false;
	table = BPF_CORE_READ(task, files, fdt, fd);
	bpf_core_read(&file, sizeof(file), table + fd);
	sock = file ? BPF_CORE_READ(file, private_data) : NULL;
	return sock && BPF_CORE_READ(sock, sk) == sk;
}

/* The deepest managed cgroup that the socket is in. */
static __always_inline __u64 find_cgroup(const struct sock *sk, struct mesh_workload **w)
{
	const struct cgroup *cg = BPF_CORE_READ(sk, sk_cgrp_data.cgroup);

	for (int i = 0; i < CGROUP_DEPTH && cg; i++) {
		__u64 id = BPF_CORE_READ(cg, kn, id);

		*w = bpf_map_lookup_elem(&workloads, &id);
		if (*w)
			return id;
		/* a cgroup's own state is its first member */
		cg = (const struct cgroup *)BPF_CORE_READ(cg, self.parent);
	}
	return 0;
}

/* Enrolled, and bytes are in the queue that splice(2) does not see, or all of TCP's will go there.
 */
static __always_inline bool is_blind(const struct sock *sk)
{
	__u64 data = (__u64)BPF_CORE_READ(sk, sk_user_data);
	const struct sk_psock *psock = (void *)(data & ~USER_DATA_FLAGS);

	if (!psock || !(data & USER_DATA_PSOCK))
		return false;
	return BPF_CORE_READ(psock, progs.stream_verdict) ||
	       (__u64)BPF_CORE_READ(psock, ingress_msg.next) !=
		       (__u64)psock + bpf_core_field_offset(struct sk_psock, ingress_msg);
}

/* True: this is the first that is seen of the workload. */
static __always_inline bool leave_to_tcp(__u64 cgroup, __u32 workload)
{
	__u32 *task = bpf_map_lookup_elem(&splice_tasks, &workload);
	__u64 now = bpf_ktime_get_ns();

	if (!task || __sync_fetch_and_or(task, MESH_SPLICE_TASK_OFF) & MESH_SPLICE_TASK_OFF)
		return false;
	bpf_map_update_elem(&splicers, &cgroup, &now, BPF_ANY);
	return true;
}

static __always_inline void report(const struct sock *sk, const struct mesh_workload *w,
				   __u64 cgroup, bool blind)
{
	const struct sock_common *c = &sk->__sk_common;
	struct mesh_event *e = event_new(MESH_EV_SPLICE);

	if (!e)
		return;
	e->upstream = MESH_NONE;
	e->workload = w->id;
	e->error = blind ? EIO : 0;
	e->cookie = c->skc_cookie.counter;
	e->cgroup = cgroup;
	e->netns = c->skc_net.net->net_cookie;
	e->port = c->skc_dport;
	e->local_port = bpf_htons(c->skc_num);
	if (c->skc_family == AF_INET) {
		ip_from_v4(e->ip, c->skc_daddr);
		ip_from_v4(e->local_ip, c->skc_rcv_saddr);
	} else {
		__builtin_memcpy(e->ip, &c->skc_v6_daddr, sizeof(e->ip));
		__builtin_memcpy(e->local_ip, &c->skc_v6_rcv_saddr, sizeof(e->local_ip));
	}
	bpf_ringbuf_submit(e, BPF_RB_FORCE_WAKEUP);
}

SEC("tp_btf/tcp_rcv_space_adjust")
int BPF_PROG(mesh_notice, struct sock *sk)
{
	const struct mesh_splice_ctl *c = splice_control();
	struct mesh_workload *w = NULL;
	__u32 *told;
	__u64 cgroup;
	bool blind = false;

	if (!c || c->mode == MESH_SPLICE_OFF || !is_spliced(bpf_get_current_task_btf(), sk))
		return 0;
	cgroup = find_cgroup(sk, &w);
	if (!w)
		return 0;
	if (is_blind(sk)) {
		told = bpf_sk_storage_get(&spliced, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
		blind = told && !__sync_fetch_and_or(told, 1);
	}
	if (leave_to_tcp(cgroup, w->id) || blind)
		report(sk, w, cgroup, blind);
	return 0;
}
