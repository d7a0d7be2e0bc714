/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Waiting for a reader that is reading. A sender that is a little ahead would go to TCP, and with
 * more to send never come back; the reader on another CPU makes room within microseconds. So the
 * program looks on for as long as the reader gets on, as a mutex does for an owner that runs. It
 * gives up when nothing moves: then the reader waits for this very CPU, or does not read at all.
 * Only for programs that would sleep in send(): who does not block has other things to do.
 * Called by splice.bpf.c, under the sender's lock.
 */
#ifndef BPF_PATIENCE_H
#define BPF_PATIENCE_H

#include "bpf/splice.bpf.h"

#define PATIENCE_IDLE_NS 15000	/* without progress; copying 32 KiB takes half of it */
#define PATIENCE_MAX_NS	 300000 /* altogether */
#define PATIENCE_LOOKS	 8192
#define PATIENCE_PAUSE	 64 /* messages by TCP after it was in vain */

struct patience {
	const struct tcp_sock *reader;
	const struct sk_psock *psock;
	__u64 start_ns, progress_ns;
	__u32 write_seq;
	__u32 by_tcp; /* all that TCP has must be read, too */
	__u32 enough; /* bytes that may be left */
	__u32 best;   /* least that was left so far */
	__u32 left;
	__u32 done;
};

static long patience_look(__u32 i, struct patience *w)
{
	const struct sk_psock *psock = w->psock;
	const struct tcp_sock *reader = w->reader;
	__u64 now = bpf_ktime_get_ns();
	__u32 queued = BPF_CORE_READ(psock, msg_tot_len), unread = 0;

	if (w->by_tcp)
		unread = w->write_seq - BPF_CORE_READ(reader, copied_seq);
	w->left = queued > unread ? queued : unread;
	w->done = w->left <= w->enough;
	if (w->left < w->best) {
		w->best = w->left;
		w->progress_ns = now;
	}
	return w->done || now - w->progress_ns > PATIENCE_IDLE_NS ||
	       now - w->start_ns > PATIENCE_MAX_NS;
}

/* True: at most `enough` bytes are left, *left says how many. */
static __always_inline bool patience_wait(const struct tcp_sock *me,
					  const struct mesh_splice_half *peer, bool by_tcp,
					  __u32 enough, __u32 *left)
{
	const struct sock *sk = (void *)peer->sk;
	const struct sk_psock *psock = (void *)((__u64)BPF_CORE_READ(sk, sk_user_data) & ~7ULL);
	__u64 now = bpf_ktime_get_ns();
	struct patience w = {
		.reader = (void *)peer->sk,
		.start_ns = now,
		.progress_ns = now,
		.write_seq = me->write_seq,
		.by_tcp = by_tcp,
		.enough = enough,
		.best = ~0u,
	};

	if (!psock || !bpf_core_field_exists(psock->msg_tot_len) ||
	    splice_style_seen((const struct sock *)me) != MESH_STYLE_BLOCKING)
		return false;
	w.psock = psock;
	bpf_loop(PATIENCE_LOOKS, patience_look, &w, 0);
	*left = w.left;
	return w.done && BPF_CORE_READ(sk, __sk_common.skc_cookie.counter) == peer->cookie;
}

#endif
