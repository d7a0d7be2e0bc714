/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What the stream verdict of splice.bpf.c needs to tell what came twice: the pair of its socket,
 * and a way to take bytes off. */
#ifndef BPF_TRIM_H
#define BPF_TRIM_H

#include "bpf/splice.bpf.h"

#define TRIM_STEP 4095 /* what the helper takes off at once */
#define TRIM_MAX  17   /* steps: more than an skb of 64 KiB */

/*
 * The pair of a socket that is told by nothing but itself: a stream verdict has no socket storage.
 * Its initial sequence numbers are those of now less what has gone since; the active side counts
 * its SYN as a byte that was acknowledged.
 */
static __always_inline struct mesh_splice_pair *find_pair(const struct tcp_sock *tp, __u32 *side)
{
	__u32 theirs = tp->rcv_nxt - (__u32)tp->bytes_received;
	__u32 mine = tp->snd_una - (__u32)tp->bytes_acked;
	__u64 id = (__u64)theirs << 32 | mine;
	struct mesh_splice_pair *p = bpf_map_lookup_elem(&splice_pairs, &id);

	*side = MESH_PASSIVE;
	if (p)
		return p;
	id = (__u64)(mine + 1) << 32 | theirs;
	*side = MESH_ACTIVE;
	return bpf_map_lookup_elem(&splice_pairs, &id);
}

/* Takes `n` bytes off the front. */
static __always_inline void trim(struct __sk_buff *skb, __u32 n)
{
	for (int i = 0; i < TRIM_MAX && n; i++) {
		__u32 step = n < TRIM_STEP ? n : TRIM_STEP;

		if (bpf_skb_adjust_room(skb, -(__s32)step, 0, 0))
			return;
		n -= step;
	}
}

#endif
