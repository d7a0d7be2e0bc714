/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Sequence counters for the records that the supervisor alone writes and everybody reads from
 * shared memory. User space only (the kernel programs read such records field by field and tolerate
 * a mix). A reader copies the record between mesh_seq_begin and mesh_seq_retry, and calls
 * mesh_seq_pause before it tries again. A writer is done in no time unless it was kept from the CPU
 * half way, and then as likely as not by the reader, which had been woken: so that lets it go on.
 * It never waits for a writer that died: after MESH_SEQ_TRIES it takes the record as absent.
 */
#ifndef MESH_SEQ_H
#define MESH_SEQ_H

#include <linux/types.h>
#include <sched.h>
#include <stdbool.h>

#define MESH_SEQ_SPINS 32
#define MESH_SEQ_TRIES 64

static inline void mesh_seq_write_begin(__u32 *seq)
{
	__atomic_store_n(seq, *seq | 1, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_RELEASE);
}

static inline void mesh_seq_write_end(__u32 *seq)
{
	__atomic_store_n(seq, (*seq | 1) + 1, __ATOMIC_RELEASE);
}

/* Returns the number to hand to mesh_seq_retry; an odd one always means retry. */
static inline __u32 mesh_seq_begin(const __u32 *seq)
{
	return __atomic_load_n(seq, __ATOMIC_ACQUIRE);
}

static inline bool mesh_seq_retry(const __u32 *seq, __u32 begun)
{
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	return (begun & 1) || __atomic_load_n(seq, __ATOMIC_RELAXED) != begun;
}

/* After the try of that number, from 0. */
static inline void mesh_seq_pause(int try)
{
	if (try >= MESH_SEQ_SPINS)
		sched_yield();
}

#endif
