/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Are an upstream's connections too brief to gain by skipping TCP? To enrol both ends costs more
 * than a few messages save. Asked by the kernel at each new connection and told at the end of those
 * that are measured, so that a service to which callers connect anew for each request pays for
 * some dozens of connections, and not until the supervisor has looked. Pure.
 *
 * Rule: the sum of (few - messages) over connections, between 0 and a bound, says that they are
 * brief when it reaches the bound, and that they are not at 0. So it is the mean that counts: one
 * connection with many messages outweighs many with two. Held back are most, not all: those that
 * are measured on bring it back. And it holds only for as long as such connections come: what a
 * burst of them has said an hour ago says nothing of a pool that is opened now, of which those held
 * back would stay with TCP for as long as they live.
 */
#ifndef MESH_BRIEF_H
#define MESH_BRIEF_H

#include <mesh/abi.h>

#define MESH_BRIEF_FEW	     6		  /* messages a connection, on average: less is brief */
#define MESH_BRIEF_TOP	     256	  /* about 64 connections with a request and its answer */
#define MESH_BRIEF_HOLD_BACK 940	  /* of 1000 new connections, while they are brief */
#define MESH_BRIEF_LARGE     (256u << 10) /* bytes by TCP that count as one more message */

#define MESH_BRIEF_STALE_S   10 /* without a connection that was measured */

/* The word: the sum (32 bits), whether they are brief, and the second of the last addition, modulo
 * 2^31, by CLOCK_MONOTONIC. */
#define MESH_BRIEF	     (1ULL << 32)
#define MESH_BRIEF_AT(now_s) ((__u64)(now_s) << 33)

MESH_INLINE int mesh_brief_is_stale(__u64 word, __u64 now_s)
{
	return ((now_s - (word >> 33)) & 0x7fffffff) > MESH_BRIEF_STALE_S;
}

MESH_INLINE int mesh_brief_is(__u64 word, __u64 now_s)
{
	return (word & MESH_BRIEF) != 0 && !mesh_brief_is_stale(word, now_s);
}

/* A connection has carried so many messages. All zero: nothing is known yet. */
MESH_INLINE __u64 mesh_brief_add(__u64 word, __u64 messages, __u64 now_s)
{
	__u64 known = mesh_brief_is_stale(word, now_s) ? 0 : word;
	__u64 sum = (__u32)known + (__u64)MESH_BRIEF_FEW;

	sum = sum > messages ? sum - messages : 0;
	if (sum >= MESH_BRIEF_TOP)
		return MESH_BRIEF_AT(now_s) | MESH_BRIEF | MESH_BRIEF_TOP;
	return sum ? MESH_BRIEF_AT(now_s) | (known & MESH_BRIEF) | sum : 0;
}

/* Messages of a connection by TCP, as far as its segments with data and its bytes say: a large one
 * is many segments one way, so those of the other way count; streams one way have bytes. */
MESH_INLINE __u64 mesh_brief_by_tcp(__u32 sent, __u32 received, __u64 bytes)
{
	return 2ULL * (sent < received ? sent : received) + bytes / MESH_BRIEF_LARGE;
}

/* What hold_back is to be, by this word. */
MESH_INLINE __u32 mesh_brief_hold_back(__u64 word, __u32 hold_back, __u64 now_s)
{
	return mesh_brief_is(word, now_s) && hold_back < MESH_BRIEF_HOLD_BACK ? MESH_BRIEF_HOLD_BACK
									      : hold_back;
}

#endif
