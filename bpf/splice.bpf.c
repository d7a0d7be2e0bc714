/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The programs on enrolled sockets. Each sendmsg() runs mesh_splice_msg under the sender's lock:
 * the bytes go into the queue of the socket at the other end, or by TCP as ever. TCP is always
 * right; redirect only when it overtakes nothing (mesh_splice_in_order) and what its reader has not
 * read stays bounded (mesh_splice_has_room).
 *
 * From redirect to TCP is safe at any time: a reader gets what was redirected first. Hence every
 * doubt ends in TCP, and switching off is a word in a map.
 */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include "bpf/patience.bpf.h"
#include "bpf/splice.bpf.h"
#include "bpf/trim.bpf.h"

/* Messages in a row, without an answer, after which small ones are better merged by TCP. */
#define SPLICE_RUN   16
#define SPLICE_SMALL 8192

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Where the kernel does not count them: there are some, and more than may wait. */
#define SPLICE_MANY (1u << 30)

/* Bytes in the queue of redirected ones. */
static __always_inline __u32 queue_of(const struct sock *sk)
{
	__u64 user_data = (__u64)BPF_CORE_READ(sk, sk_user_data);
	struct sk_psock *psock = (void *)(user_data & ~7ULL); /* low bits are flags */

	if (!psock)
		return 0;
	if (bpf_core_field_exists(psock->msg_tot_len))
		return BPF_CORE_READ(psock, msg_tot_len);
	return (__u64)BPF_CORE_READ(psock, ingress_msg.next) ==
			       (__u64)psock + bpf_core_field_offset(struct sk_psock, ingress_msg)
		       ? 0
		       : SPLICE_MANY;
}

/* The program has set the size of its receive buffer, which it may do at any time. */
static __always_inline bool has_fixed_buffer(const struct sock *sk)
{
	return BPF_CORE_READ_BITFIELD_PROBED(sk, sk_userlocks) & SOCK_RCVBUF_LOCK;
}

/* False: the reader is gone, and its memory may be another's. */
static __always_inline bool look(struct mesh_splice_view *v, const struct tcp_sock *me,
				 const struct mesh_splice_half *peer)
{
	const struct tcp_sock *tp = (void *)peer->sk;
	const struct sock *sk = (void *)peer->sk;

	v->write_seq = me->write_seq;
	v->rcv_nxt = BPF_CORE_READ(tp, rcv_nxt);
	v->copied_seq = BPF_CORE_READ(tp, copied_seq);
	v->queued = queue_of(sk);
	v->charged = BPF_CORE_READ(sk, sk_backlog.rmem_alloc.counter);
	v->rcvbuf = BPF_CORE_READ(sk, sk_rcvbuf);
	v->fixed = has_fixed_buffer(sk);
	return BPF_CORE_READ(sk, __sk_common.skc_cookie.counter) == peer->cookie;
}

/* From TCP: all that it has must be read first. */
static __always_inline bool may_return(const struct tcp_sock *tp, const struct mesh_splice_ctl *c,
				       struct mesh_splice_half *me,
				       const struct mesh_splice_half *peer,
				       struct mesh_splice_view *v)
{
	if (c->left_out & MESH_COVER_ORDER)
		return look(v, tp, peer);
	if (tp->write_seq != tp->snd_nxt)
		return false; /* costs nothing to look at */
	if (!look(v, tp, peer))
		return false;
	if (!v->queued && mesh_splice_in_order(v))
		return true;
	if (me->queued) {
		me->queued--;
		return false;
	}
	if (patience_wait(tp, peer, true, 0, &v->queued) && look(v, tp, peer) && !v->queued &&
	    mesh_splice_in_order(v))
		return true;
	me->queued = PATIENCE_PAUSE;
	return false;
}

static __always_inline bool may_redirect(struct bpf_sock *sk, __u32 size,
					 const struct mesh_splice_ctl *c,
					 struct mesh_splice_half *me,
					 const struct mesh_splice_half *peer)
{
	__u32 limit = c->limit ? c->limit : MESH_SPLICE_LIMIT;
	struct mesh_splice_view v;
	struct tcp_sock *tp;

	if (me->path == MESH_REDIRECTED && me->queued + size <= limit &&
	    (c->left_out & MESH_COVER_WINDOW || !has_fixed_buffer((void *)peer->sk)))
		return true;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return false;
	if (me->path == MESH_BY_TCP ? !may_return(tp, c, me, peer, &v) : !look(&v, tp, peer))
		return false;
	if (!mesh_splice_has_room(&v, size, limit, c->left_out) &&
	    (v.fixed || !patience_wait(tp, peer, false, limit / 4, &v.queued) ||
	     !mesh_splice_has_room(&v, size, limit, c->left_out))) {
		me->queued = PATIENCE_PAUSE;
		return false;
	}
	me->queued = v.queued;
	return true;
}

/* Once a side, when its program has made its socket what it is to be. */
static __always_inline void see_style(struct bpf_sock *sk, struct mesh_splice_pair *p,
				      const struct mesh_splice_half *me, __u32 side)
{
	const struct sock *own = (const struct sock *)bpf_skc_to_tcp_sock(sk);

	p->seen |= 1 << side;
	if (own && me->workload != MESH_NONE)
		splice_style_note(me->workload, side, splice_style_seen(own));
}

/* Bookkeeping of one message. `last` is the only word that both sides write: once a turn. */
static __always_inline void note(struct mesh_splice_pair *p, struct mesh_splice_half *me,
				 __u32 side)
{
	if (p->last != side) {
		p->last = side;
		me->turns++;
		me->run = 0;
	}
	me->run++;
	me->messages++;
	if (me->messages >= MESH_SPLICE_TELL) {
		struct mesh_accel_group *g = splice_group(p->upstream, MESH_ACCEL_ENROLLED);

		splice_brief_note(
			splice_brief(p->upstream, splice_hop(p->half[MESH_PASSIVE].workload)),
			me->messages);
		if (g)
			splice_tell(g, me, &p->told[side & 1]);
	}
}

static __always_inline bool wants_redirect(const struct mesh_splice_ctl *c,
					   const struct mesh_splice_half *me,
					   const struct mesh_splice_half *peer, __u32 size)
{
	if (c->mode == MESH_SPLICE_OFF || !peer->cookie)
		return false;
	if (me->run > SPLICE_RUN && size < SPLICE_SMALL)
		return false;
	/* A reader that has never answered by TCP acknowledges whenever it has read all, and then
	 * small messages are not merged, as Nagle's algorithm has nothing to wait for. */
	if (me->run == 1 && peer->run > SPLICE_RUN && peer->path == MESH_BY_TCP)
		return false;
	return !splice_forbidden(me->workload) && !splice_forbidden(peer->workload);
}

SEC("sk_msg")
int mesh_splice_msg(struct sk_msg_md *msg)
{
	struct mesh_splice_half *me, *peer;
	struct mesh_splice_ctl *c = splice_control();
	struct mesh_splice_end *end;
	struct mesh_splice_pair *p;
	struct bpf_sock *sk = msg->sk;
	__u32 size = msg->size, side;
	__u64 to;

	if (!c || !sk)
		return SK_PASS;
	end = bpf_sk_storage_get(&splice_ends, sk, 0, 0);
	if (!end)
		return SK_PASS;
	side = end->side & 1;
	p = bpf_map_lookup_elem(&splice_pairs, &end->id);
	if (!p)
		return SK_PASS;
	me = &p->half[side];
	peer = &p->half[!side];
	note(p, me, side);
	if (!(p->seen & 1 << side))
		see_style(sk, p, me, side);
	to = peer->cookie;
	if (wants_redirect(c, me, peer, size) && may_redirect(sk, size, c, me, peer) &&
	    bpf_msg_redirect_hash(msg, &splice_socks, &to, BPF_F_INGRESS) == SK_PASS) {
		me->path = MESH_REDIRECTED;
		me->queued += size;
		me->redirected += size;
	} else {
		if (me->queued > PATIENCE_PAUSE)
			me->queued = PATIENCE_PAUSE; /* bytes no more, but messages */
		me->path = MESH_BY_TCP;
		me->tcp += size;
	}
	return SK_PASS;
}

/*
 * On the reader's side: TCP bytes take their place in the one queue, behind what was redirected
 * before. Also what makes FIONREAD right on kernels that count that queue alone.
 *
 * A segment that was sent again, merged with a new one, has a beginning that came before. recv()
 * passes over that by the sequence numbers; the kernel's way to this program does not, and would
 * deliver it twice.
 */
SEC("sk_skb/stream_verdict")
int mesh_splice_verdict(struct __sk_buff *skb)
{
	struct mesh_splice_ctl *c = splice_control();
	struct bpf_sock *sk = skb->sk;
	struct mesh_splice_pair *p;
	struct tcp_skb_cb *cb;
	struct tcp_sock *tp;
	struct sk_buff *k;
	__u32 side, old;

	if (!sk || !c || c->left_out & MESH_COVER_TRIM)
		return SK_PASS;
	tp = bpf_skc_to_tcp_sock(sk);
	p = tp ? find_pair(tp, &side) : NULL;
	if (!p)
		return SK_PASS;
	k = (struct sk_buff *)skb; /* what the kernel passes, whatever the verifier makes of it */
	cb = (struct tcp_skb_cb *)((void *)k + bpf_core_field_offset(struct sk_buff, cb));
	old = p->next[side & 1] - BPF_CORE_READ(cb, seq);
	p->next[side & 1] = BPF_CORE_READ(cb, end_seq);
	if ((__s32)old > 0)
		trim(skb, old);
	return SK_PASS;
}
