/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Enrolment 2: whether a connection may skip TCP: what the configuration, the supervisor and the
 * styles of both programs say. */
#ifndef BPF_ENROLL_MAY_H
#define BPF_ENROLL_MAY_H

#include "bpf/enroll_who.bpf.h"

enum enroll_verdict {
	ENROLL_NOT,	  /* none that could be */
	ENROLL_HELD_BACK, /* counted, and no more is done for it */
	ENROLL_MEASURED,  /* held back, and looked at: the control group */
	ENROLL_BLOCKS,	  /* counted, as above: a program at one end is known to block */
	ENROLL_UNKNOWN,	  /* looked at, to know the programs */
	ENROLL,
};

/* Once is enough: what was seen is not taken back. */
static __always_inline bool enroll_blocks(__u32 workload, __u32 shift)
{
	return workload != MESH_NONE && splice_style_of(workload) >> shift & MESH_STYLE_BLOCKING;
}

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

/* The supervisor's word and the kernel's own: enrolled is who neither holds back. */
static __always_inline __u32 enroll_hold_back(const struct mesh_splice_steer *steer, __u32 flags,
					      const struct enroll_who *who)
{
	const __u64 *brief = splice_brief(who->upstream, splice_hop(who->callee));
	__u32 hold_back = steer->hold_back;

	if (brief && *brief)
		hold_back = mesh_brief_hold_back(*brief, hold_back, splice_seconds());
	if (flags & MESH_SVC_ACCEL_ON && hold_back > MESH_SPLICE_CONTROL)
		hold_back = MESH_SPLICE_CONTROL;
	return hold_back;
}

static __always_inline enum enroll_verdict enroll_draw(__u32 hold_back)
{
	__u32 draw = bpf_get_prandom_u32() % 1000;

	if (draw >= hold_back)
		return ENROLL;
	return draw < MESH_SPLICE_MEASURED || draw < 1000 - hold_back ? ENROLL_MEASURED
								      : ENROLL_HELD_BACK;
}

static __always_inline enum enroll_verdict
enroll_steer(const struct mesh_splice_ctl *c, const struct sock *sk, const struct enroll_who *who)
{
	struct mesh_splice_steer *steer;
	struct mesh_upstream *u;
	struct mesh_service *svc;
	__u32 service, flags;

	if (c->flags & MESH_SPLICE_ALL)
		return ENROLL;
	if (splice_forbidden(who->caller) || splice_forbidden(who->callee))
		return ENROLL_NOT;
	steer = bpf_map_lookup_elem(&splice_steer, &who->upstream);
	u = bpf_map_lookup_elem(&upstreams, &who->upstream);
	if (!steer || !u)
		return ENROLL_NOT;
	service = u->service;
	svc = bpf_map_lookup_elem(&services, &service);
	flags = svc ? svc->flags : 0;
	if (flags & MESH_SVC_ACCEL_OFF)
		return ENROLL_NOT;
	if (!(c->left_out & MESH_COVER_STYLE) && !enroll_style(sk, who))
		return enroll_blocks(who->caller, 0) ||
				       enroll_blocks(who->callee, MESH_STYLE_CALLEE)
			       ? ENROLL_BLOCKS
			       : ENROLL_UNKNOWN;
	return enroll_draw(enroll_hold_back(steer, flags, who));
}

#endif
