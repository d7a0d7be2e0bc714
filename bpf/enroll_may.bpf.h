/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Enrolment 2: whether a connection may skip TCP: what the configuration, the supervisor and the
 * styles of both programs say. */
#ifndef BPF_ENROLL_MAY_H
#define BPF_ENROLL_MAY_H

#include "bpf/enroll_who.bpf.h"

enum enroll_verdict { ENROLL_NOT, ENROLL_HOLD_BACK, ENROLL_UNFIT, ENROLL };

/* Seen to work without blocking, and never otherwise. Ours do not block. */
static __always_inline bool enroll_is_known(__u32 workload, __u32 shift)
{
	__u32 word = splice_style_of(workload) >> shift;

	return workload == MESH_NONE ||
	       (word & MESH_STYLE_NONBLOCK && !(word & MESH_STYLE_BLOCKING));
}

/* What is not known is held back: that a socket does not block while it connects proves nothing,
 * since many libraries have it so for the connect() alone. */
static __always_inline bool enroll_style(const struct sock *sk, const struct enroll_who *who)
{
	if (who->caller != MESH_NONE && splice_style_seen(sk) != MESH_STYLE_NONBLOCK)
		return false;
	return enroll_is_known(who->caller, 0) && enroll_is_known(who->callee, MESH_STYLE_CALLEE);
}

static __always_inline enum enroll_verdict
enroll_steer(const struct mesh_splice_ctl *c, const struct sock *sk, const struct enroll_who *who)
{
	struct mesh_splice_steer *steer;
	struct mesh_upstream *u;
	struct mesh_service *svc;
	__u32 service, hold_back;

	if (c->flags & MESH_SPLICE_ALL)
		return ENROLL;
	if (splice_forbidden(who->caller) || splice_forbidden(who->callee))
		return ENROLL_NOT;
	steer = bpf_map_lookup_elem(&splice_steer, &who->upstream);
	u = bpf_map_lookup_elem(&upstreams, &who->upstream);
	if (!steer || !u)
		return ENROLL_NOT;
	service = u->service;
	hold_back = steer->hold_back;
	svc = bpf_map_lookup_elem(&services, &service);
	if (svc && svc->flags & MESH_SVC_ACCEL_OFF)
		return ENROLL_NOT;
	if (!(c->left_out & MESH_COVER_STYLE) && !enroll_style(sk, who))
		return ENROLL_UNFIT;
	if (svc && svc->flags & MESH_SVC_ACCEL_ON && hold_back > MESH_SPLICE_CONTROL)
		hold_back = MESH_SPLICE_CONTROL;
	return bpf_get_prandom_u32() % 1000 < hold_back ? ENROLL_HOLD_BACK : ENROLL;
}

#endif
