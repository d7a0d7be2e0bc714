/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Sending events to the supervisor: what sockops and the tracepoint share. A full ring is counted,
 * never waited for. */
#ifndef BPF_EVENTS_H
#define BPF_EVENTS_H

#include "bpf/maps.bpf.h"

static __always_inline struct mesh_event *event_new(__u32 kind)
{
	struct mesh_event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e) {
		count(MESH_C_EVENTS_LOST);
		return NULL;
	}
	__builtin_memset(e, 0, sizeof(*e));
	e->kind = kind;
	e->time_ns = bpf_ktime_get_ns();
	return e;
}

static __always_inline void send_listener(__u32 kind, __u64 cookie, const struct mesh_listener *l)
{
	struct mesh_event *e = event_new(kind);

	if (!e)
		return;
	e->upstream = MESH_NONE;
	e->workload = MESH_NONE;
	e->cookie = cookie;
	e->cgroup = l->cgroup;
	e->netns = l->netns;
	__builtin_memcpy(e->ip, l->ip, sizeof(e->ip));
	e->port = l->port;
	e->v6only = l->v6only;
	/* by default the reader sleeps on when events that woke nobody are ahead of this one */
	bpf_ringbuf_submit(e, BPF_RB_FORCE_WAKEUP);
}

#endif
