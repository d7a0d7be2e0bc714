/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Splice: bytes between two sockets of this host that skip TCP. What bpf/splice.bpf.c,
 * bpf/enroll.bpf.h, the supervisor and the tests share: the control word, the state of a pair, what
 * is counted, and the rule that says when a message may be redirected (pure: plain values in and
 * out). Sockets that are enrolled keep the programs of the moment they entered, so old and new
 * programs work on the same maps: a change of any layout here raises MESH_ABI_VERSION.
 */
#ifndef MESH_SPLICE_H
#define MESH_SPLICE_H

#include <mesh/abi.h>
#include <mesh/brief.h>

#define MESH_MAX_PAIRS 65536 /* connections that may skip TCP at once */

/* Bytes that may wait, redirected and unread, for one reader. A message that finds the queue empty
 * goes whatever its size: the kernel cuts sendmsg() into at most MAX_MSG_FRAGS pages of 32 KiB. */
#define MESH_SPLICE_LIMIT (512u << 10)

enum mesh_splice_mode {
	MESH_SPLICE_OFF,      /* nothing enters; what is enrolled goes by TCP */
	MESH_SPLICE_REDIRECT, /* sk_msg alone */
	MESH_SPLICE_VERDICT,  /* TCP bytes pass through the same queue, by a stream verdict */
};

/* splice_ctl (steers): one element. Programs read it at every message: a change of mode, of
 * left_out and of limit holds from the next message on, but for the verdict program, which a socket
 * has or has not from the moment it is enrolled. All zero: off. */
enum mesh_splice_flags {
	MESH_SPLICE_ALL = 1, /* enrol every connection, known or not: trials in a cgroup of their
				own */
};
/* Covers of the hazards of kernel redirect, left out one by one, so that a test can see what each
 * is for. Nobody but trials and tests sets them. */
enum mesh_splice_covers {
	MESH_COVER_LIMIT = 1,  /* nothing bounds what a reader has not read */
	MESH_COVER_ORDER = 2,  /* redirect overtakes bytes that TCP still carries */
	MESH_COVER_PROOF = 4,  /* pairs are told by ports alone, not by their sequence numbers */
	MESH_COVER_WINDOW = 8, /* redirect fills the receive buffer that TCP has promised */
	MESH_COVER_STYLE = 16, /* programs that block in recv() are enrolled too */
	MESH_COVER_TRIM = 32,  /* what TCP sent twice is delivered twice */
};
struct mesh_splice_ctl {
	__u32 mode;	/* enum mesh_splice_mode */
	__u32 flags;	/* enum mesh_splice_flags */
	__u32 left_out; /* enum mesh_splice_covers */
	__u32 limit;	/* bytes; 0: MESH_SPLICE_LIMIT */
	__u64 cgroup;	/* of our own workers: theirs are sockets that may be enrolled; 0: none */
	__u32 uid;	/* of our own workers */
	__u32 pad;
	__u64 reserved[4];
};
_Static_assert(sizeof(struct mesh_splice_ctl) == 64, "abi");

/* splice_steer (steers): by upstream: who of its new connections is enrolled. Written by system
 * call. All zero: everybody. Who is brief (mesh/brief.h) is held back besides, by the kernel's own
 * word: enrolled is who neither holds back. A service's MESH_SVC_ACCEL_OFF comes before both, and
 * MESH_SVC_ACCEL_ON leaves them no more than the control group. */
struct mesh_splice_steer {
	__u16 hold_back; /* of 1000 new connections, so many are not enrolled; 1000: none is */
	__u16 pad;
	__u32 reserved;
};
_Static_assert(sizeof(struct mesh_splice_steer) == 8, "abi");
#define MESH_SPLICE_CONTROL 10 /* hold_back of a service that gains: the control group */
#define MESH_SPLICE_MEASURED                                                                       \
	60 /* of 1000: held-back ones looked at are no more than this, or than the enrolled */

/* splice_tasks (steers): by workload id: what is not to be accelerated from now on, whichever side
 * of a connection it is: no new connections, and no redirect on those that are enrolled. */
enum mesh_splice_task { MESH_SPLICE_TASK_OFF = 1 };

/*
 * splice_style (counts): by workload id, what its sockets were seen to be, as a caller and as a
 * callee. On an enrolled socket a recv() that blocks gives EAGAIN when it is woken for another
 * reason, such as room to send after a send() that had to wait. So programs that block stay with
 * TCP, and so do those that are not known yet: many set O_NONBLOCK for the connect() alone. What
 * they are is seen when the first bytes of a connection that is held back are acknowledged, and at
 * the first message of an enrolled one.
 */
enum mesh_splice_style {
	MESH_STYLE_NONBLOCK = 1, /* as a caller; shifted by MESH_STYLE_CALLEE as a callee */
	MESH_STYLE_BLOCKING = 2,
};
#define MESH_STYLE_CALLEE 2

/* accel (counts): by upstream, by system call. What became of its connections. Two groups can be
 * compared, since a draw has parted them: held back and enrolled. A connection of which both hops
 * are enrolled counts with each hop. What open connections did is added now and then (every
 * MESH_SPLICE_TELL messages of a side) and at their end; nothing is known of a held-back one before
 * its end. */
struct mesh_accel_group {
	__u64 opened, closed; /* connections; closed: of those that are looked at */
	__u64 duration_ns;    /* of those closed */
	__u64 messages; /* sendmsg() calls, large ones in pieces; held back: segments with data */
	__u64 turns; /* messages that were the first after some of the other side; enrolled only */
	__u64 redirected, tcp; /* bytes */
	__u64 closed_bytes;    /* of those closed, whichever way they went */
};
enum mesh_accel_which {
	MESH_ACCEL_CONTROL, /* held back by the draw, of which some are looked at */
	MESH_ACCEL_ENROLLED,
	MESH_ACCEL_UNFIT, /* held back: a program at one end blocks, or is not known and looked at
			   */
	MESH_ACCEL_GROUPS,
};
/* The two hops of a connection through a worker live for different times. */
enum mesh_splice_hop { MESH_TO_WORKER, MESH_TO_ENDPOINT, MESH_HOPS };
struct mesh_accel {
	struct mesh_accel_group group[MESH_ACCEL_GROUPS];
	__u64 brief[MESH_HOPS]; /* mesh/brief.h */
	__u64 reserved[6];
};
_Static_assert(sizeof(struct mesh_accel) == 256, "abi");
#define MESH_SPLICE_TELL 1024

MESH_INLINE void mesh_accel_add(struct mesh_accel_group *sum, const struct mesh_accel_group *g)
{
	sum->opened += g->opened;
	sum->closed += g->closed;
	sum->duration_ns += g->duration_ns;
	sum->messages += g->messages;
	sum->turns += g->turns;
	sum->redirected += g->redirected;
	sum->tcp += g->tcp;
	sum->closed_bytes += g->closed_bytes;
}

/* splice_pairs: two sockets that are one connection, by their initial sequence numbers: 64 bits
 * that no other connection of the host has, through NAT and between namespaces with the same
 * addresses. The active side makes the entry when it is established; the passive side finds it, or
 * is none of ours. Whoever closes last removes it: the memory of an entry may be another pair's at
 * once, while a program of the other side is still at work on it. Each half has one writer: the
 * socket's own programs, under its lock. */
enum mesh_splice_side { MESH_ACTIVE = 0, MESH_PASSIVE = 1 };
enum mesh_splice_path { MESH_BY_TCP = 0, MESH_REDIRECTED = 1 };
struct mesh_splice_half {
	__u64 cookie;	/* the key in splice_socks; 0: not there yet */
	__u64 sk;	/* address of its struct sock: believed only while it has that cookie */
	__u32 path;	/* enum mesh_splice_path: how its last message went */
	__u32 queued;	/* redirected by it since the reader's queue was last looked at, and what it
			   held then; by TCP: messages until it waits again */
	__u32 run;	/* messages since the other side's last */
	__u32 workload; /* MESH_NONE: ours, or not known */
	__u64 messages, turns, redirected, tcp; /* not yet added to accel */
};
_Static_assert(sizeof(struct mesh_splice_half) == 64, "abi");
struct mesh_splice_pair {
	struct mesh_splice_half half[2]; /* enum mesh_splice_side */
	__u64 start_ns;
	__u32 upstream;
	__u32 last;    /* the side that sent last */
	__u32 watch;   /* not enrolled, but to be looked at: MESH_PASSIVE takes it out */
	__u32 next[2]; /* by reader: behind the last byte by TCP that its verdict has seen */
	__u32 seen;    /* sides (1 << side) whose style was looked at */
	__u64 told[2]; /* bytes of each side that were added to accel */
	__u32 left;    /* sides (1 << side) that are closed */
	__u32 pad;
	__u64 reserved;
};
_Static_assert(sizeof(struct mesh_splice_pair) == 192, "abi");

/* splice_ends: what a socket keeps of its pair, in its storage. A connection that is held back has
 * none, unless it is looked at once more, at its end. */
struct mesh_splice_end {
	__u64 id; /* key in splice_pairs */
	__u64 start_ns;
	__u32 side;
	__u32 upstream;
	__u32 workload; /* whose style is to be seen, MESH_NONE: nobody's */
	__u16 group;	/* enum mesh_accel_which */
	__u16 hop;	/* enum mesh_splice_hop */
};
_Static_assert(sizeof(struct mesh_splice_end) == 32, "abi");

/* What the rule looks at: of the sender its own, of the reader what can be read without its lock,
 * in this order. Sequence numbers as in RFC 9293. */
struct mesh_splice_view {
	__u32 write_seq;  /* sender: behind the last byte given to TCP */
	__u32 snd_una;	  /* sender: behind the last byte acknowledged */
	__u32 rcv_nxt;	  /* reader: behind the last byte that came by TCP */
	__u32 copied_seq; /* reader: behind the last byte by TCP that was read */
	__u32 queued;  /* bytes in the reader's queue; far more than the limit when there are some
			  and the kernel does not say how many */
	__u32 charged; /* bytes that the reader's socket is charged for, TCP's included */
	__u32 rcvbuf;  /* what it may be charged for */
	__u32 fixed;   /* the program has set rcvbuf: TCP cannot raise it */
};

/* True: all that the sender gave to TCP has been read, so a redirected message overtakes nothing.
 * That both ends of four numbers meet also says that these two sockets are one connection. */
MESH_INLINE int mesh_splice_in_order(const struct mesh_splice_view *v)
{
	return v->write_seq == v->snd_una && v->snd_una == v->rcv_nxt &&
	       v->rcv_nxt == v->copied_seq;
}

/* True: `size` more bytes may wait for the reader. A fixed receive buffer is shared with what TCP
 * has promised to take: beyond half of it, TCP would drop segments and come back to them only by
 * timeout. */
MESH_INLINE int mesh_splice_has_room(const struct mesh_splice_view *v, __u32 size, __u32 limit,
				     __u32 left_out)
{
	if (v->fixed && !(left_out & MESH_COVER_WINDOW) && v->charged + size > v->rcvbuf / 2)
		return 0;
	return left_out & MESH_COVER_LIMIT || !v->queued || v->queued + size <= limit;
}

#endif
